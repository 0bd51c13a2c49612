"""The examples work, each in a separate process, as a reader would run them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run_python(*arguments: str, cwd: Path = ROOT) -> str:
    """Run Python with warnings as errors and return what it prints; fail if the process fails."""
    command = [sys.executable, "-W", "error", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def test_quickstart() -> None:
    memory, local = run_python("-m", "examples.quickstart").removeprefix("-- memory\n").split("-- local\n")
    assert memory == local
    assert "refused: someone else was faster" in memory


def test_backup_script(tmp_path: Path) -> None:
    folder, dsn = tmp_path / "folder", f"local://{tmp_path}/store?create=1"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "one.txt").write_text("1")
    (folder / "two.txt").write_text("22")
    arguments = ("-m", "examples.backup_script", str(folder), dsn, "backup")
    assert run_python(*arguments) == "stored a/one.txt 1\nstored two.txt 2\n2 files were stored\n"
    (folder / "two.txt").write_text("333")
    assert run_python(*arguments) == "stored two.txt 3\n1 files were stored\n"


def test_demo() -> None:
    printed = run_python("-m", "examples.demo", "--files", "200", "--stream-mib", "4")
    assert re.search(r"^  200 files, ", printed, re.MULTILINE)
    assert "the SHA-256 digests agree" in printed
    assert "object.created: 'from/another/process.txt', 5 bytes" in printed
    assert "with a Range header 206" in printed
    assert printed.count("of 100 create-only writers of one key one has won") == 2
    assert "left out" not in printed
    assert printed.splitlines()[-1].startswith("All of it was as it should be")


def test_demo_runs_from_any_directory(tmp_path: Path) -> None:
    demo = str(ROOT / "examples" / "demo.py")
    printed = run_python(demo, "--files", "10", "--stream-mib", "1", cwd=tmp_path)
    assert "All of it was as it should be" in printed
    assert [*tmp_path.iterdir()] == []


# They take half of the time; they are about cancellation at every point, memory, and thousands of objects.
HEAVY = "test_x04 or test_x10 or test_u13 or test_t14 or test_t19 or test_t20"


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "chosen", [f"not ({HEAVY})", pytest.param("test", marks=pytest.mark.long)], ids=["most", "all"]
)
def test_the_custom_driver_passes_the_conformance_suite(chosen: str) -> None:
    """With the documented command, without layers; in a separate process, since the table has no column for it."""
    harness = "--trove-driver=examples.custom_driver:harness"
    printed = run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", harness, "--trove-stack=plain", "-k", chosen)
    assert re.search(r"^\d{3} passed, \d+ skipped(, \d+ deselected)? in ", printed, re.MULTILINE)
    for cell in ("range | N", "conditional put | N", "multipart | –"):
        assert f"| {cell} |" in printed


def test_observability() -> None:
    printed = run_python("-m", "examples.observability")
    records = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert [(record["trove.operation.name"], record["level"]) for record in records] == [
        ("create_bucket", "INFO"),
        ("put", "INFO"),
        ("get", "INFO"),
        ("head", "WARNING"),
    ]
    assert [line.split()[1:3] for line in printed.splitlines() if line.startswith("span ")] == [
        ["create_bucket", "UNSET"],
        ["put", "UNSET"],
        ["get", "UNSET"],
        ["head", "ERROR"],
    ]
    assert printed.count("metric trove.client.operation.duration 1 ") == 4
    assert 'trove_bytes_total{bucket="",direction="sent",driver="memory",operation="put"} 18.0' in printed
