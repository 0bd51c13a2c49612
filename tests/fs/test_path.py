"""Paths of a store: directories, listings, and trees that are moved, copied and removed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trove_async as trove
from tests.fs.conftest import Place
from tests.fs.counting import counted
from trove_async.errors import (
    BackendError,
    BucketNotEmptyError,
    BucketNotFoundError,
    BulkError,
    InvalidArgumentError,
    ObjectNotFoundError,
    PreconditionFailedError,
)
from trove_async.fs import StorePath
from trove_async.globs import expression
from trove_async.testing.faults import Fault, Faults
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere

pytestmark = pytest.mark.asyncio

TREE = ["a.txt", "d/1.txt", "d/2.bin", "d/e/3.txt", "d/e/f/4.txt", "d!", "g/5.txt"]


async def fill(root: StorePath, *names: str) -> None:
    for name in names or TREE:
        await root.store.put(root.bucket, root.prefix + name, name.encode())


async def keys(store: trove.Trove, bucket: str = "b") -> list[str]:
    return [info.key async for info in store.list(bucket)]


async def below(paths: AsyncIterator[StorePath]) -> list[str]:
    return ["/".join(path.parts) async for path in paths]


@pytest.fixture
def root(store: trove.Trove) -> StorePath:
    return StorePath(store, "b")


async def test_a_tree_on_every_backend(place: Place) -> None:
    root = StorePath(place.store, place.bucket)
    assert await root.exists()
    assert await root.is_dir()
    assert await below(root.iterdir()) == []
    await fill(root)
    assert await below(root.iterdir()) == ["a.txt", "d!", "d", "g"]
    assert await below((root / "d").iterdir()) == ["d/1.txt", "d/2.bin", "d/e"]
    assert await below(root.glob("*/*.txt")) == ["d/1.txt", "g/5.txt"]
    assert await below(root.rglob("*.txt")) == ["a.txt", "d/1.txt", "d/e/3.txt", "d/e/f/4.txt", "g/5.txt"]
    assert await (root / "d").is_dir()
    assert not await (root / "d").is_file()
    assert await (root / "d/1.txt").is_file()
    assert not await (root / "d/1.txt").is_dir()
    assert not await (root / "d/1").exists()

    await (root / "d").rename(root / "moved")
    assert await (root / "moved/e/f/4.txt").read_bytes() == b"d/e/f/4.txt"
    await (root / "moved").copy_to(root / "copy")
    assert await (root / "moved").rmtree() == 4
    assert await keys(place.store, place.bucket) == [
        "a.txt", "copy/1.txt", "copy/2.bin", "copy/e/3.txt", "copy/e/f/4.txt", "d!", "g/5.txt"
    ]  # fmt: skip
    await (root / "a.txt").rename(root / "g" / "a.txt")
    assert await (root / "g/a.txt").read_text() == "a.txt"
    await (root / "g/a.txt").unlink()
    with pytest.raises(FileNotFoundError):
        await (root / "g/a.txt").unlink()
    await (root / "g/a.txt").unlink(missing_ok=True)
    assert (await (root / "g/5.txt").stat()).size == 7


async def test_text_and_bytes(root: StorePath) -> None:
    path = root / "new" / "names.txt"
    info = await path.write_text("é\n", encoding="latin-1", newline="\r\n", content_type="text/x-names")
    assert (info.size, (await path.stat()).content_type) == (3, "text/x-names")
    assert await path.read_text("latin-1") == "é\n"
    assert (await path.write_bytes(b"abc", if_match=info.etag)).size == 3
    assert await path.read_bytes() == b"abc"
    async with path.open("w") as f:
        await f.write("one\ntwo\n")
    async with path.open() as f:
        assert [line async for line in f] == ["one\n", "two\n"]
    with pytest.raises(FileNotFoundError):
        await (root / "missing").read_text()
    with pytest.raises(InvalidArgumentError):
        await root.read_bytes()
    with pytest.raises(UnicodeEncodeError):
        await path.write_text("é", "ascii")
    assert await path.read_text() == "one\ntwo\n"


async def test_what_a_missing_bucket_has(store: trove.Trove) -> None:
    missing = StorePath(store, "missing")
    for path in (missing, missing / "a"):
        assert not await path.exists()
        assert not await path.is_dir()
        assert not await path.is_file()
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: below(missing.iterdir()),
        lambda: below(missing.glob("*")),
        lambda: missing.walk().__anext__(),
        (missing / "a").rmtree,
        (missing / "a").rmdir,
        missing.rmdir,
        (missing / "a").mkdir,
        (missing / "a").stat,
        (missing / "a").unlink,
        lambda: (missing / "a").rename(StorePath(store, "b", "a")),
    ]
    for call in calls:
        with pytest.raises(FileNotFoundError):
            await call()
    root = StorePath(store, "b")
    await fill(root)
    for carry in (root / "d").rename, (root / "d").copy_to, (root / "a.txt").rename:
        with pytest.raises(BucketNotFoundError, match="missing/x"):
            await carry(missing / "x")
    assert await keys(store) == sorted(TREE)


async def test_nothing_is_cut_off_at_a_page(root: StorePath) -> None:
    names = [f"many/{number:05}/x" for number in range(2_500)]
    await fill(root, *names)
    assert len(await below((root / "many").iterdir())) == 2_500
    assert len(await below(root.rglob("x"))) == 2_500
    async for _, directories, _ in (root / "many").walk():
        assert len(directories) == 2_500
        break
    await (root / "many").rename(root / "other")
    assert len(await keys(root.store)) == 2_500
    assert await (root / "other").rmtree() == 2_500
    assert await keys(root.store) == []


async def test_an_error_of_the_store_is_no_answer() -> None:
    """What cannot be looked at is neither missing nor a directory."""
    async with trove.open("memory://", layers=[faults := Faults()]) as store:
        await store.create_bucket("b")
        path = StorePath(store, "b", "a")
        faults.add(Fault("head", error=trove.AccessDeniedError(), times=None))
        for call in (path.exists, path.is_file, path.unlink, path.stat):
            with pytest.raises(PermissionError):
                await call()
        faults.clear()
        faults.add(Fault("list_page", error=BackendError(), times=None))
        calls: list[Callable[[], Awaitable[object]]] = [
            path.exists, path.is_dir, path.rmtree, path.rmdir, path.mkdir
        ]  # fmt: skip
        for look in calls:
            with pytest.raises(BackendError):
                await look()


async def test_directories_need_nothing_and_store_nothing(root: StorePath) -> None:
    folder = root / "new" / "folder"
    await folder.mkdir()
    await folder.mkdir(parents=True, exist_ok=True)
    assert await keys(root.store) == []
    await (folder / "a").write_bytes(b"")
    await folder.mkdir(exist_ok=True)
    with pytest.raises(FileExistsError):
        await folder.mkdir()
    with pytest.raises(FileExistsError):
        await (folder / "a").mkdir(exist_ok=True)
    for path in (folder, root / "new"):
        with pytest.raises(PreconditionFailedError, match="rmtree removes it"):
            await path.rmdir()
    with pytest.raises(BucketNotEmptyError):
        await root.rmdir()
    await (folder / "a").unlink()
    await folder.rmdir()
    other = StorePath(root.store, "other")
    await other.mkdir()
    with pytest.raises(FileExistsError):
        await other.mkdir()
    await other.mkdir(exist_ok=True)
    await other.rmdir()
    assert not await other.exists()


async def test_a_marker_of_a_directory_is_an_entry_and_goes_with_the_directory(root: StorePath) -> None:
    await root.store.put("b", "folder/", b"")
    folder = root / "folder"
    assert await folder.is_dir()
    [marker] = [path async for path in folder.iterdir()]
    assert (marker.name, marker.key) == ("", "folder/")
    await folder.rmdir()
    assert await keys(root.store) == []
    await root.store.put("b", "folder/", b"something")
    with pytest.raises(PreconditionFailedError):
        await folder.rmdir()
    await folder.rename(root / "renamed")
    assert await keys(root.store) == ["renamed/"]
    assert await (root / "renamed").rmtree() == 1


async def test_keys_that_are_no_paths_are_found(root: StorePath) -> None:
    odd = ["/lead", "a", "a!", "a/", "a//b", "a/../b", "a/./b", "a/b", "../up"]
    for key in odd:
        await root.store.put("b", key, b"x")
    found: list[str] = []
    async for directory, directories, objects in root.walk():
        found += [directory.child(name).key for name in objects]
        assert len({*directories}) == len(directories)
    assert sorted(found) == sorted(odd)
    assert sorted([path.key async for path in root.rglob("**") if await path.is_file()]) == sorted(odd)
    assert [path.name async for path in root.iterdir()] == ["..", "", "a", "a!"]
    assert [path.name async for path in (root / "a").iterdir()] == ["", "..", ".", "b"]
    assert [path.key async for path in (root / "a").glob("../b")] == ["a/../b"]
    await (root / "a").rename(root / "c")
    assert sorted(await keys(root.store)) == sorted(
        ["/lead", "a!", "c", "c/", "c//b", "c/../b", "c/./b", "c/b", "../up"]
    )


async def test_a_name_that_is_both_object_and_directory_comes_once(root: StorePath) -> None:
    await fill(root, "a", "a!", "a!!/x", "a-b", "a/x", "b/y")
    assert await below(root.iterdir()) == ["a", "a!", "a!!", "a-b", "b"]
    assert await below(root.glob("a*")) == ["a", "a!", "a!!", "a-b"]
    assert await below(root.glob("**")) == ["a", "a!", "a!!", "a!!/x", "a-b", "a/x", "b", "b/y"]
    _, directories, objects = await root.walk().__anext__()
    assert (directories, objects) == (["a!!", "a", "b"], ["a", "a!", "a-b"])


@given(
    names=st.sets(st.text("ab./!", min_size=1, max_size=6), min_size=1, max_size=8),
    pattern=st.text("ab.!/*?", min_size=1, max_size=6).filter(lambda text: text.strip("/") == text),
)
async def test_listings_of_any_keys(names: set[str], pattern: str) -> None:
    """Everything is found once, and a glob finds what its pattern says of all objects and directories."""
    async with trove.open("memory://") as store:
        await store.create_bucket("b")
        root = StorePath(store, "b")
        await fill(root, *names)
        paths = {StorePath(store, "b", name) for name in names}
        paths |= {parent for path in paths for parent in path.parents if parent.parts}
        for search, whole in ((root.glob, pattern), (root.rglob, f"**/{pattern}")):
            matches = re.compile(expression(whole), re.DOTALL).fullmatch
            found = [path async for path in search(pattern)]
            assert sorted(found) == sorted(path for path in paths if matches("/".join(path.parts)))
        assert sorted([path async for path in root.iterdir()]) == sorted(path for path in paths if len(path.parts) == 1)
        walked = [directory.child(name) async for directory, _, objects in root.walk() for name in objects]
        assert sorted(walked) == sorted(StorePath(store, "b", name) for name in names)


@pytest.mark.parametrize(
    "pattern", ["*", "*.txt", "*/*", "d/*", "d/e", "d/?.txt", "*/e/*.txt", "d/e/f/4.txt", "x", "d*", "**/e", "**/*.txt"]
)
async def test_globs_find_what_pathlib_finds(root: StorePath, tmp_path: Path, pattern: str) -> None:
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    await fill(root)
    expected = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob(pattern))
    assert sorted(await below(root.glob(pattern))) == expected
    expected = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob(pattern))
    assert sorted(await below(root.rglob(pattern))) == expected


async def test_a_glob_lists_only_what_can_match(tmp_path: Path) -> None:
    async with counted(tmp_path) as (store, requests):
        root = StorePath(store, "b")
        await fill(root)
        requests.clear()
        assert await below(root.glob("d/*.txt")) == ["d/1.txt"]
        assert requests.operations == {"list_page": 1}
        requests.clear()
        assert await below(root.glob("**/*.txt")) == [
            "a.txt", "d/1.txt", "d/e/3.txt", "d/e/f/4.txt", "g/5.txt"
        ]  # fmt: skip
        assert requests.operations == {"list_page": 1}
    for pattern in ("", "/a", "a/"):
        for search in (root.glob, root.rglob):
            with pytest.raises(InvalidArgumentError, match="begins and ends with a name"):
                await below(search(pattern))


async def test_a_walk_can_be_pruned_and_stopped(root: StorePath) -> None:
    await fill(root)
    assert [(directory.key, *rest) async for directory, *rest in root.walk()] == [
        ("", ["d", "g"], ["a.txt", "d!"]),
        ("d", ["e"], ["1.txt", "2.bin"]),
        ("d/e", ["f"], ["3.txt"]),
        ("d/e/f", [], ["4.txt"]),
        ("g", [], ["5.txt"]),
    ]
    seen = []
    async for directory, directories, _ in root.walk():
        seen.append(directory.key)
        if "e" in directories:
            directories.remove("e")
        if directory.key == "g":
            break
    assert seen == ["", "d", "g"]


async def test_a_root_confines(root: StorePath) -> None:
    await fill(root, "home/a/x", "home/b", "other/y")
    home = StorePath(root.store, "b", root="home")
    assert await below(home.iterdir()) == ["a", "b"]
    assert await home.is_dir()
    assert await StorePath(root.store, "b", root="empty").is_dir()
    assert await (home / "a" / ".." / "b").read_bytes() == b"home/b"
    assert await (home / "a").rename(home / "c") == home / "c"
    await root.store.put("b", "home/", b"")
    assert not await home.is_file()
    await home.rename(root / "moved")
    assert await keys(root.store) == ["moved/", "moved/b", "moved/c/x", "other/y"]
    assert await StorePath(root.store, "b", root="moved").rmtree() == 3
    assert await keys(root.store) == ["other/y"]


async def test_renaming_to_itself_keeps_the_data(place: Place) -> None:
    root = StorePath(place.store, place.bucket)
    await fill(root, "a", "d/x")
    for name in ("a", "d"):
        assert await (root / name).rename(root / name) == root / name
    assert await keys(place.store, place.bucket) == ["a", "d/x"]
    assert await (root / "a").read_bytes() == b"a"
    with pytest.raises(FileNotFoundError):
        await (root / "missing").rename(root / "missing")


async def test_paths_within_each_other_are_refused(root: StorePath) -> None:
    await fill(root, "d/e/x", "d/x")
    for source, target in (("d", "d/e"), ("d/e", "d"), ("", "d"), ("d", "")):
        for operation in (root.joinpath(source).rename, root.joinpath(source).copy_to):
            with pytest.raises(InvalidArgumentError, match="below the other"):
                await operation(root / target)
    assert await keys(root.store) == ["d/e/x", "d/x"]
    async with trove.open("memory://") as other:
        with pytest.raises(InvalidArgumentError, match="copy_to"):
            await (root / "d").rename(StorePath(other, "b", "d"))


async def test_a_rename_replaces_and_keeps_what_describes_the_object(root: StorePath) -> None:
    await root.store.put("b", "a", b"new", content_type="text/x-a", metadata={"by": "me"}, tags={"t": "1"})
    await fill(root, "c/1", "c/other", "old")
    await (root / "a").replace(root / "old")
    info = await (root / "old").stat()
    assert (info.content_type, dict(info.metadata)) == ("text/x-a", {"by": "me"})
    assert await root.store.get_tags("b", "old") == {"t": "1"}
    await fill(root, "d/1")
    await (root / "d").rename(root / "c")
    assert await (root / "c/1").read_bytes() == b"d/1"
    assert await keys(root.store) == ["c/1", "c/other", "old"]


async def test_a_tree_rename_that_fails_says_what_is_left_and_is_finished_by_another() -> None:
    async with trove.open("memory://", layers=[faults := Faults()]) as store:
        await store.create_bucket("b")
        root = StorePath(store, "b")
        names = [f"d/{number:03}" for number in range(100)]
        await fill(root, *names)
        faults.add(Fault("copy", key="e/007", error=trove.AccessDeniedError("no"), times=None))
        faults.add(Fault("delete", key="d/050", error=BackendError("broken"), times=None))
        with pytest.raises(BulkError, match=r"2 of 100 objects were not moved, 98 were; run it again") as caught:
            await (root / "d").rename(root / "e")
        assert {result.key for result in caught.value.failed} == {"d/007", "d/050"}
        assert (caught.value.deleted_count, caught.value.bucket, caught.value.operation) == (98, "b", "rename")
        assert {*await keys(store)} == {"d/007", "d/050"} | {f"e/{n:03}" for n in range(100) if n != 7}
        faults.clear()
        await (root / "d").rename(root / "e")
        assert await keys(store) == [name.replace("d/", "e/") for name in names]
        assert await (root / "e/050").read_bytes() == b"d/050"
        faults.add(Fault("copy", key="f", error=trove.AccessDeniedError("no")))
        with pytest.raises(PermissionError):
            await (root / "e/007").rename(root / "f")


@pytest.mark.parametrize("delivery", Delivery)
async def test_a_tree_rename_that_is_cancelled_anywhere_is_finished_by_another(
    root: StorePath, delivery: Delivery, await_point_step: int
) -> None:
    names = [f"d/{number}" for number in range(4)]

    async def prepare() -> None:
        await root.rmtree()
        await fill(root, *names)

    async def check(outcome: Outcome[Any]) -> None:
        assert outcome.left_running == frozenset()
        assert outcome.error is None
        found = await keys(root.store)
        assert {key[2:] for key in found} == {"0", "1", "2", "3"}
        if any(key.startswith("d/") for key in found):
            assert outcome.cancelled
            await (root / "d").rename(root / "e")
        assert await keys(root.store) == [f"e/{number}" for number in range(4)]
        assert await (root / "e/2").read_bytes() == b"d/2"

    points = await cancel_everywhere(
        lambda: (root / "d").rename(root / "e"), delivery, prepare=prepare, check=check, step=await_point_step
    )
    assert points > 4


@pytest.mark.parametrize("delivery", Delivery)
@pytest.mark.parametrize("operation", ["rmtree", "write_bytes", "write_text", "rename", "copy_to"])
async def test_cancelled_at_every_await_point(
    local_store: trove.Trove, delivery: Delivery, operation: str, await_point_step: int
) -> None:
    """Each object is old or new, and nothing is left running."""
    root = StorePath(local_store, "b")
    path = root / "d" / "x"
    run: Callable[[], Awaitable[object]] = {
        "rmtree": lambda: (root / "d").rmtree(missing_ok=True),
        "write_bytes": lambda: path.write_bytes(b"new"),
        "write_text": lambda: path.write_text("new"),
        "rename": lambda: path.rename(root / "e"),
        "copy_to": lambda: path.copy_to(root / "e"),
    }[operation]

    async def prepare() -> None:
        await root.rmtree()
        await fill(root, "d/x", "d/y")

    async def check(outcome: Outcome[Any]) -> None:
        assert outcome.left_running == frozenset()
        assert outcome.error is None
        found = {key: await root.store.read("b", key) for key in await keys(root.store)}
        for key, data in found.items():
            assert (key, data) in {("d/x", b"d/x"), ("d/x", b"new"), ("d/y", b"d/y"), ("e", b"d/x")}
        if operation != "rmtree":
            assert {"d/x", "e"} & found.keys()
            assert "d/y" in found

    step = 1 if operation.startswith("write") else await_point_step
    assert await cancel_everywhere(run, delivery, prepare=prepare, check=check, step=step) > 0


async def test_a_tree_that_is_removed_in_part_says_so() -> None:
    async with trove.open("memory://", layers=[faults := Faults()]) as store:
        await store.create_bucket("b")
        root = StorePath(store, "b")
        await fill(root)
        with pytest.raises(ObjectNotFoundError):
            await (root / "missing").rmtree()
        assert await (root / "missing").rmtree(missing_ok=True) == 0
        faults.add(Fault("delete_many", error=BackendError("broken")))
        with pytest.raises(BackendError):
            await (root / "d").rmtree()
        assert await (root / "d").rmtree() == 4
        assert await keys(store) == ["a.txt", "d!", "g/5.txt"]


async def test_a_listing_that_fails_says_how_much_was_moved() -> None:
    async with trove.open("memory://", layers=[faults := Faults()]) as store:
        await store.create_bucket("b")
        root = StorePath(store, "b")
        await fill(root, *[f"d/{number:04}" for number in range(1_010)])
        faults.add(Fault("list_page", error=BackendError("broken"), skip=1))
        with pytest.raises(BackendError) as caught:
            await (root / "d").rename(root / "e")
        assert caught.value.__notes__ == ["1000 objects were moved before"]
        await (root / "d").rename(root / "e")
        assert len(await keys(store)) == 1_010


async def test_copies_to_files_and_other_stores(root: StorePath, tmp_path: Path) -> None:
    await fill(root)
    await (root / "a.txt").copy_to(tmp_path / "one" / "file")
    assert (tmp_path / "one" / "file").read_bytes() == b"a.txt"
    await (root / "d").copy_to(str(tmp_path / "tree"))
    found = sorted(path.relative_to(tmp_path / "tree").as_posix() for path in (tmp_path / "tree").rglob("*.*"))
    assert found == ["1.txt", "2.bin", "e/3.txt", "e/f/4.txt"]
    async with trove.open(f"local://{tmp_path}") as other:
        await other.create_bucket("store")
        target = StorePath(other, "store", "x")
        assert await (root / "d").copy_to(target) is target
        assert await below(target.rglob("*.txt")) == ["x/1.txt", "x/e/3.txt", "x/e/f/4.txt"]
    with pytest.raises(FileNotFoundError):
        await (root / "missing").copy_to(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        await (root / "a.txt").copy_to(tmp_path / "tree")


async def test_no_key_leads_out_of_a_local_directory(root: StorePath, tmp_path: Path) -> None:
    await fill(root, "d/../../up", "d//etc", "d/fine", "d/")
    with pytest.raises(BulkError, match="3 of 4 objects were not copied") as caught:
        await (root / "d").copy_to(tmp_path / "in" / "here")
    assert sorted(result.key for result in caught.value.failed) == ["d/", "d/../../up", "d//etc"]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["fine"]
