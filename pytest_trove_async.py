"""The pytest plugin of trove_async: the conformance suite's options and report, and `throwaway_store`.

pytest loads it at every start of every project in whose environment the library is installed. So it imports nothing of
the library before it is used, and is no module of its package, which would be imported with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from trove_async.store import Trove
    from trove_async.testing.conformance.session import Harnesses
    from trove_async.testing.conformance.table import Table

# The checks are plain modules; pytest rewrites their asserts like those of test files.
pytest.register_assert_rewrite("trove_async.testing.conformance")

_SUITE = Path(__file__).parent / "trove_async" / "testing" / "conformance" / "suite.py"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("trove_async", "conformance of trove_async drivers")
    group.addoption(
        "--trove-driver",
        action="append",
        default=[],
        metavar="MODULE:HARNESS",
        help="run the conformance suite on this Harness (may be given again); without paths, nothing else is run",
    )
    group.addoption(
        "--trove-stack",
        action="append",
        default=[],
        metavar="NAME",
        help="run the suite only through this stack of layers, such as plain (may be given again)",
    )
    group.addoption(
        "--trove-long",
        action="store_true",
        help="run the suite through every stack of layers, and cancel at every await point, on every harness",
    )
    group.addoption(
        "--trove-capabilities",
        metavar="DIR",
        help="write what the suite saw to capabilities.json and capabilities.md in this folder",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks, and collect the suite if a driver is named."""
    config.addinivalue_line("markers", "trove_requires(*what): a check of capabilities or conditions")
    config.addinivalue_line("markers", "trove_heavy: a check that runs without layers and through one stack of layers")
    config.addinivalue_line("markers", "trove_plainly: a check that runs without layers, except in a long run")
    drivers, stacks = config.getoption("trove_driver"), config.getoption("trove_stack")
    if drivers or stacks:
        from trove_async.testing.conformance.session import check_stacks, load_harness

        check_stacks(stacks)  # a wrong name ends the run here
        for driver in drivers:
            load_harness(driver)
    if drivers:
        if config.args_source is not pytest.Config.ArgsSource.ARGS:
            config.args.clear()
        if str(_SUITE) not in config.args:  # xdist passes it to its workers
            config.args.append(str(_SUITE))
    if not hasattr(config, "workerinput"):  # the workers of xdist report to the controller
        config.pluginmanager.register(_Report(config), "trove-capabilities")


@pytest.fixture
def throwaway_store(request: pytest.FixtureRequest) -> Trove:
    """Return a store in memory for this test only, with an empty bucket named ``bucket``; needs pytest-asyncio."""
    if not request.config.pluginmanager.hasplugin("asyncio"):
        pytest.fail(
            "throwaway_store needs the plugin pytest-asyncio: pip install 'trove-async[testing]'", pytrace=False
        )
    from trove_async.testing import fixtures

    if not request.config.pluginmanager.is_registered(fixtures):
        request.config.pluginmanager.register(fixtures)
    store: Trove = request.getfixturevalue("_trove_throwaway_store")
    return store


@pytest.fixture(scope="session")
def trove_harnesses() -> Iterator[Harnesses]:
    """Start the harnesses of the conformance suite, and stop them at the end."""
    from trove_async.testing.conformance.session import Harnesses

    harnesses = Harnesses()
    yield harnesses
    harnesses.stop()


class _Report:
    """Prints and writes the capability table from the properties of each test, which xdist passes on."""

    def __init__(self, config: pytest.Config) -> None:
        self._folder: str | None = config.getoption("trove_capabilities")
        self._reports: list[pytest.TestReport] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if any(name == "trove_check" for name, _ in report.user_properties):
            self._reports.append(report)

    def _table(self) -> Table:
        from trove_async.testing.conformance.table import Table

        return Table.of_reports(self._reports)

    def pytest_sessionfinish(self) -> None:
        if self._folder is not None and self._reports:
            self._table().write(Path(self._folder))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._reports:
            terminalreporter.section("capabilities")
            terminalreporter.write(self._table().markdown())
