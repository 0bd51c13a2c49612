"""The conformance suite itself: it fails broken drivers, and reports its results."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

import trove_async
from tests import capabilities
from tests.conformance.test_s3 import CEPH_CANNOT
from tests.drivers.memory_harness import MemoryHarness
from trove_async.body import Body
from trove_async.driver import (
    DeleteOptions,
    Driver,
    Features,
    GetOptions,
    HeadOptions,
    ListOptions,
    PutOptions,
    RangeDriver,
    TaggingDriver,
)
from trove_async.errors import NotFoundError, ObjectNotFoundError, RangeNotSatisfiableError
from trove_async.layers import LayerDriver
from trove_async.listing import ListPage
from trove_async.reader import ObjectReader
from trove_async.testing import assert_same_object, random_bytes, read_all, sample_object
from trove_async.testing.conformance.session import check_stacks, load_harness
from trove_async.testing.conformance.stacks import ALL_LAYERS, ORDINARY, PLAIN, STACKS
from trove_async.testing.conformance.table import ROWS, Column, Table, check_id, declared_cells
from trove_async.types import ObjectInfo

ROOT = Path(__file__).parents[1]


class IgnoresCreateOnly(LayerDriver):
    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        return await super().put(bucket, key, body, replace(options, if_none_match=None))


class ListsBackwards(LayerDriver):
    async def list_page(self, bucket: str, options: ListOptions) -> ListPage:
        page = await super().list_page(bucket, options)
        return replace(page, objects=page.objects[::-1])


class StoresBeforeTheEnd(LayerDriver):
    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        stored = b""
        async for chunk in body:
            stored += bytes(chunk)
            await super().put(bucket, key, Body(stored), options)
        return await super().put(bucket, key, Body(stored), options)


class DeclaresWhatItLacks(LayerDriver):
    drops: ClassVar = {TaggingDriver: "the layer does not drop it from its features"}

    @property
    def features(self) -> Features:
        return self.inner.features


class DeclaresNoTags(LayerDriver):
    @property
    def features(self) -> Features:
        features = super().features
        return replace(features, protocols=features.protocols - {TaggingDriver})


class DeclaresNoConditions(LayerDriver):
    @property
    def features(self) -> Features:
        return replace(super().features, conditions=frozenset())


class DeclaresRangesThatFail(LayerDriver):
    async def get_range(self, bucket: str, key: str, offset: int, length: int) -> ObjectReader:
        inner: Any = self.inner
        assert isinstance(inner, RangeDriver)
        return await inner.get_range(bucket, key, offset + 1, length)


class SwallowsCancellation(LayerDriver):
    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        try:
            return await super().put(bucket, key, body, options)
        except asyncio.CancelledError:
            return await super().put(bucket, key, Body(b"what there was of it"), options)


class LeavesATask(LayerDriver):
    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        self.task = asyncio.ensure_future(asyncio.sleep(3600))
        return await super().head(bucket, key, options)


class RaisesTheWrongError(LayerDriver):
    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        try:
            return await super().head(bucket, key, options)
        except ObjectNotFoundError as error:
            raise NotFoundError(error.message) from None


class PutsAnotherETag(LayerDriver):
    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        return replace(await super().put(bucket, key, body, options), etag="another")


class ClampsTheStart(LayerDriver):
    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        try:
            return await super().get(bucket, key, options)
        except RangeNotSatisfiableError:
            return ObjectReader(await super().head(bucket, key, HeadOptions()), b"", start=0, stop=0)


class ForgetsDeletes(LayerDriver):
    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        if options.if_match is None:
            await super().delete(bucket, key, options)


class BrokenHarness(MemoryHarness):
    """The memory driver in a layer that breaks it."""

    def __init__(self, layer: Callable[[Driver], Driver]) -> None:
        super().__init__()
        self._layer = layer
        self.name = getattr(layer, "__name__", "memory")

    async def driver(self) -> Driver:
        return self._layer(await super().driver())


class LitteringHarness(MemoryHarness):
    name = "Littering"

    async def residue(self) -> Sequence[str]:
        return ["a temporary"]


class ExpectingHarness(MemoryHarness):
    """Expects failures: of a check that fails, of one that passes, and of one case of another."""

    name = "Expecting"
    xfails: Mapping[str, str] = {
        "test_n04_delete_missing": "it has too many buckets",
        "N3": "it never fails",
        "test_t09_other_delimiters[-]": "it takes a dash for a slash",
    }

    async def driver(self) -> Driver:
        return RaisesNothing(await super().driver())


class RaisesNothing(LayerDriver):
    async def list_page(self, bucket: str, options: ListOptions) -> ListPage:
        return await super().list_page(bucket, replace(options, delimiter="/") if options.delimiter == "-" else options)

    async def delete_bucket(self, name: str) -> None:
        try:
            await super().delete_bucket(name)
        except NotFoundError:
            return


BREAKS: dict[type[LayerDriver], str] = {
    IgnoresCreateOnly: "C1",
    ListsBackwards: "T3",
    StoresBeforeTheEnd: "P19",
    DeclaresWhatItLacks: "B1",
    DeclaresNoTags: "B1",
    DeclaresNoConditions: "B1",
    DeclaresRangesThatFail: "R1",
    SwallowsCancellation: "X9",
    LeavesATask: "P15",
    RaisesTheWrongError: "P15",
    PutsAnotherETag: "P18",
    ClampsTheStart: "R6",
    ForgetsDeletes: "C10",
}
"""Each broken driver, with the check that must fail for it."""

# The names for --trove-driver: one attribute of this module for each.
globals().update({f"broken_{layer.__name__}": BrokenHarness(layer) for layer in BREAKS})

Seen = dict[str, dict[str, dict[str, str]]]


def run_suite(folder: Path, wanted: Mapping[str, tuple[str, Iterable[str]]], *options: str) -> tuple[Seen, str]:
    """Run checks in a separate pytest; return its results for each driver, and its output.

    Args:
        folder: for the results.
        wanted: driver to its harness and its checks.
        options: further options of pytest.
    """
    chosen = " or ".join(
        f"({driver}-plain and ({' or '.join(f'test_{check[0].lower()}{int(check[1:]):02d}_' for check in checks)}))"
        for driver, (_, checks) in wanted.items()
    )
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--trove-capabilities={folder}"),
        "--trove-stack=plain",
        *(f"--trove-driver={harness}" for harness, _ in wanted.values()),
        *("-k", chosen, *options),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return json.loads((folder / "capabilities.json").read_text(encoding="utf-8")), done.stdout


def test_broken_drivers_fail(tmp_path: Path) -> None:
    """One test, since each pytest process that runs the suite costs seconds."""
    wanted: dict[str, tuple[str, Iterable[str]]] = {
        layer.__name__: (f"{__name__}:broken_{layer.__name__}", ["N1", check]) for layer, check in BREAKS.items()
    }
    wanted["Littering"] = (f"{__name__}:LitteringHarness", ["N1"])
    wanted["memory"] = ("tests.drivers.memory_harness:harness", ["N1", *BREAKS.values()])
    seen, _ = run_suite(tmp_path, wanted)
    for layer, check in BREAKS.items():
        assert seen["memory"]["checks"][check] == "passed"
        assert seen[layer.__name__]["checks"] == {"N1": "passed", check: "failed"}
    assert seen["Littering"]["checks"] == {"N1": "failed"}
    check_the_table_shows_what_failed(seen)


def check_the_table_shows_what_failed(seen: Seen) -> None:
    assert seen["DeclaresRangesThatFail"]["capabilities"]["range"] == "failed"
    assert seen["memory"]["capabilities"]["range"] == "N"
    assert seen["memory"]["capabilities"]["conditional delete"] == "N"
    assert seen["memory"]["capabilities"]["lifecycle"] == "not run"
    assert seen["DeclaresNoConditions"]["capabilities"]["conditional put"] == "–"
    assert seen["IgnoresCreateOnly"]["capabilities"]["conditional put"] == "failed"


def test_expected_failures_under_xdist(tmp_path: Path) -> None:
    wanted = {"Expecting": (f"{__name__}:ExpectingHarness", ["N1", "N3", "N4", "T9"])}
    seen, printed = run_suite(tmp_path, wanted, "-n", "2")
    assert seen["Expecting"]["checks"] == {"N1": "passed", "N3": "failed", "N4": "xfailed", "T9": "xfailed"}
    assert seen["Expecting"]["cannot"] == {"N4": "it has too many buckets", "T9": "it takes a dash for a slash"}
    assert "[XPASS(strict)] it never fails" in printed
    assert "1 failed, 8 passed, 2 xfailed" in printed
    assert "| multipart |" in printed
    assert "- [1] Expecting, check N4: it has too many buckets" in printed
    assert (tmp_path / "capabilities.md").read_text(encoding="utf-8") in printed


class ServerHarness(MemoryHarness):
    name = "server"
    stacks = (PLAIN,)


def collected(*arguments: str) -> set[tuple[str, str]]:
    """Return the checks that a run would carry out, each with its driver and stack."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=True)
    return {(check_id(name), run) for name, run in re.findall(r"::(test_\w+)\[(.+?)\]$", done.stdout, re.MULTILINE)}


@pytest.mark.parametrize("long", [False, True])
def test_long_runs_use_all_stacks(long: bool) -> None:
    harnesses = {"memory": "tests.drivers.memory_harness:harness", "server": f"{__name__}:ServerHarness"}
    options = [f"--trove-driver={harness}" for harness in harnesses.values()]
    seen = collected(*options, "-k", "test_p02 or test_v13 or test_k01", *(["--trove-long"] if long else []))
    stacks: dict[tuple[str, str], Iterable[str]] = {
        ("P2", "memory"): STACKS if long else ORDINARY,
        ("V13", "memory"): [PLAIN, ALL_LAYERS],
        ("K1", "memory"): [PLAIN, ALL_LAYERS] if long else [PLAIN],
        ("P2", "server"): STACKS if long else [PLAIN],
        ("V13", "server"): [PLAIN, ALL_LAYERS] if long else [PLAIN],
        ("K1", "server"): [PLAIN, ALL_LAYERS] if long else [PLAIN],
    }
    assert seen == {(check, f"{name}-{stack}") for (check, name), found in stacks.items() for stack in found}


def test_moto_runs_the_checks_that_ceph_cannot_pass() -> None:
    seen = collected("tests/conformance/test_s3.py", "-k", "moto")
    assert {check for check, _ in seen} == set(CEPH_CANNOT)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--trove-driver=tests.capabilities:harness", "has no attribute 'harness'"),
        ("--trove-driver=tests.capabilities:main", "a function is not a Harness"),
        ("--trove-driver=tests.capabilities", "write module:attribute"),
        ("--trove-stack=limit+limit", "use one of plain, limit"),
    ],
)
def test_wrong_names_end_the_run(option: str, message: str) -> None:
    name, _, value = option.partition("=")
    check = load_harness if name == "--trove-driver" else lambda stack: check_stacks([stack])
    with pytest.raises(pytest.UsageError, match=message) as raised:
        check(value)
    assert option in str(raised.value)


def full_column() -> Column:
    column = Column({row.title: "L" for row in ROWS})
    checks = "U1 U16 U19 W1 Z1 Z5 E1 Q1 R1 Y1 M18 D3 C1 C6 C9 C10 C8"
    for check in checks.split():
        column.note(check, "passed")
    return column


def test_table_orders_drivers_and_numbers_notes() -> None:
    local = full_column()
    local.note("U3", "xfailed")
    local.reasons["U3"] = "parts are final"
    table = Table({"zebra": full_column(), "sftp": full_column(), "local": local, "memory": full_column()})
    text = table.markdown()
    assert text.splitlines()[0] == "|  | memory | local | sftp | zebra |"
    assert "| multipart | L | L [1] | L | L |\n" in text
    assert "- [1] local, check U3: parts are final\n" in text
    assert text == Table(dict(reversed(table.columns.items()))).markdown()


def test_a_cell_needs_every_check() -> None:
    column = full_column()
    column.note("R5", "failed")
    column.note("R5", "passed")
    column.declared["tags"] = "–"
    cells = {row.title: column.cell(row) for row in ROWS}
    assert (cells["range"], cells["tags"], cells["multipart"]) == ("failed", "–", "L")


def test_declared_cells() -> None:
    features = Features(
        protocols=frozenset({RangeDriver, TaggingDriver}),
        conditions=frozenset({"put_if_none_match"}),
        native=frozenset({"range"}),
    )
    cells = declared_cells(features, frozenset({RangeDriver}))
    assert (cells["range"], cells["tags"], cells["conditional put"]) == ("N", "–", "L (create-only)")


def test_check_id() -> None:
    assert check_id("test_p04_overwrite_replaces_metadata") == "P4"
    with pytest.raises(ValueError, match="begins with its id"):
        check_id("test_overwrite")


def test_capabilities_page(tmp_path: Path) -> None:
    build, page = tmp_path / "build", tmp_path / "docs" / "capabilities.md"
    with pytest.raises(capabilities.StaleError, match="make conformance"):
        capabilities.check(build, page)
    Table({"memory": full_column()}).write(build)
    with pytest.raises(capabilities.StaleError, match="make capabilities"):
        capabilities.check(build, page)
    capabilities.write(build, page)
    capabilities.check(build, page)
    page.write_text(page.read_text(encoding="utf-8").replace("| range | L |", "| range | N |"), encoding="utf-8")
    with pytest.raises(capabilities.StaleError, match="make capabilities"):
        capabilities.check(build, page)
    Table({"memory": full_column(), "s3 (moto)": full_column()}).write(build)
    capabilities.write(build, page)
    capabilities.check(build, page, every=True)
    second = full_column()
    second.note("R1", "skipped")
    second.declared["range"] = "N"
    Table({"memory": full_column(), "s3 (moto)": second}).write(build)
    capabilities.check(build, page)
    with pytest.raises(capabilities.StaleError, match="make capabilities"):
        capabilities.check(build, page, every=True)
    failing = full_column()
    failing.note("R1", "failed")
    Table({"memory": failing}).write(build)
    with pytest.raises(capabilities.StaleError, match="memory: range failed"):
        capabilities.write(build, page)


@pytest.mark.asyncio
async def test_throwaway_store(throwaway_store: trove_async.Trove) -> None:
    key, data = sample_object()
    info = await throwaway_store.put("bucket", key, data)
    assert await read_all(await throwaway_store.get("bucket", key)) == data
    assert_same_object(info, await throwaway_store.head("bucket", key))


def test_helpers() -> None:
    assert random_bytes(10) == random_bytes(10) != random_bytes(10, seed=1)
    info = ObjectInfo("key", 1, "etag", metadata={"a": "1"})
    assert_same_object(info, ObjectInfo("key", 1, "etag"))
    for other in (replace(info, size=2), replace(info, etag="x"), replace(info, metadata={"a": "2"})):
        with pytest.raises(AssertionError, match="in one and"):
            assert_same_object(info, other)


def test_the_plugin_imports_nothing_of_the_library() -> None:
    """pytest loads it in every project of the environment; what it needs is imported when it is used."""
    script = "import sys, pytest; before = {*sys.modules}; import pytest_trove_async; print({*sys.modules} - before)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "{'pytest_trove_async'}"


def with_this_plugin_alone(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder without any other plugin."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "pytest_trove_async", "-p", "no:cacheprovider", str(folder)]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


def test_a_throwaway_store_names_the_plugin_that_it_needs(tmp_path: Path) -> None:
    (tmp_path / "test_store.py").write_text("def test_store(throwaway_store): pass\n")
    done = with_this_plugin_alone(tmp_path)
    assert "throwaway_store needs the plugin pytest-asyncio" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_session_without_the_suite_imports_nothing_of_the_library(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n"
        "def test_other():\n"
        "    assert not [name for name in sys.modules if name.startswith('trove_async')]\n"
    )
    done = with_this_plugin_alone(tmp_path)
    assert done.returncode == 0, done.stdout
