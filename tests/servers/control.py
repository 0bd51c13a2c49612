"""Start, share and stop servers, from any process."""

import os
import signal
import subprocess
import sys
from typing import Any

from tests.servers.errors import ServerError
from tests.servers.folder import REPOSITORY, ServerFolder, State, root
from tests.servers.process import end, wait_until_gone
from tests.servers.registry import find
from tests.servers.server import Server

# Each wait of a recipe has its own time limit; this one is for a supervisor that hangs between them.
_START_SECONDS = 150.0

_shares: dict[str, int] = {}


def up(name: str) -> Any:
    """Start a server unless it runs, keep it until `down`, and return its handle."""
    server, folder = find(name), ServerFolder(name)
    with folder.locked() as lock:
        try:
            return _ensure(server, folder, lock, keep=True)
        except BaseException:
            folder.kept.unlink(missing_ok=True)
            raise


def use(name: str) -> Any:
    """Start a server unless it runs, keep it at least as long as this process lives, and return its handle."""
    server, folder = find(name), ServerFolder(name)
    with folder.locked() as lock:
        share = str(folder.path)
        if share not in _shares:
            _shares[share] = folder.share()
        return _ensure(server, folder, lock, keep=False)


def down(name: str) -> bool:
    """Stop a server even if it is in use. Returns whether there was one."""
    find(name)
    folder = ServerFolder(name)
    if not folder.path.exists():
        return False
    with folder.locked():
        state = folder.read()
        was_up = state is not None and state.supervisor.alive
        _stop(folder)
        return was_up


def status(name: str) -> str:
    """Return in one line whether a server runs, and for whom."""
    server, folder = find(name), ServerFolder(name)
    state = folder.read() if folder.path.exists() else None
    if state is not None and state.supervisor.alive:
        stays = "until `down`" if folder.kept.exists() else "as long as it is used"
        return f"{'up' if state.handle else 'starting'}, pid {state.supervisor.pid}, {stays}"
    missing = server.missing()
    return f"down, not installed (missing: {', '.join(missing)})" if missing else "down"


def _ensure(server: Server, folder: ServerFolder, lock: int, *, keep: bool) -> Any:
    state = folder.read()
    running = state is not None and state.handle is not None and state.supervisor.alive
    if not running:
        _stop(folder)
    if keep:
        folder.kept.touch()
    if state is None or not running:
        if missing := server.missing():
            raise ServerError(
                f"The test server {server.name} is not installed (missing: {', '.join(missing)}). "
                f"Run: python -m tests.servers install {server.name}"
            )
        state = _start(server, folder, lock)
    return server.handle(**(state.handle or {}))


def _start(server: Server, folder: ServerFolder, lock: int) -> State:
    try:
        result = subprocess.run(
            [sys.executable, "-m", "tests.servers.supervisor", server.name, str(lock)],
            cwd=REPOSITORY,
            env={**os.environ, "TROVE_SERVERS": str(root())},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=(lock,),
            timeout=_START_SECONDS,
            check=False,
        )
        failure = result.stderr.decode(errors="replace").strip()
    except subprocess.TimeoutExpired:
        failure = f"The server was not ready within {_START_SECONDS:.0f} s."
    state = folder.read()
    if failure or state is None or state.handle is None:
        _stop(folder)
        raise ServerError(f"The test server {server.name} did not start. Its logs are in {folder.log}.\n{failure}")
    return state


def _stop(folder: ServerFolder) -> None:
    state = folder.read()
    if state is not None:
        state.supervisor.send(signal.SIGTERM)
        if not wait_until_gone([state.supervisor], 15):
            end([state.supervisor], grace=0)
        # None is left unless the supervisor was killed, and then only briefly.
        end(state.processes, grace=1)
    folder.clear()
