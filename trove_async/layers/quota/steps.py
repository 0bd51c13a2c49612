"""Bodies of unknown length, for which bytes are reserved in steps while they are read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from trove_async.body import Body
from trove_async.errors import QuotaExceededError
from trove_async.layers.quota.accounts import Reservation
from trove_async.sources import Chunk, Source

__all__ = ["reserving"]

_FIRST_STEP: Final = 1024 * 1024
_LARGEST_STEP: Final = 64 * 1024 * 1024

Extend = Callable[[Reservation, int], Awaitable[Reservation]]
"""Returns a reservation of more bytes instead of another, or raises `QuotaExceededError`."""


@contextmanager
def reserving(body: Body, extend: Extend, reservation: Reservation, *, before: int = 0) -> Iterator[None]:
    """Let no byte of a body pass within the block for which nothing is reserved.

    A step is as large as what was reserved before, from 1 MiB to 64 MiB. Where that does not fit, it is half of what is
    left, or only what the chunk needs, so that a body fails only if it does not fit itself.

    Args:
        body: which is read.
        extend: reserves more.
        reservation: what is reserved already.
        before: the number of bytes to which the body is appended, for which the reservation is too.
    """
    made: list[_ReservingSource] = []

    def wrap(source: Source) -> Source:
        made.append(_ReservingSource(source, extend, reservation, before))
        return made[0]

    body.wrap(wrap)
    try:
        yield
    finally:  # the body may be put again
        body.wrap(lambda source: made[0].inner if source is made[0] else source)


class _ReservingSource(Source):
    def __init__(self, inner: Source, extend: Extend, reservation: Reservation, before: int) -> None:
        self.inner = inner
        self.size = inner.size
        self.replayable = inner.replayable
        self.cleanup_timeout = inner.cleanup_timeout
        self._extend = extend
        self._reservation = reservation
        self._read = self._before = before

    async def read(self) -> Chunk:
        chunk = await self.inner.read()
        self._read += len(chunk)
        reserved = self._reservation.bytes
        if self._read > reserved:
            step = min(max(reserved, _FIRST_STEP), _LARGEST_STEP)
            await self._reserve(max(self._read, reserved + step))
        return chunk

    async def _reserve(self, nbytes: int) -> None:
        while True:
            try:
                self._reservation = await self._extend(self._reservation, nbytes)
                return
            except QuotaExceededError as error:
                if nbytes == self._read:
                    raise
                left = (error.limit - error.used) // 2
                nbytes = max(self._read, min(nbytes - 1, self._reservation.bytes + left))

    async def rewind(self) -> None:
        self._read = self._before
        await self.inner.rewind()

    async def aclose(self) -> None:
        await self.inner.aclose()
