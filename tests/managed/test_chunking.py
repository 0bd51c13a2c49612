"""`Chunking`: bodies that are cut into chunks, each of which is stored once."""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, Row, event, select, text

import trove_async
from tests.managed.dedup_harness import faults
from tests.managed.test_dedup import Counting, states
from trove_async import InvalidArgumentError, MissingDependencyError, ObjectRef, TransientError, Trove
from trove_async.body import Body
from trove_async.database import Database, connect
from trove_async.errors import BodySizeError, ChecksumError, ConfigError, NotFoundError, PreconditionFailedError
from trove_async.managed import Chunking, Dedup, ResourceCatalog, StoreResourceStorage, collect, fsck
from trove_async.managed.dedup import chunking
from trove_async.managed.dedup.chunking import Cutter
from trove_async.managed.dedup.schema import BUCKETS, OBJECTS, SEGMENTS
from trove_async.managed.dedup.segments import pieces_of
from trove_async.managed.schema import State
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere

pytestmark = pytest.mark.asyncio

AVERAGE = 4096
WINDOW = 8 * AVERAGE
FILE = random.Random(1).randbytes(40 * AVERAGE)
EDITED = FILE[:10_000] + b"inserted" + FILE[10_000:]
OTHER = random.Random(2).randbytes(10 * AVERAGE)


@pytest.fixture(autouse=True)
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut as few bytes at a time as the sizes of chunks allow."""
    monkeypatch.setattr(chunking, "_WINDOW", WINDOW)


def layer(url: str, space: str, *, keyed: bool = True) -> Dedup:
    return Dedup(url, bucket="blobs", space=space, chunking=Chunking(AVERAGE, keyed=keyed))


@pytest_asyncio.fixture
async def store(url: str, space: str) -> AsyncIterator[Trove]:
    async with trove_async.open(f"memory://{space}", layers=[Counting, layer(url, space)]) as opened:
        await opened.create_bucket("b")
        yield opened


@pytest.fixture
def inner(store: Trove) -> Counting:
    found = trove_async.unwrap(store.driver, Counting)
    found.clear()
    return found


async def stream(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


@pytest.mark.parametrize("kind", [bytes, stream])
async def test_two_versions_of_a_file_share_what_is_the_same(
    store: Trove, inner: Counting, kind: Callable[[bytes], trove_async.BodyLike]
) -> None:
    await store.put("b", "one", kind(FILE))
    assert inner.sent == len(FILE)
    inner.clear()
    await store.put("b", "two", kind(EDITED))
    assert 0 < inner.sent <= 8 * AVERAGE  # two chunks at most
    inner.clear()
    await store.put("b", "three", kind(FILE))
    assert inner.sent == 0
    assert [await store.read("b", key) for key in ("one", "two", "three")] == [FILE, EDITED, FILE]
    assert await store.read("b", "two", range=(9_990, 30)) == EDITED[9_990:10_020]
    assert await store.read("b", "two", range=(len(EDITED) - 5, 5)) == EDITED[-5:]


async def test_a_body_that_is_one_chunk_and_an_empty_one(store: Trove, inner: Counting) -> None:
    await store.put("b", "small", b"small")
    info = await store.put("b", "empty", b"", checksum="sha256")
    assert info.checksums == {"sha256": hashlib.sha256(b"").hexdigest()}
    assert await store.read("b", "small") == b"small"
    assert await store.read("b", "empty") == b""
    assert inner.sent == 5


async def test_a_chunk_that_a_body_has_several_times_is_sent_once(store: Trove, inner: Counting) -> None:
    data = bytes(64 * AVERAGE)
    await store.put("b", "zeros", data)
    assert inner.sent <= 8 * AVERAGE  # it, and what is left at the end
    assert inner.calls["put"] <= 2
    assert await store.read("b", "zeros") == data


async def test_each_store_cuts_at_places_of_its_own_and_always_at_the_same(tmp_path: Path) -> None:
    async def cut(file: str, space: str, keyed: bool = True) -> set[int]:
        """Return the sizes of the chunks of a file in a new store."""
        inner = f"memory://{uuid4()}"
        dedup = layer(f"sqlite:///{tmp_path}/{file}.db", space, keyed=keyed)
        async with trove_async.open(inner, layers=[dedup]) as store, trove_async.open(inner) as bytes_of:
            name = uuid4().hex
            await store.create_bucket(name)
            await store.put(name, "file", uuid4().bytes + FILE)  # no chunk at its start is known
            return {info.size async for info in bytes_of.list("blobs")}

    mine = await cut("one", "mine")
    again = await cut("one", "mine")
    assert len(again - mine) <= 1
    assert len(await cut("one", "yours") - mine) > 10
    assert len(await cut("two", "mine") - mine) > 10
    assert len(await cut("one", "open", keyed=False) - await cut("two", "open", keyed=False)) <= 1


@given(
    data=st.binary(max_size=6 * WINDOW), cuts=st.lists(st.integers(1, 2 * WINDOW), max_size=20), seed=st.integers(0, 9)
)
@settings(deadline=None, max_examples=40)
async def test_where_a_body_is_cut_does_not_depend_on_how_it_comes(data: bytes, cuts: list[int], seed: int) -> None:
    data += random.Random(seed).randbytes(5 * WINDOW)

    def pieces() -> Iterator[bytes]:
        at = 0
        for size in cuts:
            if piece := data[at : at + size]:
                yield piece
            at += size
        yield data[at:]

    cutter = Cutter(Chunking(AVERAGE), 7, "sha256")
    whole = [chunk async for found in cutter.cut(Body(data)) for chunk in found]
    assert [chunk async for found in cutter.cut(Body(pieces())) for chunk in found] == whole
    assert b"".join(piece for _, piece in whole) == data
    assert all(digest == hashlib.sha256(piece).hexdigest() for digest, piece in whole)
    assert all(AVERAGE // 4 <= len(piece) <= 4 * AVERAGE for _, piece in whole[:-1])


async def check(store: Trove, db: Database, space: str) -> None:
    """Check the counts, and that there are exactly the bytes that the catalogue knows."""
    async with trove_async.open(f"memory://{space}") as bytes_of:
        keys = {info.key async for info in bytes_of.list("blobs")}
    assert await db.read(lambda connection: faults(connection, space, keys)) == []


async def test_the_chunks_of_an_object_go_with_it(store: Trove, db: Database, space: str) -> None:
    await store.put("b", "file", FILE)
    await store.copy("b", "file", "b", "copy")
    await store.put("b", "file", EDITED)
    assert (await states(db, space))[State.CONDEMNED] == 0
    await store.delete("b", "copy")
    gone = (await states(db, space))[State.CONDEMNED]
    assert 1 <= gone <= 2
    catalogue = ResourceCatalog(db, space)
    async with trove_async.open(f"memory://{space}") as bytes_of:
        storage = StoreResourceStorage(bytes_of, "blobs")
        report = await collect(catalogue, storage, grace=0, dry_run=False, force=True)
        assert report.deleted == gone
        assert (await fsck(catalogue, storage, depth="bytes")).clean
    assert await store.read("b", "file") == EDITED
    await check(store, db, space)


async def test_parts_of_an_upload_are_cut_and_can_be_copied(
    store: Trove, inner: Counting, db: Database, space: str
) -> None:
    await store.put("b", "file", FILE)
    inner.clear()
    upload = await store.initiate_multipart("b", "joined")
    parts = [await store.upload_part("b", "joined", upload, 1, EDITED)]
    copied = await store.copy_part("b", "joined", upload, 2, ObjectRef("b", "file"), 5_000, 60_000)
    await store.complete_multipart("b", "joined", upload, [*parts, copied])
    assert inner.sent <= 8 * AVERAGE
    assert await store.read("b", "joined") == EDITED + FILE[5_000:65_000]
    await check(store, db, space)


async def segments_of(db: Database, key: str, space: str) -> list[Row[Any]]:
    """Return the rows of the segments of an object, in their order."""
    owner = select(OBJECTS.c.id).join(BUCKETS, BUCKETS.c.id == OBJECTS.c.bucket)
    owner = owner.where(BUCKETS.c.space == space, OBJECTS.c.key == key)
    wanted = select(SEGMENTS).where(SEGMENTS.c.owner.in_(owner)).order_by(SEGMENTS.c.number)
    return [*await db.read(lambda connection: connection.execute(wanted).all())]


async def test_a_range_reads_the_rows_of_the_chunks_that_it_touches(store: Trove, db: Database, space: str) -> None:
    await store.put("b", "other", OTHER)
    await store.put("b", "file", FILE)
    rows = await segments_of(db, "file", space)
    edges = [row.position for row in rows]
    for start, stop in [
        (0, 1),
        (edges[5], edges[6]),
        (edges[5] - 1, edges[6] + 1),
        (edges[-1], len(FILE)),
        (7, 90_000),
    ]:
        found = await db.read(partial(pieces_of, owner=rows[0].owner, start=start, stop=stop))
        touched = [row.blob for row in rows if row.position < stop and row.position + row.size > start]
        assert [piece.segment.blob for piece in found] == touched
        assert sum(piece.segment.size for piece in found) == stop - start
        assert await store.read("b", "file", range=(start, stop - start)) == FILE[start:stop]


@contextmanager
def parameters() -> Iterator[list[str]]:
    """Collect the statements that all databases run, once for each row of parameters."""
    found: list[str] = []

    def note(_: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        found.extend([statement] * (len(values) if many else 1))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def test_a_copy_takes_as_many_statements_for_a_large_object_as_for_a_small_one(
    store: Trove, db: Database, space: str
) -> None:
    await store.put("b", "small", OTHER)
    await store.put("b", "large", FILE)
    await store.put("b", "repeated", FILE + FILE)
    counts: dict[str, list[int]] = {}
    for key, data in [("small", OTHER), ("large", FILE), ("repeated", FILE + FILE)]:
        counts[key] = []
        await store.put("b", "old", FILE)
        for target in (f"{key} copy", "old", key):
            with parameters() as statements:
                await store.copy("b", key, "b", target)
            counts[key].append(len(statements))
            assert await store.read("b", target) == data
            await check(store, db, space)
    assert counts["small"] == counts["large"]


async def test_a_deletion_takes_as_many_statements_for_a_large_object_as_for_a_small_one(
    store: Trove, db: Database, space: str
) -> None:
    for key, data in [("small", OTHER), ("large", FILE)]:
        await store.put("b", key, data)
        await store.put("b", f"{key} twice", data)
    counts = []
    for key in ("small", "large", "small twice", "large twice"):
        with parameters() as statements:
            await store.delete("b", key)
        counts.append(len(statements))
    assert len({*counts}) == 1
    assert {*await states(db, space)} == {State.CONDEMNED}
    await check(store, db, space)


async def test_a_range_is_found_by_an_index(sqlite_url: str) -> None:
    """Otherwise SQLite would read all segments of the object."""
    plans: list[str] = []
    async with trove_async.open("memory://", layers=[layer(sqlite_url, "s")]), connect(sqlite_url) as db:

        def unit(connection: Connection) -> None:
            raw: Any = connection.connection.dbapi_connection

            @event.listens_for(connection, "before_cursor_execute")
            def explain(_: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
                plans.extend(row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

            pieces_of(connection, "owner", 5, 10)

        await db.read(unit)
    assert any("(owner=? AND position>? AND position<?)" in plan for plan in plans)
    assert [plan for plan in plans if "SCAN" in plan or "TEMP B-TREE" in plan] == []


async def test_segments_that_are_older_than_their_positions_get_them(
    store: Trove, url: str, db: Database, space: str
) -> None:
    await store.put("b", "file", FILE)
    await store.put("b", "other", OTHER)
    rows = await segments_of(db, "file", space)

    def undo(connection: Connection) -> None:
        connection.execute(text("DROP INDEX trove_dedup_segments_position"))
        connection.execute(text("ALTER TABLE trove_dedup_segments DROP COLUMN position"))
        connection.execute(text("UPDATE trove_dedup_version SET version_num = '0002'"))

    await db.write(undo)
    async with trove_async.open(f"memory://{space}", layers=[layer(url, space)]) as opened:
        assert await segments_of(db, "file", space) == rows
        assert await opened.read("b", "other", range=(20_000, 9_000)) == OTHER[20_000:29_000]


async def test_conditions_are_checked_before_the_body_is_read_and_with_the_change(
    store: Trove, inner: Counting, db: Database, space: str
) -> None:
    await store.put("b", "file", b"old")
    pulled: list[int] = []

    async def counted() -> AsyncIterator[bytes]:
        pulled.append(1)
        yield FILE

    with pytest.raises(PreconditionFailedError):
        await store.put("b", "file", counted(), if_none_match="*")
    assert not pulled

    async def late() -> AsyncIterator[bytes]:
        yield FILE
        await store.put("b", "new", b"first")

    with pytest.raises(PreconditionFailedError):
        await store.put("b", "new", late(), if_none_match="*")
    assert await store.read("b", "new") == b"first"
    await check(store, db, space)


async def broken() -> AsyncIterator[bytes]:
    yield FILE
    raise RuntimeError("broken")


@pytest.mark.parametrize(
    ("data", "options", "error"),
    [
        (broken, {}, RuntimeError),
        (lambda: stream(FILE), {"size": len(FILE) + 1}, BodySizeError),
        (lambda: stream(FILE), {"checksum": f"sha256:{'0' * 64}"}, ChecksumError),
        (lambda: FILE, {"checksum": f"sha256:{'0' * 64}"}, ChecksumError),
    ],
)
async def test_a_body_that_fails_leaves_no_chunks(
    store: Trove,
    db: Database,
    space: str,
    data: Callable[[], object],
    options: dict[str, object],
    error: type[Exception],
) -> None:
    await store.put("b", "file", b"old")
    with pytest.raises(error):
        await store.put("b", "file", data(), **options)  # type: ignore[arg-type]
    assert await store.read("b", "file") == b"old"
    assert await states(db, space) == {State.STORED: 1}
    await check(store, db, space)


async def test_chunks_that_are_condemned_while_a_body_is_read_are_taken_back(
    store: Trove, inner: Counting, db: Database, space: str
) -> None:
    await store.put("b", "old", FILE)
    inner.clear()

    async def slow() -> AsyncIterator[bytes]:
        yield FILE
        await store.delete("b", "old")

    await store.put("b", "new", slow())
    assert inner.sent <= WINDOW  # the last bytes, which were not cut before
    assert await store.read("b", "new") == FILE
    assert (await states(db, space))[State.STORED] > 20
    await sweep(store, db, space)
    assert await store.read("b", "new") == FILE
    await check(store, db, space)


async def sweep(store: Trove, db: Database, space: str) -> None:
    async with trove_async.open(f"memory://{space}") as bytes_of:
        storage = StoreResourceStorage(bytes_of, "blobs")
        await collect(ResourceCatalog(db, space), storage, grace=0, dry_run=False, force=True)


async def test_a_stream_fails_if_chunks_were_collected_while_it_was_read(
    store: Trove, inner: Counting, db: Database, space: str, tmp_path: Path
) -> None:
    await store.put("b", "old", FILE)

    async def stream_once() -> AsyncIterator[bytes]:
        yield FILE
        await store.delete("b", "old")
        await sweep(store, db, space)

    with pytest.raises(TransientError, match="deleted while it was read"):
        await store.put("b", "new", stream_once())
    with pytest.raises(NotFoundError):
        await store.head("b", "new")
    await check(store, db, space)


async def test_a_file_is_read_again_if_chunks_were_collected(
    store: Trove, inner: Counting, db: Database, space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put("b", "old", FILE)
    (tmp_path / "file").write_bytes(FILE)
    cut, runs = Cutter.cut, 0

    async def cut_and_sweep(self: Cutter, body: Body) -> AsyncIterator[list[tuple[str, bytes]]]:
        nonlocal runs
        runs += 1
        async for chunks in cut(self, body):
            yield chunks
        if runs == 1:
            await store.delete("b", "old")
            await sweep(store, db, space)

    monkeypatch.setattr(Cutter, "cut", cut_and_sweep)
    inner.clear()
    await store.put("b", "new", tmp_path / "file")
    assert runs == 2
    assert await store.read("b", "new") == FILE
    await check(store, db, space)


async def test_a_chunk_whose_bytes_are_missing_is_sent_again(
    store: Trove, inner: Counting, db: Database, space: str
) -> None:
    await store.put("b", "file", FILE)
    async with trove_async.open(f"memory://{space}") as bytes_of:
        lost = [info async for info in bytes_of.list("blobs")][3]
        await bytes_of.delete("blobs", lost.key)
    inner.clear()
    await store.put("b", "again", FILE)
    assert inner.sent == lost.size
    assert await store.read("b", "file") == await store.read("b", "again") == FILE
    await check(store, db, space)


@pytest.mark.parametrize("delivery", Delivery)
async def test_cancelled_everywhere(sqlite_url: str, space: str, delivery: Delivery, await_point_step: int) -> None:
    async with (
        trove_async.open(f"memory://{space}", layers=[Counting, layer(sqlite_url, space)]) as store,
        connect(sqlite_url) as db,
    ):
        await store.create_bucket("b")
        await store.put("b", "shared", FILE)
        new = EDITED[:20_000] + OTHER

        async def prepare() -> None:
            await store.put("b", "file", b"old")
            await sweep(store, db, space)

        async def verify(outcome: Outcome[object]) -> None:
            assert outcome.error is None
            assert outcome.left_running == frozenset()
            assert await store.read("b", "file") in (b"old", new)
            await check(store, db, space)

        points = await cancel_everywhere(
            lambda: store.put("b", "file", stream(new)), delivery, prepare=prepare, check=verify, step=await_point_step
        )
        assert points >= 5


async def test_many_tasks_that_put_the_same_leave_each_chunk_once(store: Trove, db: Database, space: str) -> None:
    await asyncio.gather(*(store.put("b", str(number), stream(FILE, 7_000)) for number in range(20)))
    assert set(await states(db, space)) <= {State.STORED}
    assert [await store.read("b", str(number)) for number in range(20)] == [FILE] * 20
    await check(store, db, space)


@pytest.mark.parametrize("average", [0, -1, 1000, 2048, 8 * 1024 * 1024, 4096.0, "1M", None, True])
async def test_sizes_that_are_none(average: object) -> None:
    with pytest.raises(InvalidArgumentError, match="a power of two from 4096 to 4194304"):
        Chunking(average)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="keyed is True or False"):
        Chunking(keyed="yes")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="chunking is a Chunking"):
        Dedup("sqlite:///x.db", chunking=AVERAGE)  # type: ignore[arg-type]


async def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyfastcdc", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'trove-async\[chunking\]'"):
        Chunking()


async def test_it_can_be_configured(tmp_path: Path) -> None:
    text = f"""
[stores.files]
dsn = "memory://"

[[stores.files.layers]]
use = "Dedup"
database = "sqlite:///{tmp_path}/d.db"
chunking = {{ use = "Chunking", average = SIZE }}
"""
    (tmp_path / "trove.toml").write_text(text.replace("SIZE", "4096"))
    async with trove_async.open("trove://files", config=tmp_path / "trove.toml") as store:
        await store.create_bucket("b")
        await store.put("b", "file", FILE)
        assert await store.read("b", "file") == FILE
    (tmp_path / "trove.toml").write_text(text.replace("SIZE", "5000"))
    with pytest.raises(ConfigError, match="power of two"):
        await trove_async.open("trove://files", config=tmp_path / "trove.toml")
