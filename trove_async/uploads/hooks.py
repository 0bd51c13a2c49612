"""What an application decides about resumable uploads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trove_async.uploads.info import Destination, FileInfo, FinalAnswer
from trove_async.uploads.metadata import MetaData
from trove_async.uploads.protocol.messages import Request

__all__ = ["Action", "Changes", "Hooks", "UploadEvent"]

Action = Literal["create", "append", "describe", "download", "terminate", "concatenate", "finish"]
"""What a request does; ``concatenate`` is asked for each partial upload that a final one is made of."""


@dataclass(frozen=True, slots=True)
class UploadEvent:
    """What happens to an upload.

    Attributes:
        action: what the request does.
        info: the upload; for `Hooks.before_create`, as the client asks for it.
        request: the request of the client.
    """

    action: Action
    info: FileInfo
    request: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What `Hooks.before_create` decides; a value that is not given stays as it is.

    Attributes:
        id: of the upload, in place of the server's: 1 to 128 letters, digits, ``-`` and ``_``. Without a destination it
            is also the key of the object, and an object of that key is replaced.
        metadata: in place of the client's.
        max_size: bytes that this upload may have, 0 or more. The server's limit still holds.
        destination: where the object is put; default: in the server's bucket, with the id as its key.
        owner: names who creates the upload.
        headers: further headers of the answer to the creation.
    """

    id: str | None = None
    metadata: MetaData | None = None
    max_size: int | None = None
    destination: Destination | None = None
    owner: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


class Hooks:
    """Coroutines that an application overrides; each does nothing here.

    For one upload they are called one after another and in the order in which they stand here, under its lock; those
    of different uploads run side by side. `authorize` has no place in the order: it is asked before a request waits
    for the lock, or without one.

    A hook that takes longer than the server's time for hooks fails with an `OperationTimeoutError`. Hooks with
    ``before`` in their name, and `authorize`, refuse the request by raising: an `UploadRejectedError` with status and
    words for the client, an `AccessDeniedError`, or any other error of this library. A `TransientError` lets the client
    come back later, and so does an error of another library, such as that of a database which is away. What the other
    hooks raise is logged, except for an `UploadRejectedError` of `on_progress`.
    """

    async def authorize(self, event: UploadEvent) -> None:
        """Decide whether the client may do this. Asked for each request, and again before an upload is finished."""

    async def before_create(self, event: UploadEvent) -> Changes | None:
        """Decide whether an upload is created, and how."""

    async def after_create(self, event: UploadEvent) -> None:
        """Learn that an upload was created."""

    async def before_receive(self, event: UploadEvent) -> None:
        """Decide whether the body of a request is taken, before its first byte is read."""

    async def on_progress(self, event: UploadEvent) -> None:
        """Learn how many bytes have arrived (``event.info.offset``), every few seconds while a body is received.

        They may not be durable yet. It is never called after `after_receive` of the same request. An
        `UploadRejectedError` ends the body: what has arrived is kept, and the client is answered with the error.
        """

    async def after_receive(self, event: UploadEvent) -> None:
        """Learn that bytes of a request are durable; not if the store failed meanwhile."""

    async def before_finish(self, event: UploadEvent) -> FinalAnswer | None:
        """Decide whether a complete upload is finished, and how the client is answered; not asked for a partial one.

        After a failure it is asked again by the next request for the upload, HEAD and GET included.
        """

    async def after_finish(self, event: UploadEvent) -> None:
        """Learn that an upload is finished: the object is at its destination."""

    async def before_terminate(self, event: UploadEvent) -> None:
        """Decide whether an upload is removed."""

    async def after_terminate(self, event: UploadEvent) -> None:
        """Learn that an upload was removed."""
