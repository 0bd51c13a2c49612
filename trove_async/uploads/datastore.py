"""What a server of resumable uploads stores them in: `DataStore`, and what a store can do in addition.

A server offers the extensions of the protocols that its store has, as with the capabilities of drivers: a store
implements the methods, without a second declaration. `TroveDataStore` has all of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol, runtime_checkable

from trove_async.uploads.info import FileInfo, FinalAnswer
from trove_async.web.http import Headers
from trove_async.web.objects import Answer, Overrides, Stream

__all__ = [
    "BufferingDataStore",
    "ConcaterDataStore",
    "ContentDataStore",
    "DataStore",
    "FinisherDataStore",
    "LengthDeclarerDataStore",
    "LocatedDataStore",
    "LockerDataStore",
    "RecorderDataStore",
    "SweeperDataStore",
    "TerminaterDataStore",
    "VerifierDataStore",
]


@runtime_checkable
class DataStore(Protocol):
    """Uploads that grow chunk by chunk.

    The server checks offsets and sizes, and lets one request at a time write to an upload.
    """

    async def new_upload(self, info: FileInfo) -> str:
        """Create an upload and return its id: ``info.id``, or one that the store chooses if that is empty.

        The store keeps all of ``info``, except that the offset is 0.

        Raises:
            ConflictError: an upload of this id exists; it is unchanged.
            UnsupportedError: the store cannot do what ``info`` asks, such as never replacing an object.
        """

    async def write_chunk(self, upload_id: str, offset: int, src: AsyncIterator[bytes]) -> int:
        """Append what ``src`` yields at ``offset``, which is the upload's own, and return how many bytes were added.

        The bytes are durable when this returns. The chunk ends where ``src`` ends: the server also ends it if the
        client disconnects or another request takes over. If ``src`` raises, the error is passed on; of this chunk the
        store then keeps what is durable already, or nothing. The same holds if the call is cancelled.

        Raises:
            UploadNotFoundError: there is no such upload.
            UploadOffsetError: the upload has another offset.
        """

    async def get_info(self, upload_id: str) -> FileInfo:
        """Describe an upload. It takes no lock: while a chunk is written, it may return the offset before it.

        The offset never decreases.

        Raises:
            UploadNotFoundError: there is no such upload; an `UploadExpiredError` if it has expired.
        """

    async def get_reader(self, upload_id: str) -> Stream:
        """Return the bytes of a finished upload.

        Raises:
            UploadNotFoundError: there is no such upload.
            UnsupportedError: the store does not read uploads, or not before they are finished.
        """


@runtime_checkable
class TerminaterDataStore(DataStore, Protocol):
    """A store that removes uploads."""

    async def terminate(self, upload_id: str) -> None:
        """Remove an upload and its bytes; an object that it has become stays.

        Raises:
            UploadNotFoundError: there is no such upload.
        """


@runtime_checkable
class LockerDataStore(DataStore, Protocol):
    """A store with locks of its own; otherwise the server needs a `Locker`."""

    async def lock_upload(self, upload_id: str) -> None:
        """Lock an upload.

        Raises:
            UploadLockedError: it is locked.
        """

    async def unlock_upload(self, upload_id: str) -> None:
        """Release the lock of an upload."""


@runtime_checkable
class LocatedDataStore(DataStore, Protocol):
    """A store that several processes can use."""

    async def place(self) -> str:
        """Return a name for the place where the uploads are, the same in each process that serves them."""


@runtime_checkable
class ConcaterDataStore(DataStore, Protocol):
    """A store that joins uploads."""

    async def concat_uploads(self, upload_id: str, partial_ids: tuple[str, ...]) -> None:
        """Fill a final upload with the bytes of partial ones, in order, and finish it. The partial uploads stay.

        Raises:
            UploadNotFoundError: there is no such upload, or no such partial one.
            InvalidArgumentError: one of them is no partial upload, or is not complete.
        """


@runtime_checkable
class LengthDeclarerDataStore(DataStore, Protocol):
    """A store of uploads whose size becomes known later."""

    async def declare_length(self, upload_id: str, size: int) -> None:
        """Set the size of an upload that was created without one. It is durable with the next chunk at the latest.

        Raises:
            UploadNotFoundError: there is no such upload.
            UploadLengthError: it has another size already, or more bytes.
        """


@runtime_checkable
class FinisherDataStore(DataStore, Protocol):
    """A store that has work to do once all bytes are there."""

    async def finish_upload(self, upload_id: str) -> FileInfo:
        """Finish a complete upload, and return what is known of it then. Success if it is finished already.

        Raises:
            UploadNotFoundError: there is no such upload.
            InvalidArgumentError: bytes are missing.
            ChecksumError, BodySizeError: the object is not what was uploaded; it is not published.
            ObjectAlreadyExistsError: the upload must not replace an object, and there is one.
        """


@runtime_checkable
class VerifierDataStore(DataStore, Protocol):
    """A store that takes chunks with a checksum."""

    async def write_verified_chunk(
        self, upload_id: str, offset: int, src: AsyncIterator[bytes], verify: Callable[[], object]
    ) -> int:
        """Append a chunk as `write_chunk` does, if ``verify()`` does not raise after the end of ``src``.

        No byte of it counts before, also after a crash. What ``verify`` raises is passed on.
        """


@runtime_checkable
class ContentDataStore(DataStore, Protocol):
    """A store that reads finished uploads with ranges and conditions."""

    async def serve_upload(self, upload_id: str, headers: Headers, overrides: Overrides) -> Answer:
        """Answer a GET for a finished upload, as `trove_async.web.objects.get_object` does for an object.

        Args:
            upload_id: which one.
            headers: of the request.
            overrides: headers that replace the stored ones.

        Raises:
            UploadNotFoundError: there is no such upload.
        """


@runtime_checkable
class RecorderDataStore(DataStore, Protocol):
    """A store that keeps how a client was answered."""

    async def record_answer(self, upload_id: str, answer: FinalAnswer) -> None:
        """Keep the answer of the request that finishes an upload, as `FileInfo.answer`.

        It is called before `FinisherDataStore.finish_upload`, and durable with it.
        """


@runtime_checkable
class BufferingDataStore(DataStore, Protocol):
    """A store whose uploads share memory; the server stops those whose clients are silent if others wait for it."""

    def watch_memory(self, on_shortage: Callable[[], object]) -> None:
        """Call a function about every second in which an upload waits for memory that others hold."""


@runtime_checkable
class SweeperDataStore(DataStore, Protocol):
    """A store that removes what has expired; the server asks it to do so from time to time."""

    async def sweep_if_due(self, every: float, *, orphans: bool) -> float:
        """Remove what has expired, unless a process that serves the same uploads began to less than ``every`` ago.

        Args:
            every: seconds between two sweeps.
            orphans: whether leftovers that belong to no upload are removed too.

        Returns:
            Seconds until it is due again, at most ``every``.
        """
