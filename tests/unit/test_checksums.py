from __future__ import annotations

import asyncio
import hashlib
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trove_async import checksums
from trove_async.checksums import ALGORITHMS, Checksum, new_hasher, verify
from trove_async.errors import ChecksumError, InvalidArgumentError, MissingDependencyError

# The check values of the CRCs are those of the catalogue of parametrised CRC algorithms, for "123456789".
KNOWN = {
    "blake2b": hashlib.blake2b(b"123456789").hexdigest(),
    # of the reference implementation, b3sum
    "blake3": "b7d65b48420d1033cb2595293263b6f72eabee20d55e699d0df1973b3c9deed1",
    "crc32": "cbf43926",
    "crc32c": "e3069283",
    "md5": "25f9e794323b453885f5181f1b624d0b",
    "sha1": "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
    "sha256": "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
    "sha384": hashlib.sha384(b"123456789").hexdigest(),
    "sha512": hashlib.sha512(b"123456789").hexdigest(),
}


def digest(algorithm: str, *chunks: bytes | bytearray | memoryview) -> str:
    if algorithm == "crc32c":
        pytest.importorskip("google_crc32c", reason="an optional extra")
    if algorithm == "blake3":
        pytest.importorskip("blake3", reason="an optional extra")
    hasher = new_hasher(algorithm)
    for chunk in chunks:
        hasher.update(chunk)
    return hasher.hexdigest()


def test_every_algorithm_has_a_known_value() -> None:
    assert set(KNOWN) == ALGORITHMS


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_each_algorithm_gives_its_known_value_for_any_chunks(algorithm: str) -> None:
    assert digest(algorithm, b"123456789") == KNOWN[algorithm]
    assert digest(algorithm, b"123", bytearray(b"45"), memoryview(b"x6789y")[1:-1]) == KNOWN[algorithm]


@given(st.binary())
def test_crc32_equals_that_of_zlib(data: bytes) -> None:
    assert int(digest("crc32", data), 16) == zlib.crc32(data)


def test_a_checksum_is_written_as_algorithm_and_value() -> None:
    assert Checksum.of("sha256") == Checksum("sha256")
    assert Checksum.of("crc32:CBF43926") == Checksum("crc32", "cbf43926")
    assert str(Checksum.of("crc32:CBF43926")) == "crc32:cbf43926"
    assert str(Checksum("md5")) == "md5"
    given_checksum = Checksum("md5")
    assert Checksum.of(given_checksum) is given_checksum


@pytest.mark.parametrize(
    "value", ["", "sha", "SHA256", "sha256:", "sha256:abc", "md5:" + "g" * 32, "crc32:0x123456", 5, None]
)
def test_an_invalid_checksum_is_refused(value: object) -> None:
    with pytest.raises(InvalidArgumentError):
        Checksum.of(value)  # type: ignore[arg-type]


def test_a_mismatch_names_both_values() -> None:
    verify("md5", "00", "00", "the body")
    with pytest.raises(ChecksumError, match=r"md5 of the body is 01; 00 was expected"):
        verify("md5", "00", "01", "the body")


def test_the_error_for_crc32c_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    with pytest.raises(MissingDependencyError, match=r"trove-async\[checksums\]"):
        new_hasher("crc32c")


@pytest.mark.asyncio
async def test_a_cancelled_digest_has_released_the_buffer() -> None:
    data = bytearray(128 * 1024 * 1024)
    task = asyncio.create_task(checksums.digest("sha256", [data]))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    data.clear()  # BufferError while the buffer is exported


def test_blake3_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "blake3", None)
    with pytest.raises(MissingDependencyError, match=r"trove-async\[blake3\]"):
        new_hasher("blake3")


@pytest.mark.asyncio
async def test_a_long_body_does_not_keep_the_only_thread_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, order = threading.Event(), list[bytes]()

    class Recorder:
        def update(self, data: bytes) -> None:
            assert gate.wait(30)
            order.append(data[:1])

        def hexdigest(self) -> str:
            return ""

    monkeypatch.setitem(checksums._HASHERS, "sha256", Recorder)
    with ThreadPoolExecutor(1) as threads:
        monkeypatch.setattr(checksums, "_threads", threads)
        long, short = checksums.BackgroundHasher("sha256"), checksums.BackgroundHasher("sha256")
        for _ in range(100):
            long.add(b"l" * 300_000)
        short.add(b"s" * 300_000)
        gate.set()
        await short.wait()
        await long.wait()
    assert len(order) == 101
    assert order.index(b"s") < 50
