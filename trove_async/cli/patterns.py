"""Patterns of keys: ``*`` and ``?`` within one component, ``**`` across them."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator

from trove_async.globs import expression
from trove_async.listing import Item
from trove_async.store import Trove
from trove_async.types import ObjectInfo, Prefix

__all__ = ["expand", "fixed_part", "is_pattern", "literal_start", "matcher", "matching_paths"]


def is_pattern(key: str) -> bool:
    """Return whether a key is a pattern."""
    return "*" in key or "?" in key


def fixed_part(pattern: str) -> str:
    """Return the components before the first wildcard, with the slash after them."""
    start = min(i for i in (pattern.find("*"), pattern.find("?")) if i >= 0)
    return pattern[: pattern.rfind("/", 0, start) + 1]


def matcher(pattern: str) -> re.Pattern[str]:
    """Return the regular expression that matches the keys of a pattern; see `trove_async.globs.expression`."""
    return re.compile(expression(pattern), re.DOTALL)


async def expand(store: Trove, bucket: str, pattern: str, *, prefixes: bool) -> AsyncIterator[Item]:
    """Yield the objects and folders that match a pattern.

    Only the levels that the pattern reaches are listed; with ``**``, everything below its fixed part.

    Args:
        store, bucket: where.
        pattern: has a wildcard.
        prefixes: where the pattern is that of a folder, yield it as a `Prefix`.
    """
    base = fixed_part(pattern)
    if "**" in pattern:
        matches = matcher(pattern).fullmatch
        async for info in store.list(bucket, literal_start(pattern)):
            if matches(info.key):
                yield info
        return
    components = pattern[len(base) :].split("/")
    async for item in _descend(store, bucket, base, components):
        if prefixes or isinstance(item, ObjectInfo):
            yield item


async def _descend(store: Trove, bucket: str, base: str, components: list[str]) -> AsyncIterator[Item]:
    """Yield the matches of the components below ``base``, level by level."""
    component, *below = components
    folders = below == [""]  # a slash at the end
    if folders:
        below = []
    matches = matcher(component).fullmatch
    async for item in store.list(bucket, base + literal_start(component), delimiter="/"):
        name = item.key[len(base) :]
        if isinstance(item, Prefix):
            if not matches(name.removesuffix("/")):
                continue
            if not below:
                yield item
                continue
            async for found in _descend(store, bucket, item.prefix, below):
                yield found
        elif not below and not folders and matches(name):
            yield item


def matching_paths(pattern: str) -> list[str]:
    """Return the local paths that match a pattern, in order; see `matcher`."""
    base = fixed_part(pattern)
    if "**" in pattern:
        matches = matcher(pattern).fullmatch
        walked = (f"{folder}/{name}" for folder, _, names in os.walk(base or ".") for name in names)
        paths = (path if base else path.removeprefix("./") for path in walked)
        return sorted(path for path in (path.replace("//", "/") for path in paths) if matches(path))
    found = [base]
    for component in pattern[len(base) :].split("/"):
        if component:
            found = [path for folder in found for path in _entries(folder, component)]
    return sorted(found)


def _entries(folder: str, component: str) -> list[str]:
    """Return the paths in a folder whose name matches; none if it is no folder, or cannot be read."""
    matches = matcher(component).fullmatch
    where = folder if not folder or folder.endswith("/") else f"{folder}/"
    try:
        return [f"{where}{name}" for name in os.listdir(where or ".") if matches(name)]
    except OSError:
        return []


def literal_start(pattern: str) -> str:
    """Return the text before the first wildcard."""
    return re.split(r"[*?]", pattern, maxsplit=1)[0]
