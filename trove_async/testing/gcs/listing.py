"""Pages of objects (https://cloud.google.com/storage/docs/json_api/v1/objects/list).

Names are in the order of their UTF-8 bytes, which is the order of strings in Python.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from trove_async.testing.gcs.errors import invalid
from trove_async.testing.gcs.http import Request
from trove_async.testing.gcs.state import Bucket, StoredObject

__all__ = ["Page", "Position", "Selection", "page", "page_document", "page_size", "position_of", "token_of"]

_PAGE: Final = 1000
_LAST: Final = "\U0010ffff"  # the last code point

Position = tuple[str, int, bool]
"""The end of a page: a name, its generation, and True if it is a prefix."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The parameters of a list.

    Attributes:
        start: the first name, inclusive.
        end: the last name, exclusive; empty for no limit.
        trailing: list an object whose name ends with the first delimiter, in addition to its prefix.
        after: the end of the previous page.
    """

    prefix: str = ""
    delimiter: str = ""
    start: str = ""
    end: str = ""
    versions: bool = False
    trailing: bool = False
    glob: re.Pattern[str] | None = None
    size: int = _PAGE
    after: Position | None = None

    @classmethod
    def of(cls, request: Request) -> Selection:
        """Read the parameters of ``objects.list``.

        Raises:
            ServiceError: 400; one of them is not valid.
        """
        query = request.query
        glob = query.get("matchGlob")
        return cls(
            query.get("prefix", ""),
            query.get("delimiter", ""),
            query.get("startOffset", ""),
            query.get("endOffset", ""),
            request.flag("versions"),
            request.flag("includeTrailingDelimiter"),
            _glob(glob) if glob else None,
            page_size(request),
            position_of(query["pageToken"]) if query.get("pageToken") else None,
        )


@dataclass(slots=True)
class Page:
    """A page; items and prefixes both count towards its size.

    Attributes:
        end: its end if more pages follow; None on the last page.
    """

    items: list[StoredObject] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    end: Position | None = None

    def __len__(self) -> int:
        return len(self.items) + len(self.prefixes)


def page_size(request: Request) -> int:
    """Return the maximum number of results of a page, at most 1000.

    Raises:
        ServiceError: 400; it is negative or not a number.
    """
    asked = request.integer("maxResults")
    if asked is not None and asked < 0:
        raise invalid(f"Invalid value for parameter maxResults: {asked}", reason="invalidParameter")
    return min(asked or _PAGE, _PAGE)


def page(bucket: Bucket, selection: Selection) -> Page:
    """Return the page of a bucket's objects."""
    result = Page()
    last: Position = ("", 0, False)
    for entry in _entries(bucket, selection):
        if len(result) == selection.size:
            result.end = last
            break
        if isinstance(entry, str):
            result.prefixes.append(entry)
            last = (entry, 0, True)
        else:
            result.items.append(entry)
            last = (entry.name, entry.generation, False)
    return result


def _entries(bucket: Bucket, selection: Selection) -> Iterator[StoredObject | str]:
    """Yield objects and prefixes; the names below a prefix are skipped, not scanned."""
    after = selection.after
    low = max(selection.prefix, selection.start)
    yielded = ""  # the prefix that was yielded last
    if after is not None:
        low = max(low, after[0])
        yielded = after[0] if after[2] else _prefix_of(after[0], selection) or ""
    while True:
        for name in bucket.objects.irange(low):
            if not name.startswith(selection.prefix) or (selection.end and name >= selection.end):
                return
            shared = _prefix_of(name, selection)
            if shared is not None and shared != yielded and _has_any(bucket, name, selection):
                yielded = shared
                yield shared
            if shared is None or (selection.trailing and name == shared):
                yield from _listed(bucket, name, selection)
            elif yielded == shared:
                low = _following(shared)
                break
        else:
            return


def _following(prefix: str) -> str:
    """Return the first name after all names with a prefix."""
    stem = prefix.rstrip(_LAST)
    return stem[:-1] + chr(ord(stem[-1]) + 1) if stem else prefix + _LAST * 1024


def _prefix_of(name: str, selection: Selection) -> str | None:
    if not selection.delimiter:
        return None
    at = name.find(selection.delimiter, len(selection.prefix))
    return None if at == -1 else name[: at + len(selection.delimiter)]


def _listed(bucket: Bucket, name: str, selection: Selection) -> Iterator[StoredObject]:
    if selection.glob is not None and not selection.glob.fullmatch(name):
        return
    after = selection.after
    for version in bucket.objects[name]:
        if not selection.versions and version.deleted is not None:
            continue
        if after is not None and not after[2] and (name, version.generation) <= after[:2]:
            continue
        yield version


def _has_any(bucket: Bucket, name: str, selection: Selection) -> bool:
    if selection.glob is not None and not selection.glob.fullmatch(name):
        return False
    return selection.versions or bucket.live(name) is not None


def token_of(position: Position) -> str:
    """Return the page token for what follows a position."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


def position_of(token: str) -> Position:
    """Return the position that a page token stands for.

    Raises:
        ServiceError: 400; it is not a page token.
    """
    try:
        name, generation, is_prefix = json.loads(base64.urlsafe_b64decode(token))
        return str(name), int(generation), bool(is_prefix)
    except (ValueError, TypeError) as error:
        raise invalid(f"Invalid value for parameter pageToken: {token}") from error


@lru_cache(maxsize=64)
def _glob(pattern: str) -> re.Pattern[str]:
    # `*` and `?` do not match slashes, `**` does; {a,b} are alternatives. Source:
    # https://cloud.google.com/storage/docs/json_api/v1/objects/list#list-object-glob.
    out: list[str] = []
    position = depth = 0
    while position < len(pattern):
        rest, step = pattern[position:], 1
        if rest.startswith("**/"):
            piece, step = "(?:.*/)?", 3
        elif rest.startswith("**"):
            piece, step = ".*", 2
        elif rest[0] in "*?":
            piece = "[^/]*" if rest[0] == "*" else "[^/]"
        elif rest[0] == "[" and "]" in rest[2:]:
            step = rest.index("]", 2) + 1
            body = rest[1 : step - 1].replace("\\", "\\\\").replace("[", "\\[")
            piece = f"[^{body[1:]}]" if body[0] in "!^" else f"[{body}]"
        elif rest[0] in "{}," and (rest[0] == "{" or depth):
            piece = {"{": "(?:", "}": ")", ",": "|"}[rest[0]]
            depth += {"{": 1, "}": -1, ",": 0}[rest[0]]
        elif rest[0] == "\\" and len(rest) > 1:
            piece, step = re.escape(rest[1]), 2
        else:
            piece = re.escape(rest[0])
        out.append(piece)
        position += step
    try:
        return re.compile("".join(out), re.DOTALL)
    except re.error as error:
        raise invalid(f"Invalid glob: {pattern}") from error


def page_document(found: Page) -> dict[str, Any]:
    """Return the document of a page without its items."""
    document: dict[str, Any] = {"kind": "storage#objects"}
    if found.end is not None:
        document["nextPageToken"] = token_of(found.end)
    if found.prefixes:
        document["prefixes"] = found.prefixes
    return document
