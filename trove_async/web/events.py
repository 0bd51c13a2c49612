"""Changes of a bucket as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Final, Self
from weakref import WeakKeyDictionary

from trove_async.errors import TroveError
from trove_async.store import Trove, Watch
from trove_async.types import EventType, ObjectEvent
from trove_async.web.http import check_headers, error_body
from trove_async.web.objects import Answer, error_answer

__all__ = ["KEEP_ALIVE", "MAX_STREAMS", "EventStream", "encode_event", "read_events"]

KEEP_ALIVE: Final = 15.0
"""Seconds without events after which a comment is sent, as the specification recommends because of proxies."""

MAX_STREAMS: Final = 1000
"""How many event streams of a store may be open in a process: each needs memory, and keeps a connection."""

_RETRY_AFTER: Final = "15"

_open: Final[WeakKeyDictionary[Trove, set[object]]] = WeakKeyDictionary()
"""The open streams of each store."""

_HEADERS: Final = (
    ("Content-Type", "text/event-stream"),
    ("Cache-Control", "no-store"),
    ("X-Accel-Buffering", "no"),  # otherwise nginx buffers the events
)
_log = logging.getLogger("trove_async.web")


async def read_events(
    store: Trove,
    bucket: str,
    method: str,
    *,
    prefix: str = "",
    events: Iterable[EventType | str] | None = None,
    keep_alive: float = KEEP_ALIVE,
    max_streams: int = MAX_STREAMS,
    headers: Iterable[tuple[str, str]] = (),
) -> Answer:
    """Answer a request for a bucket's events, subscribed when this returns. Errors become answers too.

    Args:
        store, bucket, prefix, events: as for `Trove.watch`.
        method: of the request; HEAD does not watch anything.
        keep_alive: seconds without events after which a comment is sent; more than 0.
        max_streams: how many streams of the store may be open in this process; one more is answered with 503.
        headers: additional headers; not sent with errors.

    Raises:
        ValueError: a header or ``keep_alive`` is invalid.
    """
    if not keep_alive > 0:
        raise ValueError("keep_alive must be more than 0 seconds")
    found = [*_HEADERS, *headers]
    check_headers(found)
    if method == "HEAD":
        return Answer(200, found)
    slots = _open.setdefault(store, set())
    if len(slots) >= max_streams:
        return _too_many()
    slot = object()
    slots.add(slot)
    try:
        watch = store.watch(bucket, prefix=prefix, events=events)
        await watch.__aenter__()
    except BaseException as error:
        slots.discard(slot)
        if isinstance(error, TroveError):
            return error_answer(error)
        raise
    return Answer(200, found, EventStream(watch, keep_alive, on_close=partial(slots.discard, slot)))


def _too_many() -> Answer:
    _log.warning("a request for an event stream was answered with 503: the limit of max_streams is reached")
    message = "too many event streams are open; try again later"
    body = json.dumps({"code": "Unavailable", "message": message}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Retry-After", _RETRY_AFTER)]
    return Answer(503, headers, body)


def encode_event(event: ObjectEvent) -> bytes:
    """Encode an event: its type is the type of the change, its data are JSON with all fields that are not None."""
    said = {
        "type": event.type,
        "bucket": event.bucket,
        "key": event.key,
        "size": event.size,
        "etag": event.etag,
        "version_id": event.version_id,
        "time": None if event.time is None else event.time.isoformat(),
    }
    return _encode(event.type, json.dumps({name: value for name, value in said.items() if value is not None}).encode())


def _encode(name: str, data: bytes) -> bytes:
    # JSON has no line breaks, so the data are one line.
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


class EventStream:
    """The body of an answer: the events of an entered watch, until it fails or the block is left.

    It begins with the comment ``subscribed``: later changes are seen. If the watch fails, the last event is
    ``watch.failed`` with ``code`` and ``message``: events may be lost, and the client lists the bucket again.
    """

    def __init__(self, watch: Watch, keep_alive: float, on_close: Callable[[], object] = lambda: None) -> None:
        self._watch = watch
        self._on_close = on_close
        self._keep_alive = keep_alive
        self._begun = False
        self._failed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._on_close()
        await self._watch.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._begun:
            self._begun = True
            return b": subscribed\n\n"
        if self._failed:
            raise StopAsyncIteration
        try:
            return await self._next()
        except TroveError as error:
            self._failed = True
            _log.warning("an event stream ended: %s", error)
            return _encode("watch.failed", error_body(error))

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(self._keep_alive):
                return encode_event(await anext(self._watch))
        except TimeoutError as error:
            if isinstance(error, TroveError):  # the store timed out
                raise
            return b": keep-alive\n\n"
