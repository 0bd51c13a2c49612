"""What this process knows of an upload, and what the parts of the store share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Final

from trove_async.cancellation import CLEANUP_TIMEOUT, finish
from trove_async.errors import BackendError, UploadLockedError, UploadNotFoundError
from trove_async.store import Trove
from trove_async.types import ObjectInfo, PartInfo
from trove_async.uploads.info import FileInfo
from trove_async.uploads.store.budget import MemoryBudget
from trove_async.uploads.store.buffer import Buffer
from trove_async.uploads.store.sizes import PartSizes
from trove_async.uploads.store.state import Part, State
from trove_async.uploads.store.states import States, Stored

__all__ = ["Context", "Entry", "stop"]

_PAUSE: Final = timedelta(seconds=5)
"""After which a writer looks whether the upload is still its own."""
_KEEP_ALIVE: Final = 10
"""The expiry of an upload that is continued is written again after a tenth of its time."""


class Entry:
    """An upload as this process knows it.

    Attributes:
        stored: its state as it was read or written last.
        state: its state now, which may be ahead of what was written.
        settled: whether this process was the last to write, so that ``state`` has all of its bytes.
        buffer: the tail, if it is in memory.
        unsaved: whether ``state`` has something that must be written with the next chunk.
        owned: whether this process was the last to write the state, so that others see that it writes.
        active_at: when the writer was last sure that nobody has taken the upload over, or did something.
        made: the object that the backend's upload has become, if a process ended before it could write that.
        arrived: a part that counts and is not in ``state`` yet, while the writer waits for more bytes of its client.
    """

    __slots__ = ("active_at", "arrived", "buffer", "made", "owned", "settled", "state", "stored", "unsaved")

    def __init__(self, stored: Stored, *, settled: bool = False) -> None:
        self.stored = stored
        self.state = stored.state
        self.settled = self.owned = settled
        self.active_at: datetime | None = None
        self.buffer: Buffer | None = None
        self.unsaved = False
        self.made: ObjectInfo | None = None
        self.arrived: Part | None = None

    @property
    def info(self) -> FileInfo:
        """The upload, with all that others find of it as well."""
        info = self.state.info
        return info if self.arrived is None else replace(info, offset=self.state.stored + self.arrived.size)

    def with_unsaved(self, state: State) -> State:
        """Return a state that was read, with what was declared and is not written yet."""
        info = self.state.info
        return state.with_info(size=info.size, answer=info.answer) if self.unsaved else state

    def forget_buffer(self) -> None:
        """Give up the tail in memory; the state has it."""
        self.buffer = None

    def free(self) -> None:
        """Give the memory back."""
        if self.buffer is not None:
            self.buffer.free()
            self.buffer = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the parts of the store share.

    Attributes:
        store: has everything.
        bucket: for uploads without a destination.
        states: of the uploads.
        budget: of all buffers.
        sizes: of parts.
        now: the clock.
        expires: after which an upload is removed if it is not continued; None for never.
        shared: whether other processes may write to the same uploads.
    """

    store: Trove
    bucket: str
    states: States
    budget: MemoryBudget
    sizes: PartSizes
    now: Callable[[], datetime]
    expires: timedelta | None
    shared: bool

    def expiry(self) -> datetime | None:
        """Return when an upload expires that was continued now."""
        return None if self.expires is None else self.now() + self.expires

    def expires_soon(self, entry: Entry) -> bool:
        """Tell whether the expiry that is written is too old for an upload that is being continued."""
        written, now = entry.stored.state.info.expires_at, self.expiry()
        if written is None or now is None or self.expires is None:
            return written != now
        return now - written > self.expires / _KEEP_ALIVE

    async def renew(self, entry: Entry) -> None:
        """Write the state again, with a later expiry, while a chunk is received."""
        tail = None
        if entry.state.tail_size:  # what is in memory may be on its way into a part
            tail = Buffer(MemoryBudget(entry.state.tail_size), entry.state.tail_size)
            await self.states.read_tail(entry.stored, tail)
        try:
            await self.save(entry, tail)
        finally:
            if tail is not None:
                tail.free()

    async def save(self, entry: Entry, tail: Buffer | None = None, **changes: Any) -> None:
        """Write the state of an upload.

        Args:
            entry: of the upload.
            tail: its tail.
            **changes: of the state.
        """
        state = replace(entry.state, **changes, tail_size=0 if tail is None else len(tail))
        state = replace(state, stale=tuple(each for each in state.stale if each[0] >= state.next_number))
        if not state.info.is_finished:
            state = state.with_info(offset=state.stored + state.tail_size, expires_at=self.expiry())
        entry.stored = await self.states.save(state, tail, entry.stored.etag)
        entry.state, entry.unsaved, entry.owned = state, False, True

    async def stay(self, entry: Entry) -> None:
        """Make sure, after a pause, that no other process has taken the upload over meanwhile.

        Raises:
            UploadLockedError: one has.
        """
        now, before = self.now(), entry.active_at
        entry.active_at = now
        if before is None or now - before < _PAUSE:
            return
        try:
            found = await self.states.describe(entry.state.info.id, entry.stored)
        except UploadNotFoundError as error:
            raise UploadLockedError("another process has removed the upload") from error
        if found is not entry.stored:
            raise UploadLockedError("another process has continued the upload")

    async def extended(self, state: State, *, taking_over: bool = False) -> State:
        """Return a state with what its writer has stored since, as far as it counts.

        Args:
            state: as it was written.
            taking_over: whether this process goes on with the upload. What does not count by now never will then: it
                is `State.stale`.

        Raises:
            UploadNotFoundError: the backend's upload is not open any more.
        """
        if state.info.is_finished or not state.backend_id or not state.running:
            return state
        if not state.recoverable and not taking_over:
            return state
        listed = await self.store.list_parts(state.bucket, state.key, state.backend_id)
        if state.appends:
            return _grown(state, listed) if state.recoverable else state
        longer = _continued(state, listed) if state.recoverable else state
        return replace(longer, stale=_stale(longer, listed)) if taking_over else longer


def _grown(state: State, listed: list[PartInfo]) -> State:
    size = listed[0].size if listed else 0
    if size < state.info.offset or (state.info.size is not None and size > state.info.size):
        raise BackendError(f"the part of the upload has {size} bytes; {state.info.offset} were stored")
    parts = (Part(1, listed[0].etag, size),) if listed else ()
    return replace(state, parts=parts).with_info(offset=size)


def _continued(state: State, listed: list[PartInfo]) -> State:
    stored = {part.number: part for part in listed}
    stale = set(state.stale)
    found = []
    number = state.next_number
    while (part := stored.get(number)) is not None and not stale & {(number, None), (number, part.etag)}:
        found.append(Part(number, part.etag, part.size))
        number += 1
    longer = replace(state, parts=(*state.parts, *found), tail_size=0)
    # The first part that was stored since begins with the tail.
    if not found or found[0].size < state.tail_size or longer.stored > (state.info.size or longer.stored):
        return state
    return longer.with_info(offset=longer.stored)


def _stale(state: State, listed: list[PartInfo]) -> tuple[tuple[int, str | None], ...]:
    """Return the parts that do not count, and the number of the one that the writer before may still be storing."""
    found: list[tuple[int, str | None]] = [(part.number, part.etag) for part in listed]
    found = [each for each in found if each[0] >= state.next_number]
    numbers = {number for number, _ in found}
    missing = next(number for number in count(state.next_number) if number not in numbers)
    return tuple(sorted({*found, (missing, None)}, key=lambda each: each[0]))


async def stop(task: asyncio.Task[Any]) -> None:
    """End a task that stores a part, and wait until it has ended."""
    task.cancel()
    await finish(_ended(task), timeout=CLEANUP_TIMEOUT, leftover="the request that stores a part of an upload")


async def _ended(task: asyncio.Task[Any]) -> None:
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # the caller raises what ended it
