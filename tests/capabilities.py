"""``docs/capabilities.md``: written from what the conformance suite saw, or checked against it.

``python -m tests.capabilities --write`` or ``--check``, after ``pytest --trove-capabilities=build``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build"
PAGE = ROOT / "docs" / "capabilities.md"
HEADING = """\
# Capabilities
Written by `make capabilities` from what the conformance suite saw to work in its run; not to be edited.

"""
MEND = "Run 'make capabilities' to write it anew, and commit it."


class StaleError(Exception):
    """The page cannot be written, or is not what it should be; the message says what to do."""


def expected_page(build: Path) -> str:
    """Return what the page should be after the run whose results lie in ``build``."""
    try:
        drivers = json.loads((build / "capabilities.json").read_text(encoding="utf-8"))
        table = (build / "capabilities.md").read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise StaleError(f"{error.filename} is missing. Run 'make conformance' first.") from None
    unproved = [
        f"{driver}: {row} {cell}"
        for driver, seen in drivers.items()
        for row, cell in seen["capabilities"].items()
        if cell in ("failed", "not run")
    ]
    if unproved:
        raise StaleError(f"the run proves too little ({', '.join(unproved)}). Run all of it: 'make conformance'.")
    return HEADING + table


def check(build: Path, page: Path) -> None:
    """Fail unless the page is what the last run saw."""
    expected = expected_page(build)
    if not page.is_file():
        raise StaleError(f"{page} is missing. {MEND}")
    if page.read_text(encoding="utf-8") != expected:
        raise StaleError(f"{page} is not what the conformance suite saw. {MEND}")


def write(build: Path, page: Path) -> None:
    """Write the page."""
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(expected_page(build), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.capabilities", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", dest="run", action="store_const", const=write, help="write the page")
    action.add_argument("--check", dest="run", action="store_const", const=check, help="fail if the page is stale")
    try:
        parser.parse_args(arguments).run(BUILD, PAGE)
    except StaleError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
