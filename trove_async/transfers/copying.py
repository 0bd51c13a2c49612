"""One copy between a file and an object, or between two objects."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path

import anyio.to_thread

from trove_async.body import Progress
from trove_async.driver import Condition, CopyEnd, CopyOptions, ObjectAttributes, TaggingDriver
from trove_async.driver.copy_errors import raise_failure
from trove_async.driver.copying import copied_attributes
from trove_async.errors import (
    BodySizeError,
    BodySourceError,
    ContentTooLargeError,
    CopyPhase,
    InvalidArgumentError,
    ObjectChangedError,
    ObjectNotFoundError,
    TroveError,
)
from trove_async.store import Trove
from trove_async.store.arguments import check_progress
from trove_async.store.copies import copy_between
from trove_async.store.download import FileSteps, Hop
from trove_async.transfers.attributes import attributes_of, restore_attributes
from trove_async.transfers.ends import (
    MTIME,
    Description,
    End,
    LocalFile,
    StoredObject,
    describe,
    description_of,
    mtime_text,
)
from trove_async.transfers.looking import Look, look_at
from trove_async.types import EMPTY, FrozenDict, ObjectInfo

__all__ = ["check_target", "copy", "remove"]


async def copy(
    source: End,
    target: End,
    *,
    described: Description | None = None,
    record: bool = True,
    checksum: str | None = None,
    preserve: bool = False,
    on_progress: Progress | None = None,
    look: Look | None = None,
    hop: Hop | None = None,
) -> None:
    """Copy an object or file, atomically: the target is always the old one or the new one, complete.

    Objects keep their content type, metadata, content headers and tags. The modification time of a file is stored in
    the object's metadata as ``mtime``, and is restored when the object is copied to a file.

    Args:
        source, target: at least one of them is an object. Missing directories for a file are created.
        described: the known description of the source. No other state is copied, unless the backend makes the copy
            without conditions.
        record: for copies between objects: store the source's time with the target, if it has no ``mtime``.
        checksum: an algorithm: a new object gets a checksum of its bytes.
        preserve: store a file's mode and owner with its object, and restore them with the file; see `attributes`.
        on_progress: called with the bytes copied so far and the size; not if the backend makes the copy. What it
            raises passes unchanged.
        look: what was seen of a file that is the source; None to look now.
        hop: runs operations on files in a thread; None for a thread of their own.

    Raises:
        NotFoundError, FileNotFoundError: the source or the target's bucket does not exist.
        PreconditionFailedError: the source no longer matches ``described``.
        CopyError: a failure of a store that no other class describes; see `copy_object`.
        TroveError: reading or writing failed; ``copy_phase`` says which, and the message names the end.
        OSError: a file cannot be read or written; it has no ``copy_phase``, and names the file.
    """
    check_progress(on_progress)
    if isinstance(source, LocalFile):
        if isinstance(target, LocalFile):
            raise InvalidArgumentError("both ends are local files; at least one must be an object")
        await _upload(source, target, look, checksum, preserve, on_progress)
    elif isinstance(target, LocalFile):
        await _download(source, target, described, preserve, on_progress, hop)
    else:
        await _copy_object(source, target, described, record, checksum, on_progress)


async def remove(end: End, described: Description) -> None:
    """Remove the source of a move, unless it has changed since it was described.

    Raises:
        ObjectChangedError, PreconditionFailedError: it has changed; both ends exist.
    """
    if isinstance(end, LocalFile):
        if await describe(end) != described:
            raise ObjectChangedError(f"the file {end.path!r} changed while it was moved; it was copied but not removed")
        await anyio.to_thread.run_sync(os.unlink, end.path)
    else:
        assert described.info is not None
        await end.store._delete_copied("delete", end.bucket, end.key, described.info)


def _etag_for(store: Trove, condition: Condition, described: Description | None) -> str | None:
    """Return the ETag for a condition on the source, if the store supports it."""
    if described is None or described.info is None or not store.supports(condition):
        return None
    return described.info.etag


async def _upload(
    source: LocalFile,
    target: StoredObject,
    look: Look | None,
    checksum: str | None,
    preserve: bool,
    on_progress: Progress | None,
) -> None:
    if look is None:
        look = await anyio.to_thread.run_sync(partial(look_at, source.path, read=True))
    here, content = look
    if here is None or here.mtime is None:
        raise FileNotFoundError(f"{source.path!r} does not exist")
    metadata = {MTIME: mtime_text(here.mtime)}
    if preserve:
        metadata |= await anyio.to_thread.run_sync(attributes_of, source.path)
    with _failing_at(target, CopyPhase.WRITE):
        await target.store.put(
            target.bucket,
            target.key,
            Path(source.path) if content is None else content,
            metadata=metadata,
            checksum=checksum,
            on_progress=on_progress,
        )


async def _download(
    source: StoredObject,
    target: LocalFile,
    described: Description | None,
    preserve: bool,
    on_progress: Progress | None,
    hop: Hop | None,
) -> None:
    store, steps = source.store, _Steps(target, preserve)
    pinned = _etag_for(store, "get", described)
    with _failing_at(source, CopyPhase.READ):
        await store._download(
            source.bucket, source.key, target.path, steps, if_match=pinned, on_progress=on_progress, hop=hop
        )


class _Steps(FileSteps):
    """Makes the directories for a file, and gives it the time and attributes that its object has."""

    def __init__(self, target: LocalFile, preserve: bool) -> None:
        self._target = target
        self._preserve = preserve

    def before(self) -> None:
        _make_parents(self._target)

    def complete(self, draft: str, info: ObjectInfo) -> None:
        if self._preserve:
            restore_attributes(draft, info.metadata)
        mtime = description_of(info).mtime
        if mtime is not None:
            os.utime(draft, ns=(mtime, mtime))


async def check_target(target: End) -> None:
    """Refuse what `copy` refuses before it reads the source.

    Raises:
        NotADirectoryError: the target is a member of a tree, and the way to it leads through a symbolic link.
    """
    if isinstance(target, LocalFile) and target.tree:
        await anyio.to_thread.run_sync(_require_no_links, target)


def _make_parents(target: LocalFile) -> None:
    if not (target.tree and _require_no_links(target)):
        os.makedirs(os.path.dirname(target.path) or ".", exist_ok=True)


def _require_no_links(target: LocalFile) -> bool:
    """Refuse a member of a tree if the way to it leads through a symbolic link; return whether its directory exists."""
    mode = 0
    for directory in _way(target.tree, os.path.dirname(target.path) or "."):
        try:
            mode = os.lstat(directory).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return False
        if stat.S_ISLNK(mode):
            message = "it is a symbolic link, and trees are not written through links; remove it, or name its target"
            raise NotADirectoryError(errno.ENOTDIR, message, directory)
    return stat.S_ISDIR(mode)


@lru_cache(1024)
def _way(tree: str, directory: str) -> tuple[str, ...]:
    """Return the directories on the way from the directory of a tree to one below it."""
    return tuple(accumulate(os.path.relpath(directory, tree).split(os.sep), os.path.join, initial=tree))[1:]


async def _copy_object(
    source: StoredObject,
    target: StoredObject,
    described: Description | None,
    record: bool,
    checksum: str | None,
    on_progress: Progress | None,
) -> None:
    if record and described is None:
        with _failing_at(source, CopyPhase.READ):
            described = await describe(source)
            if described is None:
                raise ObjectNotFoundError
    options = CopyOptions()
    if described is not None and described.info is not None:
        replaced = None
        if record and not described.recorded and described.mtime is not None:
            replaced = await _recorded(source, target, described.info, described.mtime)
        # What is read and written needs no condition of the store: the ETags are compared.
        within = source.store is target.store
        pinned = _etag_for(source.store, "copy", described) if within else described.info.etag
        options = CopyOptions(replace=replaced, source_if_match=pinned)
    await copy_between(
        source.store,
        source.bucket,
        source.key,
        target.store,
        target.bucket,
        target.key,
        options,
        checksum=checksum,
        on_progress=on_progress,
    )


async def _recorded(source: StoredObject, target: StoredObject, info: ObjectInfo, mtime: int) -> ObjectAttributes:
    """Return the attributes of a copy that records the time of its source."""
    tags: Mapping[str, str] = EMPTY
    if source.store.supports(TaggingDriver):
        with _failing_at(source, CopyPhase.READ):
            tags = await source.store.get_tags(source.bucket, source.key)
    attributes = copied_attributes(source.store.driver, target.store.driver, info, tags)
    return replace(attributes, metadata=FrozenDict({**info.metadata, MTIME: mtime_text(mtime)}))


@contextmanager
def _failing_at(end: StoredObject, phase: CopyPhase) -> Iterator[None]:
    """Give the errors of a store their phase; the `OSError` of a file passes unchanged."""
    try:
        yield
    except TroveError as error:
        from_file = isinstance(error, BodySizeError | BodySourceError) and not isinstance(error, ContentTooLargeError)
        at = CopyEnd(end.store.driver, end.bucket, end.key)
        raise_failure(error, CopyPhase.READ if from_file else phase, at)
