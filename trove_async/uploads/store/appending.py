"""Uploads that are one part that grows: what arrives is written at once, and nothing is held in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace

from trove_async.errors import BodySizeError
from trove_async.uploads.store.entry import Context, Entry
from trove_async.uploads.store.state import Part

__all__ = ["append", "cut_off", "limited", "take_nothing"]


async def append(context: Context, entry: Entry, src: AsyncIterator[bytes], verify: Callable[[], object] | None) -> int:
    """Append a chunk to the part of an upload, and return how many bytes were added.

    A chunk with a checksum does not count before the state says so: until then the state tells everybody that what
    is behind its offset is worth nothing.
    """
    state = entry.state
    offset = state.info.offset
    if verify is None and not state.recoverable:
        await cut_off(context, entry)
    elif verify is not None and state.recoverable:
        await context.save(entry, recoverable=False)
    elif entry.unsaved or not entry.owned or context.expires_soon(entry):
        await context.save(entry)
    await _store(context, entry, offset, limited(context, entry, src))
    if verify is not None:
        verify()
        await context.save(entry, recoverable=True)
    elif context.expires_soon(entry):  # the end took long
        await context.save(entry)
    entry.state = entry.state.with_info(offset=entry.state.stored)
    return entry.state.stored - offset


async def cut_off(context: Context, entry: Entry) -> None:
    """Cut off what was not verified, if there is such: the part has the bytes of the state then, and no others."""
    if not entry.state.recoverable:
        await _store(context, entry, entry.state.info.offset, b"")
        await context.save(entry, recoverable=True)


async def _store(context: Context, entry: Entry, offset: int, data: AsyncIterator[bytes] | bytes) -> None:
    state = entry.state
    part = await context.store.append_part(state.bucket, state.key, state.backend_id, 1, offset, data)
    entry.state = replace(entry.state, parts=(Part(1, part.etag, part.size),))


async def limited(context: Context, entry: Entry, src: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of a chunk, as long as they fit into the upload and no other process has taken it over.

    The upload does not expire meanwhile, however long the chunk takes.
    """
    entry.active_at = context.now()
    info = entry.state.info
    limit = info.size if info.size is not None else info.max_size
    taken = info.offset
    async for data in src:
        if context.shared:
            await context.stay(entry)
        if context.expires_soon(entry):
            await context.renew(entry)
        taken += len(data)
        if limit is not None and taken > limit:
            raise BodySizeError(f"the chunk goes beyond the {limit} bytes of the upload")
        yield data


async def take_nothing(
    context: Context, entry: Entry, src: AsyncIterator[bytes], verify: Callable[[], object] | None
) -> None:
    """Read a chunk of an upload that has all of its bytes: it has none.

    Raises:
        BodySizeError: it has some.
    """
    async with aclosing(limited(context, entry, src)) as chunks:
        async for _ in chunks:
            pass
    if verify is not None:
        verify()
