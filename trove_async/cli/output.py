"""What is printed: results on standard output, for people or for machines; all else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from trove_async.cli.errors import printable
from trove_async.dsn import redact
from trove_async.types import ObjectInfo

__all__ = ["Output", "object_fields", "plain"]


class Output:
    """Where a command prints.

    Attributes:
        json: print one JSON object a line, not text.
        quiet: print no notes and no progress.
        console: standard error, which progress bars share with lines.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        self.console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def record(self, values: Mapping[str, Any], *lines: str) -> None:
        """Print one result: its values as JSON, or as lines; none where people need not be told."""
        if self.json:
            print(json.dumps({name: plain(value) for name, value in values.items()}, ensure_ascii=False))
        else:
            for line in lines:
                print(printable(line))

    def flush(self) -> None:
        """Send off what was printed."""
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Tell people something that is no result, on standard error."""
        if not self.quiet:
            self.error(text)

    def error(self, text: str) -> None:
        """Print one line on standard error, above the progress bar if there is one; no secret of a DSN is in it."""
        self.console.print(f"trove: {printable(redact(text))}")

    @property
    def shows_progress(self) -> bool:
        """Tell whether anyone would see a progress bar."""
        # Not `console.is_terminal`, which environment variables can make true.
        seen = not self.quiet and sys.stderr.isatty()
        return seen and not (self.json and sys.stdout.isatty())  # results would run into the bar


def object_fields(bucket: str, info: ObjectInfo) -> dict[str, Any]:
    """Return the values that describe an object in JSON: its bucket and all that `ObjectInfo` has."""
    return {"type": "object", "bucket": bucket} | {field.name: getattr(info, field.name) for field in fields(info)}


def plain(value: Any) -> Any:
    """Return what stands for a value in JSON: a time as ISO 8601 in UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value
