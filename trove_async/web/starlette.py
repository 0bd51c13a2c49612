"""Integration with Starlette and FastAPI: responses that serve objects, and uploads that stream into a store.

::

    app = FastAPI(exception_handlers=exception_handlers)

    @app.api_route("/files/{key:path}", methods=["GET", "HEAD"])
    async def download(key: str) -> Response:
        return ObjectResponse(store, "files", key)

    @app.put("/files/{key:path}")
    async def upload(key: str, request: Request) -> dict[str, str]:
        info = await receive(request, store, "files", key, max_size=10**9)
        return {"etag": info.etag}
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar, Unpack

from trove_async.errors import MissingDependencyError, TroveError
from trove_async.store import Trove
from trove_async.store.arguments import PutArguments
from trove_async.types import EventType, ObjectInfo, ObjectRef
from trove_async.web import objects
from trove_async.web.asgi import ClientGoneError, headers_of, raise_when_gone, respond
from trove_async.web.events import KEEP_ALIVE, MAX_STREAMS, read_events
from trove_async.web.http import Disposition
from trove_async.web.objects import Answer, ObjectSource, Opener, OpenerSource, Overrides, Source, error_answer

try:
    from starlette.background import BackgroundTask
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send
except ModuleNotFoundError as error:
    if error.name != "starlette":
        raise
    raise MissingDependencyError(
        "trove_async.web.starlette needs: pip install 'trove-async[starlette]', or 'trove-async[fastapi]' for FastAPI"
    ) from error

__all__ = [
    "EventStreamResponse",
    "ObjectResponse",
    "ReaderResponse",
    "error_response",
    "exception_handlers",
    "receive",
    "receive_into",
]

R = TypeVar("R")


class _AnswerResponse(Response):
    """A response that opens its content when it is sent, so that an unsent response needs no clean-up."""

    def __init__(self, headers: Mapping[str, str] | None, background: BackgroundTask | None) -> None:
        self.status_code = 200
        self.background = background
        self.init_headers(headers)

    @abstractmethod
    async def _answer(self, scope: Scope) -> Answer:
        """Return the answer to send."""

    def _set_by_hand(self) -> tuple[tuple[str, str], ...]:
        """Return the given headers and those that were set since, including cookies."""
        return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in self.raw_headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answer(scope)
        self.status_code = answer.status
        await respond(answer, scope["method"], receive, send)
        if self.background is not None:
            await self.background()


class _SourceResponse(_AnswerResponse):
    """A response with what a source has."""

    def __init__(
        self,
        source: Source,
        overrides: Overrides,
        headers: Mapping[str, str] | None,
        background: BackgroundTask | None,
    ) -> None:
        super().__init__(headers, background)
        self._source = source
        self._overrides = overrides

    async def _answer(self, scope: Scope) -> Answer:
        overrides = replace(self._overrides, headers=self._set_by_hand())
        return await objects.read_object(self._source, scope["method"], headers_of(scope), overrides)


class ObjectResponse(_SourceResponse):
    """Serves an object, as ``FileResponse`` serves a file: streamed, with ranges, conditions and HEAD.

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
        background: BackgroundTask | None = None,
    ) -> None:
        """Make a response.

        Args:
            store, bucket, key, version_id: which object.
            content_type: default: the stored one.
            disposition: ``inline`` or ``attachment``; default: ``attachment`` with a filename, else the stored one.
            filename: the name for the saved file, any text; default: the last component of the key.
            headers: sent with the object, replacing headers with the same name; not sent with errors.
            background: run after the response was sent.

        Raises:
            ValueError: an argument is not valid in a header.
        """
        source = ObjectSource(store, ObjectRef(bucket, key, version_id))
        overrides = Overrides.of(key, content_type=content_type, disposition=disposition, filename=filename)
        super().__init__(source, overrides, headers, background)


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
        background: BackgroundTask | None = None,
    ) -> None:
        """Make a response.

        Args:
            open: called with ``range=``, as ``partial(store.get, bucket, key)`` is; it is awaited, and returns an
                `ObjectReader`. A condition or HEAD calls it with an empty range, ``(0, 0)``, to learn what there is.
            key: the name of the content.
            content_type, disposition, filename, headers, background: as for `ObjectResponse`.

        Raises:
            ValueError: an argument is not valid in a header.
        """
        overrides = Overrides.of(key, content_type=content_type, disposition=disposition, filename=filename)
        super().__init__(OpenerSource(open), overrides, headers, background)


class EventStreamResponse(_AnswerResponse):
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
        background: BackgroundTask | None = None,
    ) -> None:
        """Make a response.

        Args:
            store, bucket, prefix, events: as for `Trove.watch`.
            keep_alive: seconds without events after which a comment is sent.
            max_streams: how many streams of the store may be open in this process; one more is answered with 503.
            headers: additional headers; not sent with errors.
            background: run after the client has disconnected.
        """
        super().__init__(headers, background)
        self._read = partial(
            read_events, store, bucket, prefix=prefix, events=events, keep_alive=keep_alive, max_streams=max_streams
        )

    async def _answer(self, scope: Scope) -> Answer:
        return await self._read(scope["method"], headers=self._set_by_hand())


async def receive(
    request: Request,
    store: Trove,
    bucket: str,
    key: str,
    *,
    max_size: int | None = None,
    **arguments: Unpack[PutArguments],
) -> ObjectInfo:
    """Stream a request's body into the store; memory is bounded.

    If-Match and If-None-Match are honoured, and Content-Type, Content-Encoding and Content-Language are stored.
    If this raises, nothing is stored and the old object stays.

    Args:
        request: a request whose body was not read yet.
        store, bucket, key: the object to write.
        max_size: the maximum size in bytes; default: no limit.
        arguments: of `Trove.put`; they override the headers of the request.

    Raises:
        ClientDisconnect: from Starlette; the client disconnected before the object was stored.
        ContentTooLargeError: the body is longer than ``max_size``.
        TroveError: as for `Trove.put`; see `exception_handlers`.
    """
    ref = ObjectRef(bucket, key)
    headers = headers_of(request.scope)
    return await objects.receive_object(
        store, ref, headers, request.stream(), max_size=max_size, gone=partial(_raise_when_gone, request), **arguments
    )


async def receive_into(
    request: Request,
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
        ClientDisconnect: from Starlette; the client disconnected before the content was stored.
        ContentTooLargeError: the body is longer than ``max_size``.
        InvalidArgumentError: the headers are invalid.
        UnsupportedError: the request has a condition, such as If-Match, which ``put`` could not honour.
        Exception: an exception of ``put`` passes unchanged.
    """
    gone = partial(_raise_when_gone, request)
    return await objects.receive_into(headers_of(request.scope), request.stream(), put, max_size=max_size, gone=gone)


async def _raise_when_gone(request: Request) -> None:
    try:
        await raise_when_gone(request.receive)
    except ClientGoneError:
        raise ClientDisconnect from None


def error_response(error: TroveError) -> Response:
    """Return the response for an error: JSON with ``code`` and ``message``; see `trove_async.web.http.error_status`."""
    answer = error_answer(error)
    assert isinstance(answer.body, bytes)
    return Response(answer.body, answer.status, dict(answer.headers))


async def _answer_error(request: Request, error: Any) -> Response:
    return error_response(error)


async def _answer_nobody(request: Request, error: Any) -> Response:
    return Response(status_code=499)  # nginx's status for it, for access logs


exception_handlers: Final[dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]]] = {
    TroveError: _answer_error,
    ClientDisconnect: _answer_nobody,
}
"""For ``FastAPI(exception_handlers=…)`` and ``Starlette(exception_handlers=…)``: turns a store's errors in a handler
into answers; a client that disconnects during an upload is not logged as an error."""
