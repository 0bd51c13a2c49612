"""What a path of a store is without I/O: names below a root."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import total_ordering
from os import PathLike, fspath
from pathlib import PurePosixPath
from typing import Any, Self

from trove_async.errors import InvalidArgumentError
from trove_async.globs import expression
from trove_async.store import Trove

__all__ = ["PureStorePath"]

_UNSPEAKABLE = frozenset({"", ".", ".."})
"""Names that mean something else in the text of a path."""


@total_ordering
class PureStorePath:
    """The names that lead from a root to a path, as in `pathlib.PurePosixPath`.

    Names are taken from keys as they are, and may be empty, ``.`` or ``..``. In text that is joined to a path, these
    mean what they mean in paths: ``..`` is the parent, and never leads out of the root.

    Attributes:
        store, bucket: where the path is.
        root: what all keys below the root begin with: empty, or it ends in a slash.
        parts: the names.
    """

    __slots__ = ("bucket", "parts", "root", "store")

    def __init__(self, store: Trove, bucket: str, key: str = "", *, root: str = "") -> None:
        """Make a path; no I/O.

        Args:
            store, bucket: where the path is.
            key: below the root, taken literally: its names are the texts between its slashes.
            root: a directory that no path made from this one leaves; empty for the bucket.
        """
        self.store = store
        self.bucket = bucket
        self.root = root if not root or root.endswith("/") else f"{root}/"
        self.parts: tuple[str, ...] = tuple(key.split("/")) if key else ()

    def _at(self, parts: Iterable[str]) -> Self:
        other = object.__new__(type(self))
        other.store, other.bucket, other.root = self.store, self.bucket, self.root
        other.parts = tuple(parts)
        return other

    @property
    def key(self) -> str:
        """The key of the object at this path; of a root, which is no object, what all keys below it begin with."""
        return self.root + "/".join(self.parts)

    @property
    def prefix(self) -> str:
        """What the keys of all objects below this path begin with."""
        return self.root + "".join(f"{name}/" for name in self.parts)

    @property
    def name(self) -> str:
        """The last name; empty for the root."""
        return self.parts[-1] if self.parts else ""

    @property
    def suffix(self) -> str:
        """The extension of the name, such as ``.gz``; empty if it has none."""
        return PurePosixPath(self.name).suffix

    @property
    def suffixes(self) -> list[str]:
        """The extensions of the name, such as ``[".tar", ".gz"]``."""
        return PurePosixPath(self.name).suffixes

    @property
    def stem(self) -> str:
        """The name without its last extension."""
        return self.name.removesuffix(self.suffix)

    @property
    def parent(self) -> Self:
        """The directory of the path; the root is its own."""
        return self._at(self.parts[:-1])

    @property
    def parents(self) -> tuple[Self, ...]:
        """The directories above the path, from its own to the root."""
        return tuple(self._at(self.parts[:number]) for number in reversed(range(len(self.parts))))

    def child(self, name: str) -> Self:
        """Return the path of a name in this directory, taken literally.

        Raises:
            InvalidArgumentError: it has a slash.
        """
        if "/" in name:
            raise InvalidArgumentError(f"{name!r} has a slash; join paths with '/' or joinpath")
        return self.below((name,))

    def below(self, names: Iterable[str]) -> Self:
        """Return the path of names that follow each other below this directory, taken literally."""
        return self._at((*self.parts, *names))

    def joinpath(self, *others: str | PathLike[str]) -> Self:
        """Join texts of paths to this one; ``a / b`` does so with one.

        Empty names and ``.`` are left out, ``..`` is the parent, and text that begins with a slash begins at the root.

        Raises:
            InvalidArgumentError: ``..`` would lead out of the root.
        """
        parts = [*self.parts]
        for other in others:
            text = fspath(other)
            if text.startswith("/"):
                parts.clear()
            for name in text.split("/"):
                if name == ".." and not parts:
                    raise InvalidArgumentError(
                        f"{text!r} leads out of the root {self.root!r} of bucket {self.bucket!r}"
                    )
                if name == "..":
                    parts.pop()
                elif name not in _UNSPEAKABLE:
                    parts.append(name)
        return self._at(parts)

    def __truediv__(self, other: str | PathLike[str]) -> Self:
        if not isinstance(other, str | PathLike):
            return NotImplemented
        return self.joinpath(other)

    def with_name(self, name: str) -> Self:
        """Return the path with another name.

        Raises:
            InvalidArgumentError: the path is the root, or it is no name.
        """
        if not self.parts:
            raise InvalidArgumentError("the root has no name")
        if "/" in name or name in _UNSPEAKABLE:
            raise InvalidArgumentError(f"{name!r} is no name of a path")
        return self._at((*self.parts[:-1], name))

    def with_stem(self, stem: str) -> Self:
        """Return the path with another name and the same extension."""
        return self.with_name(stem + self.suffix)

    def with_suffix(self, suffix: str) -> Self:
        """Return the path with another extension, which begins with a dot; without one if it is empty.

        Raises:
            InvalidArgumentError: it is no extension, or the path has no name.
        """
        try:
            name = PurePosixPath(self.name).with_suffix(suffix).name
        except ValueError as error:
            raise InvalidArgumentError(str(error)) from None
        return self.with_name(name)

    def is_relative_to(self, other: PureStorePath) -> bool:
        """Tell whether the path is another one, or below it."""
        return self._place == other._place and self.parts[: len(other.parts)] == other.parts

    def relative_to(self, other: PureStorePath) -> PurePosixPath:
        """Return the way from another path to this one.

        Raises:
            InvalidArgumentError: this path is not below the other, or the way has a name that would be lost: an empty
                one, ``.`` or ``..``.
        """
        if not self.is_relative_to(other):
            raise InvalidArgumentError(f"{self!r} is not below {other!r}")
        way = self.parts[len(other.parts) :]
        if lost := _UNSPEAKABLE.intersection(way):
            raise InvalidArgumentError(f"the name {min(lost)!r} of {self!r} would be lost in a relative path")
        return PurePosixPath(*way)

    def match(self, pattern: str) -> bool:
        """Tell whether the last names match a pattern of `glob`, or all names if it begins with a slash.

        Raises:
            InvalidArgumentError: the pattern is empty.
        """
        if not pattern.strip("/"):
            raise InvalidArgumentError(f"the pattern {pattern!r} has no name")
        whole = pattern[1:] if pattern.startswith("/") else f"**/{pattern}"
        return re.compile(expression(whole), re.DOTALL).fullmatch("/".join(self.parts)) is not None

    @property
    def _place(self) -> tuple[int, str, str]:
        return id(self.store), self.bucket, self.root

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PureStorePath):
            return NotImplemented
        return (self._place, self.parts) == (other._place, other.parts)

    def __lt__(self, other: Any) -> bool:
        if not isinstance(other, PureStorePath) or self.store is not other.store:
            return NotImplemented
        return (self.bucket, self.root, self.parts) < (other.bucket, other.root, other.parts)

    def __hash__(self) -> int:
        return hash((self._place, self.parts))

    def __str__(self) -> str:
        """Return bucket and key."""
        return f"{self.bucket}/{self.key}"

    def __repr__(self) -> str:
        root = f", root={self.root!r}" if self.root else ""
        return f"{type(self).__name__}({self.store!r}, {self.bucket!r}, {'/'.join(self.parts)!r}{root})"
