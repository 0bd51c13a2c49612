"""One request of a resumable upload and its answer, and what all of them share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from trove_async.errors import LeaseLostError, UploadRejectedError
from trove_async.uploads.datastore import DataStore, FinisherDataStore, TerminaterDataStore
from trove_async.uploads.hooking import HookRunner
from trove_async.uploads.hooks import Action, UploadEvent
from trove_async.uploads.info import FileInfo, check_can_exist
from trove_async.uploads.lockers.base import Lock, Locker
from trove_async.uploads.protocol.messages import Request, Settings, UploadProtocol
from trove_async.uploads.receiving import RequestBody

__all__ = ["Exchange", "Interim", "Services", "check_held", "shutting_down"]

Interim = Callable[[int, list[tuple[str, str]]], Awaitable[None]]
"""Sends an interim answer: a status below 200, and its headers."""

_RETRY_AFTER: Final = "2"


@dataclass(slots=True)
class Services:
    """What the requests of a server share.

    Attributes:
        store: of the uploads.
        locker: of the uploads, by their ids.
        hooks: of the application.
        settings: what the server offers.
        bodies: that are received now.
        closing: whether the server shuts down.
    """

    store: DataStore
    locker: Locker
    hooks: HookRunner
    settings: Settings
    bodies: set[RequestBody] = field(default_factory=set)
    closing: bool = False

    def is_finished(self, info: FileInfo) -> bool:
        """Whether nothing is left to do for an upload: a store that has no work at the end does not note the end."""
        if info.is_finished:
            return True
        if info.is_partial:
            return info.is_complete
        return info.is_complete and not info.is_final and not isinstance(self.store, FinisherDataStore)

    async def get_info(self, upload_id: str) -> FileInfo:
        """Describe an upload.

        Raises:
            UploadNotFoundError: there is no such upload, or the id is none.
        """
        check_can_exist(upload_id)
        info = await self.store.get_info(upload_id)
        return replace(info, is_finished=True) if self.is_finished(info) and not info.is_finished else info


@dataclass(slots=True)
class Exchange:
    """One request and its answer.

    Attributes:
        services: of the server.
        request, body: of the client.
        protocol: of the request.
        interim: sends interim answers; None if the server cannot.
        info: the upload, as far as it is known.
        announced: whether the client knows the URL of an upload that this request has created.
    """

    services: Services
    request: Request
    body: RequestBody
    protocol: UploadProtocol
    interim: Interim | None = None
    info: FileInfo | None = None
    announced: bool = False

    async def find(self) -> FileInfo:
        """Return the upload of the request, or the one that it has created."""
        upload_id = self.info.id if self.info is not None else self.request.upload_id or ""
        self.info = await self.services.get_info(upload_id)
        return self.info

    def location(self, upload_id: str) -> str:
        """Return the URL of an upload."""
        origin = self.request.origin if self.services.settings.absolute else None
        return f"{origin or ''}{self.request.base}{upload_id}"

    async def discard(self) -> None:
        """Remove the upload of this request, which nobody can continue; its lock is held."""
        if self.info is not None and isinstance(self.services.store, TerminaterDataStore):
            await self.services.store.terminate(self.info.id)

    def event(self, action: Action, info: FileInfo) -> UploadEvent:
        """Return what hooks are asked."""
        return UploadEvent(action, info, self.request)

    async def authorize(self, action: Action, info: FileInfo) -> None:
        """Ask whether the client may do this."""
        await self.services.hooks.authorize(self.event(action, info))

    @asynccontextmanager
    async def holding(self, upload_id: str) -> AsyncIterator[Lock]:
        """Hold the lock of an upload; another request that asks for it stops the body of this one."""
        lock: Lock | None = None

        def stop() -> None:
            self.body.stop(lost=lock is not None and lock.lost)

        lock = await self.services.locker.acquire(upload_id, stop)
        try:
            yield lock
        finally:
            await lock.release()


def check_held(lock: Lock) -> None:
    """Check that a lock is still held, before something is changed.

    Raises:
        LeaseLostError: it was lost.
    """
    if lock.lost:
        raise LeaseLostError("the lock of the upload was lost; continue at its offset")


def shutting_down() -> UploadRejectedError:
    """Return the error for requests while the server shuts down."""
    return UploadRejectedError(
        "the server is shutting down; try again", status_code=503, headers=[("Retry-After", _RETRY_AFTER)]
    )
