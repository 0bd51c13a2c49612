"""Data stores in memory that know nothing but the contract: the smallest one, and one with every capability."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import TracebackType
from typing import Self

from trove_async.errors import (
    ConflictError,
    InvalidArgumentError,
    UploadLengthError,
    UploadLockedError,
    UploadNotFoundError,
    UploadOffsetError,
)
from trove_async.uploads import FileInfo, FinalAnswer
from trove_async.uploads.info import new_id


@dataclass
class Upload:
    """An upload and its bytes."""

    info: FileInfo
    data: bytearray = field(default_factory=bytearray)

    @property
    def current(self) -> FileInfo:
        """The upload with its offset."""
        return replace(self.info, offset=len(self.data))


class PlainStore:
    """The four methods of `DataStore`, and no more.

    Attributes:
        uploads: by id.
        calls: the names of the methods that were called.
        faults: what a method raises at its next calls, one after another; None where it does not.
        expires_at: of new uploads.
    """

    def __init__(self, *, expires_at: datetime | None = None) -> None:
        self.uploads: dict[str, Upload] = {}
        self.calls: list[str] = []
        self.faults: dict[str, list[Exception | None]] = {}
        self.expires_at = expires_at

    def data(self, upload_id: str) -> bytes:
        """Return the bytes of an upload."""
        return bytes(self.uploads[upload_id].data)

    async def new_upload(self, info: FileInfo) -> str:
        await self._enter("new_upload")
        upload_id = info.id or new_id()
        if upload_id in self.uploads:
            raise ConflictError
        self.uploads[upload_id] = Upload(replace(info, id=upload_id, expires_at=self.expires_at))
        return upload_id

    async def write_chunk(self, upload_id: str, offset: int, src: AsyncIterator[bytes]) -> int:
        await self._enter("write_chunk")
        upload = self._find(upload_id)
        if offset != len(upload.data):
            raise UploadOffsetError(offset=len(upload.data))
        added = bytearray()
        try:
            async for chunk in src:
                await asyncio.sleep(0)
                added += chunk
        finally:
            upload.data += added
        await self._enter("flush")
        return len(added)

    async def get_info(self, upload_id: str) -> FileInfo:
        await self._enter("get_info")
        return self._find(upload_id).current

    async def get_reader(self, upload_id: str) -> Bytes:
        await self._enter("get_reader")
        return Bytes(self.data(upload_id))

    def _find(self, upload_id: str) -> Upload:
        try:
            return self.uploads[upload_id]
        except KeyError:
            raise UploadNotFoundError(f"there is no upload {upload_id!r}") from None

    async def _enter(self, name: str) -> None:
        self.calls.append(name)
        await asyncio.sleep(0)
        fault = self.faults[name].pop(0) if self.faults.get(name) else None
        if fault is not None:
            raise fault


class MemoryStore(PlainStore):
    """All capabilities but locks."""

    async def terminate(self, upload_id: str) -> None:
        await self._enter("terminate")
        self._find(upload_id)
        del self.uploads[upload_id]

    async def concat_uploads(self, upload_id: str, partial_ids: tuple[str, ...]) -> None:
        await self._enter("concat_uploads")
        upload = self._find(upload_id)
        parts = [self._find(each) for each in partial_ids]
        if not all(each.current.is_complete and each.info.is_partial for each in parts):
            raise InvalidArgumentError("a part is not complete")
        upload.data = bytearray(b"".join(each.data for each in parts))
        upload.info = replace(upload.info, size=len(upload.data), is_finished=True)

    async def declare_length(self, upload_id: str, size: int) -> None:
        await self._enter("declare_length")
        upload = self._find(upload_id)
        if upload.info.size not in (None, size) or len(upload.data) > size:
            raise UploadLengthError
        upload.info = replace(upload.info, size=size)

    async def finish_upload(self, upload_id: str) -> FileInfo:
        await self._enter("finish_upload")
        upload = self._find(upload_id)
        if not upload.current.is_complete:
            raise InvalidArgumentError("bytes are missing")
        upload.info = replace(upload.info, is_finished=True)
        return upload.current

    async def write_verified_chunk(
        self, upload_id: str, offset: int, src: AsyncIterator[bytes], verify: Callable[[], object]
    ) -> int:
        await self._enter("write_verified_chunk")
        upload = self._find(upload_id)
        added = b"".join([chunk async for chunk in src])
        verify()
        upload.data += added
        return len(added)

    async def record_answer(self, upload_id: str, answer: FinalAnswer) -> None:
        await self._enter("record_answer")
        upload = self._find(upload_id)
        upload.info = replace(upload.info, answer=answer)


class LockingStore(PlainStore):
    """A store with locks of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.locked: set[str] = set()

    async def lock_upload(self, upload_id: str) -> None:
        await self._enter("lock_upload")
        if upload_id in self.locked:
            raise UploadLockedError
        self.locked.add(upload_id)

    async def unlock_upload(self, upload_id: str) -> None:
        await self._enter("unlock_upload")
        self.locked.remove(upload_id)


class Bytes:
    """A `Stream` of bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.is_open = False

    async def __aenter__(self) -> Self:
        self.is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.is_open = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert self.is_open
        if self._data:
            yield self._data
