"""One page of a listing, from sorted keys."""

from __future__ import annotations

from collections.abc import Iterator

from sortedcontainers import SortedDict

from trove_async.driver.options import ListOptions
from trove_async.drivers.memory.entry import Entry
from trove_async.errors import InvalidCursorError
from trove_async.keys import successor
from trove_async.listing import ListPage
from trove_async.types import ObjectInfo, Prefix

__all__ = ["list_page"]

# A cursor is a letter for the kind of the last name on its page, followed by this name.
_KEY = "k"
_PREFIX = "p"


def list_page(entries: SortedDict[str, Entry], options: ListOptions) -> ListPage:
    """Return the page that begins where the options say.

    The keys of a group are skipped: a group costs one search, however many keys it has.
    """
    prefix, delimiter = options.prefix, options.delimiter
    begin = _begin(options)
    if begin is None:
        return ListPage()
    end = successor(prefix)
    keys = _keys(entries, *begin, end)
    objects: list[ObjectInfo] = []
    groups: list[Prefix] = []
    cursor = ""
    left = options.page_size
    while (key := next(keys, None)) is not None:
        if not left:
            return ListPage(objects, groups, cursor)
        left -= 1
        at = -1 if delimiter is None else key.find(delimiter, len(prefix))
        if delimiter is None or at < 0:
            objects.append(entries[key].listed)
            cursor = _KEY + key
            continue
        group = key[: at + len(delimiter)]
        groups.append(Prefix(group))
        cursor = _PREFIX + group
        following = successor(group)
        if following is None:
            break
        keys = _keys(entries, following, False, end)
    return ListPage(objects, groups)


def _keys(entries: SortedDict[str, Entry], begin: str, exclusive: bool, end: str | None) -> Iterator[str]:
    return entries.irange(begin, end, inclusive=(not exclusive, False))


def _begin(options: ListOptions) -> tuple[str, bool] | None:
    """Return the name at which the page begins and whether it is excluded; None at the end of the listing."""
    bounds = [(options.prefix, False)]
    if options.start_after is not None:
        bounds.append((options.start_after, True))
    if options.cursor is not None:
        kind, name = options.cursor[:1], options.cursor[1:]
        if kind == _KEY:
            bounds.append((name, True))
        elif kind == _PREFIX:
            following = successor(name)
            if following is None:
                return None
            bounds.append((following, False))
        else:
            raise InvalidCursorError("the cursor is not from a listing of the memory driver")
    return max(bounds)
