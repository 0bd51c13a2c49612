"""Content-defined chunking: a body is cut where its bytes say so, and versions of a file have most chunks in common."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from secrets import randbelow
from typing import Any, Final

import anyio.to_thread
from sqlalchemy import Connection, select

from trove_async.body import Body
from trove_async.checksums import new_hasher
from trove_async.database import insert_into
from trove_async.errors import InvalidArgumentError, MissingDependencyError
from trove_async.managed.dedup.schema import CHUNKINGS
from trove_async.values import is_whole

__all__ = ["Chunk", "Chunking", "Cutter", "seed_of"]

Chunk = tuple[str, bytes]
"""The digest of a chunk, lower-case hex, and its bytes."""

_SMALLEST: Final = 4 * 1024
_LARGEST: Final = 4 * 1024 * 1024
_WINDOW: Final = 8 * 1024 * 1024
"""How many bytes are cut at a time, at least."""


@dataclass(frozen=True, slots=True)
class Chunking:
    """Cut bodies into chunks, each of which is stored once: what two versions of a file share takes no space.

    It needs the extra ``chunking``. ``docs/managed.md`` says what the sizes of chunks tell about their content: do not
    use it where that is encrypted.

    Args:
        average: the size of most chunks in bytes, a power of two from 4 KiB to 4 MiB. All chunks have between a quarter
            of it and four times as much, except the last one of a body, which may be smaller.
        keyed: where a body is cut depends on a random number of the store, which is in its database. If False, every
            store with the same average cuts at the same places.

    Raises:
        InvalidArgumentError: a value is malformed.
        MissingDependencyError: the package is not installed.
    """

    average: int = 1024 * 1024
    keyed: bool = True

    def __post_init__(self) -> None:
        size = self.average
        if not is_whole(size) or not _SMALLEST <= size <= _LARGEST or size & size - 1:
            raise InvalidArgumentError(
                f"the average size of chunks is a power of two from {_SMALLEST} to {_LARGEST}, not {size!r}"
            )
        if not isinstance(self.keyed, bool):
            raise InvalidArgumentError(f"keyed is True or False, not {self.keyed!r}")
        _new_cutter(size, 0)


def _new_cutter(average: int, seed: int) -> Any:
    try:
        from pyfastcdc import FastCDC
    except ImportError as error:
        raise MissingDependencyError("chunking needs: pip install 'trove-async[chunking]'") from error
    return FastCDC(average, min_size=average // 4, max_size=4 * average, seed=seed)


def seed_of(connection: Connection, space: str, chunking: Chunking) -> int:
    """Return the number on which the places of cuts depend; the first one who asks makes it.

    Args:
        connection: of a transaction.
        space: of the store.
        chunking: of the store.
    """
    if not chunking.keyed:
        return 0
    fresh = {"space": space, "average": chunking.average, "seed": 1 + randbelow(2**63 - 1)}
    connection.execute(insert_into(connection, CHUNKINGS).values(**fresh).on_conflict_do_nothing())
    wanted = select(CHUNKINGS.c.seed).where(CHUNKINGS.c.space == space, CHUNKINGS.c.average == chunking.average)
    seed: int = connection.execute(wanted).scalar_one()
    return seed


class Cutter:
    """Cuts bodies into chunks by FastCDC.

    Args:
        chunking: the sizes.
        seed: see `seed_of`.
        algorithm: of the digests.
    """

    def __init__(self, chunking: Chunking, seed: int, algorithm: str) -> None:
        self._cutter = _new_cutter(chunking.average, seed)
        self._window: Final = max(_WINDOW, 8 * chunking.average)
        self._algorithm = algorithm

    async def cut(self, body: Body) -> AsyncGenerator[list[Chunk]]:
        """Yield the chunks of a body, several at a time; close it with `contextlib.aclosing`."""
        buffer = bytearray()
        async for given in body:
            left = memoryview(given)
            while left:
                room = self._window - len(buffer)
                buffer += left[:room]
                left = left[room:]
                if len(buffer) == self._window:
                    chunks, buffer = await anyio.to_thread.run_sync(self._cut, buffer, False)
                    yield chunks
        if buffer:
            chunks, _ = await anyio.to_thread.run_sync(self._cut, buffer, True)
            yield chunks

    def _cut(self, buffer: bytearray, is_last: bool) -> tuple[list[Chunk], bytearray]:
        """Return the chunks of a buffer, and the bytes that belong to the next one."""
        chunks: list[Chunk] = []
        with memoryview(buffer) as view:
            sizes = [cut.length for cut in self._cutter.cut_buf(view)]
            if not is_last:
                sizes.pop()  # it ends where the buffer does
            start = 0
            for size in sizes:
                data = bytes(view[start : start + size])
                hasher = new_hasher(self._algorithm)
                hasher.update(data)
                chunks.append((hasher.hexdigest(), data))
                start += size
            return chunks, bytearray(view[start:])
