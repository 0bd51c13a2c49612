"""Symbolic links in a root: none leads out of it, whenever it appears."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import trove_async as trove
from trove_async.drivers.local import LocalDriver, handles
from trove_async.drivers.local.filesystem import LocalFileSystem
from trove_async.drivers.local.handles import Handles
from trove_async.errors import BackendError, NotFoundError, ObjectAlreadyExistsError, TroveError
from trove_async.tree import Stat
from trove_async.tree.lookup import Lookup

pytestmark = pytest.mark.asyncio


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    folder = tmp_path / "victim"
    (folder / "deep/er").mkdir(parents=True)
    (folder / "deep/er/a.jpg").write_bytes(b"precious")
    (folder / "secret").write_bytes(b"secret")
    return folder


def content(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


WHOLE = ["deep", "deep/er", "deep/er/a.jpg", "secret"]


@pytest.fixture(params=["openat2", "one handle for each step"], autouse=True)
def _resolution(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "openat2":
        monkeypatch.setattr(handles, "_openat2", lambda: None)


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[trove.Trove]:
    async with trove.open(f"local://{tmp_path}/root?create=1&fsync=0&min_part_size=1") as t:
        await t.create_bucket("b")
        await t.put("b", "dir/sub/own", b"own")
        yield t


# In .trove


@pytest.mark.parametrize(
    "name", ["", "tmp", "locks", "format", "buckets", "uploads", "versions", "meta", "presign.key"]
)
@pytest.mark.parametrize("dangling", [False, True], ids=["", "dangling"])
async def test_a_link_in_the_internal_directory_is_refused_at_open(
    tmp_path: Path, victim: Path, name: str, dangling: bool
) -> None:
    internal = tmp_path / "root/.trove"
    (internal if name else internal.parent).mkdir(parents=True)
    (internal / name if name else internal).symlink_to(tmp_path / "planted" if dangling else victim)
    with pytest.raises(BackendError, match="must not be a symbolic link"):
        await trove.open(f"local://{tmp_path}/root?presign_url=http://localhost/x")
    assert content(victim) == WHOLE
    assert not (tmp_path / "planted").exists()


async def test_links_that_appear_later_are_not_followed(store: trove.Trove, tmp_path: Path, victim: Path) -> None:
    internal = tmp_path / "root/.trove"
    for name in ("uploads", "versions", "meta"):
        (internal / name).mkdir(exist_ok=True)
        (internal / name / "b").symlink_to(victim)
    (internal / "tmp/linked").symlink_to(victim)
    await trove.unwrap(store.driver, LocalDriver).sweep()
    assert content(victim) == WHOLE
    with pytest.raises(TroveError):
        await store.initiate_multipart("b", "key")
    with pytest.raises(TroveError):
        await store.put("b", "key", b"data", metadata={"a": "x" * 100_000})
    assert content(victim) == WHOLE
    await store.delete("b", "dir/sub/own")
    await store.delete_bucket("b")
    assert content(victim) == WHOLE


# In buckets


async def reads(store: trove.Trove, key: str) -> bytes | None:
    try:
        return await store.read("b", key)
    except NotFoundError:
        return None


async def test_no_operation_follows_a_link_in_a_bucket(store: trove.Trove, tmp_path: Path, victim: Path) -> None:
    bucket = tmp_path / "root/b"
    (bucket / "link").symlink_to(victim)
    (bucket / "dir/link").symlink_to(victim)
    (bucket / "file").symlink_to(victim / "secret")
    (tmp_path / "root/linked").symlink_to(victim)
    assert [info.key async for info in store.list("b")] == ["dir/sub/own"]
    assert [found.name for found in await store.list_buckets()] == ["b"]
    for key in ("link/secret", "dir/link/secret", "file", "link/deep/er/a.jpg", "dir/link/deep/er/a.jpg"):
        assert await reads(store, key) is None
        assert not await store.exists("b", key)
        await store.delete("b", key)
        await store.put("b", key, b"new")
        assert await reads(store, key) == b"new"
        await store.delete("b", key)
        assert (victim / "secret").read_bytes() == b"secret"
        assert content(victim) == WHOLE
    with pytest.raises(trove.BucketNotFoundError):
        await store.read("linked", "secret")
    with pytest.raises(trove.BucketNotFoundError):
        await store.put("linked", "new", b"data")
    assert content(victim) == WHOLE


@pytest.mark.parametrize("condition", ["none", "*"])
async def test_what_was_decided_by_a_directory_that_is_gone_is_decided_again(
    store: trove.Trove, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, condition: str
) -> None:
    """Another process removes the directory, makes it again and stores the key, before this one gets the lock."""
    folder = tmp_path / "root/b/dir/sub"
    locate = Lookup.locate
    seen: list[object] = []

    async def too_late(self: Lookup, bucket: str, key: str) -> tuple[str, Stat | None]:
        found = await locate(self, bucket, key)
        seen.append(found[1])
        if len(seen) == 1:
            (folder / "own").unlink()
            folder.rmdir()
            folder.mkdir()
            (folder / "new").write_bytes(b"theirs")
        return found

    await store.set_versioning("b", True)
    monkeypatch.setattr(Lookup, "locate", too_late)
    if condition == "*":
        with pytest.raises(ObjectAlreadyExistsError):
            await store.put("b", "dir/sub/new", b"data", if_none_match="*")
        assert await store.read("b", "dir/sub/new") == b"theirs"
    else:
        await store.put("b", "dir/sub/new", b"data")
        assert await store.read("b", "dir/sub/new") == b"data"
        assert len(await store.list_versions("b", "dir/sub/new")) == 2
    assert seen[0] is None


@pytest.mark.parametrize("level", ["dir", "dir/sub"])
async def test_a_directory_that_becomes_a_link_at_any_moment_leads_nowhere(
    store: trove.Trove, tmp_path: Path, victim: Path, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call that opens a directory is a moment at which another process may swap it."""
    bucket = tmp_path / "root/b"
    kept = tmp_path / "kept"
    real = Handles.open
    left = 0

    def swap() -> None:
        (bucket / level).rename(kept)
        (bucket / level).symlink_to(victim)

    def restore() -> None:
        if kept.exists():
            (bucket / level).unlink()
            kept.rename(bucket / level)

    def swapping(self: Handles, path: str, flags: int = handles.DIRECTORY) -> int:
        nonlocal left
        left -= 1
        if left == 0:
            swap()
        return real(self, path, flags)

    monkeypatch.setattr(Handles, "open", swapping)
    below = "dir/sub" if level == "dir/sub" else "dir/deep"
    for moment in range(1, 12):
        for operation in ("read", "put", "delete", "list", "copy"):
            left = moment
            try:
                if operation == "read":
                    for key in (f"{level}/secret", f"{below}/er/a.jpg"):
                        assert await reads(store, key) is None
                elif operation == "put":
                    await store.put("b", f"{level}/planted", b"data")
                elif operation == "delete":
                    await store.delete("b", f"{level}/secret")
                elif operation == "list":
                    assert not {info.key async for info in store.list("b")} & {f"{level}/secret"}
                else:
                    await store.copy("b", "dir/sub/own", "b", f"{level}/copied")
            except TroveError:
                pass
            left = 0
            restore()
            assert content(victim) == WHOLE
            for name in ("planted", "copied"):
                for directory in (level, f"{level}%D", "dir%D", "dir/sub%D", "dir%D/sub"):
                    (bucket / directory / name).unlink(missing_ok=True)
                await store.delete("b", f"{level}/{name}")


async def test_a_directory_that_is_removed_and_made_again_is_looked_up_again(
    store: trove.Trove, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Operations that wait together share a handle, which may be that of a directory that is gone by now."""
    publish = LocalFileSystem.publish
    folder = tmp_path / "root/b/dir/sub"
    replaced = False

    async def replace_first(self: LocalFileSystem, *args: object, **kwargs: object) -> None:
        nonlocal replaced
        if not replaced:
            replaced = True
            (folder / "own").unlink()
            folder.rmdir()
            folder.mkdir()
        await publish(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalFileSystem, "publish", replace_first)
    await store.put("b", "dir/sub/new", b"data", if_none_match="*")
    assert (folder / "new").read_bytes() == b"data"
    assert await store.read("b", "dir/sub/new") == b"data"
