"""Changes of a bucket as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self

from trove_async.errors import TroveError
from trove_async.store import Trove, Watch
from trove_async.types import EventType, ObjectEvent
from trove_async.web.http import check_headers, error_body
from trove_async.web.objects import Answer, error_answer

__all__ = ["KEEP_ALIVE", "EventStream", "encode_event", "read_events"]

KEEP_ALIVE: Final = 15.0
"""Seconds of silence after which a comment is sent, as the specification advises for the sake of proxies."""

_HEADERS: Final = (
    ("Content-Type", "text/event-stream"),
    ("Cache-Control", "no-store"),
    ("X-Accel-Buffering", "no"),  # nginx would hold events back
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
    headers: Iterable[tuple[str, str]] = (),
) -> Answer:
    """Answer a request for a bucket's changes; the subscription stands when this returns. Errors are answers too.

    Args:
        store, bucket, prefix, events: as of `Trove.watch`.
        method: of the request; nothing is watched for HEAD.
        keep_alive: seconds of silence after which a comment is sent; more than 0.
        headers: sent besides; not with errors.

    Raises:
        ValueError: a header or ``keep_alive`` makes no sense.
    """
    if not keep_alive > 0:
        raise ValueError("keep_alive must be more than 0 seconds")
    found = [*_HEADERS, *headers]
    check_headers(found)
    if method == "HEAD":
        return Answer(200, found)
    try:
        watch = store.watch(bucket, prefix=prefix, events=events)
        await watch.__aenter__()
    except TroveError as error:
        return error_answer(error)
    return Answer(200, found, EventStream(watch, keep_alive))


def encode_event(event: ObjectEvent) -> bytes:
    """Return a change as an event: its type is that of the change, its data are JSON with all that is known of it."""
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
    # JSON has no line breaks, so that the data are one line.
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


class EventStream:
    """The body of an answer: what a watch that is entered sees, until it fails or the block is left.

    It begins with the comment ``subscribed``: later changes are seen. What makes it fail comes last, as the event
    ``watch.failed`` with ``code`` and ``message``: changes may be lost, and the client lists the bucket again.
    """

    def __init__(self, watch: Watch, keep_alive: float) -> None:
        self._watch = watch
        self._keep_alive = keep_alive
        self._begun = False
        self._failed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
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
            _log.warning("a stream of events ends: %s", error)
            return _encode("watch.failed", error_body(error))

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(self._keep_alive):
                return encode_event(await anext(self._watch))
        except TimeoutError as error:
            if isinstance(error, TroveError):  # it is the store that timed out
                raise
            return b": keep-alive\n\n"
