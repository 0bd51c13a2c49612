"""Processes identified by their id and start time, so that a reused id is never signalled."""

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessId:
    """A process of this machine: its id, and its start time in clock ticks since boot (proc(5), field 22)."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "ProcessId":
        """Return the process that has this id now. Raises `ProcessLookupError` if there is none."""
        status = _read_status(pid)
        if status is None:
            raise ProcessLookupError(pid)
        return cls(pid, status.started)

    @property
    def alive(self) -> bool:
        """Whether this process still runs. A zombie does not."""
        status = _read_status(self.pid)
        return status is not None and status.started == self.started and status.state not in "ZX"

    def send(self, number: signal.Signals) -> None:
        """Signal this process; do nothing if it is gone."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            # The descriptor is bound to one process: if it is checked after opening, the id cannot be reused meanwhile.
            if self.alive:
                signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return
        finally:
            os.close(descriptor)


@dataclass(frozen=True)
class _Status:
    state: str
    parent: int
    started: int


def _read_status(pid: int) -> _Status | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the command in parentheses, and may contain spaces and parentheses itself.
    fields = text.rpartition(")")[2].split()
    return _Status(state=fields[0], parent=int(fields[1]), started=int(fields[19]))


def descendants(pid: int) -> list[ProcessId]:
    """List the children of a process, their children, and so on."""
    children: dict[int, list[ProcessId]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (status := _read_status(int(entry.name))) is not None:
            children.setdefault(status.parent, []).append(ProcessId(int(entry.name), status.started))
    found: list[ProcessId] = []
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.append(child)
            waiting.append(child.pid)
    return found


def end(processes: Iterable[ProcessId], grace: float) -> None:
    """Ask processes to end (SIGTERM), and after `grace` seconds kill those that still run, with all descendants."""
    asked = list(processes)
    doomed = asked + [child for process in asked if process.alive for child in descendants(process.pid)]
    for process in asked:
        process.send(signal.SIGTERM)
    if wait_until_gone(doomed, grace):
        return
    for process in doomed:
        process.send(signal.SIGKILL)
    wait_until_gone(doomed, 5)


def wait_until_gone(processes: Iterable[ProcessId], seconds: float) -> bool:
    """Wait until none of the processes runs. Returns False if `seconds` have passed before."""
    remaining = list(processes)
    deadline = time.monotonic() + seconds
    while remaining := [process for process in remaining if process.alive]:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)
    return True
