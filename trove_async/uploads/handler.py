"""What happens between a request and its answer: protocol, hooks, locks and store. It knows no framework."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Final

from trove_async.cancellation import CLEANUP_TIMEOUT
from trove_async.uploads.appending import append
from trove_async.uploads.creating import create
from trove_async.uploads.datastore import (
    BufferingDataStore,
    ConcaterDataStore,
    DataStore,
    LengthDeclarerDataStore,
    TerminaterDataStore,
    VerifierDataStore,
)
from trove_async.uploads.downloading import download
from trove_async.uploads.exchange import Exchange, Interim, Services, shutting_down
from trove_async.uploads.finishing import catch_up
from trove_async.uploads.hooking import HookRunner
from trove_async.uploads.hooks import Hooks
from trove_async.uploads.lockers.base import Locker
from trove_async.uploads.protocol.choosing import choose, discovered
from trove_async.uploads.protocol.messages import (
    Append,
    Create,
    Describe,
    Discover,
    Download,
    Request,
    Settings,
    Terminate,
)
from trove_async.uploads.receiving import RequestBody
from trove_async.web.objects import Answer

__all__ = ["HOOK_TIMEOUT", "PROGRESS_SECONDS", "UploadHandler"]

HOOK_TIMEOUT: Final = 30.0
"""The default time in seconds that a hook may take."""

PROGRESS_SECONDS: Final = 1.0
"""The default time in seconds between two reports of progress, at least."""

_SILENCE: Final = 3.0
"""Seconds without a byte after which a body ends while other uploads wait for memory."""

_log = logging.getLogger("trove_async.uploads")


class UploadHandler:
    """Answers the requests of resumable uploads, of both protocols.

    - Whoever asks for the offset of an upload (HEAD) does not disturb the request that writes to it: no lock is taken.
    - Whoever continues an upload that another request still holds, such as one whose client has gone without a word,
      stops that one; what it has received is durable before the lock changes hands.
    - The request that completes an upload finishes it. If that fails, the next request for the upload tries again,
      HEAD and GET included: a client that finds all bytes there takes the upload for finished.
    - A final upload whose parts are not complete yet is joined by the first HEAD or GET that finds them complete.
    - The client must be allowed to do what it asks (`Hooks.authorize`) in each request, and again when an upload is
      finished. To know the URL of an upload is no permission.

    Args:
        data_store: of the uploads.
        locker: of the uploads.
        hooks: of the application.
        settings: what the server offers; what the store cannot do is not offered.
        hook_timeout: seconds that a hook may take.
        progress_seconds: seconds between two calls of `Hooks.on_progress` for a body, at least.
    """

    def __init__(
        self,
        data_store: DataStore,
        *,
        locker: Locker,
        hooks: Hooks | None = None,
        settings: Settings | None = None,
        hook_timeout: float = HOOK_TIMEOUT,
        progress_seconds: float = PROGRESS_SECONDS,
    ) -> None:
        runner = HookRunner(hooks or Hooks(), timeout=hook_timeout, progress_seconds=progress_seconds)
        self._services = Services(data_store, locker, runner, _offered(settings or Settings(), data_store))
        if isinstance(data_store, BufferingDataStore):
            data_store.watch_memory(self._hurry)
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def _hurry(self) -> None:
        """Make room for uploads that wait for memory: what a silent client has sent becomes durable, and it goes on."""
        for body in tuple(self._services.bodies):
            body.hurry(_SILENCE)

    @property
    def settings(self) -> Settings:
        """What is offered with this store."""
        return self._services.settings

    async def answer(self, request: Request, body: RequestBody, interim: Interim | None = None) -> Answer:
        """Return the answer to a request. Every error becomes one.

        Args:
            request: the request.
            body: of the request; it may not be read to its end.
            interim: sends interim answers; None if the server cannot.
        """
        protocol = choose(request, self.settings)
        exchange = Exchange(self._services, request, body, protocol, interim)
        self._open += 1
        self._idle.clear()
        try:
            return await self._answer(exchange)
        except Exception as error:  # noqa: BLE001 - the protocol says how it is answered, and logs what is a fault
            return protocol.failed(error, exchange.info)
        finally:
            self._open -= 1
            if not self._open:
                self._idle.set()

    async def _answer(self, exchange: Exchange) -> Answer:
        command = exchange.protocol.command()
        if isinstance(command, Discover):
            return discovered(exchange.request, self.settings)
        if self._services.closing:
            raise shutting_down()
        match command:
            case Create():
                return await create(exchange, command)
            case Append():
                return await append(exchange, command)
            case Describe():
                return await _describe(exchange)
            case Download():
                return await _download(exchange)
            case Terminate():
                return await _terminate(exchange)

    async def close(self) -> None:
        """Stop the bodies that are received, which makes durable what has arrived, and wait for all answers.

        Requests that come afterwards are answered as those that may succeed on another server. Requests that take
        longer than 10 s are left to themselves, with a warning.
        """
        self._services.closing = True
        for body in tuple(self._services.bodies):
            body.stop()
        try:
            async with asyncio.timeout(CLEANUP_TIMEOUT):
                await self._idle.wait()
        except TimeoutError:
            _log.warning("%d requests of uploads did not end in %g s", self._open, CLEANUP_TIMEOUT)


def _offered(settings: Settings, store: DataStore) -> Settings:
    return replace(
        settings,
        terminates=settings.terminates and isinstance(store, TerminaterDataStore),
        defers=settings.defers and isinstance(store, LengthDeclarerDataStore),
        concatenates=settings.concatenates and isinstance(store, ConcaterDataStore),
        verifies=settings.verifies and isinstance(store, VerifierDataStore),
    )


async def _describe(exchange: Exchange) -> Answer:
    info = await exchange.find()
    await exchange.authorize("describe", info)
    if exchange.protocol.ends_by_size:
        info = await catch_up(exchange, info)
    return exchange.protocol.described(info)


async def _download(exchange: Exchange) -> Answer:
    info = await exchange.find()
    await exchange.authorize("download", info)
    info = await catch_up(exchange, info)
    services = exchange.services
    answer = await download(services.store, info, exchange.request.headers, services.settings.inline_types)
    return exchange.protocol.downloaded(answer)


async def _terminate(exchange: Exchange) -> Answer:
    info = await exchange.find()
    await exchange.authorize("terminate", info)
    store, hooks = exchange.services.store, exchange.services.hooks
    assert isinstance(store, TerminaterDataStore)  # else it is not offered
    async with exchange.holding(info.id):
        event = exchange.event("terminate", await exchange.find())
        await hooks.before_terminate(event)
        await store.terminate(info.id)
        await hooks.tell("after_terminate", event)
    return exchange.protocol.terminated()
