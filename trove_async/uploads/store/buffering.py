"""Uploads in parts of a size that the backend demands: what arrives is held in memory until a part is full.

What does not fill a part at the end of a chunk is the tail: it is put with the state, and is the beginning of the next
part. It also stays in memory, so that the next chunk need not read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import replace

from trove_async.uploads.store.appending import limited
from trove_async.uploads.store.budget import MemoryBudget
from trove_async.uploads.store.buffer import STEP, Buffer
from trove_async.uploads.store.entry import Context, Entry, stop
from trove_async.uploads.store.state import Part

__all__ = ["PartWriter"]


class PartWriter:
    """Writes one chunk to an upload.

    One part is sent while a little of the next is read; a process that is killed loses no more than that.

    Args:
        context: of the store.
        entry: of the upload; nobody else uses it meanwhile.
    """

    def __init__(self, context: Context, entry: Entry) -> None:
        self._context = context
        self._entry = entry
        self._buffer: Buffer | None = None
        self._sending: asyncio.Task[Part] | None = None
        self._sent_bytes = 0  # of the part that is being stored
        self._parts: list[Part] = []
        self._verified = False

    async def write(self, src: AsyncIterator[bytes], verify: Callable[[], object] | None) -> int:
        """Append a chunk, and return how many bytes were added; they are durable."""
        entry = self._entry
        before = entry.state.info.offset
        self._verified = verify is not None
        try:
            await self._resume()
            async with aclosing(limited(self._context, entry, src)) as chunks:
                async for data in chunks:
                    await self._take(data)
            await self._sent()
            if verify is not None:
                verify()
            await self._publish(before)
        except BaseException as error:
            if isinstance(error, Exception):
                with suppress(Exception):  # the part was read completely
                    await self._sent()
            await self._give_up()
            raise
        return entry.state.info.offset - before

    async def flush(self) -> None:
        """Store the tail of a complete upload as its last part."""
        try:
            await self._resume()
            if self._buffer is not None:
                await self._send(claimed=True)  # there is no other part that it could be taken for
                await self._sent()
        except BaseException:
            await self._give_up()
            raise

    async def _resume(self) -> None:
        """Get the tail into memory, and claim the upload if another process has written to it."""
        entry = self._entry
        if entry.state.tail_size:
            self._buffer, entry.buffer = entry.buffer, None
            if self._buffer is not None and not self._buffer.wake(self._size()):
                self._buffer.free()
                self._buffer = None
            if self._buffer is None:
                self._buffer = Buffer(self._context.budget, self._size())
                await self._context.states.read_tail(entry.stored, self._buffer)
        if not entry.settled:
            if entry.stored.state.running:
                # From now on no part counts that the writer before stores.
                await self._context.save(entry, self._buffer, running=True, recoverable=True)
            entry.settled = True

    def _size(self) -> int:
        """Return the size of the part that is being filled."""
        info = self._entry.state.info
        size = self._full_size()
        done = self._entry.state.stored + sum(part.size for part in self._parts) + self._sent_bytes
        return size if info.size is None else max(min(size, info.size - done), 1)

    def _full_size(self) -> int:
        return self._context.sizes.size_of(self._number(), self._entry.state.part_size)

    def _number(self) -> int:
        """Return the number of the part that is being filled."""
        return self._entry.state.next_number + len(self._parts) + (self._sending is not None)

    async def _take(self, data: bytes) -> None:
        start = 0
        while start < len(data):
            if self._buffer is None:
                self._buffer = Buffer(self._context.budget, self._size())
            buffer = self._buffer
            if len(buffer) >= buffer.most:
                await self._send()
                continue
            stop_at = start + min(buffer.most - len(buffer), STEP)
            piece = data if start == 0 and stop_at >= len(data) else memoryview(data)[start:stop_at]
            if self._sending is not None and len(buffer) + len(piece) > STEP:
                await self._sent()
            await buffer.reserve(len(piece))
            buffer.add(piece)
            start += len(piece)
            if len(buffer) >= buffer.most and not self._is_last(buffer):
                await self._send()

    def _is_last(self, buffer: Buffer) -> bool:
        """Tell whether the buffer ends the upload; it is then stored with the chunk."""
        info = self._entry.state.info
        return info.size is not None and buffer.most < self._full_size()

    async def _send(self, *, claimed: bool = False) -> None:
        """Begin to store the buffer as a part, when the part before is stored."""
        await self._sent()
        buffer = self._buffer
        assert buffer is not None
        if not claimed:
            await self._claim(buffer)
        self._buffer = None
        number = self._number()
        buffer.full()
        self._sent_bytes = len(buffer)
        self._sending = asyncio.create_task(self._store(number, buffer))
        self._sending.add_done_callback(lambda _: buffer.free())

    async def _claim(self, buffer: Buffer) -> None:
        """Write that there may be parts that the state does not have, and whether they count."""
        entry = self._entry
        if entry.state.running and entry.state.recoverable is not self._verified:
            return
        tail = await self._copy_of_tail(buffer)
        try:
            await self._context.save(entry, tail, running=True, recoverable=not self._verified)
        finally:
            if tail is not None:
                tail.free()

    async def _copy_of_tail(self, buffer: Buffer) -> Buffer | None:
        """Return the part of the buffer that counts already, outside the budget: the buffer is full and stays."""
        size = self._entry.state.tail_size
        if not size:
            return None
        tail = Buffer(MemoryBudget(size), size)
        await tail.reserve(size)
        tail.add(buffer.view[:size])
        return tail

    async def _store(self, number: int, buffer: Buffer) -> Part:
        state, crc32c = self._entry.state, buffer.crc32c
        part = await self._context.store.upload_part(
            state.bucket, state.key, state.backend_id, number, buffer.view, size=len(buffer)
        )
        stored = Part(number, part.etag, part.size, crc32c)
        if not self._verified and not self._replaces_stale(stored):
            self._entry.arrived = stored
        return stored

    def _replaces_stale(self, part: Part) -> bool:
        """Tell whether only the state can tell this part from the one that did not count."""
        return not {(part.number, None), (part.number, part.etag)}.isdisjoint(self._entry.state.stale)

    async def _sent(self) -> None:
        """Wait until the part that is being stored is stored."""
        if self._sending is None:
            return
        part = await self._sending
        self._sending, self._sent_bytes, self._entry.arrived = None, 0, None
        if self._verified:
            self._parts.append(part)
        else:
            state = replace(self._entry.state, parts=(*self._entry.state.parts, part), tail_size=0)
            if self._replaces_stale(part):
                # Nobody sees the part before.
                await self._context.save(self._entry, parts=state.parts)
            else:
                self._entry.state = state.with_info(offset=state.stored)

    async def _publish(self, before: int) -> None:
        """Make everything durable."""
        entry, buffer = self._entry, self._buffer
        if self._parts:
            entry.state = replace(entry.state, parts=(*entry.state.parts, *self._parts), tail_size=0)
            self._parts = []
        state = entry.state
        size = 0 if buffer is None else len(buffer)
        total = state.stored + size
        if total == before and not entry.unsaved:
            self._rest()
            return
        is_complete = total == state.info.size
        if is_complete and not self._verified and not entry.unsaved and state.recoverable and state.running:
            # The parts are found without the state; `finish_upload` writes it.
            if buffer is not None:
                await self._send()
                await self._sent()
            return
        # If the next chunk is like this one it fills a part, and need not write the state before.
        fills = not is_complete and size + total - before >= self._full_size()
        await self._context.save(entry, buffer, running=fills, recoverable=True)
        self._rest()

    def _rest(self) -> None:
        entry, buffer = self._entry, self._buffer
        self._buffer = None
        if buffer is not None:
            entry.buffer = buffer
            buffer.rest(entry.forget_buffer)

    async def _give_up(self) -> None:
        """Leave what is durable."""
        task, self._sending = self._sending, None
        try:
            if task is not None:
                await stop(task)
        finally:
            if self._buffer is not None:
                self._buffer.free()
                self._buffer = None
