"""The two ends of a copy: a local file, or an object of a store."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import aiofiles
import anyio.to_thread

from trove_async.checksums import update
from trove_async.errors import ObjectNotFoundError
from trove_async.paths import local_path
from trove_async.store import Trove
from trove_async.types import ObjectInfo

__all__ = [
    "MTIME",
    "Description",
    "End",
    "LocalFile",
    "StoredObject",
    "describe",
    "describe_file",
    "description_of",
    "is_directory_marker",
    "mtime_text",
    "sha256_of",
]

MTIME: Final = "mtime"
"""The metadata key for the modification time of the file from which an object was made, as in rclone
(https://rclone.org/s3/#modification-times): seconds since 1970 with nine decimals."""

_MTIME_TEXT = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9}))?\Z", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CHUNK: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A local file.

    Attributes:
        path: of the file.
        tree: the directory of a tree that the file is a member of; empty for a single file. Members are not written
            through symbolic links to directories below it, which would lead out of the tree.
    """

    path: str
    tree: str = ""

    def __post_init__(self) -> None:
        local_path(self.path)

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object: its open store, its bucket and its key."""

    store: Trove
    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}"


End = LocalFile | StoredObject
"""The source or the target of a copy."""


@dataclass(frozen=True, slots=True)
class Description:
    """The state of an end, which shows whether it has changed.

    Attributes:
        size: bytes.
        mtime: nanoseconds since 1970: the modification time of a file; for an object the one in its
            metadata, else the time when it was stored.
        recorded: whether ``mtime`` is the time of a file, and not the time when an object was stored.
        info: the description of an object.
    """

    size: int
    mtime: int | None
    recorded: bool
    info: ObjectInfo | None = None


def is_directory_marker(info: ObjectInfo) -> bool:
    """Return whether an object only marks a directory, as Hadoop and Azure Data Lake Storage store them.

    Such an object is empty and has the metadata ``hdi_isfolder``. AzCopy calls it a directory stub, and also skips it.

    Args:
        info: from a head; listings have no metadata.
    """
    return info.size == 0 and info.metadata.get("hdi_isfolder", "").lower() == "true"


async def describe(end: End) -> Description | None:
    """Describe an end; None if it does not exist.

    Raises:
        OSError: it is a directory or another kind of non-file, or cannot be accessed.
        TroveError: the store's error, for example for a missing bucket.
    """
    if isinstance(end, LocalFile):
        return await anyio.to_thread.run_sync(describe_file, end.path)
    try:
        info = await end.store.head(end.bucket, end.key)
    except ObjectNotFoundError:
        return None
    return description_of(info)


def description_of(info: ObjectInfo) -> Description:
    """Describe an object from its `ObjectInfo`."""
    recorded = _parse_mtime(info.metadata.get(MTIME, ""))
    return Description(info.size, _stored_at(info) if recorded is None else recorded, recorded is not None, info)


def describe_file(path: str) -> Description | None:
    """Describe a file, in a thread; see `describe`."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(f"{path!r} is a directory")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path!r} is not a regular file")
    return Description(status.st_size, status.st_mtime_ns, recorded=True)


def mtime_text(nanoseconds: int) -> str:
    """Format a time for the metadata."""
    seconds, fraction = divmod(abs(nanoseconds), 10**9)
    return f"{'-' if nanoseconds < 0 else ''}{seconds}.{fraction:09}"


def _parse_mtime(text: str) -> int | None:
    found = _MTIME_TEXT.match(text)
    if found is None:
        return None
    value = int(found[2]) * 10**9 + int((found[3] or "").ljust(9, "0"))
    return -value if found[1] else value


def _stored_at(info: ObjectInfo) -> int | None:
    if info.last_modified is None:
        return None
    return (info.last_modified - _EPOCH) // timedelta(microseconds=1) * 1000


async def sha256_of(end: End, description: Description) -> str:
    """Return the SHA-256 of an end's bytes: the stored one of an object, or computed from all bytes."""
    if description.info is not None and (stored := description.info.checksums.get("sha256")) is not None:
        return stored
    hasher = hashlib.sha256()
    if isinstance(end, LocalFile):
        async with aiofiles.open(end.path, "rb") as file:
            while chunk := await file.read(_CHUNK):
                await update(hasher, chunk)
    else:
        async with end.store.get(end.bucket, end.key) as reader:
            async for chunk in reader:
                await update(hasher, chunk)
    return hasher.hexdigest()
