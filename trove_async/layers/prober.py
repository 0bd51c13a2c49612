"""Testing a backend out of band, while its circuit is open."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from trove_async.errors import OperationTimeoutError
from trove_async.layers.circuit import Circuit
from trove_async.layers.verdict import verdict_on

__all__ = ["probe_while_open"]

Test = Callable[[], Awaitable[object]]


async def probe_while_open(circuit: Circuit, test: Test, changed: asyncio.Event, patience: float) -> None:
    """Test the backend whenever the circuit has been open for its time; goes on until it is cancelled.

    Args:
        circuit: meanwhile lets no call be the probe.
        test: raises if the backend does not work.
        changed: is set after each change of the circuit's state.
        patience: seconds after which a test has failed.
    """
    circuit.probers += 1
    try:
        while True:
            changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), circuit.until_probe)
            if (ticket := circuit.begin_probe()) is not None:
                await _probe(circuit, ticket, test, patience)
    finally:
        circuit.probers -= 1


async def _probe(circuit: Circuit, ticket: int, test: Test, patience: float) -> None:
    limit = asyncio.timeout(patience)
    try:
        async with limit:
            await test()
    except Exception as error:  # noqa: BLE001 - the user's test may raise anything
        failure: Exception = error
        if limit.expired():
            failure = OperationTimeoutError(f"the probe did not end within {patience:g} s")
        if verdict_on(failure) == "works":
            circuit.succeeded(ticket)
        else:
            circuit.failed(ticket, failure)
    except BaseException:
        circuit.dropped(ticket)
        raise
    else:
        circuit.succeeded(ticket)
