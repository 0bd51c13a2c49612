"""`AsyncFile`: what every file over an object has."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from types import TracebackType
from typing import AnyStr, Generic, NoReturn, Self

from trove_async.errors import ClosedError
from trove_async.types import ObjectInfo

__all__ = ["AsyncFile"]


class AsyncFile(ABC, Generic[AnyStr]):
    """An object as an open file, of ``bytes`` or of text; `open_file` returns one.

    Use it in ``async with``. One task at a time uses it.

    A method that the mode does not allow raises `io.UnsupportedOperation`, which is an `OSError` and a `ValueError`.
    Every method raises `ClosedError` after the file was closed.

    Attributes:
        mode: of the file: ``r``, ``w`` or ``x``, and ``b`` for bytes.
        info: the object. Of a file for writing it is None until the file was closed, and the object stored.
    """

    mode: str
    info: ObjectInfo | None

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether the file was closed."""

    def readable(self) -> bool:
        """Tell whether the file can be read."""
        return self.mode.startswith("r")

    def writable(self) -> bool:
        """Tell whether the file can be written."""
        return not self.readable()

    def seekable(self) -> bool:
        """Tell whether the position can be changed: if the file is open for reading."""
        return self.readable()

    async def tell(self) -> int:
        """Return the position: the number of bytes before it; of text, a number that only `seek` understands."""
        self._refuse("tell")

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Change the position and return it; no I/O.

        Text has the positions that `tell` returned, 0, the end (``seek(0, os.SEEK_END)``), and the current one.

        Raises:
            InvalidArgumentError: the position would be negative.
        """
        self._refuse("seek")

    async def read(self, size: int = -1) -> AnyStr:
        """Read ``size`` bytes or characters, fewer only at the end; with -1 all that remain.

        Raises:
            ObjectChangedError: the object was replaced or deleted after it was opened.
        """
        self._refuse("read")

    async def readinto(self, buffer: bytearray | memoryview) -> int:
        """Read bytes into a buffer until it is full or the file ends; return their number."""
        self._refuse("readinto")

    async def readline(self, size: int = -1) -> AnyStr:
        """Read a line with its end, or ``size`` bytes or characters of it; empty at the end of the file."""
        self._refuse("readline")

    async def readlines(self, hint: int = -1) -> list[AnyStr]:
        """Read lines to the end of the file, or until they have ``hint`` bytes or characters together."""
        lines: list[AnyStr] = []
        total = 0
        while line := await self.readline():
            lines.append(line)
            total += len(line)
            if 0 < hint <= total:
                break
        return lines

    async def write(self, data: AnyStr) -> int:
        """Write bytes or text; return the number of bytes or characters.

        Raises:
            TroveError: the store refused the object; leaving the block raises it too.
        """
        self._refuse("write")

    async def writelines(self, lines: Iterable[AnyStr]) -> None:
        """Write strings one after the other; no line ends are added."""
        for line in lines:
            await self.write(line)

    async def flush(self) -> None:
        """Do nothing: what is written becomes visible at once, when the file is closed."""
        self._check_open()

    async def abort(self) -> None:
        """Close a file for writing without storing anything; idempotent."""
        self._refuse("abort")

    @abstractmethod
    async def aclose(self) -> None:
        """Close the file; one for writing is stored. Idempotent.

        Raises:
            TroveError: the object was not stored; its errors are those of ``put``.
        """

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AnyStr:
        if line := await self.readline():
            return line
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedError("the file is closed")

    def _refuse(self, method: str) -> NoReturn:
        self._check_open()
        raise io.UnsupportedOperation(f"a file with mode {self.mode!r} has no {method}()")
