"""The benchmark's command with little work, and the correctness of its counts and tables."""

from __future__ import annotations

import asyncio
import json
import math
import re
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

import trove_async
from benchmarks.client import Client, Target
from benchmarks.measure import Result
from benchmarks.registry import has_client, workloads_on
from benchmarks.report import table
from benchmarks.s3_clients import AiohttpClient
from benchmarks.targets import targets
from benchmarks.workloads import WORKLOADS, Workload, run_workload

ROOT = Path(__file__).parents[2]
ROUNDS = 2


@dataclass(frozen=True)
class Wanted:
    """What a run shall measure.

    Attributes:
        only: names of workloads, and kinds of which there is one workload each.
        clients: backend to its clients. The peers of the extra `bench` need not be installed; these are.
    """

    only: Sequence[str]
    clients: Mapping[str, Sequence[str]]

    @property
    def peers(self) -> set[str]:
        return {client for clients in self.clients.values() for client in clients} - {"trove"}


FEW = Wanted(("put 4 KiB",), {"local": ("trove", "aiofiles"), "s3-ceph": ("trove", "aiohttp")})
EACH_KIND = Wanted(
    ("put 4 KiB", "get stream", "list", "list deep", "get 4 KiB", "put stream", "put churn 4 KiB"),
    # aiofiles has no memory backend.
    {"memory": ("trove",), "local": ("trove", "aiofiles"), "s3-ceph": ("trove", "aiobotocore", "aiohttp")},
)


@dataclass(frozen=True)
class Run:
    printed: str
    output: Path
    left: list[Path]

    @property
    def written(self) -> dict[str, Any]:
        written: dict[str, Any] = json.loads((self.output / "results.json").read_text())
        return written


def run(folder: Path, wanted: Wanted) -> Run:
    """Run it as docs/benchmark.md says, with a hundredth of the work."""
    directory, output = folder / "files", folder / "benchmark" / "new"
    directory.mkdir()
    command = [sys.executable, "-m", "benchmarks", "--backend", ",".join(wanted.clients)]
    command += [
        "--vs",
        ",".join(sorted(wanted.peers)),
        "--only",
        ",".join(wanted.only),
        "--rounds",
        str(ROUNDS),
        "--scale",
        "0.01",
    ]
    command += ["--directory", str(directory), "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return Run(done.stdout, output, [*directory.iterdir()])


def expected(wanted: Wanted) -> set[tuple[str, str, str]]:
    """Return the expected measurements, by backend, workload and client."""
    names = [name for name, workload in WORKLOADS.items() if name in wanted.only or workload.kind in wanted.only]
    return {
        (backend, name, client)
        for backend, clients in wanted.clients.items()
        for name in names
        for client in clients
        if name in workloads_on(backend) and has_client(client, backend, fsync=False, deep=WORKLOADS[name].deep)
    }


@pytest.mark.timeout(1300)
@pytest.mark.parametrize("wanted", [FEW, pytest.param(EACH_KIND, marks=pytest.mark.long)], ids=["few", "each-kind"])
def test_it_measures_what_was_requested(tmp_path: Path, wanted: Wanted) -> None:
    """One test, because it starts dozens of processes."""
    done = run(tmp_path, wanted)
    check_json(done, wanted)
    check_conditions_in_json(done, wanted)
    check_table(done, wanted)
    check_picture(done)
    check_only_results_are_left(done)


def check_json(run: Run, wanted: Wanted) -> None:
    rows = run.written["measurements"]
    assert sorted((row["backend"], row["workload"], row["client"]) for row in rows) == sorted(expected(wanted))
    for row in rows:
        assert len(row["rounds"]) == ROUNDS, row
        for found in row["rounds"]:
            assert found.keys() == {field.name for field in fields(Result)}
            assert found["failures"] == 0, row
            assert 0 < found["p50"] <= found["p99"], row
            assert 0 < found["operations_per_second"] < math.inf, row


def check_conditions_in_json(run: Run, wanted: Wanted) -> None:
    conditions = run.written["conditions"]
    assert (conditions["rounds"], conditions["fsync"], conditions["scale"]) == (ROUNDS, False, 0.01)
    assert conditions["versions"].keys() == {"trove", *wanted.peers}


def check_table(run: Run, wanted: Wanted) -> None:
    text = (run.output / "results.md").read_text()
    shown = set()
    for section in text.split("\n## ")[1:]:
        backend, _, rows = section.partition("\n")
        for row in rows.strip().splitlines()[2:]:
            workload, client, *_, failures, _ratio = (cell.strip() for cell in row.strip("|").split("|"))
            assert failures == "0", row
            shown.add((backend, workload, client))
    assert shown == expected(wanted)
    assert "\n- scale: 0.01\n" in text
    assert all(line in run.printed for line in text.splitlines() if line.startswith("|"))


def check_picture(run: Run) -> None:
    data = (run.output / "results.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    assert min(width, height) > 100


def check_only_results_are_left(run: Run) -> None:
    assert run.left == []
    assert {path.name for path in run.output.iterdir()} == {"results.md", "results.json", "results.png"}


@pytest.mark.asyncio
async def test_buckets_hold_the_objects_to_read_and_are_removed() -> None:
    workload = Workload("get", "get", 100, 3)

    def use() -> Target:
        with targets("s3-ceph", workload, fsync=False, directory=None) as target_for, target_for("one") as target:
            assert asyncio.run(_listed(target)) == [(key, 100) for key in workload.keys]
            return target

    target = await asyncio.to_thread(use)
    bucket = target.bucket
    assert bucket is not None
    dsn = f"s3://{bucket.access_key}:{bucket.secret_key}@{bucket.region}/"
    async with trove_async.open(dsn, endpoint=bucket.endpoint) as store:
        with pytest.raises(trove_async.BucketNotFoundError):
            await store.list(bucket.name).all()


async def _listed(target: Target) -> list[tuple[str, int]]:
    client = AiohttpClient(target)
    await client.open()
    try:
        return [entry async for entry in client.entries()]
    finally:
        await client.close()


class FaultyClient(Client):
    """Gives wrong results: too few bytes, too few objects; one of three puts is refused."""

    puts = 0

    async def put(self, key: str, data: bytes) -> None:
        self.puts += 1
        if self.puts % 3 == 0:
            raise OSError("refused")

    async def get(self, key: str) -> bytes:
        return b"short"

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        pass

    async def get_stream(self, key: str) -> int:
        return 5

    async def list(self) -> int:
        return 5


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("kind", "operations", "failures"), [("put", 9, 3), ("get", 9, 9), ("get stream", 1, 1), ("list", 9, 1)]
)
async def test_counts_failures_and_wrong_answers(kind: str, operations: int, failures: int, tmp_path: Path) -> None:
    client = FaultyClient(Target("local", tmp_path))
    result = await run_workload(client, Workload("faulty", kind, 100, operations))
    assert result.failures == failures


@pytest.mark.asyncio
async def test_files_are_removed_immediately_before_the_puts_of_churn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[str] = []
    left_at_first_put: list[str] = []
    unlink = Path.unlink

    def noted(path: Path, missing_ok: bool = False) -> None:
        assert path.stat().st_size == 4096
        removed.append(path.name)
        unlink(path, missing_ok)

    class OneFolder(FaultyClient):
        async def put(self, key: str, data: bytes) -> None:
            assert len(removed) == 50
            left_at_first_put.extend(path.name for path in tmp_path.rglob("*"))

    monkeypatch.setattr(Path, "unlink", noted)
    result = await run_workload(
        OneFolder(Target("local", tmp_path)), Workload("churn", "put churn", 10, 20, removed=500).scaled(0.1)
    )
    assert (len(set(removed)), left_at_first_put, result.failures) == (50, [], 0)


def result(operations_per_second: float, *, stall: float = 0.0, failures: int = 0) -> Result:
    return Result(operations_per_second, 0.0, 0.001, 0.002, 0.0001, 0, stall, failures)


def test_table_shows_medians_the_worst_stall_every_failure_and_the_ratio() -> None:
    shown = table(
        {
            ("local", "put", "trove"): [result(300), result(100), result(200)],
            ("local", "put", "peer"): [result(100, stall=0.5, failures=1), result(100, failures=2), result(7)],
        }
    )
    ours, theirs = ([cell.strip() for cell in row.split("|")[1:-1]] for row in shown.splitlines() if "| put |" in row)
    assert (ours[1], ours[2], ours[9], ours[10]) == ("trove", "200", "0", "")
    assert (theirs[1], theirs[2], theirs[8], theirs[9], theirs[10]) == ("peer", "100", "500.0", "3", "2.0 x")


@pytest.mark.long
def test_chaos_measures_a_service_that_throttles_and_one_that_is_slow() -> None:
    command = [sys.executable, "-m", "benchmarks.chaos", "--rate", "50", "--seconds", "2", "--reads", "100"]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=200).stdout
    assert re.search(r"used: \d+%", printed)
    assert re.search(r"requests for each operation: \d\.\d\d", printed)
    assert re.search(r"without Hedge: .* 1\.000 requests a read", printed)


def test_a_link_that_limits_each_connection_is_measured() -> None:
    command = [sys.executable, "-m", "benchmarks.limited", "--size", "4", "--rounds", "1", "--clients", "trove"]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=200).stdout
    limited, unlimited = printed.split("download, no limit")
    for client in ("get", "read", "download", "put", "put of a stream", "cp"):
        assert re.search(rf"trove {client} \| \d+ \| 1 \| [\d.]+ \| \d+ \| 0 \|", limited)
        assert re.search(rf"trove {client} \| \d+ \|  \| [\d.]+ \| \d+ \| 0 \|", unlimited)


def test_trees_of_small_files_are_copied_by_commands_and_compared() -> None:
    command = [sys.executable, "-m", "benchmarks.trees", "--files", "20", "--rounds", "1", "--clients", "trove"]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=200).stdout
    local, ceph = printed.split("20 files of 4,096 bytes, s3")
    for step in ("into the store", "again", "out of it", "out again"):
        row = rf"\| {step} \| trove \| \d+\.\d+ \| \d+\.\d+ \| 0 \|"
        assert re.search(row, local)
        assert re.search(row, ceph)
