"""Output: results on standard output, as text or JSON; everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from trove_async.cli.errors import printable
from trove_async.dsn import redact
from trove_async.types import ObjectInfo

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Output", "object_fields", "plain", "time_text"]


class Output:
    """The output of a command.

    Attributes:
        json: print one JSON object a line, not text.
        quiet: print no notes and no progress.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        self._console: Console | None = None

    def share(self) -> Console:
        """Return standard error for a progress bar, above which the lines are printed from now on."""
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
        return self._console

    def record(self, values: Mapping[str, Any], *lines: str) -> None:
        """Print one result: its values as JSON, or lines of text, which may be none."""
        if self.json:
            print(json.dumps({name: plain(value) for name, value in values.items()}, ensure_ascii=False))
        else:
            for line in lines:
                print(printable(line))

    def flush(self) -> None:
        """Flush the output."""
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Print a note that is not a result, on standard error."""
        if not self.quiet:
            self.error(text)

    def error(self, text: str) -> None:
        """Print one line on standard error, above any progress bar; secrets of DSNs are hidden."""
        line = f"trove: {printable(redact(text))}"
        if self._console is None:
            print(line, file=sys.stderr)
        else:
            self._console.print(line)

    @property
    def shows_progress(self) -> bool:
        """Return whether a progress bar would be visible."""
        # Not Rich's `is_terminal`, which environment variables can set.
        seen = not self.quiet and sys.stderr.isatty()
        return seen and not (self.json and sys.stdout.isatty())  # the results would mix with the bar


def object_fields(bucket: str, info: ObjectInfo) -> dict[str, Any]:
    """Return the values that describe an object in JSON: its bucket and the fields of `ObjectInfo`."""
    return {"type": "object", "bucket": bucket} | {field.name: getattr(info, field.name) for field in fields(info)}


def time_text(time: datetime | None) -> str:
    """Return a time as text shows it: in UTC and whole seconds; ``-`` if there is none."""
    return "-" if time is None else f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def plain(value: Any) -> Any:
    """Return a value as JSON can store it: a time as ISO 8601 in UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value
