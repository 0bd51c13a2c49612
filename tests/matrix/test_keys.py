"""Drivers whose keys have no rules of a service accept any key."""

from __future__ import annotations

import pytest

from tests.drivers.local_harness import harness as local
from tests.drivers.memory_harness import harness as memory
from tests.sftp.harness import openssh as sftp
from trove_async.testing.conformance import Harness
from trove_async.testing.conformance.keys import CONTROL_KEYS, KEYS, LITERAL_PATHS


@pytest.mark.parametrize("harness", [memory, local, sftp], ids=["memory", "local", "sftp"])
@pytest.mark.asyncio
async def test_no_key_is_refused(harness: Harness) -> None:
    driver = await harness.driver()
    try:
        for key in [*CONTROL_KEYS, *LITERAL_PATHS, *(key for keys in KEYS.values() for key in keys)]:
            driver.check_key(key)
    finally:
        await driver.close()
