"""The process that starts one server, stays its parent, and stops it.

Run as `python -m tests.servers.supervisor NAME LOCK`, where LOCK is the inherited descriptor of the server's lock. The
command goes into the background and returns when the server is ready; otherwise it prints the reason, with exit code 1.

It stops the server on SIGTERM, when one of the server's processes ends by itself, and when the server is neither kept
(`up`) nor used by a living process, also if its folder was removed. If it is killed, the server's processes end with
it.
"""

import os
import signal
import sys
from contextlib import suppress

from tests.servers.errors import BusyError, ServerError
from tests.servers.folder import ServerFolder
from tests.servers.launch import Launch, describe_end
from tests.servers.registry import find
from tests.servers.server import Server

_READY = "ready"
_LOOK_SECONDS = 0.25


def main(name: str, lock: int) -> int:
    """Start the server in the background, and return the exit code for the foreground."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        os.close(lock)
        with open(reading, encoding="utf-8", errors="replace") as report:
            outcome = report.read()
        if outcome != _READY:
            print(outcome or "The supervisor was killed.", file=sys.stderr)
        return int(outcome != _READY)
    os.close(reading)
    os.setsid()
    folder = ServerFolder(name)
    folder.prepare()
    _redirect_output(folder)
    _supervise(find(name), folder, lock, writing)
    return 0


def _redirect_output(folder: ServerFolder) -> None:
    with open(os.devnull, "rb") as nothing, (folder.log / "supervisor.log").open("ab") as log:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def _supervise(server: Server, folder: ServerFolder, lock: int, report: int) -> None:
    launch = Launch(folder)
    try:
        server.launch(launch)
    except BaseException as error:
        launch.stop(server.grace)
        folder.clear()
        os.write(report, (str(error) if isinstance(error, ServerError) else repr(error)).encode())
        raise
    # Before the report, so that its reader can take the lock.
    os.close(lock)
    os.write(report, _READY.encode())
    os.close(report)
    _watch(launch, server, folder)


def _watch(launch: Launch, server: Server, folder: ServerFolder) -> None:
    # Only now: the server's processes inherit the mask. Until here SIGTERM ends this process, and the others with it.
    signals = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    while True:
        received = signal.sigtimedwait(signals, _LOOK_SECONDS)
        if received is not None and received.si_signo != signal.SIGCHLD:
            break
        if spawned := launch.ended():
            print(describe_end(spawned), file=sys.stderr)
            break
        if not _wanted(folder) and _retire(launch, server, folder):
            return
    launch.stop(server.grace)
    folder.clear()


def _retire(launch: Launch, server: Server, folder: ServerFolder) -> bool:
    # Never wait for the lock: its holder may be waiting for this process to end.
    with suppress(BusyError), folder.locked(seconds=0):
        # A new user may have come before the lock was taken.
        if not _wanted(folder):
            launch.stop(server.grace)
            folder.clear()
            return True
    return False


def _wanted(folder: ServerFolder) -> bool:
    return folder.kept.exists() or not folder.unused()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
