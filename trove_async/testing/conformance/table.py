"""The capability table: the declarations of each driver that the checks have proved."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from trove_async.driver import (
    AppendDriver,
    BulkDeleteDriver,
    Features,
    LifecycleDriver,
    MultipartDriver,
    NotificationDriver,
    PartCopyDriver,
    PresignDriver,
    RangeDriver,
    ServerCopyDriver,
    TaggingDriver,
    VersioningDriver,
    VersionListingDriver,
)

if TYPE_CHECKING:
    import pytest

__all__ = ["ROWS", "Column", "Row", "Table", "check_id", "declared_cells"]

Outcome = Literal["passed", "skipped", "xfailed", "failed"]

_BADNESS: Final[tuple[Outcome, ...]] = ("skipped", "passed", "xfailed", "failed")
_ORDER: Final = ("memory", "local", "s3", "gcs", "azure", "sftp")
_CHECK: Final = re.compile(r"test_([a-z])(\d\d)_")


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        title: its first cell.
        native: the name in `Features.native` if the backend itself has it.
        needs: the capability, or all the conditions.
        checks: the ids, or letters for whole groups, of the checks that prove it.
    """

    title: str
    native: str
    needs: tuple[type | str, ...]
    checks: tuple[str, ...]

    def proved_by(self, check: str) -> bool:
        """Whether a check is one of those that prove it."""
        return check in self.checks or check[0] in self.checks


ROWS: Final = (
    Row("multipart", "multipart", (MultipartDriver,), ("U", "M12", "X2")),
    Row("parts that grow", "append", (AppendDriver,), ("U16", "U17", "U18")),
    Row("parts copied from objects", "part_copy", (PartCopyDriver,), ("U19", "U20", "U21")),
    Row("presign", "presign", (PresignDriver,), ("W",)),
    Row("versioning", "versioning", (VersioningDriver,), ("Z",)),
    Row("versions of a bucket", "version_listing", (VersionListingDriver,), ("Z5", "Z6", "Z7")),
    Row("watch", "watch", (NotificationDriver,), ("E",)),
    Row("lifecycle", "lifecycle", (LifecycleDriver,), ("Q",)),
    Row("range", "range", (RangeDriver,), ("R",)),
    Row("server copy", "server_copy", (ServerCopyDriver,), ("Y",)),
    Row("tags", "tags", (TaggingDriver,), ("M18", "M19")),
    Row("bulk delete", "bulk_delete", (BulkDeleteDriver,), ("D3", "D4", "D5", "D6")),
    Row("conditional put", "conditional_put", ("put_if_none_match", "put_if_match"), ("C1", "C2", "C3", "C4", "C5")),
    Row("conditional get", "conditional_get", ("get",), ("C6", "C7", "R12")),
    Row("conditional copy", "conditional_copy", ("copy",), ("C9", "Y6")),
    Row("conditional delete", "conditional_delete", ("delete",), ("C10",)),
    Row("conditional complete", "conditional_complete", ("complete",), ("C8",)),
)
"""The rows of the table, in order."""


def check_id(test: str) -> str:
    """Return the id that a test's name carries: ``C2`` of ``test_c02_create_only_race``."""
    found = _CHECK.match(test)
    if found is None:
        raise ValueError(f"the name of a check begins with its id, such as test_c02_: {test}")
    return f"{found[1].upper()}{int(found[2])}"


def declared_cells(features: Features, capabilities: frozenset[type]) -> dict[str, str]:
    """Return a cell for each row: ``N``, ``L`` or, if it is not declared, ``–``; not proved yet."""
    declared = (capabilities & features.protocols) | features.conditions
    cells = {}
    for row in ROWS:
        kind = "N" if row.native in features.native else "L"
        if all(need in declared for need in row.needs):
            cells[row.title] = kind
        elif row.title == "conditional put" and "put_if_none_match" in declared:
            cells[row.title] = f"{kind} (create-only)"
        else:
            cells[row.title] = "–"
    return cells


@dataclass
class Column:
    """The results of one driver.

    Attributes:
        declared: row to cell, from `declared_cells`.
        checks: check to its outcome, the worst of all its runs.
        reasons: check to the reason why the backend cannot pass it.
    """

    declared: dict[str, str] = field(default_factory=dict)
    checks: dict[str, Outcome] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def note(self, check: str, outcome: Outcome) -> None:
        """Record the outcome of a run of a check."""
        self.checks[check] = max(outcome, self.checks.get(check, "skipped"), key=_BADNESS.index)

    def cell(self, row: Row) -> str:
        """Return the declared cell if the checks have proved it, else ``failed`` or ``not run``."""
        declared = self.declared.get(row.title, "–")
        if declared == "–":
            return declared
        outcomes = {outcome for check, outcome in self.checks.items() if row.proved_by(check)}
        if "failed" in outcomes:
            return "failed"
        return declared if outcomes - {"skipped"} else "not run"


class Table:
    """The columns of all drivers of a run."""

    def __init__(self, columns: Mapping[str, Column]) -> None:
        known = {name: position for position, name in enumerate(_ORDER)}
        names = sorted(columns, key=lambda name: (known.get(name, len(known)), name))
        self.columns = {name: columns[name] for name in names}

    @classmethod
    def of_reports(cls, reports: Iterable[pytest.TestReport]) -> Self:
        """Make the table from pytest's reports of the checks; see `record`."""
        columns: dict[str, Column] = {}
        for report in reports:
            properties: dict[str, Any] = dict(report.user_properties)
            column = columns.setdefault(properties["trove_driver"], Column())
            check = properties["trove_check"]
            column.declared.update(json.loads(properties.get("trove_cells", "{}")))
            outcome: Outcome = report.outcome
            if hasattr(report, "wasxfail"):
                outcome = "xfailed"
                column.reasons[check] = properties["trove_xfail"]
            if report.when == "call" or outcome != "passed":
                column.note(check, outcome)
        return cls(columns)

    @classmethod
    def of_json(cls, text: str) -> Self:
        """Make the table from the value that `json` returned."""
        return cls(
            {
                name: Column(declared=seen["capabilities"], checks=seen["checks"], reasons=seen["cannot"])
                for name, seen in json.loads(text).items()
            }
        )

    def cells(self) -> dict[str, dict[str, str]]:
        """Return each driver's cell for each row."""
        return {name: {row.title: column.cell(row) for row in ROWS} for name, column in self.columns.items()}

    def _notes(self) -> dict[tuple[str, str], int]:
        """Assign a number to each check that a backend cannot pass, in the order of the columns."""
        pairs = [(name, check) for name, column in self.columns.items() for check in _sorted(column.reasons)]
        return {pair: number for number, pair in enumerate(pairs, 1)}

    def markdown(self) -> str:
        """Return the table as Markdown, with a note for each check that a backend cannot pass."""
        notes = self._notes()
        lines = [_line("", *self.columns), _line("---", *("---" for _ in self.columns))]
        for row in ROWS:
            cells = []
            for name, column in self.columns.items():
                numbers = [number for (owner, check), number in notes.items() if owner == name and row.proved_by(check)]
                cells.append(" ".join([column.cell(row), *(f"[{number}]" for number in numbers)]))
            lines.append(_line(row.title, *cells))
        text = "\n".join(lines) + "\n\nN: the backend itself has it. L: the library provides it. –: not there.\n"
        if notes:
            text += "\n" + "".join(
                f"- [{number}] {name}, check {check}: {self.columns[name].reasons[check]}\n"
                for (name, check), number in notes.items()
            )
        return text

    def json(self) -> str:
        """Return the table with the outcome of every check, for JSON."""
        cells = self.cells()
        drivers = {
            name: {
                "capabilities": cells[name],
                "checks": {check: column.checks[check] for check in _sorted(column.checks)},
                "cannot": {check: column.reasons[check] for check in _sorted(column.reasons)},
            }
            for name, column in self.columns.items()
        }
        return json.dumps(drivers, indent=2, ensure_ascii=False) + "\n"

    def write(self, folder: Path) -> None:
        """Write ``capabilities.json`` and ``capabilities.md``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "capabilities.json").write_text(self.json(), encoding="utf-8")
        (folder / "capabilities.md").write_text(self.markdown(), encoding="utf-8")


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _sorted(checks: Iterable[str]) -> list[str]:
    return sorted(checks, key=lambda check: (check[0], int(check[1:])))
