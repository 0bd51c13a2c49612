"""crc32c as Cloud Storage has it, both ways: sent with what is written, compared with what is read.

https://cloud.google.com/storage/docs/data-validation
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from functools import lru_cache

import google_crc32c

from trove_async.body import Chunk
from trove_async.errors import ChecksumError
from trove_async.wire.stream import ResponseStream
from trove_async.wire.transport import Response

__all__ = ["VerifiedStream", "combine", "crc32c_in", "encode", "extend", "mismatch"]

_POLYNOMIAL = 0x82F63B78
_COPIED = 256 * 1024
"""Bytes at a time of what has to be copied, because the library takes bytes alone."""


def extend(value: int, chunks: Sequence[Chunk]) -> int:
    """Return the checksum of what ``value`` is of and these chunks after it.

    A millisecond is 10 MB and more, so that it is done on the loop.
    """
    for chunk in chunks:
        if type(chunk) is bytes:
            value = google_crc32c.extend(value, chunk)
        else:
            view = memoryview(chunk)
            for start in range(0, len(view), _COPIED):
                value = google_crc32c.extend(value, bytes(view[start : start + _COPIED]))
    return value


def combine(first: int, second: int, size: int) -> int:
    """Return the checksum of bytes followed by others, of the checksums of both and the number of the others.

    What follows shifts a checksum, which is a polynomial over GF(2), by as many bits: it is multiplied by a power of x,
    modulo the polynomial of Castagnoli (RFC 9260, appendix A).
    """
    return _multiply(_power(size), first) ^ second


@lru_cache(64)  # the parts of an upload are of one size, but for the last
def _power(size: int) -> int:
    """Return x to the power of eight times the size; the highest bit is the lowest power."""
    result, base = 1 << 31, 1 << 23
    while size:
        if size & 1:
            result = _multiply(base, result)
        base = _multiply(base, base)
        size >>= 1
    return result


def _multiply(one: int, other: int) -> int:
    product = 0
    for bit in range(31, -1, -1):
        if one >> bit & 1:
            product ^= other
        other = other >> 1 ^ (_POLYNOMIAL if other & 1 else 0)
    return product


def encode(value: int) -> str:
    """Return a checksum as the service writes it: base64 of four bytes, the highest first."""
    return b64encode(value.to_bytes(4, "big")).decode()


def crc32c_in(header: str | None) -> int | None:
    """Return the checksum in a header ``x-goog-hash``, which may hold others too; None for none."""
    if header is not None:
        for item in header.split(","):
            name, _, value = item.strip().partition("=")
            if name == "crc32c":
                try:
                    return int.from_bytes(b64decode(value, validate=True), "big")
                except (Base64Error, ValueError):
                    return None
    return None


def mismatch(key: str, expected: int, actual: int) -> ChecksumError:
    """Return the error for bytes that have another checksum than they should."""
    return ChecksumError(f"the crc32c of object {key!r} is {actual:08x}, expected {expected:08x}", key=key)


class VerifiedStream(ResponseStream):
    """The bytes of a whole object, compared with its checksum when the last one has come.

    Args:
        response, size, reopen: as of `ResponseStream`, from the first byte.
        key: of the object, for the error.
        expected: the checksum that the service has.
    """

    def __init__(self, response: Response, size: int, *, reopen: Reopen, key: str, expected: int) -> None:
        super().__init__(response, 0, size, reopen=reopen)
        self._key = key
        self._expected = expected
        self._value = 0
        self._checked: int | None = 0  # bytes that the value is of; None once there is a gap

    async def read(self, size: int) -> bytes:
        """Return what has arrived.

        Raises:
            ChecksumError: it was the last, and all of it is not what is stored.
        """
        chunk = await super().read(size)
        if self._checked is not None:
            self._value = google_crc32c.extend(self._value, chunk)
            self._checked += len(chunk)
            if self._checked == self._stop and self._value != self._expected:
                raise mismatch(self._key, self._expected, self._value)
        return chunk

    async def seek(self, offset: int) -> None:
        """Go on at an offset; what is read in pieces that do not join is not compared."""
        if offset != self._checked:
            self._checked = None
        await super().seek(offset)
