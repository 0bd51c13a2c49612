"""A keyed tree over a file system's few operations: what the file system drivers share."""

from trove_async.tree.filesystem import DirEntry, FileSystem, Stat, Temporary, run_sync
from trove_async.tree.objects import OpenObject
from trove_async.tree.tree import Tree

__all__ = ["DirEntry", "FileSystem", "OpenObject", "Stat", "Temporary", "Tree", "run_sync"]
