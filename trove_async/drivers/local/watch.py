"""Watching a bucket's directory for changes by this process, by others and by hand.

The notifications of the system (inotify, through watchfiles) are only a hint: they name paths, may be repeated or
merged, and miss changes in a new directory before it is watched. Changes are found by comparing ETags with those seen
before, so every event is true, sent once, and in order for each key.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Iterable
from contextvars import Context
from copy import copy
from datetime import UTC, datetime
from typing import Final, NamedTuple

from trove_async.cancellation import finish
from trove_async.driver import ListOptions, WatchOptions
from trove_async.drivers.local.core import LocalCore
from trove_async.errors import BucketNotFoundError, ClosedError, WatchOverflowError
from trove_async.tree.names import CONTINUED, decode
from trove_async.types import EventType, ObjectEvent, ObjectInfo

__all__ = ["Observers"]

_LIST_AGAIN: Final = 0.25
"""Seconds after which a new directory is listed again; by then it is watched too."""


class Observers:
    """The observers of a store: one for each bucket and prefix that are watched, however many watch them."""

    def __init__(self, driver: LocalCore) -> None:
        self._driver = driver
        self._observers: dict[tuple[str, str], _Observer] = {}

    async def watch(self, directory: str, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        """Yield the changes of a bucket whose directory is ``directory``."""
        base = os.path.realpath(directory)  # noqa: ASYNC240 - once, before anything waits
        place = base, options.prefix
        observer = self._observers.get(place)
        if observer is None or not observer.is_current():
            observer = self._observers[place] = _Observer(self._driver, base, bucket, options.prefix)
        waiting = observer.add(options)
        try:
            await observer.admit(waiting)
            options.on_ready()
            while True:
                await waiting.changed.wait()
                for change in waiting.take():
                    event = change.event(bucket)
                    if event is not None and event.type in options.events:
                        yield event
        finally:
            leaving = self._leave(place, observer, waiting)
            await finish(leaving, timeout=self._driver.cleanup_timeout, leftover="the thread of a watch")

    async def _leave(self, place: tuple[str, str], observer: _Observer, waiting: _Waiting) -> None:
        observer.watches.discard(waiting)
        if not observer.watches:
            if self._observers.get(place) is observer:
                del self._observers[place]
            await observer.aclose()


class _Change(NamedTuple):
    """What a key had been, and what it is."""

    key: str
    before: str | None
    info: ObjectInfo | None

    def event(self, bucket: str) -> ObjectEvent | None:
        """Return the event of the change; None if the key is again what it had been."""
        key, before, info = self
        if info is None:
            return None if before is None else ObjectEvent(EventType.DELETED, bucket, key, time=datetime.now(UTC))
        if info.etag == before:
            return None
        kind = EventType.CREATED if before is None else EventType.UPDATED
        return ObjectEvent(kind, bucket, key, size=info.size, etag=info.etag, time=info.last_modified)


class _Waiting:
    """The changes that wait for the consumer of one watch, those of one key as one.

    Attributes:
        begun: whether it gets changes.
        apart: the ETags that the listing of this watch found other than the observer; None stands for no object.
        changed: set while there is something to take.
    """

    def __init__(self, capacity: int) -> None:
        self.begun = False
        self.apart: dict[str, str | None] = {}
        self.changed = asyncio.Event()
        self._capacity = capacity
        self._paths: set[str] = set()
        self._changes: dict[str, _Change] = {}
        self._failure: Exception | None = None

    def count(self, paths: Iterable[str]) -> None:
        """Count paths that changed against the size of the buffer."""
        if self._failure is None:
            self._paths.update(paths)
            if len(self._paths) > self._capacity:
                lost = f"more than {self._capacity} changes waited, and some are lost; list again"
                self.fail(WatchOverflowError(lost))

    def add(self, change: _Change) -> None:
        """Add what was found out about a key, unless the watch has seen that."""
        key, before, info = change
        before = self.apart.pop(key, before)
        if self._failure is None and before != (info and info.etag):
            earlier = self._changes.get(key)
            self._changes[key] = _Change(key, earlier.before if earlier else before, info)
            self.changed.set()

    def fail(self, error: Exception) -> None:
        """End the watch with an error."""
        self._failure = self._failure or error
        self._paths.clear()
        self._changes.clear()
        self.changed.set()

    def check(self) -> None:
        """Raise the error that has ended the watch, if there is one."""
        if self._failure is not None:
            # A copy for each watch: the error records where it was raised.
            raise copy(self._failure) from self._failure.__cause__

    def take(self) -> Iterable[_Change]:
        """Return the changes since the last call."""
        self.changed.clear()
        self.check()
        changes, self._changes = self._changes, {}
        self._paths.clear()
        return changes.values()


class _Observer:
    """A task that finds out what has changed, once for all watches of a bucket and prefix.

    Attributes:
        watches: what waits for the consumer of each.
    """

    def __init__(self, driver: LocalCore, base: str, bucket: str, prefix: str) -> None:
        self.watches: set[_Waiting] = set()
        self._base = base
        self._bucket = bucket
        self._prefix = prefix
        self._seen = _Seen(driver, bucket, prefix)
        self._again: list[str] = []
        self._ended = False
        self._listed = asyncio.Event()
        self._unsure: dict[str, None] = {}
        self._notified = driver.notifiers.subscribe(base)
        # A context of its own: it outlives the watch that began it.
        self._task = asyncio.create_task(self._run(), context=Context())

    def is_current(self) -> bool:
        """Return whether this surely observes the directory that has its path now."""
        return not self._ended and self._notified.is_current()

    def add(self, options: WatchOptions) -> _Waiting:
        """Add a watch, which has yet to be admitted."""
        waiting = _Waiting(options.buffer_size)
        self.watches.add(waiting)
        self._notified.capacity = max(self._notified.capacity, options.buffer_size)
        return waiting

    async def admit(self, waiting: _Waiting) -> None:
        """Let a watch begin with what is there now, of which the observer may not have been notified yet."""
        await self._listed.wait()
        waiting.check()
        if not waiting.begun:
            waiting.apart = self._seen.other_than(await self._seen.objects(self._prefix))
            waiting.begun = True
            self._check_again(*waiting.apart)

    async def aclose(self) -> None:
        """End the task and its notifications."""
        self._task.cancel()
        await asyncio.wait({self._task})
        await self._notified.aclose()

    async def _run(self) -> None:
        failure: Exception = ClosedError("the task of the watch was cancelled")
        try:
            await self._notified.ready.wait()
            self._notified.take()
            for waiting in self.watches:
                waiting.begun = True
            await self._seen.check_prefix("")
            self._listed.set()
            while True:
                await self._turn()
        except Exception as error:  # noqa: BLE001 - it is raised to the consumers
            failure = error
        finally:
            self._ended = True
            for waiting in self.watches:
                waiting.fail(failure)
            self._listed.set()

    async def _turn(self) -> None:
        prefixes: list[str] = []
        try:
            async with asyncio.timeout(_LIST_AGAIN if self._again else None):
                await self._notified.changed.wait()
        except TimeoutError:
            prefixes, self._again = self._again, []
        paths = self._notified.take()
        for waiting in self.watches:
            if waiting.begun:
                waiting.count(paths)
        unsure, self._unsure = self._unsure, {}
        for known in unsure:
            await self._tell(self._seen.check_key(known))
        for path in paths:
            if path == self._base:
                if not os.path.isdir(path):  # noqa: ASYNC240 - one system call
                    raise BucketNotFoundError(f"the bucket {self._bucket!r} was deleted", bucket=self._bucket)
                prefixes.append("")
                continue
            key = _key_of(path[len(self._base) + 1 :])
            if key is not None:
                await self._tell(self._seen.check_key(key))
                if not key.endswith("/"):
                    key += "/"
                if self._seen.holds_below(key) or os.path.isdir(path):  # noqa: ASYNC240 - one system call
                    prefixes.append(key)
                    self._again.append(key)
        for prefix in prefixes:
            await self._tell(self._seen.check_prefix(prefix))

    async def _tell(self, check: Awaitable[list[_Change]]) -> None:
        """Tell the watches what a check finds; for one that began meanwhile, which may know better, check again."""
        told = {waiting for waiting in self.watches if waiting.begun}
        for change in await check:
            for waiting in self.watches:
                if waiting in told:
                    waiting.add(change)
                elif waiting.begun:
                    waiting.apart.setdefault(change.key, change.before)
                    self._check_again(change.key)

    def _check_again(self, *keys: str) -> None:
        self._unsure.update(dict.fromkeys(keys))
        self._notified.changed.set()


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

    async def check_key(self, key: str) -> list[_Change]:
        """Return what was and is there of one key, also if that is the same."""
        if not key.startswith(self._prefix):
            return []
        return [self._see(key, await self._driver.find(self._bucket, key))]

    async def check_prefix(self, prefix: str) -> list[_Change]:
        """Return the changes of all keys that begin with ``prefix``."""
        if not (prefix.startswith(self._prefix) or self._prefix.startswith(prefix)):
            return []
        wanted = max(prefix, self._prefix, key=len)
        found = await self.objects(wanted)
        gone = [key for key in self._etags if key.startswith(wanted) and key not in found]
        changed = [key for key, info in found.items() if info.etag != self._etags.get(key)]
        return [self._see(key, found.get(key)) for key in (*gone, *changed)]

    async def objects(self, prefix: str) -> dict[str, ObjectInfo]:
        """List the objects whose keys begin with ``prefix``."""
        found: dict[str, ObjectInfo] = {}
        async for item in self._driver.list(self._bucket, ListOptions(prefix=prefix)):
            if isinstance(item, ObjectInfo):
                found[item.key] = item
        return found

    def other_than(self, found: dict[str, ObjectInfo]) -> dict[str, str | None]:
        """Return the ETags that a listing found other than they were last seen; None stands for no object."""
        other: dict[str, str | None] = {key: None for key in self._etags if key not in found}
        other.update((key, info.etag) for key, info in found.items() if info.etag != self._etags.get(key))
        return other

    def _see(self, key: str, info: ObjectInfo | None) -> _Change:
        before = self._etags.pop(key, None)
        if info is not None:
            self._etags[key] = info.etag
        return _Change(key, before, info)


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
