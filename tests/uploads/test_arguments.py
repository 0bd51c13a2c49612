"""What users give to resumable uploads: invalid arguments, and stores that cannot be used."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

import trove_async as trove
from trove_async.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    ClosedError,
    InvalidArgumentError,
    UnavailableError,
    UnsupportedError,
    UploadNotFoundError,
)
from trove_async.uploads import (
    Changes,
    Client,
    DataStoreLocker,
    Destination,
    FileInfo,
    FileLocker,
    FinalAnswer,
    Hooks,
    MemoryLocker,
    MetaData,
    TroveDataStore,
    TusApp,
    UploadEvent,
)
from trove_async.uploads.aiohttp import tus_application
from trove_async.web import CORS

pytestmark = pytest.mark.asyncio

TUS = {"Tus-Resumable": "1.0.0"}
BYTES = TUS | {"Content-Type": "application/offset+octet-stream"}

NO_SECONDS: tuple[object, ...] = (0, -1, "60", True, math.inf, math.nan, 1e20)
NO_BYTES: tuple[object, ...] = (0, -1, "1", 1.5, True, math.inf)

OPTIONS: list[tuple[str, object]] = [
    *((name, value) for name in ("expires", "idle_timeout", "hook_timeout", "sweep_every") for value in NO_SECONDS),
    *((name, value) for name in ("max_size", "chunk_size", "part_size", "memory") for value in NO_BYTES),
    *(("progress_seconds", value) for value in (-1, None, "1", math.nan)),
    ("hook_timeout", None),
    ("memory", None),
    *(("bucket", value) for value in (3, "", "b/x", "a\0")),
    *(("state", value) for value in (3, "", "b", "b/", "b/x", "/x", b"b/x/")),
    *(("cors", value) for value in (3, "*", CORS)),
    *(("inline_types", value) for value in ("image/png", 3, [3])),
    *(("trusted_proxies", value) for value in ("10.0.0.0/8", 3, [3], ["x"])),
    *(("hooks", value) for value in (3, Hooks, "hooks")),
    *(("locker", value) for value in (3, MemoryLocker, "memory")),
    *(("database", value) for value in (3, "", "nonsense", "sqlite:///state.db")),
]


@pytest.mark.parametrize(("name", "value"), OPTIONS, ids=str)
async def test_an_option_that_is_invalid_is_refused_before_anything_is_done(name: str, value: object) -> None:
    options: Any = {"bucket": "b", name: value}
    async with trove.open("memory://") as store:
        for make in (TusApp, tus_application):
            with pytest.raises(InvalidArgumentError):
                make(store, **options)


async def test_what_is_no_store_is_refused() -> None:
    async with trove.open("memory://") as store:
        await store.create_bucket("b")
        given: Any
        for given in (3, None, "s3://key:secret@us-east-1/b", store.bucket("b"), trove.Trove, TroveDataStore):
            for make in (TusApp, tus_application):
                with pytest.raises(InvalidArgumentError, match="an open store") as raised:
                    make(given)
                assert "secret" not in str(raised.value)
            with pytest.raises(InvalidArgumentError, match="an open store"):
                TroveDataStore(given, "b")
        with pytest.raises(InvalidArgumentError, match="a locker, or the database"):
            TusApp(store, bucket="b", locker=MemoryLocker(), database="postgresql://host/state")
        with pytest.raises(TypeError, match="nonsense"):
            TusApp(store, nonsense=3)  # type: ignore[call-arg]
        with pytest.raises(InvalidArgumentError, match="now is a function"):
            TroveDataStore(store, "b", now=3)  # type: ignore[arg-type]
    with pytest.raises(ClosedError):
        TusApp(store, bucket="b")


async def test_lockers() -> None:
    wrong: Any
    for wrong in (-1, "1", None, math.inf, True):
        with pytest.raises(InvalidArgumentError, match="timeout"):
            MemoryLocker(timeout=wrong)
    for wrong in (3, "", None, b"locks"):
        with pytest.raises(InvalidArgumentError, match="folder"):
            FileLocker(wrong)
    with pytest.raises(InvalidArgumentError, match="lock_upload"):
        DataStoreLocker(3)  # type: ignore[arg-type]


async def test_metadata_and_destinations() -> None:
    wrong: Any
    for wrong in (3, None, "a", b"a", {1: "x"}, {"a": 2}, {"a b": "x"}, {"": "x"}, [("a", "x"), ("a", "y")]):
        with pytest.raises(InvalidArgumentError):
            MetaData(wrong)
    for bucket, key in ((3, "k"), ("b", 4), ("", "k"), ("b", ""), ("b", "k" * 1025), ("b", "\0")):
        with pytest.raises(InvalidArgumentError):
            Destination(bucket, key)  # type: ignore[arg-type]
    options: Any
    for options in ({"content_type": "a\nb"}, {"metadata": {"a": 3}}, {"if_match": "x", "if_none_match": "*"}):
        with pytest.raises(InvalidArgumentError):
            Destination.of("b", "k", **options)
    with pytest.raises(TypeError, match="on_progress"):
        Destination.of("b", "k", on_progress=print)  # type: ignore[call-arg]
    made = Destination.of("b", "a.jpg", metadata={"by": "me"}, if_none_match="*")
    assert made.options.attributes.content_type == "image/jpeg"
    assert (dict(made.options.attributes.metadata), made.options.if_none_match) == ({"by": "me"}, "*")


async def test_uploads_and_sweeps() -> None:
    wrong: Any
    async with trove.open("memory://") as store:
        await store.create_bucket("b")
        uploads = TroveDataStore(store, "b")
        for wrong in (-1, "1", 1.5, True):
            for info in (FileInfo(size=wrong), FileInfo(max_size=wrong)):
                with pytest.raises(InvalidArgumentError, match="number of bytes"):
                    await uploads.new_upload(info)
        for wrong in (3, datetime.now()):  # noqa: DTZ005 - that is what is wrong
            with pytest.raises(InvalidArgumentError, match="aware"):
                await uploads.sweep(wrong)
        for wrong in (3, timedelta(days=-1)):
            with pytest.raises(InvalidArgumentError, match="orphans"):
                await uploads.sweep(orphans=wrong)
        assert [key async for key in store.list("b")] == []


# The client


CLIENT_OPTIONS: list[tuple[str, object]] = [
    *(("headers", value) for value in (3, "A: b", {"A": 3}, {"A": "b\r\nX: y"}, {"A b": "c"})),
    *((name, value) for name in ("connect_timeout", "idle_timeout") for value in (*NO_SECONDS, None)),
    *((name, value) for name in ("parallel", "connections", "chunk_size") for value in NO_BYTES),
    *(("allow_origins", value) for value in (3, "https://example.com", [3], ["example.com"])),
    *((name, 3) for name in ("protocol", "retries", "fingerprints", "proxy", "ca_file", "user_agent")),
    ("protocol", "ftp"),
    ("proxy", "ftp://proxy"),
    ("user_agent", "a\nb"),
]


@pytest.mark.parametrize(("name", "value"), CLIENT_OPTIONS, ids=str)
async def test_an_option_of_the_client_that_is_invalid_is_refused(name: str, value: object) -> None:
    options: Any = {name: value}
    with pytest.raises(InvalidArgumentError):
        Client("http://127.0.0.1:9/files/", **options)


async def test_a_call_of_the_client_that_is_invalid_sends_nothing() -> None:
    """Nothing listens at the address: what is refused only after a request would be tried again for minutes."""
    wrong: Any
    for wrong in (3, None, "", "ftp://example.com", "http://"):
        with pytest.raises(InvalidArgumentError):
            Client(wrong)
    async with Client("http://127.0.0.1:9/files/", fingerprints=None) as client:
        for wrong in (
            {"metadata": 3},
            {"metadata": {"a b": "c"}},
            {"filename": 3},
            {"content_type": 3},
            {"content_type": "a\nb"},
            {"size": -1},
            {"size": "1"},
            {"checksum": "nope"},
            {"on_progress": 3},
        ):
            with pytest.raises(InvalidArgumentError):
                await client.upload(b"x", **wrong)
        for wrong in (3, "", None):
            with pytest.raises(InvalidArgumentError):
                await client.info(wrong)
            with pytest.raises(InvalidArgumentError):
                await client.terminate(wrong)
        with pytest.raises(UnavailableError, match="allow_origins"):
            await client.terminate("http://other.example/files/1")

    async def headers() -> dict[str, str]:
        return {"A": "secret\r\nX: y"}

    async with Client("http://127.0.0.1:9/files/", headers=headers, fingerprints=None) as client:
        with pytest.raises(InvalidArgumentError, match="'A'") as raised:
            await client.upload(b"x")
        assert "secret" not in str(raised.value)


# Hooks


class Answering(Hooks):
    """Hooks that answer with whatever a test says."""

    def __init__(self, create: Any = None, finish: Any = None, asked: Any = None) -> None:
        self._create, self._finish, self._asked = create, finish, asked

    async def authorize(self, event: UploadEvent) -> None:
        return self._asked() if callable(self._asked) else self._asked  # type: ignore[no-any-return]

    async def before_create(self, event: UploadEvent) -> Changes | None:
        return self._create  # type: ignore[no-any-return]

    async def before_finish(self, event: UploadEvent) -> FinalAnswer | None:
        return self._finish  # type: ignore[no-any-return]


class NoCoroutines(Hooks):
    """A hook without ``async``."""

    def authorize(self, event: UploadEvent) -> None:  # type: ignore[override]
        pass


def client_of(app: TusApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", headers=BYTES)


@pytest.mark.parametrize(
    "hooks",
    [
        Answering(3),
        Answering({"id": "a"}),
        Answering(Changes(id="a/b")),
        Answering(Changes(metadata={"a": "b"})),  # type: ignore[arg-type]
        Answering(Changes(max_size=-1)),
        Answering(Changes(max_size="1")),  # type: ignore[arg-type]
        Answering(Changes(destination="b/k")),  # type: ignore[arg-type]
        Answering(Changes(owner=3)),  # type: ignore[arg-type]
        Answering(Changes(headers=(("a", "b\n"),))),
        Answering(None, "done"),
        Answering(None, FinalAnswer(404)),
        Answering(None, FinalAnswer(200, (), "done")),  # type: ignore[arg-type]
        Answering(None, FinalAnswer(200, {"a": "b"})),  # type: ignore[arg-type]
        Answering(None, FinalAnswer(200, "a: b")),  # type: ignore[arg-type]
        Answering(None, FinalAnswer(200, (("a", 3),))),  # type: ignore[arg-type]
        Answering(asked=False),
        NoCoroutines(),
    ],
    ids=range(17),
)
async def test_a_mistake_of_a_hook_is_logged_and_is_no_fault_of_the_client(
    hooks: Hooks, caplog: pytest.LogCaptureFixture
) -> None:
    async with trove.open("memory://") as store:
        await store.create_bucket("b")
        async with TusApp(store, bucket="b", hooks=hooks) as app, client_of(app) as client:
            said = await client.post("/", headers={"Upload-Length": "3"})
            if said.status_code == 201:
                said = await client.patch(said.headers["location"], headers={"Upload-Offset": "0"}, content=b"abc")
            assert said.status_code == 500
            assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize(
    ("hooks", "words"),
    [
        (Answering(asked=False), "authorize returns nothing, not False; it refuses a request by raising"),
        (NoCoroutines(), "authorize is no coroutine: define it with 'async def'"),
        (Answering(asked={}.popitem), "The hook authorize has raised it. To refuse a request, raise UploadRejected"),
        (Answering(Changes(headers={"a": "b"})), "the headers of the hook before_create are pairs such as"),  # type: ignore[arg-type]
        (Answering(Changes(headers=("ab",))), "a header of the hook before_create is a pair such as"),  # type: ignore[arg-type]
    ],
    ids=range(5),
)
async def test_the_log_says_what_is_wrong_with_a_hook(
    hooks: Hooks, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with trove.open("memory://") as store:
        await store.create_bucket("b")
        async with TusApp(store, bucket="b", hooks=hooks) as app, client_of(app) as client:
            assert (await client.post("/", headers={"Upload-Length": "3"})).status_code == 500
        assert words in caplog.text
        assert [info async for info in store.list("b") if "/place/" not in info.key] == []


async def test_a_data_store_that_lacks_methods_is_told_which() -> None:
    class Half:
        async def new_upload(self, info: FileInfo) -> str:
            return info.id

        async def get_info(self, upload_id: str) -> FileInfo:
            raise UploadNotFoundError

    with pytest.raises(InvalidArgumentError, match="Half, which lacks write_chunk, get_reader"):
        TusApp(Half())  # type: ignore[arg-type]


async def test_no_room_is_no_mistake() -> None:
    async with trove.open("memory://") as store:
        await store.create_bucket("b")
        app = TusApp(store, bucket="b", hooks=Answering(Changes(max_size=0)))
        async with app, client_of(app) as client:
            assert (await client.post("/", headers={"Upload-Length": "3"})).status_code == 413


# Stores that cannot be used, or not in every way


@pytest.mark.parametrize("options", [{"bucket": "missing"}, {"bucket": "b", "state": "missing/x/"}])
@pytest.mark.parametrize("shared", [False, True])
async def test_a_bucket_that_does_not_exist_is_noticed_at_the_start(
    options: dict[str, Any], shared: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with trove.open("memory://") as store:
        await store.create_bucket("b")
        locker = FileLocker(tmp_path / "locks") if shared else None
        app = TusApp(store, locker=locker, **options)
        with pytest.raises(BucketNotFoundError, match="missing"):
            async with app:
                pass
        async with client_of(app) as client:  # mounted: nobody starts it
            said = await client.post("/", headers={"Upload-Length": "3"})
            assert said.status_code == 503
            assert "missing" not in said.text
        assert "missing" in caplog.text
        await app.aclose()
        if locker is not None:
            await locker.aclose()


async def test_the_bucket_of_objects_is_looked_for_too() -> None:
    async with trove.open("memory://") as store:
        await store.create_bucket("s")
        with pytest.raises(BucketNotFoundError, match="missing"):
            async with TusApp(store, bucket="missing", state="s/x/"):
                pass


async def test_a_store_that_is_closed_makes_no_client_give_up(caplog: pytest.LogCaptureFixture) -> None:
    store = await trove.open("memory://")
    await store.create_bucket("b")
    async with TusApp(store, bucket="b") as app, client_of(app) as client:
        url = (await client.post("/", headers={"Upload-Length": "3"})).headers["location"]
        await store.aclose()
        assert (await client.patch(url, headers={"Upload-Offset": "0"}, content=b"abc")).status_code >= 500
        assert (await client.head(url)).status_code == 423
        assert "the store was closed" in caplog.text


async def test_a_store_that_is_only_read_is_refused_at_the_start() -> None:
    async with (
        trove.open("memory://only-read") as store,
        trove.open("memory://only-read", layers=[trove.ReadOnly()]) as t,
    ):
        await store.create_bucket("b")
        with pytest.raises(AccessDeniedError):
            async with TusApp(t, bucket="b"):
                pass


async def test_a_store_without_multipart_uploads_is_refused(tmp_path: Path) -> None:
    members = {"here": "memory://", "there": "memory://"}
    mirror = trove.Mirror(members, queue=f"sqlite:///{tmp_path}/queue.db", repair_every=None)
    async with trove.open(mirror) as store:
        with pytest.raises(UnsupportedError, match="uploads in parts"):
            TusApp(store, bucket="b")


@pytest_asyncio.fixture(params=["prefix", "quota", "route", "layers"])
async def layered(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[trove.Trove]:
    limits = {"b": trove.QuotaLimit(bytes=1000)}
    quota = trove.Quota(limits, database=f"sqlite:///{tmp_path}/quota.db")
    layers: dict[str, list[Any]] = {
        "prefix": [trove.Prefixed("acme/")],
        "quota": [quota],
        "layers": [trove.Retry(), trove.Timeout(30)],
    }
    target: Any = "memory://"
    if request.param == "route":
        target = trove.Route({"a": "memory://", "z": "memory://"}, [("b/k/**", "a")], default="z")
    async with trove.open(target, layers=layers.get(request.param, [])) as store:
        await store.create_bucket("b")
        yield store


async def test_layers_and_routes(layered: trove.Trove) -> None:
    hooks = Answering(Changes(destination=Destination.of("b", "k/1")))
    async with TusApp(layered, bucket="b", hooks=hooks) as app, client_of(app) as client:
        url = (await client.post("/", headers={"Upload-Length": "6"}, content=b"abc")).headers["location"]
        assert (await client.patch(url, headers={"Upload-Offset": "3"}, content=b"def")).status_code == 204
        assert (await client.get(url)).content == b"abcdef"
    assert await layered.read("b", "k/1") == b"abcdef"


async def test_a_quota_refuses_what_is_too_much(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    quota = trove.Quota({"b": trove.QuotaLimit(bytes=10_000)}, database=f"sqlite:///{tmp_path}/quota.db")
    async with trove.open("memory://", layers=[quota]) as store:
        await store.create_bucket("b")
        async with TusApp(store, bucket="b") as app, client_of(app) as client:
            url = (await client.post("/", headers={"Upload-Length": "20000"})).headers["location"]
            said = await client.patch(url, headers={"Upload-Offset": "0"}, content=b"x" * 20_000)
            assert said.status_code in (403, 413, 507), said.text
            assert "quota" in said.text.lower()
    assert "Traceback" not in caplog.text  # it is no fault of the server
