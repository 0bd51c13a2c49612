"""What fails for a while does not make tus-js-client begin anew: it creates each upload once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import pytest

import trove_async as trove
from tests.database.conftest import postgres, postgres_url  # noqa: F401 - fixtures
from tests.payload import pattern
from tests.uploads.foreign import ForeignClient, tus_js
from tests.uploads.serving import ServerName, serving, tus_server_process
from tests.uploads.store.stores import PART, Parts
from tests.web.serving import SECONDS
from trove_async.driver import Driver
from trove_async.testing.faults import Fault, Faults
from trove_async.testing.proxy import ConnectionFault, FaultProxy
from trove_async.testing.sockets import Turns
from trove_async.uploads import Hooks, Lock, MemoryLocker, TusApp, UploadEvent

pytestmark = pytest.mark.asyncio

CHUNK: Final = 256 * 1024
SIZE: Final = 10 * CHUNK + 321
QUICK: Final = [20] * 12
"""Milliseconds between the attempts of tus-js-client; bytes that arrive start the count again."""

AWAY: Final = trove.UnavailableError("away (injected)")
BROKEN: Final = trove.BackendError("the backend answers nonsense (injected)")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data.bin"
    path.write_bytes(pattern(SIZE))
    return path


@asynccontextmanager
async def endpoint_of(
    layers: Sequence[Callable[[Driver], Driver]] = (), **options: Any
) -> AsyncIterator[tuple[str, trove.Trove]]:
    """Serve uploads to a store in memory, and yield the URL at which they are created, and the store without layers."""
    name = f"memory://{uuid.uuid4().hex}?min_part_size={PART}"
    async with trove.open(name) as plain, trove.open(name, layers=layers) as store:
        await plain.create_bucket("uploads")
        app = TusApp(store, bucket="uploads", part_size=PART, **options)
        async with serving("uvicorn", app) as port:
            yield f"http://127.0.0.1:{port}/", plain


async def check(client: ForeignClient, store: trove.Trove, creations: int = 1) -> None:
    """Wait for the end of an upload that was created once, or in parts, and compare what is stored."""
    result = await client.result()
    assert result["ok"], client.events[-10:]
    assert client.creations == creations
    stored = [info.key async for info in store.list("uploads") if not info.key.startswith(".")]
    assert len(stored) == 1
    assert await store.read("uploads", stored[0]) == pattern(SIZE)
    answers = {event["status"] for event in client.events if event["event"] == "response" and event["method"] == "HEAD"}
    assert answers <= {200, 204, 423}


STORE: Final[Mapping[str, Sequence[Fault]]] = {
    "writes": [Fault("append_part", skip=3, times=3, error=AWAY), Fault("upload_part", skip=3, times=3, error=AWAY)],
    "writes, whose answers are lost": [
        Fault("append_part", skip=3, times=3, when="after", error=AWAY),
        Fault("upload_part", skip=3, times=3, when="after", error=AWAY),
    ],
    "everything": [Fault("*", skip=12, times=9, error=AWAY)],
    "everything, not known to be temporary": [Fault("*", skip=12, times=9, error=BROKEN)],
    "the end": [Fault("complete_multipart", times=3, error=AWAY)],
    "the end, whose answer is lost": [Fault("complete_multipart", when="after", error=AWAY)],
}


@pytest.mark.parametrize(
    ("fault", "grows"),
    [
        pytest.param(fault, grows, marks=[] if number % 2 == grows else pytest.mark.long)
        for number, fault in enumerate(STORE)
        for grows in (True, False)
    ],
)
async def test_the_store_fails(fault: str, grows: bool, file: Path) -> None:
    faults = Faults(STORE[fault])
    async with (
        endpoint_of([*([] if grows else [Parts]), faults]) as (endpoint, store),
        tus_js(file, endpoint, chunkSize=CHUNK, retryDelays=QUICK) as client,
    ):
        await check(client, store)
    assert faults.injected


@pytest.mark.parametrize("fault", ["everything", pytest.param("the end", marks=pytest.mark.long)])
@pytest.mark.parametrize("protocol", [pytest.param("ietf-draft-03", marks=pytest.mark.long), "ietf-draft-05"])
async def test_the_store_fails_for_a_client_of_a_draft(fault: str, protocol: str, file: Path) -> None:
    faults = Faults(STORE[fault])
    async with (
        endpoint_of([faults]) as (endpoint, store),
        tus_js(file, endpoint, chunkSize=CHUNK, retryDelays=QUICK, protocol=protocol) as client,
    ):
        await check(client, store)
    assert faults.injected


async def test_the_store_fails_for_an_upload_in_parts(file: Path) -> None:
    faults = Faults([Fault("*", skip=25, times=6, error=AWAY)])
    async with (
        endpoint_of([Parts, faults]) as (endpoint, store),
        tus_js(file, endpoint, chunkSize=CHUNK, retryDelays=QUICK, parallelUploads=3) as client,
    ):
        await check(client, store, creations=4)
    assert len(faults.injected) == 6


class Failing:
    """Raises an error some times, after it was called some times."""

    def __init__(self, error: Exception, *, skip: int, times: int) -> None:
        self._error = error
        self._turns = Turns(skip, times)
        self.raised = 0

    def __call__(self) -> None:
        if self._turns.take():
            self.raised += 1
            raise self._error


class FailingHooks(Hooks):
    """One hook fails for a while; after that and before, it does nothing."""

    def __init__(self, name: str, failing: Failing) -> None:
        async def hook(event: UploadEvent) -> None:
            if event.action != "create":
                failing()

        setattr(self, name, hook)


ERRORS: Final = (AWAY, trove.ThrottledError("slow down (injected)"), RuntimeError("a fault (injected)"))
HOOKS: Final = {"authorize": 3, "before_receive": 3, "before_finish": 0}
"""Hooks, and the calls before the first one that fails."""


@pytest.mark.parametrize(
    ("name", "error"),
    [
        pytest.param(name, error, marks=[] if place == number else pytest.mark.long)
        for place, name in enumerate(HOOKS)
        for number, error in enumerate(ERRORS)
    ],
)
async def test_a_hook_fails(name: str, error: Exception, file: Path) -> None:
    failing = Failing(error, skip=HOOKS[name], times=4)
    async with (
        endpoint_of(hooks=FailingHooks(name, failing)) as (endpoint, store),
        tus_js(file, endpoint, chunkSize=CHUNK, retryDelays=QUICK) as client,
    ):
        await check(client, store)
    assert failing.raised == 4


class FailingLocker:
    """A locker that cannot be reached for a while."""

    def __init__(self, failing: Failing) -> None:
        self._inner = MemoryLocker()
        self._failing = failing

    async def acquire(self, name: str, on_request: Callable[[], object]) -> Lock:
        self._failing()
        return await self._inner.acquire(name, on_request)

    async def aclose(self) -> None:
        await self._inner.aclose()


@pytest.mark.parametrize("error", [AWAY, trove.UploadLockedError("another request holds it (injected)")])
async def test_the_locker_fails(error: Exception, file: Path) -> None:
    failing = Failing(error, skip=3, times=4)
    async with (
        aclosing(FailingLocker(failing)) as locker,
        endpoint_of(locker=locker) as (endpoint, store),
        tus_js(file, endpoint, chunkSize=CHUNK, retryDelays=QUICK) as client,
    ):
        await check(client, store)
    assert failing.raised == 4


async def test_the_database_fails(file: Path, postgres_url: str) -> None:  # noqa: F811 - a fixture
    """Its connections are terminated in the middle, and then it cannot be reached for a while."""
    address = urlsplit(postgres_url)
    async with FaultProxy(str(address.hostname), address.port or 0) as proxy:
        url = postgres_url.replace(f":{address.port}/", f":{proxy.port}/")
        async with (
            endpoint_of(database=url) as (endpoint, store),
            tus_js(file, endpoint, chunkSize=CHUNK, retryDelays=[100] * 100) as client,
        ):
            await client.progress(CHUNK)
            await terminate_sessions(postgres_url)
            with proxy.unreachable():
                proxy.break_open("reset")
                await client.until(lambda event: event["event"] == "response" and event["status"] == 503)
            await check(client, store)


async def terminate_sessions(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()


QUICK_RESTARTS: Final = {("uvicorn", "kill"), ("aiohttp", "stop")}
"""uvicorn and hypercorn wait some seconds for requests when they stop."""


@pytest.mark.parametrize(
    ("server", "ended"),
    [
        pytest.param(server, ended, marks=[] if (server, ended) in QUICK_RESTARTS else pytest.mark.long)
        for server in ("uvicorn", "hypercorn", "granian", "aiohttp")
        for ended in ("stop", "kill")
    ],
)
async def test_the_server_is_restarted(server: ServerName, ended: str, tmp_path: Path) -> None:
    file = tmp_path / "large.bin"
    file.write_bytes(pattern(5_000_000))
    dsn = f"local://{tmp_path}/store?create=1&fsync=0"
    async with (
        tus_server_process(server, dsn, tmp_path / "log") as process,
        FaultProxy("127.0.0.1", process.port) as proxy,
    ):
        # Whatever the size of the buffers between them, the client is in the middle of a request.
        proxy.inject(ConnectionFault(stall_up_after=2_500_000))
        async with tus_js(file, f"{proxy.url()}/files/", retryDelays=[100] * 100) as client:
            async with asyncio.timeout(SECONDS):
                await proxy.until(lambda proxy: bool(proxy.strikes))
            await (process.stop() if ended == "stop" else process.kill())
            proxy.break_open("reset")
            await process.start()
            result = await client.result()
            assert result["ok"], client.events[-10:]
            assert client.creations == 1
            [stored] = (tmp_path / "store" / "uploads").glob("*/file")
            assert stored.read_bytes() == pattern(5_000_000)
