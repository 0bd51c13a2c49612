"""The extension checksum: what matches is stored, and nothing else counts."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from base64 import b64encode

import pytest

from tests.uploads.flows import BYTES, GONE, Flow, Stall, Trailers
from trove_async.checksums import new_hasher

pytestmark = pytest.mark.asyncio


def _crc32c(data: bytes) -> str:
    hasher = new_hasher("crc32c")
    hasher.update(data)
    return hasher.hexdigest()


def said(algorithm: str, data: bytes) -> str:
    """Return Upload-Checksum for bytes."""
    digest = {
        "sha1": lambda: hashlib.sha1(data, usedforsecurity=False).digest(),
        "md5": lambda: hashlib.md5(data, usedforsecurity=False).digest(),
        "sha256": lambda: hashlib.sha256(data).digest(),
        "crc32": lambda: zlib.crc32(data).to_bytes(4, "big"),
        "crc32c": lambda: bytes.fromhex(_crc32c(data)),
    }[algorithm]()
    return f"{algorithm} {b64encode(digest).decode()}"


@pytest.mark.parametrize("algorithm", ["sha1", "md5", "sha256", "crc32", "crc32c"])
async def test_algorithms(algorithm: str) -> None:
    flow = Flow()
    upload_id = await flow.create(10)
    wrong = await flow.patch(upload_id, 0, b"hel", b"lO", upload_checksum=said(algorithm, b"hello"))
    assert wrong.status == 460
    assert wrong.problem["code"] == "Checksum"
    assert (await flow.send("HEAD", upload_id)).headers["upload-offset"] == "0"
    right = await flow.patch(upload_id, 0, b"hel", b"lo", upload_checksum=said(algorithm, b"hello"))
    assert (right.status, right.headers["upload-offset"]) == (204, "5")
    assert flow.store.data(upload_id) == b"hello"


async def test_an_interrupted_body_with_a_checksum_is_discarded() -> None:
    flow = Flow()
    upload_id = await flow.create(10)
    await flow.patch(upload_id, 0, b"hel", GONE, upload_checksum=said("sha1", b"hel"))
    assert flow.store.data(upload_id) == b""
    stall = Stall()
    first = asyncio.ensure_future(flow.patch(upload_id, 0, b"hel", stall, upload_checksum=said("sha1", b"hello")))
    await stall.reached.wait()
    assert (await flow.patch(upload_id, 0, b"world")).status == 204
    assert (await first).status == 423
    assert flow.store.data(upload_id) == b"world"


async def test_creation_with_upload_and_a_checksum() -> None:
    flow = Flow()
    headers: dict[str, str | None] = {"content_type": BYTES, "upload_length": "5"}
    wrong = await flow.send("POST", None, b"hellO", upload_checksum=said("sha1", b"hello"), **headers)
    assert wrong.status == 460
    assert flow.store.uploads == {}
    right = await flow.send("POST", None, b"hello", upload_checksum=said("sha1", b"hello"), **headers)
    assert (right.status, right.headers["upload-offset"]) == (201, "5")


async def test_an_empty_body_is_compared_too() -> None:
    flow = Flow()
    upload_id = await flow.create(5)
    assert (await flow.patch(upload_id, 0, content_length="0", upload_checksum=said("md5", b"x"))).status == 460
    assert (await flow.patch(upload_id, 0, content_length="0", upload_checksum=said("md5", b""))).status == 204


async def test_a_checksum_in_the_trailer() -> None:
    flow = Flow(trailers=True)
    upload_id = await flow.create(10)
    trailer = {"trailer": "Upload-Checksum"}
    for trailers, status in (
        (Trailers({"upload-checksum": said("sha256", b"hellO")}), 460),
        (Trailers({"upload-checksum": "sha256 x"}), 400),
        (Trailers(), 400),
    ):
        assert (await flow.patch(upload_id, 0, b"hello", trailers, **trailer)).status == status
        assert flow.store.data(upload_id) == b""
    right = Trailers({"upload-checksum": said("sha256", b"hello")})
    both = await flow.patch(upload_id, 0, b"hello", right, upload_checksum=said("md5", b"other"), **trailer)
    assert both.status == 460
    assert (await flow.patch(upload_id, 0, b"hello", right, **trailer)).status == 204
    assert flow.store.data(upload_id) == b"hello"
