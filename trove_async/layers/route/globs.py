"""Globs over keys: ``*`` does not cross a slash, ``**`` does."""

from __future__ import annotations

import re

from trove_async.errors import InvalidArgumentError
from trove_async.globs import WILDCARD, expression

__all__ = ["Glob"]


class Glob:
    """A pattern of names.

    `trove_async.globs.expression` says what it matches.

    Args:
        pattern: of a whole key or name.

    Attributes:
        pattern: as it was given.

    Raises:
        InvalidArgumentError: the pattern is empty, no text, or has three asterisks in a row.
    """

    __slots__ = ("_all_below", "_literal", "_matches", "pattern")

    def __init__(self, pattern: str) -> None:
        if not isinstance(pattern, str) or not pattern:
            raise InvalidArgumentError(f"a glob is a text such as 'logs/**', not {pattern!r}")
        if "***" in pattern:
            raise InvalidArgumentError(f"the glob {pattern!r} has three asterisks in a row; write * or **")
        self.pattern = pattern
        first = WILDCARD.search(pattern)
        self._literal = pattern if first is None else pattern[: first.start()]
        self._all_below = pattern == f"{self._literal}**"
        self._matches = re.compile(expression(pattern), re.DOTALL).fullmatch

    def matches(self, name: str) -> bool:
        """Tell whether a name matches."""
        return name.startswith(self._literal) and (self._all_below or self._matches(name) is not None)

    def may_match_below(self, prefix: str) -> bool:
        """Tell whether a name that begins with a prefix may match; False only if none can."""
        if self._literal == self.pattern:
            return self.pattern.startswith(prefix)
        return self._literal.startswith(prefix) or prefix.startswith(self._literal)

    def matches_all_below(self, prefix: str) -> bool:
        """Tell whether every name that begins with a prefix matches; True only if that is certain."""
        return self._all_below and prefix.startswith(self._literal)

    def __repr__(self) -> str:
        return f"<Glob {self.pattern!r}>"
