"""Checksums: which there are, how they are written, and how they are computed."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from trove_async.errors import ChecksumError, InvalidArgumentError, MissingDependencyError

__all__ = ["ALGORITHMS", "Checksum", "Hasher", "new_hasher", "verify"]


class Hasher(Protocol):
    """What computes a checksum; the objects of `hashlib` are such."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Take in more bytes."""

    def hexdigest(self) -> str:
        """Return the checksum of all bytes so far, in lower-case hex."""


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


class _Crc32c:
    def __init__(self) -> None:
        try:
            import google_crc32c
        except ImportError as error:
            raise MissingDependencyError("crc32c needs: pip install 'trove-async[checksums]'") from error
        self._extend = google_crc32c.extend
        self._value = 0

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        self._value = self._extend(self._value, bytes(data))

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


_HASHERS: dict[str, Callable[[], Hasher]] = {
    "blake2b": hashlib.blake2b,
    "crc32": _Crc32,
    "crc32c": _Crc32c,
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
    "sha384": hashlib.sha384,
    "sha512": hashlib.sha512,
}

ALGORITHMS = frozenset(_HASHERS)
"""The names of the algorithms; crc32c needs the extra ``checksums``."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """An algorithm, and the value that it must give where that is known.

    Attributes:
        algorithm: one of `ALGORITHMS`.
        value: lower-case hex; None to compute and store it whatever it is.
    """

    algorithm: str
    value: str | None = None

    def __post_init__(self) -> None:
        if self.algorithm not in _HASHERS:
            raise InvalidArgumentError(
                f"unknown checksum algorithm {self.algorithm!r}; there are {', '.join(sorted(ALGORITHMS))}"
            )
        if self.value is not None:
            expected = len(new_hasher(self.algorithm).hexdigest())
            value = self.value.lower()
            if len(value) != expected or any(c not in "0123456789abcdef" for c in value):
                raise InvalidArgumentError(f"a {self.algorithm} checksum is {expected} hex digits, not {self.value!r}")
            object.__setattr__(self, "value", value)

    @classmethod
    def of(cls, value: Checksum | str) -> Checksum:
        """Return the checksum that ``"sha256"`` or ``"sha256:HEX"`` stands for."""
        if isinstance(value, Checksum):
            return value
        if not isinstance(value, str):
            raise InvalidArgumentError(f"a checksum is 'algorithm' or 'algorithm:hex', not {type(value).__name__}")
        algorithm, colon, digest = value.partition(":")
        return cls(algorithm, digest if colon else None)

    def __str__(self) -> str:
        return self.algorithm if self.value is None else f"{self.algorithm}:{self.value}"


def new_hasher(algorithm: str) -> Hasher:
    """Return a fresh hasher of an algorithm of `ALGORITHMS`."""
    return _HASHERS[algorithm]()


def verify(algorithm: str, expected: str, actual: str, what: str) -> None:
    """Compare two hex digests.

    Raises:
        ChecksumError: they differ; names both.
    """
    if expected != actual:
        raise ChecksumError(f"the {algorithm} of {what} is {actual}, expected {expected}")
