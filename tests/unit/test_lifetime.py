from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import trove_async
from tests.unit.doubles import ScriptedStream, info_of
from trove_async import Trove
from trove_async.driver import Driver, ListPage
from trove_async.errors import (
    ClosedError,
    ConfigError,
    InvalidArgumentError,
    InvalidDSNError,
    UnavailableError,
    WrongLoopError,
)
from trove_async.reader import ObjectReader
from trove_async.testing.mock import MockDriver
from trove_async.types import ObjectInfo

pytestmark = pytest.mark.asyncio

USES: list[Callable[[Trove], Awaitable[object]]] = [
    lambda t: t.ping(),
    lambda t: t.put("b", "k", b""),
    lambda t: t.read("b", "k"),
    lambda t: t.get("b", "k"),
    lambda t: t.read_ranges("b", "k", [(0, 1)]),
    lambda t: t.head("b", "k"),
    lambda t: t.exists("b", "k"),
    lambda t: t.delete("b", "k"),
    lambda t: t.delete_many("b", ["k"]),
    lambda t: t.copy("b", "k", "b", "l"),
    lambda t: t.move("b", "k", "b", "l"),
    lambda t: t.list("b").all(),
    lambda t: t.create_bucket("b"),
    lambda t: t.delete_bucket("b"),
    lambda t: t.list_buckets(),
    lambda t: t.bucket("b").put("k", b""),
    lambda t: t.get_tags("b", "k"),
    lambda t: t.writer("b", "k").__aenter__(),
]


@pytest.mark.parametrize("use", USES)
async def test_use_after_close_is_refused_with_the_place_where_it_was_opened(
    use: Callable[[Trove], Awaitable[object]],
) -> None:
    mock = MockDriver()
    async with trove_async.open(mock) as t:
        pass
    assert t.closed
    calls = len(mock.calls)
    with pytest.raises(ClosedError, match=r"test_lifetime\.py:\d+"):
        await use(t)
    assert len(mock.calls) == calls


async def test_a_listing_that_was_started_before_close_is_refused_too() -> None:
    mock = MockDriver(list_page=ListPage([ObjectInfo("a", 1, "e")], cursor="1"))
    async with trove_async.open(mock) as t:
        iterator = t.list("b")
        await iterator.next()
    with pytest.raises(ClosedError):
        await iterator.next()


async def test_close_runs_once() -> None:
    mock = MockDriver()
    t = await trove_async.open(mock)
    await t.aclose()
    await t.aclose()
    assert len(mock.calls_to("close")) == 1


async def test_open_readers_raise_after_close_and_release_their_streams() -> None:
    stream = ScriptedStream(b"data")
    mock = MockDriver(get=lambda *_: ObjectReader(info_of(b"data"), stream))
    async with trove_async.open(mock) as t:
        reader = await t.get("b", "k")
        await reader.read(1)
    assert stream.aborted == 1
    with pytest.raises(ClosedError, match="store"):
        await reader.read()


async def test_a_reader_that_was_read_to_its_end_and_sought_back_is_closed_too() -> None:
    stream = ScriptedStream(b"data")
    mock = MockDriver(get=lambda *_: ObjectReader(info_of(b"data"), stream))
    async with trove_async.open(mock) as t:
        reader = await t.get("b", "k")
        await reader.read()
        await reader.seek(0)
        assert stream.open
    assert not stream.open
    with pytest.raises(ClosedError):
        await reader.read()


async def test_closing_completes_when_it_is_cancelled() -> None:
    closing = asyncio.Event()
    released = asyncio.Event()
    closed = []

    async def close() -> None:
        closing.set()
        await released.wait()
        closed.append(True)

    t = await trove_async.open(MockDriver(close=close))
    task = asyncio.create_task(t.aclose())
    await closing.wait()
    task.cancel()
    await asyncio.sleep(0)
    released.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed == [True]


async def test_another_loop_is_refused_at_once() -> None:
    async with trove_async.open(MockDriver(ping=None)) as t:

        def elsewhere() -> None:
            with pytest.raises(WrongLoopError):
                asyncio.run(t.ping())
            with pytest.raises(WrongLoopError):
                asyncio.run(t.aclose())

        await asyncio.to_thread(elsewhere)
        await t.ping()


async def test_a_forked_child_is_refused_and_closes_nothing_of_the_parent() -> None:
    script = """
        import asyncio, os, sys, warnings
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # fork with threads, since Python 3.12
        import trove_async
        from trove_async.testing.mock import MockDriver

        async def child(t):
            try:
                await t.ping()
            except trove_async.ForkedError as error:
                print(type(error).__name__, t.closed, flush=True)
            await t.aclose()

        async def parent():
            mock = MockDriver(ping=None)
            async with trove_async.open(mock) as t:
                pid = os.fork()
                if pid == 0:
                    asyncio._set_running_loop(None)
                    asyncio.run(child(t))
                    print(len(mock.calls), flush=True)
                    os._exit(0)
                os.waitpid(pid, 0)
                await t.ping()
            print([call.name for call in mock.calls])

        asyncio.run(parent())
    """
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["ForkedError True", "0", "['ping', 'close']"]


async def test_an_unclosed_store_warns_with_the_place_where_it_was_opened() -> None:
    t = await trove_async.open(MockDriver())
    with pytest.warns(ResourceWarning, match=r"unclosed <Trove mock>, opened at .*test_lifetime\.py:\d+"):  # noqa: PT031
        del t
        gc.collect()


async def test_a_closed_store_is_collected_without_a_warning() -> None:
    t = await trove_async.open(MockDriver())
    await t.aclose()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del t
        gc.collect()


async def test_the_driver_is_closed_if_a_layer_fails() -> None:
    mock = MockDriver()

    def broken(driver: Driver) -> Driver:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await trove_async.open(mock, layers=[broken])
    assert [call.name for call in mock.calls] == ["close"]


@pytest.mark.parametrize("layer", [id, lambda driver: None])
async def test_an_invalid_layer_is_refused(layer: Any) -> None:
    mock = MockDriver()
    with pytest.raises(InvalidArgumentError, match="a layer is called with a driver and returns a driver"):
        await trove_async.open(mock, layers=[layer])
    assert [call.name for call in mock.calls] == ["close"]


async def test_a_driver_that_fails_to_open_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    mock = MockDriver(open=UnavailableError("no route"))
    monkeypatch.setitem(trove_async.driver.registry.DRIVERS.entries, "unit-test", lambda: mock)
    with pytest.raises(UnavailableError) as caught:
        await trove_async.open("unit-test://")
    assert caught.value.operation == "open"
    assert [call.name for call in mock.calls] == ["open", "close"]


async def test_settings_reach_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    mock = MockDriver()
    monkeypatch.setitem(trove_async.driver.registry.DRIVERS.entries, "unit-test", lambda: mock)
    async with trove_async.open("unit-test://host?a=1", cleanup_timeout=3, limit=5):
        [call] = mock.calls_to("open")
    assert call.arguments["dsn"].host == "host"
    assert call.arguments["options"].settings == {"limit": 5}
    assert call.arguments["options"].cleanup_timeout == 3


@pytest.mark.parametrize(
    ("arguments", "settings", "error"),
    [
        ([MockDriver()], {"extra": 1}, InvalidArgumentError),
        ([7], {}, InvalidDSNError),
        (["memory:"], {}, InvalidDSNError),
        (["memory"], {}, ConfigError),
    ],
)
async def test_invalid_arguments_of_open(
    arguments: list[object], settings: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await trove_async.open(*arguments, **settings)  # type: ignore[arg-type]


async def test_a_cleanup_timeout_is_positive() -> None:
    for timeout in (0, -1, float("nan")):
        with pytest.raises(InvalidArgumentError):
            trove_async.open("memory://", cleanup_timeout=timeout)


async def test_a_path_is_refused_with_the_advice_to_give_a_dsn(tmp_path: object) -> None:
    with pytest.raises(InvalidDSNError, match="local://"):
        await trove_async.open(tmp_path)  # type: ignore[arg-type]


async def test_the_bucket_of_the_dsn_is_the_default() -> None:
    async with trove_async.open(MockDriver(default_bucket="b")) as t:
        assert t.bucket().name == "b"
        assert t.bucket("c").name == "c"
    async with trove_async.open(MockDriver()) as t:
        with pytest.raises(InvalidArgumentError, match="names no bucket"):
            t.bucket()
