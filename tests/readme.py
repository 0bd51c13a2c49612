"""The capability table of the README, which is the first one of ``docs/capabilities.md``.

``python -m tests.readme`` updates it.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
CAPABILITIES = ROOT / "docs" / "capabilities.md"
BEGIN, END = "<!-- capabilities -->", "<!-- /capabilities -->"
_TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)


def generated_table() -> str:
    """Return the first table of the page that the run of the conformance suite has written."""
    found = _TABLE.search(CAPABILITIES.read_text(encoding="utf-8"))
    assert found is not None, f"{CAPABILITIES} holds no table"
    return found[0]


def shown_table() -> str:
    """Return the text between the README's marks."""
    _, _, rest = README.read_text(encoding="utf-8").partition(BEGIN + "\n")
    table, end, _ = rest.partition(END)
    assert end, f"{README} has no marks {BEGIN} and {END}"
    return table


def write() -> None:
    before, begin, rest = README.read_text(encoding="utf-8").partition(BEGIN + "\n")
    _, end, after = rest.partition(END)
    README.write_text(before + begin + generated_table() + end + after, encoding="utf-8")


if __name__ == "__main__":
    write()
