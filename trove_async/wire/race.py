"""Connect to the first address that answers (Happy Eyeballs, RFC 8305)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any, Final, TypeAlias

__all__ = ["Address", "connect_first"]

Address: TypeAlias = tuple[int, Any]
"""Family and socket address."""

_ATTEMPT_DELAY: Final = 0.25
"""Seconds after which the next address is tried too: RFC 8305, section 5."""


async def connect_first(addresses: Sequence[Address]) -> socket.socket:
    """Return a socket that is connected to one of the addresses.

    The families take turns, beginning with that of the first address. Each attempt starts when the one before has
    failed, or has not succeeded for 250 ms. The first to succeed wins; the others are cancelled, and their sockets
    are closed when this returns or raises.

    Raises:
        OSError: no attempt succeeded; this is the error of the last one.
    """
    if len(addresses) == 1:
        return await _connect(addresses[0])
    race = _Race(_interleave(addresses))
    try:
        return await race.run()
    finally:
        await race.end()


class _Race:
    def __init__(self, addresses: list[Address]) -> None:
        self._left = addresses
        self._attempts: list[asyncio.Task[socket.socket]] = []
        self._winner: asyncio.Task[socket.socket] | None = None

    async def run(self) -> socket.socket:
        failure = OSError("no address")
        running: set[asyncio.Task[socket.socket]] = set()
        while self._left or running:
            if self._left:
                task = asyncio.ensure_future(_connect(self._left.pop(0)))
                self._attempts.append(task)
                running.add(task)
            timeout = _ATTEMPT_DELAY if self._left else None
            done, running = await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                error = attempt.exception()
                if error is None:
                    self._winner = attempt
                    return attempt.result()
                if not isinstance(error, OSError):
                    raise error
                failure = error
        raise failure

    async def end(self) -> None:
        """Cancel the attempts that lost, and close their sockets, however often the caller is cancelled meanwhile."""
        losers = [attempt for attempt in self._attempts if attempt is not self._winner]
        for loser in losers:
            loser.cancel()
            loser.add_done_callback(_close)
        cancelled: asyncio.CancelledError | None = None
        while any(not loser.done() for loser in losers):
            try:
                await asyncio.wait(losers)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            if self._winner is not None:
                self._winner.result().close()
            raise cancelled


def _close(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


def _interleave(addresses: Sequence[Address]) -> list[Address]:
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    return [address for address in chain.from_iterable(zip_longest(*families.values())) if address is not None]


async def _connect(address: Address) -> socket.socket:
    sock = socket.socket(address[0], socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address[1])
    except BaseException:
        sock.close()
        raise
    return sock
