"""The rule for patterns of keys, names and paths: ``*`` does not cross a slash, ``**`` does. There is no I/O here."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["WILDCARD", "expression"]

WILDCARD: Final = re.compile(r"(?<![^/])\*\*/|\*\*|\*|\?")
"""The wildcards. ``**/`` stands for whole folders only at the beginning and behind a slash."""

_ACROSS: Final = {"**/": "(?:.*?/)??", "**": ".*?"}


def expression(pattern: str) -> str:
    """Return a pattern as a regular expression of whole names, for ``re.DOTALL``.

    ``*`` is any text without a slash, ``?`` one character but a slash, ``**`` any text; ``**/`` at the beginning or
    behind a slash is any number of folders, none included. Every other character stands for itself.

    The time of a match grows at most with the square of the length of the name. With a plain ``.*`` for each wildcard
    it grows with a power of it for every wildcard, and a key that somebody else has chosen stops the process.
    """
    *blocks, (across, parts) = _blocks(pattern)
    # What follows a block begins with "**", which takes everything between. So the first match of the block is enough,
    # and is never looked for again, which "(?>…)" says.
    before = "".join(f"(?>{across}{_shortest(parts)})" for across, parts in blocks)
    *first, last = parts
    return f"{before}{across}{_shortest(first)}[^/]*{last}" if first else f"{before}{across}{last}"


def _blocks(pattern: str) -> list[tuple[str, list[str]]]:
    """Return the parts of a pattern between its ``*``, in blocks that begin with ``**``; the first one does not."""
    blocks = [("", [""])]
    end = 0
    for wildcard in WILDCARD.finditer(pattern):
        blocks[-1][1][-1] += re.escape(pattern[end : wildcard.start()])
        end = wildcard.end()
        if (text := wildcard.group()) in _ACROSS:
            blocks.append((_ACROSS[text], [""]))
        elif text == "*":
            blocks[-1][1].append("")
        else:
            blocks[-1][1][-1] += "[^/]"
    blocks[-1][1][-1] += re.escape(pattern[end:])
    return blocks


def _shortest(parts: list[str]) -> str:
    """Return the expression of parts with ``*`` between them.

    If the rest can match behind a later place of a part, it can behind the first one: the ``*`` that follows takes the
    difference. A part with a slash has one place only, since no ``*`` crosses that slash.
    """
    return parts[0] + "".join(f"(?>[^/]*?{part})" for part in parts[1:])
