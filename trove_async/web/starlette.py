"""Objects for Starlette and FastAPI: responses that serve them, and uploads that are streamed into a store.

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
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, Unpack

from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from trove_async.errors import TroveError
from trove_async.store import Trove
from trove_async.store.arguments import PutArguments
from trove_async.types import EventType, ObjectInfo, ObjectRef
from trove_async.web.asgi import headers_of, respond
from trove_async.web.events import KEEP_ALIVE, read_events
from trove_async.web.http import Disposition
from trove_async.web.objects import Answer, Overrides, error_answer, read_object, receive_object

__all__ = ["EventStreamResponse", "ObjectResponse", "error_response", "exception_handlers", "receive"]


class _AnswerResponse(Response):
    """A response that opens what it sends when it is sent, so that one that never is holds nothing."""

    def __init__(self, headers: Mapping[str, str] | None, background: BackgroundTask | None) -> None:
        self.status_code = 200
        self.background = background
        self.init_headers(headers)

    @abstractmethod
    async def _answer(self, scope: Scope) -> Answer:
        """Return what is to be sent."""

    def _set_by_hand(self) -> tuple[tuple[str, str], ...]:
        """Return the headers that were given and those that were set since, cookies among them."""
        return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in self.raw_headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answer(scope)
        self.status_code = answer.status
        await respond(answer, scope["method"], receive, send)
        if self.background is not None:
            await self.background()


class ObjectResponse(_AnswerResponse):
    """Serves an object, as ``FileResponse`` serves a file: streamed, with ranges, conditions and HEAD.

    The object is opened when the response is sent, and closed when it has been, also when the client goes away
    meanwhile. Errors of the store are answered as `error_response` does it.
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
            content_type: default what is stored.
            disposition: ``inline`` or ``attachment``; default ``attachment`` with a filename, else what is stored.
            filename: what the file is to be called, any text; default the last part of the key.
            headers: sent with the object, instead of those of the same name; not with errors.
            background: run when the response has been sent.

        Raises:
            ValueError: an argument cannot stand in a header.
        """
        super().__init__(headers, background)
        self._store = store
        self._ref = ObjectRef(bucket, key, version_id)
        self._overrides = Overrides.of(key, content_type=content_type, disposition=disposition, filename=filename)

    async def _answer(self, scope: Scope) -> Answer:
        overrides = replace(self._overrides, headers=self._set_by_hand())
        return await read_object(self._store, self._ref, scope["method"], headers_of(scope), overrides)


class EventStreamResponse(_AnswerResponse):
    """Sends a bucket's changes as server-sent events, until the client goes away; see `EventStream`.

    The bucket is watched from when the response is sent, and no longer when it has been.
    """

    def __init__(
        self,
        store: Trove,
        bucket: str,
        *,
        prefix: str = "",
        events: Iterable[EventType | str] | None = None,
        keep_alive: float = KEEP_ALIVE,
        headers: Mapping[str, str] | None = None,
        background: BackgroundTask | None = None,
    ) -> None:
        """Make a response.

        Args:
            store, bucket, prefix, events: as of `Trove.watch`.
            keep_alive: seconds of silence after which a comment is sent.
            headers: sent besides; not with errors.
            background: run when the client is gone.
        """
        super().__init__(headers, background)
        self._read = partial(read_events, store, bucket, prefix=prefix, events=events, keep_alive=keep_alive)

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
    """Stream a request's body into the store; it is never in memory as a whole.

    If-Match and If-None-Match are honoured, and Content-Type, Content-Encoding and Content-Language are stored.
    Whatever is raised, nothing is stored and the old object stays.

    Args:
        request: whose body nobody has read.
        store, bucket, key: where it goes.
        max_size: bytes; default any number.
        arguments: of `Trove.put`; they go before what the request says.

    Raises:
        ClientDisconnect: Starlette's; the client went away before all of it came.
        ContentTooLargeError: the body is longer than ``max_size``.
        TroveError: as of `Trove.put`; see `exception_handlers`.
    """
    ref = ObjectRef(bucket, key)
    headers = headers_of(request.scope)
    return await receive_object(store, ref, headers, request.stream(), max_size=max_size, **arguments)


def error_response(error: TroveError) -> Response:
    """Return the response for an error: JSON with ``code`` and ``message``; see `trove_async.web.http.error_status`."""
    answer = error_answer(error)
    assert isinstance(answer.body, bytes)
    return Response(answer.body, answer.status, dict(answer.headers))


async def _answer_error(request: Request, error: Any) -> Response:
    return error_response(error)


async def _answer_nobody(request: Request, error: Any) -> Response:
    return Response(status_code=499)  # nginx's word for it, for what logs statuses


exception_handlers: Final[dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]]] = {
    TroveError: _answer_error,
    ClientDisconnect: _answer_nobody,
}
"""For ``FastAPI(exception_handlers=…)`` and ``Starlette(exception_handlers=…)``: errors of a store that a handler
raises are answered, and clients that go away while they upload are not logged as errors."""
