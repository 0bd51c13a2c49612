"""Failures of the server and of the network: no byte is lost, and no upload begins anew without need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

import trove_async as trove
from tests.uploads.client.serving import AT_ONCE, HOST, Peer, client_of, peer_serving
from trove_async.checksums import digest
from trove_async.sources import Chunk
from trove_async.testing.answers import Answer
from trove_async.testing.proxy import ConnectionFault, FaultProxy

pytestmark = pytest.mark.asyncio

CUT = 700_000


@pytest.mark.parametrize("method", ["OPTIONS", "POST", "HEAD", "PATCH"])
async def test_what_may_pass_is_tried_again(peer: Peer, file: Path, data: bytes, protocol: str, method: str) -> None:
    statuses = [408, 423, 425, 429, 500, 502, 503, 504]
    if method == "HEAD":
        peer.proxy.answer(Answer(500), method="PATCH")
    for status in statuses:
        peer.proxy.answer(Answer(status), method=method)
    async with client_of(peer, protocol=protocol, retries=replace(AT_ONCE, attempts=10)) as client:
        await client.upload(file)
    assert [request.status for request in peer.sent(method)][: len(statuses)] == statuses
    assert peer.only == data


async def test_what_is_refused_is_not_tried_again(peer: Peer, file: Path, protocol: str) -> None:
    async with client_of(peer, protocol=protocol) as client:
        for status in (400, 401, 403, 422, 451, 501, 507):
            peer.proxy.answer(Answer(status, body=b"not today"), method="PATCH")
            with pytest.raises(trove.TroveError, match="not today") as caught:
                await client.upload(file)
            assert caught.value.status == status
            assert caught.value.operation == "upload"
            assert not caught.value.retryable
            assert peer.methods[-2:] == ["POST", "PATCH"]


async def test_the_attempts_end(peer: Peer, file: Path, protocol: str) -> None:
    peer.proxy.answer(Answer(503), method="PATCH", times=None)
    async with client_of(peer, protocol=protocol) as client:
        with pytest.raises(trove.UnavailableError):
            await client.upload(file)
    assert len(peer.sent("PATCH")) == AT_ONCE.attempts
    assert len(peer.sent("HEAD")) == AT_ONCE.attempts - 1
    assert len(peer.sent("POST")) == 1


async def test_retry_after_is_honoured(peer: Peer, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("trove_async.driver.retry.asyncio.sleep", sleep)
    peer.proxy.answer(Answer(423, {"Retry-After": "17"}), method="PATCH")
    async with client_of(peer) as client:
        await client.upload(file)
    assert [wait for wait in waits if wait] == [17]


@pytest.mark.parametrize("kind", ["reset", "cut"])
async def test_a_connection_that_breaks_in_a_body_is_continued(
    peer: Peer, file: Path, data: bytes, protocol: str, kind: str
) -> None:
    fault = ConnectionFault(reset_up_after=CUT) if kind == "reset" else ConnectionFault(cut_up_after=CUT)
    async with FaultProxy(HOST, peer.proxy.port, plan=[fault]) as network:
        async with client_of(peer, url=f"{network.url()}/files/", protocol=protocol) as client:
            await client.upload(file)
        assert [strike.kind for strike in network.strikes] == [kind]
    assert peer.only == data
    assert len(peer.sent("POST")) == 1
    first, second = peer.sent("PATCH")
    assert first.body_size + second.body_size <= len(data) + CUT
    assert int(second.header("upload-offset") or 0) + second.body_size == len(data)


@pytest.mark.parametrize("method", ["HEAD", "PATCH"])
async def test_a_lost_answer(peer: Peer, file: Path, data: bytes, protocol: str, method: str) -> None:
    """The server has carried out what it was asked; the upload was finished by the request whose answer is lost."""
    if method == "HEAD":
        peer.proxy.answer(Answer(500), method="PATCH")
    peer.proxy.answer(Answer(502), method=method, when="after")
    async with client_of(peer, protocol=protocol) as client:
        found = await client.upload(file)
    assert peer.only == data
    assert found.is_finished
    if method == "PATCH":
        assert [request.body_size for request in peer.sent("PATCH")] == [len(data), 0]


async def test_a_lost_last_answer_of_a_server_that_does_not_give_it_again(
    peer: Peer, file: Path, data: bytes, protocol: str
) -> None:
    peer.proxy.answer(Answer(502), method="PATCH", when="after")
    peer.proxy.answer(Answer(403), method="PATCH")
    async with client_of(peer, protocol=protocol) as client:
        found = await client.upload(file)
    assert (found.is_finished, found.offset, found.answer) == (True, len(data), None)
    assert peer.only == data


async def test_a_lost_creation_is_made_again(peer: Peer, file: Path, data: bytes, protocol: str) -> None:
    peer.proxy.answer(Answer(502), method="POST", when="after")
    async with client_of(peer, protocol=protocol) as client:
        found = await client.upload(file)
    assert peer.data(found.url) == data
    assert len(peer.store.uploads) == 2


@pytest.mark.parametrize("status", [404, 410])
async def test_an_upload_that_is_gone_begins_anew(
    peer: Peer, file: Path, data: bytes, protocol: str, status: int
) -> None:
    peer.proxy.answer(Answer(status), method="PATCH")
    async with client_of(peer, protocol=protocol) as client:
        found = await client.upload(file)
    assert peer.data(found.url) == data
    assert len(peer.sent("POST")) == 2


async def test_an_upload_that_is_always_gone_ends(peer: Peer, file: Path) -> None:
    peer.proxy.answer(Answer(404), method="PATCH", times=None)
    async with client_of(peer) as client:
        with pytest.raises(trove.UploadNotFoundError):
            await client.upload(file)
    assert len(peer.sent("POST")) == AT_ONCE.attempts


async def test_a_url_where_no_uploads_are_created(peer: Peer, file: Path, protocol: str) -> None:
    peer.proxy.answer(Answer(404), times=None)
    async with client_of(peer, protocol=protocol) as client:
        with pytest.raises(trove.UploadNotFoundError, match=r"no uploads are created at http.*: check the URL"):
            await client.upload(file)


async def test_another_offset_is_asked_for(peer: Peer, file: Path, data: bytes, protocol: str) -> None:
    peer.proxy.answer(Answer(409), method="PATCH", skip=1)
    async with client_of(peer, protocol=protocol, chunk_size=500_000) as client:
        await client.upload(file)
    assert peer.only == data
    assert peer.methods == ["OPTIONS", "POST", "PATCH", "PATCH", "HEAD", "PATCH", "PATCH"]


async def test_conflicts_without_end_are_an_error(peer: Peer, file: Path) -> None:
    peer.proxy.answer(Answer(409), method="PATCH", times=None)
    async with client_of(peer) as client:
        with pytest.raises(trove.UploadOffsetError):
            await client.upload(file)


async def test_requests_become_smaller_after_413(peer: Peer, file: Path, data: bytes, protocol: str) -> None:
    peer.proxy.answer(Answer(413), method="PATCH", times=2)
    async with client_of(peer, protocol=protocol) as client:
        await client.upload(file)
    assert [request.body_size for request in peer.sent("PATCH")] == [1_500_000, 750_000, *[375_000] * 4]
    assert peer.only == data


async def test_a_limit_in_the_answer_413_is_used(peer: Peer, file: Path, data: bytes, protocol: str) -> None:
    peer.proxy.answer(Answer(413, {"Upload-Limit": "max-append-size=500000"}), method="PATCH")
    async with client_of(peer, protocol=protocol) as client:
        await client.upload(file)
    assert [request.body_size for request in peer.sent("PATCH")] == [1_500_000, *[500_000] * 3]
    assert peer.only == data


async def test_413_for_every_size_is_an_error(peer: Peer, file: Path, protocol: str) -> None:
    peer.proxy.answer(Answer(413), method="PATCH", times=None)
    async with client_of(peer, protocol=protocol) as client:
        with pytest.raises(trove.ContentTooLargeError, match="refuses even a request of 93750 bytes"):
            await client.upload(file)


async def test_a_chunk_that_was_damaged_is_sent_again(peer: Peer, file: Path, data: bytes) -> None:
    peer.proxy.answer(Answer(460), method="PATCH", skip=1)
    async with client_of(peer, protocol="tus", chunk_size=500_000) as client:
        await client.upload(file, checksum="sha256")
    assert peer.only == data
    assert len(peer.sent("PATCH")) == 4


async def test_bytes_that_are_damaged_on_the_way_are_sent_again(
    peer: Peer, file: Path, data: bytes, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server finds it out, in both protocols."""
    digests = [b"\0" * 32]

    async def damaged(algorithm: str, chunks: Sequence[Chunk]) -> bytes:
        return digests.pop() if digests else await digest(algorithm, chunks)

    monkeypatch.setattr("trove_async.uploads.client.sending.digest", damaged)
    async with client_of(peer, protocol=protocol) as client:
        await client.upload(file, checksum="sha256")
    assert peer.only == data
    assert [request.status for request in peer.sent("PATCH")] == [460 if protocol == "tus" else 400, 204]


async def test_bytes_that_are_always_damaged_are_an_error(peer: Peer, file: Path) -> None:
    peer.proxy.answer(Answer(460), method="PATCH", times=None)
    async with client_of(peer) as client:
        with pytest.raises(trove.ChecksumError, match="something on the way changes them"):
            await client.upload(file, checksum="sha256")


async def generated(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


async def test_a_source_that_is_read_once_is_continued_within_its_chunk(peer: Peer, data: bytes, protocol: str) -> None:
    async with FaultProxy(HOST, peer.proxy.port, plan=[ConnectionFault(reset_up_after=CUT)]) as network:
        url = f"{network.url()}/files/"
        async with client_of(peer, url=url, protocol=protocol, chunk_size=1_000_000) as client:
            await client.upload(generated(data))
    assert peer.only == data
    assert len(peer.sent("POST")) == 1


async def test_bytes_that_the_server_loses_are_sent_again(
    peer: Peer, file: Path, data: bytes, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The offset of the server counts; that it went back is said by a warning and to `on_progress`."""
    seen: list[int] = []

    async def losing() -> dict[str, str]:
        """Lose bytes before the second PATCH."""
        if peer.methods == ["OPTIONS", "POST", "PATCH"]:
            [upload] = peer.store.uploads.values()
            del upload.data[300_000:]
        return {}

    async with client_of(peer, headers=losing, protocol=protocol, chunk_size=500_000) as client:
        await client.upload(file, on_progress=lambda done, size: seen.append(done))
    assert peer.only == data
    assert [request.header("upload-offset") for request in peer.sent("PATCH")][:3] == ["0", "500000", "300000"]
    assert "the server has lost 200000 acknowledged bytes" in caplog.text
    assert [after for before, after in pairwise(seen) if after < before] == [300_000]
    assert seen[-1] == len(data)


async def test_a_source_that_is_read_once_cannot_make_up_for_a_loss(peer: Peer, data: bytes) -> None:
    async def losing() -> AsyncIterator[bytes]:
        yield data[:600_000]
        for upload in peer.store.uploads.values():
            upload.data.clear()
        yield data[600_000:]

    peer.proxy.answer(Answer(500), method="PATCH", skip=1)
    async with client_of(peer, chunk_size=300_000) as client:
        with pytest.raises(trove.UploadOffsetError, match="cannot be read again"):
            await client.upload(losing())


async def test_an_answer_that_is_none_of_an_upload_server(peer: Peer, file: Path, protocol: str) -> None:
    peer.proxy.answer(Answer(200, {"Content-Type": "text/html"}, b"<html>hello</html>"), method="POST", times=None)
    async with client_of(peer, protocol=protocol) as client:
        with pytest.raises(trove.BackendError, match=f"without Location: are uploads of {protocol} created there"):
            await client.upload(file)


async def test_a_server_that_takes_nothing_is_given_up(peer: Peer, file: Path) -> None:
    peer.proxy.answer(Answer(204, {"Upload-Offset": "0"}), method="PATCH", times=None)
    async with client_of(peer, protocol="tus") as client:
        with pytest.raises(trove.TransientError, match="took none of the bytes"):
            await client.upload(file)


async def test_a_server_that_loses_bytes_again_and_again_is_given_up(peer: Peer, file: Path, protocol: str) -> None:
    """Bytes that it had before are no progress."""

    async def losing() -> dict[str, str]:
        for upload in peer.store.uploads.values():
            upload.data.clear()
        return {}

    async with client_of(peer, headers=losing, protocol=protocol, chunk_size=500_000) as client:
        with pytest.raises(trove.TroveError):
            await client.upload(file)
    assert len(peer.sent("PATCH")) < 10


async def test_an_upload_that_the_server_never_completes_is_given_up(peer: Peer, data: bytes) -> None:
    answer = Answer(204, {"Upload-Complete": "?0", "Upload-Offset": str(len(data))})
    for method in ("HEAD", "PATCH"):
        peer.proxy.answer(answer, method=method, when="after", times=None)
    async with client_of(peer, protocol="ietf") as client:
        with pytest.raises(trove.TransientError, match="does not complete the upload"):
            await client.upload(data)


async def test_a_success_of_something_else_is_not_believed(peer: Peer, file: Path, data: bytes, protocol: str) -> None:
    """The portal of a hotel answers in place of the server."""
    peer.proxy.answer(Answer(200, {"Content-Type": "text/html"}, b"<html>Log in</html>"), method="PATCH")
    async with client_of(peer, protocol=protocol) as client:
        found = await client.upload(file)
    assert peer.methods == ["OPTIONS", "POST", "PATCH", "HEAD", "PATCH"]
    assert peer.only == data
    assert found.is_finished


async def test_a_server_that_does_not_say_that_it_is_complete_is_asked(
    peer: Peer, file: Path, data: bytes, protocol: str
) -> None:
    peer.proxy.answer(Answer(201), method="PATCH", when="after", times=2)
    async with client_of(peer, protocol=protocol) as client:
        found = await client.upload(file)
    assert peer.methods == ["OPTIONS", "POST", "PATCH", "HEAD", "PATCH"]
    assert [request.body_size for request in peer.sent("PATCH")] == [len(data), 0]
    assert found.is_finished
    assert peer.only == data


async def test_a_server_that_answers_no_options(peer: Peer, file: Path, data: bytes, protocol: str) -> None:
    async with client_of(peer, protocol=protocol) as client:
        peer.proxy.answer(Answer(404), method="OPTIONS")
        await client.upload(file)
    assert peer.only == data
    peer.proxy.answer(Answer(401), method="OPTIONS")
    async with client_of(peer) as client:
        with pytest.raises(trove.UnauthenticatedError):
            await client.upload(file)


async def test_a_file_that_changes_meanwhile_is_refused(peer: Peer, file: Path, protocol: str) -> None:
    def change(done: int, size: int | None) -> None:
        if done < 1_500_000:
            file.write_bytes(b"x" * 1_500_000)

    async with client_of(peer, protocol=protocol, chunk_size=500_000) as client:
        with pytest.raises(trove.BodySourceError, match="changed while it was uploaded"):
            await client.upload(file, on_progress=change)
    assert not any(upload.info.is_finished for upload in peer.store.uploads.values())


async def test_what_the_application_raises_passes_unchanged(peer: Peer, file: Path) -> None:
    class OwnError(Exception):
        pass

    def progress(done: int, size: int | None) -> None:
        raise OwnError

    async with client_of(peer) as client:
        with pytest.raises(OwnError):
            await client.upload(file, on_progress=progress)


async def test_an_expired_upload_of_the_servers_own_begins_anew(file: Path, data: bytes, protocol: str) -> None:
    async with peer_serving() as peer, client_of(peer, protocol=protocol, chunk_size=500_000) as client:

        def lose(done: int, size: int | None) -> None:
            if done == 500_000 and len(peer.store.uploads) == 1 and len(peer.sent("POST")) == 1:
                peer.store.uploads.clear()

        found = await client.upload(file, on_progress=lose)
        assert peer.data(found.url) == data
