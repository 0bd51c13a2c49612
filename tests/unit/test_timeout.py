"""`Timeout`: what it ends, and what it leaves alone.

The times are zero or an hour: one has always passed, the other never does.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

import trove_async as trove
from tests.unit.doubles import ScriptedStream, arguments_of, info_of
from trove_async.driver import CAPABILITIES, METHODS, HeadOptions, unwrap
from trove_async.errors import BackendUnavailableError, InvalidArgumentError, OperationTimeoutError
from trove_async.layers import Budget, CircuitBreaker, Limit, Observe, Retry, Timeout
from trove_async.layers.breaker import BreakerDriver
from trove_async.reader import ObjectReader
from trove_async.testing.mock import MockDriver
from trove_async.types import ObjectInfo

pytestmark = pytest.mark.asyncio

INFO = ObjectInfo("k", 4, "e")
NOW = 1e-9
HOUR = 3600

READS = (
    "get", "get_lifecycle", "get_range", "get_tags", "get_version", "get_versioning", "head", "list_page",
    "list_versions_page", "ping", "presign_delete", "presign_get", "presign_head", "presign_post", "presign_put",
)  # fmt: skip
WRITES = (
    "abort_multipart", "create_bucket", "delete", "delete_bucket", "delete_lifecycle", "delete_tags",
    "delete_version", "initiate_multipart", "set_lifecycle", "set_tags", "set_versioning",
)  # fmt: skip
LONG = (
    "complete_multipart", "copy", "copy_part", "delete_many", "expire", "list_buckets", "list_multipart_uploads",
    "list_noncurrent", "list_parts", "list_versions", "restore_version", "server_copy", "transition",
)  # fmt: skip


class Hanging:
    """An answer that never comes.

    Attributes:
        begun: set when it is asked for.
        ended: how often it was cancelled.
    """

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = 0

    async def __call__(self, *_: object) -> Any:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended += 1


async def turns(*_: object) -> ObjectInfo:
    """Answer after some turns of the loop."""
    for _turn in range(20):
        await asyncio.sleep(0)
    return INFO


async def test_every_operation_is_of_one_kind() -> None:
    with_body = ("put", "upload_part", "append_part")
    assert sorted((*READS, *WRITES, *LONG, *with_body, "watch", "open", "close")) == sorted(METHODS)


@pytest.mark.parametrize("name", [*READS, *WRITES])
async def test_an_operation_of_one_request_is_ended(name: str) -> None:
    answer = Hanging()
    answers: dict[str, Any] = {name: answer}
    driver = Timeout(attempt=NOW)(MockDriver(capabilities=CAPABILITIES, **answers))
    with pytest.raises(OperationTimeoutError, match="longer than 1e-09 s") as caught:
        await getattr(driver, name)(*arguments_of(name))
    assert caught.value.retryable
    assert caught.value.ambiguous == (name in WRITES)
    assert answer.ended == 1


@pytest.mark.parametrize("name", LONG)
async def test_an_operation_of_many_requests_takes_its_time(name: str) -> None:
    answers: dict[str, Any] = {name: turns}
    driver = Timeout(attempt=NOW)(MockDriver(capabilities=CAPABILITIES, **answers))
    assert await getattr(driver, name)(*arguments_of(name)) is INFO


async def _chunks() -> AsyncIterator[bytes]:
    yield b"data"


@pytest.mark.parametrize(
    ("data", "ended"),
    [(b"", True), (bytes(1024 * 1024), True), (bytes(1024 * 1024 + 1), False), (_chunks, False)],
    ids=["empty", "1 MiB", "more", "a source"],
)
async def test_a_put_is_ended_if_its_body_is_small(data: Any, ended: bool) -> None:
    async with trove.open(MockDriver(put=turns), layers=[Timeout(attempt=NOW)]) as t:
        body = data() if callable(data) else data
        if ended:
            with pytest.raises(OperationTimeoutError) as caught:
                await t.put("b", "k", body)
            assert caught.value.ambiguous
            assert (caught.value.operation, caught.value.bucket, caught.value.key) == ("put", "b", "k")
        else:
            await t.put("b", "k", body)


async def test_what_is_quick_enough_is_unchanged() -> None:
    async with trove.open(MockDriver(head=turns), layers=[Timeout(attempt=HOUR)]) as t:
        assert await t.head("b", "k") == INFO


async def test_the_timeout_of_the_driver_is_its_own() -> None:
    mine = OperationTimeoutError("the driver's")
    async with trove.open(MockDriver(head=mine), layers=[Timeout(attempt=HOUR)]) as t:
        with pytest.raises(OperationTimeoutError) as caught:
            await t.head("b", "k")
    assert caught.value is mine


async def test_the_timeout_of_a_body_is_its_own() -> None:
    async def put(*_: object) -> ObjectInfo:
        raise TimeoutError("a source's")

    async with trove.open(MockDriver(put=put), layers=[Timeout(attempt=HOUR)]) as t:
        with pytest.raises(TimeoutError, match="a source's") as caught:
            await t.put("b", "k", b"data")
    assert not isinstance(caught.value, OperationTimeoutError)


async def test_what_ends_well_in_spite_of_its_deadline_is_returned() -> None:
    async def head(*_: object) -> ObjectInfo:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return INFO
        raise AssertionError

    async with trove.open(MockDriver(head=head), layers=[Timeout(attempt=NOW)]) as t:
        assert await t.head("b", "k") == INFO
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)


async def test_each_operation_has_its_own_time() -> None:
    hanging = Hanging()

    async def head(bucket: str, key: str, options: object) -> ObjectInfo:
        return INFO if key == "quick" else await hanging()

    async with trove.open(MockDriver(head=head), layers=[Timeout(attempt=0.001)]) as t:
        keys = ["quick", "slow", "quick", "slow", "quick"]
        for _ in range(2):
            found = await asyncio.gather(*(t.head("b", key) for key in keys), return_exceptions=True)
            assert [type(each) for each in found] == [
                ObjectInfo if key == "quick" else OperationTimeoutError for key in keys
            ]
    assert hanging.ended == 4


async def test_an_operation_that_outlives_its_store_is_ended_too() -> None:
    answer = Hanging()
    t = await trove.open(MockDriver(head=answer), layers=[Timeout(attempt=0.05)])
    task = asyncio.create_task(t.head("b", "k"))
    await answer.begun.wait()
    await t.aclose()
    with pytest.raises(OperationTimeoutError):
        await task


# Cancellation


async def test_a_cancellation_stays_one() -> None:
    answer = Hanging()
    async with trove.open(MockDriver(head=answer), layers=[Timeout(attempt=HOUR)]) as t:
        task = asyncio.create_task(t.head("b", "k"))
        await answer.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert answer.ended == 1


async def test_a_cancellation_during_the_clean_up_after_a_timeout_stays_one() -> None:
    cleaning, go_on = asyncio.Event(), asyncio.Event()

    async def head(*_: object) -> ObjectInfo:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cleaning.set()
            while not go_on.is_set():
                try:
                    await go_on.wait()
                except asyncio.CancelledError:
                    continue
            raise
        raise AssertionError

    async with trove.open(MockDriver(head=head), layers=[Timeout(attempt=NOW)]) as t:
        task = asyncio.create_task(t.head("b", "k"))
        await cleaning.wait()
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_the_scope_of_a_caller_ends_as_it_should() -> None:
    answer = Hanging()
    async with trove.open(MockDriver(head=answer), layers=[Timeout(attempt=HOUR)]) as t:
        with anyio.move_on_after(0) as scope:
            await t.head("b", "k")
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0):
                await t.head("b", "k")
        assert not isinstance(caught.value, OperationTimeoutError)


# Bodies


async def test_a_body_that_stands_still_is_resumed() -> None:
    data = bytes(range(100))
    stream = ScriptedStream(data, [10, asyncio.Event(), 20, asyncio.Event()])
    mock = MockDriver(get=lambda *_: ObjectReader(info_of(data), stream))
    async with trove.open(mock, layers=[Timeout(idle=0.001)]) as t:
        assert await t.read("b", "k") == data
    assert stream.seeks == [10, 30]


async def test_a_body_that_stands_still_for_good_is_given_up(delays: list[float]) -> None:
    stream = ScriptedStream(bytes(100), [10, *(asyncio.Event() for _ in range(9))])
    mock = MockDriver(get=lambda *_: ObjectReader(info_of(bytes(100)), stream))
    async with trove.open(mock, layers=[Timeout(idle=0.001), Retry(3, budget=Budget(math.inf))]) as t:
        with pytest.raises(OperationTimeoutError, match=r"no byte of the body arrived for 0\.001 s") as caught:
            await t.read("b", "k")
    assert not caught.value.ambiguous
    assert (len(delays), stream.open) == (2, False)


async def test_the_time_of_an_attempt_does_not_bound_a_body() -> None:
    data = bytes(100)

    class Slow(ScriptedStream):
        async def read(self, size: int) -> bytes:
            await turns()
            return await super().read(min(size, 10))

    mock = MockDriver(get=lambda *_: ObjectReader(info_of(data), Slow(data)))
    async with trove.open(mock, layers=[Timeout(attempt=HOUR)]) as t, t.get("b", "k") as reader:
        assert await reader.read() == data


# With other layers


async def test_an_attempt_that_takes_too_long_is_begun_anew(delays: list[float]) -> None:
    answers: list[Callable[[], Any]] = [Hanging(), Hanging(), lambda: INFO]
    mock = MockDriver(head=lambda *_: answers.pop(0)())
    async with trove.open(mock, layers=[Timeout(attempt=0.001), Retry(budget=Budget(math.inf))]) as t:
        assert await t.head("b", "k") == INFO
    assert (answers, len(delays)) == ([], 2)


async def test_an_attempt_that_takes_too_long_gives_its_place_back() -> None:
    answer = Hanging()
    async with trove.open(MockDriver(head=answer, delete=turns), layers=[Limit(1), Timeout(attempt=0.001)]) as t:
        with pytest.raises(OperationTimeoutError):
            await t.head("b", "k")
        with pytest.raises(OperationTimeoutError):
            await t.head("b", "k")
    assert answer.ended == 2


def breaker_of(threshold: int = 2) -> CircuitBreaker:
    return CircuitBreaker("test", threshold=threshold, open_for=30, jitter=0, clock=lambda: now[0])


now = [0.0]


async def test_a_backend_that_does_not_answer_in_time_opens_the_circuit_inside() -> None:
    breaker, answer = breaker_of(), Hanging()
    mock = MockDriver(head=answer)
    async with trove.open(mock, layers=[breaker, Timeout(attempt=NOW)]) as t:
        for _ in range(2):
            assert breaker.state == "closed"
            with pytest.raises(OperationTimeoutError):
                await t.head("b", "k")
        with pytest.raises(BackendUnavailableError, match="longer than 1e-09 s") as caught:
            await t.head("b", "k")
        assert isinstance(caught.value.__cause__, OperationTimeoutError)
        assert len(mock.calls_to("head")) == 2
        now[0] += 30
        with pytest.raises(OperationTimeoutError):
            await t.head("b", "k")
        assert (breaker.state, breaker.transitions) == ("open", 3)


async def test_a_body_that_stands_still_opens_the_circuit_inside() -> None:
    breaker = breaker_of()
    stream = ScriptedStream(bytes(100), [10, *(asyncio.Event() for _ in range(9))])
    mock = MockDriver(get=lambda *_: ObjectReader(info_of(bytes(100)), stream))
    async with trove.open(mock, layers=[breaker, Timeout(idle=NOW)]) as t:
        with pytest.raises(BackendUnavailableError, match="no byte of the body"):
            await t.read("b", "k")
    assert (stream.seeks, stream.open) == ([10], False)


@pytest.mark.parametrize("number", [1, 2], ids=["the caller's", "that of the deadline"])
async def test_a_deadline_after_the_cancellation_of_the_caller_opens_no_circuit(number: int) -> None:
    breaker = breaker_of(1)

    async def head(*_: object) -> ObjectInfo:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        seen: list[asyncio.CancelledError] = []
        while len(seen) < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                seen.append(error)
        raise seen[number - 1]

    async with trove.open(MockDriver(head=head), layers=[breaker, Timeout(attempt=NOW)]) as t:
        task = asyncio.create_task(t.head("b", "k"))
        with pytest.raises(asyncio.CancelledError):
            await task
    assert breaker.state == "closed"


async def test_who_waits_for_a_limit_tells_nothing_about_the_backend() -> None:
    breaker, answer = breaker_of(1), Hanging()
    mock = MockDriver(head=answer, put=INFO)
    async with trove.open(mock, layers=[Limit(1), breaker, Timeout(attempt=NOW)]) as t:
        limited = unwrap(t.driver, BreakerDriver).inner
        holds = asyncio.create_task(limited.head("b", "k", HeadOptions()))
        await answer.begun.wait()
        with pytest.raises(OperationTimeoutError) as caught:
            await t.put("b", "k", b"data")
        holds.cancel()
    assert not caught.value.ambiguous
    assert (breaker.state, mock.calls_to("put")) == ("closed", [])


async def test_an_observer_inside_sees_the_timeout() -> None:
    seen: list[trove.Observation] = []
    async with trove.open(MockDriver(head=Hanging()), layers=[Observe(seen.append), Timeout(attempt=NOW)]) as t:
        with pytest.raises(OperationTimeoutError):
            await t.head("b", "k")
    assert [(each.outcome, type(each.error)) for each in seen] == [("error", OperationTimeoutError)]


@pytest.mark.parametrize(
    "times", [{}, {"attempt": 0}, {"idle": -1}, {"attempt": math.inf}, {"idle": "5"}, {"idle": math.nan}]
)
async def test_the_times_are_checked(times: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"more than 0|Timeout\(attempt=10\)"):
        Timeout(**times)
