"""Every verb of the sync API, on real stores."""

from __future__ import annotations

import hashlib
import io
import re
import threading
import uuid
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

import trove_async as trove
from tests.servers import running
from trove_async.portal import Portal
from trove_async.testing.helpers import random_bytes

LARGE: Final = random_bytes(3_000_000)
PART: Final = random_bytes(5 * 1024 * 1024)
SIGNED: Final = "http://signed.example"

Verbs = Callable[..., Any]
"""Calls a verb of the store with the test's bucket, or the same verb of the bucket."""


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[trove.sync.Trove]:
    dsn = "memory://" if request.param == "memory" else f"local://{tmp_path}/store?create=1"
    with trove.sync.open(dsn, presign_url=SIGNED) as t:
        yield t


@pytest.fixture(params=["store", "bucket"])
def verbs(request: pytest.FixtureRequest, store: trove.sync.Trove) -> Verbs:
    bucket = store.create_bucket("b")

    def call(verb: str, *arguments: Any, **options: Any) -> Any:
        if request.param == "bucket":
            return getattr(bucket, verb)(*arguments, **options)
        if verb in ("copy", "move"):
            source, target = arguments
            return getattr(store, verb)("b", source, "b", target, **options)
        return getattr(store, verb)("b", *arguments, **options)

    return call


def test_buckets(store: trove.sync.Trove) -> None:
    store.ping()
    assert repr(store.create_bucket("b")) == f"<Bucket 'b' of {store!r}>"
    assert store.create_bucket("b", exist_ok=True).name == store.bucket("b").name == "b"
    with pytest.raises(trove.BucketAlreadyExistsError):
        store.create_bucket("b")
    assert [bucket.name for bucket in store.list_buckets()] == ["b"]
    store.delete_bucket("b")
    assert store.list_buckets() == []
    with pytest.raises(trove.InvalidBucketNameError):
        store.bucket()


def test_what_a_store_has(store: trove.sync.Trove) -> None:
    assert store.supports("versioning")
    assert store.supports(trove.MultipartDriver)
    assert store.features.limits.max_parts > 1
    assert store.driver.name in repr(store)
    with pytest.raises(trove.UnpicklableError):
        store.__reduce__()


def test_objects(verbs: Verbs, tmp_path: Path) -> None:
    info = verbs("put", "k", b"text", content_type="text/plain", metadata={"a": "b"})
    assert isinstance(info, trove.ObjectInfo)
    assert verbs("head", "k").metadata == {"a": "b"}
    assert verbs("exists", "k")
    assert not verbs("exists", "l")
    assert verbs("read", "k") == b"text"
    assert verbs("read", "k", (1, 2)) == b"ex"
    assert verbs("read_ranges", "k", [(0, 1), (-1, None)]) == [b"t", b"t"]
    verbs("copy", "k", "copy", replace=True, content_type="text/html")
    assert verbs("head", "copy").content_type == "text/html"
    verbs("move", "copy", "moved")
    assert [found.key for found in verbs("list")] == ["k", "moved"]
    assert verbs("download", "k", tmp_path / "file").etag == info.etag
    assert (tmp_path / "file").read_bytes() == b"text"
    verbs("delete", "k", if_match=info.etag)
    with pytest.raises(trove.ObjectNotFoundError) as raised:
        verbs("read", "k")
    assert (raised.value.operation, raised.value.bucket, raised.value.key) == ("read", "b", "k")


CHUNKS: Final = (LARGE[:1_000_000], LARGE[1_000_000:])


async def _chunks() -> AsyncIterator[bytes]:
    for chunk in CHUNKS:
        yield chunk


BODIES: Final[dict[str, Callable[[Path, Verbs], Any]]] = {
    "bytes": lambda path, verbs: LARGE,
    "bytearray": lambda path, verbs: bytearray(LARGE),
    "file in memory": lambda path, verbs: io.BytesIO(LARGE),
    "file": lambda path, verbs: path.open("rb"),
    "path": lambda path, verbs: path,
    "list": lambda path, verbs: CHUNKS,
    "generator": lambda path, verbs: (chunk for chunk in CHUNKS),
    "async generator": lambda path, verbs: _chunks(),
    "reader": lambda path, verbs: verbs("get", "source"),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_bodies(verbs: Verbs, tmp_path: Path, body: Callable[[Path, Verbs], Any]) -> None:
    path = tmp_path / "body"
    path.write_bytes(LARGE)
    verbs("put", "source", path)
    data = body(path, verbs)
    verbs("put", "k", data)
    if hasattr(data, "close"):
        data.close()
    assert digest(verbs("read", "k")) == digest(LARGE)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_generator_may_use_the_store(verbs: Verbs) -> None:
    verbs("put", "a", b"1")
    verbs("put", "b", b"2")
    verbs("put", "both", (verbs("read", key) for key in ("a", "b")))
    assert verbs("read", "both") == b"12"


def test_an_error_of_the_source_leaves_the_old_object(verbs: Verbs) -> None:
    def fails() -> Iterator[bytes]:
        yield LARGE
        raise ZeroDivisionError

    verbs("put", "k", b"old")
    with pytest.raises(ZeroDivisionError):
        verbs("put", "k", fails())
    with pytest.raises(trove.BodyTypeError, match="encode"):
        verbs("put", "k", "text")
    assert verbs("read", "k") == b"old"


def test_progress_is_called_in_the_portals_thread(verbs: Verbs) -> None:
    calls: list[tuple[int, int | None, str]] = []

    def progress(done: int, size: int | None) -> None:
        calls.append((done, size, threading.current_thread().name))

    verbs("put", "k", [LARGE, LARGE], on_progress=progress)
    assert calls[-1] == (2 * len(LARGE), None, "trove-portal")


def test_a_blocking_call_in_a_callback_is_refused(verbs: Verbs) -> None:
    def progress(done: int, size: int | None) -> None:
        verbs("exists", "k")

    with pytest.raises(trove.LifetimeError, match="would wait for"):
        verbs("put", "k", b"data", on_progress=progress)
    assert not verbs("exists", "k")


def test_readers(verbs: Verbs) -> None:
    info = verbs("put", "k", LARGE)
    with verbs("get", "k", range=(10, 2_000_000)) as reader:
        assert (reader.info.etag, reader.start, reader.stop, reader.size) == (info.etag, 10, 2_000_010, 2_000_000)
        assert reader.read(5) == LARGE[10:15]
        assert (reader.tell(), reader.seek(0), reader.closed) == (5, 0, False)
        buffer = bytearray(100)
        assert reader.readinto(buffer) == 100
        assert buffer == LARGE[10:110]
        reader.limit_memory(65_536)
        chunks = list(reader)
        assert b"".join(chunks) == LARGE[110:2_000_010]
        assert reader.buffered or max(map(len, chunks)) <= 65_536
    assert reader.closed
    with pytest.raises(trove.ClosedError):
        reader.read()
    with pytest.raises(ZeroDivisionError), verbs("get", "k") as reader:
        raise ZeroDivisionError
    assert reader.closed
    reader = verbs("get_range", "k", 1, 3)
    assert reader.read() == LARGE[1:4]
    reader.close()
    reader = verbs("get", "k")
    reader.abort()
    assert reader.closed
    with pytest.raises(trove.NotModifiedError):
        verbs("get", "k", if_none_match=info.etag)


def test_a_reader_that_is_forgotten_is_closed_with_a_warning(store: trove.sync.Trove, tmp_path: Path) -> None:
    store.create_bucket("b")
    store.put("b", "k", LARGE)
    reader = store.get("b", "k")
    if reader.buffered:
        return  # there is nothing to close
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del reader
        store.ping()  # the loop has closed it by then
    assert [warning.category for warning in caught] == [ResourceWarning]
    assert re.match(rf"unclosed <ObjectReader 'k'.*opened at {__file__}:\d+", str(caught[0].message))


def test_writers(verbs: Verbs) -> None:
    with verbs("writer", "k", content_type="text/plain") as writer:
        assert [writer.write(b"line\n") for _ in range(3)] == [5, 5, 5]
        assert (writer.tell(), writer.info) == (15, None)
        writer.write(LARGE)
        assert not verbs("exists", "k")
    assert writer.info == verbs("head", "k")
    assert verbs("read", "k") == b"line\n" * 3 + LARGE
    with pytest.raises(ZeroDivisionError), verbs("writer", "k") as writer:
        writer.write(bytes(writer.write(LARGE) // 0))
    with verbs("writer", "k") as writer:
        writer.abort()
    assert verbs("head", "k").size == 15 + len(LARGE)
    with pytest.raises(trove.ClosedError):
        writer.write(b"")


def test_a_writer_raises_the_error_of_the_backend(store: trove.sync.Trove) -> None:
    with pytest.raises(trove.BucketNotFoundError), store.writer("nowhere", "k") as writer:
        writer.write(LARGE)


def test_listings(verbs: Verbs) -> None:
    keys = [f"a/{n:02}" for n in range(25)] + ["b"]
    for key in keys:
        verbs("put", key, b"")
    assert [found.key for found in verbs("list", page_size=10)] == keys
    assert [len(page) for page in verbs("list", page_size=10).pages()] == [10, 10, 6]
    assert verbs("list", delimiter="/").all()[0] == trove.Prefix("a/")
    listing = verbs("list", prefix="a/", page_size=10, max_keys=12, start_after="a/00")
    assert [listing.next().key for _ in range(11)] == keys[1:12]
    cursor = listing.cursor
    assert [[found.key for found in page] for page in listing.pages()] == [["a/12"]]
    with pytest.raises(StopIteration):
        listing.next()
    assert listing.start_after == "a/00"
    again = verbs("list", prefix="a/", cursor=cursor)
    assert [found.key for found in again] == keys[12:25]
    assert again.cursor is None
    with pytest.raises(trove.InvalidCursorError):
        verbs("list", prefix="b", cursor=cursor)


def test_a_listing_takes_a_call_for_each_page(verbs: Verbs, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(30):
        verbs("put", f"{n}", b"")
    listing = verbs("list", page_size=10)
    portal = CountingPortal(listing._portal)
    monkeypatch.setattr(listing, "_portal", portal)
    assert len(list(listing)) == 30
    assert portal.calls <= 4


class CountingPortal:
    """A portal that counts its calls."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self.calls = 0

    def call(self, function: Callable[[], Any]) -> Any:
        self.calls += 1
        return self._portal.call(function)


def test_many_deletions(verbs: Verbs, store: trove.sync.Trove) -> None:
    for n in range(30):
        verbs("put", f"{n:02}", b"")
    assert verbs("delete_many", (found.key for found in verbs("list", prefix="0"))) == 10
    assert verbs("delete_many", ["10", "11"]) == 2
    results = verbs("delete_many", ["12", "", "13"], raise_errors=False)
    assert [(result.key, type(result.error)) for result in results] == [
        ("12", type(None)),
        ("", trove.InvalidKeyError),
        ("13", type(None)),
    ]
    with pytest.raises(trove.BulkError) as raised:
        verbs("delete_many", iter(["14", ""]))
    assert (raised.value.deleted_count, len(raised.value.failed)) == (1, 1)
    with pytest.raises(trove.InvalidArgumentError):
        verbs("delete_many", "15")
    assert verbs("empty_bucket") == 15
    assert verbs("list").all() == []


def test_versions(verbs: Verbs) -> None:
    verbs("set_versioning", True)
    assert verbs("get_versioning") == "enabled"
    first = verbs("put", "k", b"1")
    second = verbs("put", "k", b"2")
    verbs("delete", "k")
    assert [version.is_delete_marker for version in verbs("list_versions", "k")] == [True, False, False]
    assert [version.version_id for version in verbs("list_all_versions")][1:] == [second.version_id, first.version_id]
    with verbs("get_version", "k", first.version_id) as reader:
        assert reader.read() == b"1"
    verbs("restore_version", "k", first.version_id)
    assert verbs("read", "k") == b"1"
    verbs("delete_version", "k", second.version_id)
    assert verbs("empty_bucket", versions=True) == 3
    assert verbs("list_all_versions").all() == []


def test_events(verbs: Verbs) -> None:
    with verbs("watch", prefix="in/", events=["object.created"]) as events:
        verbs("put", "out/k", b"")
        verbs("put", "in/k", b"12")
        event = next(events)
    assert (event.type, event.key, event.size) == (trove.EventType.CREATED, "in/k", 2)
    assert list(events) == []


def test_a_watch_that_another_thread_closes_ends(verbs: Verbs) -> None:
    with verbs("watch") as events:
        verbs("put", "k", b"")
        closing = threading.Thread(target=events.close)
        seen = []
        for event in events:
            seen.append(event.key)
            closing.start()  # while the next step waits, or before it
        closing.join()
    assert seen == ["k"]


def test_signed_urls(verbs: Verbs, store: trove.sync.Trove) -> None:
    for method in ("get", "put", "head", "delete"):
        if store.supports(f"presign_{method}"):
            assert verbs(f"presign_{method}", "k", expires=60).startswith(SIGNED)
    with pytest.raises(trove.UnsupportedError):
        verbs("presign_post", "k", max_size=1)


def test_lifecycle_rules(verbs: Verbs) -> None:
    rule = trove.LifecycleRule(id="old", prefix="tmp/", expiration_days=1)
    verbs("set_lifecycle", [rule])
    assert verbs("get_lifecycle") == [rule]
    verbs("put", "tmp/k", b"")
    report = verbs("apply_lifecycle", now=datetime(2100, 1, 1, tzinfo=UTC))
    assert report.expired == 1
    verbs("delete_lifecycle")
    assert verbs("get_lifecycle") == []


def test_tags(verbs: Verbs) -> None:
    verbs("put", "k", b"", tags={"a": "b"})
    assert verbs("get_tags", "k") == {"a": "b"}
    verbs("set_tags", "k", {"c": "d"})
    assert verbs("get_tags", "k") == {"c": "d"}
    verbs("delete_tags", "k")
    assert verbs("get_tags", "k") == {}


def test_a_copy_on_the_server(store: trove.sync.Trove) -> None:
    store.create_bucket("b")
    store.put("b", "k", b"data")
    store.server_copy(trove.ObjectRef("b", "k"), trove.ObjectRef("b", "copy"))
    assert store.read("b", "copy") == b"data"


def test_uploads_in_parts(verbs: Verbs, store: trove.sync.Trove) -> None:
    verbs("put", "source", PART)
    upload = verbs("initiate_multipart", "k", content_type="text/plain")
    first = verbs("upload_part", "k", upload, 1, iter([PART]))
    second = verbs("copy_part", "k", upload, 2, trove.ObjectRef("b", "source"), 0, len(PART))
    third = verbs("append_part", "k", upload, 3, 0, b"end")
    assert verbs("list_parts", "k", upload) == [first, second, third]
    assert [found.upload_id for found in verbs("list_multipart_uploads")] == [upload]
    verbs("complete_multipart", "k", upload, [first, second, third], if_none_match="*")
    assert verbs("read", "k") == PART + PART + b"end"
    verbs("abort_multipart", "l", verbs("initiate_multipart", "l"))
    assert verbs("list_multipart_uploads") == []


def test_closing(store: trove.sync.Trove) -> None:
    store.create_bucket("b")
    store.put("b", "k", LARGE)
    reader = store.get("b", "k")
    assert not store.closed
    store.close()
    store.close()
    assert store.closed
    for use in (store.ping, lambda: store.read("b", "k"), lambda: store.list("b"), lambda: store.bucket("b")):
        with pytest.raises(trove.ClosedError, match=rf"opened at {__file__}"):
            use()
    if not reader.buffered:
        with pytest.raises(trove.ClosedError):
            reader.read()


def test_what_is_wrong_with_a_dsn_is_said_at_once() -> None:
    with pytest.raises(trove.InvalidDSNError):
        trove.sync.open("nothing://")
    with pytest.raises(trove.InvalidArgumentError):
        trove.sync.open("memory://", cleanup_timeout=0)


def test_layers_and_stores_over_stores() -> None:
    with trove.sync.open(
        trove.Route(
            {"first": "memory://", "second": "memory://"},
            rules=[("a/**", "first")],
            default="second",
        )
    ) as t:
        t.create_bucket("b")
        t.put("b", "a/k", b"data")
        assert t.read("b", "a/k") == b"data"
    with (
        trove.sync.open("memory://", layers=[trove.Retry(), trove.ReadOnly()]) as t,
        pytest.raises(trove.AccessDeniedError),
    ):
        t.create_bucket("b")


def test_a_service() -> None:
    """On Ceph."""
    handle = running("ceph")
    dsn = f"s3://{handle.access_key}:{handle.secret_key}@{handle.region}?endpoint={handle.endpoint}&profile=ceph"
    name = f"sync-{uuid.uuid4().hex[:12]}"
    with trove.sync.open(dsn) as t:
        bucket = t.create_bucket(name)
        body = PART * 4
        bucket.put("large", (body[at : at + 1_000_000] for at in range(0, len(body), 1_000_000)))
        with bucket.get("large") as reader:
            assert digest(b"".join(reader)) == digest(body)
        with bucket.writer("written") as writer:
            writer.write(body)
        assert bucket.head("written").size == len(body)
        for n in range(5):
            bucket.put(f"small/{n}", b"data")
        assert [item.key for item in bucket.list("small/", page_size=2)] == [f"small/{n}" for n in range(5)]
        assert bucket.read("small/3", (1, 2)) == b"at"
        with pytest.raises(trove.ObjectAlreadyExistsError):
            bucket.put("small/3", b"", if_none_match="*")
        assert bucket.empty_bucket() == 7
        t.delete_bucket(name)
