"""The driver and failures of the network, with real servers."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest

import trove_async as trove
from tests.network_faults import CreateOnlyFaults, NetworkFaults, Once, Target
from tests.portals import Portals
from tests.s3.stores import PART, ServerName, opened, pattern
from trove_async.testing.answers import AnsweringProxy, s3_error
from trove_async.testing.proxy import ConnectionFault, FaultProxy

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]


@pytest.fixture
def target(server: ServerName) -> Target:
    return Target(open_store=partial(opened, server), part_size=PART)


class TestPortals(Portals):
    """The answer of a portal is not a success."""


class TestNetworkFaults(NetworkFaults):
    """The tests that all HTTP drivers share."""


@pytest.mark.parametrize("server", ["moto"])  # Ceph carries out a conditional put in two steps
class TestCreateOnlyFaults(CreateOnlyFaults):
    """The tests that all HTTP drivers share."""


async def test_a_create_only_put_that_reportedly_failed_is_ambiguous(
    server: ServerName, bucket: str, service: AnsweringProxy
) -> None:
    service.answer(s3_error(500, "InternalError"), method="PUT", when="after")
    async with opened(server, service.url()) as store:
        with pytest.raises(trove.ObjectAlreadyExistsError) as caught:
            await store.put(bucket, "key", b"data", if_none_match="*")
        assert caught.value.ambiguous
        assert service.count("PUT") == 2
        assert await store.read(bucket, "key") == b"data"


async def test_a_small_source_that_can_be_read_once_is_retried_from_memory(
    server: ServerName, bucket: str, network: FaultProxy
) -> None:
    source = Once([b"one", b"two"])
    network.script([ConnectionFault(reset_up_after=10), ConnectionFault(reset_up_after=10)])
    async with opened(server, network.url()) as store:
        await store.put(bucket, "key", source)
        assert source.pulled == [0, 1]
        assert [strike.kind for strike in network.strikes] == ["reset", "reset"]
        assert await store.read(bucket, "key") == b"onetwo"


async def test_an_upload_is_not_begun_anew_after_a_part_was_accepted(
    server: ServerName, bucket: str, service: AnsweringProxy
) -> None:
    service.answer(s3_error(500, "InternalError"), method="PUT", path="partNumber=3&", times=None)
    layers = [trove.Retry(3, budget=trove.Budget(math.inf))]
    async with opened(server, service.url(), attempts=7, layers=layers) as store:
        with pytest.raises(trove.TransientError) as caught:
            await store.put(bucket, "key", pattern(4 * PART))
        assert caught.value.exhausted
        assert (service.count("POST", "uploads"), service.count("PUT", "partNumber=3&")) == (1, 3)
        assert not await store.exists(bucket, "key")


async def test_the_sdk_does_not_try_again_by_itself(server: ServerName, bucket: str, service: AnsweringProxy) -> None:
    service.answer(s3_error(500, "InternalError"), path="tagging", times=None)
    layers = [trove.Retry(3, budget=trove.Budget(math.inf))]
    choices: list[dict[str, Any]] = [{"attempts": 7, "layers": layers}, {"attempts": 3}]
    for chosen in choices:
        before = service.count()
        async with opened(server, service.url(), **chosen) as store:
            with pytest.raises(trove.TransientError):
                await store.get_tags(bucket, "key")
        assert service.count() == before + 3


async def test_a_body_is_resumed_by_the_policy_of_the_layer(
    server: ServerName, bucket: str, network: FaultProxy
) -> None:
    data = pattern(1024 * 1024)
    async with opened(server) as direct:
        await direct.put(bucket, "key", data)
    network.inject(ConnectionFault(reset_down_after=0), times=None, skip=1)
    network.inject(ConnectionFault(reset_down_after=300_000))
    layers = [trove.Retry(3, budget=trove.Budget(math.inf))]
    async with opened(server, network.url(), attempts=7, layers=layers) as store:
        with pytest.raises(trove.UnavailableError) as caught:
            await store.read(bucket, "key")
        assert caught.value.exhausted
    assert network.accepted == 1 + 3  # one that broke, and the attempts at one that continues it
