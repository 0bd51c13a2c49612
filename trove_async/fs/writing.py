"""Writing an object as a file: stored whole, when the file is closed."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import final

from trove_async.errors import InvalidArgumentError, ObjectAlreadyExistsError
from trove_async.fs.base import AsyncFile
from trove_async.sources import Chunk
from trove_async.store import Trove
from trove_async.store.arguments import PutArguments
from trove_async.writer import ObjectWriter

__all__ = ["BinaryWriter", "open_writer"]


async def open_writer(store: Trove, bucket: str, key: str, mode: str, arguments: PutArguments) -> BinaryWriter:
    """Open an object for writing, or with the mode ``xb`` for creating it."""
    if mode == "xb":
        if arguments.get("if_match") is not None or arguments.get("if_none_match") is not None:
            raise InvalidArgumentError("mode 'x' is the condition if_none_match='*'; no other can be given with it")
        if await store.exists(bucket, key):  # so that an existing one is known early; the condition decides
            raise ObjectAlreadyExistsError(operation="open_file", bucket=bucket, key=key)
        arguments = {**arguments, "if_none_match": "*"}
    return BinaryWriter(await store.writer(bucket, key, **arguments).__aenter__(), mode)


@final
class BinaryWriter(AsyncFile[bytes]):
    """An object that is written as a file; `open_file` returns it for the modes ``wb`` and ``xb``.

    A clean exit of ``async with`` stores it, and so does `aclose`. After any other exit, and after `abort`, nothing is
    stored, and the old object stays. Memory is bounded: `write` waits until the backend has taken earlier bytes.
    """

    def __init__(self, writer: ObjectWriter, mode: str) -> None:
        self.mode = mode
        self.info = None
        self._writer = writer
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the file was closed."""
        return self._closed

    async def tell(self) -> int:
        """Return the number of bytes written so far."""
        self._check_open()
        return self._writer.tell()

    async def write(self, data: Chunk) -> int:
        """Write bytes; return their number. The buffer may be reused when this returns."""
        self._check_open()
        return await self._writer.write(data)

    async def abort(self) -> None:
        """Close the file without storing anything; idempotent."""
        reason = asyncio.CancelledError()
        await self.__aexit__(type(reason), reason, None)

    async def aclose(self) -> None:
        """Store the object and close the file; idempotent."""
        await self.__aexit__(None, None, None)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._closed:
            self._closed = True
            await self._writer.__aexit__(kind, error, traceback)
            self.info = self._writer.info
