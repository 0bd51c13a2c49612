"""The body of a request: counted, limited, and stopped by others."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from trove_async.errors import ContentTooLargeError, InvalidArgumentError, LeaseLostError
from trove_async.uploads import receiving
from trove_async.uploads.receiving import RequestBody
from trove_async.web.asgi import ClientGoneError

pytestmark = pytest.mark.asyncio

END = b""


class Client:
    """A source to which a test feeds chunks, ``END``, or an exception to raise."""

    def __init__(self, *sent: bytes | Exception, trailers: Mapping[str, str] | None = None) -> None:
        self.reads = 0
        self.waiting = asyncio.Event()
        self.trailers: Mapping[str, str] = {}
        self._trailers = trailers or {}
        self._sent: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        for item in sent:
            self._sent.put_nowait(item)

    def send(self, item: bytes | Exception) -> None:
        self.waiting.clear()
        self._sent.put_nowait(item)

    async def read(self) -> bytes:
        self.reads += 1
        if self._sent.empty():
            self.waiting.set()
        item = await self._sent.get()
        if isinstance(item, Exception):
            raise item
        if item == END:
            self.trailers = self._trailers
        return item


class Call:
    """A call at a time of a `Clock`."""

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0
        self.armed = 0
        self._calls: list[Call] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object], /) -> Call:
        self.armed += 1
        call = Call(when, callback)
        self._calls.append(call)
        return call

    def move(self, seconds: float) -> None:
        self.now += seconds
        while due := [call for call in self._calls if call.when <= self.now]:
            self._calls.remove(due[0])
            if not due[0].cancelled:
                due[0].callback()


async def collect(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def test_chunks_are_counted_until_the_end() -> None:
    body = RequestBody(Client(b"abc", b"de", END, trailers={"upload-checksum": "sha1 AAAA"}))
    assert body.ended is None
    assert not body.trailers
    assert await collect(body.chunks(None)) == b"abcde"
    assert body.received == 5
    assert body.ended == "complete"
    assert body.trailers == {"upload-checksum": "sha1 AAAA"}
    assert await collect(body.chunks(None)) == b""


async def test_nothing_is_read_before_the_first_chunk_is_asked_for() -> None:
    client = Client(b"abc", END)
    body = RequestBody(client)
    chunks = body.chunks(None)
    await asyncio.sleep(0)
    assert client.reads == 0
    assert await anext(chunks) == b"abc"
    assert client.reads == 1


@pytest.mark.parametrize(("limit", "fits"), [(5, True), (4, False), (3, False), (0, False), (None, True)])
async def test_the_limit_is_of_the_whole_body(limit: int | None, fits: bool) -> None:
    body = RequestBody(Client(b"abc", b"de", END))
    if fits:
        assert await collect(body.chunks(limit)) == b"abcde"
    else:
        with pytest.raises(ContentTooLargeError, match=f"longer than the {limit} bytes"):
            await collect(body.chunks(limit))
        assert body.ended is None


async def test_what_arrived_before_a_client_left_is_delivered() -> None:
    body = RequestBody(Client(b"abc", ClientGoneError()))
    assert await collect(body.chunks(None)) == b"abc"
    assert body.ended == "disconnected"


async def test_a_malformed_body_is_an_error() -> None:
    body = RequestBody(Client(b"abc", InvalidArgumentError("malformed")))
    with pytest.raises(InvalidArgumentError, match="malformed"):
        await collect(body.chunks(None))


async def test_a_body_that_is_waited_for_is_stopped_at_once() -> None:
    client = Client(b"abc")
    body = RequestBody(client)
    receiving = asyncio.ensure_future(collect(body.chunks(None)))
    await client.waiting.wait()
    body.stop()
    body.stop()
    assert await receiving == b"abc"
    assert body.ended == "stopped"
    assert not receiving.cancelling()


async def test_a_body_is_stopped_before_its_next_chunk() -> None:
    client = Client(b"abc", b"de", END)
    body = RequestBody(client)
    chunks = body.chunks(None)
    assert await anext(chunks) == b"abc"
    body.stop()
    assert await collect(chunks) == b""
    assert body.ended == "stopped"
    assert client.reads == 1


@pytest.mark.parametrize("waits", [True, False])
async def test_a_body_whose_lock_is_lost_raises(waits: bool) -> None:
    client = Client()
    body = RequestBody(client)
    receiving = asyncio.ensure_future(collect(body.chunks(None)))
    if waits:
        await client.waiting.wait()
        body.stop()
    body.stop(lost=True)
    with pytest.raises(LeaseLostError):
        await receiving
    assert body.ended == "stopped"


async def test_a_chunk_that_has_arrived_when_the_body_is_stopped_is_not_half_taken() -> None:
    client = Client()
    body = RequestBody(client)
    receiving = asyncio.ensure_future(collect(body.chunks(None)))
    await client.waiting.wait()
    client.send(b"abc")
    body.stop()
    assert len(await receiving) == body.received
    assert body.ended == "stopped"
    assert not receiving.cancelling()


@pytest.mark.parametrize("stops", ["before", "after", "never"])
async def test_a_cancellation_is_never_taken_for_a_stop(stops: str) -> None:
    client = Client()
    body = RequestBody(client)
    receiving = asyncio.ensure_future(collect(body.chunks(None)))
    await client.waiting.wait()
    if stops == "before":
        body.stop()
    receiving.cancel()
    if stops == "after":
        body.stop()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    assert receiving.cancelled()


async def test_a_stop_inside_a_timeout_is_no_timeout() -> None:
    client = Client()
    body = RequestBody(client)

    async def receive() -> bytes:
        async with asyncio.timeout(None) as limit:
            received = await collect(body.chunks(None))
            limit.reschedule(0)
            await asyncio.Event().wait()
        return received

    receiving = asyncio.ensure_future(receive())
    await client.waiting.wait()
    body.stop()
    with pytest.raises(TimeoutError):
        await receiving
    assert body.ended == "stopped"


async def test_a_task_that_was_cancelled_before_can_be_stopped() -> None:
    client = Client()
    body = RequestBody(client)

    async def clean_up() -> bytes:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return await collect(body.chunks(None))
        return b"not cancelled"

    cleaning = asyncio.ensure_future(clean_up())
    await asyncio.sleep(0)
    cleaning.cancel()
    await client.waiting.wait()
    body.stop()
    assert await cleaning == b""
    assert cleaning.cancelling() == 1


async def test_an_idle_body_ends() -> None:
    client, clock = Client(b"abc"), Clock()
    body = RequestBody(client, idle_timeout=60, clock=clock)
    receiving = asyncio.ensure_future(collect(body.chunks(None)))
    await client.waiting.wait()
    clock.move(59)
    client.send(b"de")
    await client.waiting.wait()
    clock.move(59)
    await asyncio.sleep(0)
    assert body.ended is None
    clock.move(1)
    assert await receiving == b"abcde"
    assert body.ended == "timed out"


async def test_a_silent_body_ends_earlier_if_it_is_hurried() -> None:
    client, clock = Client(b"abc"), Clock()
    body = RequestBody(client, idle_timeout=60, clock=clock)
    body.hurry(0)  # nobody waits for the client yet
    receiving = asyncio.ensure_future(collect(body.chunks(None)))
    await client.waiting.wait()
    clock.move(2)
    body.hurry(3)
    await asyncio.sleep(0)
    assert body.ended is None
    clock.move(1)
    body.hurry(3)
    assert await receiving == b"abc"
    assert body.ended == "timed out"


@pytest.mark.parametrize(("size", "ended"), [(1, "timed out"), (10_000, None)])
async def test_a_body_that_trickles_ends_if_it_is_hurried(size: int, ended: str | None) -> None:
    client, clock = Client(b"abc"), Clock()
    body = RequestBody(client, idle_timeout=60, clock=clock)
    receiving = asyncio.ensure_future(collect(body.chunks(None)))
    for _ in range(30):
        await client.waiting.wait()
        body.hurry(3)
        clock.move(2)
        client.send(b"x" * size)
        for _ in range(3):
            await asyncio.sleep(0)
        if body.ended:
            break
    assert body.ended == ended
    client.send(END)
    await receiving


async def test_a_slow_store_is_no_idle_client() -> None:
    client, clock = Client(b"abc", END), Clock()
    body = RequestBody(client, idle_timeout=60, clock=clock)
    chunks = body.chunks(None)
    assert await anext(chunks) == b"abc"
    clock.move(1000)
    assert await collect(chunks) == b""
    assert body.ended == "complete"


async def test_a_body_that_is_closed_has_no_timer() -> None:
    client, clock = Client(b"abc"), Clock()
    body = RequestBody(client, clock=clock)
    assert await anext(body.chunks(None)) == b"abc"
    body.close()
    body.close()
    clock.move(1000)
    assert clock.armed == 1


async def test_a_chunk_costs_no_task_and_no_timer() -> None:
    clock = Clock()
    body = RequestBody(Client(*itertools.repeat(b"x", 1000), END), clock=clock)
    loop = asyncio.get_running_loop()
    made: list[Any] = []

    def make_task(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **options)

    loop.set_task_factory(make_task)
    try:
        assert len(await collect(body.chunks(None))) == 1000
    finally:
        loop.set_task_factory(None)
    assert not made
    assert clock.armed == 1


async def test_a_refused_body_is_drained_a_little() -> None:
    client = Client(*itertools.repeat(bytes(300_000), 10), END)
    await RequestBody(client).drain()
    assert client.reads == 4  # the first that make 1 MiB

    short = Client(b"abc", END)
    await RequestBody(short).drain()
    assert short.reads == 2


async def test_a_client_that_waits_for_100_is_not_drained() -> None:
    client = Client(b"abc", END)
    body = RequestBody(client, held_back=True)
    await body.drain()
    assert client.reads == 0
    await anext(body.chunks(None))
    await body.drain()
    assert client.reads == 2


async def test_draining_a_stalled_client_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "_DRAIN_SECONDS", 0.001)
    await RequestBody(Client(b"abc")).drain()


@pytest.mark.parametrize("failure", [ClientGoneError(), InvalidArgumentError("malformed")])
async def test_draining_a_client_that_leaves_is_no_error(failure: Exception) -> None:
    body = RequestBody(Client(b"abc", failure))
    await body.drain()
    assert body.ended == "disconnected"
