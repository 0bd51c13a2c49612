"""Start, share and stop servers, from any process."""

import os
import signal
import subprocess
import sys
from typing import Any

from tests.servers.errors import ServerError
from tests.servers.place import REPOSITORY, Place, State, root
from tests.servers.process import end, wait_until_gone
from tests.servers.registry import find
from tests.servers.server import Server

# Every wait of a recipe has its own bound; this is for a supervisor that hangs between them.
_START_SECONDS = 150.0

_shares: dict[str, int] = {}


def up(name: str) -> Any:
    """Start a server unless it runs, have it stay until `down`, and return its handle."""
    server, place = find(name), Place(name)
    with place.locked() as lock:
        try:
            return _ensure(server, place, lock, keep=True)
        except BaseException:
            place.kept.unlink(missing_ok=True)
            raise


def use(name: str) -> Any:
    """Start a server unless it runs, have it stay at least as long as this process, and return its handle."""
    server, place = find(name), Place(name)
    with place.locked() as lock:
        share = str(place.folder)
        if share not in _shares:
            _shares[share] = place.share()
        return _ensure(server, place, lock, keep=False)


def down(name: str) -> bool:
    """Stop a server, whoever uses it. Returns whether there was one."""
    find(name)
    place = Place(name)
    if not place.folder.exists():
        return False
    with place.locked():
        state = place.read()
        was_up = state is not None and state.supervisor.alive
        _stop(place)
        return was_up


def status(name: str) -> str:
    """Say in one line whether a server runs, and for whom."""
    server, place = find(name), Place(name)
    state = place.read() if place.folder.exists() else None
    if state is not None and state.supervisor.alive:
        stays = "until `down`" if place.kept.exists() else "as long as it is used"
        return f"{'up' if state.handle else 'starting'}, pid {state.supervisor.pid}, {stays}"
    missing = server.missing()
    return f"down, not installed (missing: {', '.join(missing)})" if missing else "down"


def _ensure(server: Server, place: Place, lock: int, *, keep: bool) -> Any:
    state = place.read()
    running = state is not None and state.handle is not None and state.supervisor.alive
    if not running:
        _stop(place)
    if keep:
        place.kept.touch()
    if state is None or not running:
        if missing := server.missing():
            raise ServerError(
                f"The test server {server.name} is not installed (missing: {', '.join(missing)}). "
                f"Run: python -m tests.servers install {server.name}"
            )
        state = _start(server, place, lock)
    return server.handle(**(state.handle or {}))


def _start(server: Server, place: Place, lock: int) -> State:
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
        failure = f"It was not ready within {_START_SECONDS:.0f} s."
    state = place.read()
    if failure or state is None or state.handle is None:
        _stop(place)
        raise ServerError(f"The test server {server.name} did not start. Its logs are in {place.log}.\n{failure}")
    return state


def _stop(place: Place) -> None:
    state = place.read()
    if state is not None:
        state.supervisor.send(signal.SIGTERM)
        if not wait_until_gone([state.supervisor], 15):
            end([state.supervisor], grace=0)
        # None is left unless the supervisor was killed, and then not for long.
        end(state.processes, grace=1)
    place.clear()
