"""What a store over SFTP does that every store does: its life, and the verbs for objects and buckets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from trove_async.body import Body
from trove_async.cancellation import CLEANUP_TIMEOUT, finish
from trove_async.driver import (
    BucketOptions,
    CopyOptions,
    DeleteOptions,
    Driver,
    Features,
    GetOptions,
    HeadOptions,
    Limits,
    ListOptions,
    OpenOptions,
    PartCopyDriver,
    PutOptions,
    ServerCopyDriver,
    capabilities_of,
    check_read,
    reading_source,
)
from trove_async.driver.retry import Budget, Retries, RetryPolicy, many_requests
from trove_async.drivers.sftp.connection import Connection
from trove_async.drivers.sftp.errors import DisconnectedError, translated
from trove_async.drivers.sftp.lease import ClientLease
from trove_async.drivers.sftp.leftovers import Leftovers
from trove_async.drivers.sftp.objects import refuse_conditions, refuse_version
from trove_async.drivers.sftp.opening import OpenStore, open_store
from trove_async.drivers.sftp.reading import Opened
from trove_async.drivers.sftp.remote_files import RemoteFiles
from trove_async.drivers.sftp.runner import Runner
from trove_async.drivers.sftp.settings import SFTPSettings
from trove_async.drivers.sftp.steps import Recovery
from trove_async.drivers.sftp.stream import RemoteStream
from trove_async.dsn import DSN
from trove_async.errors import (
    ClosedError,
    ObjectAlreadyExistsError,
    PreconditionFailedError,
    TroveError,
    UnsupportedError,
)
from trove_async.listing import ListPage
from trove_async.reader import ObjectReader
from trove_async.signing import PresignByHMAC
from trove_async.tree import Checkpoint, Temporary, write_body
from trove_async.tree.attributes import Attributes
from trove_async.types import EMPTY, BucketInfo, DeleteResult, ObjectInfo

__all__ = ["SFTPCore"]

R = TypeVar("R")

_DELETIONS: Final = 32
"""How many deletions of one call run at a time."""


class SFTPCore(PresignByHMAC, Driver):
    """The core verbs; `SFTPDriver` adds the capabilities."""

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._lease: ClientLease
        self._leftovers: Leftovers
        self._retries: Retries
        self._runner: Runner
        self._store: OpenStore
        self._swept = 0
        self._features = Features()
        self.cleanup_timeout = CLEANUP_TIMEOUT

    @property
    def name(self) -> str:
        """``sftp``."""
        return "sftp"

    @property
    def features(self) -> Features:
        """What this server has."""
        return self._features

    @property
    def connection(self) -> Connection:
        """The connection, with its counters."""
        if self._connection is None:
            raise ClosedError("the store is closed")
        return self._connection

    @property
    def closed(self) -> bool:
        """Whether the driver is closed, or was never opened."""
        return self._connection is None

    @property
    def held_handles(self) -> int:
        """How many handles are reserved for calls under way and open readers."""
        return self._store.slots.taken

    # Life

    @classmethod
    def check_dsn(cls, dsn: DSN, options: OpenOptions) -> None:
        """Read it."""
        SFTPSettings.of(dsn, options)

    async def open(self, dsn: DSN, options: OpenOptions) -> None:
        """Log in and open a root, which must be a writable directory."""
        settings = SFTPSettings.of(dsn, options)
        self.cleanup_timeout = options.cleanup_timeout
        connection = Connection(settings, cleanup_timeout=options.cleanup_timeout)
        retries = Retries(RetryPolicy(attempts=settings.attempts, budget=Budget(settings.retry_budget)))
        self._retries, recovery = retries, Recovery(retries, connection)
        files = RemoteFiles(connection, durable=settings.fsync, recovery=recovery)
        self._leftovers = Leftovers(files)
        self._runner = Runner(self._leftovers, recovery=recovery, cleanup_timeout=options.cleanup_timeout)
        self._lease = ClientLease(files, settings.lease)
        self._connection = connection
        try:
            self._store = await self._runner.run(
                lambda _: open_store(settings, connection, files, self._lease, self._leftovers)
            )
        except BaseException:
            await finish(self.close(), timeout=self.cleanup_timeout, leftover="a connection that does not close")
            raise
        self.url_signer = self._store.url_signer
        self._swept = self._store.swept
        self._features = self._find_features(settings)

    def _find_features(self, settings: SFTPSettings) -> Features:
        abilities = self._store.fs.abilities
        protocols = capabilities_of(self)
        if not abilities.copies:
            protocols -= {ServerCopyDriver, PartCopyDriver}  # the bytes of copies pass through this process
        features = Features(
            protocols=protocols,
            conditions=frozenset({"get", "put_if_none_match"} if abilities.links else {"get"}),
            native=frozenset({"range", "server_copy"} if abilities.copies else {"range"}),
            limits=Limits(min_part_size=settings.min_part_size),
        )
        return self.with_presign(features)

    def use_retry_policy(self, policy: RetryPolicy) -> bool:
        """Try the steps of operations again by this policy, and leave whole operations to the layer."""
        self._retries.use(policy)
        return True

    async def close(self) -> None:
        """Remove this client's temporaries and close the connection; open readers fail."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._runner.close()
        if hasattr(self, "_store"):  # otherwise the store could not be opened
            self._store.tree.listing.close()
        try:
            if self._lease.begun:
                leftover = f"the directory {self._lease.folder}"
                await finish(self._clean_up(connection), timeout=self.cleanup_timeout, leftover=leftover)
        finally:
            await connection.close()

    async def _clean_up(self, connection: Connection) -> None:
        if connection.current is not None:
            await self._runner.drain()  # what still runs may create another temporary
            await self._leftovers.remove()
        await self._lease.end()

    async def ping(self) -> None:
        """Write and remove a file, as every put does."""
        await self._run(lambda _: self._store.tree.prove_writable())

    async def _run(
        self,
        work: Callable[[Checkpoint], Awaitable[R]],
        *,
        slots: int = 2,
        repeat: bool = True,
        uncertain: bool = False,
        reads: bool = False,
        discard: Callable[[R], Awaitable[object]] | None = None,
    ) -> R:
        """Run an operation that needs some handles; see `Runner.run`."""
        self._check_open()
        taken = await self._store.slots.take(slots)
        try:
            return await self._runner.run(work, repeat=repeat, uncertain=uncertain, reads=reads, discard=discard)
        finally:
            self._store.slots.give(taken)

    def _check_open(self) -> None:
        if self._connection is None:
            raise ClosedError("the store is closed")

    # Objects

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        """Store an object."""
        refuse_conditions(options.if_match, options.if_none_match)
        buffer = body.buffer
        if buffer is None:
            return await self._store_stream(
                f"{bucket}/{key}",
                body,
                partial(self._begin_put, bucket, key, options),
                partial(self._commit, bucket, key, body, options),
            )
        await body.finish_buffer()
        attributes = _attributes(key, body, options)
        create_only = options.if_none_match is not None
        put = self._store.tree.objects.put
        return await self._run(
            lambda check: put(bucket, key, buffer, attributes, check, create_only=create_only),
        )

    def _commit(
        self, bucket: str, key: str, body: Body, options: PutOptions, temporary: Temporary, check: Checkpoint
    ) -> Coroutine[Any, Any, ObjectInfo]:
        attributes = _attributes(key, body, options)
        return self._store.tree.objects.commit(
            bucket, key, temporary, attributes, check, if_none_match=options.if_none_match
        )

    async def _begin_put(self, bucket: str, key: str, options: PutOptions) -> None:
        """Refuse what the commit would refuse, before the body is read."""
        found = await self._store.tree.objects.find(bucket, key)
        if found is not None and options.if_none_match is not None:
            raise ObjectAlreadyExistsError("the object already exists, and the write may only create it")

    async def _store_stream(
        self,
        name: str,
        body: Body,
        begin: Callable[[], Coroutine[Any, Any, object]],
        commit: Callable[[Temporary, Checkpoint], Coroutine[Any, Any, R]],
    ) -> R:
        """Write a body to a temporary and commit it; the temporary is removed in any case.

        Args:
            name: of what is written, for messages.
            body: is read once.
            begin: called before the body is read.
            commit: called with the temporary when it has all bytes.
        """
        self._check_open()
        fs, slots, run = self._store.fs, self._store.slots, self._runner.run

        async def start(check: Checkpoint) -> Temporary:
            await begin()
            return await fs.create_temporary()

        taken = await slots.take(2)
        try:
            with many_requests():
                temporary = await run(start, discard=fs.discard)
                try:
                    await write_body(
                        body, lambda chunks: run(lambda _: fs.write(temporary.handle, chunks), repeat=False)
                    )
                    return await run(lambda check: commit(temporary, check), repeat=False)
                finally:
                    await finish(
                        fs.discard(temporary),
                        timeout=self.cleanup_timeout,
                        leftover=f"the temporary file {temporary.path} of {name!r}",
                    )
        finally:
            slots.give(taken)

    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        """Open an object; a small one is read and closed in the same operation."""
        self._check_open()
        slots = self._store.slots
        taken = await slots.take(2)
        keep = 0
        try:
            opened = await self._runner.run(
                lambda _: self._store.reading.open(bucket, key, options), reads=True, discard=self._discard_opened
            )
            if opened.data is not None:
                return ObjectReader(opened.info, opened.data, start=opened.start, stop=opened.stop)
            keep = 1
        finally:
            slots.give(taken - min(keep, taken))
        stream = RemoteStream(
            self._store.fs,
            opened.handle,
            opened.start,
            opened.stop,
            reopen=partial(self._reopen, bucket, key, opened.info.etag),
            on_close=lambda: slots.give(1),
        )
        return ObjectReader(opened.info, stream, start=opened.start, stop=opened.stop, resumption=self._retries.of_step)

    async def _discard_opened(self, opened: Opened) -> None:
        if opened.data is None:
            await self._store.fs.close(opened.handle)

    async def _reopen(self, bucket: str, key: str, etag: str) -> int:
        store = self._store
        taken = await store.slots.take(1)
        try:
            with many_requests():
                opened = await self._runner.run(
                    lambda _: store.tree.objects.open(bucket, key), discard=lambda o: store.fs.close(o.handle)
                )
            if opened.info.etag != etag:
                await store.fs.close(opened.handle)
                raise PreconditionFailedError(f"the object's ETag is {opened.info.etag!r} now")
        except BaseException:
            store.slots.give(taken)
            raise
        return opened.handle

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        """Describe an object."""
        refuse_version(options.version_id)
        info, _ = await self._run(lambda _: self._store.tree.objects.head(bucket, key), slots=1, reads=True)
        check_read(info, options)
        return info

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Delete an object."""
        refuse_version(options.version_id)
        refuse_conditions(options.if_match, None)
        await self._run(partial(self._store.tree.objects.delete, bucket, key), slots=1)

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> Sequence[DeleteResult]:
        """Delete objects, several at a time, and then the directories that are empty."""
        return await self._run(partial(self._delete_all, bucket, keys), slots=1)

    async def _delete_all(self, bucket: str, keys: Sequence[str], check: Checkpoint) -> list[DeleteResult]:
        tree = self._store.tree
        await tree.buckets.require(bucket)
        directories: set[str] = set()
        turns = asyncio.Semaphore(_DELETIONS)

        async def delete(key: str) -> DeleteResult:
            async with turns:
                try:
                    directory = await tree.objects.remove(bucket, key, check)
                except DisconnectedError:
                    raise
                except TroveError as error:
                    return DeleteResult(key, error)
                except OSError as error:
                    failure = translated(error)
                    failure.__cause__ = error
                    return DeleteResult(key, failure)
                if directory is not None:
                    directories.add(directory)
                return DeleteResult(key, None)

        outcomes = await asyncio.gather(*map(delete, keys), return_exceptions=True)
        results: list[DeleteResult] = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            results.append(outcome)
        for directory in sorted(directories, reverse=True):
            await tree.objects.tidy(bucket, directory)
        return results

    async def copy(
        self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str, options: CopyOptions
    ) -> ObjectInfo:
        """Copy an object on the server; if it cannot copy, the bytes pass through this process."""
        refuse_version(options.source_version_id)
        refuse_conditions(options.if_match, options.if_none_match)
        if options.source_if_match is not None or options.if_none_match is not None:
            raise UnsupportedError("copies over SFTP have no conditions", driver=self.name)
        tree = self._store.tree

        async def copy(check: Checkpoint) -> ObjectInfo:
            with reading_source(src_bucket, src_key):
                source = await tree.objects.open(src_bucket, src_key)
            return await tree.copy(source, dst_bucket, dst_key, options, check)

        return await self._run(copy, slots=3)

    async def list_page(self, bucket: str, options: ListOptions) -> ListPage:
        """Return a page of a listing; reading a directory returns the sizes and times of its files."""
        # With a delimiter, directories below are searched for a first object, up to eight levels deep.
        slots = 1 if options.delimiter is None else 10
        listing = self._store.tree.listing
        try:
            return await self._run(lambda _: listing.page(bucket, options), slots=slots, reads=True)
        finally:
            listing.forget_in_time()

    # Buckets

    async def create_bucket(self, name: str, options: BucketOptions) -> None:
        """Create a directory."""
        await self._run(lambda _: self._store.tree.buckets.create(name), repeat=False, uncertain=True)

    async def delete_bucket(self, name: str) -> None:
        """Remove a directory that contains only empty directories."""
        await self._run(lambda _: self._store.tree.buckets.delete(name), repeat=False, uncertain=True)

    async def list_buckets(self) -> Sequence[BucketInfo]:
        """Return the directories of the root."""
        return await self._run(lambda _: self._store.tree.buckets.list(), reads=True)


def _attributes(key: str, body: Body, options: PutOptions) -> Attributes:
    return Attributes.of(key, options.attributes, body.checksums if body.checksum is not None else EMPTY)
