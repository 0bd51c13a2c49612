"""What makes an object of a complete upload, and of the parts of a final one."""

from __future__ import annotations

from dataclasses import replace

from trove_async.errors import ContentTooLargeError, UnsupportedError, UploadNotFoundError
from trove_async.uploads.datastore import ConcaterDataStore, FinisherDataStore, RecorderDataStore
from trove_async.uploads.exchange import Exchange, Services, check_held
from trove_async.uploads.info import FileInfo
from trove_async.uploads.lockers.base import Lock

__all__ = ["catch_up", "finish", "get_partials", "sum_sizes"]


async def finish(exchange: Exchange, info: FileInfo, lock: Lock) -> FileInfo:
    """Finish a complete upload, or join the parts of a final one; its lock is held.

    The client must be allowed to do it now, whatever it was allowed when it began. A partial upload is no object of
    its own, so that hooks are not asked; what its store has left to do is done now, and makes joining it quick.

    Raises:
        TroveError: hooks or the store refuse or fail. A later request tries again.
    """
    services = exchange.services
    store = services.store
    if info.is_partial:
        if isinstance(store, FinisherDataStore):
            info = await store.finish_upload(info.id)
        return replace(info, is_finished=True)
    event = exchange.event("finish", info)
    await services.hooks.authorize(event)
    answer = await services.hooks.before_finish(event)
    check_held(lock)
    if answer is not None and isinstance(store, RecorderDataStore):
        await store.record_answer(info.id, answer)
    if info.is_final:
        if not isinstance(store, ConcaterDataStore):
            raise UnsupportedError("the store does not join uploads")
        await store.concat_uploads(info.id, info.partial_ids)
        info = await store.get_info(info.id)
    elif isinstance(store, FinisherDataStore):
        info = await store.finish_upload(info.id)
    info = replace(info, is_finished=True, answer=answer or info.answer)
    exchange.info = info
    await services.hooks.tell("after_finish", exchange.event("finish", info))
    return info


async def catch_up(exchange: Exchange, info: FileInfo) -> FileInfo:
    """Finish an upload whose finish is due, because it failed before or because its parts are complete only now.

    A client that asks for the offset of a complete upload would take it for finished. An upload that still grows is
    left alone, and its lock is not asked for.

    Raises:
        TroveError: as for `finish`; an UploadLockedError while another request finishes it.
    """
    services = exchange.services
    if info.is_finished:
        return info
    if info.is_final:
        partials = await get_partials(services, info.partial_ids)
        info = replace(info, size=sum_sizes(partials, info.max_size))
        if not all(each.is_complete for each in partials):
            return info
    elif not info.is_complete:
        return info
    async with exchange.holding(info.id) as lock:
        found = await exchange.find()
        if info.is_final:
            found = replace(found, size=info.size)
        elif not found.is_complete:
            return found  # a length that was declared was not kept, as its request failed
        return found if found.is_finished else await finish(exchange, found, lock)


async def get_partials(services: Services, partial_ids: tuple[str, ...]) -> list[FileInfo]:
    """Return the partial uploads of a final one, in order.

    Raises:
        UploadNotFoundError: one is gone, so that the final upload cannot be completed.
    """
    known: dict[str, FileInfo] = {}
    for each in dict.fromkeys(partial_ids):
        try:
            known[each] = await services.get_info(each)
        except UploadNotFoundError as error:
            if error.driver is not None:
                raise
            raise type(error)(f"the partial upload {each!r} is gone") from error
    return [known[each] for each in partial_ids]


def sum_sizes(partials: list[FileInfo], most: int | None) -> int | None:
    """Return the size of a final upload; None while that of a part is not known.

    Args:
        partials: its parts.
        most: bytes that it may have; None without a limit.

    Raises:
        ContentTooLargeError: it has more.
    """
    least = sum(each.offset if each.size is None else each.size for each in partials)
    if most is not None and least > most:
        raise ContentTooLargeError(f"the parts have {least} bytes; at most {most} are accepted")
    return None if any(each.size is None for each in partials) else least
