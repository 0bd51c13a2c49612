"""Bulk transfers: many concurrent copies between files and stores, which can be interrupted and run again.

An end of a copy is a `LocalFile` or a `StoredObject`. `Transfer` runs many `Job`s, a bounded number at
a time; `files_below` and `objects_below` list the members of a tree.
"""

from trove_async.transfers.copying import copy, remove
from trove_async.transfers.ends import Description, End, LocalFile, StoredObject, describe, is_directory_marker
from trove_async.transfers.parallel import for_each
from trove_async.transfers.transfer import Job, Outcome, Result, Tally, Transfer
from trove_async.transfers.trees import Found, files_below, objects_below
from trove_async.transfers.unchanged import is_unchanged

__all__ = [
    "Description",
    "End",
    "Found",
    "Job",
    "LocalFile",
    "Outcome",
    "Result",
    "StoredObject",
    "Tally",
    "Transfer",
    "copy",
    "describe",
    "files_below",
    "for_each",
    "is_directory_marker",
    "is_unchanged",
    "objects_below",
    "remove",
]
