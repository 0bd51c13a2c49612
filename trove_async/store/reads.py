"""The verbs that read objects."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from functools import partial

from trove_async.body import Progress
from trove_async.concurrency import several
from trove_async.driver.capabilities import VersioningDriver
from trove_async.driver.options import GetOptions, HeadOptions
from trove_async.errors import (
    InvalidArgumentError,
    NotFoundError,
    ObjectChangedError,
    PreconditionFailedError,
)
from trove_async.opening import Opening
from trove_async.paths import local_path
from trove_async.ranges import ByteRange, RangeLike, coalesce
from trove_async.reader import ObjectReader
from trove_async.store.arguments import check_progress, get_options, head_options
from trove_async.store.download import FileSteps, Hop, save
from trove_async.store.lifetime import Lifetime
from trove_async.store.ranged import RANGE_SIZE
from trove_async.types import ObjectInfo

__all__ = ["ReadVerbs"]

_GET = GetOptions()
_HEAD = HeadOptions()
_RANGE_REQUESTS = 10


class ReadVerbs(Lifetime):
    """Get, read, head and exists."""

    def _require_read_support(self, operation: str, options: HeadOptions) -> None:
        """Refuse what the store cannot honour; nothing is dropped silently."""
        self._require_for(options.version_id, VersioningDriver, operation)
        for value in (
            options.if_match, options.if_none_match, options.if_modified_since, options.if_unmodified_since
        ):  # fmt: skip
            self._require_condition("get", operation, value)

    def get(
        self,
        bucket: str,
        key: str,
        *,
        range: RangeLike | None = None,
        version_id: str | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        if_modified_since: datetime | None = None,
        if_unmodified_since: datetime | None = None,
    ) -> Opening[ObjectReader]:
        """Open an object: ``async with t.get(…) as reader``, or ``reader = await t.get(…)``.

        Args:
            bucket, key: which object.
            range: ``(offset, length)``; length None reads to the end; offset ``-n`` with length None reads the last n
                bytes. A range that extends past the end is shortened.
            version_id: a version other than the latest.
            if_match: only the object that has this ETag.
            if_none_match: only if the object has another ETag.
            if_modified_since, if_unmodified_since: aware; compared in whole seconds.

        Raises (when awaited or entered):
            ObjectNotFoundError, BucketNotFoundError, VersionNotFoundError: it does not exist.
            RangeNotSatisfiableError: the range starts at or past the end.
            NotModifiedError, PreconditionFailedError: a condition does not hold.
        """

        async def opening() -> ObjectReader:
            self._check("get", bucket, key)
            options = _GET
            if (range, version_id, if_match, if_none_match, if_modified_since, if_unmodified_since) != (None,) * 6:
                with self._locating("get", bucket, key):
                    options = get_options(
                        range=range,
                        version_id=version_id,
                        if_match=if_match,
                        if_none_match=if_none_match,
                        if_modified_since=if_modified_since,
                        if_unmodified_since=if_unmodified_since,
                    )
            return await self._open_reader("get", bucket, key, options)

        return Opening(opening)

    async def _open_reader(self, operation: str, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        if options is not _GET:
            self._require_read_support(operation, options)
            if options.range is not None and options.range.empty:
                # Nothing is read, so that only existence and conditions are asked about.
                head = HeadOptions(
                    version_id=options.version_id,
                    if_match=options.if_match,
                    if_none_match=options.if_none_match,
                    if_modified_since=options.if_modified_since,
                    if_unmodified_since=options.if_unmodified_since,
                )
                info = await self._run(operation, bucket, key, self._driver.head(bucket, key, head))
                start, stop = options.range.resolve(info.size)
                return ObjectReader(info, b"", start=start, stop=stop)
        reader = await self._run(operation, bucket, key, self._driver.get(bucket, key, options))
        return self._adopt(reader, operation, bucket, key, options.version_id)

    async def read(
        self,
        bucket: str,
        key: str,
        range: RangeLike | None = None,
        *,
        version_id: str | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> bytes:
        """Return an object's bytes, or those of a range; a range of length 0 is ``b""`` without a request.

        Arguments and errors are those of `get`.
        """
        self._check("read", bucket, key)
        if range is None and (version_id, if_match, if_none_match) == (None, None, None):
            options = _GET
        else:
            with self._locating("read", bucket, key):
                options = get_options(
                    range=range, version_id=version_id, if_match=if_match, if_none_match=if_none_match
                )
            if options.range is not None and options.range.empty:
                return b""
        reader = await self._open_reader("read", bucket, key, options)
        if reader.buffered:
            return await reader.read()
        async with reader:
            return await self._run("read", bucket, key, reader.read())

    async def read_ranges(
        self, bucket: str, key: str, ranges: Sequence[RangeLike], *, coalesce_gap: int = 1024 * 1024
    ) -> list[bytes]:
        """Return the bytes of several ranges of one object, in their order.

        Ranges that lie within ``coalesce_gap`` bytes of each other are fetched together, up to 8 MiB in a request, the
        others in parallel; all are of the same object, also when it is replaced meanwhile.

        Raises:
            RangeNotSatisfiableError: a range starts at or past the end.
            ObjectChangedError: the object was replaced between two fetches.
        """
        self._check("read_ranges", bucket, key)
        with self._locating("read_ranges", bucket, key):
            if coalesce_gap < 0:
                raise InvalidArgumentError("coalesce_gap must be 0 or more")
            wanted = [ByteRange.of(r) for r in ranges]
        results = [b""] * len(wanted)
        fetches = coalesce(wanted, coalesce_gap, RANGE_SIZE)
        if not fetches:
            return results
        (first, places), *others = fetches

        async def take(reader: ObjectReader, places: Sequence[int]) -> None:
            data = await self._run("read_ranges", bucket, key, reader.read())
            for place in places:
                with self._locating("read_ranges", bucket, key):
                    start, stop = wanted[place].resolve(reader.info.size)
                results[place] = data[start - reader.start : stop - reader.start]

        async def fetch(joined: ByteRange, places: Sequence[int], etag: str) -> None:
            options = GetOptions(range=joined, if_match=etag if "get" in self._features.conditions else None)
            try:
                reader = await self._open_reader("read_ranges", bucket, key, options)
            except PreconditionFailedError as error:
                raise ObjectChangedError(operation="read_ranges", bucket=bucket, key=key) from error
            async with reader:
                if reader.info.etag != etag:
                    raise ObjectChangedError(operation="read_ranges", bucket=bucket, key=key)
                await take(reader, places)

        async with await self._open_reader("read_ranges", bucket, key, GetOptions(range=first)) as reader:
            calls = [partial(take, reader, places)]
            calls += [partial(fetch, *other, reader.info.etag) for other in others]
            await several(calls, limit=_RANGE_REQUESTS)
        return results

    async def download(
        self,
        bucket: str,
        key: str,
        path: str | os.PathLike[str],
        *,
        version_id: str | None = None,
        if_match: str | None = None,
        on_progress: Progress | None = None,
    ) -> ObjectInfo:
        """Save an object as a file, atomically: the file appears, or is replaced, when it is complete.

        Links are followed. A file that is replaced keeps its mode, and its owner and group where the process may set
        them. A device, a FIFO, and a descriptor of this process such as ``/dev/stdout`` are written as they stand: what
        was written before a failure stays written. A FIFO that nobody reads is waited for.

        Args:
            bucket, key: which object.
            path: the file; its directory exists.
            version_id, if_match: as for `get`.
            on_progress: called with the number of bytes read so far and the size.

        Raises:
            OSError: the file cannot be written; `IsADirectoryError` for a directory.
            InvalidArgumentError: no file can have this path, or ``on_progress`` is no plain function.
            ObjectNotFoundError, BucketNotFoundError, VersionNotFoundError, PreconditionFailedError: as for `get`;
                an existing file is not touched.
        """
        return await self._download(bucket, key, path, FileSteps(), version_id, if_match, on_progress)

    async def _download(
        self,
        bucket: str,
        key: str,
        path: str | os.PathLike[str],
        steps: FileSteps,
        version_id: str | None = None,
        if_match: str | None = None,
        on_progress: Progress | None = None,
        hop: Hop | None = None,
    ) -> ObjectInfo:
        """Save an object as a file, with more steps; see `download` and `save`."""
        self._check("download", bucket, key)
        with self._locating("download", bucket, key):
            target = local_path(path)
            check_progress(on_progress)
            asks = version_id is not None or if_match is not None
            options = get_options(version_id=version_id, if_match=if_match) if asks else _GET
        async with await self._open_reader("download", bucket, key, options) as reader:
            saving = save(reader, target, self._cleanup_timeout, on_progress, steps, hop)
            await self._run("download", bucket, key, saving)
            return reader.info

    async def head(
        self,
        bucket: str,
        key: str,
        *,
        version_id: str | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        if_modified_since: datetime | None = None,
        if_unmodified_since: datetime | None = None,
    ) -> ObjectInfo:
        """Describe an object; arguments and errors are those of `get`."""
        self._check("head", bucket, key)
        if (version_id, if_match, if_none_match, if_modified_since, if_unmodified_since) == (None,) * 5:
            options = _HEAD
        else:
            with self._locating("head", bucket, key):
                options = head_options(
                    version_id=version_id,
                    if_match=if_match,
                    if_none_match=if_none_match,
                    if_modified_since=if_modified_since,
                    if_unmodified_since=if_unmodified_since,
                )
            self._require_read_support("head", options)
        return await self._run("head", bucket, key, self._driver.head(bucket, key, options))

    async def exists(self, bucket: str, key: str) -> bool:
        """Tell whether an object exists; False where the bucket does not."""
        self._check("exists", bucket, key)
        try:
            await self._run("exists", bucket, key, self._driver.head(bucket, key, _HEAD))
        except NotFoundError:
            return False
        return True
