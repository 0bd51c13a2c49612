"""Measure time, CPU, memory, and stalls of the event loop."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

__all__ = ["Meter", "Result"]

_TICK: Final = 0.005
"""Seconds between two checks of the event loop. Each costs about 40 µs on an idle loop: with a check every millisecond
that was a third of the cost of an operation on a server.
"""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one run of a workload.

    Attributes:
        operations_per_second: for a listing, objects per second.
        bytes_per_second: of objects; 0 for a listing.
        p50, p99: seconds per operation.
        cpu: seconds of all threads, user and system, for each operation.
        memory: bytes by which the process has grown at its peak.
        stall: the longest time in seconds for which the event loop was blocked.
        failures: the number of operations that raised or returned a wrong result.
    """

    operations_per_second: float
    bytes_per_second: float
    p50: float
    p99: float
    cpu: float
    memory: int
    stall: float
    failures: int


class Meter:
    """Measures the operations inside ``async with``."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._failures = 0
        self._stall = 0.0
        self._last_tick = 0.0
        self._began = self._ended = 0.0
        self._cpu = 0.0
        self._memory = 0
        self._ticker: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        _reset_peak()
        self._memory = _peak()
        self._tick()
        self._cpu = time.process_time()
        self._began = time.perf_counter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended = time.perf_counter()
        self._note_stall()  # the ticker may not have run at all
        self._cpu = time.process_time() - self._cpu
        self._memory = max(0, _peak() - self._memory)
        assert self._ticker is not None
        self._ticker.cancel()

    def _tick(self) -> None:
        if self._last_tick:
            self._note_stall()
        self._last_tick = time.perf_counter()
        self._ticker = asyncio.get_running_loop().call_later(_TICK, self._tick)

    def _note_stall(self) -> None:
        self._stall = max(self._stall, time.perf_counter() - self._last_tick - _TICK)

    async def time(self, operation: Callable[[], Awaitable[Any]]) -> None:
        """Run an operation; a failure is counted and not raised."""
        began = time.perf_counter()
        try:
            await operation()
        except Exception as error:  # noqa: BLE001 - any exception of a client counts as a failure
            self._failures += 1
            if self._failures == 1:
                print(f"  failed: {type(error).__name__}: {error}")
        self._times.append(time.perf_counter() - began)

    def result(self, operations: int, size: int) -> Result:
        """Return the result."""
        elapsed = self._ended - self._began
        times = sorted(self._times)
        return Result(
            operations_per_second=operations / elapsed,
            bytes_per_second=size / elapsed,
            p50=times[len(times) // 2],
            p99=times[min(len(times) - 1, len(times) * 99 // 100)],
            cpu=self._cpu / operations,
            memory=self._memory,
            stall=self._stall,
            failures=self._failures,
        )


def _peak() -> int:
    """Return the peak of the process's resident memory, in bytes."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _reset_peak() -> None:
    """Reset the peak, if the system supports it (Linux, proc(5): clear_refs)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
