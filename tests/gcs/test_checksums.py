"""crc32c: of combined pieces, and in the service's encoding."""

from __future__ import annotations

import google_crc32c
import pytest

from trove_async.body import Chunk
from trove_async.checksums import combine_crc32c
from trove_async.drivers.gcs.checksums import crc32c_in, crc32c_of, encode, extend


@pytest.mark.parametrize("size", [0, 1, 3, 4, 1000, 262_144, 1_000_003])
def test_the_checksums_of_two_pieces_can_be_combined(size: int) -> None:
    one, two = bytes(range(256)) * 3, (b"\x00\xff\x10abc" * size)[:size]
    whole = google_crc32c.value(one + two)
    assert combine_crc32c(google_crc32c.value(one), google_crc32c.value(two), size) == whole
    assert combine_crc32c(0, google_crc32c.value(two), size) == google_crc32c.value(two)


def test_any_kind_of_buffer() -> None:
    data = bytes(range(256)) * 3000
    pieces: list[Chunk] = [data[:10], memoryview(data)[10:500_000], bytearray(data[500_000:])]
    assert extend(0, pieces) == google_crc32c.value(data)
    assert extend(0, ()) == 0


def test_the_encoding_of_the_service() -> None:
    assert encode(google_crc32c.value(b"")) == "AAAAAA=="
    assert encode(0x12345678) == "EjRWeA=="
    assert crc32c_in("crc32c=EjRWeA==,md5=AAAA") == 0x12345678
    assert crc32c_in("md5=AAAA, crc32c=EjRWeA==") == 0x12345678
    for nothing in (None, "", "md5=AAAA", "crc32c=!", "crc32c=AAAA"):
        assert crc32c_in(nothing) is None


def test_invalid_checksums() -> None:
    assert crc32c_of("EjRWeA==") == 0x12345678
    values: tuple[object, ...] = (None, "None", "", "AAAA", "\u00e9", 5, {})
    for value in values:
        assert crc32c_of(value) is None
