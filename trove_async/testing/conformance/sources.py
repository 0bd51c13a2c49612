"""Bodies of every kind that fail at a given position, or stop in a way that looks like the end."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Final

__all__ = ["BREAKING_OFF", "ENDING_EARLY", "SOURCES", "SourceError"]


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


class _StoppingFile(_FailingFile):
    """A file whose ``read`` raises an exception after its chunks."""

    def __init__(self, chunks: Sequence[bytes], error: type[Exception]) -> None:
        super().__init__(chunks, None)
        self._error = error

    def read(self, size: int = -1) -> bytes:
        chunk = super().read(size)
        if not chunk:
            raise self._error
        return chunk


class _StoppingReader:
    """Reads rows with ``anext``, which runs out of rows before the end of the body."""

    def __init__(self, chunks: Sequence[bytes]) -> None:
        self._rows = _failing_async(chunks, None)

    async def read(self, _size: int) -> bytes:
        return await anext(self._rows)


class _StoppingIterator:
    """An iterator of both kinds that raises an exception after its chunks."""

    def __init__(self, chunks: Sequence[bytes], error: type[Exception]) -> None:
        self._left = iter(chunks)
        self._error = error

    def take(self) -> bytes:
        for chunk in self._left:
            return chunk
        raise self._error


class _SyncStopping(_StoppingIterator):
    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self.take()


class _AsyncStopping(_StoppingIterator):
    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return self.take()


def _stopping(chunks: Sequence[bytes], error: type[Exception]) -> Iterator[bytes]:
    yield from chunks
    raise error


async def _stopping_async(chunks: Sequence[bytes], error: type[Exception]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    raise error


def _whole(make: Callable[[Sequence[bytes], int | None], Any]) -> Callable[[Sequence[bytes]], Any]:
    return lambda chunks: make(chunks, None)


BREAKING_OFF: Final[dict[str, Callable[[Sequence[bytes]], Any]]] = {
    "async-reader": _StoppingReader,
    "file-stop": lambda chunks: _StoppingFile(chunks, StopIteration),
    "file-async-stop": lambda chunks: _StoppingFile(chunks, StopAsyncIteration),
    "iterator-async-stop": lambda chunks: _SyncStopping(chunks, StopAsyncIteration),
    "async-iterator-stop": lambda chunks: _AsyncStopping(chunks, StopIteration),
    "generator-stop": lambda chunks: _stopping(chunks, StopIteration),
    "generator-async-stop": lambda chunks: _stopping(chunks, StopAsyncIteration),
    "async-generator-stop": lambda chunks: _stopping_async(chunks, StopIteration),
    "async-generator-async-stop": lambda chunks: _stopping_async(chunks, StopAsyncIteration),
}
"""Factories of bodies that raise ``StopIteration`` or ``StopAsyncIteration`` by mistake."""

ENDING_EARLY: Final[dict[str, Callable[[Sequence[bytes]], Any]]] = {
    "iterator": lambda chunks: _SyncStopping(chunks, StopIteration),
    "async-iterator": lambda chunks: _AsyncStopping(chunks, StopAsyncIteration),
    **{name: _whole(make) for name, make in SOURCES.items()},
}
"""Factories of bodies of each kind that end after their chunks."""
