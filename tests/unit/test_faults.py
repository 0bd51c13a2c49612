from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import trove_async
from trove_async import Trove
from trove_async.errors import (
    BodySizeError,
    ChecksumError,
    InvalidArgumentError,
    ObjectNotFoundError,
    ThrottledError,
    TransientError,
    UnavailableError,
)
from trove_async.testing.faults import Fault, Faults

pytestmark = pytest.mark.asyncio

DATA = bytes(range(256)) * 40
MD5 = hashlib.md5(DATA).hexdigest()


async def store(*plan: Fault) -> tuple[Trove, Faults]:
    """Open a store with a bucket and an object; the plan applies from then on."""
    faults = Faults()
    t = await trove_async.open("memory://", layers=[faults])
    await t.create_bucket("b")
    await t.put("b", "k", DATA, checksum="md5")
    faults.add(*plan)
    return t, faults


def struck(faults: Faults) -> list[tuple[str, str | None]]:
    return [(injection.operation, injection.key) for injection in faults.injected]


async def test_an_error_is_raised_the_given_number_of_times_without_the_operation() -> None:
    error = UnavailableError("no route", status=503)
    t, faults = await store(Fault("put", error=error, times=2))
    async with t:
        for _ in range(2):
            with pytest.raises(UnavailableError, match="no route") as caught:
                await t.put("b", "new", b"x")
            assert caught.value is not error
            assert (caught.value.status, caught.value.key, caught.value.ambiguous) == (503, "new", False)
            assert not await t.exists("b", "new")
        await t.put("b", "new", b"x")
        assert await t.read("b", "new") == b"x"
    assert struck(faults) == [("put", "new")] * 2
    assert error.operation is None


async def test_an_error_class_is_instantiated_each_time_and_times_none_means_always() -> None:
    t, faults = await store(Fault("head", error=ThrottledError, times=None))
    async with t:
        for _ in range(5):
            with pytest.raises(ThrottledError):
                await t.head("b", "k")
    assert len(faults.injected) == 5


async def test_skip_lets_the_first_operations_pass() -> None:
    t, _ = await store(Fault("head", error=UnavailableError, skip=2))
    async with t:
        outcomes = [await asyncio.gather(t.head("b", "k"), return_exceptions=True) for _ in range(4)]
    assert [type(outcome) is UnavailableError for [outcome] in outcomes] == [False, False, True, False]


async def test_a_lost_answer_leaves_the_operation_done_and_raises_an_ambiguous_error() -> None:
    t, _ = await store(
        Fault("put", when="after", error=UnavailableError),
        Fault("delete", when="after", error=UnavailableError),
        Fault("head", when="after", error=UnavailableError),
    )
    async with t:
        for use, ambiguous in (
            (t.put("b", "new", b"x"), True),
            (t.delete("b", "k"), True),
            (t.head("b", "new"), False),
        ):
            with pytest.raises(UnavailableError) as caught:
                await use
            assert caught.value.ambiguous is ambiguous
        assert await t.read("b", "new") == b"x"
        assert not await t.exists("b", "k")


async def test_patterns_and_keys_select_the_operations() -> None:
    t, faults = await store(
        Fault("*_multipart*", error=UnavailableError, times=None), Fault("*", key="x", error=ThrottledError, times=None)
    )
    async with t:
        with pytest.raises(UnavailableError):
            await t.initiate_multipart("b", "k")
        for use in (t.put, t.upload_part):
            with pytest.raises(ThrottledError):
                await (use("b", "x", b"") if use == t.put else t.upload_part("b", "x", "u", 1, b"x"))
        await t.head("b", "k")
    assert struck(faults) == [("initiate_multipart", "k"), ("put", "x"), ("upload_part", "x")]


async def test_a_delay_lets_other_tasks_run() -> None:
    t, faults = await store(Fault("*", delay=0.001, times=None))
    async with t:
        reading = asyncio.create_task(t.read("b", "k"))
        await asyncio.sleep(0)
        assert not reading.done()
        assert await reading == DATA
    assert ("get", "k") in struck(faults)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_cancellation_is_a_real_one(when: Any) -> None:
    t, _ = await store(Fault("put", cancel=True, when=when))

    async with t:
        task = asyncio.create_task(t.put("b", "new", b"x"))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelling() == 1
        assert await t.exists("b", "new") is (when == "after")


async def test_a_reader_whose_answer_is_lost_is_closed() -> None:
    t, _ = await store(Fault("get", when="after", error=UnavailableError))
    async with t:
        with pytest.raises(UnavailableError):
            await t.get("b", "k")


@pytest.mark.parametrize("fault", [{"truncate_after": 1000}, {"reset_after": 1000}, {"reset_after": 0}])
async def test_a_reader_that_breaks_once_is_resumed(fault: dict[str, int]) -> None:
    t, faults = await store(Fault("get", **fault))  # type: ignore[arg-type]
    async with t:
        assert await t.read("b", "k") == DATA
        assert struck(faults) == [("get", "k")]
        assert await t.read("b", "k") == DATA
    assert len(faults.injected) == 1


@pytest.mark.parametrize("fault", [{"truncate_after": 1000}, {"reset_after": 1000}])
async def test_a_reader_that_always_breaks_at_the_same_byte_fails_after_that_byte(fault: dict[str, int]) -> None:
    t, _ = await store(Fault("get", times=None, **fault))  # type: ignore[arg-type]
    async with t, t.get("b", "k") as reader:
        assert await reader.read(1000) == DATA[:1000]
        with pytest.raises(TransientError):
            await reader.read(1)


async def test_positions_are_relative_to_the_requested_range() -> None:
    t, faults = await store(Fault("get*", reset_after=10, times=None, error=OSError("snap")))
    async with t:
        with pytest.raises(OSError, match="snap"):
            await t.read("b", "k", (500, 100))
        reader = await t.get_range("b", "k", 500, 10)
        assert await reader.read() == DATA[500:510]
    assert len(faults.injected) == 1


async def test_the_checksum_detects_a_corrupt_byte() -> None:
    t, _ = await store(Fault("get", corrupt_at=5000, times=2))
    async with t:
        with pytest.raises(ChecksumError):
            await t.read("b", "k")
        part = await t.read("b", "k", (0, 6000))
    wrong = [position for position, (a, b) in enumerate(zip(part, DATA, strict=False)) if a != b]
    assert wrong == [5000]


async def test_a_stalled_reader_can_be_cancelled() -> None:
    t, _ = await store(Fault("get", stall_after=100))
    async with t, t.get("b", "k") as reader:
        assert await reader.read(100) == DATA[:100]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await reader.read(1)


PUTS: dict[str, Callable[[Trove, Any], Awaitable[object]]] = {
    "put": lambda t, body: t.put("b", "k", body, size=5000),
    "upload_part": lambda t, body: upload(t, body),
}


async def upload(t: Trove, body: Any) -> None:
    upload_id = await t.initiate_multipart("b", "k")
    try:
        await t.upload_part("b", "k", upload_id, 1, body, size=5000)
    finally:
        assert await t.list_parts("b", "k", upload_id) == []
        await t.abort_multipart("b", "k", upload_id)


@pytest.mark.parametrize("verb", sorted(PUTS))
@pytest.mark.parametrize("body", [bytes(5000), [bytes(2000), bytes(3000)]])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"reset_after": 3000}, UnavailableError),
        ({"reset_after": 0, "error": ConnectionResetError()}, ConnectionResetError),
        ({"truncate_after": 3000}, BodySizeError),
    ],
)
async def test_a_body_that_breaks_stores_nothing(
    verb: str, body: Any, fault: dict[str, Any], error: type[Exception]
) -> None:
    t, faults = await store(Fault(verb, **fault))
    async with t:
        with pytest.raises(error):
            await PUTS[verb](t, body)
        assert await t.read("b", "k") == DATA
    assert struck(faults) == [(verb, "k")]


async def test_a_body_arrives_unchanged_without_a_fault_and_corrupt_with_one() -> None:
    t, _ = await store(Fault("put", reset_after=100, skip=1, times=0), Fault("put", corrupt_at=7, skip=1))
    async with t:
        for corrupt in (False, True, False):
            await t.put("b", "k", DATA)
            stored = await t.read("b", "k")
            assert [i for i, (a, b) in enumerate(zip(stored, DATA, strict=True)) if a != b] == ([7] if corrupt else [])


async def test_a_checksum_is_computed_from_the_corrupted_body() -> None:
    t, _ = await store(Fault("put", corrupt_at=7))
    async with t:
        with pytest.raises(ChecksumError):
            await t.put("b", "new", [DATA], checksum=f"md5:{MD5}")
        assert not await t.exists("b", "new")


async def test_a_watch_breaks_before_the_subscription_or_after_some_events() -> None:
    t, _ = await store(Fault("watch", error=UnavailableError), Fault("watch", error=ThrottledError, skip=2))
    async with t:
        with pytest.raises(UnavailableError):
            async with t.watch("b"):
                raise AssertionError("it stands")
        async with t.watch("b") as events:
            await t.put("b", "one", b"")
            assert (await anext(events)).key == "one"
            with pytest.raises(ThrottledError):
                await anext(events)


async def test_the_plan_can_be_changed_later() -> None:
    t, faults = await store(Fault("head", error=ObjectNotFoundError, times=None))
    async with t:
        assert not await t.exists("b", "k")
        faults.clear()
        assert await t.exists("b", "k")
        faults.add(Fault("head", error=ObjectNotFoundError))
        assert not await t.exists("b", "k")
    assert len(faults.injected) == 2


@pytest.mark.parametrize(
    "fault",
    [
        {},
        {"truncate_after": 1, "reset_after": 1},
        {"truncate_after": -1},
        {"stall_after": 1, "delay": 1},
        {"reset_after": 1, "when": "after"},
        {"corrupt_at": 1, "error": OSError()},
        {"delay": 1, "skip": -1},
        {"delay": -1},
    ],
)
async def test_an_invalid_fault_is_refused(fault: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        Fault("put", **fault)


@pytest.mark.parametrize("operation", ["putt", "list", "", "write_*", "PUT"])
async def test_a_fault_of_an_unknown_operation_is_refused(operation: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is no method of a driver"):
        Fault(operation, error=UnavailableError())


@pytest.mark.parametrize("operation", ["put", "watch", "*", "*_multipart", "presign_*", "list_versions_page"])
async def test_a_fault_of_a_known_operation(operation: str) -> None:
    assert Fault(operation, error=UnavailableError()).operation == operation


async def test_a_fault_with_an_unknown_when_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="when is 'before' or 'after', not 'later'"):
        Fault("put", error=UnavailableError(), when="later")  # type: ignore[arg-type]
