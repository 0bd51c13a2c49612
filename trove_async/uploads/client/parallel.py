"""Uploads of several parts at once, which the server joins (tus, concatenation)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

from trove_async.cancellation import CLEANUP_TIMEOUT, finish
from trove_async.errors import BackendError
from trove_async.uploads.client.channel import Reply, tried
from trove_async.uploads.client.contents import Content, Section
from trove_async.uploads.client.dialects import Creation, TusDialect
from trove_async.uploads.client.fingerprints import Urls
from trove_async.uploads.client.progress import Progress
from trove_async.uploads.client.remote import RemoteUpload
from trove_async.uploads.client.sending import Sending, Terms

__all__ = ["ParallelSending"]


class ParallelSending:
    """Sends one upload as several partial ones.

    Args:
        terms: how; the dialect joins uploads.
        dialect: the same one.
        content: what; it is divisible.
        creation: of the whole upload.
        progress: of the whole upload.
        noted: called with the URLs of the partial uploads whenever one of them is created, or gone.
        urls: of partial uploads that were begun before; as many parts are sent.

    Attributes:
        urls: the current ones.
    """

    def __init__(
        self,
        terms: Terms,
        dialect: TusDialect,
        content: Content,
        creation: Creation,
        progress: Progress,
        noted: Callable[[Urls], Awaitable[None]],
        urls: Urls,
    ) -> None:
        assert content.size is not None
        self.urls = urls
        self._terms = terms
        self._dialect = dialect
        self._creation = creation
        self._noted = noted
        self._noting = asyncio.Lock()
        bounds = [content.size * number // len(urls) for number in range(len(urls) + 1)]
        self._parts = [
            Sending(
                terms,
                Section(content, start, stop),
                Creation(size=stop - start, is_partial=True),
                progress.meter(),
                self._note(index),
                urls[index],
            )
            for index, (start, stop) in enumerate(pairwise(bounds))
        ]
        self._size = content.size

    async def run(self) -> RemoteUpload:
        """Send the upload to its end.

        Raises:
            TroveError: of the first part that failed; the others were stopped.
        """
        tasks = [asyncio.create_task(part.run()) for part in self._parts]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            await finish(_ended(tasks), timeout=CLEANUP_TIMEOUT, leftover="a task that sends a part of an upload")
        failures = [error for task in tasks if not task.cancelled() and (error := task.exception()) is not None]
        if failures:
            raise failures[0]
        reply = await tried(self._terms.policy, self._join)
        location = reply.headers.get("location")
        if location is None:
            raise BackendError("the server joined the parts of the upload, and answered without Location")
        return RemoteUpload(
            url=str(self._terms.channel.places.find(reply.place, location)),
            offset=self._size,
            size=self._size,
            is_finished=True,
            resumed_at=sum(part.resumed_at for part in self._parts),
            answer=reply.final(),
        )

    def _note(self, index: int) -> Callable[[str | None], Awaitable[None]]:
        async def note(url: str | None) -> None:
            async with self._noting:
                self.urls = (*self.urls[:index], url, *self.urls[index + 1 :])
                await self._noted(self.urls)

        return note

    async def _join(self) -> Reply:
        """Make one upload of the partial ones, whose paths are right whatever the server takes its origin for."""
        channel = self._terms.channel
        places = [channel.places.find(channel.places.endpoint, url) for url in self.urls if url is not None]
        headers = self._dialect.join(self._creation, [place.target for place in places])
        reply = await channel.exchange("POST", channel.places.endpoint, headers)
        reply.check()
        return reply


async def _ended(tasks: list[asyncio.Task[RemoteUpload]]) -> None:
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # marks it as retrieved: one error is raised
