"""Watching by listing again and again, for backends that tell nothing of changes by themselves.

What it costs, with ``n`` keys below the watched prefix:

- requests: ``n / 1000`` listings (rounded up, where pages have 1,000 keys) for each ``poll_interval``, and as many once
  before the watch is ready. A million keys looked at every five seconds are 200 requests a second, if the service
  lets them through that fast; a narrow prefix and a longer interval are what makes polling cheap.
- memory: the key and the ETag of each, packed: 23 bytes a key where keys are numbered and ETags are MD5 digests,
  41 where keys are random too; and one page of the listing.
- processor: less than a millisecond for each page of 1,000 keys, beside what the listing takes.
- time: a change is seen when its key is listed next, so up to ``poll_interval`` and the duration of one listing later.

What has changed is decided against the ETag that was seen last. So an object that was deleted and made anew, or
replaced more than once, between two listings makes one event; one that came and went makes none; and, where ETags
are digests of the content, nor does a put of the same bytes.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime

from trove_async.driver.options import ListOptions, WatchOptions
from trove_async.driver.retry import WATCHING
from trove_async.errors import TroveError
from trove_async.listing import ListPage, PageChecker
from trove_async.types import EventType, ObjectEvent, ObjectInfo

__all__ = ["poll"]

_log = logging.getLogger("trove_async")

_ListPage = Callable[[str, ListOptions], Awaitable[ListPage]]
_Sleep = Callable[[float], Awaitable[object]]


async def poll(
    list_page: _ListPage, bucket: str, options: WatchOptions, *, sleep: _Sleep = asyncio.sleep
) -> AsyncGenerator[ObjectEvent, None]:
    """Yield the changes between one listing and the next; see `NotificationDriver.watch`.

    The watch is ready when all keys have been listed once; it sees every later change. The next listing begins
    ``options.poll_interval`` seconds after the previous one has ended. A slow consumer delays it, and gets several
    changes of a key as one event; there is no buffer, so ``options.buffer_size`` is not used and no event is lost.

    If a page fails with a ``retryable`` error, it is requested again, without a limit: after a random delay of up to
    1, 2, 4 … 60 seconds, in addition to that which the service asks for. Each failure is logged as a warning. Before
    the watch is ready, the error is raised.

    Args:
        list_page: `Driver.list_page` of the backend.
        bucket: the bucket to watch.
        options: ``prefix``, ``events``, ``poll_interval`` and ``on_ready`` are used.
        sleep: waits for some seconds; it may raise to end the watch.

    Raises:
        BucketNotFoundError: the bucket does not exist, or was deleted.
        TroveError: any other error of a listing.
    """
    known = _Known()
    async with aclosing(_pages(list_page, bucket, options.prefix, None)) as pages:
        async for page in pages:
            known.add(page.objects)
    options.on_ready()
    while True:
        await sleep(options.poll_interval)
        before, known = known, _Known()
        async with aclosing(_pages(list_page, bucket, options.prefix, sleep)) as pages:
            async for page in pages:
                known.add(page.objects)
                created = {info.key: info for info in page.objects}
                for entries in before.take(_last_key(page)):
                    await asyncio.sleep(0)  # a million keys may be gone at once
                    for key, etag in entries:
                        info = created.pop(key, None)
                        if info is None:
                            kind = EventType.DELETED
                        elif info.etag != etag:
                            kind = EventType.UPDATED
                        else:
                            continue
                        if kind in options.events:
                            yield _event(kind, bucket, key, info)
                if EventType.CREATED in options.events:
                    for key, info in created.items():
                        yield _event(EventType.CREATED, bucket, key, info)


def _event(kind: EventType, bucket: str, key: str, info: ObjectInfo | None) -> ObjectEvent:
    if info is None:
        return ObjectEvent(kind, bucket, key, time=datetime.now(UTC))
    return ObjectEvent(kind, bucket, key, info.size, info.etag, info.version_id, info.last_modified)


def _last_key(page: ListPage) -> str | None:
    """Return the last key that a page covers; None if it covers all remaining keys."""
    if page.cursor is None:
        return None
    return page.objects[-1].key


async def _pages(
    list_page: _ListPage, bucket: str, prefix: str, sleep: _Sleep | None
) -> AsyncGenerator[ListPage, None]:
    """Yield the pages of one listing that are not empty; with a ``sleep``, retry after transient errors."""
    checker = PageChecker(prefix)
    cursor: str | None = None
    failures = 0
    while True:
        try:
            page = await list_page(bucket, ListOptions(prefix=prefix, cursor=cursor))
        except TroveError as error:
            if sleep is None or not error.retryable:
                raise
            _log.warning("watch %r: the listing failed, retrying: %s", bucket, error)
            failures += 1
            await sleep(WATCHING.pause(failures, error.retry_after))
            continue
        failures = 0
        checker.accept(page)
        if page.objects or page.cursor is None:
            yield page
        if page.cursor is None:
            return
        cursor = page.cursor


class _Known:
    """The keys of a listing and their ETags, in their order, compressed in a block for each page.

    They are separated by NUL, which neither keys nor ETags contain. A dict would take ten times the memory.
    """

    def __init__(self) -> None:
        self._blocks: deque[bytes] = deque()

    def add(self, objects: Sequence[ObjectInfo]) -> None:
        """Append the objects of the next page."""
        if objects:
            self._blocks.append(_pack([info.key for info in objects], [info.etag for info in objects]))

    def take(self, last: str | None) -> Iterator[Iterator[tuple[str, str]]]:
        """Remove and yield the entries up to a key, or all entries, at most a page at a time."""
        while self._blocks:
            block = self._blocks.popleft()
            keys, etags = _unpack(block)
            count = len(keys) if last is None else bisect_right(keys, last)
            if count < len(keys):
                self._blocks.appendleft(_pack(keys[count:], etags[count:]) if count else block)
            yield zip(keys[:count], etags[:count], strict=True)
            if count < len(keys):
                return


def _pack(keys: Sequence[str], etags: Sequence[str]) -> bytes:
    # Level 1: the higher ones take several times as long and save little, since ETags are random.
    return zlib.compress("\0".join((*keys, *etags)).encode(), 1)


def _unpack(block: bytes) -> tuple[list[str], list[str]]:
    texts = zlib.decompress(block).decode().split("\0")
    half = len(texts) // 2
    return texts[:half], texts[half:]
