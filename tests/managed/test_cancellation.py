"""Calls that are cancelled wherever they wait: no bytes are left over, and names have the old content or the new."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

import pytest

from tests.managed.state import check, rows, sha384, stored
from trove_async.errors import NotFoundError
from trove_async.managed import ManagedStorage, new_put_response
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere

pytestmark = pytest.mark.asyncio

OLD, NEW, SHARED = b"old", b"new content", b"shared"


async def chunks() -> AsyncIterator[bytes]:
    yield NEW[:3]
    yield NEW[3:]


async def announce(m: ManagedStorage) -> None:
    id, path = await m.catalogue.put(sha384(NEW), len(NEW))
    assert not path
    await m.catalogue.remove(id)


Operation = Callable[[ManagedStorage], Awaitable[object]]

OPERATIONS: Final[Mapping[str, tuple[Operation, set[bytes | None]]]] = {
    "put": (lambda m: m.put_for_bucket("b", "p", NEW), {OLD, NEW}),
    "put a stream": (lambda m: m.put_for_bucket("b", "p", chunks()), {OLD, NEW}),
    "put content that is there": (lambda m: m.put_for_bucket("b", "p", SHARED), {OLD, SHARED}),
    "remove": (lambda m: m.remove_for_bucket("b", "p"), {OLD, None}),
    "get": (lambda m: read(m), {OLD}),
    "announce": (announce, {OLD}),
}


async def read(m: ManagedStorage) -> bytes | None:
    try:
        async with m.get_for_bucket("b", "p") as reader:
            return await reader.read()
    except NotFoundError:
        return None


@pytest.mark.parametrize("delivery", Delivery)
@pytest.mark.parametrize("name", OPERATIONS)
async def test_cancelled_everywhere(
    on_sqlite: ManagedStorage, name: str, delivery: Delivery, await_point_step: int
) -> None:
    m = on_sqlite
    operation, allowed = OPERATIONS[name]

    async def prepare() -> None:
        await m.put_for_bucket("b", "p", OLD)
        await m.put_for_bucket("other", "p", SHARED)

    async def verify(outcome: Outcome[object]) -> None:
        assert outcome.error is None
        assert outcome.left_running == frozenset()
        assert await read(m) in allowed
        await check(m)
        for blob in (await rows(m)).blobs:  # of an announcement that was not withdrawn
            if blob.held:
                await m.catalogue.remove(blob.id)

    points = await cancel_everywhere(
        lambda: operation(m), delivery, prepare=prepare, check=verify, step=min(await_point_step, 2)
    )
    assert points >= 1


@pytest.mark.parametrize("delivery", Delivery)
async def test_a_proof_that_is_cancelled_everywhere(
    on_sqlite: ManagedStorage, delivery: Delivery, await_point_step: int
) -> None:
    m = on_sqlite
    callers = iter(range(1000))

    async def prepare() -> None:
        await m.put_for_bucket("b", "p", OLD)
        await m.put_for_bucket("other", "p", SHARED)

    async def operation() -> None:
        caller = f"caller {next(callers)}"
        request = await m.put_for_bucket_request("b", "p", sha384(SHARED), caller=caller)
        response = await new_put_response(request, iter([SHARED]))
        await m.proof_of_access_response(response, caller=caller)

    async def verify(outcome: Outcome[None]) -> None:
        assert outcome.error is None
        assert outcome.left_running == frozenset()
        assert await read(m) in (OLD, SHARED)
        await check(m)

    await cancel_everywhere(operation, delivery, prepare=prepare, check=verify, step=await_point_step)


async def test_a_cancelled_put_does_not_stop_those_that_share_its_transaction(m: ManagedStorage) -> None:
    puts = [asyncio.create_task(m.put_for_bucket("b", str(n), b"%d" % n)) for n in range(20)]
    for rounds in range(40):
        await asyncio.sleep(0)
        if rounds % 4 == 0:
            puts[rounds // 4].cancel()
    outcomes = await asyncio.gather(*puts, return_exceptions=True)
    assert not any(isinstance(outcome, Exception) for outcome in outcomes)
    there = {info.resource.path async for info in m.list_for_bucket("b")}
    assert {str(n) for n in range(10, 20)} <= there
    await check(m)
    assert len(await stored(m)) == len(there)
