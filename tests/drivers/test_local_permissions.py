"""A file that is replaced keeps its mode, owner, group and access list, and its successor never had more."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

import trove_async as trove
from tests.drivers.odd_file_systems import KINDS
from trove_async import permissions
from trove_async.drivers.local.filesystem import LocalFileSystem

pytestmark = pytest.mark.asyncio

LARGE = b"x" * 300_000
UMASK = 0o027


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(UMASK)
    yield
    os.umask(before)


@pytest.fixture(params=["nameless", "named"])
def temporaries(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "named":
        monkeypatch.setattr(LocalFileSystem, "_probe_nameless", lambda self: False)
    return str(request.param)


@pytest_asyncio.fixture
async def store(tmp_path: Path, temporaries: str) -> AsyncIterator[trove.Trove]:
    async with trove.open(f"local://{tmp_path}?min_part_size=1") as opened:
        await opened.create_bucket("b")
        yield opened


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def place(path: Path, mode: int) -> None:
    path.write_bytes(b"placed by hand")
    path.chmod(mode)


async def pieces() -> AsyncIterator[bytes]:
    yield b"new"
    yield LARGE


async def write(store: trove.Trove) -> None:
    async with store.writer("b", "k") as writer:
        await writer.write(b"new")


async def copy(store: trove.Trove) -> None:
    await store.put("b", "source", b"new")
    await store.copy("b", "source", "b", "k")


async def move(store: trove.Trove) -> None:
    await store.put("b", "source", b"new")
    await store.move("b", "source", "b", "k")


async def upload(store: trove.Trove) -> None:
    upload_id = await store.initiate_multipart("b", "k")
    parts = [await store.upload_part("b", "k", upload_id, number, b"new") for number in (1, 2)]
    await store.complete_multipart("b", "k", upload_id, parts)


async def restore(store: trove.Trove) -> None:
    await store.set_versioning("b", True)
    await store.put("b", "k", b"another")
    await store.restore_version("b", "k", "null")


Write = Callable[[trove.Trove], Awaitable[object]]
WRITES: dict[str, Write] = {
    "put": lambda store: store.put("b", "k", b"new"),
    "put with metadata": lambda store: store.put("b", "k", b"new", metadata={"m": "y" * 30_000}),
    "large put": lambda store: store.put("b", "k", LARGE),
    "stream": lambda store: store.put("b", "k", pieces()),
    "conditional put": lambda store: store.put("b", "k", b"new", if_match="*"),
    "writer": write,
    "copy": copy,
    "move": move,
    "multipart": upload,
    "restore": restore,
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize(("before", "after"), [(0o600, 0o600), (0o666, 0o666), (0o640, 0o640), (0o4755, 0o755)])
async def test_a_replaced_file_keeps_its_mode(
    store: trove.Trove, tmp_path: Path, write: Write, before: int, after: int
) -> None:
    place(tmp_path / "b/k", before)
    await write(store)
    assert mode_of(tmp_path / "b/k") == after


@pytest.mark.parametrize("write", [WRITES[name] for name in ("put", "stream", "writer", "copy", "multipart")])
async def test_a_new_file_has_the_mode_of_the_umask(store: trove.Trove, tmp_path: Path, write: Write) -> None:
    await write(store)
    assert mode_of(tmp_path / "b/k") == 0o666 & ~UMASK


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_nobody_else_can_ever_read_what_replaces_a_private_file(
    store: trove.Trove, tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(tmp_path / "b/k", 0o600)
    seen: set[int] = set()

    def look() -> None:
        for folder in ("b", ".trove/tmp", ".trove/uploads"):
            for path in (tmp_path / folder).rglob("*"):
                if path.is_file() and path.name not in ("manifest", "source") and b"new" in path.read_bytes():
                    seen.add(mode_of(path) & 0o077)

    def watched(name: str) -> None:
        original = getattr(os, name)

        def call(*args: object, **options: object) -> object:
            look()
            result = original(*args, **options)
            look()
            return result

        monkeypatch.setattr(os, name, call)

    for name in ("write", "writev", "link", "rename", "fchmod", "fsync", "utime", "setxattr"):
        watched(name)
    if write in (WRITES["copy"], WRITES["move"]):
        (tmp_path / "b/source").touch(0o600)  # what is read there is the content too
    await write(store)
    assert seen <= {0}


async def test_a_temporary_with_a_name_is_private_until_it_is_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it will replace is not known before."""
    monkeypatch.setattr(LocalFileSystem, "_probe_nameless", lambda self: False)
    seen: set[int] = set()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield LARGE
            seen.update(mode_of(path) for path in (tmp_path / ".trove/tmp").rglob("*") if path.is_file())

    async with trove.open(f"local://{tmp_path}?fsync=0") as store:
        await store.create_bucket("b")
        await store.put("b", "k", body())
    assert seen == {0o600}


async def test_parts_have_the_mode_of_the_file_that_they_will_replace(store: trove.Trove, tmp_path: Path) -> None:
    place(tmp_path / "b/k", 0o600)
    upload_id = await store.initiate_multipart("b", "k")
    await store.upload_part("b", "k", upload_id, 1, b"new")
    (part,) = (tmp_path / ".trove/uploads/b").rglob("00001*")
    assert mode_of(part) == 0o600


async def test_an_older_version_that_becomes_the_latest_has_the_mode_of_the_file_that_it_replaces(
    store: trove.Trove, tmp_path: Path
) -> None:
    await store.set_versioning("b", True)
    await store.put("b", "k", b"older")
    latest = await store.put("b", "k", b"latest")
    (tmp_path / "b/k").chmod(0o600)
    assert latest.version_id is not None
    await store.delete_version("b", "k", latest.version_id)
    assert await store.read("b", "k") == b"older"
    assert mode_of(tmp_path / "b/k") == 0o600


@pytest.mark.parametrize("kind", ["as here", "no links", "2 s, no attributes, no links"])
async def test_a_version_that_is_kept_has_the_mode_that_it_had(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    KINDS[kind](monkeypatch)
    async with trove.open(f"local://{tmp_path}?fsync=0") as store:
        await store.create_bucket("b")
        await store.set_versioning("b", True)
        place(tmp_path / "b/k", 0o600)
        os.utime(tmp_path / "b/k", ns=(2 * 10**18, 2 * 10**18))  # a time that such file systems can store
        await store.put("b", "k", b"new")
        versions = [path for path in (tmp_path / ".trove/versions/b").rglob("null/*") if path.is_file()]
        assert [mode_of(path) for path in (*versions, tmp_path / "b/k")] == [0o600, 0o600]


async def test_a_put_that_is_refused_leaves_the_mode(store: trove.Trove, tmp_path: Path) -> None:
    place(tmp_path / "b/k", 0o604)
    with pytest.raises(trove.PreconditionFailedError):
        await store.put("b", "k", b"new", if_match="another")
    assert mode_of(tmp_path / "b/k") == 0o604


async def test_a_mode_that_is_narrowed_is_flushed_before_the_file_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("fchmod", "fsync", "link"):
        original = getattr(os, name)

        def call(
            *args: object, name: str = name, original: Callable[..., object] = original, **options: object
        ) -> None:
            calls.append(name)
            original(*args, **options)

        monkeypatch.setattr(os, name, call)
    async with trove.open(f"local://{tmp_path}") as store:
        await store.create_bucket("b")
        place(tmp_path / "b/k", 0o600)
        calls.clear()
        await store.put("b", "k", b"new")
    assert calls[:3] == ["fsync", "fchmod", "fsync"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to another user")
async def test_a_replaced_file_keeps_its_owner_and_group(store: trove.Trove, tmp_path: Path) -> None:
    place(tmp_path / "b/k", 0o640)
    os.chown(tmp_path / "b/k", 12345, 12346)
    await store.put("b", "k", b"new")
    status = (tmp_path / "b/k").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12345, 12346, 0o640)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to another user")
async def test_another_group_gets_no_more_permissions_than_everybody(
    store: trove.Trove, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(tmp_path / "b/k", 0o664)
    os.chown(tmp_path / "b/k", -1, 12346)
    monkeypatch.setattr(permissions, "_set_owner", lambda descriptor, old: False)
    await store.put("b", "k", b"new")
    assert mode_of(tmp_path / "b/k") == 0o644


async def test_an_access_list_is_kept(store: trove.Trove, tmp_path: Path) -> None:
    target = tmp_path / "b/k"
    place(target, 0o644)
    # The owner and user 12345 may read and write, and the group nothing: acl(5), linux/posix_acl_xattr.h.
    entries = [(0x01, 6, -1), (0x02, 6, 12345), (0x04, 0, -1), (0x10, 6, -1), (0x20, 0, -1)]
    access = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(target, "system.posix_acl_access", access)
    except OSError:
        pytest.skip("the file system has no access lists")
    await store.put("b", "k", b"new")
    assert os.getxattr(target, "system.posix_acl_access") == access
    assert mode_of(target) == 0o660
