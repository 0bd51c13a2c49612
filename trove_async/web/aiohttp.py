"""Integration with aiohttp's server: responses that serve objects, and uploads that stream into a store.

::

    app = web.Application(middlewares=[error_middleware])

    async def download(request: web.Request) -> web.StreamResponse:
        return ObjectResponse(store, "files", request.match_info["key"])

    async def upload(request: web.Request) -> web.StreamResponse:
        info = await receive(request, store, "files", request.match_info["key"], max_size=10**9)
        return web.json_response({"etag": info.etag})
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar, Unpack

from trove_async.errors import InvalidArgumentError, MissingDependencyError, TroveError
from trove_async.store import Trove
from trove_async.store.arguments import PutArguments
from trove_async.types import EventType, ObjectInfo, ObjectRef
from trove_async.web import objects
from trove_async.web.events import KEEP_ALIVE, MAX_STREAMS, read_events
from trove_async.web.http import Disposition, join_headers
from trove_async.web.objects import Answer, ObjectSource, Opener, OpenerSource, Overrides, Source, Stream, error_answer
from trove_async.web.streaming import transmit
from trove_async.web.uploading import Gone

try:
    from aiohttp import web
    from aiohttp.abc import AbstractStreamWriter
except ModuleNotFoundError as error:
    if error.name != "aiohttp":
        raise
    raise MissingDependencyError("trove_async.web.aiohttp needs: pip install 'trove-async[aiohttp]'") from error

__all__ = [
    "EventStreamResponse",
    "ObjectResponse",
    "ReaderResponse",
    "error_middleware",
    "error_response",
    "receive",
    "receive_into",
]

R = TypeVar("R")

DECODED: Final = ("gzip", "deflate", "br", "zstd")
"""Values of Content-Encoding whose bodies aiohttp decodes."""

_LOOK_SECONDS: Final = 0.5
_log = logging.getLogger("trove_async.web")


class AnswerResponse(web.StreamResponse):
    """A response that opens its content when it is sent, so that an unsent response needs no clean-up."""

    @abstractmethod
    async def _answer(self, request: web.BaseRequest) -> Answer:
        """Return the answer to send."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the answer."""
        if self.prepared:
            return await super().prepare(request)
        answer = await self._answer(request)
        self.set_status(answer.status)
        self.headers.clear()
        self.headers.extend(answer.headers)
        if isinstance(answer.body, bytes):
            writer = await super().prepare(request)
            await self.write_eof(b"" if request.method == "HEAD" else answer.body)
            return writer
        async with answer.body as body:
            writer = await super().prepare(request)
            await self._transmit(body, request)
        await self.write_eof()
        return writer

    async def _transmit(self, body: Stream, request: web.BaseRequest) -> None:
        try:
            whole = await transmit(aiter(body), self.write, _gone(request))
        except TroveError as error:
            # aiohttp treats a ConnectionError as a client that has disconnected, and does not log it.
            _log.error("an answer was cut off: %s", error, exc_info=error)
            whole = False
        if not whole:
            raise ConnectionResetError("the answer was not sent completely")  # so that aiohttp closes the connection


async def _gone(request: web.BaseRequest) -> None:
    # aiohttp has no event for it: it cancels handlers or, by default, does not notify them.
    while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_SECONDS)


async def _raise_when_gone(request: web.BaseRequest) -> None:
    await _gone(request)
    raise ConnectionResetError("the client has disconnected")


class _SourceResponse(AnswerResponse):
    """A response with what a source has."""

    def __init__(self, source: Source, overrides: Overrides, headers: Mapping[str, str] | None) -> None:
        super().__init__(headers=headers)
        self._source = source
        self._overrides = overrides

    async def _answer(self, request: web.BaseRequest) -> Answer:
        overrides = replace(self._overrides, headers=tuple(self.headers.items()))
        return await objects.read_object(self._source, request.method, _headers(request), overrides)


class ObjectResponse(_SourceResponse):
    """Serves an object, as ``web.FileResponse`` serves a file: streamed, with ranges, conditions and HEAD.

    The object is opened when the response is sent, and closed afterwards, also if the client disconnects.
    Errors of the store are answered as by `error_response`.
    """

    def __init__(
        self,
        store: Trove,
        bucket: str,
        key: str,
        *,
        version_id: str | None = None,
        content_type: str | None = None,
        disposition: Disposition | None = None,
        filename: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Make a response.

        Args:
            store, bucket, key, version_id: which object.
            content_type: default: the stored one.
            disposition: ``inline`` or ``attachment``; default: ``attachment`` with a filename, else the stored one.
            filename: the name for the saved file, any text; default: the last component of the key.
            headers: sent with the object, replacing headers with the same name; not sent with errors.

        Raises:
            ValueError: an argument is not valid in a header.
        """
        source = ObjectSource(store, ObjectRef(bucket, key, version_id))
        overrides = Overrides.of(key, content_type=content_type, disposition=disposition, filename=filename)
        super().__init__(source, overrides, headers)


class ReaderResponse(_SourceResponse):
    """Serves what a function opens, as `ObjectResponse` serves an object: content of managed storage, for example.

    ::

        return ReaderResponse(partial(storage.get_for_bucket, tenant, path), path, disposition="attachment")
    """

    def __init__(
        self,
        open: Opener,
        key: str,
        *,
        content_type: str | None = None,
        disposition: Disposition | None = None,
        filename: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Make a response.

        Args:
            open: called with ``range=``, as ``partial(store.get, bucket, key)`` is; it is awaited, and returns an
                `ObjectReader`. A condition or HEAD calls it with an empty range, ``(0, 0)``, to learn what there is.
            key: the name of the content.
            content_type, disposition, filename, headers: as for `ObjectResponse`.

        Raises:
            ValueError: an argument is not valid in a header.
        """
        overrides = Overrides.of(key, content_type=content_type, disposition=disposition, filename=filename)
        super().__init__(OpenerSource(open), overrides, headers)


class EventStreamResponse(AnswerResponse):
    """Sends a bucket's events as server-sent events, until the client disconnects; see `EventStream`.

    The bucket is watched while the response is being sent.
    """

    def __init__(
        self,
        store: Trove,
        bucket: str,
        *,
        prefix: str = "",
        events: Iterable[EventType | str] | None = None,
        keep_alive: float = KEEP_ALIVE,
        max_streams: int = MAX_STREAMS,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Make a response.

        Args:
            store, bucket, prefix, events: as for `Trove.watch`.
            keep_alive: seconds without events after which a comment is sent.
            max_streams: how many streams of the store may be open in this process; one more is answered with 503.
            headers: additional headers; not sent with errors.
        """
        super().__init__(headers=headers)
        self._read = partial(
            read_events, store, bucket, prefix=prefix, events=events, keep_alive=keep_alive, max_streams=max_streams
        )

    async def _answer(self, request: web.BaseRequest) -> Answer:
        return await self._read(request.method, headers=tuple(self.headers.items()))


async def receive(
    request: web.BaseRequest,
    store: Trove,
    bucket: str,
    key: str,
    *,
    max_size: int | None = None,
    **arguments: Unpack[PutArguments],
) -> ObjectInfo:
    """Stream a request's body into the store; memory is bounded, and ``client_max_size`` does not apply.

    If-Match and If-None-Match are honoured, and Content-Type and Content-Language are stored. If this raises,
    nothing is stored and the old object stays.

    aiohttp decodes bodies with a Content-Encoding; the decoded bytes are stored and counted.

    Args:
        request: a request whose body was not read yet.
        store, bucket, key: the object to write.
        max_size: the maximum size in bytes; default: no limit.
        arguments: of `Trove.put`; they override the headers of the request.

    Raises:
        ConnectionResetError: the client disconnected before the object was stored.
        ContentTooLargeError: the body is longer than ``max_size``.
        InvalidArgumentError: chunks or encoding of the body are malformed.
        TroveError: as for `Trove.put`; see `error_middleware`.
    """
    headers, body, gone = _received(request)
    ref = ObjectRef(bucket, key)
    with _decoding():
        return await objects.receive_object(store, ref, headers, body, max_size=max_size, gone=gone, **arguments)


async def receive_into(
    request: web.BaseRequest,
    put: Callable[[AsyncIterator[bytes], int | None], Awaitable[R]],
    *,
    max_size: int | None = None,
) -> R:
    """Stream a request's body into a function that stores it, and return its result; memory is bounded.

    ::

        info = await receive_into(request, partial(storage.put_for_bucket, tenant, path), max_size=10**9)

    If this raises, nothing is stored. The headers that describe the body are left to ``put``.

    Args:
        request: a request whose body was not read yet.
        put: called with the chunks of the body and their number of bytes, None if unknown; it is cancelled when the
            client disconnects.
        max_size: the maximum size in bytes; default: no limit.

    Raises:
        ConnectionResetError: the client disconnected before the content was stored.
        ContentTooLargeError: the body is longer than ``max_size``.
        InvalidArgumentError: the headers are invalid, or chunks or encoding of the body are malformed.
        UnsupportedError: the request has a condition, such as If-Match, which ``put`` could not honour.
        Exception: an exception of ``put`` passes unchanged.
    """
    headers, body, gone = _received(request)
    with _decoding():
        return await objects.receive_into(headers, body, put, max_size=max_size, gone=gone)


def _received(request: web.BaseRequest) -> tuple[dict[str, str], AsyncIterator[bytes], Gone]:
    """Return the headers of the body as aiohttp gives it, the body, and what waits for the client to disconnect."""
    headers = _headers(request)
    if headers.get("content-encoding", "").lower() in DECODED:
        # Both headers describe the encoded body.
        del headers["content-encoding"]
        headers.pop("content-length", None)
    return headers, request.content.iter_any(), partial(_raise_when_gone, request)


@contextmanager
def _decoding() -> Iterator[None]:
    try:
        yield
    except web.RequestPayloadError as error:
        raise InvalidArgumentError("the body is not encoded as its Content-Encoding says") from error


def _headers(request: web.BaseRequest) -> dict[str, str]:
    return join_headers(request.headers.items())


def error_response(error: TroveError) -> web.Response:
    """Return the response for an error: JSON with ``code`` and ``message``; see `trove_async.web.http.error_status`."""
    answer = error_answer(error)
    assert isinstance(answer.body, bytes)
    return web.Response(body=answer.body, status=answer.status, headers=dict(answer.headers))


@web.middleware
async def error_middleware(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn a store's errors in a handler into answers; a client that disconnects during an upload is not an error."""
    try:
        return await handler(request)
    except TroveError as error:
        return error_response(error)
    except ConnectionResetError:
        if request.transport is not None:
            raise
        return web.Response(status=499)  # nginx's status for it, for access logs
