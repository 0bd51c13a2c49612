"""Whether a regular expression matches in linear time for any text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from re import _constants as ops  # type: ignore[attr-defined] # isort: skip - Python has no public parser
from re import _parser as parser  # type: ignore[attr-defined] # isort: skip

_CHARACTERS = frozenset(map(chr, range(256)))
_BOUNDED = 64


def ambiguity(pattern: re.Pattern[str]) -> str | None:
    """Return a position at which a pattern may backtrack; None if there is none.

    An anchored match can backtrack only at the end of a repetition, if the next character could also belong to the
    following item. Otherwise it examines each character a bounded number of times.
    """
    try:
        _walk(list(parser.parse(pattern.pattern, pattern.flags)), frozenset(), pattern.flags)
    except _AmbiguousError as error:
        return f"{pattern.pattern!r}: {error}"
    return None


class _AmbiguousError(Exception):
    pass


def _walk(items: Sequence[Any], follow: frozenset[str], flags: int) -> tuple[frozenset[str], bool]:
    """Return the characters that items can begin with, and whether they can be empty.

    Args:
        items: the items of a sequence, as the parser returns them.
        follow: the characters with which the text after the items can begin.
    """
    first: frozenset[str] = frozenset()
    empty = True
    for op, value in reversed(items):
        begins, may_be_empty = _item(op, value, first | follow if empty else first, flags)
        first = begins | first if may_be_empty else begins
        empty = empty and may_be_empty
    return first, empty


def _item(op: Any, value: Any, follow: frozenset[str], flags: int) -> tuple[frozenset[str], bool]:
    if op in (ops.MAX_REPEAT, ops.MIN_REPEAT):
        least, most, body = value
        begins, empty = _walk(list(body), follow, flags)
        if most == ops.MAXREPEAT or most > _BOUNDED:
            if empty or begins & follow:
                raise _AmbiguousError(f"a repetition and what follows both take {sorted(begins & follow)[:3]}")
            _walk(list(body), begins | follow, flags)
        return begins, empty or least == 0
    if op is ops.SUBPATTERN:
        return _walk(list(value[-1]), follow, flags)
    if op is ops.BRANCH:
        branches = [_walk(list(branch), follow, flags) for branch in value[1]]
        return frozenset().union(*(begins for begins, _ in branches)), any(empty for _, empty in branches)
    if op is ops.AT:
        return frozenset(), False
    return _characters(op, value, flags), False


def _characters(op: Any, value: Any, flags: int) -> frozenset[str]:
    if op is ops.ANY:
        return _CHARACTERS
    if op is ops.LITERAL:
        return frozenset({chr(value).lower(), chr(value).upper()} if flags & re.IGNORECASE else {chr(value)})
    if op is ops.NOT_LITERAL:
        return _CHARACTERS - {chr(value)}
    if op is ops.RANGE:
        return frozenset(map(chr, range(value[0], value[1] + 1)))
    if op is ops.CATEGORY:
        text = {ops.CATEGORY_DIGIT: r"\d", ops.CATEGORY_SPACE: r"\s", ops.CATEGORY_WORD: r"\w"}[value]
        return frozenset(c for c in _CHARACTERS if re.match(text, c, flags & re.ASCII))
    assert op is ops.IN, f"{op} is not handled"
    negated = value[0][0] is ops.NEGATE
    found = frozenset[str]().union(*(_characters(kind, item, flags) for kind, item in value if kind is not ops.NEGATE))
    return _CHARACTERS - found if negated else found
