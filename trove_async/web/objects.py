"""Requests for objects and their answers, independent of servers and frameworks.

An adapter passes the request's headers (from `join_headers`) and its body, and sends the `Answer`.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol, Self, TypeVar, Unpack

from trove_async.errors import (
    BackendUnavailableError,
    ContentTooLargeError,
    InvalidArgumentError,
    PreconditionFailedError,
    QuotaExceededError,
    RangeNotSatisfiableError,
    TroveError,
    UnavailableError,
    UnsupportedError,
)
from trove_async.keys import check_content_type
from trove_async.ranges import ByteRange, RangeLike
from trove_async.reader import ObjectReader
from trove_async.store import Trove
from trove_async.store.arguments import PutArguments
from trove_async.types import ObjectInfo, ObjectRef
from trove_async.web.http import (
    VERSION_HEADER,
    Disposition,
    Headers,
    check_headers,
    content_disposition,
    content_length,
    described_headers,
    error_body,
    error_status,
    evaluate,
    is_conditional,
    not_modified_headers,
    object_headers,
    parse_range,
    range_applies,
    retry_after,
    write_conditions,
)
from trove_async.web.streaming import CHUNK_SIZE
from trove_async.web.uploading import Gone, receive_body

__all__ = [
    "Answer",
    "ObjectSource",
    "Opener",
    "OpenerSource",
    "Overrides",
    "Source",
    "Stream",
    "delete_object",
    "error_answer",
    "get_object",
    "head_object",
    "log_fault",
    "put_object",
    "read_object",
    "receive_into",
    "receive_object",
]

R = TypeVar("R")

_ATTEMPTS: Final = 3
_log = logging.getLogger("trove_async.web")


class Stream(Protocol):
    """A body in chunks. It holds resources, which it releases when its block is left."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to send.

    Attributes:
        status: the status code.
        headers: in the order in which they are sent, including Content-Length if it applies.
        body: the body. A stream is open: enter its block before awaiting anything else.
    """

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | Stream = b""


@dataclass(frozen=True, slots=True)
class Overrides:
    """Headers that replace the stored ones; None keeps the stored one.

    Attributes:
        content_type, content_disposition: of the object.
        metadata: whether the object's metadata are sent.
        headers: sent with the object, replacing headers with the same name; not sent with errors.
    """

    content_type: str | None = None
    content_disposition: str | None = None
    metadata: bool = True
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(
        cls,
        key: str,
        *,
        content_type: str | None = None,
        disposition: Disposition | None = None,
        filename: str | None = None,
    ) -> Self:
        """Return an application's headers for an object. The metadata are not sent, as they may be internal.

        Args:
            key: of the object; its last component is the default filename.
            content_type: a media type.
            disposition: default: ``attachment`` with a filename, else the stored one.
            filename: the name for the saved file; any text.

        Raises:
            ValueError: one of them is not valid in a header.
        """
        if content_type is not None:
            check_content_type(content_type)
        if disposition is None and filename is None:
            return cls(content_type, metadata=False)
        name = key.rpartition("/")[2] if filename is None else filename
        return cls(content_type, content_disposition(disposition or "attachment", name), metadata=False)

    def describe(self, info: ObjectInfo) -> list[tuple[str, str]]:
        """Return the headers that describe an object."""
        return self._replaced(
            object_headers(
                info,
                content_type=self.content_type,
                content_disposition=self.content_disposition,
                metadata=self.metadata,
            )
        )

    def describe_unmodified(self, info: ObjectInfo) -> list[tuple[str, str]]:
        """Return the headers of a 304."""
        return self._replaced(not_modified_headers(info))

    def _replaced(self, described: list[tuple[str, str]]) -> list[tuple[str, str]]:
        if not self.headers:
            return described
        check_headers(self.headers)
        names = {name.lower() for name, _ in self.headers}
        return [*((name, value) for name, value in described if name.lower() not in names), *self.headers]


_AS_STORED: Final = Overrides()


class Opener(Protocol):
    """Opens content, or a range of it, as ``partial(store.get, bucket, key)`` does."""

    def __call__(self, *, range: RangeLike | None) -> Awaitable[ObjectReader]:
        """Open it; an empty range reads nothing, but tells what there is."""


class Source(Protocol):
    """What a request reads."""

    async def head(self) -> ObjectInfo:
        """Describe it."""

    async def open(self, range: ByteRange | None) -> ObjectReader:
        """Open it, or a range of it."""


@dataclass(frozen=True, slots=True)
class ObjectSource:
    """An object of a store."""

    store: Trove
    ref: ObjectRef

    async def head(self) -> ObjectInfo:
        """Describe the object."""
        return await self.store.head(self.ref.bucket, self.ref.key, version_id=self.ref.version_id)

    async def open(self, range: ByteRange | None) -> ObjectReader:
        """Open the object."""
        return await self.store.get(self.ref.bucket, self.ref.key, range=range, version_id=self.ref.version_id)


@dataclass(frozen=True, slots=True)
class OpenerSource:
    """What an opener opens."""

    opener: Opener

    async def head(self) -> ObjectInfo:
        """Describe what it opens."""
        async with await self.opener(range=(0, 0)) as reader:
            return reader.info

    async def open(self, range: ByteRange | None) -> ObjectReader:
        """Open it."""
        return await self.opener(range=range)


async def read_object(source: Source, method: str, headers: Headers, overrides: Overrides = _AS_STORED) -> Answer:
    """Answer a request that reads an object; errors become answers too.

    Ranges apply to GET, conditions to GET and HEAD; any other method gets the whole object.
    """
    try:
        if method == "HEAD":
            return await head_object(source, headers, overrides)
        return await get_object(source, headers if method == "GET" else {}, overrides)
    except TroveError as error:
        return error_answer(error)


async def get_object(
    source: Source, headers: Headers, overrides: Overrides = _AS_STORED, *, etag: str | None = None
) -> Answer:
    """Answer a GET: the object or a range of it, 304, 412 or 416.

    Conditions are evaluated for the same object that is then sent, also if it is replaced meanwhile.

    Args:
        source: has the object.
        headers: of the request.
        overrides: how it is described.
        etag: of the object that alone may be sent, whatever the conditions of the request; None for any.

    Raises:
        TroveError: as for `Trove.get`; see `error_answer`.
    """
    wanted = parse_range(headers)
    if etag is None and not is_conditional(headers):
        return await _open(source, wanted, overrides)
    for _ in range(_ATTEMPTS):
        info = await source.head()
        status = evaluate(headers, info) if etag in (None, info.etag) else 412
        if status is not None:
            return _condition_answer(status, info, overrides)
        chosen = wanted if range_applies(headers, info) else None
        answer = await _open(source, chosen, overrides)
        if not isinstance(answer.body, ObjectReader) or answer.body.info.etag == info.etag:
            return answer
        await answer.body.aclose()
    raise UnavailableError("the object is replaced again and again; try again")


async def head_object(source: Source, headers: Headers, overrides: Overrides = _AS_STORED) -> Answer:
    """Answer a HEAD: like a GET without a range, but without the body."""
    info = await source.head()
    status = evaluate(headers, info)
    if status is not None:
        return _condition_answer(status, info, overrides)
    return Answer(200, [*overrides.describe(info), ("Content-Length", str(info.size))])


async def _open(source: Source, wanted: ByteRange | None, overrides: Overrides) -> Answer:
    try:
        reader = await source.open(wanted)
    except RangeNotSatisfiableError as error:
        info = await source.head()
        return error_answer(error, ("Content-Range", f"bytes */{info.size}"))
    reader.limit_memory(CHUNK_SIZE)
    try:
        headers = [*overrides.describe(reader.info), ("Content-Length", str(reader.size))]
    except BaseException:
        reader.abort()
        raise
    if wanted is None:
        return Answer(200, headers, reader)
    headers.append(("Content-Range", f"bytes {reader.start}-{reader.stop - 1}/{reader.info.size}"))
    return Answer(206, headers, reader)


def _condition_answer(status: int, info: ObjectInfo, overrides: Overrides) -> Answer:
    if status == 304:
        return Answer(304, overrides.describe_unmodified(info))
    return error_answer(PreconditionFailedError("a condition of the request does not hold"))


async def put_object(
    store: Trove, ref: ObjectRef, headers: Headers, body: AsyncIterable[bytes], gone: Gone | None = None
) -> Answer:
    """Answer a PUT: `receive_object`, with the headers that describe how to serve the object.

    Raises:
        TroveError: as for `receive_object`; see `error_answer`.
    """
    info = await receive_object(
        store,
        ref,
        headers,
        body,
        gone=gone,
        cache_control=headers.get("cache-control") or None,
        content_disposition=headers.get("content-disposition") or None,
    )
    described = [(name, value) for name, value in object_headers(info) if name in ("ETag", VERSION_HEADER)]
    return Answer(200, [*described, ("Content-Length", "0")])


async def receive_object(
    store: Trove,
    ref: ObjectRef,
    headers: Headers,
    body: AsyncIterable[bytes],
    *,
    max_size: int | None = None,
    gone: Gone | None = None,
    **arguments: Unpack[PutArguments],
) -> ObjectInfo:
    """Stream a request's body into the store. If the body raises, nothing is stored and the error is passed on.

    Args:
        store, ref: the object to write.
        headers: of the request. If-Match and If-None-Match are honoured, Content-Length is the declared
            size, and Content-Type, Content-Encoding and Content-Language are stored.
        body: of the request; read no faster than it is stored.
        max_size: bytes; a longer body is not stored.
        gone: raises an exception when the client has disconnected; awaited after the body was read, while the store
            still works. None if that cannot be known.
        arguments: of `Trove.put`; they override the headers.

    Raises:
        ContentTooLargeError: the body is longer than ``max_size``; it is not read if Content-Length says so.
        InvalidArgumentError: the headers are invalid.
        TroveError: as for `Trove.put`.
    """
    _check_whole(headers)
    if_match, if_none_match = write_conditions(headers)
    said: PutArguments = {
        **described_headers(headers),
        "if_match": if_match,
        "if_none_match": if_none_match,
        "size": content_length(headers),
        **arguments,
    }
    limited = _limited(body, said.get("size"), max_size)
    return await receive_body(limited, lambda chunks: store.put(ref.bucket, ref.key, chunks, **said), gone)


async def receive_into(
    headers: Headers,
    body: AsyncIterable[bytes],
    put: Callable[[AsyncIterator[bytes], int | None], Awaitable[R]],
    *,
    max_size: int | None = None,
    gone: Gone | None = None,
) -> R:
    """Call ``put`` with a request's body and its Content-Length, which is None if unknown; return the result.

    Args:
        headers, body, max_size, gone: see `receive_object`.
        put: stores the body; nothing is stored if it is cancelled.

    Raises:
        ContentTooLargeError, InvalidArgumentError: as for `receive_object`.
        UnsupportedError: the request has a condition, which ``put`` does not know.
        Exception: that of ``put`` or the body.
    """
    _check_whole(headers)
    if write_conditions(headers) != (None, None):
        raise UnsupportedError("If-Match and If-None-Match are not honoured here")
    size = content_length(headers)
    return await receive_body(_limited(body, size, max_size), lambda chunks: put(chunks, size), gone)


def _check_whole(headers: Headers) -> None:
    if "content-range" in headers:
        raise InvalidArgumentError("Content-Range: a PUT replaces the whole object (RFC 9110, section 14.5)")


def _limited(body: AsyncIterable[bytes], size: int | None, max_size: int | None) -> AsyncIterable[bytes]:
    """Return a body that raises when it is longer than ``max_size``; raise at once if its declared size is."""
    if max_size is None:
        return body
    if size is not None and size > max_size:
        raise ContentTooLargeError(f"the body is {size} bytes; at most {max_size} are accepted")
    return _at_most(max_size, body)


async def _at_most(max_size: int, body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    chunks = aiter(body)
    taken = 0
    try:
        async for chunk in chunks:
            taken += len(chunk)
            if taken > max_size:
                raise ContentTooLargeError(f"the body is longer than the {max_size} bytes that are accepted")
            yield chunk
    finally:
        # An async generator that is not read to its end keeps its resources open until it is closed.
        if inspect.isasyncgen(chunks):
            await chunks.aclose()


async def delete_object(store: Trove, ref: ObjectRef, headers: Headers) -> Answer:
    """Answer a DELETE of an object or a version; If-Match is honoured.

    Raises:
        TroveError: as for `Trove.delete`; see `error_answer`.
    """
    if_match, if_none_match = write_conditions(headers)
    if if_none_match is not None:
        raise UnsupportedError("If-None-Match is not honoured for DELETE; use If-Match")
    await store.delete(ref.bucket, ref.key, version_id=ref.version_id, if_match=if_match)
    return Answer(204)


def log_fault(log: logging.Logger, status: int, error: Exception) -> None:
    """Log an error of the server; a quota that is used up is none.

    While a backend is down there is no traceback: each request is refused for the same reason, which the message names.
    """
    if isinstance(error, QuotaExceededError):
        log.info("a request was answered with %d: %s", status, error)
        return
    refused = isinstance(error, BackendUnavailableError)
    log.error("a request was answered with %d: %s", status, error, exc_info=None if refused else error)


def error_answer(error: TroveError, *headers: tuple[str, str], status: int | None = None) -> Answer:
    """Return the answer for an error: JSON with a code and a message. Errors of the server are logged.

    Temporary errors have a Retry-After header of at most 300 seconds.

    Args:
        error: the error.
        headers: additional headers.
        status: default: the status for the error's class.
    """
    status = status or error_status(error)
    if status >= 500:
        log_fault(_log, status, error)
    body = error_body(error)
    found = [*headers, ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    if (seconds := retry_after(error)) is not None:
        found.append(("Retry-After", str(seconds)))
    return Answer(status, found, body)
