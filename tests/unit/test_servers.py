"""The launchers of test servers: one server for all, no leftover servers, and no signal to a foreign process."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.servers import ServerError, control, install, running
from tests.servers.__main__ import main
from tests.servers.folder import REPOSITORY, ServerFolder, State, root
from tests.servers.install import Environment
from tests.servers.launch import Launch, accepts
from tests.servers.process import ProcessId

LOCKS = REPOSITORY / "tests" / "servers"

USER = """
import sys
from tests.servers import running
print(running("moto").endpoint, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerFolder]:
    """The folder of a moto used only by this test, installed where the others are."""
    installed = root() / "installed"
    monkeypatch.setenv("TROVE_SERVERS", str(tmp_path))
    (tmp_path / "installed").symlink_to(installed)
    yield ServerFolder("moto")
    control.down("moto")


class User:
    """Another process that uses moto until it is asked to end."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def endpoint(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def leave(self) -> None:
        self.process.communicate("")


@pytest.fixture
def users() -> Iterator[Callable[[], User]]:
    made: list[User] = []

    def make() -> User:
        made.append(User())
        return made[-1]

    yield make
    for user in made:
        if user.process.poll() is None:
            user.kill()


def reachable(endpoint: str) -> bool:
    port = urlsplit(endpoint).port
    assert port is not None
    return accepts(port)


def state_of(folder: ServerFolder) -> State:
    state = folder.read()
    assert state is not None
    return state


def wait_for(condition: Callable[[], bool]) -> bool:
    """Wait until another process has done something; return False after an excessive time."""
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def gone(state: State) -> bool:
    return not any(process.alive for process in (state.supervisor, *state.processes))


def test_a_server_that_is_up_serves_all_processes_until_down(folder: ServerFolder, users: Callable[[], User]) -> None:
    endpoint = control.up("moto").endpoint
    state = state_of(folder)

    user = users()
    assert user.endpoint() == endpoint
    user.leave()
    assert control.up("moto").endpoint == endpoint

    assert state_of(folder).supervisor == state.supervisor
    assert reachable(endpoint)
    assert control.down("moto")
    assert gone(state)
    assert not reachable(endpoint)
    assert not folder.run.exists()
    assert not control.down("moto")


def test_processes_that_start_concurrently_share_one_server(folder: ServerFolder, users: Callable[[], User]) -> None:
    both = [users(), users()]
    endpoints = {user.endpoint() for user in both}
    state = state_of(folder)

    assert len(endpoints) == 1
    both[0].leave()
    assert reachable(*endpoints)
    both[1].leave()
    assert wait_for(lambda: gone(state))
    assert wait_for(lambda: folder.read() is None)


def test_a_server_stops_when_its_only_user_is_killed(folder: ServerFolder, users: Callable[[], User]) -> None:
    user = users()
    endpoint = user.endpoint()
    state = state_of(folder)

    user.kill()

    assert wait_for(lambda: gone(state))
    assert not reachable(endpoint)


def test_a_server_without_users_ends_while_another_process_waits_to_use_it(
    folder: ServerFolder, users: Callable[[], User]
) -> None:
    user = users()
    user.endpoint()
    state = state_of(folder)

    with folder.locked():
        user.leave()
        time.sleep(0.6)  # for the supervisor to see that nobody is left, and the lock taken
        assert state.supervisor.alive
        state.supervisor.send(signal.SIGTERM)
        assert wait_for(lambda: gone(state))


def test_a_server_stops_when_its_folder_is_removed(folder: ServerFolder) -> None:
    control.up("moto")
    state = state_of(folder)

    shutil.rmtree(folder.path)

    assert wait_for(lambda: gone(state))


def test_running_gives_the_handle(folder: ServerFolder) -> None:
    first = running("moto")

    assert reachable(first.endpoint)
    assert running("moto") == first


def test_up_recovers_from_a_starter_that_was_killed(folder: ServerFolder) -> None:
    command = [sys.executable, "-m", "tests.servers", "up", "moto"]
    starter = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    assert wait_for(lambda: (state := folder.read()) is not None and bool(state.processes))
    before = state_of(folder)
    starter.kill()
    starter.wait()

    endpoint = control.up("moto").endpoint

    assert reachable(endpoint)
    after = state_of(folder)
    assert after.supervisor == before.supervisor or gone(before)
    control.down("moto")
    assert gone(before)
    assert gone(after)


def test_up_recovers_from_a_supervisor_that_was_killed(folder: ServerFolder) -> None:
    endpoint = control.up("moto").endpoint
    before = state_of(folder)

    before.supervisor.send(signal.SIGKILL)

    assert wait_for(lambda: gone(before))
    assert not reachable(endpoint)
    assert reachable(control.up("moto").endpoint)
    assert state_of(folder).supervisor != before.supervisor


def test_a_server_that_died_is_restarted_for_its_users_only(folder: ServerFolder, users: Callable[[], User]) -> None:
    control.up("moto")
    before = state_of(folder)
    before.processes[0].send(signal.SIGKILL)
    assert wait_for(lambda: gone(before))

    user = users()
    assert reachable(user.endpoint())
    after = state_of(folder)
    user.leave()

    assert wait_for(lambda: gone(after))


def test_a_start_that_fails_shows_the_log_and_leaves_nothing(
    folder: ServerFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "other" / "installed" / "moto" / "bin" / "moto_server"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho what went wrong\nexit 3\n", encoding="ascii")
    program.chmod(0o755)
    monkeypatch.setenv("TROVE_SERVERS", str(tmp_path / "other"))
    (program.parents[1] / ".installed").write_text(Environment("moto")._stamp(), encoding="ascii")

    with pytest.raises(ServerError, match=r"(?s)moto ended with exit code 3.*what went wrong"):
        control.up("moto")

    assert ServerFolder("moto").read() is None
    assert not ServerFolder("moto").kept.exists()


def test_waiting_for_a_server_is_bounded_and_shows_the_log(folder: ServerFolder) -> None:
    folder.prepare()
    launch = Launch(folder)
    try:
        spawned = launch.spawn("slow", ["sh", "-c", "echo still at it; exec sleep 60"])
        assert wait_for(lambda: spawned.log.stat().st_size > 0)
        with pytest.raises(ServerError, match=r"(?s)an answer did not come within 0 s.*still at it"):
            launch.wait(spawned, lambda: False, "an answer", seconds=0)
    finally:
        launch.stop(grace=5)
        folder.clear()
    assert not spawned.identity.alive


def test_chosen_ports_differ_and_are_usable(folder: ServerFolder) -> None:
    folder.prepare()
    launch = Launch(folder)
    try:
        ports = [launch.port() for _ in range(10)]
        assert len(set(ports)) == 10
        command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(ports[0])]
        launch.wait(launch.spawn("http", command), lambda: accepts(ports[0]), "its port")
    finally:
        launch.stop(grace=5)
        folder.clear()


def test_a_reused_process_id_is_never_signalled(folder: ServerFolder) -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        real = ProcessId.of(bystander.pid)
        recycled = ProcessId(real.pid, real.started - 1)
        folder.prepare()
        folder.write(State(supervisor=recycled, processes=(recycled,), handle={}))

        assert not control.down("moto")

        assert not recycled.alive
        assert real.alive
        real.send(signal.SIGTERM)
        assert bystander.wait(30) == -signal.SIGTERM


def test_the_error_for_a_missing_installation_says_how_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TROVE_SERVERS", str(tmp_path))

    with pytest.raises(ServerError, match=r"python -m tests\.servers install moto"):
        running("moto")


def test_a_folder_with_spaces_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROVE_SERVERS", str(tmp_path / "a b"))

    with pytest.raises(ServerError, match="TROVE_SERVERS"):
        running("moto")


def test_the_command_prints_how_to_reach_a_server(folder: ServerFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "moto"]) == 0
    lines = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())
    assert main(["up", "--json", "moto"]) == 0
    handle = json.loads(capsys.readouterr().out)["moto"]
    assert main(["status", "moto"]) == 0
    assert capsys.readouterr().out.startswith("moto: up, ")

    assert lines["MOTO_ENDPOINT"] == handle["endpoint"]
    assert reachable(handle["endpoint"])


def test_an_unknown_name_is_refused_before_any_action(folder: ServerFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "moto", "minio"]) == 1

    assert "ceph" in capsys.readouterr().err
    assert folder.read() is None


def test_software_that_is_no_server_is_only_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", "tus_clients"]) == 0
    assert main(["up", "tus_clients"]) == 1
    assert "tus_node" in capsys.readouterr().err


@pytest.mark.parametrize("file", sorted(LOCKS.glob("requirements-*.txt")), ids=lambda file: file.stem)
def test_requirements_are_pinned_and_name_no_registry(file: Path) -> None:
    for line in file.read_text(encoding="ascii").splitlines():
        assert re.fullmatch(r"[\w.-]+==[\w.]+", line)


@pytest.mark.parametrize("file", sorted(LOCKS.glob("npm/*/package-lock.json")), ids=lambda file: file.parent.name)
def test_npm_locks_have_checksums_and_name_no_registry(file: Path) -> None:
    packages = {name: one for name, one in json.loads(file.read_text(encoding="utf-8"))["packages"].items() if name}

    assert packages
    assert [name for name, one in packages.items() if "resolved" in one or "integrity" not in one] == []


def test_the_newest_version_of_a_program_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "_VERSIONED_PATHS", str(tmp_path))
    assert install.which("trove-no-such-program") is None
    for version in ("9", "15"):
        program = tmp_path / version / "bin" / "trove-no-such-program"
        program.parent.mkdir(parents=True)
        program.touch(mode=0o755)
    assert install.which("trove-no-such-program") == str(tmp_path / "15" / "bin" / "trove-no-such-program")
