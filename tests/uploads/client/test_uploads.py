"""Uploads without faults, in both protocols."""

from __future__ import annotations

import hashlib
import io
import os
import tracemalloc
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import trove_async as trove
from tests.uploads.client.serving import Peer, client_of, peer_serving
from tests.uploads.serving import app_process
from trove_async.testing.answers import Answer
from trove_async.uploads import Client, FinalAnswer, Hooks, UploadEvent

pytestmark = pytest.mark.asyncio


async def test_a_file_is_one_creation_and_one_request(peer: Peer, file: Path, data: bytes, protocol: str) -> None:
    async with client_of(peer, protocol=protocol) as client:
        found = await client.upload(file)
    assert peer.only == data
    assert peer.methods == ["OPTIONS", "POST", "PATCH"]
    assert (found.offset, found.size, found.is_finished, found.resumed_at) == (len(data), len(data), True, 0)
    assert peer.data(found.url) == data


@pytest.mark.parametrize("size", [0, 1, 300_000])
async def test_sizes(peer: Peer, protocol: str, size: int) -> None:
    async with client_of(peer, protocol=protocol) as client:
        found = await client.upload(b"x" * size)
    assert peer.only == b"x" * size
    assert found.is_finished


async def test_the_server_is_asked_for_its_protocol(peer: Peer) -> None:
    async with client_of(peer) as client:
        await client.upload(b"x")
        await client.upload(b"y")
    assert peer.sent("POST")[0].header("tus-resumable") == "1.0.0"
    assert len(peer.sent("OPTIONS")) == 1


async def test_a_server_without_tus_gets_the_ietf_protocol(peer: Peer) -> None:
    peer.proxy.answer(Answer(405), method="OPTIONS")
    async with client_of(peer) as client:
        await client.upload(b"x")
    assert peer.sent("POST")[0].header("upload-complete") == "?0"
    assert peer.only == b"x"


async def test_a_server_of_the_rfc_is_not_asked_for_a_draft(peer: Peer, file: Path, data: bytes) -> None:
    peer.proxy.answer(Answer(204, {"Upload-Limit": "min-size=0"}), method="OPTIONS")
    async with client_of(peer) as client:
        await client.upload(file)
    assert peer.only == data
    assert [request.header("upload-draft-interop-version") for request in peer.proxy.requests] == ["8", None, None]


async def test_a_server_of_the_draft_is_asked_for_a_version(peer: Peer, file: Path, data: bytes) -> None:
    async with client_of(peer, protocol="ietf") as client:
        await client.upload(file)
    assert peer.only == data
    assert [request.header("upload-draft-interop-version") for request in peer.proxy.requests] == ["8", "8", "8"]


async def test_a_small_upload_of_tus_is_one_request(peer: Peer) -> None:
    async with client_of(peer, protocol="tus") as client:
        found = await client.upload(b"x" * 1000)
    assert peer.methods == ["OPTIONS", "POST"]
    assert peer.only == b"x" * 1000
    assert found.answer is not None
    assert found.answer.status == 201


async def test_chunks(peer: Peer, file: Path, data: bytes, protocol: str) -> None:
    async with client_of(peer, protocol=protocol, chunk_size=400_000) as client:
        await client.upload(file)
    assert [request.body_size for request in peer.sent("PATCH")] == [400_000, 400_000, 400_000, 300_000]
    assert peer.only == data


async def test_limits_that_are_announced_make_requests_smaller(file: Path, data: bytes, protocol: str) -> None:
    async with peer_serving(chunk_size=500_000) as peer, client_of(peer, protocol=protocol) as client:
        await client.upload(file)
        assert [request.body_size for request in peer.sent("PATCH")] == [500_000] * 3
        assert peer.only == data


async def test_an_upload_that_is_too_large_sends_nothing(protocol: str) -> None:
    async with peer_serving(max_size=10) as peer, client_of(peer, protocol=protocol) as client:
        with pytest.raises(trove.ContentTooLargeError, match="the upload has 11 bytes, and the server accepts 10"):
            await client.upload(b"x" * 11)
        assert peer.methods == ["OPTIONS"]


async def generated(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def iterated(data: bytes) -> Iterator[bytes]:
    yield from (data[start : start + 100_000] for start in range(0, len(data), 100_000))


async def test_sources_of_unknown_size(peer: Peer, data: bytes, protocol: str) -> None:
    """A chunk that ends exactly with the source included: the end is known before its last request."""
    async with client_of(peer, protocol=protocol, chunk_size=500_000) as client:
        found = await client.upload(generated(data, 50_000))
    assert [request.body_size for request in peer.sent("PATCH")] == [500_000] * 3
    assert peer.only == data
    assert found.size == len(data)


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "file", "BytesIO", "generator", "iterator"])
async def test_every_kind_of_source(peer: Peer, file: Path, data: bytes, kind: str) -> None:
    with file.open("rb") as opened:
        sources: dict[str, object] = {
            "bytes": data,
            "bytearray": bytearray(data),
            "file": opened,
            "BytesIO": io.BytesIO(data),
            "generator": generated(data, 7_777),
            "iterator": iterated(data),
        }
        async with client_of(peer) as client:
            await client.upload(sources[kind])  # type: ignore[arg-type]
    assert peer.only == data


async def test_a_file_is_uploaded_from_its_position_on(peer: Peer, file: Path, data: bytes) -> None:
    with file.open("rb") as opened:
        opened.seek(1_000_000)
        async with client_of(peer) as client:
            await client.upload(opened)
    assert peer.only == data[1_000_000:]


async def test_a_source_of_another_size_is_refused(peer: Peer, file: Path, data: bytes) -> None:
    async with client_of(peer) as client:
        with pytest.raises(trove.BodySizeError, match="1 were declared"):
            await client.upload(file, size=1)
        with pytest.raises(trove.BodySizeError):
            await client.upload(generated(data, 100_000), size=len(data) + 1)
    assert not any(upload.info.is_finished for upload in peer.store.uploads.values())


async def test_metadata_of_tus(peer: Peer, file: Path) -> None:
    async with client_of(peer, protocol="tus") as client:
        found = await client.upload(file, metadata={"owner": "ä", "raw": b"\xff"}, content_type="image/png")
        info = await client.info(found.url)
    assert dict(info.metadata) == {
        "filename": b"a file.bin",
        "filetype": b"image/png",
        "owner": "ä".encode(),
        "raw": b"\xff",
    }


async def test_the_ietf_protocol_has_headers_instead_of_metadata(peer: Peer, file: Path) -> None:
    async with client_of(peer, protocol="ietf") as client:
        with pytest.raises(trove.InvalidArgumentError, match="no metadata"):
            await client.upload(file, metadata={"owner": "me"})
        await client.upload(file, filename="b.png")
    [creation] = peer.sent("POST")
    assert creation.header("content-type") == "image/png"
    assert creation.header("content-disposition") == 'attachment; filename="b.png"'


@pytest.mark.parametrize("algorithm", ["sha256", "crc32c"])
async def test_checksums(peer: Peer, file: Path, data: bytes, protocol: str, algorithm: str) -> None:
    async with client_of(peer, protocol=protocol, chunk_size=1_000_000) as client:
        await client.upload(file, checksum=algorithm)
    assert peer.only == data
    name = "upload-checksum" if protocol == "tus" else "content-digest"
    assert len({request.header(name) for request in peer.sent("PATCH")}) == 2
    if algorithm == "sha256" and protocol == "tus":
        expected = b64encode(hashlib.sha256(data[:1_000_000]).digest()).decode()
        assert peer.sent("PATCH")[0].header(name) == f"sha256 {expected}"


async def test_a_checksum_that_the_server_does_not_compare_is_refused(peer: Peer) -> None:
    async with client_of(peer) as client:
        with pytest.raises(trove.UnsupportedError, match="does not compare sha512 checksums"):
            await client.upload(b"x", checksum="sha512")
        with pytest.raises(trove.InvalidArgumentError, match="the checksum is one of"):
            await client.upload(b"x", checksum="sha9")
    assert peer.sent("POST") == []


async def test_an_upload_is_described_and_removed(peer: Peer, protocol: str) -> None:
    async with client_of(peer, protocol=protocol) as client:
        found = await client.upload(b"x" * 10)
        info = await client.info(found.url)
        assert (info.url, info.offset, info.size, info.is_finished) == (found.url, 10, 10, True)
        await client.terminate(found.url)
        await client.terminate(found.url)  # it is gone already
        with pytest.raises(trove.UploadNotFoundError):
            await client.info(found.url)
    assert peer.store.uploads == {}


class Answering(Hooks):
    async def before_finish(self, event: UploadEvent) -> FinalAnswer | None:
        return FinalAnswer(200, (("X-Invoice", "7"),), b"thanks")


async def test_the_answer_of_the_application_is_returned(file: Path, protocol: str) -> None:
    async with peer_serving(hooks=Answering()) as peer, client_of(peer, protocol=protocol) as client:
        found = await client.upload(file)
        assert found.answer is not None
        assert (found.answer.body, dict(found.answer.headers)["x-invoice"]) == (b"thanks", "7")


async def test_a_client_is_used_while_it_is_open(peer: Peer) -> None:
    client = client_of(peer)
    with pytest.raises(trove.ClosedError, match="async with"):
        await client.upload(b"x")
    async with client:
        pass
    with pytest.raises(trove.ClosedError):
        await client.upload(b"x")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"protocol": "ftp"}, "the protocol is"),
        ({"chunk_size": 0}, "chunk_size is a number of bytes"),
        ({"parallel": 0}, "parallel is 1 or more"),
        ({"proxy": "socks5://x"}, "proxy"),
        ({"allow_origins": ["example.com"]}, "begins with http"),
    ],
)
async def test_invalid_options(peer: Peer, options: dict[str, object], words: str) -> None:
    with pytest.raises(trove.InvalidArgumentError, match=words):
        client_of(peer, **options)


async def test_a_short_source_needs_no_server_that_takes_uploads_without_a_size(peer: Peer, data: bytes) -> None:
    peer.proxy.answer(Answer(204, {"Tus-Version": "1.0.0", "Tus-Extension": "creation"}), method="OPTIONS")
    async with client_of(peer, chunk_size=1_000_000) as client:
        await client.upload(generated(data[:1_000_000], 100_000))
        with pytest.raises(trove.UnsupportedError, match="give size="):
            await client.upload(generated(data[:1_000_001], 100_000))
        await client.upload(generated(data[:1_000_001], 100_000), size=1_000_001)
    assert [len(upload.data) for upload in peer.store.uploads.values()] == [1_000_000, 1_000_001]


async def test_a_name_that_is_not_utf_8(peer: Peer, tmp_path: Path, protocol: str) -> None:
    path = tmp_path / os.fsdecode(b"\xff.txt")
    path.write_bytes(b"x")
    async with client_of(peer, protocol=protocol, fingerprints=tmp_path / "state") as client:
        found = await client.upload(path)
        if protocol == "tus":
            assert (await client.info(found.url)).metadata["filename"] == b"\xff.txt"
    assert peer.only == b"x"


async def test_memory_is_bounded_whatever_the_size(tmp_path: Path) -> None:
    """The server, which keeps nothing, is another process."""
    size = 192 * 1024 * 1024
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(size)
    async with (
        app_process("uvicorn", "tests.uploads.client.sink:app", tmp_path / "log") as server,
        Client(f"{server.url}/files/", protocol="tus", fingerprints=None, proxy="none") as client,
    ):
        await client.upload(b"x" * 300_000)
        tracemalloc.start()
        try:
            await client.upload(path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 8 * 1024 * 1024
