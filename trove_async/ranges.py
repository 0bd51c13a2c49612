"""Byte ranges, and their positions in an object of a known size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trove_async.errors import InvalidRangeError, RangeNotSatisfiableError

__all__ = ["ByteRange", "RangeLike", "check_within", "coalesce"]


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A part of an object.

    Attributes:
        offset: the first byte, from 0; negative for the last ``-offset`` bytes.
        length: the number of bytes; None for all bytes to the end. A range may extend past the end.
    """

    offset: int = 0
    length: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.offset, int) or not (self.length is None or isinstance(self.length, int)):
            raise InvalidRangeError("the offset of a range must be an int, and its length an int or None")
        if self.length is not None and self.length < 0:
            raise InvalidRangeError(f"the length of a range is {self.length}; it must be 0 or more")
        if self.offset < 0 and self.length is not None:
            raise InvalidRangeError("a range of the last n bytes has no length: write (-n, None)")

    @classmethod
    def of(cls, value: RangeLike) -> ByteRange:
        """Return the range for ``(offset, length)``; a `ByteRange` is returned unchanged.

        Raises:
            InvalidRangeError: the length is negative, or it is not a pair of numbers.
        """
        if isinstance(value, ByteRange):
            return value
        try:
            offset, length = value
        except (TypeError, ValueError):
            raise InvalidRangeError(f"a range is (offset, length), not {value!r}") from None
        return cls(offset, length)

    @classmethod
    def suffix(cls, length: int) -> ByteRange:
        """Return the range of the last ``length`` bytes; the whole object if it is shorter."""
        if length < 0:
            raise InvalidRangeError(f"the length of a suffix is {length}; it must be 0 or more")
        return cls(-length, None) if length else cls(0, 0)

    @property
    def empty(self) -> bool:
        """Whether the range has no bytes, so that nothing has to be read."""
        return self.length == 0

    def header(self) -> str:
        """Return the value of the ``Range`` header (RFC 9110, section 14.2); the range must not be empty."""
        if self.offset < 0:
            return f"bytes={self.offset}"
        return f"bytes={self.offset}-{'' if self.length is None else self.offset + self.length - 1}"

    def resolve(self, size: int) -> tuple[int, int]:
        """Return ``(start, stop)`` within an object of ``size`` bytes.

        Raises:
            RangeNotSatisfiableError: the range starts at or past the end, and is not empty.
        """
        if self.length == 0:
            start = min(self.offset, size)
            return start, start
        if self.offset < 0:
            if size == 0:
                raise RangeNotSatisfiableError(f"the range is the last {-self.offset} bytes, but the object is empty")
            return max(0, size + self.offset), size
        if self.offset >= size:
            raise RangeNotSatisfiableError(f"the range starts at {self.offset}, but the object has {size} bytes")
        return self.offset, size if self.length is None else min(size, self.offset + self.length)


RangeLike = ByteRange | tuple[int, int | None]
"""A range as users may pass it: a `ByteRange` or ``(offset, length)``."""


def check_within(offset: int, length: int, size: int) -> None:
    """Refuse a range of a copy that extends past the end: the copy would be shorter than was asked for.

    Raises:
        RangeNotSatisfiableError: the object has fewer than ``offset + length`` bytes.
    """
    if offset + length > size:
        raise RangeNotSatisfiableError(
            f"the range has {length} bytes from {offset}, but the object has only {size} bytes"
        )


def coalesce(ranges: Iterable[ByteRange], gap: int, most: int) -> Sequence[tuple[ByteRange, list[int]]]:
    """Join ranges that overlap, and those that lie within ``gap`` bytes of each other and have ``most`` bytes together.

    Empty ranges are left out; ranges of the last bytes are not joined. Return each range to fetch, with the
    indexes of the given ranges that it contains.
    """
    ordered = sorted((r.offset, position, r) for position, r in enumerate(ranges) if not r.empty)
    joined: list[tuple[ByteRange, list[int]]] = []
    for offset, position, wanted in ordered:
        if joined and offset >= 0 and joined[-1][0].offset >= 0:
            last, positions = joined[-1]
            end = None if last.length is None else last.offset + last.length
            new_end = None if wanted.length is None or end is None else max(end, offset + wanted.length)
            fits = new_end is not None and new_end - last.offset <= most
            if end is None or offset < end or (offset <= end + gap and fits):
                joined[-1] = (
                    ByteRange(last.offset, None if new_end is None else new_end - last.offset),
                    [*positions, position],
                )
                continue
        joined.append((wanted, [position]))
    return joined
