"""Servers without some features: extensions, access times, write permission."""

from __future__ import annotations

import pytest

import trove_async as trove
from tests.servers import running
from tests.sftp.residue import residue_of
from tests.sftp.stores import opened, pattern, remote, scratch_root
from trove_async.driver import PartCopyDriver, ServerCopyDriver

pytestmark = pytest.mark.asyncio

LACKING = [
    "without_posix_rename",
    "without_hardlink",
    "without_copy_data",
    "without_fsync",
    "without_limits",
    "without_any",
]


@pytest.mark.parametrize("face", LACKING)
async def test_everything_else_works_without_an_extension(face: str) -> None:
    with scratch_root("sshd") as root:
        async with opened("sshd", root, port=getattr(running("sshd"), face), fsync=True) as store:
            await store.create_bucket("bucket")
            large = pattern(1_500_000)
            info = await store.put("bucket", "a/large", large, metadata={"a": "b"})
            assert await store.read("bucket", "a/large") == large
            head = await store.head("bucket", "a/large")
            assert (head.etag, head.metadata) == (info.etag, {"a": "b"})
            await store.copy("bucket", "a/large", "bucket", "copy")
            assert store.supports(ServerCopyDriver) is (face not in ("without_copy_data", "without_any"))
            assert await store.read("bucket", "copy") == large
            await store.set_tags("bucket", "copy", {"t": "1"})
            upload = await store.initiate_multipart("bucket", "parts")
            part = await store.upload_part("bucket", "parts", upload, 1, large)
            await store.complete_multipart("bucket", "parts", upload, [part])
            assert store.supports(PartCopyDriver) is store.supports(ServerCopyDriver)
            upload = await store.initiate_multipart("bucket", "grown", metadata={"a": "b"})
            await store.append_part("bucket", "grown", upload, 1, 0, large)
            part = await store.append_part("bucket", "grown", upload, 1, 1000, b"end")
            info = await store.complete_multipart("bucket", "grown", upload, [part])
            assert await store.head("bucket", "grown") == info
            assert await store.read("bucket", "grown") == large[:1000] + b"end"
            await store.delete("bucket", "grown")
            assert [found.key for found in await store.list("bucket").all()] == ["a/large", "copy", "parts"]
            await store.delete_many("bucket", ["a/large", "copy", "parts"])
            await store.delete_bucket("bucket")


@pytest.mark.parametrize("face", ["without_hardlink", "without_any"])
async def test_create_only_is_refused_without_links(face: str) -> None:
    with scratch_root("sshd") as root:
        async with opened("sshd", root, port=getattr(running("sshd"), face)) as store:
            await store.create_bucket("bucket")
            assert not store.supports("put_if_none_match")
            with pytest.raises(trove.UnsupportedError):
                await store.put("bucket", "key", b"data", if_none_match="*")
            assert not await store.exists("bucket", "key")


@pytest.mark.parametrize("face", ["without_posix_rename", "without_any"])
async def test_nothing_is_replaced_if_that_would_not_be_atomic(face: str) -> None:
    with scratch_root("sshd") as root:
        async with opened("sshd", root, port=getattr(running("sshd"), face)) as store:
            await store.create_bucket("bucket")
            await store.put("bucket", "key", b"old", metadata={"a": "b"})
            with pytest.raises(trove.UnsupportedError, match="posix-rename"):
                await store.put("bucket", "key", b"new")
            assert await store.read("bucket", "key") == b"old"
            assert (await store.head("bucket", "key")).metadata == {"a": "b"}
            await store.delete("bucket", "key")
            await store.put("bucket", "key", b"new")
            assert await store.read("bucket", "key") == b"new"


async def test_fsync_is_requested_if_it_is_enabled_and_supported() -> None:
    for settings, expected in (({"fsync": True}, 1), ({"fsync": False}, 0)):
        with scratch_root("sshd") as root:
            async with opened("sshd", root, **settings) as store:
                await store.create_bucket("bucket")
                before = remote(store).connection.counts["EXTENDED"]
                await store.put("bucket", "key", b"data")
                assert remote(store).connection.counts["EXTENDED"] - before == 1 + expected


async def test_a_server_that_keeps_no_access_times() -> None:
    """Generations then have a resolution of a second, and each write of a key gets a later one than the last."""
    with scratch_root("asyncssh") as root:
        async with opened("asyncssh", root, port=running("asyncssh").forgetful) as store:
            await store.create_bucket("bucket")
            etags: list[str] = []
            for number in range(5):
                metadata = {"n": str(number)} if number % 2 == 0 else {}
                info = await store.put("bucket", "key", b"%d" % number, metadata=metadata)
                head = await store.head("bucket", "key")
                assert (head.etag, head.metadata) == (info.etag, metadata)
                assert [found.etag for found in await store.list("bucket").all()] == [info.etag]
                etags.append(info.etag)
            assert len(set(etags)) == 5
            await store.set_tags("bucket", "key", {"t": "1"})
            assert (await store.head("bucket", "key")).etag == etags[-1]
            assert await store.get_tags("bucket", "key") == {"t": "1"}
            await store.delete("bucket", "key")
            await store.put("bucket", "key", b"0")
            assert (await store.head("bucket", "key")).metadata == {}
            upload = await store.initiate_multipart("bucket", "key", metadata={"a": "b"})
            part = await store.upload_part("bucket", "key", upload, 1, b"part")
            info = await store.complete_multipart("bucket", "key", upload, [part])
            head = await store.head("bucket", "key")
            assert (head.etag, head.metadata) == (info.etag, {"a": "b"})
            for days in (1, 2, 3):  # settings that are changed within a second are not confused with the old ones
                await store.set_lifecycle("bucket", [trove.LifecycleRule("rule", "", expiration_days=days)])
                assert [rule.expiration_days for rule in await store.get_lifecycle("bucket")] == [days]


async def test_a_read_only_root() -> None:
    with scratch_root("sshd") as root:
        with pytest.raises(trove.AccessDeniedError, match="written to"):
            async with opened("sshd", root, port=running("sshd").read_only):
                pass
        assert residue_of(root) == []


async def test_a_server_without_sftp() -> None:
    with scratch_root("sshd") as root, pytest.raises(trove.UnsupportedError, match="no SFTP"):
        async with opened("sshd", root, port=running("sshd").without_sftp):
            pass
