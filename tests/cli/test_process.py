"""Every command once in a separate process, and the suite that ``conformance`` runs."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.shell import PATIENCE, Shell, until
from trove_async.cli.conformance import conformance
from trove_async.cli.session import GlobalOptions, Session
from trove_async.errors import MissingDependencyError


def test_a_day_at_work(shell: Shell) -> None:
    """Each group of commands, one process after the other: each process sees the results of those before."""
    shell.write("dir/größe.txt", b"12345")
    shell.ok("mb", "b")
    shell.ok("put", "dir/größe.txt", "b/k", "--tag", "a=1")
    assert shell.ok("stat", "b/k", "--json").records[0]["size"] == 5
    assert shell.ok("cat", "b/k").out == b"12345"
    shell.ok("cp", "-r", "./dir", "b/d")
    shell.ok("mv", "b/d/größe.txt", "b/moved")
    assert shell.ok("ls", "b").lines == ["b/k", "b/moved"]
    assert shell.ok("tag", "ls", "b/k").lines == ["a=1"]
    shell.ok("versions", "on", "b")
    assert len(shell.ok("versions", "ls", "b/k").lines) == 1
    assert json.loads(shell.ok("lifecycle", "get", "b").out) == []
    url = shell.ok("presign", "get", "b/k", "--store", f"{shell.dsn}&presign_url=http://objects.test")
    assert url.text.startswith("http://objects.test/b/")
    assert shell.ok("ping").text.startswith(f"local://{shell.root}?fsync=0: ")
    shell.ok("rm", "-r", "-y", "b")
    assert shell.run("rb", "b").code == 4  # its versions still exist


def test_conformance_passes_and_leaves_nothing(shell: Shell, trove: Run) -> None:
    trove("mb", "mine")
    done = shell.run(
        "conformance", shell.dsn, "-k", "test_c01 or test_m18 or test_u11", "--stack", "plain", TROVE_DSN=None
    )
    assert done.code == 0, done.text
    assert "| tags | L |" in done.text
    assert trove("ls").lines == ["mine"]


def test_conformance_of_a_store_of_the_configuration(shell: Shell) -> None:
    shell.write("trove.toml", f'[stores.mine]\ndsn = "{shell.dsn}"\nlayers = ["Retry"]\n'.encode())
    done = shell.run("conformance", "mine", "-k", "test_c01 or test_m18", "--stack", "plain", "--json", TROVE_DSN=None)
    (seen,) = done.records
    assert (done.code, seen["checks"]) == (0, {"C1": "passed", "M18": "passed"})


def test_conformance_output_for_machines(shell: Shell) -> None:
    done = shell.run("conformance", "memory://", "-k", "test_p01 or test_m18", "--stack=plain", "--json")
    (seen,) = done.records
    assert (done.code, seen["driver"], seen["checks"]) == (0, "memory", {"M18": "passed", "P1": "passed"})
    assert "passed" in done.err


def test_running_no_check_is_not_conformance(shell: Shell) -> None:
    done = shell.run("conformance", "memory://", "-k", "test_of_nothing")
    assert done.code == 1
    assert done.err.endswith("trove: some checks failed, or no check was run; see above\n")


def test_an_interrupted_suite_removes_its_buckets(shell: Shell, trove: Run) -> None:
    with shell.start("conformance", shell.dsn, "--stack", "plain") as process:
        until(lambda: any(shell.root.glob("trove-conformance-*")), process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert trove("ls").lines == []


@pytest.mark.asyncio
async def test_without_its_packages_conformance_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        "trove_async.cli.conformance.find_spec", lambda name: None if name == "hypothesis" else object()
    )
    async with Session(GlobalOptions(store=f"local://{tmp_path}")) as session:
        with pytest.raises(MissingDependencyError, match=r"pip install 'trove-async\[testing\]'"):
            await conformance(session)
