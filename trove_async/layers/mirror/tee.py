"""`Tee`: one body for several members at the same time, in the memory of one chunk."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Self

from trove_async.body import Body, Chunk
from trove_async.checksums import Checksum

__all__ = ["Tee"]


class Tee:
    """Passes each chunk of a body to all branches, and asks for the next one when each of them has taken it.

    A chunk may be valid until the next one is requested only, so that no branch may be ahead of another one. The
    slowest sets the pace; one that is closed is waited for no more. The end of the body is held back until `commit`: no
    driver commits a body that has not ended.

    Args:
        body: what is read.
        names: of the branches.
    """

    def __init__(self, body: Body, names: Sequence[str]) -> None:
        self._body = body
        self._branches = {name: _Branch() for name in names}

    def body(self, name: str, checksum: Checksum | None) -> Body:
        """Return the body of a branch."""
        algorithm = None if checksum is None else Checksum(checksum.algorithm)  # the body itself compares the value
        return Body(self._branches[name], size=self._body.size, checksum=algorithm)

    async def pump(self) -> None:
        """Read the body to its end, and pass on all but the end; ends early if no branch is left.

        Raises:
            Exception: the source failed, or the body is not what was declared. The caller cancels the members.
        """
        async for chunk in self._body:
            await self._hand_out(chunk)
            if all(branch.closed for branch in self._branches.values()):
                return
        await self._wait()

    def commit(self) -> None:
        """Let all branches end as the body has ended."""
        for branch in self._branches.values():
            branch.give(b"")

    def close(self, name: str) -> None:
        """Wait for a branch no more: its driver has returned or failed."""
        self._branches[name].close()

    async def _hand_out(self, chunk: Chunk) -> None:
        await self._wait()
        for branch in self._branches.values():
            branch.give(chunk)
        await self._wait()

    async def _wait(self) -> None:
        """Wait until each branch has asked for its next chunk, or is closed."""
        for branch in self._branches.values():
            await branch.hungry.wait()


class _Branch:
    """The chunks of one member's body."""

    def __init__(self) -> None:
        self.hungry = asyncio.Event()
        self.closed = False
        self._given = asyncio.Event()
        self._chunk: Chunk = b""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        """Return the next chunk as soon as the tee has it."""
        self._chunk = b""
        self.hungry.set()
        await self._given.wait()
        if not len(self._chunk):
            raise StopAsyncIteration
        self._given.clear()
        return self._chunk

    def give(self, chunk: Chunk) -> None:
        """Pass on a chunk; the empty one is the end."""
        if not self.closed:
            self._chunk = chunk
            if len(chunk):
                self.hungry.clear()
            self._given.set()

    def close(self) -> None:
        """Take no more chunks."""
        self.closed = True
        self.hungry.set()
