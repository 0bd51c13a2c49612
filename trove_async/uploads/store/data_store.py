"""`TroveDataStore`: resumable uploads in any store that has uploads in parts."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from trove_async.cancellation import CLEANUP_TIMEOUT, to_the_end
from trove_async.driver.capabilities import AppendDriver, MultipartDriver
from trove_async.driver.part_plan import MIB
from trove_async.errors import (
    AccessDeniedError,
    ConflictError,
    InvalidArgumentError,
    ObjectNotFoundError,
    TroveError,
    UnsupportedError,
    UploadExpiredError,
    UploadLockedError,
    UploadNotFoundError,
    UploadOffsetError,
)
from trove_async.keys import check_bucket
from trove_async.store import Trove
from trove_async.types import ObjectInfo, ObjectRef
from trove_async.uploads.arguments import check_bytes, check_seconds, split_state
from trove_async.uploads.info import FileInfo, FinalAnswer, check_can_exist
from trove_async.uploads.store.appending import append, take_nothing
from trove_async.uploads.store.budget import MemoryBudget
from trove_async.uploads.store.buffering import PartWriter
from trove_async.uploads.store.creating import create
from trove_async.uploads.store.entry import Context, Entry
from trove_async.uploads.store.finishing import as_made, find_made, finish_upload
from trove_async.uploads.store.joining import join
from trove_async.uploads.store.placing import destination_of, is_staged
from trove_async.uploads.store.sizes import PartSizes
from trove_async.uploads.store.state import State
from trove_async.uploads.store.states import States
from trove_async.uploads.store.sweeping import ORPHANS, SweepReport, has_expired, remove, sweep, take_turn
from trove_async.values import check_function, is_whole
from trove_async.web.http import Headers
from trove_async.web.objects import Answer, ObjectSource, Overrides, Stream, get_object

__all__ = ["EXPIRES", "MEMORY", "TroveDataStore"]

EXPIRES: Final = 7 * 24 * 3600.0
"""The default time in seconds after which an upload that is not continued is removed."""

MEMORY: Final = 64 * MIB
"""The default number of bytes that all uploads of a store may buffer."""

_log = logging.getLogger("trove_async.uploads")

_PREFIX: Final = ".trove-uploads/"
_KEPT: Final = 1024
"""Uploads that a process remembers between two requests."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class TroveDataStore:
    """Resumable uploads in a store; it has every method that a `DataStore` can have.

    The bytes of an upload go to the backend's own upload in parts at the destination, and appear there when the upload
    is finished: nothing is copied. What is known of it is an object of its own. Each chunk is durable when its write
    returns. Where parts can grow (memory, local files, SFTP), a process that is killed loses nothing that it has read
    of a chunk; on other backends it loses a part and 1 MiB at most.

    One process at a time may write to an upload; a `Locker` sees to that. Where the store has conditional puts, a
    process that writes nevertheless is stopped with an `UploadLockedError`.

    Args:
        store: an open store.
        bucket: for uploads without a destination.
        state: ``BUCKET/PREFIX`` of the states and of partial uploads, which are visible there; None for
            ``.trove-uploads/`` in ``bucket``. A state is replaced with each chunk: a bucket that keeps versions keeps
            them all.
        part_size: bytes of a part on backends with parts of a fixed size; None for 8 MiB. Larger uploads have larger
            parts.
        memory: bytes that all buffers have together; an upload that needs more waits. No part is larger. Default:
            64 MiB.
        expires: seconds after which an upload that nobody continues is removed, and the state of a finished one; None
            to keep them. Default: 7 days.
        max_size: bytes of an upload; None without a limit.
        shared: whether other processes may write to the same uploads. False saves the request by which each
            description is compared with what is stored.
        now: the clock; it returns an aware time.

    Raises:
        InvalidArgumentError: an argument is invalid.
        UnsupportedError: the store has no uploads in parts.
    """

    def __init__(
        self,
        store: Trove,
        bucket: str,
        *,
        state: str | None = None,
        part_size: int | None = None,
        memory: int = MEMORY,
        expires: float | None = EXPIRES,
        max_size: int | None = None,
        shared: bool = True,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        if not isinstance(store, Trove):
            raise InvalidArgumentError(f"a TroveDataStore needs an open store, not {type(store).__name__}")
        if not store.supports(MultipartDriver):
            raise UnsupportedError("resumable uploads need a store with uploads in parts", driver=store.driver.name)
        check_bucket(bucket)
        state_bucket, prefix = (bucket, _PREFIX) if state is None else split_state(state)
        if state_bucket == bucket and "/" not in prefix:
            raise InvalidArgumentError(
                f"state is {state!r}, where uploads become objects: name a folder, such as '{bucket}/{_PREFIX}'"
            )
        limits = store.features.limits
        check_bytes("part_size", part_size)
        check_bytes("memory", memory, optional=False)
        check_bytes("max_size", max_size)
        check_seconds("expires", expires)
        check_function("now", "no argument", now)
        if memory < limits.min_part_size and not store.supports(AppendDriver):
            raise InvalidArgumentError(
                f"memory is at least {limits.min_part_size} bytes, a part of this backend; not {memory}"
            )
        self._context = Context(
            store=store,
            bucket=bucket,
            states=States(store, state_bucket, prefix, shared=shared),
            budget=MemoryBudget(memory),
            sizes=PartSizes(limits, part_size or 8 * MIB, memory, max_size),
            now=now,
            expires=None if expires is None else timedelta(seconds=expires),
            shared=shared,
        )
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._busy: set[str] = set()

    @property
    def budget(self) -> MemoryBudget:
        """The memory of all buffers."""
        return self._context.budget

    def watch_memory(self, on_shortage: Callable[[], object]) -> None:
        """Call a function every second in which an upload waits for memory; see `BufferingDataStore`."""
        self._context.budget.on_shortage.append(on_shortage)

    async def place(self) -> str:
        """Return a name of the place where the states are, the same in every process; see `LocatedDataStore`.

        Raises:
            BucketNotFoundError: the bucket of the states, or that of the uploads, does not exist.
            AccessDeniedError: the states may not be read or written.
        """
        context = self._context
        if context.bucket != context.states.bucket:
            with suppress(ObjectNotFoundError, AccessDeniedError):  # to write there may be all that is allowed
                await context.store.head(context.bucket, _PREFIX)
        return await context.states.place()

    async def new_upload(self, info: FileInfo) -> str:
        """Create an upload and return its id; see `DataStore.new_upload`.

        Raises:
            ConflictError: an upload of this id exists; it is unchanged.
            UnsupportedError: the store cannot honour a condition of the destination when the upload is finished, or
                needs to know the size of the upload.
            ContentTooLargeError: the upload is larger than ``max_size``.
            InvalidArgumentError: the id, a size or a digest is invalid, or the destination is among the states.
        """
        if info.id in self._busy:
            raise ConflictError(f"there is an upload {info.id!r} already")
        entry = await create(self._context, info)
        self._keep(entry)
        return entry.state.info.id

    async def write_chunk(self, upload_id: str, offset: int, src: AsyncIterator[bytes]) -> int:
        """Append a chunk; see `DataStore.write_chunk`."""
        return await self._write(upload_id, offset, src, None)

    async def write_verified_chunk(
        self, upload_id: str, offset: int, src: AsyncIterator[bytes], verify: Callable[[], object]
    ) -> int:
        """Append a chunk that counts only if ``verify()`` does not raise; see `VerifierDataStore`."""
        return await self._write(upload_id, offset, src, verify)

    async def _write(
        self, upload_id: str, offset: int, src: AsyncIterator[bytes], verify: Callable[[], object] | None
    ) -> int:
        async with self._using(upload_id) as entry:
            entry = await self._at(entry, offset)
            if entry.made is not None or not entry.state.backend_id:
                await take_nothing(self._context, entry, src, verify)
                return 0
            if entry.state.appends:
                written = await append(self._context, entry, src, verify)
                entry.settled = True
                return written
            return await PartWriter(self._context, entry).write(src, verify)

    async def get_info(self, upload_id: str) -> FileInfo:
        """Describe an upload; see `DataStore.get_info`.

        Raises:
            UploadNotFoundError: there is no such upload; an `UploadExpiredError` if it has expired.
        """
        info = await self._view(upload_id)
        self._check_expiry(info)
        return info

    async def get_reader(self, upload_id: str) -> Stream:
        """Return the bytes of a finished upload.

        Raises:
            UploadNotFoundError: there is no such upload.
            UnsupportedError: it is not finished.
            PreconditionFailedError: its object was replaced since.
        """
        info = await self.get_info(upload_id)
        if not info.is_finished:
            raise UnsupportedError("the upload is not finished, and cannot be read yet")
        bucket, key, _ = destination_of(self._context, info)
        store = self._context.store
        condition = info.etag if store.supports("get") else None
        return cast(Stream, await store.get(bucket, key, if_match=condition))

    async def serve_upload(self, upload_id: str, headers: Headers, overrides: Overrides) -> Answer:
        """Answer a GET of a finished upload; see `ContentDataStore.serve_upload`.

        The answer is 412 if its object was replaced since: that may be for others.
        """
        info = await self.get_info(upload_id)
        bucket, key, _ = destination_of(self._context, info)
        source = ObjectSource(self._context.store, ObjectRef(bucket, key))
        return await get_object(source, headers, overrides, etag=info.etag)

    async def terminate(self, upload_id: str) -> None:
        """Remove an upload and its bytes; an object that it has become stays.

        Raises:
            UploadNotFoundError: there is no such upload.
            UploadLockedError: it is being written to.
        """
        async with self._reserved(upload_id):
            self._forget(upload_id)
            stored = await self._context.states.describe(upload_id)
            work = remove(self._context, stored)
            await to_the_end(work, timeout=CLEANUP_TIMEOUT, leftover=f"the upload {upload_id}")

    async def declare_length(self, upload_id: str, size: int) -> None:
        """Set the size of an upload; see `LengthDeclarerDataStore`."""
        async with self._using(upload_id) as entry:
            entry = await self._expected(entry, lambda info: info.size is None)
            info = entry.state.info
            if info.size == size:
                return
            if info.size is not None or not is_whole(size) or size < info.offset:
                raise InvalidArgumentError(
                    f"the upload has {info.offset} of {info.size} bytes; its length cannot become {size}"
                )
            entry.state = entry.state.with_info(size=size)
            entry.unsaved = True

    async def record_answer(self, upload_id: str, answer: FinalAnswer) -> None:
        """Keep how a client was answered; durable when the upload is finished."""
        async with self._using(upload_id) as entry:
            entry.state = entry.state.with_info(answer=answer)
            entry.unsaved = True

    async def finish_upload(self, upload_id: str) -> FileInfo:
        """Make the object of a complete upload; see `FinisherDataStore`."""
        async with self._using(upload_id, compare=True) as entry:
            await self._discover(entry)
            info = entry.state.info
            if info.is_finished:
                return info
            if not info.is_complete:
                raise InvalidArgumentError(f"the upload has {info.offset} of {info.size} bytes and cannot be finished")
            await finish_upload(self._context, entry)
            return entry.state.info

    async def concat_uploads(self, upload_id: str, partial_ids: tuple[str, ...]) -> None:
        """Fill a final upload with the bytes of partial ones, and finish it; see `ConcaterDataStore`."""
        async with self._using(upload_id) as entry:
            if entry.state.info.is_finished:
                return
            partials = {each: await self._partial(each) for each in dict.fromkeys(partial_ids)}
            await join(self._context, entry, [partials[each] for each in partial_ids])
            await finish_upload(self._context, entry)

    async def _partial(self, upload_id: str) -> State:
        """Return the state of a partial upload, which is finished if it is complete."""
        info = await self.get_info(upload_id)
        if not info.is_partial:
            raise InvalidArgumentError(f"the upload {upload_id!r} is no partial upload")
        if not info.is_complete:
            raise InvalidArgumentError(f"the partial upload {upload_id!r} is not complete")
        if not info.is_finished:
            await self.finish_upload(upload_id)
        async with self._using(upload_id) as entry:
            return entry.state

    async def list_uploads(self) -> AsyncIterator[FileInfo]:
        """Yield all uploads, in the order of their ids; those that have expired too, until they are swept."""
        async for upload_id in self._context.states.ids():
            try:
                yield await self._view(upload_id)
            except UploadNotFoundError:
                continue

    async def sweep(
        self, now: datetime | None = None, *, orphans: timedelta | None = ORPHANS, dry_run: bool = False
    ) -> SweepReport:
        """Remove uploads that have expired, and what processes that were killed have left.

        A multipart upload in the buckets of uploads is left over if it is old and belongs to no upload of this store.
        **That holds for those of other programs too**: give ``orphans=None`` if other programs, or data stores with
        another ``state``, have multipart uploads in these buckets for so long.

        Args:
            now: the time that expiry is compared with; None for the clock.
            orphans: age from which leftovers are removed; None to keep them. Default: 7 days.
            dry_run: report what would be removed, and remove nothing.

        Raises:
            InvalidArgumentError: ``now`` is not aware, or ``orphans`` is negative.
        """
        return await sweep(self._context, now or self._context.now(), orphans, busy=self._busy, dry_run=dry_run)

    async def sweep_if_due(self, every: float, *, orphans: bool) -> float:
        """Sweep, unless a process that serves the same uploads began to less than ``every`` seconds ago.

        See `SweeperDataStore.sweep_if_due`.

        The time of the last sweep is an object beside the states. Where the store has no conditional puts, two
        processes may sweep at once, which does no harm.
        """
        left = await take_turn(self._context, timedelta(seconds=every))
        if left > timedelta(0):
            return left.total_seconds()
        await self.sweep(orphans=ORPHANS if orphans else None)
        return every

    # What this process knows

    async def _view(self, upload_id: str) -> FileInfo:
        """Return an upload as it is now, without changing anything."""
        check_can_exist(upload_id)
        entry = self._entries.get(upload_id)
        is_busy = upload_id in self._busy
        if entry is not None and entry.settled and (not entry.state.appends if is_busy else not self._context.shared):
            # Of a final upload nothing counts before it is finished.
            return entry.stored.state.info if entry.state.info.is_final else entry.info
        known = None if entry is None else entry.stored
        try:
            stored = await self._context.states.describe(upload_id, known)
        except UploadNotFoundError:
            self._forget_idle(upload_id)
            raise
        if entry is not None and entry.stored is not known:
            stored = entry.stored  # this process has written meanwhile
        is_known = entry is not None and stored is entry.stored
        if not is_known:
            self._forget_idle(upload_id)
        if entry is not None and is_known and entry.settled and not entry.state.appends:
            return entry.info
        state, made, lost = stored.state, None, None
        try:
            state, made = await self._extended(stored.state)
        except UploadNotFoundError as error:
            lost = error
        if state is not stored.state or lost is not None:
            # What was found counts by this state. Under a newer one, bytes may have come that are not verified, or the
            # upload may have become an object.
            newer = await self._context.states.describe(upload_id, stored)
            if newer is not stored:
                return newer.state.info
        if lost is not None:
            raise await self._missed(upload_id, lost) from lost
        if entry is not None and is_known:
            state = entry.with_unsaved(state)
        if made is not None and not is_staged(self._context, state):
            state = state.with_info(is_finished=True, etag=made.etag)
        return state.info

    async def _extended(self, state: State, *, taking_over: bool = False) -> tuple[State, ObjectInfo | None]:
        """Return a state with all that counts, also if a process has ended before it could write it.

        Returns:
            The state; and the object, if the backend's upload was completed without the state saying so.
        """
        try:
            return await self._context.extended(state, taking_over=taking_over), None
        except UploadNotFoundError as error:
            return await as_made(self._context, state, error)

    async def _missed(self, upload_id: str, error: UploadNotFoundError) -> TroveError:
        """Return what it means that the backend does not know an upload of its own.

        If nobody has completed it, and it is missed twice, it is gone: a rule of the bucket or somebody else has
        aborted it, and a client can only begin again.
        """
        if error.driver is None:
            return error
        state = (await self._context.states.describe(upload_id)).state
        if state.info.is_finished:
            return UploadLockedError("another process has finished the upload")
        if await find_made(self._context, state) is not None:
            return error
        try:
            await self._context.store.list_parts(state.bucket, state.key, state.backend_id)
        except UploadNotFoundError:
            _log.warning("the upload %s is lost: %s", upload_id, error)
            return UploadNotFoundError(f"the bytes of the upload {upload_id!r} are gone")
        return error

    def _check_expiry(self, info: FileInfo) -> None:
        if has_expired(info, self._context.now()):
            raise UploadExpiredError(f"the upload {info.id!r} has expired")

    async def _at(self, entry: Entry, offset: int) -> Entry:
        """Return the entry of an upload that is to be continued at an offset.

        Raises:
            UploadOffsetError: it has another one.
        """
        entry = await self._expected(entry, lambda info: info.offset == offset)
        info = entry.state.info
        if info.offset != offset or info.is_finished:
            raise UploadOffsetError(f"the upload continues at {info.offset}, not at {offset}", offset=info.offset)
        return entry

    async def _expected(self, entry: Entry, is_expected: Callable[[FileInfo], bool]) -> Entry:
        """Return an upload with all that counts; it is read again if what is remembered is not as the caller thinks."""
        if entry.settled and self._context.shared and not is_expected(entry.state.info):
            entry = await self._loaded(entry.state.info.id)
        await self._discover(entry)
        return entry

    async def _discover(self, entry: Entry) -> None:
        """Take in what another process, or an interrupted chunk, has stored."""
        if not entry.settled:
            state, entry.made = await self._extended(entry.stored.state, taking_over=True)
            entry.state = entry.with_unsaved(state)
            entry.settled = entry.made is not None

    async def _loaded(self, upload_id: str) -> Entry:
        self._forget(upload_id)
        entry = Entry(await self._context.states.describe(upload_id))
        self._keep(entry)
        return entry

    async def _current(self, upload_id: str, compare: bool) -> Entry:
        """Return what is known of an upload.

        Args:
            upload_id: which one.
            compare: whether it is compared with what is stored, also if nothing could count otherwise.
        """
        entry = self._entries.get(upload_id)
        if entry is None:
            return await self._loaded(upload_id)
        self._entries.move_to_end(upload_id)
        is_fenced = self._context.states.fences and not entry.state.appends and not compare
        if not self._context.shared or is_fenced:
            return entry  # nothing counts before the state is written, which fails if another process has continued it
        stored = await self._context.states.describe(upload_id, entry.stored)
        if stored is not entry.stored:
            return await self._loaded(upload_id)
        entry.settled = entry.settled and not entry.state.appends
        return entry

    @asynccontextmanager
    async def _using(self, upload_id: str, *, compare: bool = False) -> AsyncGenerator[Entry, None]:
        """Use an upload alone, in this process; ``compare`` as for `_current`."""
        async with self._reserved(upload_id):
            entry = await self._current(upload_id, compare)
            self._check_expiry(entry.state.info)
            try:
                yield entry
            except UploadNotFoundError as error:
                raise await self._missed(upload_id, error) from error

    @asynccontextmanager
    async def _reserved(self, upload_id: str) -> AsyncGenerator[None, None]:
        check_can_exist(upload_id)
        if upload_id in self._busy:
            raise UploadLockedError("another request of this process uses the upload")
        self._busy.add(upload_id)
        try:
            yield
        except BaseException:
            # It is not known what became of it: whoever needs it next looks.
            self._forget(upload_id)
            raise
        finally:
            self._busy.discard(upload_id)

    def _keep(self, entry: Entry) -> None:
        self._entries[entry.state.info.id] = entry
        while len(self._entries) > _KEPT:
            oldest = next((each for each in self._entries if each not in self._busy), None)
            if oldest is None:
                break
            self._forget(oldest)

    def _forget_idle(self, upload_id: str) -> None:
        if upload_id not in self._busy:
            self._forget(upload_id)

    def _forget(self, upload_id: str) -> None:
        entry = self._entries.pop(upload_id, None)
        if entry is not None:
            entry.free()
