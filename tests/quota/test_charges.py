"""What each operation is charged, and what it gives back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

import trove_async as trove
from tests.quota.truth import AMPLE, held, layers, quota_of, used
from trove_async.driver import METHODS, Body
from trove_async.driver.options import PresignOptions, PutOptions
from trove_async.layers.quota.operations import HANDLERS, UNCOUNTED

pytestmark = pytest.mark.asyncio

Step = Callable[[trove.Trove], Awaitable[object]]


async def chunks(count: int, size: int = 10) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * size


async def begun(t: trove.Trove, key: str = "u") -> str:
    return await t.initiate_multipart("b", key)


async def part(t: trove.Trove, upload: str, number: int, size: int) -> trove.PartInfo:
    return await t.upload_part("b", "u", upload, number, b"p" * size)


async def test_every_method_is_known() -> None:
    """A method that is neither counted nor declared harmless could bypass the quota."""
    assert HANDLERS.keys() | UNCOUNTED == METHODS.keys() - {"open", "close"}
    assert not HANDLERS.keys() & UNCOUNTED


async def put_twice(t: trove.Trove) -> None:
    await t.put("b", "a", b"x" * 30)
    await t.put("b", "a", b"x" * 10)


async def put_of_unknown_length(t: trove.Trove) -> None:
    await t.put("b", "a", chunks(5))


async def put_and_delete(t: trove.Trove) -> None:
    await t.put("b", "a", b"x" * 30)
    await t.put("b", "c", b"x")
    await t.delete("b", "a")
    await t.delete("b", "missing")


async def delete_several(t: trove.Trove) -> None:
    for key in ("a", "c", "d"):
        await t.put("b", key, b"x" * 5)
    await t.delete_many("b", ["a", "missing", "d", "d"])


async def copy_twice(t: trove.Trove) -> None:
    await t.put("b", "a", b"x" * 30)
    await t.copy("b", "a", "b", "c")
    await t.copy("b", "a", "b", "c")
    await t.copy("b", "a", "b", "a", replace=True, content_type="text/plain")


async def copy_on_the_server(t: trove.Trove) -> None:
    await t.put("b", "a", b"x" * 30)
    await t.server_copy(trove.ObjectRef("b", "a"), trove.ObjectRef("b", "c"))


async def move(t: trove.Trove) -> None:
    await t.put("b", "a", b"x" * 30)
    await t.move("b", "a", "b", "c")


async def copy_from_outside(t: trove.Trove) -> None:
    await t.create_bucket("other")
    await t.put("other", "a", b"x" * 30)
    await t.copy("other", "a", "b", "c")


async def open_parts(t: trove.Trove) -> None:
    upload = await begun(t)
    await part(t, upload, 1, 30)
    await part(t, upload, 1, 20)
    await part(t, upload, 2, 5)


async def part_of_unknown_length(t: trove.Trove) -> None:
    await t.upload_part("b", "u", await begun(t), 1, chunks(3))


async def part_that_grows(t: trove.Trove) -> None:
    upload = await begun(t)
    await t.append_part("b", "u", upload, 1, 0, b"x" * 30)
    await t.append_part("b", "u", upload, 1, 30, b"x" * 30)
    await t.append_part("b", "u", upload, 1, 40, chunks(3))
    await t.append_part("b", "u", upload, 1, 50, b"x" * 5)


async def part_that_stays_with_what_was_written(t: trove.Trove) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 10
        raise trove.ObjectNotFoundError("the source is gone")

    upload = await begun(t)
    for number, size in ((1, 30), (2, 5), (3, 20)):
        await part(t, upload, number, size)
    cases: tuple[tuple[int, int, int | None], ...] = ((1, 30, 15), (2, 5, None), (3, 0, None))
    for number, offset, declared in cases:
        with pytest.raises(trove.ObjectNotFoundError):
            await t.append_part("b", "u", upload, number, offset, broken(), size=declared)
    with pytest.raises(trove.InvalidPartError):
        await t.append_part("b", "u", upload, 1, 100, b"x")


async def part_of_an_object(t: trove.Trove) -> None:
    await t.put("b", "a", b"x" * 30)
    await t.copy_part("b", "u", await begun(t), 1, trove.ObjectRef("b", "a"), 10, 20)


async def completed(t: trove.Trove) -> None:
    await t.put("b", "u", b"x" * 3)
    upload = await begun(t)
    parts = [await part(t, upload, number, 10 * number) for number in (1, 2, 3)]
    await t.complete_multipart("b", "u", upload, parts[:2])


async def aborted(t: trove.Trove) -> None:
    upload = await begun(t)
    await part(t, upload, 1, 30)
    await t.abort_multipart("b", "u", upload)
    await t.abort_multipart("b", "u", upload)


async def versions(t: trove.Trove) -> None:
    await t.put("b", "a", b"x" * 3)
    await t.set_versioning("b", True)
    for size in (10, 20, 30):
        await t.put("b", "a", b"x" * size)
    await t.delete("b", "a")
    await t.put("b", "c", b"x")


async def version_deleted(t: trove.Trove) -> None:
    await t.set_versioning("b", True)
    first = await t.put("b", "a", b"x" * 10)
    second = await t.put("b", "a", b"x" * 20)
    assert first.version_id is not None
    assert second.version_id is not None
    await t.delete_version("b", "a", first.version_id)
    await t.delete("b", "a", version_id=second.version_id)
    await t.put("b", "a", b"x" * 5)


async def version_restored(t: trove.Trove) -> None:
    await t.set_versioning("b", True)
    first = await t.put("b", "a", b"x" * 10)
    assert first.version_id is not None
    await t.put("b", "a", b"x" * 20)
    await t.restore_version("b", "a", first.version_id)


async def versioning_suspended(t: trove.Trove) -> None:
    await t.set_versioning("b", True)
    await t.put("b", "a", b"x" * 10)
    await t.set_versioning("b", False)
    await t.put("b", "a", b"x" * 20)
    await t.put("b", "a", b"x" * 30)
    await t.put("b", "c", b"x" * 5)
    await t.delete("b", "c")


async def emptied(t: trove.Trove) -> None:
    await versions(t)
    await t.empty_bucket("b", versions=True)


async def written_by_writer(t: trove.Trove) -> None:
    async with t.writer("b", "a") as writer:
        await writer.write(b"x" * 30)
        await writer.write(b"x" * 3)


async def uploaded_and_bucket_replaced(t: trove.Trove) -> None:
    await put_and_delete(t)
    await t.set_versioning("b", True)
    await t.empty_bucket("b", versions=True)
    await t.delete_bucket("b")
    await t.create_bucket("b")
    await put_twice(t)


CASES: dict[Step, tuple[int, int]] = {
    put_twice: (10, 1),
    put_of_unknown_length: (50, 1),
    put_and_delete: (1, 1),
    delete_several: (5, 1),
    copy_twice: (60, 2),
    copy_on_the_server: (60, 2),
    move: (30, 1),
    copy_from_outside: (30, 1),
    open_parts: (25, 0),
    part_of_unknown_length: (30, 0),
    part_that_grows: (55, 0),
    part_that_stays_with_what_was_written: (65, 0),
    part_of_an_object: (50, 1),
    completed: (30, 1),
    aborted: (0, 0),
    versions: (64, 5),
    version_deleted: (5, 1),
    version_restored: (40, 3),
    versioning_suspended: (40, 2),
    emptied: (0, 0),
    written_by_writer: (33, 1),
    uploaded_and_bucket_replaced: (10, 1),
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_what_is_counted_is_what_is_there(store: trove.Trove, case: Step) -> None:
    await case(store)
    assert await used(store) == CASES[case] == await held(store)
    await quota_of(store).recount()
    assert await used(store) == CASES[case]


REFUSED: dict[str, Callable[[trove.Trove, str], Awaitable[object]]] = {
    "put": lambda t, _: t.put("b", "new", b"x" * 101),
    "put of unknown length": lambda t, _: t.put("b", "new", chunks(11)),
    "overwrite": lambda t, _: t.put("b", "old", b"x" * 201),
    "part": lambda t, upload: t.upload_part("b", "u", upload, 2, b"x" * 101),
    "part of unknown length": lambda t, upload: t.upload_part("b", "u", upload, 2, chunks(11)),
    "appended": lambda t, upload: t.append_part("b", "u", upload, 1, 300, b"x" * 101),
    "copied part": lambda t, upload: t.copy_part("b", "u", upload, 2, trove.ObjectRef("b", "large"), 0, 101),
    "copy": lambda t, _: t.copy("b", "large", "b", "new"),
    "server copy": lambda t, _: t.server_copy(trove.ObjectRef("b", "large"), trove.ObjectRef("b", "new")),
    "copy from another bucket": lambda t, _: t.copy("other", "large", "b", "new"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_does_not_fit_is_refused_and_stores_nothing(store: trove.Trove, case: str) -> None:
    await store.create_bucket("other")
    await store.put("other", "large", b"x" * 500)
    await store.put("b", "old", b"x" * 100)
    await store.put("b", "large", b"x" * 500)
    upload = await begun(store)
    await part(store, upload, 1, 300)
    before = await held(store)
    with pytest.raises(trove.QuotaExceededError) as raised:
        await REFUSED[case](store, upload)
    error = raised.value
    assert isinstance(error, trove.StorageFullError)
    assert (error.quota, error.resource, error.limit, error.bucket) == ("b", "bytes", 1000, "b")
    assert error.used + error.asked > 1000
    assert await held(store) == before == await used(store)


async def test_a_body_of_unknown_length_may_fill_the_quota_to_the_last_byte(store: trove.Trove) -> None:
    await store.put("b", "a", chunks(100))
    assert await used(store) == (1000, 1)
    with pytest.raises(trove.QuotaExceededError, match="'b' allows 1000 bytes: 1000 are stored or reserved"):
        await store.put("b", "c", b"x")
    await store.put("b", "c", b"")


async def test_an_overwrite_needs_room_for_the_difference_only(store: trove.Trove) -> None:
    await store.put("b", "a", b"x" * 900)
    await store.put("b", "a", b"y" * 1000)
    await store.put("b", "a", b"z" * 1000)
    with pytest.raises(trove.QuotaExceededError, match="needs 1 more"):
        await store.put("b", "a", b"z" * 1001)
    assert await store.read("b", "a") == b"z" * 1000


async def test_objects_are_limited_too(store: trove.Trove) -> None:
    for n in range(20):
        await store.put("b", str(n), b"")
    await store.put("b", "0", b"again")
    with pytest.raises(trove.QuotaExceededError, match="allows 20 objects: 20 are stored or reserved"):
        await store.put("b", "new", b"")
    upload = await begun(store)
    one = await part(store, upload, 1, 1)
    with pytest.raises(trove.QuotaExceededError) as raised:
        await store.complete_multipart("b", "u", upload, [one])
    assert raised.value.resource == "objects"
    await store.delete("b", "0")
    await store.complete_multipart("b", "u", upload, [one])
    assert await used(store) == (1, 20)


async def test_an_upload_that_fills_the_quota_can_be_completed(store: trove.Trove) -> None:
    upload = await begun(store)
    parts = [await part(store, upload, number, 500) for number in (1, 2)]
    await store.complete_multipart("b", "u", upload, parts)
    assert await used(store) == (1000, 1)


async def test_an_old_version_is_not_freed_by_a_deletion(store: trove.Trove) -> None:
    await store.set_versioning("b", True)
    await store.put("b", "a", b"x" * 600)
    await store.delete("b", "a")
    with pytest.raises(trove.QuotaExceededError):
        await store.put("b", "a", b"x" * 600)
    await store.empty_bucket("b", versions=True)
    await store.put("b", "a", b"x" * 600)


async def test_all_limits_of_a_key_hold(dsn: str, database: str | None) -> None:
    limits = {
        "": trove.QuotaLimit(objects=5),
        "b": trove.QuotaLimit(bytes=100),
        "b/t/": trove.QuotaLimit(bytes=50),
        "b/t/a": trove.QuotaLimit(bytes=20),
    }
    async with trove.open(dsn, layers=layers(limits, database)) as t:
        for bucket in ("b", "c"):
            await t.create_bucket(bucket)
        await t.put("b", "t/a", b"x" * 20)
        for key, size, quota in (("t/a/1", 1, "b/t/a"), ("t/c", 31, "b/t/"), ("c", 81, "b")):
            with pytest.raises(trove.QuotaExceededError) as raised:
                await t.put("b", key, b"x" * size)
            assert raised.value.quota == quota
        for n in range(4):
            await t.put("c", str(n), b"x" * 200)
        with pytest.raises(trove.QuotaExceededError, match="the quota of the store allows 5 objects"):
            await t.put("c", "new", b"")
        assert {usage.quota: (usage.bytes, usage.objects) for usage in await quota_of(t).usage()} == {
            "": (820, 5),
            "b": (20, 1),
            "b/t/": (20, 1),
            "b/t/a": (20, 1),
        }


async def test_keys_without_a_limit_cost_nothing(dsn: str, database: str | None) -> None:
    async with trove.open(dsn, layers=layers({"b/t/": trove.QuotaLimit(objects=0)}, database)) as t:
        await t.create_bucket("b")
        await t.put("b", "t", b"x")
        await t.copy("b", "t", "b", "s")
        await t.delete_many("b", ["t"])
        with pytest.raises(trove.QuotaExceededError):
            await t.put("b", "t/x", b"x")
        assert await used(t, "b/t/") == (0, 0)


async def test_signed_urls_do_not_bypass_the_quota(store: trove.Trove) -> None:
    assert store.features.presign_methods == {"GET", "HEAD"}
    assert store.supports(trove.PresignDriver)
    await store.presign_get("b", "a")
    for sign in (store.presign_put, store.presign_delete):
        with pytest.raises(trove.UnsupportedError, match="the quota"):
            await sign("b", "a")
    with pytest.raises(trove.UnsupportedError, match="without the quota"):
        await store.presign_post("b", "a", max_size=1)
    driver = quota_of(store)
    with pytest.raises(trove.UnsupportedError, match="signs no URL for PUT"):
        await driver.presign_put("b", "a", PresignOptions())  # type: ignore[attr-defined]


async def test_a_failed_write_gives_back_what_was_reserved(store: trove.Trove) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 900
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        await store.put("b", "a", broken())
    with pytest.raises(trove.BodySizeError):
        await store.put("b", "a", chunks(3), size=20)
    await store.put("b", "c", b"x")
    for condition in ({"if_none_match": "*"}, {"if_match": "other"}):
        with pytest.raises(trove.PreconditionFailedError):
            await store.put("b", "c", b"x" * 999, **condition)  # type: ignore[arg-type]
    with pytest.raises(trove.BucketNotFoundError):
        await quota_of(store).put("missing", "a", Body(b"x"), PutOptions())
    assert await used(store) == (1, 1)


async def test_a_body_can_be_put_again_after_it_was_refused(dsn: str) -> None:
    """A replayable body of unknown length is not bound to the reservation of its first put."""
    async with trove.open(dsn, layers=layers({"b": trove.QuotaLimit(bytes=100)}, None)) as t:
        await t.create_bucket("b")
        await t.put("b", "a", b"x" * 90)
        with pytest.raises(trove.QuotaExceededError):
            await t.put("b", "c", chunks(2))
        await t.delete("b", "a")
        await t.put("b", "c", chunks(2))
        assert await used(t) == (20, 1)


async def test_what_was_there_before_is_counted(dsn: str, database: str | None) -> None:
    async with trove.open(dsn) as plain:
        await plain.create_bucket("b")
        for n in range(1200):  # more than a page
            await plain.put("b", f"t/{n}", b"xy")
        await plain.put("b", "u", b"xyz")
        upload = await begun(plain)
        await part(plain, upload, 1, 7)
    async with trove.open(dsn, layers=layers({"b": AMPLE, "b/t/": AMPLE}, database)) as t:
        assert (await used(t), await used(t, "b/t/")) == ((2410, 1201), (2400, 1200))
        await t.delete("b", "t/7")
        await t.abort_multipart("b", "u", upload)
        assert (await used(t), await used(t, "b/t/")) == ((2401, 1200), (2398, 1199))
