"""A complete driver in one file: objects in an SQLite database, ``sqlite:///srv/objects.db``.

It has the core methods, every condition, and reads of ranges; ``docs/drivers.md`` explains it. The harness at the
end runs the conformance suite on it::

    pytest --trove-driver=examples.custom_driver:harness

An object is a row of ``object``, its bytes are rows of ``piece``. A put stores its pieces under an id that no object
has yet, and one transaction at the end creates the object: that is the commit, and the id is the ETag.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar
from uuid import uuid4

import trove_async as trove
from trove_async.cancellation import CLEANUP_TIMEOUT, finish
from trove_async.driver import (
    Body,
    BucketOptions,
    ByteStream,
    CopyOptions,
    DeleteOptions,
    Driver,
    Features,
    GetOptions,
    HeadOptions,
    ListOptions,
    ListPage,
    ObjectAttributes,
    OpenOptions,
    PutOptions,
    RangeByGet,
    capabilities_of,
    check_read,
    check_write,
    reading_source,
    register,
)
from trove_async.dsn import SettingsParser
from trove_async.keys import successor
from trove_async.testing.conformance import Harness

R = TypeVar("R")

PIECE: Final = 256 * 1024
TABLES: Final = """
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL; -- after a power cut the last puts may be missing; the others are complete
    CREATE TABLE IF NOT EXISTS bucket (name TEXT PRIMARY KEY, created TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS piece (body TEXT, number INTEGER, data BLOB NOT NULL, PRIMARY KEY (body, number));
    CREATE TABLE IF NOT EXISTS object (
        bucket TEXT, key TEXT, body TEXT, size INTEGER, modified TEXT, described TEXT, PRIMARY KEY (bucket, key)
    );
"""
SELECT: Final = "SELECT key, body, size, modified, described FROM object WHERE bucket = ?"
ERRORS: Final[Mapping[int, type[trove.TroveError]]] = {
    sqlite3.SQLITE_BUSY: trove.UnavailableError,
    sqlite3.SQLITE_CANTOPEN: trove.RootNotFoundError,
    sqlite3.SQLITE_FULL: trove.StorageFullError,
    sqlite3.SQLITE_READONLY: trove.AccessDeniedError,
}


class SQLiteDriver(RangeByGet, Driver):
    """Keeps objects in an SQLite database, which several processes may share.

    One thread owns the connection and runs one job at a time, in order; methods named ``_do_…`` run in it.
    """

    name = "sqlite"

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._staged: set[str] = set()
        self._cleanup_timeout = CLEANUP_TIMEOUT
        self._db: sqlite3.Connection

    @property
    def features(self) -> Features:
        return Features(
            protocols=capabilities_of(self),
            conditions=frozenset({"put_if_none_match", "put_if_match", "get", "delete", "copy"}),
            native=frozenset({"range", "conditional_put", "conditional_get", "conditional_copy", "conditional_delete"}),
        )

    # Lifetime, and calls in the thread

    async def open(self, dsn: trove.DSN, options: OpenOptions) -> None:
        SettingsParser(dsn, options.settings).finish()  # there are no parameters; a given parameter is an error
        if dsn.host or dsn.user or not dsn.path:
            raise trove.InvalidDSNError("write three slashes and a path, such as sqlite:///srv/objects.db")
        self._cleanup_timeout = options.cleanup_timeout
        self._thread = ThreadPoolExecutor(1, "trove-sqlite")
        await self._run(self._do_open, dsn.path)

    def _do_open(self, path: str) -> None:
        # Without isolation_level Python does not begin transactions; `_transaction` does.
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
        self._db.executescript(TABLES)

    async def close(self) -> None:
        if self._thread is not None:
            thread, self._thread = self._thread, None
            closing = thread.submit(self._do_close)  # after all jobs under way
            thread.shutdown(wait=False)
            await finish(_settled(closing), timeout=self._cleanup_timeout, leftover="the SQLite connection")

    def _do_close(self) -> None:
        for body in [*self._staged]:
            self._do_drop(body)
        self._db.close()

    async def ping(self) -> None:
        await self._run(self._do_list_buckets)

    async def _run(self, function: Callable[..., R], *args: Any) -> R:
        if self._thread is None:
            raise trove.ClosedError("the store is closed")
        job = self._thread.submit(function, *args)
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            # A job that has not started never will. A running one may be committing, so wait for it.
            if not job.cancel():
                await finish(_settled(job), timeout=self._cleanup_timeout, leftover="an SQLite transaction")
            raise
        except sqlite3.Error as error:
            primary_code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            raise ERRORS.get(primary_code, trove.BackendError)(str(error)) from error

    @contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
        self._db.execute(begin)  # an immediate transaction locks out other writers until it ends
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # Writing

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> trove.ObjectInfo:
        _refuse_tags(options.attributes)
        # Check the conditions before the body is read, to fail early; only the check in the commit decides.
        await self._run(self._do_check, bucket, key, options.if_match, options.if_none_match)
        staged = uuid4().hex
        self._staged.add(staged)
        try:
            await self._stage(staged, body)
            described = _described(options.attributes, body.checksums)
            return await self._run(self._do_publish, bucket, key, staged, body.taken, described, options)
        except BaseException:
            if self._thread is not None:  # else `close` drops the pieces
                dropping = self._run(self._do_drop, staged)
                await finish(dropping, timeout=self._cleanup_timeout, leftover=f"the pieces {staged!r}")
            raise

    async def _stage(self, staged: str, body: Body) -> None:
        number = 0
        async with aclosing(_pieces(body)) as pieces:
            async for piece in pieces:
                await self._run(self._do_store, staged, number, piece)
                number += 1

    def _do_store(self, body: str, number: int, piece: bytes) -> None:
        self._db.execute("INSERT INTO piece VALUES (?, ?, ?)", (body, number, piece))

    def _do_drop(self, body: str) -> None:
        self._staged.discard(body)
        unless = "NOT EXISTS (SELECT 1 FROM object WHERE body = ?1)"  # the commit may have been made after all
        self._db.execute(f"DELETE FROM piece WHERE body = ?1 AND {unless}", (body,))

    def _do_publish(
        self, bucket: str, key: str, body: str, size: int, described: str, options: PutOptions
    ) -> trove.ObjectInfo:
        with self._transaction():
            info = self._do_replace(bucket, key, body, size, described, options)
        self._staged.discard(body)
        return info

    def _do_replace(
        self, bucket: str, key: str, body: str, size: int, described: str, options: PutOptions | CopyOptions
    ) -> trove.ObjectInfo:
        self._do_check(bucket, key, options.if_match, options.if_none_match)
        self._do_remove(bucket, key)
        row = (key, body, size, datetime.now(UTC).isoformat(), described)
        self._db.execute("INSERT INTO object VALUES (?, ?, ?, ?, ?, ?)", (bucket, *row))
        return _info(row)

    def _do_check(self, bucket: str, key: str, if_match: str | None, if_none_match: str | None) -> None:
        self._do_require(bucket)
        current = self._do_find(bucket, key)
        check_write(None if current is None else current.etag, if_match, if_none_match)

    def _do_remove(self, bucket: str, key: str) -> None:
        delete = "DELETE FROM object WHERE bucket = ? AND key = ? RETURNING body"
        self._db.executemany("DELETE FROM piece WHERE body = ?", self._db.execute(delete, (bucket, key)).fetchall())

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        await self._run(self._do_delete, bucket, key, options.if_match)

    def _do_delete(self, bucket: str, key: str, if_match: str | None) -> None:
        with self._transaction():
            self._do_check(bucket, key, if_match, None)
            self._do_remove(bucket, key)

    async def copy(
        self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str, options: CopyOptions
    ) -> trove.ObjectInfo:
        _refuse_tags(options.replace)
        return await self._run(self._do_copy, src_bucket, src_key, dst_bucket, dst_key, options)

    def _do_copy(
        self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str, options: CopyOptions
    ) -> trove.ObjectInfo:
        with self._transaction() as db:
            with reading_source(src_bucket, src_key):
                source = self._do_head(src_bucket, src_key)
                check_read(source, HeadOptions(if_match=options.source_if_match))
            attributes = options.replace or ObjectAttributes.of(source)
            described = _described(attributes, {} if options.replace else source.checksums)
            body = uuid4().hex
            db.execute("INSERT INTO piece SELECT ?, number, data FROM piece WHERE body = ?", (body, source.etag))
            return self._do_replace(dst_bucket, dst_key, body, source.size, described, options)

    # Reading

    async def head(self, bucket: str, key: str, options: HeadOptions) -> trove.ObjectInfo:
        info = await self._run(self._do_head, bucket, key)
        check_read(info, options)
        return info

    def _do_head(self, bucket: str, key: str) -> trove.ObjectInfo:
        found = self._do_find(bucket, key)
        if found is None:
            self._do_require(bucket)
            raise trove.ObjectNotFoundError(bucket=bucket, key=key)
        return found

    def _do_find(self, bucket: str, key: str) -> trove.ObjectInfo | None:
        row = self._db.execute(f"{SELECT} AND key = ?", (bucket, key)).fetchone()
        return None if row is None else _info(row)

    async def get(self, bucket: str, key: str, options: GetOptions) -> trove.ObjectReader:
        info, start, stop, data = await self._run(self._do_get, bucket, key, options)
        source = data if stop - start <= PIECE else PieceStream(partial(self._run, self._do_read, info.etag), start)
        return trove.ObjectReader(info, source, start=start, stop=stop)

    def _do_get(self, bucket: str, key: str, options: GetOptions) -> tuple[trove.ObjectInfo, int, int, bytes]:
        """Describe an object; read a small range in the same transaction, so that other writers cannot interfere."""
        with self._transaction("BEGIN"):
            info = self._do_head(bucket, key)
            check_read(info, options)
            start, stop = (0, info.size) if options.range is None else options.range.resolve(info.size)
            data = bytearray()
            while stop - start <= PIECE and len(data) < stop - start:
                data += self._do_read(info.etag, start + len(data))
            return info, start, stop, bytes(data[: stop - start])

    def _do_read(self, body: str, position: int) -> bytes:
        number, offset = divmod(position, PIECE)
        row = self._db.execute("SELECT data FROM piece WHERE body = ? AND number = ?", (body, number)).fetchone()
        if row is None:
            raise trove.PreconditionFailedError("the object was replaced or deleted")
        data: bytes = row[0]
        return data[offset:]

    async def list_page(self, bucket: str, options: ListOptions) -> ListPage:
        return await self._run(self._do_list, bucket, options)

    def _do_list(self, bucket: str, options: ListOptions) -> ListPage:
        """Go from key to key, and skip each group in one step. The cursor is the start of the next page."""
        self._do_require(bucket)
        objects: list[trove.ObjectInfo] = []
        prefixes: list[trove.Prefix] = []
        after = "" if options.start_after is None else _behind(options.start_after)
        at: str | None = options.cursor or max(options.prefix, after)
        while at is not None:
            row = self._db.execute(f"{SELECT} AND key >= ? ORDER BY key LIMIT 1", (bucket, at)).fetchone()
            if row is None or not row[0].startswith(options.prefix):
                break
            if len(objects) + len(prefixes) == options.page_size:
                return ListPage(objects, prefixes, cursor=at)
            head, delimiter, _ = row[0][len(options.prefix) :].partition(options.delimiter or "\0")
            if delimiter:
                prefixes.append(trove.Prefix(options.prefix + head + delimiter))
                at = successor(prefixes[-1].prefix)
            else:
                objects.append(_info(row))
                at = _behind(row[0])
        return ListPage(objects, prefixes)

    # Buckets

    def _do_require(self, bucket: str) -> None:
        if self._db.execute("SELECT 1 FROM bucket WHERE name = ?", (bucket,)).fetchone() is None:
            raise trove.BucketNotFoundError(bucket=bucket)

    async def create_bucket(self, name: str, options: BucketOptions) -> None:
        await self._run(self._do_create_bucket, name)

    def _do_create_bucket(self, name: str) -> None:
        try:
            self._db.execute("INSERT INTO bucket VALUES (?, ?)", (name, datetime.now(UTC).isoformat()))
        except sqlite3.IntegrityError:
            raise trove.BucketAlreadyExistsError(bucket=name) from None

    async def delete_bucket(self, name: str) -> None:
        await self._run(self._do_delete_bucket, name)

    def _do_delete_bucket(self, name: str) -> None:
        with self._transaction() as db:
            self._do_require(name)
            if db.execute("SELECT 1 FROM object WHERE bucket = ? LIMIT 1", (name,)).fetchone():
                raise trove.BucketNotEmptyError(bucket=name)
            db.execute("DELETE FROM bucket WHERE name = ?", (name,))

    async def list_buckets(self) -> Sequence[trove.BucketInfo]:
        return await self._run(self._do_list_buckets)

    def _do_list_buckets(self) -> list[trove.BucketInfo]:
        rows = self._db.execute("SELECT name, created FROM bucket ORDER BY name")
        return [trove.BucketInfo(name, datetime.fromisoformat(created)) for name, created in rows]


class PieceStream(ByteStream):
    """The bytes of one body. It has no resources to release."""

    def __init__(self, read_from: Callable[[int], Awaitable[bytes]], position: int) -> None:
        self._read_from = read_from
        self._position = position

    async def read(self, size: int) -> bytes:
        data = (await self._read_from(self._position))[:size]
        self._position += len(data)
        return data

    async def seek(self, offset: int) -> None:
        self._position = offset

    def abort(self) -> None:
        pass


async def _pieces(body: Body) -> AsyncGenerator[bytes, None]:
    """Yield a body in pieces of one size, so that a position determines its piece; only the last may be shorter."""
    piece = bytearray()
    async for chunk in body:
        rest = memoryview(chunk)
        while rest:
            taken = rest[: PIECE - len(piece)]
            piece += taken
            rest = rest[len(taken) :]
            if len(piece) == PIECE:
                yield bytes(piece)
                piece.clear()
    if piece:
        yield bytes(piece)


async def _settled(job: Future[Any]) -> None:
    with suppress(Exception):  # its result is no longer needed
        await asyncio.wrap_future(job)


def _refuse_tags(attributes: ObjectAttributes | None) -> None:
    if attributes is not None and attributes.tags:
        raise trove.UnsupportedError("this driver stores no tags, and does not drop them silently")


def _described(attributes: ObjectAttributes, checksums: Mapping[str, str]) -> str:
    return json.dumps([asdict(attributes), checksums])


def _info(row: tuple[Any, ...]) -> trove.ObjectInfo:
    key, body, size, modified, text = row
    attributes, checksums = json.loads(text)
    return ObjectAttributes(**attributes).info(key, size, body, datetime.fromisoformat(modified), checksums=checksums)


def _behind(key: str) -> str:
    """Return the smallest key that sorts after a key: keys have no NUL, so append U+0001."""
    return key + "\x01"


register("sqlite", SQLiteDriver)


class SQLiteHarness(Harness):
    """The properties that the conformance suite needs."""

    name = "sqlite"
    bulk_objects = 2_000  # each put is a transaction
    storage_class = "ARCHIVE"  # any word will do
    # A package would name its driver in the entry-point group "trove_async.drivers". A file cannot,
    # so another process, which is given only the DSN, finds no driver for it.
    outlives_process = False

    async def start(self) -> None:
        self._folder = tempfile.TemporaryDirectory()

    async def stop(self) -> None:
        self._folder.cleanup()

    async def driver(self) -> Driver:
        driver = SQLiteDriver()
        await driver.open(trove.parse_dsn(self.dsn()), OpenOptions())
        return driver

    def dsn(self) -> str:
        return f"sqlite://{self._folder.name}/objects.db"

    def dead_dsns(self) -> Sequence[str]:
        return [f"sqlite://{self._folder.name}/missing/objects.db"]

    async def residue(self) -> Sequence[str]:
        db = sqlite3.connect(f"{self._folder.name}/objects.db")
        left = db.execute("SELECT DISTINCT body FROM piece WHERE body NOT IN (SELECT body FROM object)").fetchall()
        db.close()
        return [f"the pieces {body!r}" for (body,) in left]


harness = SQLiteHarness()
