"""The driver and failures of the network, with a server that lists what is left open."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.gcs.stores import PART, opened
from tests.network_faults import CreateOnlyFaults, NetworkFaults, Target
from tests.payload import pattern
from tests.portals import Portals
from trove_async.testing.gcs import GCSServer
from trove_async.testing.proxy import ConnectionFault, FaultProxy

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]

MIB = 1024 * 1024


@pytest.fixture
def target(server: GCSServer) -> Target:
    return Target(
        open_store=partial(opened, server),
        part_size=PART,
        held_to=lambda etag: f"?generation={etag} ",
        tells=lambda etag: {"x-goog-generation": etag},
    )


class TestPortals(Portals):
    """The answer of a portal is not a success."""


class TestNetworkFaults(NetworkFaults):
    """The tests that all HTTP drivers share."""

    @pytest.fixture(params=["parts", "resumable"])
    def upload_settings(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        """Return settings for each of the two ways to write in parts."""
        return {"uploads": request.param}


class TestCreateOnlyFaults(CreateOnlyFaults):
    """The tests that all HTTP drivers share."""


async def test_a_noncurrent_generation_is_read_to_its_end(server: GCSServer, bucket: str, network: FaultProxy) -> None:
    """If generations are kept, a read of a replaced object can be resumed."""
    data = pattern(8 * MIB)
    async with opened(server) as direct, opened(server, network.url()) as store:
        await direct.set_versioning(bucket, True)
        await direct.put(bucket, "key", data)
        network.inject(ConnectionFault(stall_down_after=MIB))
        async with store.get(bucket, "key") as reader:
            begun = await reader.read(100_000)
            await direct.put(bucket, "key", b"new")
            network.break_open("reset")
            assert begun + await reader.read() == data
