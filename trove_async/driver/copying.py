"""Copies: by the backend where it can, otherwise by reading and writing; the one implementation for all of them.

`copy_object` makes a copy between two ends. It gives every `TroveError` its `CopyPhase`:

- What fails at the source is ``READ``: it is missing, denied, changed meanwhile, broken off or corrupt, also if the
  failure reaches the copy through the put that was taking the bytes.
- Everything else is ``WRITE``: a condition on the destination, its bucket, its rights, a body that it refuses, and a
  failure that may be of either, such as a 5xx in answer to the request that makes a server-side copy.

An error with a class of its own keeps it. A `BackendError`, a bare `TroveError`, and an `OSError` that a driver has not
translated become `CopyError`, with the original as ``__cause__``. What ``on_progress`` raises, cancellations, and every
other exception pass unchanged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, NoReturn, Self, cast

from trove_async.body import Body, Progress
from trove_async.cancellation import CLEANUP_TIMEOUT
from trove_async.checksums import Checksum
from trove_async.driver.base import Driver
from trove_async.driver.capabilities import Condition, ServerCopyDriver, TaggingDriver
from trove_async.driver.conditions import check_read
from trove_async.driver.copy_errors import CopyEnd, phase_on_server, raise_failure
from trove_async.driver.copy_settling import has_tags, settle_copy
from trove_async.driver.options import (
    CONTENT_HEADERS,
    CopyOptions,
    GetOptions,
    HeadOptions,
    ObjectAttributes,
    PutOptions,
)
from trove_async.errors import (
    CopyNotSupportedError,
    CopyPhase,
    ObjectChangedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    TroveError,
    UnsupportedError,
    copy_phase_of,
)
from trove_async.keys import check_content_type, check_header, check_metadata
from trove_async.reader import ObjectReader
from trove_async.types import EMPTY, ObjectInfo

__all__ = ["copied_attributes", "copy_object", "copy_on_server"]

_OPTIONS: Final = CopyOptions()
_HEAD: Final = HeadOptions()


async def copy_object(
    source: CopyEnd,
    target: CopyEnd,
    options: CopyOptions = _OPTIONS,
    *,
    operation: str = "copy",
    checksum: str | None = None,
    on_progress: Progress | None = None,
    on_open: Callable[[ObjectReader], object] | None = None,
    cleanup_timeout: float = CLEANUP_TIMEOUT,
) -> ObjectInfo:
    """Copy an object, as atomically as a put.

    The backend makes the copy if both ends share one (`Driver.shares_backend`). If it cannot (`CopyNotSupportedError`),
    or if they do not, the object is read and written, in the memory of one put. The source is then pinned by its ETag.

    A copy whose answer was lost is settled by a look at the destination, and never made again: it is a success if the
    destination has the description, the size and the checksum of the source, or, without a checksum, the same bytes,
    which are compared up to 64 MiB. Otherwise, and always under a condition on the destination, the error is raised
    with ``ambiguous=True``.

    Args:
        source, target: the ends.
        options: as for `Driver.copy`. A streamed copy needs ``put_if_match`` and ``put_if_none_match`` for the
            conditions on its destination, and none for those on its source; of the attributes it keeps what
            `copied_attributes` says.
        operation: the name of the call, for errors.
        checksum: an algorithm: a streamed copy gets this checksum; by default that of its source, if it has one.
        on_progress: called with the bytes of a streamed copy so far and the size.
        on_open: called with the reader of a streamed copy.
        cleanup_timeout: seconds.

    Raises:
        ObjectNotFoundError, BucketNotFoundError, VersionNotFoundError: it names what is missing.
        PreconditionFailedError, ObjectAlreadyExistsError: a condition does not hold.
        ObjectChangedError: the source was replaced meanwhile.
        UnsupportedError: the destination cannot keep the tags or honour the conditions, or the tags of an old version
            of the source cannot be read.
        CopyError: what no other class describes.
        TroveError: whatever else failed; ``copy_phase`` says at which end.
    """
    if _copies_by_itself(source.driver, target.driver):
        try:
            return await copy_on_server(source, target, options, operation=operation)
        except CopyNotSupportedError as error:
            if error.ambiguous:
                raise  # an earlier attempt of the driver may still be carried out
    stream = _Stream(source, target, options, operation)
    return await stream.run(checksum, on_progress, on_open, cleanup_timeout)


def copied_attributes(source: Driver, target: Driver, info: ObjectInfo, tags: Mapping[str, str]) -> ObjectAttributes:
    """Return the attributes of a copy that keeps those of its source.

    The storage class is kept if both drivers share a backend; elsewhere its name means something else.
    """
    kept = ObjectAttributes.of(info, tags)
    return kept if target.shares_backend(source) else replace(kept, storage_class=None)


def _copies_by_itself(source: Driver, target: Driver) -> bool:
    return target.shares_backend(source) and ServerCopyDriver not in target.features.dropped


async def copy_on_server(
    source: CopyEnd,
    target: CopyEnd,
    options: CopyOptions,
    *,
    operation: str = "copy",
    send: Callable[[], Awaitable[ObjectInfo]] | None = None,
) -> ObjectInfo:
    """Have the backend copy an object; errors are those of `copy_object`.

    Args:
        source, target, options, operation: as for `copy_object`.
        send: makes the copy; default: `Driver.copy` of the destination.

    Raises:
        CopyNotSupportedError: the backend cannot copy it; it can be streamed.
    """
    try:
        if send is not None:
            return await send()
        return await target.driver.copy(*source.place, *target.place, options)
    except CopyNotSupportedError as error:
        error.locate(operation, *target.place, target.driver.name)
        raise
    except (TroveError, OSError) as error:
        made = await settle_copy(error, source, target, options)
        if made is not None:
            return made
        phase = copy_phase_of(error) or phase_on_server(error, source, target, options)
        raise_failure(error, phase, source if phase is CopyPhase.READ else target, operation)


class _SourceFailed(Exception):  # noqa: N818 - it is not raised to a caller
    """Stands for a failure of the source on its way through the driver of the destination.

    The failure itself could be taken for one of the destination there, and be tried again or counted.
    """


class _Chunks:
    """The chunks of a reader, which remember why they ended.

    Attributes:
        failure: of the source.
        foreign: what the user's ``on_progress`` raised.
    """

    def __init__(self, reader: ObjectReader, on_progress: Progress | None) -> None:
        self._reader = reader
        self._on_progress = on_progress
        self.failure: Exception | None = None
        self.foreign: BaseException | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        return await self._read(anext(self._reader))

    async def _read(self, reading: Awaitable[bytes]) -> bytes:
        try:
            return await reading
        except StopAsyncIteration:
            raise
        except Exception as error:
            self.failure = error
            raise _SourceFailed(f"the source of the copy failed: {error}") from error

    def report(self, done: int, size: int | None) -> None:
        """Tell the user about the progress."""
        assert self._on_progress is not None
        try:
            self._on_progress(done, size)
        except BaseException as error:
            self.foreign = error
            raise

    async def body(self, checksum: Checksum | None, cleanup_timeout: float) -> Body:
        """Return the body of the put; what is in memory can be sent again."""
        return Body(
            await self._read(self._reader.read()) if self._reader.buffered else self,
            size=self._reader.size,
            checksum=checksum,
            on_progress=None if self._on_progress is None else self.report,
            cleanup_timeout=cleanup_timeout,
        )


class _Stream:
    """A copy that is read and written."""

    def __init__(self, source: CopyEnd, target: CopyEnd, options: CopyOptions, operation: str) -> None:
        self._source = source
        self._target = target
        self._options = options
        self._operation = operation

    async def run(
        self,
        checksum: str | None,
        on_progress: Progress | None,
        on_open: Callable[[ObjectReader], object] | None,
        cleanup_timeout: float,
    ) -> ObjectInfo:
        """Make the copy."""
        with self._failing(CopyPhase.WRITE):
            self._require_conditions()
        with self._failing(CopyPhase.READ):
            reader, attributes = await self._open()
        if on_open is not None:
            on_open(reader)
        async with reader:
            with self._failing(CopyPhase.WRITE):
                put = self._put_options(attributes, reader.info, checksum)
            return await self._put(reader, put, on_progress, cleanup_timeout)

    @contextmanager
    def _failing(self, phase: CopyPhase) -> Iterator[None]:
        try:
            yield
        except (TroveError, OSError) as error:
            self._fail(error, phase)

    def _fail(self, error: Exception, phase: CopyPhase) -> NoReturn:
        raise_failure(error, phase, self._source if phase is CopyPhase.READ else self._target, self._operation)

    def _require_conditions(self) -> None:
        wanted: dict[Condition, str | None] = {
            "put_if_match": self._options.if_match,
            "put_if_none_match": self._options.if_none_match,
        }
        for condition, value in wanted.items():
            if value is not None and condition not in self._target.driver.features.conditions:
                raise UnsupportedError(
                    f"the copy has to be written by a put, and the store cannot honour the condition {condition!r}"
                )

    async def _open(self) -> tuple[ObjectReader, ObjectAttributes]:
        """Open the source, and return it with the attributes of the copy, all of one state of the source."""
        attributes, if_match = self._options.replace, self._options.source_if_match
        tags: Mapping[str, str] = EMPTY
        seen: ObjectInfo | None = None
        if attributes is None and has_tags(self._source.driver):
            seen = await self._source.driver.head(*self._source.place, self._head())
            check_read(seen, HeadOptions(if_match=if_match))
            tags, if_match = await self._tags(seen), seen.etag
        reader = await self._get(if_match, seen)
        if attributes is None:
            attributes = copied_attributes(self._source.driver, self._target.driver, reader.info, tags)
        return reader, attributes

    def _pins(self) -> bool:
        return "get" in self._source.driver.features.conditions

    def _head(self) -> HeadOptions:
        return HeadOptions(version_id=self._options.source_version_id)

    async def _get(self, if_match: str | None, seen: ObjectInfo | None) -> ObjectReader:
        pinned = if_match if self._pins() else None
        wanted = GetOptions(version_id=self._options.source_version_id, if_match=pinned)
        try:
            reader = await self._source.driver.get(*self._source.place, wanted)
            try:
                check_read(reader.info, HeadOptions(if_match=if_match))
            except BaseException:
                reader.abort()
                raise
        except PreconditionFailedError as error:
            if seen is None:
                raise
            raise ObjectChangedError("the source was replaced while it was copied") from error
        return reader

    async def _tags(self, seen: ObjectInfo) -> Mapping[str, str]:
        """Return the tags of the source, or of its version if that is the latest."""
        driver, place = self._source.driver, self._source.place
        if self._options.source_version_id is not None:
            try:
                latest = await driver.head(*place, _HEAD)
            except ObjectNotFoundError:
                latest = None  # it was deleted
            if latest is None or latest.version_id != seen.version_id:
                raise UnsupportedError(
                    "the tags of an old version cannot be read, and the copy would lose them; pass replace=True"
                )
        return await cast(TaggingDriver, driver).get_tags(*place)

    def _put_options(self, attributes: ObjectAttributes, info: ObjectInfo, checksum: str | None) -> PutOptions:
        """Return the options of the put.

        Raises:
            UnsupportedError, InvalidArgumentError: the destination cannot hold the attributes.
        """
        if attributes.tags and not has_tags(self._target.driver):
            raise UnsupportedError("the source has tags, and the destination's store has none")
        check_content_type(attributes.content_type)
        for _, name in CONTENT_HEADERS:
            if (value := getattr(attributes, name)) is not None:
                check_header(name, value)
        self._target.driver.features.limits.check_metadata(check_metadata(attributes.metadata))
        algorithm = checksum or next(iter(info.checksums), None)
        return PutOptions(
            attributes=attributes,
            if_match=self._options.if_match,
            if_none_match=self._options.if_none_match,
            checksum=None if algorithm is None else Checksum(algorithm, info.checksums.get(algorithm)),
        )

    async def _put(
        self, reader: ObjectReader, options: PutOptions, on_progress: Progress | None, cleanup_timeout: float
    ) -> ObjectInfo:
        chunks = _Chunks(reader, on_progress)
        try:
            body = await chunks.body(options.checksum, cleanup_timeout)
            return await self._target.driver.put(*self._target.place, body, options)
        except Exception as error:
            if chunks.failure is None and (error is chunks.foreign or not isinstance(error, TroveError | OSError)):
                raise
            failure = chunks.failure or error
        if chunks.failure is not None:
            if not isinstance(failure, TroveError | OSError):
                raise failure
            self._fail(failure, CopyPhase.READ)
        wanted = replace(self._options, replace=options.attributes)
        made = await settle_copy(failure, self._source, self._target, wanted)
        if made is None:
            self._fail(failure, CopyPhase.WRITE)
        return made
