"""What appends the body of a request to an upload."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import replace

from trove_async.errors import (
    ContentTooLargeError,
    TroveError,
    UnsupportedError,
    UploadLengthError,
    UploadLockedError,
    UploadOffsetError,
    UploadRejectedError,
)
from trove_async.uploads.chunks import VerifiedChunks, WatchedChunks
from trove_async.uploads.datastore import LengthDeclarerDataStore, VerifierDataStore
from trove_async.uploads.exchange import Exchange, check_held, shutting_down
from trove_async.uploads.finishing import finish
from trove_async.uploads.hooking import Progress
from trove_async.uploads.info import FileInfo, check_limit, lowest
from trove_async.uploads.lockers.base import Lock
from trove_async.uploads.protocol.messages import Append
from trove_async.web.objects import Answer

__all__ = ["append", "check_room", "check_whole", "is_due", "receive"]

_log = logging.getLogger("trove_async.uploads")


async def append(exchange: Exchange, command: Append) -> Answer:
    """Answer a request that appends its body to an upload; finish the upload if it is complete then.

    What needs no lock is checked before: a request that is refused does not disturb the one that holds the lock.
    """
    info = await exchange.find()
    await exchange.authorize("append", info)
    if info.is_final:
        raise UploadRejectedError("a final upload consists of its parts: nothing is appended", status_code=403)
    if info.is_finished or command.offset < info.offset:  # an offset never decreases
        return _replay(exchange, info, command)
    check_room(_sized(info, command), command)
    async with exchange.holding(info.id) as lock:
        info = await exchange.find()
        if info.is_finished or command.offset != info.offset:
            return _replay(exchange, info, command)
        info = await receive(exchange, info, command, lock)
        if not is_due(exchange, info, command):
            check_whole(exchange)
            return exchange.protocol.appended(info)
        info = await finish(exchange, info, lock)
    return exchange.protocol.finished(info, None)


def _replay(exchange: Exchange, info: FileInfo, command: Append) -> Answer:
    """Answer a request that has nothing to append: at the end of a finished upload as when it was finished."""
    if command.offset != info.offset:
        raise UploadOffsetError(offset=info.offset)
    check_room(_sized(info, command), command)
    return exchange.protocol.finished(info, None)


def _sized(info: FileInfo, command: Append) -> FileInfo:
    """Return the upload with the size that the request says.

    Raises:
        UploadLengthError: the upload has another size, or more bytes.
        ContentTooLargeError: it is more than the upload may have.
    """
    size = command.size
    if size is None and command.is_last and command.body_size is not None:
        size = command.offset + command.body_size
    if size is None:
        return info
    if info.size not in (None, size):
        raise UploadLengthError(f"the upload has {info.size} bytes, not {size}: its length does not change")
    if size < info.offset:
        raise UploadLengthError(f"the upload has {info.offset} bytes already, more than {size}")
    check_limit(size, info.max_size)
    return replace(info, size=size)


def check_room(info: FileInfo, command: Append) -> None:
    """Check that a body fits into the upload, as far as its length is known.

    Raises:
        ContentTooLargeError: it does not.
    """
    room = _room(info, command.offset)
    if room is not None and command.body_size is not None and command.body_size > room:
        raise ContentTooLargeError(f"the body has {command.body_size} bytes; the upload takes {room} more")


def _room(info: FileInfo, offset: int) -> int | None:
    bound = lowest(info.size, info.max_size)
    return None if bound is None else max(bound - offset, 0)


async def receive(exchange: Exchange, info: FileInfo, command: Append, lock: Lock) -> FileInfo:
    """Append a body at the offset of the upload, as much as arrives; the lock is held.

    Returns:
        The upload afterwards.

    Raises:
        TroveError: hooks, the store or the limits refuse it. ``exchange.info`` has what is durable, if it is known.
    """
    services, body = exchange.services, exchange.body
    sized = _sized(info, command)
    check_room(sized, command)
    declares = sized.size != info.size
    await services.hooks.before_receive(exchange.event("append", sized))
    check_held(lock)
    if declares:
        await _declare(exchange, sized)
    if command.body_size == 0 and not declares and not command.checksum:
        exchange.info = sized
        return sized
    progress = services.hooks.progress(exchange.event("append", sized), body.stop)
    services.bodies.add(body)
    if services.closing:
        body.stop()
    try:
        async with progress or nullcontext():
            added = await _write(exchange, sized, command, progress)
    except Exception as error:
        await _settle(exchange, error)
        raise
    finally:
        services.bodies.discard(body)
    info = await exchange.find()
    if added:
        await services.hooks.tell("after_receive", exchange.event("append", info))
    if progress is not None and progress.refusal is not None:
        raise progress.refusal
    check_held(lock)
    if command.is_last and info.size is None and body.ended == "complete":
        info = replace(info, size=command.offset + body.received)
        await _declare(exchange, info)
        exchange.info = info
    return info


async def _settle(exchange: Exchange, error: Exception) -> None:
    """Find out what is durable of a body that failed, for the answer; remove the upload if the protocol says so."""
    try:
        info = await exchange.find()
        if exchange.protocol.invalidates(error, info):
            await exchange.discard()
    except TroveError:
        _log.warning("the offset of an upload is not known after an error", exc_info=True)


async def _declare(exchange: Exchange, info: FileInfo) -> None:
    store = exchange.services.store
    if not isinstance(store, LengthDeclarerDataStore):
        raise UnsupportedError("the store needs the size of an upload when it is created")
    assert info.size is not None
    await store.declare_length(info.id, info.size)


async def _write(exchange: Exchange, info: FileInfo, command: Append, progress: Progress | None) -> int:
    store = exchange.services.store
    chunks = exchange.body.chunks(_room(info, command.offset))
    if progress is not None:
        chunks = WatchedChunks(chunks, command.offset, progress.reached)
    if not command.checksum and not command.trailing:
        return await store.write_chunk(info.id, command.offset, chunks)
    if not isinstance(store, VerifierDataStore):
        raise UnsupportedError("the store does not compare checksums")
    verified = VerifiedChunks(chunks, command.checksum, command.trailing)

    def verify() -> None:
        check_whole(exchange)
        trailing = exchange.protocol.trailing_checksum(exchange.body.trailers) if command.trailing else {}
        verified.verify(trailing)

    return await store.write_verified_chunk(info.id, command.offset, verified, verify)


def is_due(exchange: Exchange, info: FileInfo, command: Append) -> bool:
    """Whether the upload is to be finished after this body: the client has said so, or the size does."""
    if command.is_last is None or not info.is_complete:
        return info.is_complete
    # The last byte may be there although the client could not say that it was the last.
    return command.is_last and exchange.body.ended in (None, "complete")


def check_whole(exchange: Exchange) -> None:
    """Check that the whole body has arrived, and the client has not gone.

    Raises:
        UploadLockedError: another request continues the upload.
        UploadRejectedError: the server shuts down, or the client sent nothing for too long.
    """
    ended = exchange.body.ended
    if ended == "stopped" and exchange.services.closing:
        raise shutting_down()
    if ended in ("stopped", "disconnected"):
        raise UploadLockedError("another request continues the upload")
    if ended == "timed out":
        raise UploadRejectedError("nothing arrived for too long; continue at the offset of the upload", status_code=503)
