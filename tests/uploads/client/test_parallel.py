"""Uploads of several parts at once, which the server joins."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

import trove_async as trove
from tests.uploads.client.serving import Peer, client_of
from trove_async.testing.answers import Answer
from trove_async.testing.proxy import ConnectionFault, FaultProxy

pytestmark = pytest.mark.asyncio


def finals(peer: Peer) -> list[bytes]:
    return [bytes(upload.data) for upload in peer.store.uploads.values() if upload.info.is_final]


async def test_parts_are_joined(peer: Peer, file: Path, data: bytes) -> None:
    seen: list[tuple[int, int | None]] = []
    async with client_of(peer, parallel=3) as client:
        found = await client.upload(
            file, metadata={"owner": "me"}, on_progress=lambda done, size: seen.append((done, size))
        )
        info = await client.info(found.url)
    assert peer.data(found.url) == data
    assert (found.size, found.is_finished) == (len(data), True)
    assert info.metadata.text("owner") == "me"
    assert sorted(request.body_size for request in peer.sent("PATCH")) == [500_000] * 3
    assert len(peer.sent("POST")) == 4
    assert seen == sorted(seen)
    assert seen[-1] == (len(data), len(data))


async def test_small_uploads_and_streams_are_not_divided(peer: Peer, data: bytes) -> None:
    async def generated() -> object:
        yield data

    async with client_of(peer, parallel=3) as client:
        await client.upload(data[:300_000])
        await client.upload(generated())  # type: ignore[arg-type]
    assert len(peer.sent("POST")) == 2


async def test_the_ietf_protocol_has_no_parts(peer: Peer, file: Path, data: bytes) -> None:
    async with client_of(peer, parallel=3, protocol="ietf") as client:
        await client.upload(file)
    assert peer.only == data


async def test_each_part_is_continued(peer: Peer, file: Path, data: bytes) -> None:
    """The first three connections break in the middle of bodies: those of all parts, unless one waits for another."""
    plan = [ConnectionFault(reset_up_after=100_000)] * 3
    async with FaultProxy("127.0.0.1", peer.proxy.port, plan=plan) as network:
        async with client_of(peer, url=f"{network.url()}/files/", parallel=3) as client:
            await client.upload(file)
        assert 1 <= len(network.strikes) <= 3
    assert finals(peer) == [data]


async def test_another_process_continues_all_parts(peer: Peer, file: Path, data: bytes, tmp_path: Path) -> None:
    """The first one was cancelled, when two parts had a third of their bytes."""
    folder = tmp_path / "state"
    peer.proxy.answer(Answer(423, {"Retry-After": "50"}), method="PATCH", skip=2, times=None)
    async with client_of(peer, fingerprints=folder, parallel=3, chunk_size=200_000) as client:
        task = asyncio.create_task(client.upload(file))
        while sum(request.status == 423 for request in peer.sent("PATCH")) < 3:  # noqa: ASYNC110 - the proxy has no event
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    peer.proxy.clear()
    created = len(peer.sent("POST"))
    assert created == 3
    async with client_of(peer, fingerprints=folder) as client:  # the parts are those that were begun
        found = await client.upload(file)
    assert finals(peer) == [data]
    assert found.resumed_at == 400_000
    assert len(peer.sent("POST")) == created + 1
    assert os.listdir(folder) == []


class WhenCreated:
    """Makes no headers for the first PATCH before all parts are created, and the client knows it.

    Otherwise a part might fail while another one is created. The first requests are OPTIONS and three POSTs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._calls = 0
        self._is_over = False

    async def __call__(self) -> dict[str, str]:
        self._calls += 1
        while self._calls > 4 and not self._is_over and not self._is_ready():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        self._is_over = self._calls > 4
        return {}

    def _is_ready(self) -> bool:
        return any(None not in json.loads(record.read_text())["urls"] for record in self._folder.glob("*.json"))


async def test_parts_of_an_upload_that_fails_for_good_are_removed(peer: Peer, file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    peer.proxy.answer(Answer(400, body=b"no"), method="PATCH", skip=1, times=None)
    async with client_of(peer, fingerprints=folder, headers=WhenCreated(folder), parallel=3) as client:
        with pytest.raises(trove.UploadRejectedError, match="no"):
            await client.upload(file)
    assert peer.store.uploads == {}
    assert len(peer.sent("DELETE")) == 3
    assert os.listdir(folder) == []


async def test_parts_that_can_be_continued_are_kept(peer: Peer, file: Path, data: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    peer.proxy.answer(Answer(503), method="PATCH", times=None)
    async with client_of(peer, fingerprints=folder, headers=WhenCreated(folder), parallel=3) as client:
        with pytest.raises(trove.UnavailableError):
            await client.upload(file)
        assert len(peer.store.uploads) == 3
        peer.proxy.clear()
        await client.upload(file)
    assert finals(peer) == [data]
    assert len(peer.sent("POST")) == 4


async def test_parts_that_nobody_can_continue_are_removed(peer: Peer, file: Path) -> None:
    """Those that are known; one whose creation was under way expires."""
    peer.proxy.answer(Answer(503), method="PATCH", times=None)
    async with client_of(peer, parallel=3) as client:
        with pytest.raises(trove.UnavailableError):
            await client.upload(file)
    removed = {request.path for request in peer.sent("DELETE")}
    assert removed
    assert removed.isdisjoint(f"/files/{upload_id}" for upload_id in peer.store.uploads)


async def test_joining_is_tried_again(peer: Peer, file: Path, data: bytes) -> None:
    peer.proxy.answer(Answer(503), method="POST", skip=3)
    async with client_of(peer, parallel=3) as client:
        found = await client.upload(file)
    assert peer.data(found.url) == data
