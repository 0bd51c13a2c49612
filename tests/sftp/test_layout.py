"""The files on the server, which people may view, add and edit."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

import trove_async as trove
from tests.sftp.residue import residue_of
from tests.sftp.stores import ServerName, opened, pattern, remote

pytestmark = pytest.mark.asyncio

CARRIED = 2**31


async def test_objects_are_files_at_the_expected_paths(server: ServerName, root: Path) -> None:
    async with opened(server, root) as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "photos/a.jpg", b"picture")
        await store.put("bucket", "..", b"dots")
        await store.put("bucket", "photos", b"next to its own directory")
        assert (root / "bucket/photos/a.jpg").read_bytes() == b"picture"
        assert (root / "bucket/%2E%2E").read_bytes() == b"dots"
        assert (root / "bucket/photos%F").read_bytes() == b"next to its own directory"
        await store.put("bucket", "a", b"a file")
        await store.put("bucket", "a/b", b"below it")
        assert (root / "bucket/a%D/b").read_bytes() == b"below it"


async def test_the_layout_is_that_of_local_files(server: ServerName, root: Path) -> None:
    """Objects put over SFTP can be read as local files, and the reverse; metadata stays with its driver."""
    keys = ["a", "a/b", "a//b", "x" * 600, "..", "%", "photos/a.jpg", "\x01"]
    async with opened(server, root) as store:
        await store.create_bucket("bucket")
        for key in keys:
            await store.put("bucket", key, key.encode())
    async with trove.open(f"local://{root}?fsync=0") as local:
        assert sorted([info.key for info in await local.list("bucket").all()]) == sorted(keys)
        for key in keys:
            assert await local.read("bucket", key) == key.encode()
        await local.put("bucket", "from/local", b"data")
    async with opened(server, root, clean=False) as store:
        assert await store.read("bucket", "from/local") == b"data"


async def test_times_contain_the_reference_to_the_metadata(server: ServerName, root: Path) -> None:
    async with opened(server, root) as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "plain", b"data")
        info = await store.put("bucket", "with", b"data", metadata={"a": "b"})
        plain, with_metadata = (os.lstat(root / "bucket" / key) for key in ("plain", "with"))
        assert CARRIED <= plain.st_atime < CARRIED + 2**30 <= with_metadata.st_atime
        (sidecar,) = (root / ".trove/meta/bucket").rglob("*.*")
        assert info.last_modified is not None
        assert int(with_metadata.st_mtime) == int(info.last_modified.timestamp())
        assert abs(info.last_modified.timestamp() - time.time()) < 60
        assert sidecar.name.endswith(f".4-{int(sidecar.name.rpartition('-')[2], 16):x}")


async def test_puts_within_a_second_have_different_etags(server: ServerName, root: Path) -> None:
    async with opened(server, root) as store, opened(server, root, clean=False) as other:
        await store.create_bucket("bucket")
        puts = [(store, other)[number % 2].put("bucket", "key", b"%d" % (number % 10)) for number in range(40)]
        etags = {info.etag for info in await asyncio.gather(*puts)}
        assert len(etags) == 40
        head = await store.head("bucket", "key")
        assert head.etag in etags
        assert [found.etag for found in await other.list("bucket").all()] == [head.etag]


async def test_reading_keeps_the_etag(server: ServerName, root: Path) -> None:
    async with opened(server, root) as store:
        await store.create_bucket("bucket")
        info = await store.put("bucket", "key", b"data", metadata={"a": "b"})
        for _ in range(3):
            assert await store.read("bucket", "key") == b"data"
            assert (root / "bucket/key").read_bytes() == b"data"
        head = await store.head("bucket", "key")
        assert (head.etag, head.metadata) == (info.etag, {"a": "b"})


async def test_a_file_edited_by_hand_has_no_metadata(server: ServerName, root: Path) -> None:
    async with opened(server, root, clean=False) as store:
        await store.create_bucket("bucket")
        info = await store.put("bucket", "key.txt", b"data", metadata={"a": "b"}, content_type="x/y")
        path = root / "bucket/key.txt"
        path.write_bytes(b"edited")
        head = await store.head("bucket", "key.txt")
        assert head.etag != info.etag
        assert (head.metadata, head.content_type, head.size) == ({}, "text/plain", 6)
        assert await store.read("bucket", "key.txt") == b"edited"
        # With the same length, and a second later.
        info = await store.put("bucket", "key.txt", b"data", metadata={"a": "b"})
        status = os.lstat(path)
        path.write_bytes(b"DATA")
        os.utime(path, (status.st_atime, status.st_mtime + 1))
        head = await store.head("bucket", "key.txt")
        assert head.etag != info.etag
        assert head.metadata == {}


async def test_a_file_placed_by_hand_is_an_object(server: ServerName, root: Path) -> None:
    async with opened(server, root) as store:
        await store.create_bucket("bucket")
        (root / "bucket/folder").mkdir()
        (root / "bucket/folder/report.pdf").write_bytes(b"pages")
        for length in (241, 242, 255):
            key = f"folder/{'n' * length}"
            (root / "bucket" / key).write_bytes(b"longer than names are written")
            assert (await store.head("bucket", key)).size == 29
            assert [found.key for found in await store.list("bucket", prefix="folder/n").all()] == [key]
            await store.put("bucket", key, b"new")
            assert (root / "bucket" / key).read_bytes() == b"new"
            await store.delete("bucket", key)
            assert not await store.exists("bucket", key)
        (listed,) = await store.list("bucket").all()
        head = await store.head("bucket", "folder/report.pdf")
        assert (listed.key, listed.etag, listed.size) == (head.key, head.etag, head.size)
        assert head.content_type == "application/pdf"
        await store.set_tags("bucket", "folder/report.pdf", {"t": "1"})
        assert await store.get_tags("bucket", "folder/report.pdf") == {"t": "1"}


async def test_metadata_survives_a_restored_backup(server: ServerName, root: Path) -> None:
    """A backup keeps the modification time, and seldom the access time."""
    async with opened(server, root, clean=False) as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "key", b"data", metadata={"a": "b"})
        status = os.lstat(root / "bucket/key")
        os.utime(root / "bucket/key", (time.time(), int(status.st_mtime)))
        assert (await store.head("bucket", "key")).metadata == {"a": "b"}
        async with store.get("bucket", "key") as reader:
            assert reader.info.metadata == {"a": "b"}
            assert await reader.read() == b"data"
        assert (await remote(store).sweep()).sidecars == 0
        (sidecar,) = (root / ".trove/meta/bucket").rglob("*.*")
        twin = sidecar.with_name(sidecar.name[:-1] + ("0" if sidecar.name[-1] != "0" else "1"))
        twin.write_bytes(sidecar.read_bytes())
        # With two sidecars of its second it is unknown which belongs to the object.
        assert (await store.head("bucket", "key")).metadata == {}


async def test_an_object_whose_sidecar_was_removed_by_hand_can_be_read(server: ServerName, root: Path) -> None:
    async with opened(server, root) as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "key", b"data", metadata={"a": "b"})
        (sidecar,) = (root / ".trove/meta/bucket").rglob("*.*")
        sidecar.unlink()
        assert (await store.head("bucket", "key")).metadata == {}
        assert await store.read("bucket", "key") == b"data"


async def test_symbolic_links_are_not_followed(server: ServerName, root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    async with opened(server, root) as store:
        await store.create_bucket("bucket")
        (root / "bucket/file").symlink_to(tmp_path / "secret")
        (root / "bucket/folder").symlink_to(tmp_path)
        assert await store.list("bucket").all() == []
        for key in ("file", "folder/secret"):
            assert not await store.exists("bucket", key)
            with pytest.raises(trove.ObjectNotFoundError):
                await store.read("bucket", key)
        await store.put("bucket", "file", b"ours")
        await store.put("bucket", "folder/secret", b"ours")
        assert (tmp_path / "secret").read_bytes() == b"secret"
        assert await store.read("bucket", "file") == b"ours"
        assert await store.read("bucket", "folder/secret") == b"ours"


async def test_deletions_leave_no_empty_directories(server: ServerName, root: Path) -> None:
    async with opened(server, root) as store:
        await store.create_bucket("bucket")
        for key in ("a/b/c/one", "a/b/two", "x/y/z"):
            await store.put("bucket", key, b"")
        await store.delete("bucket", "a/b/c/one")
        assert not (root / "bucket/a/b/c").exists()
        await store.delete_many("bucket", ["a/b/two", "x/y/z", "missing/too"])
        assert os.listdir(root / "bucket") == []


async def test_a_refused_put_leaves_no_directory(server: ServerName, root: Path) -> None:
    async with opened(server, root) as store:
        await store.create_bucket("bucket")

        async def failing() -> object:
            yield b"data"
            raise ValueError("the source is broken")

        with pytest.raises(ValueError, match="broken"):
            await store.put("bucket", "a/b/c", failing())  # type: ignore[arg-type]
        assert os.listdir(root / "bucket") == []
        assert residue_of(root) == []


async def test_concurrent_writers_and_deleters_of_neighbours_agree(server: ServerName, root: Path) -> None:
    """Directories are created and removed during writes below them, by two clients; each key has its own content."""
    async with opened(server, root) as one, opened(server, root, clean=False) as two:
        await one.create_bucket("bucket")

        async def work(store: trove.Trove, name: str) -> None:
            for number in range(12):
                for key in (f"d/{name}", f"d/e/{name}", f"d/{name}/x"):
                    await store.put("bucket", key, f"{key} {number}".encode())
                    assert await store.read("bucket", key) == f"{key} {number}".encode()
                    if number % 3:
                        await store.delete("bucket", key)
                        assert not await store.exists("bucket", key)

        await asyncio.gather(work(one, "1"), work(two, "2"), work(one, "3"), work(two, "4"))
        await asyncio.gather(*(one.delete("bucket", info.key) for info in await two.list("bucket").all()))
        assert await one.list("bucket").all() == []


async def test_a_key_has_one_place_for_all_writers(server: ServerName, root: Path) -> None:
    """``a`` and ``a/b``: while the directory is created and removed, two clients never store the same key twice."""
    async with opened(server, root) as one, opened(server, root, clean=False) as two:
        await one.create_bucket("bucket")

        async def plain(store: trove.Trove) -> None:
            for number in range(25):
                await store.put("bucket", "a", b"%d" % number)
                if number % 2:
                    await store.delete("bucket", "a")

        async def below(store: trove.Trove) -> None:
            for number in range(25):
                await store.put("bucket", "a/b", b"%d" % number)
                await store.delete("bucket", "a/b")

        async def check() -> None:
            for _ in range(40):
                keys = [info.key for info in await one.list("bucket").all()]
                assert len(keys) == len(set(keys))
                await asyncio.sleep(0.01)

        await asyncio.gather(plain(one), plain(two), below(one), below(two), check())
        keys = [info.key for info in await one.list("bucket").all()]
        assert len(keys) == len(set(keys))
        for key in ("a", "a/b"):
            await one.delete("bucket", key)
        assert await two.list("bucket").all() == []


async def test_one_of_fifty_creators_on_two_clients_wins(server: ServerName, root: Path) -> None:
    async with opened(server, root) as one, opened(server, root, clean=False) as two:
        await one.create_bucket("bucket")

        async def create(number: int) -> bool:
            try:
                await (one, two)[number % 2].put(
                    "bucket", "a/key", b"%d" % number, metadata={"n": str(number)}, if_none_match="*"
                )
            except trove.ObjectAlreadyExistsError:
                return False
            return True

        won = await asyncio.gather(*map(create, range(50)))
        assert sum(won) == 1
        assert await two.read("bucket", "a/key") == b"%d" % won.index(True)
        assert (await two.head("bucket", "a/key")).metadata == {"n": str(won.index(True))}


async def test_a_create_only_stream(server: ServerName, root: Path) -> None:
    async with opened(server, root) as store:
        await store.create_bucket("bucket")

        async def chunks(data: bytes) -> object:
            for at in range(0, len(data), 100_000):
                yield data[at : at + 100_000]

        data = pattern(3_000_000)
        await store.put("bucket", "key", chunks(data), if_none_match="*")  # type: ignore[arg-type]
        with pytest.raises(trove.ObjectAlreadyExistsError):
            await store.put("bucket", "key", chunks(data[::-1]), if_none_match="*")  # type: ignore[arg-type]
        assert await store.read("bucket", "key") == data


async def test_memory_use_is_constant(server: ServerName, root: Path) -> None:
    """200 MB are transferred by a process whose address space is hardly larger than it needs to start."""
    async with opened(server, root) as store:
        await store.create_bucket("bucket")
    script = Path(__file__).with_name("flat.py")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run(  # noqa: ASYNC221 - nothing else runs
        [sys.executable, str(script), server, str(root)], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 48 * 1024 * 1024


async def test_concurrent_operations_on_the_same_keys_do_not_deadlock(server: ServerName, root: Path) -> None:
    """Locks are taken in one order: puts, tags, copies, deletions and uploads of the same keys, by two clients."""
    async with opened(server, root) as one, opened(server, root, clean=False) as two:
        await one.create_bucket("bucket")
        await one.put("bucket", "source", b"data", metadata={"a": "b"})

        async def tag(store: trove.Trove, key: str) -> None:
            with suppress(trove.ObjectNotFoundError):
                await store.set_tags("bucket", key, {"t": "1"})

        async def upload(store: trove.Trove, key: str) -> None:
            upload_id = await store.initiate_multipart("bucket", key)
            part = await store.upload_part("bucket", key, upload_id, 1, b"part")
            await store.complete_multipart("bucket", key, upload_id, [part])

        async def work(store: trove.Trove, key: str) -> None:
            for _ in range(3):
                await asyncio.gather(
                    store.put("bucket", key, b"data", metadata={"a": "b"}),
                    tag(store, key),
                    upload(store, key),
                    store.copy("bucket", "source", "bucket", key),
                    store.delete("bucket", key),
                )

        async with asyncio.timeout(50):
            await asyncio.gather(*(work(store, key) for store in (one, two) for key in ("a", "a/b", "a/c/d")))
        keys = [info.key for info in await one.list("bucket").all()]
        await one.delete_many("bucket", keys)
        assert os.listdir(root / "bucket") == []
        await remote(one).sweep()
