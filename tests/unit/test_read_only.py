"""`ReadOnly`: what reads is passed on, everything else is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest

import trove_async as trove
from trove_async.driver import CAPABILITIES, METHODS, Body, PresignMethod
from trove_async.layers import READS, ReadOnly
from trove_async.testing.mock import MockDriver
from trove_async.web import signed_urls

pytestmark = pytest.mark.asyncio

WRITES = {
    "abort_multipart", "append_part", "complete_multipart", "copy", "copy_part", "create_bucket", "delete",
    "delete_bucket", "delete_lifecycle", "delete_many", "delete_tags", "delete_version", "expire",
    "initiate_multipart", "presign_delete", "presign_post", "presign_put", "put", "restore_version", "server_copy",
    "set_lifecycle", "set_tags", "set_versioning", "transition", "upload_part",
}  # fmt: skip


async def test_every_method_of_drivers_is_one_or_the_other() -> None:
    """A new method belongs here, and is refused until it is listed in `READS`."""
    assert METHODS.keys() - {"open", "close"} == WRITES | READS
    assert not WRITES & READS


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"open", "close"}))
async def test_what_reads_is_passed_on_and_everything_else_is_refused(method: str) -> None:
    answers: dict[str, Any] = {method: _one_event if method == "watch" else "result"}
    inner = MockDriver(capabilities=CAPABILITIES, **answers)
    layer: Any = ReadOnly()(inner)
    special = {"body": Body(b"x"), "src": trove.ObjectRef("b", "k"), "dst": trove.ObjectRef("b", "l")}
    arguments = [special.get(name, name) for name in METHODS[method].parameters]
    if method == "watch":
        assert await anext(layer.watch("b", "options")) == "event"
    elif method in READS:
        assert await getattr(layer, method)(*arguments) == "result"
    else:
        with pytest.raises(trove.AccessDeniedError, match=f"the store is read-only: {method} would change it"):
            await getattr(layer, method)(*arguments)
    assert [call.name for call in inner.calls] == ([method] if method in READS else [])


async def _one_event(*_: object) -> AsyncIterator[str]:
    yield "event"


@contextmanager
def refused() -> Iterator[None]:
    with pytest.raises(PermissionError) as raised:
        yield
    assert type(raised.value) is trove.AccessDeniedError
    assert raised.value.driver in ("memory", "local")


@pytest.fixture(params=["memory", "local"])
def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    base = f"memory://{tmp_path.name}" if request.param == "memory" else f"local://{tmp_path}"
    return f"{base}?min_part_size=1&presign_url=http://files.test/objects{'' if 'memory' in base else '&fsync=0'}"


async def test_a_store_reads_the_same_and_stays_as_it_is(dsn: str) -> None:
    async with trove.open(dsn) as t, trove.open(dsn, layers=[trove.ReadOnly()]) as r:
        await t.create_bucket("b")
        await t.set_versioning("b", True)
        first = await t.put("b", "k", b"first", tags={"a": "b"})
        await t.put("b", "k", b"second", tags={"a": "b"})
        upload = await t.initiate_multipart("b", "open")
        await t.set_lifecycle("b", [trove.LifecycleRule("tmp", "tmp/", expiration_days=1)])
        ref = trove.ObjectRef("b", "k")
        before = await state(t)
        assert await state(r) == before
        assert first.version_id is not None
        assert await r.read("b", "k", version_id=first.version_id) == b"first"
        async with await r.get_range("b", "k", 1, 2) as reader:
            assert await reader.read() == b"ec"
        for work in (
            r.put("b", "k", b"third"),
            r.put("b", "new", b""),
            r.delete("b", "k"),
            r.delete("b", "missing"),
            r.delete_many("b", ["k"]),
            r.copy("b", "k", "b", "l"),
            r.move("b", "k", "b", "l"),
            r.server_copy(ref, trove.ObjectRef("b", "l")),
            r.create_bucket("c"),
            r.create_bucket("b", exist_ok=True),
            r.delete_bucket("b"),
            r.set_tags("b", "k", {}),
            r.delete_tags("b", "k"),
            r.set_versioning("b", False),
            r.delete_version("b", "k", first.version_id),
            r.restore_version("b", "k", first.version_id),
            r.initiate_multipart("b", "l"),
            r.abort_multipart("b", "open", upload),
            r.upload_part("b", "open", upload, 1, b"x"),
            r.append_part("b", "open", upload, 1, 0, b"x"),
            r.copy_part("b", "open", upload, 1, ref, 0, 1),
            r.set_lifecycle("b", []),
            r.delete_lifecycle("b"),
        ):
            with refused():
                await work
        with pytest.raises(trove.BulkError) as raised:
            await r.empty_bucket("b", versions=True)
        assert {type(result.error) for result in raised.value.failed} == {trove.AccessDeniedError}
        with refused():
            async with r.writer("b", "k") as writer:
                await writer.write(b"third")
        assert await state(t) == before


async def state(store: trove.Trove) -> list[object]:
    """Return everything that can be read of the bucket ``b``."""
    return [
        await store.list_buckets(),
        await store.list("b").all(),
        await store.list("b", delimiter="k").all(),
        await store.head("b", "k"),
        await store.read("b", "k"),
        await store.exists("b", "new"),
        await store.get_tags("b", "k"),
        await store.get_versioning("b"),
        await store.list_versions("b", "k"),
        await store.list_all_versions("b").all(),
        await store.list_multipart_uploads("b"),
        await store.get_lifecycle("b"),
    ]


async def test_the_body_of_a_refused_put_is_not_read() -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    async with trove.open("memory://", layers=[ReadOnly()]) as t:
        with refused():
            await t.put("b", "k", body())


async def test_events_are_read() -> None:
    async with trove.open("memory://watched") as t, trove.open("memory://watched", layers=[ReadOnly()]) as r:
        await t.create_bucket("b")
        async with r.watch("b") as events:
            await t.put("b", "k", b"")
            assert (await anext(events)).key == "k"


async def test_urls_are_signed_for_reading_only() -> None:
    inner = MockDriver(capabilities=[trove.PresignDriver], presign_get="url", presign_head="url")
    async with trove.open(inner, layers=[ReadOnly()]) as t:
        assert t.features.presign_methods == {"GET", "HEAD"}
        assert await t.presign_get("b", "k") == await t.presign_head("b", "k") == "url"
        for method in {*get_args(PresignMethod)} - {"GET", "HEAD"}:
            name = f"presign_{method.lower()}"
            assert not t.supports(name)
            size = {"max_size": 1} if method == "POST" else {}
            with pytest.raises(trove.UnsupportedError, match="the store is read-only, and whoever has such a URL"):
                await getattr(t, name)("b", "k", **size)


async def test_urls_that_another_store_has_signed_are_not_served_for_writing(dsn: str) -> None:
    async with trove.open(dsn) as t, trove.open(dsn, layers=[ReadOnly()]) as r:
        await t.create_bucket("b")
        await t.put("b", "k", b"first")
        transport = httpx.ASGITransport(app=signed_urls(r))
        async with httpx.AsyncClient(transport=transport) as client:
            assert (await client.get(await t.presign_get("b", "k"))).content == b"first"
            assert (await client.put(await t.presign_put("b", "k"), content=b"second")).status_code == 403
            assert (await client.delete(await t.presign_delete("b", "k"))).status_code == 403
        assert await t.read("b", "k") == b"first"


async def test_every_capability_stays() -> None:
    inner = MockDriver(capabilities=CAPABILITIES)
    layer = ReadOnly()(inner)
    assert layer.features.protocols == inner.features.protocols
    assert layer.features.conditions == inner.features.conditions
    assert trove.unwrap(layer, MockDriver) is inner
