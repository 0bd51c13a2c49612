"""What creates an upload, with the bytes that come with it."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final

from trove_async.errors import (
    AccessDeniedError,
    ConflictError,
    InvalidArgumentError,
    TroveError,
    UploadLengthError,
    UploadNotFoundError,
    UploadRejectedError,
)
from trove_async.uploads.appending import check_room, check_whole, is_due, receive
from trove_async.uploads.exchange import Exchange
from trove_async.uploads.finishing import finish, get_partials, sum_sizes
from trove_async.uploads.hooks import Changes
from trove_async.uploads.info import FileInfo, check_id, check_limit, lowest, new_id
from trove_async.uploads.lockers.base import Lock
from trove_async.uploads.metadata import MetaData
from trove_async.uploads.protocol.messages import Create
from trove_async.uploads.protocol.problems import upload_status
from trove_async.web.http import disposition_filename
from trove_async.web.objects import Answer

__all__ = ["create"]

_RESUMPTION_SUPPORTED: Final = 104

_log = logging.getLogger("trove_async.uploads")


async def create(exchange: Exchange, command: Create) -> Answer:
    """Answer a request that creates an upload; append its body, and finish the upload if it is complete then.

    After a failure of the server, the answer has the URL of the upload and no offset, so that the client asks for it.
    Without the URL it would create another upload and begin anew. An upload that the client cannot continue is removed.
    """
    info, changes, partials = await _decide(exchange, command)
    async with exchange.holding(info.id) as lock:
        info = await _store(exchange, info)
        location = exchange.location(info.id)
        try:
            info = await exchange.find()
            await exchange.services.hooks.tell("after_create", exchange.event("create", info))
            answer = await _fill(exchange, info, command, location, partials, lock)
        except Exception as error:  # noqa: BLE001 - raised again unless it is answered
            answer = await _recover(exchange, command, location, error)
    answer.headers.extend(changes.headers)
    return answer


async def _decide(exchange: Exchange, command: Create) -> tuple[FileInfo, Changes, list[FileInfo]]:
    """Return the upload as it shall be created, what the application decided, and the parts of a final upload."""
    services = exchange.services
    info = FileInfo(
        id=new_id(),
        size=command.size,
        metadata=_metadata(command),
        is_partial=command.is_partial,
        is_final=command.partial_ids is not None,
        partial_ids=command.partial_ids or (),
        max_size=services.settings.max_size,
        digests=command.digests,
    )
    await exchange.authorize("create", info)
    partials = await get_partials(services, info.partial_ids)
    for each in {partial.id: partial for partial in partials}.values():
        if not each.is_partial:
            raise InvalidArgumentError(f"{each.id!r} is no partial upload")
        await exchange.authorize("concatenate", each)
    if info.is_final:
        info = replace(info, size=sum_sizes(partials, info.max_size))
    changes = await services.hooks.before_create(exchange.event("create", info))
    info = _changed(info, changes)
    if any(each.owner != info.owner for each in partials):
        raise AccessDeniedError("a part of the upload belongs to another owner")
    check_limit(info.size, info.max_size)
    if command.append is not None:
        check_room(info, command.append)
    if changes.id is not None:
        await _check_free(exchange, info.id)
    return info, changes, partials


def _metadata(command: Create) -> MetaData:
    """Return the client's metadata, and what the protocol says in headers of its own; the metadata's names win."""
    said = {
        "filename": disposition_filename(command.content_disposition or ""),
        "filetype": command.content_type,
        "content-disposition": command.content_disposition,
        "content-encoding": command.content_encoding,
        "content-language": command.content_language,
    }
    added = [(name, value) for name, value in said.items() if value and name not in command.metadata]
    return MetaData([*command.metadata.items(), *added]) if added else command.metadata


def _changed(info: FileInfo, changes: Changes) -> FileInfo:
    try:
        upload_id = info.id if changes.id is None else check_id(changes.id)
    except InvalidArgumentError as error:  # the fault is not the client's
        raise RuntimeError(f"the hook before_create chose an id that is none: {error}") from error
    return replace(
        info,
        id=upload_id,
        metadata=info.metadata if changes.metadata is None else changes.metadata,
        max_size=lowest(info.max_size, changes.max_size),
        destination=changes.destination,
        owner=changes.owner or "",
    )


async def _check_free(exchange: Exchange, upload_id: str) -> None:
    """Check that an id of the application's choice is free, without the lock that a request for it may hold."""
    try:
        await exchange.services.get_info(upload_id)
    except UploadNotFoundError:
        return
    raise _exists()


def _exists() -> UploadRejectedError:
    return UploadRejectedError("there is an upload with this id already", status_code=409)


async def _store(exchange: Exchange, info: FileInfo) -> FileInfo:
    try:
        info = replace(info, id=await exchange.services.store.new_upload(info))
    except ConflictError as error:
        raise _exists() from error
    exchange.info = info
    return info


async def _fill(
    exchange: Exchange, info: FileInfo, command: Create, location: str, partials: list[FileInfo], lock: Lock
) -> Answer:
    """Append the body, and finish the upload if it is complete."""
    if command.append is not None:
        await _announce(exchange, info, location)
        info = await receive(exchange, info, command.append, lock)
        complete = is_due(exchange, info, command.append)
    elif info.is_final:
        complete = all(each.is_complete for each in partials)
    else:
        complete = info.is_complete and exchange.protocol.ends_by_size  # without a single byte
    if not complete:
        if command.append is not None and command.append.is_last:
            check_whole(exchange)
            raise UploadLengthError(f"the upload has {info.size} bytes, but its body has {info.offset}")
        return exchange.protocol.created(info, location)
    return exchange.protocol.finished(await finish(exchange, info, lock), location)


async def _announce(exchange: Exchange, info: FileInfo, location: str) -> None:
    """Tell the client the URL of its upload before it sends the body, if protocol and server can."""
    headers = exchange.protocol.interim(info, location)
    if exchange.interim is None or headers is None:
        return
    try:
        await exchange.interim(_RESUMPTION_SUPPORTED, headers)
    except Exception as error:  # noqa: BLE001 - the client has gone: its body says so too
        _log.debug("an interim answer was not sent: %s", error)
    else:
        exchange.announced = True


async def _recover(exchange: Exchange, command: Create, location: str, error: Exception) -> Answer:
    """Answer a creation whose upload exists, but whose body or finish failed.

    A client that has sent all bytes of its upload would take any 2xx for the end of the upload.
    """
    if exchange.announced:
        raise error
    status = upload_status(error)
    if command.append is None or command.append.is_last or (status < 500 and status != 423):
        try:
            await exchange.discard()
        except TroveError as left:
            _log.warning("an upload of which the client does not know is left until it expires: %s", left)
        raise error
    _log.error("the upload was created, but its body was not stored: %s", error, exc_info=error)
    assert exchange.info is not None
    answer = exchange.protocol.created(exchange.info, location)
    return replace(answer, headers=[pair for pair in answer.headers if pair[0].lower() != "upload-offset"])
