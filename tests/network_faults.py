"""Faults of the network that the tests of all HTTP drivers inject, and the required results.

A package of tests derives a class from `NetworkFaults` and one from `CreateOnlyFaults`, and defines the fixtures
``target``, ``bucket``, ``network``, ``service`` and ``delays``.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final

import pytest

import trove_async as trove
from tests.payload import pattern
from trove_async.driver import VersioningDriver
from trove_async.testing.answers import Answer, AnsweringProxy
from trove_async.testing.proxy import ConnectionFault, FaultProxy

__all__ = ["CreateOnlyFaults", "NetworkFaults", "Once", "Target", "lines"]

MIB: Final = 1024 * 1024
BREAKS: Final = ("reset", "cut", "stall")
IDLE_TIMEOUT: Final = 2.0
"""The time in seconds after which a test gives up a stalled connection: longer than any busy server needs."""

WHEN_READ: Final = (0, 9, 600, 70_000, 1_500_000, 3 * MIB)
"""Bytes of the answer: none, a part of the head, some of the body, and nearly all of it."""


Proxy = FaultProxy | AnsweringProxy


def _endpoint(proxy: Proxy) -> str:
    return proxy.url()


def _if_match(etag: str) -> str:
    return f'if-match: "{etag}"'


def _etag(etag: str) -> dict[str, str]:
    return {"ETag": f'"{etag}"'}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A driver and its server.

    Attributes:
        open_store: opens a store with settings at an endpoint, None for the server's own; all its connections are
            released at the end.
        part_size: the size of the parts of such a store, in bytes.
        endpoint: the endpoint of a store that uses a proxy.
        range_header: the lower-case range header of a request.
        held_to: the lower-case header with which a request continues to read the object of an ETag.
        tells: the headers with which an answer gives an ETag.
    """

    open_store: Callable[..., AbstractAsyncContextManager[trove.Trove]]
    part_size: int
    endpoint: Callable[[Proxy], str] = _endpoint
    range_header: str = "range"
    held_to: Callable[[str], str] = _if_match
    tells: Callable[[str], dict[str, str]] = _etag

    def opened(self, proxy: Proxy | None = None, **settings: Any) -> AbstractAsyncContextManager[trove.Trove]:
        """Open a store, through a proxy if one is given."""
        return self.open_store(self.endpoint(proxy) if proxy else None, **settings)

    def broken(self, seen: bytes, size: int, etag: str) -> Answer:
        """Return an answer to a get that ends early."""
        return Answer(200, {"Content-Type": "x/y", **self.tells(etag)}, seen, content_length=size)


class Once:
    """A source that can be read once, and counts the requests for chunks."""

    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = chunks
        self.pulled: list[int] = []

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for number, chunk in enumerate(self.chunks):
            self.pulled.append(number)
            yield chunk


def lines(proxy: FaultProxy) -> list[str]:
    """Return the method of the first request of each connection."""
    return [connection.transcript.split(b" ", 1)[0].decode() for connection in proxy.connections]


def _puts(proxy: FaultProxy) -> int:
    """Return the number of puts that the proxy has read."""
    return sum(connection.transcript.count(b"PUT /") for connection in proxy.connections)


def _break(kind: str, direction: str, after: int) -> ConnectionFault:
    return ConnectionFault(**{f"{kind}_{direction}_after": after})  # type: ignore[arg-type]


def _upload_faults(part_size: int) -> list[ConnectionFault]:
    """Return the faults of successive connections; most let a part through, so that the upload progresses."""
    later = part_size * 3 // 2
    return [
        ConnectionFault(reset_up_after=later),
        ConnectionFault(reset_down_after=0),
        ConnectionFault(cut_up_after=later),
        ConnectionFault(stall_up_after=later),
        ConnectionFault(stall_down_after=200),
    ]


def _idle_timeout(kind: str) -> float | None:
    """Return the timeout with which a store detects a break; None for the default if the break is visible."""
    return IDLE_TIMEOUT if kind == "stall" else None


def _busy(store: trove.Trove) -> int:
    driver: Any = store.driver
    busy: int = driver.busy_connections
    return busy


async def _collect(reader: trove.ObjectReader, into: bytearray) -> None:
    while len(into) < reader.size:
        into += await reader.read(100_000)


@pytest.mark.asyncio
@pytest.mark.usefixtures("delays")
class NetworkFaults:
    """Connections that break, stall or are slow."""

    # Reading

    @pytest.mark.parametrize("after", WHEN_READ)
    @pytest.mark.parametrize("kind", BREAKS)
    async def test_a_broken_get_is_resumed(
        self, target: Target, bucket: str, network: FaultProxy, kind: str, after: int
    ) -> None:
        data = pattern(3 * MIB)
        async with target.opened() as direct:
            await direct.put(bucket, "key", data)
        async with target.opened(network, idle_timeout=_idle_timeout(kind)) as store:
            network.inject(_break(kind, "down", after))
            assert await store.read(bucket, "key") == data
            assert _busy(store) == 0
        assert [strike.kind for strike in network.strikes] == [kind]
        assert network.accepted == 2
        assert network.bytes_down < len(data) + 64 * 1024 + network.connections[0].bytes_down

    async def test_a_get_survives_a_break_on_each_of_its_connections(
        self, target: Target, bucket: str, network: FaultProxy
    ) -> None:
        data = pattern(2 * MIB)
        async with target.opened() as direct:
            info = await direct.put(bucket, "key", data)
        network.inject(ConnectionFault(reset_down_after=300_000), times=None)
        async with target.opened(network) as store:
            assert await store.read(bucket, "key", range=(100, 1_900_000)) == data[100:1_900_100]
        asked = [connection.transcript.decode().lower() for connection in network.connections]
        assert all(f"{target.range_header}: bytes=" in request for request in asked)
        assert all(target.held_to(info.etag).lower() in request for request in asked[1:])
        assert network.accepted == 7

    async def test_a_get_that_breaks_without_progress_is_given_up(
        self, target: Target, bucket: str, network: FaultProxy
    ) -> None:
        async with target.opened() as direct:
            await direct.put(bucket, "key", pattern(MIB))
        async with target.opened(network, attempts=2) as store:
            network.inject(ConnectionFault(reset_down_after=0), times=None)
            with pytest.raises(trove.UnavailableError) as caught:
                await store.read(bucket, "key")
            assert not caught.value.ambiguous
            assert network.accepted == 2
            assert _busy(store) == 0

    @pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "deleted"])
    async def test_a_changed_object_is_never_spliced(
        self, target: Target, bucket: str, network: FaultProxy, replaced: bool
    ) -> None:
        data = pattern(8 * MIB)
        async with target.opened() as direct, target.opened(network) as store:
            await direct.put(bucket, "key", data)
            # Otherwise the complete body could be in the buffers of the sockets before the connection breaks.
            network.inject(ConnectionFault(stall_down_after=MIB))
            reader = await store.get(bucket, "key")
            got = bytearray(await reader.read(100_000))
            if replaced:
                await direct.put(bucket, "key", bytes(8 * MIB))
            else:
                await direct.delete(bucket, "key")
            network.break_open("reset")
            with pytest.raises(trove.ObjectChangedError):
                await _collect(reader, got)
            assert data.startswith(got)
            assert reader.closed
            assert _busy(store) == 0

    async def test_a_server_that_resumes_with_the_complete_object(
        self, target: Target, bucket: str, service: AnsweringProxy
    ) -> None:
        data = pattern(400_000)
        service.answer(target.broken(data[:150_000], len(data), "1"), method="GET")
        service.answer(Answer(200, target.tells("1"), data), method="GET")
        async with target.opened(service) as store:
            assert await store.read(bucket, "key") == data
        assert service.count("GET") == 2

    @pytest.mark.parametrize("status", [200, 206])
    async def test_a_server_that_resumes_with_another_object(
        self, target: Target, bucket: str, service: AnsweringProxy, status: int
    ) -> None:
        data = pattern(400_000)
        more = {"Content-Range": "bytes 150000-399999/400000"} if status == 206 else {}
        rest = bytes(250_000) if status == 206 else bytes(400_000)
        service.answer(target.broken(data[:150_000], len(data), "1"), method="GET")
        service.answer(Answer(status, {**target.tells("2"), **more}, rest), method="GET")
        async with target.opened(service) as store:
            with pytest.raises(trove.ObjectChangedError):
                await store.read(bucket, "key")
            assert _busy(store) == 0

    async def test_a_server_that_resumes_at_another_position(
        self, target: Target, bucket: str, service: AnsweringProxy
    ) -> None:
        data = pattern(400_000)
        service.answer(target.broken(data[:150_000], len(data), "1"), method="GET")
        wrong = {**target.tells("1"), "Content-Range": "bytes 150001-399999/400000"}
        service.answer(Answer(206, wrong, data[150_001:]), method="GET")
        async with target.opened(service) as store:
            with pytest.raises(trove.BackendError, match="150000"):
                await store.read(bucket, "key")

    # Writing in one request

    @pytest.mark.parametrize("after", [0, 10, 5_000, 200_000])
    @pytest.mark.parametrize("kind", BREAKS)
    async def test_a_put_is_sent_again(
        self, target: Target, bucket: str, network: FaultProxy, kind: str, after: int
    ) -> None:
        data = pattern(300_000)
        network.inject(_break(kind, "up", after))
        async with target.opened(network, idle_timeout=_idle_timeout(kind), part_size=MIB) as store:
            info = await store.put(bucket, "key", data)
            assert _puts(network) == 2
            assert _busy(store) == 0
            assert (await store.head(bucket, "key")).etag == info.etag
            assert await store.read(bucket, "key") == data

    @pytest.mark.parametrize("kind", BREAKS)
    async def test_a_put_whose_answer_was_lost_is_not_sent_again(
        self, target: Target, bucket: str, network: FaultProxy, kind: str
    ) -> None:
        network.inject(_break(kind, "down", 0))
        async with target.opened(network, idle_timeout=_idle_timeout(kind)) as store:
            info = await store.put(bucket, "key", b"data")
            assert _puts(network) == 1
            assert (await store.head(bucket, "key")).etag == info.etag
            assert await store.read(bucket, "key") == b"data"

    @pytest.mark.parametrize("layers", [[], [trove.Retry(3)]], ids=["driver", "layer"])
    async def test_a_put_whose_answer_was_lost_makes_one_version(
        self, target: Target, bucket: str, network: FaultProxy, layers: list[trove.Layer]
    ) -> None:
        async with target.opened() as direct:
            if not direct.supports(VersioningDriver):
                pytest.skip("this store keeps no versions")
            await direct.set_versioning(bucket, True)
        network.inject(ConnectionFault(reset_down_after=0))
        async with target.opened(network, layers=layers) as store:
            info = await store.put(bucket, "key", b"data", metadata={"a": "b"}, tags={"c": "d"})
            assert [strike.kind for strike in network.strikes] == ["reset"]
            assert _puts(network) == 1
            [version] = await store.list_versions(bucket, "key")
            assert version.etag == info.etag
            await store.empty_bucket(bucket, versions=True)

    @pytest.mark.parametrize("layers", [[], [trove.Retry(3)]], ids=["driver", "layer"])
    async def test_a_put_that_failed_is_not_mistaken_for_an_object_with_other_tags(
        self, target: Target, bucket: str, service: AnsweringProxy, layers: list[trove.Layer]
    ) -> None:
        async with target.opened() as direct:
            await direct.put(bucket, "key", b"data", tags={"a": "old"})
        service.answer(Answer(500), method="PUT")
        async with target.opened(service, layers=layers) as store:
            await store.put(bucket, "key", b"data", tags={"a": "new"})
            assert service.count("PUT") == 2
            assert await store.get_tags(bucket, "key") == {"a": "new"}

    @pytest.mark.parametrize("layers", [[], [trove.Retry(3)]], ids=["driver", "layer"])
    async def test_a_put_that_another_writer_has_replaced_is_sent_again(
        self, target: Target, bucket: str, service: AnsweringProxy, layers: list[trove.Layer]
    ) -> None:
        """The object that is found is not that of the put: the last writer wins, which is the put."""
        async with target.opened() as direct:
            await direct.put(bucket, "key", b"else")
        service.answer(Answer(500), method="PUT")
        async with target.opened(service, layers=layers) as store:
            await store.put(bucket, "key", b"data")
            assert service.count("PUT") == 2
            assert await store.read(bucket, "key") == b"data"

    @pytest.mark.parametrize("layers", [[], [trove.Retry(3)]], ids=["driver", "layer"])
    async def test_a_put_that_cannot_be_settled_is_not_sent_again(
        self, target: Target, bucket: str, service: AnsweringProxy, layers: list[trove.Layer]
    ) -> None:
        service.answer(Answer(500), method="PUT", when="after")
        service.answer(Answer(403), method="GET", times=None)
        service.answer(Answer(403), method="HEAD", times=None)
        async with target.opened(service, layers=layers) as store:
            with pytest.raises(trove.TransientError, match="a look at it failed") as caught:
                await store.put(bucket, "key", b"data")
        assert (caught.value.ambiguous, caught.value.exhausted) == (True, True)
        assert service.count("PUT") == 1

    @pytest.mark.parametrize("layers", [[], [trove.Retry(3)]], ids=["driver", "layer"])
    async def test_a_copy_whose_answer_was_lost_is_made_once(
        self, target: Target, bucket: str, service: AnsweringProxy, layers: list[trove.Layer]
    ) -> None:
        async with target.opened() as direct:
            await direct.put(bucket, "key", b"data", metadata={"a": "b"}, tags={"c": "d"})
        service.answer(Answer(500), path="/copy", when="after")
        async with target.opened(service, layers=layers) as store:
            copied = await store.copy(bucket, "key", bucket, "copy")
            assert copied == await store.head(bucket, "copy")
            assert service.count("PUT") + service.count("POST") == 1

    @pytest.mark.parametrize("layers", [[], [trove.Retry(3)]], ids=["driver", "layer"])
    async def test_a_copy_of_unknown_outcome_that_is_not_there_is_ambiguous(
        self, target: Target, bucket: str, service: AnsweringProxy, layers: list[trove.Layer]
    ) -> None:
        async with target.opened() as direct:
            await direct.put(bucket, "key", b"data")
        service.answer(Answer(500), path="/copy")
        async with target.opened(service, layers=layers) as store:
            with pytest.raises(trove.TransientError) as caught:
                await store.copy(bucket, "key", bucket, "copy")
            assert caught.value.ambiguous
            assert service.count("PUT") + service.count("POST") == 1

    async def test_attempts_of_the_layer_and_of_the_driver_do_not_multiply(
        self, target: Target, bucket: str, service: AnsweringProxy
    ) -> None:
        service.answer(Answer(500), times=None)
        layers = [trove.Retry(3, budget=trove.Budget(math.inf))]
        async with target.opened(service, attempts=7, layers=layers) as store:
            for call in (store.head(bucket, "key"), store.list(bucket).all(), store.delete(bucket, "key")):
                before = service.count()
                with pytest.raises(trove.TransientError):
                    await call
                assert service.count() == before + 3

    async def test_the_driver_tries_again_what_the_layer_cannot_send_again(
        self, target: Target, bucket: str, service: AnsweringProxy
    ) -> None:
        service.answer(Answer(500), times=2)
        source = Once([b"one", b"two"])
        async with target.opened(service, attempts=1, layers=[trove.Retry(3)]) as store:
            await store.put(bucket, "key", source)
            assert source.pulled == [0, 1]
            assert await store.read(bucket, "key") == b"onetwo"

    async def test_the_answer_that_an_object_is_missing_pays_for_attempts(
        self, target: Target, bucket: str, service: AnsweringProxy
    ) -> None:
        layers = [trove.Retry(budget=trove.Budget(0, clock=lambda: 0.0))]
        async with target.opened(service, layers=layers) as store:
            for _ in range(5):
                assert not await store.exists(bucket, "key")
            service.answer(Answer(500))
            assert not await store.exists(bucket, "key")

    async def test_a_service_that_is_down_gets_few_attempts(
        self, target: Target, bucket: str, service: AnsweringProxy
    ) -> None:
        """The budget is that of the store: its reserve, and nothing that time refills, since no time passes."""
        service.answer(Answer(500), times=None)
        layers = [trove.Retry(budget=trove.Budget(clock=lambda: 0.0))]
        async with target.opened(service, layers=layers) as store:
            for _ in range(20):
                with pytest.raises(trove.TransientError):
                    await store.head(bucket, "key")
        assert service.count() == 20 + 3

    async def test_a_put_whose_every_answer_is_lost_is_ambiguous(
        self, target: Target, bucket: str, network: FaultProxy
    ) -> None:
        network.inject(ConnectionFault(cut_down_after=0), times=None)
        async with target.opened(network, attempts=3, retry_budget=4) as store:
            with pytest.raises(trove.UnavailableError, match="a look at it failed") as caught:
                await store.put(bucket, "key", b"data")
            assert caught.value.ambiguous
            assert network.accepted == 1 + 3  # the put, and the looks at the object, which are lost as well
            assert _busy(store) == 0
        async with target.opened() as direct:
            assert await direct.read(bucket, "key") == b"data"

    async def test_a_put_whose_answers_are_lost_is_settled_by_a_look_up(
        self, target: Target, bucket: str, network: FaultProxy
    ) -> None:
        network.inject(ConnectionFault(cut_down_after=0), times=3)
        async with target.opened(network, attempts=3) as store:
            info = await store.put(bucket, "key", b"data", content_type="text/plain", metadata={"a": "b"})
            assert (info.etag, info.size) == ((found := await store.head(bucket, "key")).etag, found.size)
            assert info.metadata == {"a": "b"}

    async def test_a_put_that_was_not_stored_is_not_mistaken_for_the_old_object(
        self, target: Target, bucket: str, network: FaultProxy
    ) -> None:
        async with target.opened() as direct:
            await direct.put(bucket, "key", b"data", metadata={"a": "old"})
        network.inject(ConnectionFault(cut_up_after=20), times=3)
        async with target.opened(network, attempts=3) as store:
            await store.put(bucket, "key", b"data", metadata={"a": "new"})
            assert (await store.head(bucket, "key")).metadata == {"a": "new"}

    async def test_a_put_that_reached_no_server_is_not_ambiguous(
        self, target: Target, bucket: str, network: FaultProxy
    ) -> None:
        async with target.opened(network, attempts=3) as store:
            with network.unreachable(), pytest.raises(trove.UnavailableError) as caught:
                await store.put(bucket, "key", b"data")
            assert not caught.value.ambiguous
            assert network.accepted == 0
            await store.put(bucket, "key", b"data")

    # Writing in parts

    @pytest.fixture
    def upload_settings(self) -> dict[str, Any]:
        """Return settings of a store that writes in parts."""
        return {}

    @pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
    async def test_an_upload_through_faults_reads_its_source_once(
        self, target: Target, bucket: str, network: FaultProxy, known: bool, upload_settings: dict[str, Any]
    ) -> None:
        data = pattern(10 * target.part_size + 77)
        chunks = [data[start : start + 50_000] for start in range(0, len(data), 50_000)]
        source = Once(chunks)
        network.script(_upload_faults(target.part_size))
        settings = {"idle_timeout": IDLE_TIMEOUT, "part_concurrency": 3, "retry_budget": 100, **upload_settings}
        async with target.opened(network, **settings) as store:
            info = await store.put(bucket, "key", source, size=len(data) if known else None)
            assert source.pulled == list(range(len(chunks)))
            assert info.size == len(data)
            assert _busy(store) == 0
            assert await store.read(bucket, "key") == data
        # A server that takes one request for each connection never reaches the other faults.
        assert {strike.kind for strike in network.strikes} >= {"reset", "stall"}

    async def test_a_put_cancelled_on_a_stalled_connection_leaves_no_upload(
        self, target: Target, bucket: str, network: FaultProxy, upload_settings: dict[str, Any]
    ) -> None:
        begun = asyncio.Event()

        async def source() -> AsyncIterator[bytes]:
            yield bytes(2 * target.part_size)
            network.inject_open(ConnectionFault(stall_up_after=0))
            network.inject(ConnectionFault(stall_up_after=0), times=None)
            begun.set()
            yield bytes(2 * target.part_size)

        async with target.opened() as direct, target.opened(network, **upload_settings) as store:
            await direct.put(bucket, "key", b"old")
            putting = asyncio.create_task(store.put(bucket, "key", source()))
            await begun.wait()
            await network.until(lambda proxy: any(strike.kind == "stall" for strike in proxy.strikes))
            network.clear()
            putting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await putting
            assert _busy(store) == 0
            assert await direct.list_multipart_uploads(bucket) == []
            assert await direct.read(bucket, "key") == b"old"

    # Timeouts

    async def test_a_slow_transfer_exceeds_no_timeout(self, target: Target, bucket: str, network: FaultProxy) -> None:
        """Timeouts apply to progress: a transfer that takes three times as long succeeds at the first attempt."""
        data = pattern(3 * MIB // 2)
        network.inject(ConnectionFault(rate=MIB / 2), times=None)
        async with target.opened(network, idle_timeout=1.0, attempts=1, part_concurrency=1) as store:
            await store.put(bucket, "key", data)
            assert await store.read(bucket, "key") == data

    async def test_a_stalled_answer_times_out(self, target: Target, bucket: str, network: FaultProxy) -> None:
        async with target.opened(network, idle_timeout=0.2, attempts=1) as store:
            network.inject(ConnectionFault(stall_down_after=0))
            with pytest.raises(trove.OperationTimeoutError) as reading:
                await store.head(bucket, "key")
            assert not reading.value.ambiguous
            network.inject(ConnectionFault(stall_down_after=0), times=2)  # the look-up stalls as well
            with pytest.raises(trove.OperationTimeoutError) as writing:
                await store.put(bucket, "key", b"data")
            assert writing.value.ambiguous
            network.inject(ConnectionFault(stall_up_after=20_000))
            with pytest.raises(trove.OperationTimeoutError):
                await store.put(bucket, "key", bytes(target.part_size))
            # The sockets may buffer all of it: then the object is looked up, on a fifth connection, which stays open.
            assert network.accepted <= 5
            await network.until(lambda proxy: proxy.open == proxy.accepted - 4)

    async def test_the_wait_for_a_connection_has_a_time_limit(self, target: Target, bucket: str) -> None:
        async with target.opened(connections=1, pool_timeout=0.1, attempts=1, part_size=8 * MIB) as store:
            await store.put(bucket, "key", bytes(4 * MIB))
            async with store.get(bucket, "key") as reader:
                await reader.read(1)
                with pytest.raises(trove.OperationTimeoutError) as caught:
                    await store.put(bucket, "other", b"data")
                assert not caught.value.ambiguous
                assert _busy(store) == 1
            await store.put(bucket, "other", b"data")
            assert await store.read(bucket, "other") == b"data"


@pytest.mark.asyncio
@pytest.mark.usefixtures("delays")
class CreateOnlyFaults:
    """Connections that break during a put that must not replace anything, if it is one request."""

    async def test_a_create_only_put_whose_answer_was_lost_is_ambiguous(
        self, target: Target, bucket: str, network: FaultProxy
    ) -> None:
        network.inject(ConnectionFault(reset_down_after=0))
        async with target.opened(network) as store:
            with pytest.raises(trove.ObjectAlreadyExistsError) as caught:
                await store.put(bucket, "key", b"data", if_none_match="*")
            assert caught.value.ambiguous
            assert await store.read(bucket, "key") == b"data"
            with pytest.raises(trove.ObjectAlreadyExistsError) as caught:
                await store.put(bucket, "key", b"other", if_none_match="*")
            assert not caught.value.ambiguous

    async def test_a_create_only_put_that_did_not_arrive_is_settled(
        self, target: Target, bucket: str, network: FaultProxy
    ) -> None:
        network.inject(ConnectionFault(reset_up_after=50))
        async with target.opened(network) as store:
            await store.put(bucket, "key", b"data", if_none_match="*")
            assert lines(network) == ["PUT", "PUT"]
            assert await store.read(bucket, "key") == b"data"
