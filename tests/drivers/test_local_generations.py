"""No two generations of a key are confused, whatever the file system does with times, attributes and names."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import trove_async as trove
from tests.drivers.local_residue import residue_of
from tests.drivers.odd_file_systems import KINDS
from trove_async.driver import VersioningDriver, VersionListingDriver
from trove_async.drivers.local import LocalDriver
from trove_async.errors import (
    InvalidPartError,
    ObjectAlreadyExistsError,
    PreconditionFailedError,
    UnsupportedError,
)
from trove_async.tree import WriteClock
from trove_async.types import PartInfo

pytestmark = pytest.mark.asyncio

LARGE = {"m": "x" * 30_000}
VERSIONED = list(KINDS)[:-2]


@pytest.fixture(params=VERSIONED)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    KINDS[name](monkeypatch)
    return name


@pytest_asyncio.fixture
async def store(tmp_path: Path, kind: str) -> AsyncIterator[trove.Trove]:
    async with trove.open(f"local://{tmp_path}?fsync=0&min_part_size=1") as t:
        await t.create_bucket("b")
        yield t
        assert residue_of(tmp_path) == []


async def etag(store: trove.Trove, key: str = "k") -> str:
    """Return the ETag of an object, about which every operation agrees."""
    head = await store.head("b", key)
    async with store.get("b", key) as reader:
        assert reader.info == head
    (found,) = [info for info in await store.list("b", prefix=key).all() if info.key == key]
    assert (found.etag, found.last_modified, found.size) == (head.etag, head.last_modified, head.size)
    return head.etag


async def test_every_write_has_its_own_etag(store: trove.Trove) -> None:
    seen: set[str] = set()
    for number in range(60):
        info = await store.put("b", "k", b"%05d" % number)
        assert info.etag == await etag(store)
        assert info.etag not in seen
        seen.add(info.etag)
        if number % 7 == 0:
            await store.delete("b", "k")
    copied = await store.copy("b", "k", "b", "copy")
    assert copied.etag == await etag(store, "copy")
    assert copied.etag not in seen


async def test_a_condition_does_not_hold_for_an_object_that_is_gone(store: trove.Trove) -> None:
    first = await store.put("b", "k", b"first")
    await store.put("b", "k", b"other")
    last = await store.put("b", "k", b"third")
    for stale in (first.etag, "0-0-5"):
        with pytest.raises(PreconditionFailedError):
            await store.put("b", "k", b"wrong", if_match=stale)
        with pytest.raises(PreconditionFailedError):
            await store.delete("b", "k", if_match=stale)
    with pytest.raises(ObjectAlreadyExistsError):
        await store.put("b", "k", b"wrong", if_none_match="*")
    await store.put("b", "k", b"right", if_match=last.etag)
    assert await store.read("b", "k") == b"right"


async def test_a_change_of_attributes_keeps_the_etag(store: trove.Trove) -> None:
    info = await store.put("b", "k", b"data")
    for tags in ({"a": "b"}, {}, {"a": "c"}):
        await store.set_tags("b", "k", tags)
        assert await store.get_tags("b", "k") == tags
        assert await etag(store) == info.etag


async def test_large_metadata_stay_with_their_object(store: trove.Trove, tmp_path: Path) -> None:
    for number in range(20):
        await store.put("b", "k", b"%d" % (number % 10), metadata={**LARGE, "n": str(number)})
        assert (await store.head("b", "k")).metadata["n"] == str(number)
    assert len([path for path in (tmp_path / ".trove/meta").rglob("*") if path.is_file()]) <= 1
    await store.delete("b", "k")
    assert [path for path in (tmp_path / ".trove/meta").rglob("*") if path.is_file()] == []


async def test_versions_are_in_order_and_whole(store: trove.Trove, tmp_path: Path) -> None:
    await store.put("b", "k", b"before", metadata={"n": "before"})
    await store.set_versioning("b", True)
    put = [await store.put("b", "k", b"%d" % n, metadata={**LARGE, "n": str(n)}) for n in range(6)]
    await store.delete("b", "k")
    found = await store.list_versions("b", "k")
    assert [version.is_delete_marker for version in found] == [True] + 7 * [False]
    assert [version.is_latest for version in found] == [True] + 7 * [False]
    for number, (version, info) in enumerate(zip(found[1:-1], reversed(put), strict=True)):
        assert (version.version_id, version.etag) == (info.version_id, info.etag)
        head = await store.head("b", "k", version_id=version.version_id)
        assert (head.etag, head.last_modified, head.metadata["n"]) == (info.etag, info.last_modified, str(5 - number))
        assert await store.read("b", "k", version_id=version.version_id) == b"%d" % (5 - number)
    assert await store.read("b", "k", version_id="null") == b"before"
    assert (await store.head("b", "k", version_id="null")).metadata == {"n": "before"}
    await store.delete_version("b", "k", found[0].version_id)
    assert await etag(store) == put[-1].etag
    for version in await store.list_versions("b", "k"):
        await store.delete_version("b", "k", version.version_id)
    assert [path for path in (tmp_path / ".trove/meta").rglob("*") if path.is_file()] == []
    await store.delete_bucket("b")


async def test_the_null_version_has_its_place_among_the_others(store: trove.Trove) -> None:
    for number in range(12):
        await store.set_versioning("b", number % 4 != 3)
        await store.put("b", "k", b"%d" % number)
    # In a suspended bucket each write replaces the null version before it.
    await store.set_versioning("b", False)
    await store.delete("b", "k")
    await store.set_versioning("b", True)
    await store.put("b", "k", b"last")
    found = await store.list_versions("b", "k")
    read = [None if v.is_delete_marker else await store.read("b", "k", version_id=v.version_id) for v in found]
    assert read == [b"last", None, b"10", b"9", b"8", b"6", b"5", b"4", b"2", b"1", b"0"]
    assert [version.version_id for version in found if version.is_delete_marker] == ["null"]


async def test_a_file_placed_by_hand_becomes_a_version_when_it_is_replaced(store: trove.Trove, tmp_path: Path) -> None:
    await store.set_versioning("b", True)
    await store.put("b", "k", b"first")
    (tmp_path / "b/new").write_bytes(b"by hand")
    with suppress(PermissionError):
        os.utime(tmp_path / "b/new", ns=(time.time_ns(), time.time_ns()))  # as exactly as this file system can
    os.rename(tmp_path / "b/new", tmp_path / "b/k")
    by_hand = await etag(store)
    await store.put("b", "k", b"last", if_match=by_hand)
    found = await store.list_versions("b", "k")
    assert [await store.read("b", "k", version_id=v.version_id) for v in found] == [b"last", b"by hand"]
    await trove.unwrap(store.driver, LocalDriver).sweep()  # of the object that was replaced by hand


async def test_a_part_that_was_uploaded_again_is_another(store: trove.Trove) -> None:
    upload = await store.initiate_multipart("b", "k")
    sent: list[PartInfo] = []
    for number in range(12):
        sent.append(await store.upload_part("b", "k", upload, 1, b"%05d" % number))
        assert await store.list_parts("b", "k", upload) == [sent[-1]]
    assert len({part.etag for part in sent}) == len(sent)
    for part in sent[:-1]:
        with pytest.raises(InvalidPartError):
            await store.complete_multipart("b", "k", upload, [part])
    info = await store.complete_multipart("b", "k", upload, [sent[-1]])
    assert await store.read("b", "k") == b"00011"
    assert info.etag == await etag(store)


async def test_a_sweep_keeps_what_objects_and_versions_use(store: trove.Trove) -> None:
    await store.set_versioning("b", True)
    put = [await store.put("b", "k", b"%d" % n, metadata={**LARGE, "n": str(n)}) for n in range(3)]
    driver = trove.unwrap(store.driver, LocalDriver)
    assert (await driver.sweep()).sidecars == 0
    for number, info in enumerate(put):
        assert (await store.head("b", "k", version_id=info.version_id)).metadata["n"] == str(number)


async def test_a_store_can_be_opened_again(store: trove.Trove, tmp_path: Path) -> None:
    info = await store.put("b", "k", b"data", metadata=LARGE)
    async with trove.open(f"local://{tmp_path}") as other:
        assert await other.head("b", "k") == info
        with pytest.raises(PreconditionFailedError):
            await other.put("b", "k", b"wrong", if_match=info.etag + "0")
        await other.put("b", "k", b"new", if_match=info.etag)


# What cannot be had


async def test_versions_are_not_declared_where_they_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trove.open(f"local://{tmp_path}") as t:
        await t.create_bucket("b")
        await t.set_versioning("b", True)
        await t.put("b", "k", b"first")
    KINDS["no times, no links"](monkeypatch)
    async with trove.open(f"local://{tmp_path}") as t:
        assert not t.supports(VersioningDriver)
        assert not t.supports(VersionListingDriver)
        with pytest.raises(UnsupportedError, match="neither give a file two names nor set its time"):
            await t.set_versioning("b", True)
        # The bucket keeps versions since another machine said so: what it holds is not lost.
        with pytest.raises(trove.TroveError, match="no versions are kept"):
            await t.put("b", "k", b"second")
        assert await t.read("b", "k") == b"first"


async def test_a_root_on_which_objects_cannot_be_distinguished_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    KINDS["no times, no attributes"](monkeypatch)
    with pytest.raises(UnsupportedError, match="neither extended attributes nor the time"):
        await trove.open(f"local://{tmp_path}")


async def test_a_file_that_may_not_be_linked_becomes_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux refuses to link files of others (``fs.protected_hardlinks``), which opening the store cannot show."""
    async with trove.open(f"local://{tmp_path}?fsync=0") as t:
        await t.create_bucket("b")
        await t.set_versioning("b", True)
        info = await t.put("b", "k", b"first", metadata=LARGE)
        original = os.link

        def link(source: str, target: str, **options: Any) -> None:
            if "/versions/" in target:
                raise OSError(errno.EPERM, "Operation not permitted")
            original(source, target, **options)

        monkeypatch.setattr(os, "link", link)
        await t.put("b", "k", b"second")
        assert await t.read("b", "k", version_id=info.version_id) == b"first"
        assert (await t.head("b", "k", version_id=info.version_id)).metadata == LARGE


# Clocks


async def test_a_clock_that_goes_back_keeps_versions_in_order(
    store: trove.Trove, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write is by another process, as far as its clock is concerned."""
    await store.set_versioning("b", True)
    real = time.time_ns
    for number, hours in enumerate((0, 5, -5, 2, -1)):
        monkeypatch.setattr(time, "time_ns", lambda hours=hours: real() + hours * 3_600_000_000_000)
        async with trove.open(f"local://{tmp_path}?fsync=0") as t:
            await t.put("b", "k", b"%d" % number)
            if number == 2:
                await t.delete("b", "k")
    found = await store.list_versions("b", "k")
    read = [None if v.is_delete_marker else await store.read("b", "k", version_id=v.version_id) for v in found]
    assert read == [b"4", b"3", None, b"2", b"1", b"0"]
    times = [version.last_modified for version in found if version.last_modified is not None]
    assert len(times) == 6
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("step", [1, 100])
async def test_a_clock_gives_each_write_a_time_that_is_stored_exactly(
    step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = WriteClock()
    clock.step = step
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_050)
    given = [clock() for _ in range(3)]
    assert given == [1_000_000_050 // step * step + n * step for n in range(3)]
    assert clock(2_000_000_000) == 2_000_000_000 + step
    assert clock() == given[-1] + 2 * step


async def test_settings_that_may_change_within_the_same_tick_are_read_again(tmp_path: Path) -> None:
    async with trove.open(f"local://{tmp_path}?fsync=0") as t:
        await t.create_bucket("b")
        await t.set_versioning("b", True)
        path = tmp_path / ".trove/buckets/b"
        status = path.stat()
        os.utime(path, ns=(0, time.time_ns() + 3_600_000_000_000))
        status = path.stat()
        assert await t.get_versioning("b") == "enabled"
        path.write_bytes(path.read_bytes().replace(b"enabled", b"suspended"))
        os.utime(path, ns=(0, status.st_mtime_ns))
        assert path.stat().st_ino == status.st_ino
        assert await t.get_versioning("b") == "suspended"
