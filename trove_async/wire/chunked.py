"""Chunked bodies (RFC 9112, section 7.1), parsed by httptools within bounds."""

from __future__ import annotations

from typing import Final

import httptools

__all__ = ["ChunkedDecoder"]

_HEAD: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

_MAX_OVERHEAD: Final = 16 * 1024
"""Bytes of chunk sizes, extensions and trailers beyond the allowance of the chunks, before the body is refused."""

_PER_CHUNK: Final = 16  # the allowance of a chunk, for its size, extension and line ends
_PER_BYTE: Final = 2  # and of each byte of its data


class _SurplusError(Exception):
    """Another message begins where the body has ended."""


class ChunkedDecoder:
    """Takes the bytes of a chunked body as they arrive, and returns those of its chunks.

    Extensions and trailers are skipped. What follows the last chunk and its trailers does not belong to the body.

    Attributes:
        finished: whether the end of the body has arrived.
        surplus: whether bytes have arrived after it.
        error: what is wrong with the body; None if nothing is.
        on_body: called by the parser with each piece of a chunk. It is a method of a list, so that tiny chunks cost
            no call of a Python function.
    """

    __slots__ = ("_overhead", "_parser", "_pieces", "error", "finished", "on_body", "surplus")

    def __init__(self) -> None:
        self.finished = False
        self.surplus = False
        self.error: Exception | None = None
        self._overhead = 0
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(_HEAD)

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes, and return those of chunks among them; check `finished` and `error` afterwards."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.surplus = self.finished
            self.error = None if self.finished else error
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        overhead = self._overhead + len(data) - _PER_CHUNK * len(pieces) - (1 + _PER_BYTE) * len(body)
        pieces.clear()
        if overhead > _MAX_OVERHEAD and not self.finished:
            self.error = ValueError("far more chunk extensions and trailers than data")
        self._overhead = max(0, overhead)
        return body

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Stop the parser where another message begins."""
        if self.finished:
            raise _SurplusError

    def on_message_complete(self) -> None:
        """Note the end of the body."""
        self.finished = True
