"""What ``fsck`` finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Depth", "FsckReport", "Problem", "ProblemKind"]


class Depth(StrEnum):
    """How closely ``fsck`` looks. Each depth includes those before it."""

    ROWS = "rows"
    """Compares the tables with each other; the store is not asked."""
    HEADS = "heads"
    """Compares the tables with a listing of the store: what is there, and how long it is."""
    BYTES = "bytes"
    """Reads all bytes, and compares them with their digests."""


class ProblemKind(StrEnum):
    """What is wrong, and how it is repaired."""

    COUNT = "count"
    """Content counts other references than it has; they are counted again."""
    DANGLING = "dangling"
    """A name refers to content that is not stored. Content that is condemned is taken back; if nothing is known of it,
    the name is removed."""
    MISSING = "missing"
    """The bytes of content are missing. It is marked as lost: reads fail until somebody stores the same content, which
    restores it for all names."""
    LENGTH = "length"
    """There are more or fewer bytes than were stored; repaired as for ``missing``."""
    BYTES = "bytes"
    """The bytes do not match their digest; repaired as for ``missing``."""
    UNREADABLE = "unreadable"
    """The store refuses to return the bytes of content, such as those that it has archived. Nothing is changed."""
    RECOVERED = "recovered"
    """Content is marked as lost, and its bytes are there; it is marked as stored."""
    UNFINISHED = "unfinished"
    """A multipart upload was begun before the grace and not completed; it is aborted."""
    ORPHAN = "orphan"
    """There are bytes that no content has; they are condemned, and the collector deletes them."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: what is wrong.
        subject: what it is about: the id of content, a name as ``bucket/path``, ``users/user/path`` or ``all/path``, or
            the path of bytes.
        detail: for people.
        digest: of the content, as ``algorithm:hex``; empty if it is not known.
        repaired: whether it was repaired, as its kind says.
    """

    kind: ProblemKind
    subject: str
    detail: str
    digest: str = ""
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class FsckReport:
    """What was looked at, and what was found.

    Attributes:
        depth: how closely.
        blobs: contents that are known.
        bytes: that were read.
        problems: in the order in which they were found.
    """

    depth: Depth
    blobs: int
    bytes: int
    problems: tuple[Problem, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong now: nothing was found, or all of it was corrected, and no content is lost."""
        lost = {ProblemKind.MISSING, ProblemKind.LENGTH, ProblemKind.BYTES}
        return all(problem.repaired and problem.kind not in lost for problem in self.problems)
