"""How partial uploads become one: their objects are copied as parts, and what is too small for a part is read."""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from dataclasses import replace
from typing import cast

from trove_async.body import Chunk
from trove_async.driver.capabilities import PartCopyDriver
from trove_async.errors import CopyNotSupportedError, InvalidArgumentError, ObjectNotFoundError, UploadNotFoundError
from trove_async.types import ObjectRef
from trove_async.uploads.store.buffer import Buffer
from trove_async.uploads.store.entry import Context, Entry
from trove_async.uploads.store.finishing import combined, take_made
from trove_async.uploads.store.state import Part, State

__all__ = ["join"]


async def join(context: Context, entry: Entry, partials: Sequence[State]) -> None:
    """Fill an upload with the bytes of finished partial uploads, in order.

    Nothing counts before all of it is there, and the same parts are stored again if this is repeated.
    """
    size = sum(partial.info.size or 0 for partial in partials)
    if entry.state.info.size not in (None, size):
        raise InvalidArgumentError(f"the partial uploads have {size} bytes; the upload has {entry.state.info.size}")
    entry.state = entry.state.with_info(size=size)
    work = _Join(context, entry)
    try:
        await work.add_all(partials)
    except UploadNotFoundError as error:
        await take_made(context, entry, error)
        return
    finally:
        work.free()
    entry.state = replace(entry.state, parts=tuple(work.parts), tail_size=0).with_info(offset=size)


class _Join:
    def __init__(self, context: Context, entry: Entry) -> None:
        limits = context.sizes.limits
        self._context = context
        self._entry = entry
        self._copies = context.store.supports(PartCopyDriver) and not limits.equal_parts
        self._smallest = limits.min_part_size
        self._largest = limits.max_part_size
        self._buffer: Buffer | None = None
        self.parts: list[Part] = []

    async def add_all(self, partials: Sequence[State]) -> None:
        """Store the bytes of all partial uploads."""
        filled = [partial for partial in partials if partial.info.size]
        for number, partial in enumerate(filled, 1):
            try:
                await self._append(partial, is_last=number == len(filled))
            except ObjectNotFoundError as error:
                raise UploadNotFoundError(f"the partial upload {partial.info.id!r} is gone") from error
        await self._flush()

    async def _append(self, partial: State, *, is_last: bool) -> None:
        """Append the bytes of a partial upload."""
        size, offset = partial.info.size or 0, 0
        while offset < size:
            rest = size - offset
            if self._copies and self._buffer is None and (rest >= self._smallest or is_last):
                try:
                    await self._copy(partial, offset, rest)
                    return
                except CopyNotSupportedError:
                    self._copies = False
            taken = self._to_read(rest)
            await self._read(partial, offset, taken)
            offset += taken

    def _to_read(self, rest: int) -> int:
        """Return how many bytes are read, so that what follows can be copied."""
        if not self._copies:
            return rest
        missing = max(self._smallest - (0 if self._buffer is None else len(self._buffer)), 0)
        return rest if rest - missing < self._smallest else missing

    async def _copy(self, partial: State, offset: int, size: int) -> None:
        state = self._entry.state
        count = 1 if self._largest is None else -(-size // self._largest)
        each = -(-size // count)
        whole = combined(partial.parts) if count == 1 and not offset else None
        for start in range(offset, offset + size, each):
            length = min(each, offset + size - start)
            part = await self._context.store.copy_part(
                state.bucket,
                state.key,
                state.backend_id,
                len(self.parts) + 1,
                ObjectRef(partial.bucket, partial.key),
                start,
                length,
            )
            self.parts.append(Part(part.number, part.etag, length, whole))

    async def _read(self, partial: State, offset: int, size: int) -> None:
        reader = self._context.store.get(partial.bucket, partial.key, range=(offset, size))
        async with reader as chunks:
            async for chunk in cast(AsyncIterable[Chunk], chunks):
                await self._add(chunk)
        if self._copies and self._buffer is not None and len(self._buffer) >= self._smallest:
            await self._flush()

    async def _add(self, data: Chunk) -> None:
        view = memoryview(data)
        while len(view):
            if self._buffer is None:
                self._buffer = Buffer(self._context.budget, self._part_size())
            buffer = self._buffer
            piece = view[: buffer.most - len(buffer)]
            await buffer.reserve(len(piece))
            buffer.add(piece)
            view = view[len(piece) :]
            if len(buffer) >= buffer.most:
                await self._flush()

    def _part_size(self) -> int:
        state = self._entry.state
        return self._context.sizes.size_of(len(self.parts) + 1, state.part_size)

    async def _flush(self) -> None:
        """Store what was read as a part."""
        buffer, state = self._buffer, self._entry.state
        if buffer is None:
            return
        buffer.full()
        number = len(self.parts) + 1
        part = await self._context.store.upload_part(
            state.bucket, state.key, state.backend_id, number, buffer.view, size=len(buffer)
        )
        self.parts.append(Part(number, part.etag, part.size, buffer.crc32c))
        self.free()

    def free(self) -> None:
        """Give the memory back."""
        if self._buffer is not None:
            self._buffer.free()
            self._buffer = None
