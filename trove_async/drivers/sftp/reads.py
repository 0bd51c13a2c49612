"""Reading a range of an open file, with several requests in flight."""

from __future__ import annotations

from collections import deque
from typing import Any, Final, NamedTuple

from trove_async.drivers.sftp.errors import EndOfFileError, RefusedError
from trove_async.drivers.sftp.files import OpenFile
from trove_async.drivers.sftp.protocol import Kind, pack_u32, pack_u64

__all__ = ["IN_FLIGHT", "Reads"]

IN_FLIGHT: Final = 4 * 1024 * 1024
"""Bytes of one file that are in flight at a time: as many as a link of 1 Gbit/s and 30 ms holds."""
_SMALLEST: Final = 4096
"""Bytes that a read asks for at least, however little the server returns at a time."""
_TINY: Final = 256
_MOST_TINY: Final = 1000
"""How many answers of fewer bytes than `_TINY` are accepted, so that a broken server cannot make a read endless."""


class _Asked(NamedTuple):
    """A request that was sent.

    Attributes:
        short: bytes of the answer that was too short and that this request continues; 0 if it continues none.
    """

    at: int
    length: int
    answer: Any
    short: int


class Reads:
    """The bytes of a range, in order.

    An answer may have fewer bytes than its request (draft-ietf-secsh-filexfer-02, section 6.4). The remaining bytes are
    requested again, and the server is asked for less at a time from then on, down to what it returned.

    Args:
        file: must stay open, unless all is requested by one `ask` and read by `sent`.
        start, stop: the range.
        in_flight: bytes that are requested at a time, but at least one request.
    """

    def __init__(self, file: OpenFile, start: int, stop: int, in_flight: int = IN_FLIGHT) -> None:
        self._file = file
        self._next = start
        self._stop = stop
        self._in_flight = in_flight
        self._asked: deque[_Asked] = deque()
        self._tiny = 0

    def ask(self) -> None:
        """Send requests, as many as may be in flight."""
        step = self._file.channel.limits.read
        depth = max(1, self._in_flight // step)
        while self._next < self._stop and len(self._asked) < depth:
            length = min(step, self._stop - self._next)
            self._asked.append(self._request(self._next, length))
            self._next += length

    def _request(self, at: int, length: int, short: int = 0) -> _Asked:
        return _Asked(at, length, self._file.request(Kind.READ, pack_u64(at), pack_u32(length)), short)

    async def next(self) -> bytes:
        """Return the next bytes; ``b""`` at the end of the range or file."""
        self.ask()
        if not self._asked:
            return b""
        asked = self._asked.popleft()
        try:
            chunk: bytes = await asked.answer
        except EndOfFileError:
            self.forget()
            self._next = self._stop
            return b""
        if asked.short:
            # By half at most: a server may return less only once.
            self._file.channel.shorten_reads(max(asked.short, _SMALLEST, self._file.channel.limits.read // 2))
        if len(chunk) < asked.length:
            self._check_progress(chunk)
            at = asked.at + len(chunk)
            self._asked.appendleft(self._request(at, asked.length - len(chunk), len(chunk)))
        return chunk

    def _check_progress(self, chunk: bytes) -> None:
        if len(chunk) < _TINY:
            self._tiny += 1
            if self._tiny > _MOST_TINY:
                raise RefusedError(f"the server returns fewer than {_TINY} bytes of a file at a time")

    async def sent(self) -> bytes | None:
        """Return all bytes that `ask` requested; None if an answer was too short, except at the end of the file."""
        chunks: list[bytes] = []
        whole = True
        for asked in self._asked:
            try:
                chunk = await asked.answer
            except EndOfFileError:
                break
            chunks.append(chunk)
            whole = whole and len(chunk) == asked.length
        if not whole:
            return None
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def forget(self) -> None:
        """Drop the requests whose answers are not needed any more."""
        for asked in self._asked:
            asked.answer.cancel()
        self._asked.clear()
