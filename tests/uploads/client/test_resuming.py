"""Uploads that another process continues: the fingerprints."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
from pathlib import Path

import pytest

import trove_async as trove
from tests.uploads.client.serving import Peer, client_of
from trove_async.testing.answers import Answer
from trove_async.uploads import Client
from trove_async.uploads.client.fingerprints import Claim

pytestmark = pytest.mark.asyncio


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "uploads"


def records(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))


async def interrupt(peer: Peer, file: Path, folder: Path, protocol: str = "auto") -> None:
    """Upload a third of the file, and end with an error of the server."""
    peer.proxy.answer(Answer(403), method="PATCH", skip=1)
    async with client_of(peer, fingerprints=folder, chunk_size=500_000, protocol=protocol) as client:
        with pytest.raises(trove.AccessDeniedError):
            await client.upload(file)


async def test_another_client_continues(peer: Peer, file: Path, data: bytes, folder: Path, protocol: str) -> None:
    await interrupt(peer, file, folder, protocol)
    before = len(peer.proxy.requests)
    async with client_of(peer, fingerprints=folder, protocol=protocol) as client:
        found = await client.upload(file)
    assert found.resumed_at == 500_000
    assert peer.only == data
    assert peer.methods[before:] == ["OPTIONS", "HEAD", "PATCH"]
    assert peer.sent("PATCH")[-1].body_size == 1_000_000
    assert os.listdir(folder) == []


async def test_a_record_is_whole_also_if_the_system_writes_it_in_pieces(
    peer: Peer, file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))
    await interrupt(peer, file, folder)
    monkeypatch.undo()
    [record] = records(folder)
    assert json.loads(record.read_text())["path"] == str(file)


async def test_only_the_user_can_read_what_is_kept(peer: Peer, file: Path, folder: Path) -> None:
    await interrupt(peer, file, folder)
    [record] = records(folder)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    kept = json.loads(record.read_text())
    assert kept["path"] == str(file)
    assert len(kept["urls"]) == 1


@pytest.mark.parametrize("change", ["content", "time", "inode", "metadata", "protocol", "endpoint"])
async def test_another_upload_is_not_continued(peer: Peer, file: Path, data: bytes, folder: Path, change: str) -> None:
    await interrupt(peer, file, folder)
    metadata, protocol, url = {}, "auto", peer.url
    if change == "content":
        file.write_bytes(data := data[::-1])
    elif change == "time":
        os.utime(file, ns=(1, 1))
    elif change == "inode":
        times = file.stat()
        other = file.with_name("other")
        other.write_bytes(data)
        other.replace(file)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    elif change == "metadata":
        metadata = {"owner": "me"}
    elif change == "protocol":
        protocol = "ietf"
    else:
        url = f"{peer.url}?v=2"
    async with Client(url, fingerprints=folder, protocol=protocol, proxy="none") as client:  # type: ignore[arg-type]
        found = await client.upload(file, metadata=metadata)
    assert found.resumed_at == 0
    assert peer.data(found.url) == data
    assert len(records(folder)) == 1  # of the first upload


async def test_nothing_is_kept_where_nothing_is_wanted(peer: Peer, file: Path, data: bytes, folder: Path) -> None:
    peer.proxy.answer(Answer(403), method="PATCH")
    async with client_of(peer, fingerprints=None) as client:
        with pytest.raises(trove.AccessDeniedError):
            await client.upload(file)
        found = await client.upload(file)
    assert found.resumed_at == 0
    assert not folder.exists()


async def test_the_default_folder(peer: Peer, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    peer.proxy.answer(Answer(403), method="PATCH")
    async with Client(peer.url, proxy="none") as client:
        with pytest.raises(trove.AccessDeniedError):
            await client.upload(file)
    assert len(records(tmp_path / "xdg" / "trove" / "uploads")) == 1


async def test_a_default_folder_that_cannot_be_written_prevents_no_upload(
    peer: Peer,
    file: Path,
    data: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "no-folder").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "no-folder"))
    async with Client(peer.url, proxy="none") as client:
        await client.upload(file)
    assert peer.only == data
    assert "cannot be continued after a crash" in caplog.text
    async with Client(peer.url, proxy="none", fingerprints=tmp_path / "no-folder") as client:
        with pytest.raises(trove.AccessDeniedError, match="which is needed to resume uploads"):
            await client.upload(file)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'{"version": 2, "urls": ["http://x/"]}', b'{"version": 1, "urls": [7]}']
)
async def test_a_record_that_is_damaged_is_ignored(
    peer: Peer, file: Path, folder: Path, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await interrupt(peer, file, folder)
    [record] = records(folder)
    record.write_bytes(text)
    async with client_of(peer, fingerprints=folder) as client:
        found = await client.upload(file)
    assert found.resumed_at == 0
    assert "cannot be used to resume" in caplog.text


async def test_an_upload_that_is_gone_begins_anew(
    peer: Peer, file: Path, data: bytes, folder: Path, protocol: str
) -> None:
    await interrupt(peer, file, folder, protocol)
    peer.store.uploads.clear()
    async with client_of(peer, fingerprints=folder, protocol=protocol) as client:
        found = await client.upload(file)
    assert found.resumed_at == 0
    assert peer.only == data


async def test_a_server_that_cannot_tell_the_offset_is_asked_again(
    peer: Peer, file: Path, data: bytes, folder: Path, protocol: str
) -> None:
    await interrupt(peer, file, folder, protocol)
    for status in (423, 429, 503):
        peer.proxy.answer(Answer(status), method="HEAD")
    async with client_of(peer, fingerprints=folder, protocol=protocol) as client:
        found = await client.upload(file)
    assert found.resumed_at == 500_000
    assert len(peer.sent("POST")) == 1
    assert peer.only == data


async def test_two_uploads_of_one_file_at_once_do_not_share_one(
    peer: Peer, file: Path, data: bytes, folder: Path
) -> None:
    async with client_of(peer, fingerprints=folder) as client:
        first, second = await asyncio.gather(client.upload(file), client.upload(file))
    assert first.url != second.url
    assert peer.data(first.url) == peer.data(second.url) == data
    assert os.listdir(folder) == []


async def test_a_full_disk_prevents_an_upload_only_if_the_folder_was_chosen(
    peer: Peer,
    file: Path,
    data: bytes,
    tmp_path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("trove_async.uploads.client.fingerprints.os.fsync", full)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    async with client_of(peer, fingerprints=True) as client:
        await client.upload(file)
    assert peer.only == data
    assert "No space left on device; the upload cannot be continued" in caplog.text
    async with client_of(peer, fingerprints=folder) as client:
        with pytest.raises(trove.StorageFullError, match="which is needed to resume the upload, cannot be written"):
            await client.upload(file)


async def test_a_record_that_stays_after_the_end_does_no_harm(
    peer: Peer, file: Path, data: bytes, folder: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next upload of the file finds that the server has all of it."""

    async def stay(claim: Claim) -> None:
        pass

    monkeypatch.setattr(Claim, "forget", stay)
    async with client_of(peer, fingerprints=folder, protocol=protocol) as client:
        first = await client.upload(file)
        second = await client.upload(file)
    assert peer.only == data
    assert second.url == first.url
    assert second.resumed_at == len(data)
    assert peer.sent("PATCH")[-1].body_size == 0
