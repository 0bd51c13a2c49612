"""The chunks of a body on their way into a store, whose progress is reported and whose checksums are computed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Self

from trove_async.checksums import new_hasher, update, verify

__all__ = ["VerifiedChunks", "WatchedChunks"]


class WatchedChunks:
    """Chunks whose progress is reported.

    Args:
        chunks: of the body.
        offset: of the first one.
        reached: called with the offset behind each chunk.
    """

    def __init__(self, chunks: AsyncIterator[bytes], offset: int, reached: Callable[[int], object]) -> None:
        self._chunks = chunks
        self._offset = offset
        self._reached = reached

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await anext(self._chunks)
        self._offset += len(chunk)
        self._reached(self._offset)
        return chunk


class VerifiedChunks:
    """Chunks whose checksums are computed, in a thread if they are large.

    Args:
        chunks: of the body.
        expected: checksums that are known before: algorithm to lower-case hex.
        others: algorithms of checksums that follow.
    """

    def __init__(self, chunks: AsyncIterator[bytes], expected: Mapping[str, str], others: Iterable[str] = ()) -> None:
        self._chunks = chunks
        self._expected = expected
        self._hashers = {algorithm: new_hasher(algorithm) for algorithm in {*expected, *others}}

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await anext(self._chunks)
        for hasher in self._hashers.values():
            await update(hasher, chunk)
        return chunk

    def verify(self, trailing: Mapping[str, str]) -> None:
        """Compare the checksums.

        Args:
            trailing: those that have followed the body.

        Raises:
            ChecksumError: one does not match.
        """
        for algorithm, expected in (*self._expected.items(), *trailing.items()):
            verify(algorithm, expected, self._hashers[algorithm].hexdigest(), "the body")
