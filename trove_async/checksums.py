"""Checksums: the algorithms, the notation, and the computation."""

from __future__ import annotations

import asyncio
import hashlib
import os
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from threading import Lock
from typing import Final, Protocol, TypeVar

from trove_async.cancellation import CLEANUP_TIMEOUT, finish
from trove_async.errors import ChecksumError, InvalidArgumentError, MissingDependencyError

__all__ = [
    "ALGORITHMS",
    "BackgroundHasher",
    "Checksum",
    "Hasher",
    "combine_crc32c",
    "digest",
    "is_available",
    "new_hasher",
    "update",
    "verify",
]

_ON_LOOP: Final = 256 * 1024  # bytes that are hashed in less than half a millisecond
_CASTAGNOLI: Final = 0x82F63B78
_HEX: Final = frozenset("0123456789abcdef")
_TURN: Final = 16
"""Chunks of a body that a thread adds before others have their turn; each change takes a fifth of the time of a MiB."""

R = TypeVar("R")
_Bytes = bytes | bytearray | memoryview


class Hasher(Protocol):
    """Computes a checksum; the objects of `hashlib` have this interface."""

    def update(self, data: _Bytes, /) -> object:
        """Add bytes."""

    def hexdigest(self) -> str:
        """Return the checksum of all bytes so far, in lower-case hex."""


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: _Bytes, /) -> None:
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

    def update(self, data: _Bytes, /) -> None:
        self._value = self._extend(self._value, bytes(data))

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


def _new_blake3() -> Hasher:
    try:
        from blake3 import blake3
    except ImportError as error:
        raise MissingDependencyError("blake3 needs: pip install 'trove-async[blake3]'") from error
    hasher: Hasher = blake3()
    return hasher


_HASHERS: dict[str, Callable[[], Hasher]] = {
    "blake2b": hashlib.blake2b,
    "blake3": _new_blake3,
    "crc32": _Crc32,
    "crc32c": _Crc32c,
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
    "sha384": hashlib.sha384,
    "sha512": hashlib.sha512,
}

ALGORITHMS = frozenset(_HASHERS)
"""The names of the algorithms; crc32c needs the extra ``checksums``, and blake3 the extra ``blake3``."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """An algorithm, and optionally the expected value.

    Attributes:
        algorithm: one of `ALGORITHMS`.
        value: the expected checksum in lower-case hex; None to compute and store the checksum without a comparison.
    """

    algorithm: str
    value: str | None = None

    def __post_init__(self) -> None:
        if self.algorithm not in _HASHERS:
            raise InvalidArgumentError(
                f"unknown checksum algorithm {self.algorithm!r}; use one of {', '.join(sorted(ALGORITHMS))}"
            )
        if self.value is not None:
            if not isinstance(self.value, str):
                raise InvalidArgumentError(f"a {self.algorithm} checksum is a str, not {type(self.value).__name__}")
            expected = len(new_hasher(self.algorithm).hexdigest())
            value = self.value.lower()
            if len(value) != expected or not _HEX.issuperset(value):
                raise InvalidArgumentError(f"a {self.algorithm} checksum is {expected} hex digits, not {self.value!r}")
            object.__setattr__(self, "value", value)

    @classmethod
    def of(cls, value: Checksum | str) -> Checksum:
        """Parse ``"sha256"`` or ``"sha256:HEX"``."""
        if isinstance(value, Checksum):
            return value
        if not isinstance(value, str):
            raise InvalidArgumentError(f"a checksum is 'algorithm' or 'algorithm:hex', not {type(value).__name__}")
        algorithm, colon, digest = value.partition(":")
        return cls(algorithm, digest if colon else None)

    def __str__(self) -> str:
        return self.algorithm if self.value is None else f"{self.algorithm}:{self.value}"


def stored_checksums(text: str) -> Mapping[str, str]:
    """Return what `ObjectInfo.checksums` has for a checksum that was stored as text; empty if the text is not one.

    Any program may write the metadata of an object, and a checksum that nobody can compute must not keep it from being
    read.
    """
    try:
        checksum = Checksum.of(text)
    except InvalidArgumentError:
        return {}
    return {} if checksum.value is None else {checksum.algorithm: checksum.value}


@cache
def is_available(algorithm: str) -> bool:
    """Whether an algorithm of `ALGORITHMS` can be computed here: crc32c and blake3 need packages."""
    try:
        new_hasher(algorithm)
    except MissingDependencyError:
        return False
    return True


def new_hasher(algorithm: str) -> Hasher:
    """Return a new hasher for an algorithm of `ALGORITHMS`."""
    return _HASHERS[algorithm]()


def _new_threads() -> ThreadPoolExecutor:
    # More threads than processors would be no faster.
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="trove-checksum")


_threads = _new_threads()


def _forget_threads() -> None:
    global _threads
    _threads = _new_threads()


os.register_at_fork(after_in_child=_forget_threads)


async def _joined(job: Future[R]) -> R:
    """Wait for a computation in a thread; when cancelled, wait until it no longer reads the bytes."""
    result = asyncio.wrap_future(job)
    try:
        return await asyncio.shield(result)
    except asyncio.CancelledError:
        if not job.cancel():
            await finish(asyncio.wait({result}), timeout=CLEANUP_TIMEOUT, leftover="a thread that computes a checksum")
        raise


class BackgroundHasher:
    """Adds chunks to a hasher, in a thread if they are large, while the caller goes on.

    Args:
        algorithm: one of `ALGORITHMS`.
    """

    def __init__(self, algorithm: str) -> None:
        self._hasher = new_hasher(algorithm)
        self._jobs: deque[Future[None]] = deque()  # that `wait` has not seen done
        self._mutable = False
        self._lock = Lock()  # of what the thread changes
        self._queue: deque[tuple[_Bytes, Future[None]]] = deque()
        self._running = False

    def add(self, chunk: _Bytes) -> None:
        """Add a chunk, which must not change before `wait` returns."""
        if not self._jobs and len(chunk) <= _ON_LOOP:
            self._hasher.update(chunk)
            return
        self._mutable = not isinstance(chunk, bytes)
        job: Future[None] = Future()
        job.set_running_or_notify_cancel()  # so that a cancelled `wait` does not skip it
        self._jobs.append(job)
        with self._lock:
            self._queue.append((chunk, job))
            start, self._running = not self._running, True
        if start:
            _threads.submit(self._run)

    def _run(self) -> None:
        for _ in range(_TURN):
            with self._lock:
                if not self._queue:
                    self._running = False
                    return
                chunk, job = self._queue.popleft()
            try:
                self._hasher.update(chunk)
            except Exception as error:  # noqa: BLE001 - `wait` raises it
                job.set_exception(error)
            else:
                job.set_result(None)
            del chunk, job
        _threads.submit(self._run)

    async def wait(self, pending: int = 0) -> None:
        """Wait until all chunks are added.

        Args:
            pending: how many of the last chunks may still be waiting, unless the last one can change.
        """
        while len(self._jobs) > (0 if self._mutable else pending):
            await _joined(self._jobs[0])
            self._jobs.popleft()

    def hexdigest(self) -> str:
        """Return the checksum of all chunks, in lower-case hex; `wait` comes before."""
        assert not self._jobs
        return self._hasher.hexdigest()


async def update(hasher: Hasher, data: _Bytes) -> None:
    """Add bytes, in a thread if they are many, so that they do not block the loop."""
    if len(data) > _ON_LOOP:
        await _joined(_threads.submit(hasher.update, data))
    else:
        hasher.update(data)


class Unread(Protocol):
    """Bytes that are read when they are needed."""

    def __len__(self) -> int:
        """Return their number."""

    def load(self) -> bytes:
        """Return them; for threads."""


async def digest(algorithm: str, chunks: Sequence[_Bytes | Unread]) -> bytes:
    """Return the checksum of bytes, computed in a thread if they are many.

    Args:
        algorithm: one of `ALGORITHMS`.
        chunks: the bytes; those that are not read yet are many.
    """
    if sum(map(len, chunks)) > _ON_LOOP:
        return await _joined(_threads.submit(_digest, algorithm, chunks))
    return _digest(algorithm, chunks)


def _digest(algorithm: str, chunks: Sequence[_Bytes | Unread]) -> bytes:
    hasher = new_hasher(algorithm)
    for chunk in chunks:
        hasher.update(chunk if isinstance(chunk, _Bytes) else chunk.load())
    return bytes.fromhex(hasher.hexdigest())


def verify(algorithm: str, expected: str, actual: str, what: str) -> None:
    """Compare two hex digests.

    Raises:
        ChecksumError: they differ; the message has both.
    """
    if expected != actual:
        raise ChecksumError(f"the {algorithm} of {what} is {actual}; {expected} was expected")


def combine_crc32c(first: int, second: int, size: int) -> int:
    """Return the crc32c of two byte strings joined, from the crc32c of each and the size of the second.

    A checksum is a polynomial over GF(2). To append bytes multiplies it by a power of x, modulo the Castagnoli
    polynomial (RFC 9260, appendix A).
    """
    return _multiply(_power(size), first) ^ second


@lru_cache(64)  # all parts of an upload but the last have one size
def _power(size: int) -> int:
    """Return x to the power of ``8 * size``; the highest bit is the lowest power."""
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
        other = other >> 1 ^ (_CASTAGNOLI if other & 1 else 0)
    return product
