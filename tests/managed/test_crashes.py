"""A process dies between any two steps: nothing that was acknowledged is lost, and what is left over is known."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import pytest

from tests.managed.dying import Death, Process
from tests.managed.state import BUCKET, check, rows, sha384, stored
from trove_async import Trove
from trove_async.errors import NotFoundError
from trove_async.managed import ManagedStorage, ResourceCatalog, StoreResourceStorage, new_put_response

pytestmark = pytest.mark.asyncio

OLD, NEW, SHARED, LOST = b"old", b"new content", b"shared by two", b"whose bytes were lost"


async def prove(m: ManagedStorage, path: str) -> None:
    request = await m.put_for_bucket_request("b", path, sha384(SHARED))
    await m.proof_of_access_response(await new_put_response(request, SHARED))


Operation = Callable[[ManagedStorage], Awaitable[object]]

OPERATIONS: Final[Mapping[str, tuple[Operation, bytes | None]]] = {
    "put new content": (lambda m: m.put_for_bucket("b", "p", NEW), NEW),
    "put content that is there": (lambda m: m.put_for_bucket("b", "p", SHARED), SHARED),
    "put the same again": (lambda m: m.put_for_bucket("b", "p", OLD), OLD),
    "put content whose bytes are lost": (lambda m: m.put_for_bucket("b", "p", LOST), LOST),
    "put content that is pending": (lambda m: m.put_for_bucket("b", "p", b"pending"), b"pending"),
    "put content that is condemned": (lambda m: m.put_for_bucket("b", "p", b"condemned"), b"condemned"),
    "remove": (lambda m: m.remove_for_bucket("b", "p"), None),
    "prove": (lambda m: prove(m, "p"), SHARED),
}


async def prepare(m: ManagedStorage) -> None:
    for owner, name, data in (("b", "p", OLD), ("other", "1", SHARED), ("other", "2", SHARED), ("lost", "p", LOST)):
        await m.put_for_bucket(owner, name, data)
    await m.put_for_bucket("b", "condemned", b"condemned")
    await m.remove_for_bucket("b", "condemned")
    await m.catalogue.put(sha384(b"pending"), 7)
    lost = await m.catalogue.get(await m.catalogue.find(sha384(LOST)))
    await m.storage.remove(lost.path)


async def content(m: ManagedStorage, bucket: str, path: str) -> bytes | None:
    try:
        async with m.get_for_bucket(bucket, path) as reader:
            return await reader.read()
    except NotFoundError:
        return None


@pytest.mark.parametrize("name", OPERATIONS)
async def test_death_between_any_two_steps(
    m: ManagedStorage, store: Trove, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    operation, expected = OPERATIONS[name]
    place = 0
    while True:
        place += 1
        catalogue = ResourceCatalog(m.catalogue.database, f"{m.catalogue.space} {place}")
        fresh = ManagedStorage(catalogue, StoreResourceStorage(store, BUCKET, str(place)))
        await prepare(fresh)
        process = Process(place)
        acknowledged = True
        try:
            await operation(process.managed(fresh))
        except Death:
            acknowledged = False
        assert await content(fresh, "b", "p") in ([expected] if acknowledged else [OLD, expected])
        assert await content(fresh, "other", "1") == await content(fresh, "other", "2") == SHARED
        await verify(fresh)
        if acknowledged:
            assert place > 2
            return
        try:  # the same again, by a process that lives
            await operation(fresh)
        except NotFoundError:
            assert name == "remove"
        assert await content(fresh, "b", "p") == expected
        await verify(fresh)


async def verify(m: ManagedStorage) -> None:
    """Check all but the bytes that were lost before; at most one key is left over, which `fsck` finds."""
    lost = await m.catalogue.get(await m.catalogue.find(sha384(LOST)))
    is_missing = lost.path not in await stored(m)
    if is_missing:
        await m.storage.put(lost.path, LOST)
    await check(m, strays=None)
    known = {blob.key for blob in (await rows(m)).blobs}
    assert len((await stored(m)).keys() - known) <= 1
    if is_missing:
        await m.storage.remove(lost.path)
