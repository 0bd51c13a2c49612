"""Text in a file: the encodings, error handlers and line ends of the built-in ``open``."""

from __future__ import annotations

import codecs
import io
import os
import sys
from types import TracebackType
from typing import Final, NamedTuple, final

from trove_async.errors import BodyTypeError, InvalidArgumentError
from trove_async.fs.base import AsyncFile
from trove_async.fs.reading import BinaryReader
from trove_async.fs.writing import BinaryWriter
from trove_async.types import ObjectInfo

__all__ = ["TextFormat", "TextReader", "TextWriter"]

_CHUNK: Final = 64 * 1024
"""The maximum number of bytes that are decoded at once."""

_LINE_ENDS: Final = (None, "", "\n", "\r", "\r\n")
_BITS: Final = 64
_MASK: Final = (1 << _BITS) - 1
"""A position of text is a byte offset, the characters behind it, and the state of the decoder."""


class TextFormat:
    """How text is encoded; see `open_file` for the arguments.

    Raises:
        LookupError: there is no such encoding of text, or no such way to treat errors; as from the built-in ``open``.
        InvalidArgumentError: ``newline`` is none of the five.
    """

    def __init__(self, encoding: str | None, errors: str | None, newline: str | None) -> None:
        self.encoding = io.TextIOWrapper(io.BytesIO(), encoding or "utf-8").encoding  # it refuses "hex" and the like
        self.errors = errors or "strict"
        codecs.lookup_error(self.errors)
        if newline not in _LINE_ENDS:
            raise InvalidArgumentError(f"newline is None, '', '\\n', '\\r' or '\\r\\n', not {newline!r}")
        self.newline = newline


class _Mark(NamedTuple):
    """A place from which text can be decoded.

    Attributes:
        offset: in the object, in bytes.
        state: of the decoder there; None for its first state.
    """

    offset: int
    state: int | None


@final
class TextReader(AsyncFile[str]):
    """An object that is read as text; `open_file` returns it for the mode ``r``.

    Attributes:
        buffer: the file of bytes beneath. Do not change its position.
        encoding, errors: of the text.
    """

    mode = "r"

    def __init__(self, file: BinaryReader, text: TextFormat) -> None:
        self.buffer = file
        self.info: ObjectInfo = file.info
        self.encoding, self.errors = text.encoding, text.errors
        self._newline = text.newline
        inner = codecs.getincrementaldecoder(text.encoding)(text.errors)
        # It keeps a "\r" at the end of a chunk, so that no line end is divided.
        self._decoder = io.IncrementalNewlineDecoder(inner, translate=text.newline is None)
        self._fresh = True  # the decoder is in its first state
        self._mark = _Mark(0, None)  # where the text in memory begins
        self._text = ""
        self._at = 0  # the position in it
        self._skip = 0  # characters between the text in memory and the position

    @property
    def closed(self) -> bool:
        """Whether the file was closed."""
        return self.buffer.closed

    async def read(self, size: int | None = -1) -> str:
        """Read ``size`` characters, fewer only at the end; with -1 all that remain."""
        self._check_open()
        pieces: list[str] = []
        left = sys.maxsize if size is None or size < 0 else size
        while left and await self._has_text():
            pieces.append(self._take(self._at + left))
            left -= len(pieces[-1])
        return "".join(pieces)

    async def readline(self, size: int | None = -1) -> str:
        """Read a line with its end, or ``size`` characters of it; empty at the end of the file."""
        self._check_open()
        pieces: list[str] = []
        left = sys.maxsize if size is None or size < 0 else size
        while left and await self._has_text():
            end = self._line_end()
            pieces.append(self._take(self._at + left if end is None else min(end, self._at + left)))
            if end is not None:
                break
            left -= len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else "".join(pieces)

    def _line_end(self) -> int | None:
        """Return where the line at the position ends in the text in memory; None if it does not end there."""
        marks = ("\r\n", "\n", "\r") if self._newline == "" else (self._newline or "\n",)
        found = [(at, -len(mark)) for mark in marks if (at := self._text.find(mark, self._at)) >= 0]
        if not found:
            return None
        at, length = min(found)
        return at - length

    def _take(self, stop: int) -> str:
        taken = self._text[self._at : stop]
        self._at += len(taken)
        return taken

    async def _has_text(self) -> bool:
        """Tell whether there is text at the position; what is in memory is replaced if all of it was taken."""
        while self._at == len(self._text):
            offset = await self.buffer.tell()
            data = await self.buffer.read1(_CHUNK)
            pending, state = (b"", None) if self._fresh else self._decoder.getstate()
            text = self._decoder.decode(data, final=not data)
            self._fresh = False
            if text:
                self._mark = _Mark(offset - len(pending), state)
                self._text = text
                self._at = min(self._skip, len(text))
                self._skip -= self._at
            elif not data:
                return False
        return True

    async def tell(self) -> int:
        """Return the position, as a number that only `seek` understands."""
        self._check_open()
        offset, state = self._mark
        skip = self._at + self._skip
        return offset | skip << _BITS | (0 if state is None else state + 1) << 2 * _BITS

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Change the position to one that `tell` returned, to 0, or to the end; no I/O."""
        self._check_open()
        if whence == os.SEEK_CUR and offset == 0:
            return await self.tell()
        if whence == os.SEEK_END and offset == 0:
            offset = self.buffer.size
        elif whence != os.SEEK_SET:
            raise io.UnsupportedOperation("text has positions relative to its beginning only")
        start, skip, state = offset & _MASK, offset >> _BITS & _MASK, offset >> 2 * _BITS
        await self.buffer.seek(start if offset >= 0 else offset)
        self._mark = _Mark(start, state - 1 if state else None)
        self._text, self._at, self._skip = "", 0, skip
        self._fresh = not state
        if state:
            self._decoder.setstate((b"", state - 1))
        else:
            self._decoder.reset()
        return offset

    async def aclose(self) -> None:
        """Close the file, and release its connection; idempotent."""
        await self.buffer.aclose()


@final
class TextWriter(AsyncFile[str]):
    """An object that is written as text; `open_file` returns it for the modes ``w`` and ``x``.

    Attributes:
        buffer: the file of bytes beneath.
        encoding, errors: of the text.
    """

    def __init__(self, file: BinaryWriter, text: TextFormat) -> None:
        self.buffer = file
        self.mode = file.mode.removesuffix("b")
        self.encoding, self.errors = text.encoding, text.errors
        self._line_end = text.newline or "\n"
        self._encoder = codecs.getincrementalencoder(text.encoding)(text.errors)

    @property
    def info(self) -> ObjectInfo | None:  # type: ignore[override]
        """The stored object; None until the file was closed."""
        return self.buffer.info

    @property
    def closed(self) -> bool:
        """Whether the file was closed."""
        return self.buffer.closed

    async def tell(self) -> int:
        """Return the number of bytes written so far."""
        return await self.buffer.tell()

    async def write(self, data: str) -> int:
        """Write text; return the number of its characters."""
        if not isinstance(data, str):
            raise BodyTypeError(f"a file of text takes a str, not {type(data).__name__}; open it with mode 'wb'")
        text = data if self._line_end == "\n" else data.replace("\n", self._line_end)
        await self.buffer.write(self._encoder.encode(text))
        return len(data)

    async def abort(self) -> None:
        """Close the file without storing anything; idempotent."""
        await self.buffer.abort()

    async def aclose(self) -> None:
        """Store the object and close the file; idempotent."""
        await self.buffer.aclose()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.buffer.__aexit__(kind, error, traceback)
