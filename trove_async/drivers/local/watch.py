"""Watching a bucket's directory for changes by this process, by others and by hand.

The notifications of the system (inotify, through watchfiles) are only a hint: they name paths, may be repeated or
merged, and miss changes in a new directory before it is watched. Changes are found by comparing ETags with those seen
before, so every event is true, sent once, and in order for each key.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Final

from trove_async.cancellation import finish
from trove_async.driver import ListOptions, WatchOptions
from trove_async.drivers.local.core import LocalCore
from trove_async.errors import BucketNotFoundError
from trove_async.tree.names import CONTINUED, decode
from trove_async.types import EventType, ObjectEvent, ObjectInfo

__all__ = ["watch"]

_LIST_AGAIN: Final = 0.25
"""Seconds after which a new directory is listed again; by then it is watched too."""


async def watch(
    driver: LocalCore, directory: str, bucket: str, options: WatchOptions
) -> AsyncGenerator[ObjectEvent, None]:
    """Yield the changes of a bucket whose directory is ``directory``."""
    base = os.path.realpath(directory)  # noqa: ASYNC240 - once, before anything waits
    notifier = driver.notifiers.subscribe(base, options.buffer_size)
    try:
        await notifier.ready.wait()
        notifier.take()
        seen = _Seen(driver, bucket, options.prefix)
        await seen.check_prefix("")
        options.on_ready()
        again: list[str] = []
        while True:
            prefixes: list[str] = []
            try:
                # The timeout covers only this wait, so that no cancel scope is open at the yield below.
                async with asyncio.timeout(_LIST_AGAIN if again else None):
                    await notifier.changed.wait()
            except TimeoutError:
                prefixes, again = again, []
            changes: list[ObjectEvent] = []
            for path in notifier.take():
                if path == base:
                    if not os.path.isdir(base):  # noqa: ASYNC240 - one system call
                        raise BucketNotFoundError(f"the bucket {bucket!r} was deleted", bucket=bucket)
                    prefixes.append("")
                    continue
                key = _key_of(path[len(base) + 1 :])
                if key is not None:
                    changes += await seen.check_key(key)
                    if not key.endswith("/"):
                        key += "/"
                    if seen.holds_below(key) or os.path.isdir(path):  # noqa: ASYNC240 - one system call
                        prefixes.append(key)
                        again.append(key)
            for prefix in prefixes:
                changes += await seen.check_prefix(prefix)
            for event in changes:
                if event.type in options.events:
                    yield event
    finally:
        await finish(notifier.aclose(), timeout=driver.cleanup_timeout, leftover="the thread of a watch")


class _Seen:
    """The ETags that were last seen, and what has changed since."""

    def __init__(self, driver: LocalCore, bucket: str, prefix: str) -> None:
        self._driver = driver
        self._bucket = bucket
        self._prefix = prefix
        self._etags: dict[str, str] = {}

    def holds_below(self, prefix: str) -> bool:
        """Return whether there was an object whose key begins with the prefix."""
        return any(key.startswith(prefix) for key in self._etags)

    async def check_key(self, key: str) -> list[ObjectEvent]:
        """Return the changes of one key."""
        if not key.startswith(self._prefix):
            return []
        return self._compare(key, await self._driver.find(self._bucket, key))

    async def check_prefix(self, prefix: str) -> list[ObjectEvent]:
        """Return the changes of all keys that begin with ``prefix``."""
        if not (prefix.startswith(self._prefix) or self._prefix.startswith(prefix)):
            return []
        wanted = max(prefix, self._prefix, key=len)
        found: dict[str, ObjectInfo] = {}
        async for item in self._driver.list(self._bucket, ListOptions(prefix=wanted)):
            if isinstance(item, ObjectInfo):
                found[item.key] = item
        gone = [key for key in self._etags if key.startswith(wanted) and key not in found]
        return [event for key in (*gone, *found) for event in self._compare(key, found.get(key))]

    def _compare(self, key: str, info: ObjectInfo | None) -> list[ObjectEvent]:
        before = self._etags.get(key)
        if info is None:
            if before is None:
                return []
            del self._etags[key]
            return [ObjectEvent(EventType.DELETED, self._bucket, key, time=datetime.now(UTC))]
        if info.etag == before:
            return []
        self._etags[key] = info.etag
        kind = EventType.CREATED if before is None else EventType.UPDATED
        return [ObjectEvent(kind, self._bucket, key, size=info.size, etag=info.etag, time=info.last_modified)]


def _key_of(path: str) -> str | None:
    """Return the key of a path within the bucket; None if it is no key's path."""
    key = ""
    separator = ""
    for name in path.split("/"):
        entry = decode(name)
        if entry is None:
            return None
        key += separator + entry.text
        separator = "" if entry.mark == CONTINUED else "/"
    return key
