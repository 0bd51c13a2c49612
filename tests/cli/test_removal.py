"""``rm``."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Run
from tests.cli.shell import Shell

KEYS = ["a", "a.txt", "a/b", "a/c/d", "ab"]


@pytest.fixture
def filled(shell: Shell, trove: Run) -> Run:
    shell.write("f", b"")
    trove("mb", "b")
    for key in KEYS:
        assert trove("put", "f", f"b/{key}").code == 0
    return trove


def left(trove: Run) -> list[str]:
    return [line.removeprefix("b/") for line in trove("ls", "-r", "b").lines]


@pytest.mark.parametrize(
    ("arguments", "remaining"),
    [
        (["b/a"], ["a.txt", "a/b", "a/c/d", "ab"]),
        (["b/a", "b/ab"], ["a.txt", "a/b", "a/c/d"]),
        (["-r", "--yes", "b/a"], ["a.txt", "ab"]),
        (["-r", "--yes", "b/a/"], ["a", "a.txt", "ab"]),
        (["-r", "--yes", "b"], []),
        (["--yes", "b/a*"], ["a/b", "a/c/d"]),
        (["--yes", "b/a/**"], ["a", "a.txt", "ab"]),
        (["-r", "--yes", "b/a/?"], ["a", "a.txt", "ab"]),
    ],
)
def test_removal(filled: Run, arguments: list[str], remaining: list[str]) -> None:
    assert filled("rm", *arguments).code == 0
    assert left(filled) == remaining


@pytest.mark.parametrize("arguments", [["-r", "b/a"], ["b/a*"], ["b/a", "b/**"]])
def test_nothing_is_removed_without_confirmation(shell: Shell, filled: Run, arguments: list[str]) -> None:
    done = shell.run("rm", *arguments, stdin=b"y\n")  # an answer counts only if it comes from a terminal
    assert (done.code, done.out) == (2, b"")
    assert "add --yes" in done.err
    assert left(filled) == KEYS


def test_missing_objects(filled: Run) -> None:
    assert filled("rm", "b/missing", "b/ab").code == 3
    assert left(filled) == ["a", "a.txt", "a/b", "a/c/d"]
    assert filled("rm", "-r", "--yes", "b/missing").code == 3
    assert filled("rm", "--yes", "b/x*").code == 3
    assert filled("rm", "--force", "b/missing").code == 0
    assert filled("rm", "--force", "no-bucket/missing").code == 3
    assert filled("rm", "-rf", "--yes", "b/missing", "b/x*").code == 0
    assert filled("rm", "b").code == 2
    assert filled("rm", "--yes", "-r", "nobucket").code == 3


def test_a_dry_run_only_reports(filled: Run) -> None:
    shown = filled("rm", "-r", "-n", "b/a/")
    assert shown.lines == ["would remove: b/a/b", "would remove: b/a/c/d"]
    assert left(filled) == KEYS


def test_output_for_machines(filled: Run) -> None:
    assert filled("rm", "-r", "--yes", "--json", "b/a/").records == [
        {"type": "removal", "name": "b/a/b", "outcome": "removed"},
        {"type": "removal", "name": "b/a/c/d", "outcome": "removed"},
    ]


@pytest.fixture
def versioned(filled: Run) -> Run:
    """Hold two versions and a delete marker of each key; no key has an object."""
    filled("versions", "on", "b")
    for key in KEYS:
        assert filled("put", "f", f"b/{key}").code == 0
    assert filled("rm", "-r", "--yes", "b").code == 0
    assert left(filled) == []
    return filled


@pytest.mark.parametrize(
    ("arguments", "remaining"),
    [
        (["b/a"], ["a.txt", "a/b", "a/c/d", "ab"]),
        (["-r", "b/a"], ["a.txt", "ab"]),
        (["-r", "b/a/"], ["a", "a.txt", "ab"]),
        (["-r", "b"], []),
        (["b/a*"], ["a/b", "a/c/d"]),
        (["-r", "b/a/?"], ["a", "a.txt", "ab"]),
    ],
)
def test_versions_are_removed(versioned: Run, arguments: list[str], remaining: list[str]) -> None:
    done = versioned("rm", "--versions", "--yes", "--json", *arguments)
    assert done.code == 0
    assert all(record["version_id"] for record in done.records)
    assert len(done.records) == 3 * (len(KEYS) - len(remaining))
    keys = {record["key"] for record in versioned("versions", "ls", "b", "--json").records}
    assert keys == set(remaining)


def test_a_bucket_of_deleted_objects_is_found_and_emptied(versioned: Run) -> None:
    assert versioned("rb", "b").code == 4
    assert versioned("rm", "--versions", "b/a").code == 2  # there is no terminal to ask at
    assert "version" in versioned("rm", "--versions", "--dry-run", "b/a").lines[0]
    assert len(versioned("versions", "ls", "b").lines) == 3 * len(KEYS)
    assert len(versioned("versions", "ls", "b/a/").lines) == 3 * 2
    assert versioned("rm", "-r", "--versions", "--yes", "b").code == 0
    assert versioned("versions", "ls", "b").lines == []
    assert versioned("rb", "b").code == 0


def test_force_does_not_ask(filled: Run) -> None:
    assert filled("rm", "-rf", "b/a/", "b/missing").code == 0
    assert left(filled) == ["a", "a.txt", "ab"]
