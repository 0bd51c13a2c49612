"""The driver and failures of the network, with real servers."""

from __future__ import annotations

from functools import partial

import pytest

import trove_async as trove
from tests.network_faults import CreateOnlyFaults, NetworkFaults, Once, Target
from tests.portals import Portals
from tests.s3.stores import PART, ServerName, opened
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
    network.script([ConnectionFault(reset_down_after=0), ConnectionFault(reset_up_after=10)])
    async with opened(server, network.url()) as store:
        await store.put(bucket, "key", source)
        assert source.pulled == [0, 1]
        assert network.accepted == 3
        assert await store.read(bucket, "key") == b"onetwo"
