"""``docs/capabilities.md``: written from the results of the conformance suite, or compared with them.

``python -m tests.capabilities --write`` or ``--check``, after ``pytest --trove-capabilities=build``. Only long runs put
the servers of the second table through the complete suite: ``--check`` leaves it out without ``--all``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from trove_async.testing.conformance.table import Table

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build"
PAGE = ROOT / "docs" / "capabilities.md"
HEADING = """\
# Capabilities
Written by `make capabilities` from what the conformance suite saw to work in its run; not to be edited.

"""
SECOND_HEADING = """
## Second servers
Other servers for the same drivers, which `make test-long` puts through the suite.

"""
SECOND: Final = frozenset({"s3 (moto)", "sftp (asyncssh)"})
NO_BACKENDS: Final = frozenset(
    {"dedup", "dedup-chunks", "dedup-local", "dedup-postgresql", "failover", "mirror", "route"}
)
"""Stores over other stores: the page is about backends."""
HINT = "Run 'make capabilities' to update it, and commit it."


class StaleError(Exception):
    """The page cannot be written, or is out of date; the message says what to do."""


def _tables(build: Path, *, every: bool) -> list[str]:
    """Return the table of the first servers and, for all of them, that of the second servers.

    Raises:
        StaleError: the run whose results are in ``build`` does not prove every cell.
    """
    path = build / "capabilities.json"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StaleError(f"{path} is missing. Run 'make conformance' first.") from None
    columns = {name: column for name, column in Table.of_json(text).columns.items() if name not in NO_BACKENDS}
    first = Table({name: column for name, column in columns.items() if name not in SECOND})
    second = Table({name: column for name, column in columns.items() if name in SECOND})
    tables = [first, second] if every else [first]
    unproved = [
        f"{driver}: {row} {cell}"
        for table in tables
        for driver, cells in table.cells().items()
        for row, cell in cells.items()
        if cell in ("failed", "not run")
    ]
    if unproved:
        needed = "make capabilities" if every else "make conformance"
        raise StaleError(f"the run proves too little ({', '.join(unproved)}). Run all of it: '{needed}'.")
    return [table.markdown() for table in tables]


def check(build: Path, page: Path, *, every: bool = False) -> None:
    """Fail unless the page matches the last run, which must have been a long one only if ``every`` is set."""
    expected = HEADING + SECOND_HEADING.join(_tables(build, every=every))
    if not page.is_file():
        raise StaleError(f"{page} is missing. {HINT}")
    shown = page.read_text(encoding="utf-8")
    if (shown if every else shown.partition(SECOND_HEADING)[0]) != expected:
        raise StaleError(f"{page} is not what the conformance suite saw. {HINT}")


def write(build: Path, page: Path) -> None:
    """Write the page."""
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(HEADING + SECOND_HEADING.join(_tables(build, every=True)), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.capabilities", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="write the page, after a long run")
    action.add_argument("--check", action="store_true", help="fail if the page is stale")
    parser.add_argument("--all", action="store_true", help="check the second servers too, after a long run")
    options = parser.parse_args(arguments)
    try:
        (write if options.write else partial(check, every=options.all))(BUILD, PAGE)
    except StaleError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
