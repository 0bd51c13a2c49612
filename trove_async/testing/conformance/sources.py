"""Bodies of every kind, which fail at a given position."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Final

__all__ = ["SOURCES", "SourceError"]


class SourceError(Exception):
    """Raised by a source; a driver must pass it on unchanged."""


class _FailingFile(io.RawIOBase):
    """A file that returns one chunk for each read, as a pipe does."""

    def __init__(self, chunks: Sequence[bytes], fail_at: int | None) -> None:
        self._left = _failing(chunks, fail_at)

    def readable(self) -> bool:
        return True

    def read(self, _size: int = -1) -> bytes:
        return next(self._left, b"")


class _AsyncReader:
    def __init__(self, chunks: Sequence[bytes], fail_at: int | None) -> None:
        self._left = _failing(chunks, fail_at)

    async def read(self, _size: int) -> bytes:
        return next(self._left, b"")


def _failing(chunks: Sequence[bytes], fail_at: int | None) -> Iterator[bytes]:
    for position, chunk in enumerate(chunks):
        if position == fail_at:
            raise SourceError
        yield chunk
    if fail_at == len(chunks):
        raise SourceError


async def _failing_async(chunks: Sequence[bytes], fail_at: int | None) -> AsyncIterator[bytes]:
    for chunk in _failing(chunks, fail_at):
        yield chunk


SOURCES: Final[dict[str, Callable[[Sequence[bytes], int | None], Any]]] = {
    "file": _FailingFile,
    "iterable": _failing,
    "async-iterable": _failing_async,
    "async-reader": _AsyncReader,
}
"""Factories of bodies that raise `SourceError` in place of the chunk ``fail_at``, or at the end."""
