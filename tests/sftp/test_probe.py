"""What a server does is found out when a store is opened, whatever the server says: it is used, or refused."""

from __future__ import annotations

import asyncio
import errno
import os
import unicodedata
from pathlib import Path

import pytest

import trove_async as trove
from tests.payload import pattern
from tests.sftp.odd_server import Odd, attributes, opened_odd
from tests.sftp.residue import residue_of
from tests.sftp.stores import fs_of, opened, remote, scratch_root
from trove_async.drivers.sftp.abilities import Times
from trove_async.drivers.sftp.protocol import OpenFlag

pytestmark = pytest.mark.asyncio


async def use(store: trove.Trove, root: Path) -> None:
    """Do everything that does not replace an object, and find it again."""
    await store.create_bucket("bucket")
    with pytest.raises(trove.BucketAlreadyExistsError):
        await store.create_bucket("bucket")
    data = pattern(400_000)
    info = await store.put("bucket", "a/key", data, metadata={"a": "b"}, content_type="x/y")
    head = await store.head("bucket", "a/key")
    assert (head.etag, head.size, head.metadata, head.content_type) == (info.etag, len(data), {"a": "b"}, "x/y")
    (listed,) = await store.list("bucket").all()
    assert (listed.key, listed.etag, listed.size) == ("a/key", info.etag, len(data))
    assert await store.read("bucket", "a/key") == data
    await store.set_tags("bucket", "a/key", {"t": "1"})
    assert await store.get_tags("bucket", "a/key") == {"t": "1"}
    await store.copy("bucket", "a/key", "bucket", "copy")
    assert await store.read("bucket", "copy") == data
    upload = await store.initiate_multipart("bucket", "parts", checksum="sha256")
    parts = [await store.upload_part("bucket", "parts", upload, number, data) for number in (1, 2)]
    await store.complete_multipart("bucket", "parts", upload, parts)
    assert await store.read("bucket", "parts") == data + data
    assert residue_of(root) == []


async def replace(store: trove.Trove) -> None:
    """Replace an object and settings quickly: each time they are other ones."""
    etags: list[str] = []
    for number in range(4):
        metadata = {"n": str(number)} if number % 2 == 0 else {}
        info = await store.put("bucket", "key", b"%d" % number, metadata=metadata)
        head = await store.head("bucket", "key")
        assert (head.etag, head.metadata) == (info.etag, metadata)
        assert await store.read("bucket", "key") == b"%d" % number
        etags.append(info.etag)
    assert len(set(etags)) == 4
    for days in (1, 2, 3):
        await store.set_lifecycle("bucket", [trove.LifecycleRule("rule", "", expiration_days=days)])
        assert [rule.expiration_days for rule in await store.get_lifecycle("bucket")] == [days]
    await store.put("bucket", "empty", b"", metadata={"a": "1"})
    await store.put("bucket", "empty", b"", metadata={"a": "2"})
    assert (await store.head("bucket", "empty")).metadata == {"a": "2"}


async def test_the_probe_takes_six_round_trips() -> None:
    with scratch_root("sshd") as root:
        async with opened("sshd", root):
            pass
        async with opened("sshd", root) as store:
            channel = await remote(store).connection.channel()
            # Limits 1; the root 1; the lease 3; the probe 6; leftovers of others 4, of which three read directories.
            assert channel.turns <= 15
            assert fs_of(store).abilities.times is Times.CARRIED
            assert fs_of(store).abilities.replaces
            assert fs_of(store).abilities.links


# Renaming


class Renames(Odd):
    """Says that it has ``posix-rename``, and does something else."""

    def __init__(self, does: str) -> None:
        super().__init__()
        self._does = does

    def posix_rename(self, source: str, target: str) -> None:
        if self._does == "fails" or (self._does == "fails on files" and os.path.lexists(target)):
            raise OSError(errno.EIO, "failure")
        if self._does != "nothing":
            super().posix_rename(source, target)


@pytest.mark.parametrize("does", ["nothing", "fails", "fails on files"])
async def test_a_server_that_does_not_rename_as_it_says(tmp_path: Path, does: str) -> None:
    """Objects are made, and replacing one is refused; nothing is lost."""
    async with opened_odd(Renames(does), tmp_path) as store:
        await use(store, tmp_path)
        with pytest.raises(trove.UnsupportedError, match="renames no file over another"):
            await store.put("bucket", "copy", b"new")
        assert await store.read("bucket", "copy") == pattern(400_000)
        await store.delete("bucket", "copy")
        await store.put("bucket", "copy", b"new")
        assert await store.read("bucket", "copy") == b"new"
        assert residue_of(tmp_path) == []


@pytest.mark.parametrize("extensions", [Odd.extensions, ()], ids=["announced", "not announced"])
async def test_a_server_whose_plain_rename_replaces(tmp_path: Path, extensions: tuple[bytes, ...]) -> None:
    class Replaces(Renames):
        def rename(self, source: str, target: str) -> None:
            os.rename(source, target)

    odd = Replaces("nothing")
    odd.extensions = extensions
    async with opened_odd(odd, tmp_path) as store:
        await use(store, tmp_path)
        await replace(store)


async def test_a_server_that_renames_nothing_is_refused(tmp_path: Path) -> None:
    class Nothing(Renames):
        def rename(self, source: str, target: str) -> None:
            pass

    with pytest.raises(trove.UnsupportedError, match="does not rename"):
        async with opened_odd(Nothing("nothing"), tmp_path):
            pass
    assert not list((tmp_path / ".trove/tmp").iterdir())


# Times


class Clock(Odd):
    """A server with a clock of its own, which does something else with the times that it is to set.

    The clock advances by a third of a second with each write, however quickly they come.
    """

    def __init__(self, does: str) -> None:
        super().__init__()
        self._does = does
        self._now = 1_000_000_000.0

    def _stamp(self, target: str | int) -> None:
        self._now += 1 / 3
        os.utime(target, (self._now, self._now))

    def open(self, path: str, flags: OpenFlag) -> int:
        file = super().open(path, flags)
        if flags & OpenFlag.CREATE:
            self._stamp(file)
        return file

    def write(self, file: int, offset: int, data: bytes) -> None:
        super().write(file, offset, data)
        self._stamp(file)

    def set_times(self, target: str | int, atime: int, mtime: int) -> None:
        if self._does in ("unsupported", "denied"):
            raise OSError(errno.ENOTSUP if self._does == "unsupported" else errno.EACCES, self._does)
        if self._does == "even":
            os.utime(target, (mtime, mtime - mtime % 2))
        if self._does == "no future":
            if atime >= 2**31:
                raise OSError(errno.EINVAL, "too late")
            os.utime(target, (atime, mtime))


@pytest.mark.parametrize("does", ["nothing", "unsupported", "denied", "even", "no future"])
async def test_a_server_that_does_not_set_times(tmp_path: Path, does: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """ETags are of the time that a file really has, and two writes have different ones."""
    monkeypatch.setattr("trove_async.drivers.sftp.filesystem._DATING_WAIT", 0.0)
    async with opened_odd(Clock(does), tmp_path) as store:
        expected = Times.SET if does in ("even", "no future") else Times.OBSERVED
        assert fs_of(store).abilities.times is expected
        await use(store, tmp_path)
        await replace(store)
        assert await store.read("bucket", "a/key") == pattern(400_000)
        assert residue_of(tmp_path) == []


async def test_of_writers_that_race_each_has_its_own_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trove_async.drivers.sftp.filesystem._DATING_WAIT", 0.0)
    async with opened_odd(Clock("nothing"), tmp_path) as store:
        await store.create_bucket("bucket")
        writes = (store.put("bucket", "key", b"%d" % n, metadata={"n": str(n)}) for n in range(9))
        infos = await asyncio.gather(*writes)
        assert len({info.etag for info in infos}) == 9
        head = await store.head("bucket", "key")
        assert head.metadata["n"].encode() == await store.read("bucket", "key")


# Sizes, and what else a server may lack


@pytest.mark.parametrize("lacking", ["size", "times"])
async def test_a_server_that_never_returns_an_attribute_is_refused(tmp_path: Path, lacking: str) -> None:
    class Lacks(Odd):
        def lstat(self, path: str) -> bytes:
            return attributes(os.lstat(path), **{lacking: False})

        stat = listed = lstat

        def fstat(self, file: int) -> bytes:
            return attributes(os.fstat(file), **{lacking: False})

    with pytest.raises(trove.BackendError, match=r"does not return the (size|modification time)"):
        async with opened_odd(Lacks(), tmp_path):
            pass


async def test_a_server_that_opens_files_only_for_one_thing(tmp_path: Path) -> None:
    class OneWay(Odd):
        def open(self, path: str, flags: OpenFlag) -> int:
            if flags & OpenFlag.READ and flags & OpenFlag.WRITE:
                raise OSError(errno.ENOTSUP, "unsupported")
            return super().open(path, flags)

    async with opened_odd(OneWay(), tmp_path) as store:
        await use(store, tmp_path)
        await replace(store)


async def test_a_server_that_makes_directories_that_exist(tmp_path: Path) -> None:
    class Makes(Odd):
        def mkdir(self, path: str) -> None:
            os.makedirs(path, exist_ok=True)

    async with opened_odd(Makes(), tmp_path) as store:
        await use(store, tmp_path)


@pytest.mark.parametrize("links", [True, False])
async def test_a_server_on_which_nothing_is_exclusive_is_refused(tmp_path: Path, links: bool) -> None:
    class Open(Odd):
        def open(self, path: str, flags: OpenFlag) -> int:
            return super().open(path, flags & ~OpenFlag.EXCLUSIVE)

    odd = Open()
    if links:  # then clients exclude each other by them
        async with opened_odd(odd, tmp_path) as store:
            await use(store, tmp_path)
    else:
        odd.extensions = (b"posix-rename@openssh.com",)
        with pytest.raises(trove.UnsupportedError, match="exclude each other"):
            async with opened_odd(odd, tmp_path):
                pass


@pytest.mark.parametrize("does", ["nothing", "replaces"])
async def test_a_server_that_does_not_link_as_it_says(tmp_path: Path, does: str) -> None:
    class Links(Odd):
        def link(self, source: str, target: str) -> None:
            if does == "replaces":
                Path(target).unlink(missing_ok=True)
                super().link(source, target)

    async with opened_odd(Links(), tmp_path) as store:
        assert not store.supports("put_if_none_match")
        await use(store, tmp_path)


# Names


class Folds(Odd):
    def __init__(self, root: Path, how: str) -> None:
        super().__init__()
        self._root = os.fspath(root)
        self._how = how

    def path(self, raw: bytes) -> str:
        path = super().path(raw)
        name = path.removeprefix(self._root)
        folded = {"case": name.lower(), "dots": name.rstrip("."), "forms": unicodedata.normalize("NFC", name)}
        return self._root + folded[self._how] if name != path else path


@pytest.mark.parametrize(("how", "named"), [("case", "case"), ("dots", "dot"), ("forms", "Unicode")])
async def test_names_that_are_one_are_refused_unless_accepted(tmp_path: Path, how: str, named: str) -> None:
    with pytest.raises(trove.UnsupportedError, match=f"{named}.*merge_names=1"):
        async with opened_odd(Folds(tmp_path, how), tmp_path):
            pass
    async with opened_odd(Folds(tmp_path, how), tmp_path, merge_names=True) as store:
        await use(store, tmp_path)
