"""How a complete upload becomes an object.

The backend's upload is completed where its parts are: at the destination, which costs no copy, or at an object of the
store's own (``….data``) for a partial upload, and for one with a digest. That one is read once, compared, and copied
to the destination: the object is published only if the digest is right.

A process can end between the completion and the state that says so. Then the backend does not know its upload any more,
which alone proves nothing: it may have been aborted. The upload is finished only if there is an object of its size, and
that object must be its own: its key is one that nobody else writes, or the completion could only create it, or it is
another one than before the completion. What it was before is written to the state if the completion may replace an
object; in the other cases that costs no request.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import reduce
from typing import Final, cast

from trove_async.body import Chunk
from trove_async.cancellation import CLEANUP_TIMEOUT, finish, to_the_end
from trove_async.checksums import combine_crc32c, new_hasher, update, verify
from trove_async.errors import (
    BodySizeError,
    ChecksumError,
    ObjectNotFoundError,
    PreconditionFailedError,
    TransientError,
    TroveError,
    UploadNotFoundError,
)
from trove_async.types import ObjectInfo
from trove_async.uploads.store.appending import cut_off
from trove_async.uploads.store.buffering import PartWriter
from trove_async.uploads.store.entry import Context, Entry
from trove_async.uploads.store.placing import (
    conditions_of,
    conditions_on,
    description_of,
    destination_of,
    is_own,
    is_staged,
    only_creates,
)
from trove_async.uploads.store.state import Finishing, Part, State

__all__ = ["as_made", "combined", "find_made", "finish_upload", "take_made"]

_INTERNAL_ERROR: Final = 500


def combined(parts: Sequence[Part]) -> int | None:
    """Return the crc32c of parts; None if that of one is not known, or there are none."""
    if not parts or any(part.crc32c is None for part in parts):
        return None
    return reduce(lambda whole, part: combine_crc32c(whole, cast(int, part.crc32c), part.size), parts, 0)


async def finish_upload(context: Context, entry: Entry) -> None:
    """Make the object of a complete upload, and write that it is finished.

    Raises:
        ChecksumError, BodySizeError: the object is not what was uploaded.
        PreconditionFailedError: a condition of the destination does not hold.
    """
    try:
        if not entry.state.appends:
            await PartWriter(context, entry).flush()
        elif entry.made is None and entry.state.backend_id:
            await cut_off(context, entry)
    except UploadNotFoundError as error:
        await take_made(context, entry, error)
    work = _Finish(context, entry)
    info = await work.make()
    await work.write(info)


async def find_made(context: Context, state: State) -> ObjectInfo | None:
    """Return the object of an upload that the backend does not know any more, if it was completed; else None."""
    try:
        found = await context.store.head(state.bucket, state.key)
    except ObjectNotFoundError:
        return None
    if found.size != state.info.size:
        return None
    if state.finishing is not None and not is_own(context, state):
        return found if found.etag != state.finishing.before else None
    return found if only_creates(context, state) else None


async def as_made(context: Context, state: State, error: UploadNotFoundError) -> tuple[State, ObjectInfo]:
    """Return the state of an upload that the backend does not know any more, and the object that it has become.

    Raises:
        UploadNotFoundError: ``error``, since it has become no object.
    """
    made = await find_made(context, state)
    if made is None:
        raise error
    return replace(state, parts=(), tail_size=0).with_info(offset=made.size), made


async def take_made(context: Context, entry: Entry, error: UploadNotFoundError) -> None:
    """Go on with the object of an upload that the backend does not know any more.

    Raises:
        UploadNotFoundError: ``error``, since it has become no object.
    """
    entry.state, entry.made = await as_made(context, entry.state, error)


class _Finish:
    def __init__(self, context: Context, entry: Entry) -> None:
        self._context = context
        self._store = context.store
        self._entry = entry

    async def make(self) -> ObjectInfo:
        """Make the object at the destination."""
        state = self._entry.state
        made = self._entry.made or await (self._complete() if state.info.size else self._put_empty())
        await self._compare(made)
        if is_staged(self._context, state):
            await self._compare_digests()
            made = await self._publish()
        return made

    async def write(self, made: ObjectInfo) -> None:
        """Write that the upload is finished, and remove what it does not need any more."""
        work = self._write(made)
        await to_the_end(work, timeout=CLEANUP_TIMEOUT, leftover=f"the state of the upload {self._entry.state.info.id}")

    async def _write(self, made: ObjectInfo) -> None:
        state = self._entry.state
        data = Part(1, made.etag, made.size, combined(state.parts))
        info = replace(
            state.info, offset=made.size, is_finished=True, etag=made.etag, expires_at=self._context.expiry()
        )
        staged = is_staged(self._context, state)
        await self._context.save(
            self._entry,
            info=info,
            parts=(data,),
            backend_id="",
            running=False,
            recoverable=True,
            stale=(),
            finishing=None,
        )
        if staged or (state.backend_id and not info.size):
            await finish(self._remove(state, staged), timeout=CLEANUP_TIMEOUT, leftover=f"the data of {info.id}")

    async def _remove(self, state: State, staged: bool) -> None:
        if staged:
            await self._store.delete(state.bucket, state.key)
        if not state.info.size and state.backend_id:
            await self._store.abort_multipart(state.bucket, state.key, state.backend_id)

    async def _complete(self) -> ObjectInfo:
        context, entry = self._context, self._entry
        if not only_creates(context, entry.state):
            await self._note(entry.state.bucket, entry.state.key)
        state = entry.state
        parts = [part.info for part in state.parts]
        try:
            return await self._store.complete_multipart(
                state.bucket, state.key, state.backend_id, parts, **conditions_of(context, state)
            )
        except UploadNotFoundError:
            found = await find_made(context, state)
            if found is None:
                raise
            return found
        except TransientError as error:
            if error.status == _INTERNAL_ERROR:  # which Ceph answers also if the upload is gone
                await self._store.list_parts(state.bucket, state.key, state.backend_id)
            raise

    async def _note(self, bucket: str, key: str) -> None:
        """Write which object the upload is about to replace."""
        if self._entry.state.finishing is None:
            await self._context.save(self._entry, finishing=Finishing(await self._etag(bucket, key)))

    async def _etag(self, bucket: str, key: str) -> str | None:
        try:
            return (await self._store.head(bucket, key)).etag
        except ObjectNotFoundError:
            return None

    async def _put_empty(self) -> ObjectInfo:
        """Store the object of an upload without bytes, which has no parts."""
        context, state = self._context, self._entry.state
        if state.info.destination is not None and not is_own(context, state):
            if state.finishing is not None and (found := await find_made(context, state)) is not None:
                return found
            await self._note(state.bucket, state.key)
        described = description_of(destination_of(context, state.info)[2])
        return await self._store.put(state.bucket, state.key, b"", **described, **conditions_of(context, state))

    async def _compare(self, made: ObjectInfo) -> None:
        """Compare the object with what was uploaded: its size, and the crc32c if both are known."""
        state = self._entry.state
        reported, expected = made.checksums.get("crc32c"), combined(state.parts)
        try:
            if made.size != state.info.size:
                raise BodySizeError(f"the object has {made.size} bytes; {state.info.size} were uploaded")
            if reported is not None and expected is not None:
                verify("crc32c", f"{expected:08x}", reported, "the object")
        except (BodySizeError, ChecksumError):
            if only_creates(self._context, state):
                with suppress(TroveError):
                    await self._store.delete(state.bucket, state.key)
            raise

    async def _compare_digests(self) -> None:
        """Read the object once, and compare the digests that the client gave."""
        state = self._entry.state
        hashers = {algorithm: new_hasher(algorithm) for algorithm in state.info.digests}
        async with self._store.get(state.bucket, state.key) as reader:
            async for chunk in cast(AsyncIterable[Chunk], reader):
                for hasher in hashers.values():
                    await update(hasher, chunk)
        for algorithm, hasher in hashers.items():
            verify(algorithm, state.info.digests[algorithm], hasher.hexdigest(), "the upload")

    async def _publish(self) -> ObjectInfo:
        """Copy the object to the destination."""
        state = self._entry.state
        bucket, key, options = destination_of(self._context, state.info)
        noted = state.finishing
        if noted is None:
            await self._note(bucket, key)
        else:
            found = await self._published(bucket, key, noted)
            if found is not None:
                return found
        return await self._store.copy(state.bucket, state.key, bucket, key, **conditions_on(options))

    async def _published(self, bucket: str, key: str, noted: Finishing) -> ObjectInfo | None:
        with suppress(ObjectNotFoundError, PreconditionFailedError):
            found = await self._store.head(bucket, key)
            if found.etag != noted.before and found.size == self._entry.state.info.size:
                return found
        return None
