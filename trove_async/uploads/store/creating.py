"""How an upload is created: the backend's upload is begun, and its state is stored."""

from __future__ import annotations

from dataclasses import replace

from trove_async.cancellation import CLEANUP_TIMEOUT, finish
from trove_async.checksums import Checksum
from trove_async.driver.capabilities import AppendDriver
from trove_async.errors import InvalidArgumentError, TroveError
from trove_async.uploads.info import FileInfo, check_id, check_limit, new_id
from trove_async.uploads.store.entry import Context, Entry
from trove_async.uploads.store.placing import (
    check_conditions,
    check_destination,
    check_free,
    description_of,
    destination_of,
    place_of,
)
from trove_async.uploads.store.state import State
from trove_async.values import is_whole

__all__ = ["create"]


async def create(context: Context, wanted: FileInfo) -> Entry:
    """Create an upload.

    If it fails or is cancelled, nothing stays behind.

    Raises:
        ConflictError: there is an upload of this id.
        ObjectAlreadyExistsError: the destination has an object, which must not be replaced.
        UnsupportedError: the backend cannot do what is asked.
        ContentTooLargeError: it is larger than the store allows.
        InvalidArgumentError: the id, a size or a digest is invalid, or the destination is among the states.
    """
    info = replace(
        wanted,
        id=check_id(wanted.id) if wanted.id else new_id(),
        offset=0,
        created_at=wanted.created_at or context.now(),
        expires_at=context.expiry(),
        is_finished=False,
        etag=None,
    )
    _check_size(context, info)
    for algorithm, value in info.digests.items():
        Checksum(algorithm, value)
    check_conditions(context, info)
    check_destination(context, info)
    await check_free(context, info)
    bucket, key = place_of(context, info)
    appends = context.store.supports(AppendDriver)
    state = State(
        info=info,
        bucket=bucket,
        key=key,
        backend_id="",
        appends=appends,
        part_size=None if appends or info.is_final else context.sizes.fixed(info.size, info.max_size),
        # The first chunk need not write the state before its first part; of a final upload nothing is recovered.
        running=not info.is_final,
    )
    if info.size != 0:
        described = description_of(destination_of(context, info)[2])
        state = replace(state, backend_id=await context.store.initiate_multipart(bucket, key, **described))
    try:
        return Entry(await context.states.create(state, is_chosen=bool(wanted.id)), settled=True)
    except BaseException as error:
        # What was refused may be the state of somebody else's upload.
        is_refused = isinstance(error, TroveError) and not error.retryable
        is_other = isinstance(error, TroveError) and error.retryable and not error.ambiguous
        leftover = f"the upload {state.backend_id!r} of {key!r} in bucket {bucket!r}"
        await finish(_undo(context, state, not (is_refused or is_other)), timeout=CLEANUP_TIMEOUT, leftover=leftover)
        raise


async def _undo(context: Context, state: State, remove_state: bool) -> None:
    if remove_state:
        await context.states.delete(state.info.id)
    if state.backend_id:
        await context.store.abort_multipart(state.bucket, state.key, state.backend_id)


def _check_size(context: Context, info: FileInfo) -> None:
    for name, size in (("size", info.size), ("max_size", info.max_size)):
        if size is not None and not (is_whole(size) and size >= 0):
            raise InvalidArgumentError(f"the {name} of an upload is a number of bytes, not {size!r}")
    check_limit(info.size, info.max_size, context.sizes.max_size)
