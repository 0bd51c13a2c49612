"""The benchmark of uploads with little work, and the correctness of its counts and its table."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.uploads.report import UploadResult, table
from benchmarks.uploads.rows import ROWS, content, digest, missing

ROOT = Path(__file__).parents[2]

OURS = "trove, uvicorn"
FEW = ({"50 x 8 MiB", "take-over"}, {OURS, "reads and writes, uvicorn"})
ALL = (
    set(ROWS),
    {OURS, "trove, aiohttp", "trove, granian", "trove, hypercorn", "trove, uvicorn, fsync", "reads, aiohttp"},
)


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("rows", "servers"), [FEW, pytest.param(*ALL, marks=pytest.mark.long)], ids=["few", "every-row"]
)
def test_it_measures_what_was_requested(rows: set[str], servers: set[str], tmp_path: Path) -> None:
    """Without the peers, which need not be installed."""
    output, directory = tmp_path / "output", tmp_path / "files"
    directory.mkdir()
    command = [sys.executable, "-m", "benchmarks.uploads", "--rows", ",".join(rows), "--servers", ";".join(servers)]
    command += ["--rounds", "1", "--scale", "0.02", "--directory", str(directory), "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=390, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    measured = json.loads((output / "uploads.json").read_text())["measurements"]
    assert {each["row"] for each in measured} == rows
    assert {each["server"] for each in measured} == servers
    for each in measured:
        (result,) = each["rounds"]
        assert result["failures"] == 0, done.stdout
        assert 0 < result["p50"] <= result["p99"]
        assert result["cpu"] > 0
    lines = (output / "uploads.md").read_text().splitlines()
    assert all(line in done.stdout for line in lines if line.startswith("|"))
    assert len([line for line in lines if line.startswith("|")]) == 2 + len(measured)
    assert list(directory.iterdir()) == []


def test_uploads_that_are_stored_otherwise_than_sent_are_counted() -> None:
    row = replace(ROWS["50 x 8 MiB"], uploads=3, size=1000)
    stored = Counter(digest(content(number, 1000)) for number in range(3))
    assert missing(row, stored) == 0
    stored[digest(content(0, 1000))] -= 1
    stored[digest(content(1, 1000))] += 1  # the bytes of another upload
    assert missing(row, stored) == 1
    assert missing(row, Counter()) == 3


def result(cpu: float, *, wait: float = 0.0, failures: int = 0) -> UploadResult:
    return UploadResult(cpu, 1024**3, 1.0, 0.001, 0.002, 3 * 1024**2, 50, wait, failures)


def test_table_shows_medians_ratios_of_rounds_the_longest_wait_and_every_failure() -> None:
    shown = table(
        {
            ("50 x 8 MiB", OURS): [result(0.5), result(0.4), result(7.0)],
            ("50 x 8 MiB", "tuspyserver, uvicorn"): [
                result(1.0, wait=0.5, failures=1),
                result(0.5, failures=2),
                result(14.0),
            ],
            ("50 x 8 MiB", "aiohttp-tus, aiohttp"): [result(2.0)],
            ("take-over", OURS): [replace(result(0.1), p50=None, p99=None)],
        }
    )
    ours, peer, other, failed = ([cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines()[2:])
    assert ours == ["50 x 8 MiB", OURS, "0.500", "", "1,074", "1.0", "2.0", "3.0", "61", "0", "0"]
    assert peer[1:4] == ["tuspyserver, uvicorn", "1.000", "0.50 x"]
    assert peer[-2:] == ["500", "3"]
    assert other[2:4] == ["2.000", ""]  # trove was not measured on this HTTP server
    assert failed[2:7] == ["", "", "1,074", "", ""]
