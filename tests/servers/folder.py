"""The servers' files, and how processes agree on who starts, uses and stops them.

ROOT/installed/            what `install` fetched
ROOT/NAME/lock             held (flock) while the server is started or stopped
ROOT/NAME/users            held shared by each process that uses the server; the kernel releases it when that ends
ROOT/NAME/kept             exists while the server is to stay up without users (`up`)
ROOT/NAME/state.json       the supervisor, its processes, and the handle once the server is ready
ROOT/NAME/run, log         its data, which is removed when it stops, and its logs, which stay until the next start
"""

import dataclasses
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.errors import BusyError, ServerError
from tests.servers.process import ProcessId

REPOSITORY = Path(__file__).resolve().parents[2]

_LOCK_SECONDS = 180.0


def root() -> Path:
    """Return the folder of all servers: `TROVE_SERVERS`, or `build/servers` of the repository."""
    path = Path(os.environ.get("TROVE_SERVERS") or REPOSITORY / "build" / "servers").absolute()
    if any(character.isspace() for character in str(path)):
        raise ServerError(
            f"The configuration files of the servers cannot contain a folder with spaces: {path}. "
            "Set TROVE_SERVERS to a folder without."
        )
    return path


@dataclass(frozen=True)
class State:
    """The running processes. `handle` is None until the server is ready."""

    supervisor: ProcessId
    processes: tuple[ProcessId, ...] = ()
    handle: dict[str, Any] | None = None


class ServerFolder:
    """The folder of one server."""

    def __init__(self, name: str) -> None:
        self.path = root() / name
        self.run = self.path / "run"
        self.log = self.path / "log"
        self.kept = self.path / "kept"
        self._state = self.path / "state.json"

    @contextmanager
    def locked(self, seconds: float = _LOCK_SECONDS) -> Iterator[int]:
        """Hold the lock on starting and stopping; yields the descriptor, which a child process may inherit.

        Raises `BusyError` if another process does not release it within `seconds`.
        """
        descriptor = self._open("lock")
        try:
            deadline = time.monotonic() + seconds
            while not _try_lock(descriptor):
                if time.monotonic() >= deadline:
                    raise BusyError(f"Another process has held {self.path / 'lock'} for {seconds:.0f} s.")
                time.sleep(0.02)
            yield descriptor
        finally:
            # Closed and not unlocked: a supervisor that inherited the lock keeps it until its start has ended.
            os.close(descriptor)

    def share(self) -> int:
        """Count this process as a user until it closes the descriptor or ends."""
        descriptor = self._open("users")
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        return descriptor

    def unused(self) -> bool:
        """Whether no process uses the server."""
        descriptor = self._open("users")
        try:
            return _try_lock(descriptor)
        finally:
            os.close(descriptor)

    def read(self) -> State | None:
        """Return the state that was written last, or None."""
        try:
            data = json.loads(self._state.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return State(
            supervisor=ProcessId(**data["supervisor"]),
            processes=tuple(ProcessId(**process) for process in data["processes"]),
            handle=data["handle"],
        )

    def write(self, state: State) -> None:
        """Replace the state atomically."""
        temporary = self._state.with_suffix(".new")
        temporary.write_text(json.dumps(dataclasses.asdict(state), indent=1), encoding="utf-8")
        temporary.replace(self._state)

    def prepare(self) -> None:
        """Create empty folders for a start."""
        for folder in (self.run, self.log):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, mode=0o700)

    def clear(self) -> None:
        """Remove the state and the data; the logs stay."""
        # A server that is gone, because of a crash or a restart of the machine, is no longer kept.
        self.kept.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)
        shutil.rmtree(self.run, ignore_errors=True)

    def _open(self, name: str) -> int:
        self.path.mkdir(parents=True, exist_ok=True)
        return os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
