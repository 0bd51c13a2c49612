"""The parts of the test budget, and a report of their times."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Final, NamedTuple

import pytest

__all__ = ["PARTS", "PartTimes", "part_of"]


class Part(NamedTuple):
    """A part of the tests.

    Attributes:
        seconds: of ``make test`` on two quiet cores.
        paths: files and folders in ``tests/``.
    """

    seconds: int
    paths: tuple[str, ...]


LAYERS: Final = "layers"

PARTS: Final[Mapping[str, Part]] = {
    "docs": Part(45, ("test_docs.py", "test_examples.py", "test_public_api.py", "test_web_examples.py")),
    "unit, tree and wire": Part(
        180,
        (
            *("unit", "tree", "wire", "model", "badinput", "gcs_server", "benchmarks"),
            *("test_conformance_suite.py", "test_parts.py", "test_signing.py"),
        ),
    ),
    "conformance and drivers": Part(270, ("conformance", "azure", "drivers", "gcs", "s3", "sftp", "test_uvloop.py")),
    LAYERS: Part(60, ()),  # the conformance suite through layers
    "chaos": Part(25, ("chaos",)),
    "database": Part(30, ("database",)),
    "quota": Part(25, ("quota",)),
    "mirror": Part(30, ("mirror",)),
    "faces": Part(95, ("cli", "fs", "fsspec", "sync", "web")),
    "managed": Part(60, ("managed",)),
    "uploads": Part(90, ("uploads",)),
    "transfers": Part(75, ("matrix", "transfers")),
}
"""Name to part, in the order of the report."""


def part_of(path: str, stack: str | None = None) -> str | None:
    """Return the part of a test, by its path and the stack of layers that it runs through; None for no part."""
    if stack not in (None, "plain"):
        return LAYERS
    name = path.removeprefix("tests/").partition("/")[0]
    return next((part for part, (_, paths) in PARTS.items() if name in paths), None)


class PartTimes:
    """Adds up the time of the tests of each part, and prints it at the end of the run.

    The processes of xdist share the clock: a part's time is its share of the run's.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._tests: Counter[str | None] = Counter()
        self._seconds: defaultdict[str | None, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        stack = dict(report.user_properties).get("trove_stack")
        part = part_of(report.nodeid.partition("::")[0], None if stack is None else str(stack))
        self._tests[part] += report.when == "setup"
        self._seconds[part] += report.duration

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        elapsed, spent = time.monotonic() - self._began, sum(self._seconds.values())
        if not spent:
            return
        terminalreporter.section("time by part")
        terminalreporter.write_line(f"{'part':26}{'tests':>8}{'seconds':>10}{'budget':>10}")
        for name in [*PARTS, None]:
            if self._tests[name]:
                budget = PARTS[name].seconds if name is not None else "-"
                seconds = elapsed * self._seconds[name] / spent
                terminalreporter.write_line(f"{name or 'other':26}{self._tests[name]:8}{seconds:10.0f}{budget:>10}")
        terminalreporter.write_line(f"{'all':26}{self._tests.total():8}{elapsed:10.0f}")
