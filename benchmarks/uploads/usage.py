"""What a server uses, seen from outside: CPU time and memory of its processes, and how long another request waits."""

from __future__ import annotations

import http.client
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.servers.process import descendants

__all__ = ["Probe", "Usage"]

_EVERY: Final = 0.05
"""Seconds between two requests of a `Probe`."""


class Usage:
    """The use of a process and its children from now on.

    Args:
        pid: of the process.
    """

    def __init__(self, pid: int) -> None:
        self._pids = [pid, *(child.pid for child in descendants(pid))]
        for each in self._pids:
            Path(f"/proc/{each}/clear_refs").write_text("5")  # proc(5): resets the peak
        self._memory = sum(map(_peak, self._pids))
        self._cpu = sum(map(_cpu, self._pids))

    def cpu(self) -> float:
        """Return the seconds of CPU time, user and system, of all threads."""
        return sum(map(_cpu, self._pids)) - self._cpu

    def memory(self) -> int:
        """Return the bytes by which the processes have grown at their peaks."""
        return max(0, sum(map(_peak, self._pids)) - self._memory)


def _cpu(pid: int) -> float:
    # The CPU-time clock of another process (clock_getcpuclockid(3)), in nanoseconds; /proc counts ticks of 10 ms.
    return time.clock_gettime(~pid << 3 | 2)


def _peak(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


class Probe:
    """Requests that a server answers with 404, one after another; the longest wait is the longest stall of its loop.

    ::

        with Probe(port) as probe:
            ...
        probe.longest
    """

    def __init__(self, port: int) -> None:
        self.longest = 0.0
        self._port = port
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        with suppress(OSError, http.client.HTTPException):  # a server that ends is noticed elsewhere
            while not self._ended.wait(_EVERY):
                began = time.perf_counter()
                connection.request("GET", "/missing")
                connection.getresponse().read()
                self.longest = max(self.longest, time.perf_counter() - began)
        connection.close()
