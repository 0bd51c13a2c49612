"""The driver when the network fails, before a server that knows what is left open."""

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
    """What a portal answers is no success."""


class TestNetworkFaults(NetworkFaults):
    """Those of all drivers over HTTP."""

    @pytest.fixture(params=["parts", "resumable"])
    def upload_settings(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        """Return settings for either way to write in parts."""
        return {"uploads": request.param}


class TestCreateOnlyFaults(CreateOnlyFaults):
    """Those of all drivers over HTTP."""


async def test_a_noncurrent_generation_is_read_to_its_end(server: GCSServer, bucket: str, network: FaultProxy) -> None:
    """Where generations are kept, what was being read can be read on."""
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
