"""`Retry`: what it begins anew, what it leaves alone, and what it costs the backend."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import trove_async as trove
from tests.unit.doubles import ScriptedStream, arguments_of, info_of
from trove_async.driver import CAPABILITIES, METHODS, Driver
from trove_async.driver import retry as retry_module
from trove_async.driver.events import OBSERVER, Attempt, AttemptKind, AttemptSeries, Event, OperationObserver
from trove_async.driver.retry import BEGUN_ANEW, RetryPolicy
from trove_async.errors import (
    InvalidArgumentError,
    NotFoundError,
    ObjectAlreadyExistsError,
    ThrottledError,
    TroveError,
    UnavailableError,
)
from trove_async.layers import Budget, Call, LayerDriver, Limit, Operation, Retry
from trove_async.reader import ObjectReader
from trove_async.testing.faults import Fault, Faults
from trove_async.testing.mock import MockDriver
from trove_async.types import ObjectInfo, PartInfo

pytestmark = pytest.mark.asyncio

Layer = Callable[[Driver], Driver]
INFO = ObjectInfo("k", 4, "e")


def generous(attempts: int = 4) -> Retry:
    """Return a layer that no budget stops."""
    return Retry(attempts, budget=Budget(math.inf))


class Failing:
    """An answer that fails some times first; it counts its calls."""

    def __init__(self, *errors: TroveError, result: Any = INFO) -> None:
        self.errors = list(errors)
        self.result = result
        self.calls = 0

    def __call__(self, *_: object) -> Any:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.result


# What is begun anew


OF_A_BODY = {"put", "upload_part", "append_part"}


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"open", "close", "watch"} - OF_A_BODY))
async def test_every_operation_is_begun_anew(name: str, delays: list[float]) -> None:
    answer = Failing(UnavailableError(), ThrottledError())
    answers: dict[str, Any] = {name: answer}
    driver = generous()(MockDriver(capabilities=CAPABILITIES, **answers))
    assert await getattr(driver, name)(*arguments_of(name)) is INFO
    assert answer.calls == 3
    assert len(delays) == 2


async def test_it_stops_after_its_attempts(delays: list[float]) -> None:
    last = UnavailableError("the last")
    answer = Failing(UnavailableError(), UnavailableError(), last)
    async with trove.open(MockDriver(head=answer), layers=[generous(3)]) as t:
        with pytest.raises(UnavailableError) as caught:
            await t.head("b", "k")
    assert caught.value is last
    assert (answer.calls, len(delays)) == (3, 2)


@pytest.mark.parametrize(
    "error", [NotFoundError(), UnavailableError(retryable=False), UnavailableError(retry_after=61)]
)
async def test_it_does_not_repeat_what_would_fail_again(error: TroveError, delays: list[float]) -> None:
    answer = Failing(error)
    async with trove.open(MockDriver(head=answer), layers=[generous()]) as t:
        with pytest.raises(type(error)):
            await t.head("b", "k")
    assert (answer.calls, delays) == (1, [])


async def test_it_waits_as_long_as_the_service_asks_for(delays: list[float]) -> None:
    answer = Failing(UnavailableError(retry_after=30), ThrottledError(retry_after=7))
    async with trove.open(MockDriver(head=answer), layers=[generous()]) as t:
        await t.head("b", "k")
    assert [30 <= delays[0] <= 30.05, 7 <= delays[1] <= 9] == [True, True]


async def test_an_error_that_was_tried_again_inside_is_not_tried_again(delays: list[float]) -> None:
    error = UnavailableError()
    error.exhausted = True
    answer = Failing(error)
    async with trove.open(MockDriver(head=answer), layers=[generous()]) as t:
        with pytest.raises(UnavailableError):
            await t.head("b", "k")
    assert answer.calls == 1


# Bodies


async def _chunks() -> AsyncIterator[bytes]:
    yield b"da"
    yield b"ta"


@pytest.mark.parametrize("kind", ["bytes", "path"])
async def test_a_body_is_sent_again_from_its_first_byte(kind: str, tmp_path: Path, delays: list[float]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"data")
    seen: list[bytes] = []

    async def put(bucket: str, key: str, body: Any, options: object) -> ObjectInfo:
        seen.append(b"".join([bytes(chunk) async for chunk in body]))
        if len(seen) < 3:
            raise UnavailableError
        return INFO

    async with trove.open(MockDriver(put=put), layers=[generous()]) as t:
        await t.put("b", "k", b"data" if kind == "bytes" else path, checksum="md5")
    assert seen == [b"data"] * 3


async def test_a_body_that_can_be_read_once_is_sent_once(delays: list[float]) -> None:
    """Not even if none of it was read: its source may have ended by the error."""
    answer = Failing(UnavailableError("the first"))
    async with trove.open(MockDriver(put=answer), layers=[generous()]) as t:
        with pytest.raises(UnavailableError, match="the first"):
            await t.put("b", "k", _chunks())
    assert (answer.calls, delays) == (1, [])


async def test_a_body_that_breaks_off_is_resumed_by_the_policy(delays: list[float]) -> None:
    data = bytes(range(100))
    stream = ScriptedStream(data, [10, UnavailableError(), UnavailableError(), 20, UnavailableError()])
    mock = MockDriver(get=lambda *_: ObjectReader(info_of(data), stream))
    async with trove.open(mock, layers=[Retry(budget=Budget(1))]) as t:
        assert await t.read("b", "k") == data
    assert stream.seeks == [10, 10, 30]
    assert len(mock.calls) == 2  # the get and the close: the operation was not begun anew
    assert len(delays) == 3  # one was paid by the budget, two by the bytes that had arrived


async def test_a_body_without_progress_is_given_up_with_the_budget(delays: list[float]) -> None:
    stream = ScriptedStream(bytes(100), [UnavailableError() for _ in range(9)])
    mock = MockDriver(get=lambda *_: ObjectReader(info_of(bytes(100)), stream))
    async with trove.open(mock, layers=[Retry(9, budget=Budget(2))]) as t:
        with pytest.raises(UnavailableError, match="budget is used up"):
            await t.read("b", "k")
    assert len(delays) == 2


# Writes whose outcome is unknown


async def test_a_put_whose_answer_is_lost_is_not_repeated(delays: list[float]) -> None:
    faults = Faults([Fault("put", error=UnavailableError(), when="after", times=2)])
    async with trove.open("memory://", layers=[faults, generous()]) as t:
        await t.create_bucket("b")
        info = await t.put("b", "k", b"data")
        assert await t.head("b", "k") == info
    assert len(faults.injected) == 1


@pytest.mark.parametrize(("request_id", "looks"), [("id-1", 0), (None, 2)])
async def test_a_put_that_the_service_throttles_is_repeated_without_a_look(
    request_id: str | None, looks: int, delays: list[float]
) -> None:
    """A proxy in front of the service may answer 503 while the put is carried out; the service itself does not."""
    error = ThrottledError(status=503, request_id=request_id, ambiguous=True)
    mock = MockDriver(put=Failing(error, error), head=NotFoundError())
    async with trove.open(mock, layers=[generous()]) as t:
        await t.put("b", "k", b"data")
    assert (len(mock.calls_to("put")), len(mock.calls_to("head"))) == (3, looks)


async def test_a_create_only_put_that_finds_its_own_object_is_ambiguous(delays: list[float]) -> None:
    faults = Faults([Fault("put", error=UnavailableError(), when="after")])
    async with trove.open("memory://", layers=[faults, generous()]) as t:
        await t.create_bucket("b")
        with pytest.raises(ObjectAlreadyExistsError) as caught:
            await t.put("b", "k", b"data", if_none_match="*")
        assert caught.value.ambiguous
        with pytest.raises(ObjectAlreadyExistsError) as later:
            await t.put("b", "k", b"data", if_none_match="*")
        assert not later.value.ambiguous


async def test_the_last_error_is_ambiguous_if_any_attempt_was(delays: list[float]) -> None:
    answer = Failing(UnavailableError(ambiguous=True), UnavailableError())
    async with trove.open(MockDriver(put=answer, head=trove.ObjectNotFoundError()), layers=[generous(2)]) as t:
        with pytest.raises(UnavailableError) as caught:
            await t.put("b", "k", b"data")
    assert caught.value.ambiguous
    assert answer.calls == 2


@pytest.mark.parametrize("name", ["complete_multipart", "copy", "restore_version", "server_copy"])
async def test_a_copy_of_unknown_outcome_is_not_made_again(name: str, delays: list[float]) -> None:
    answers: dict[str, Any] = {name: (answer := Failing(UnavailableError(), UnavailableError(ambiguous=True)))}
    driver = generous()(MockDriver(capabilities=CAPABILITIES, **answers))
    with pytest.raises(UnavailableError) as caught:
        await getattr(driver, name)(*arguments_of(name))
    assert caught.value.ambiguous
    assert answer.calls == 2


async def test_an_append_is_begun_anew_at_its_offset_with_the_whole_body(delays: list[float]) -> None:
    part = PartInfo(1, "e", 9)
    seen: list[tuple[int, bytes]] = []

    async def append(*arguments: Any) -> PartInfo:
        *_, offset, body = arguments
        seen.append((offset, await body.read_all()))
        if len(seen) == 1:
            raise UnavailableError(ambiguous=True)
        return part

    async with trove.open(MockDriver(capabilities=CAPABILITIES, append_part=append), layers=[generous()]) as t:
        assert await t.append_part("b", "k", "u", 1, 5, b"data") == part
    assert seen == [(5, b"data"), (5, b"data")]


async def test_an_append_of_a_body_that_can_be_read_only_once_is_never_begun_anew(delays: list[float]) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"data"

    answer = Failing(UnavailableError())
    async with trove.open(MockDriver(capabilities=CAPABILITIES, append_part=answer), layers=[generous()]) as t:
        with pytest.raises(UnavailableError):
            await t.append_part("b", "k", "u", 1, 5, chunks())
    assert (answer.calls, delays) == (1, [])


# Watching


async def test_a_subscription_is_begun_anew(delays: list[float]) -> None:
    faults = Faults([Fault("watch", error=UnavailableError(), times=2)])
    async with trove.open("memory://", layers=[faults, generous()]) as t:
        await t.create_bucket("b")
        async with t.watch("b") as events:
            await t.put("b", "k", b"data")
            assert (await anext(events)).key == "k"
    assert (len(faults.injected), len(delays)) == (2, 2)


async def test_a_watch_that_fails_after_its_subscription_is_not_begun_anew(delays: list[float]) -> None:
    """Events may have been lost in between, which its user must know."""
    faults = Faults([Fault("watch", error=UnavailableError(), skip=1)])
    async with trove.open("memory://", layers=[faults, generous()]) as t:
        await t.create_bucket("b")
        async with t.watch("b") as events:
            await t.put("b", "k", b"data")
            await t.put("b", "k2", b"data")
            await anext(events)
            with pytest.raises(UnavailableError):
                await anext(events)
    assert delays == []


# Cancellation


async def test_a_cancellation_ends_the_wait_and_no_attempt_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = asyncio.Event()

    async def sleep(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(retry_module, "asyncio", SimpleNamespace(sleep=sleep))
    answer = Failing(UnavailableError(), UnavailableError())
    async with trove.open(MockDriver(put=answer), layers=[generous()]) as t:
        task = asyncio.create_task(t.put("b", "k", b"data"))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert answer.calls == 1


async def test_a_cancelled_operation_is_not_begun_anew(delays: list[float]) -> None:
    begun = asyncio.Event()
    calls: list[str] = []

    async def head(bucket: str, key: str, options: object) -> ObjectInfo:
        calls.append(key)
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with trove.open(MockDriver(head=head), layers=[generous()]) as t:
        task = asyncio.create_task(t.head("b", "k"))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert calls == ["k"]


# What it costs the backend


async def test_an_empty_budget_raises_the_first_cause(delays: list[float]) -> None:
    answer = Failing(UnavailableError("the connection broke"))
    async with trove.open(MockDriver(head=answer), layers=[Retry(budget=Budget(0))]) as t:
        with pytest.raises(UnavailableError, match=r"the connection broke; .* retry budget is used up"):
            await t.head("b", "k")
    assert answer.calls == 1


async def test_successes_of_a_driver_without_a_policy_pay_into_the_budget(delays: list[float]) -> None:
    answer = Failing()
    async with trove.open(MockDriver(head=answer), layers=[Retry(budget=Budget(0))]) as t:
        for _ in range(5):
            await t.head("b", "k")
        answer.errors = [UnavailableError()]
        await t.head("b", "k")
    assert answer.calls == 7


async def test_answers_that_show_that_the_backend_works_pay_into_the_budget(delays: list[float]) -> None:
    answer = Failing()
    async with trove.open(MockDriver(head=answer), layers=[Retry(budget=Budget(0))]) as t:
        for paying in (UnavailableError(retryable=False), NotFoundError()):
            answer.errors = [paying for _ in range(5)]
            for _ in range(5):
                with pytest.raises(type(paying)):
                    await t.head("b", "k")
            answer.errors = [UnavailableError()]
            if isinstance(paying, NotFoundError):
                await t.head("b", "k")
            else:
                with pytest.raises(UnavailableError, match="budget is used up"):
                    await t.head("b", "k")


async def test_each_store_has_a_budget_unless_one_is_given(delays: list[float]) -> None:
    async def attempts(retry: Retry) -> list[int]:
        answers = [Failing(*(UnavailableError() for _ in range(9))) for _ in range(2)]
        for answer in answers:
            async with trove.open(MockDriver(head=answer), layers=[retry]) as t:
                with pytest.raises(UnavailableError):
                    await t.head("b", "k")
        return [answer.calls for answer in answers]

    assert await attempts(Retry(9)) == [1 + 3, 1 + 3]
    assert await attempts(Retry(9, budget=Budget(5))) == [1 + 5, 1]


class Policed(LayerDriver):
    """Stands for a driver that takes the policy."""

    policies: list[RetryPolicy]

    def use_retry_policy(self, policy: RetryPolicy) -> bool:
        self.policies = [policy]
        return True

    async def around(self, operation: Operation, call: Call[Any]) -> Any:
        assert BEGUN_ANEW.get() is self.policies[0]
        return await call()


async def test_a_driver_that_takes_the_policy_pays_its_successes_in_itself(delays: list[float]) -> None:
    answer = Failing()
    layers: list[Layer] = [Policed, Limit(8), Retry(budget=Budget(0))]
    async with trove.open(MockDriver(head=answer), layers=layers) as t:
        for _ in range(20):
            await t.head("b", "k")
        assert BEGUN_ANEW.get() is None
        answer.errors = [UnavailableError()]
        with pytest.raises(UnavailableError, match="budget is used up"):
            await t.head("b", "k")


async def test_each_attempt_passes_the_limit_again(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, go_on = asyncio.Event(), asyncio.Event()

    async def sleep(_: float) -> None:
        waiting.set()
        await go_on.wait()

    monkeypatch.setattr(retry_module, "asyncio", SimpleNamespace(sleep=sleep))
    running = 0

    async def delete(bucket: str, key: str, options: object) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        running -= 1
        if key == "first" and not go_on.is_set():
            raise UnavailableError

    async with trove.open(MockDriver(delete=delete), layers=[Limit(1), generous()]) as t:
        task = asyncio.create_task(t.delete("b", "first"))
        await waiting.wait()
        await t.delete("b", "other")  # the place is free during the wait
        go_on.set()
        await asyncio.gather(task, *(t.delete("b", str(number)) for number in range(5)))


# What is seen of it


class Recorder(OperationObserver, AttemptSeries):
    __slots__ = ("errors",)

    class _Attempt(Attempt):
        __slots__ = ("errors",)

        def __init__(self, errors: list[BaseException | None]) -> None:
            self.errors = errors

        def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
            self.errors.append(error)

    def __init__(self) -> None:
        self.errors: list[BaseException | None] = []

    def attempts(self, kind: AttemptKind) -> AttemptSeries:
        assert kind == "retry"
        return self

    def begin(self) -> Attempt:
        return self._Attempt(self.errors)

    def report(self, event: Event) -> None:
        raise AssertionError("an attempt of the layer is not a request that is sent again")


async def test_attempts_are_observed(delays: list[float]) -> None:
    errors = [UnavailableError(), ThrottledError()]
    recorder = Recorder()
    async with trove.open(MockDriver(head=Failing(*errors)), layers=[generous()]) as t:
        token = OBSERVER.set(recorder)
        try:
            await t.head("b", "k")
        finally:
            OBSERVER.reset(token)
    assert recorder.errors == [*errors, None]


# Order (those that are refused are in tests/badinput/test_layers.py), and wrong use


class Around(LayerDriver):
    """A user's own layer."""


@pytest.mark.parametrize("layers", [[Around, Retry(), Around], [Limit(2), Retry(), Limit(2)][:2], [Limit(1), Limit(2)]])
async def test_other_orders_are_allowed(layers: Sequence[Layer]) -> None:
    async with trove.open(MockDriver(head=INFO), layers=layers) as t:
        assert await t.head("b", "k") == INFO


@pytest.mark.parametrize("attempts", [0, -1, 1.5, "3", None])
async def test_the_number_of_attempts_is_checked(attempts: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="whole number of 1 or more"):
        Retry(attempts)
