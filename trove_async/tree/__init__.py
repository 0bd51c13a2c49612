"""A keyed tree over a file system's basic operations: what the file system drivers share."""

from trove_async.tree.bodies import write_at_once, write_body
from trove_async.tree.buckets import Buckets
from trove_async.tree.clock import WriteClock
from trove_async.tree.filesystem import Checkpoint, DirEntry, FileSystem, Stat, Temporary, run_sync
from trove_async.tree.layout import Layout
from trove_async.tree.objects import Objects, OpenObject
from trove_async.tree.roots import possible_roots, split_path
from trove_async.tree.tree import Tree
from trove_async.tree.versioned import VersionedObjects

__all__ = [
    "Buckets",
    "Checkpoint",
    "DirEntry",
    "FileSystem",
    "Layout",
    "Objects",
    "OpenObject",
    "Stat",
    "Temporary",
    "Tree",
    "VersionedObjects",
    "WriteClock",
    "possible_roots",
    "run_sync",
    "split_path",
    "write_at_once",
    "write_body",
]
