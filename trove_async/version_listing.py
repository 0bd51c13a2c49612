"""Listings of the versions of a bucket: the pages that drivers return, and the iterator that users read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self, final

from trove_async.errors import BackendError, InvalidCursorError
from trove_async.iteration import CursorChecker, PageIterator, decode_cursor, encode_cursor
from trove_async.types import VersionInfo
from trove_async.values import can_be_kept

__all__ = ["VersionIterator", "VersionMark", "VersionPage", "VersionPageChecker"]

_CURSOR: Final = 2
"""The kind of the iterator's cursors."""

_MARK: Final = 3
"""The kind of the marks of drivers."""


@dataclass(frozen=True, slots=True)
class VersionPage:
    """One page of a listing of versions, as a driver returns it.

    Attributes:
        versions: versions and delete markers, in the order of their keys' UTF-8 bytes; those of one key newest first.
        cursor: continues the listing after this page, with the same options; None at the end.
            A page with a cursor may be empty.
    """

    versions: Sequence[VersionInfo] = ()
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class VersionMark:
    """A position in a listing of versions: after a version, or after all versions of a key.

    Attributes:
        key: of the version.
        version_id: of the version; None for a position after all versions of the key.
        modified: when the version was made, in ISO 8601: tells what came after it if it was deleted meanwhile.
    """

    key: str
    version_id: str | None = None
    modified: str | None = None

    @classmethod
    def of(cls, version: VersionInfo) -> Self:
        """Return the position after a version."""
        modified = version.last_modified
        return cls(version.key, version.version_id, None if modified is None else modified.isoformat())

    def encode(self) -> str:
        """Return the position as a text, for the cursor of a driver."""
        return encode_cursor(_MARK, (self.key, self.version_id, self.modified))

    @classmethod
    def decode(cls, cursor: str) -> Self:
        """Return the position in a text of `encode`.

        Raises:
            InvalidCursorError: it is something else.
        """
        key, version_id, modified = decode_cursor(_MARK, 3, cursor)
        if key is None or not can_be_kept(key):
            raise InvalidCursorError("this is not the cursor of a listing of versions")
        return cls(key, version_id, modified)

    def is_in(self, versions: Sequence[VersionInfo]) -> bool:
        """Return whether the version itself is among these."""
        return any(version.version_id == self.version_id and version.key == self.key for version in versions)

    def after(self, versions: Sequence[VersionInfo]) -> list[VersionInfo]:
        """Return the versions behind the position, of versions that include all of its key.

        If the version was deleted meanwhile, the versions of its key that are not newer than it follow, and the first
        one: on some backends an older version that becomes the latest has a new time. It may have been listed before.
        """
        same = [version for version in versions if version.key == self.key]
        later = [version for version in versions if version.key > self.key]
        if self.version_id is None:
            return later
        place = next((n for n, version in enumerate(same) if version.version_id == self.version_id), None)
        if place is not None:
            return same[place + 1 :] + later
        return same[:1] + [version for version in same[1:] if not self._is_newer(version)] + later

    def _is_newer(self, version: VersionInfo) -> bool:
        if self.modified is None or version.last_modified is None:
            return False
        return version.last_modified.isoformat() > self.modified


class VersionPageChecker:
    """Checks the pages of one listing of versions, in their order.

    Whatever a service answers, a listing either returns every version once and in the order of the keys and then ends,
    or it raises.
    """

    def __init__(self, prefix: str = "", cursor: str | None = None) -> None:
        """Make a checker.

        Args:
            prefix: of the listing.
            cursor: the driver's cursor of the first page; None at the start of the listing.
        """
        self._prefix = prefix
        self._last: tuple[str, str] | None = None
        self._cursors = CursorChecker(cursor)

    def accept(self, page: VersionPage) -> Sequence[VersionInfo]:
        """Return the versions of the next page.

        Raises:
            BackendError: keys are out of order or outside of the prefix; a version is repeated; a size is negative; a
                cursor is repeated; or 1,000 empty pages follow each other.
        """
        names = [(version.key, version.version_id) for version in page.versions]
        if names:
            self._check(names)
            if any(version.size < 0 for version in page.versions):
                raise BackendError("the backend listed a version with a negative size")
            self._last = names[-1]
        self._cursors.accept(page.cursor, empty=not names)
        return page.versions

    def _check(self, names: Sequence[tuple[str, str]]) -> None:
        before = "" if self._last is None else self._last[0]
        for key, _ in names:
            if key < before:
                raise BackendError(f"the listing is out of order: the backend listed {key!r} after {before!r}")
            before = key
        # In this order all keys between two keys with a prefix have the prefix too.
        for key, _ in (names[0], names[-1]):
            if not key.startswith(self._prefix):
                raise BackendError(f"the backend listed {key!r}, which does not begin with {self._prefix!r}")
        if len(set(names)) != len(names) or names[0] == self._last:
            raise BackendError("the backend listed a version twice")


FetchVersions = Callable[[str | None], Awaitable[VersionPage]]


@final
class VersionIterator(PageIterator[VersionInfo]):
    """A listing of versions; read it with ``async for``, `next`, `all` or `pages`.

    It has a position but no connection, so it need not be closed.
    """

    def __init__(self, fetch: FetchVersions, *, bucket: str, prefix: str = "", cursor: str | None = None) -> None:
        """Make an iterator.

        Args:
            fetch: returns the page for a driver's cursor, None for the first.
            bucket, prefix: of the listing; a cursor of another listing is an error.
            cursor: where to continue: the `cursor` of another iterator.

        Raises:
            InvalidCursorError: the cursor is malformed, or belongs to another listing.
        """
        page: str | None = None
        self._mark: VersionMark | None = None
        if cursor is not None:
            theirs, their_prefix, page, key, version_id, modified = decode_cursor(_CURSOR, 6, cursor)
            for name, found, wanted in (("bucket", theirs, bucket), ("prefix", their_prefix, prefix)):
                if found != wanted:
                    raise InvalidCursorError(f"the cursor belongs to a listing with {name} {found!r}, not {wanted!r}")
            self._mark = None if key is None else VersionMark(key, version_id, modified)
        super().__init__(page=page, resuming=self._mark is not None)
        self._fetch = fetch
        self._bucket = bucket
        self._prefix = prefix
        self._checker = VersionPageChecker(prefix, page)
        self._held: list[VersionInfo] = []  # versions of the mark's key, until the mark is found among them

    def _position(self) -> str:
        mark = self._mark if self._last is None else VersionMark.of(self._last)
        key, version_id, modified = (None, None, None) if mark is None else (mark.key, mark.version_id, mark.modified)
        return encode_cursor(_CURSOR, (self._bucket, self._prefix, self._page, key, version_id, modified))

    async def _load(self, cursor: str | None) -> tuple[Sequence[VersionInfo], str | None]:
        page = await self._fetch(cursor)
        return self._checker.accept(page), page.cursor

    def _remaining(self, items: Sequence[VersionInfo]) -> Sequence[VersionInfo] | None:
        # The versions of one key may fill several pages, because the pages are smaller now.
        mark = self._mark
        assert mark is not None
        self._held += [version for version in items if version.key >= mark.key]
        passed = self._exhausted or mark.is_in(self._held) or (self._held and self._held[-1].key > mark.key)
        if not passed:
            return None
        remaining = mark.after(self._held)
        self._held.clear()
        return remaining
