"""The objects that keep the states of uploads: one for each, read and replaced as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from secrets import token_urlsafe
from typing import Final

from trove_async.errors import (
    ConflictError,
    NotModifiedError,
    ObjectAlreadyExistsError,
    ObjectChangedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    UnsupportedError,
    UploadLockedError,
    UploadNotFoundError,
)
from trove_async.store import Trove
from trove_async.types import ObjectInfo
from trove_async.uploads.store.buffer import Buffer
from trove_async.uploads.store.state import FOOTER_SIZE, State, decode, encode, manifest_size

__all__ = ["States", "Stored"]

_DATA: Final = ".data"
_PLACE: Final = "place/name"  # no id of an upload has a slash
_END: Final = 64 * 1024
"""Bytes of a state that are read first: the manifest of an upload of a thousand parts."""


class Stored:
    """A state as it was read or written, and the ETag of its object."""

    __slots__ = ("etag", "state")

    def __init__(self, state: State, etag: str) -> None:
        self.state = state
        self.etag = etag


class States:
    """The states of the uploads of a store.

    Args:
        store: has the objects.
        bucket, prefix: where they are.
        shared: whether other processes may write them too.
    """

    def __init__(self, store: Trove, bucket: str, prefix: str, *, shared: bool) -> None:
        self._store = store
        self.bucket: Final = bucket
        self.prefix: Final = prefix
        self.fences: Final = shared and store.supports("put_if_match")
        """Whether a state is replaced only if no other process has replaced it."""
        self._compares = store.supports("get")

    def key(self, upload_id: str) -> str:
        """Return the key of a state."""
        return self.prefix + upload_id

    def data_key(self, upload_id: str) -> str:
        """Return the key of the bytes of a partial upload, or of one that is checked before it is published."""
        return self.prefix + upload_id + _DATA

    async def create(self, state: State, *, is_chosen: bool) -> Stored:
        """Store the state of a new upload.

        Args:
            state: of the upload.
            is_chosen: whether there may be an upload of the same id; 128 random bits are an id of no other.

        Raises:
            ConflictError: there is one already.
        """
        try:
            made = await self._put_new(self.key(state.info.id), encode(state), is_chosen)
        except PreconditionFailedError as error:
            raise ConflictError(f"there is an upload {state.info.id!r} already") from error
        return Stored(state, made.etag)

    async def _put_new(self, key: str, body: bytes, is_chosen: bool) -> ObjectInfo:
        if is_chosen:
            if self._store.supports("put_if_none_match"):
                try:
                    return await self._store.put(self.bucket, key, body, if_none_match="*")
                except UnsupportedError:
                    pass  # a service without the condition in buckets that keep versions
            if await self._store.exists(self.bucket, key):
                raise PreconditionFailedError
        return await self._store.put(self.bucket, key, body)

    async def save(self, state: State, tail: Buffer | None, etag: str) -> Stored:
        """Replace a state.

        Args:
            state: the new one.
            tail: its tail; None if it has none.
            etag: of the state that it replaces.

        Raises:
            UploadLockedError: another process has replaced or removed it.
        """
        manifest = encode(state)
        if tail is None:
            made = await self._put(state.info.id, manifest, etag)
        else:
            with tail.followed_by(manifest) as body:
                made = await self._put(state.info.id, body, etag)
        return Stored(state, made.etag)

    async def _put(self, upload_id: str, body: bytes | memoryview, etag: str) -> ObjectInfo:
        key = self.key(upload_id)
        try:
            if self.fences:
                try:
                    return await self._store.put(self.bucket, key, body, if_match=etag)
                except UnsupportedError:
                    # The service has no conditions in buckets that keep versions, or for bodies of this size.
                    if (await self._store.head(self.bucket, key)).etag != etag:
                        raise PreconditionFailedError from None
            return await self._store.put(self.bucket, key, body)
        except (PreconditionFailedError, ObjectNotFoundError) as error:
            raise UploadLockedError("another process has continued or removed the upload") from error

    async def describe(self, upload_id: str, known: Stored | None = None) -> Stored:
        """Return a state, for which the end of its object is read.

        Args:
            upload_id: which one.
            known: what was read before; it is returned if it is still the same.

        Raises:
            UploadNotFoundError: there is none.
        """
        key = self.key(upload_id)
        try:
            info, end = await self._read_end(key, known.etag if known is not None and self._compares else None)
        except NotModifiedError:
            assert known is not None
            return known
        except ObjectNotFoundError as error:
            raise UploadNotFoundError(f"there is no upload {upload_id!r}") from error
        if known is not None and info.etag == known.etag:
            return known
        size = manifest_size(end) + FOOTER_SIZE
        if size > len(end):
            end = await self._read(key, info.size - size, size, info.etag)
        return Stored(decode(end[-size:-FOOTER_SIZE]), info.etag)

    async def _read_end(self, key: str, if_none_match: str | None) -> tuple[ObjectInfo, bytes]:
        async with self._store.get(self.bucket, key, range=(-_END, None), if_none_match=if_none_match) as reader:
            return reader.info, b"".join([chunk async for chunk in reader])

    async def read_tail(self, stored: Stored, into: Buffer) -> None:
        """Read the tail of a state.

        Raises:
            UploadLockedError: another process has replaced the state meanwhile.
        """
        size = stored.state.tail_size
        await into.reserve(size)
        into.add(await self._read(self.key(stored.state.info.id), 0, size, stored.etag))

    async def _read(self, key: str, offset: int, size: int, etag: str) -> bytes:
        try:
            condition = etag if self._compares else None
            return await self._store.read(self.bucket, key, (offset, size), if_match=condition)
        except (PreconditionFailedError, ObjectNotFoundError, ObjectChangedError) as error:
            raise UploadLockedError("another process has continued or removed the upload") from error

    async def delete(self, upload_id: str, etag: str | None = None) -> bool:
        """Remove a state; with an ETag only this one, where the store has that condition.

        Returns:
            False if it has been replaced, and stays.
        """
        condition = etag if self._store.supports("delete") else None
        try:
            await self._store.delete(self.bucket, self.key(upload_id), if_match=condition)
        except PreconditionFailedError:
            return False
        return True

    async def place(self) -> str:
        """Return a name of the place where the states are: a random one, which is stored when it is first asked for.

        Without conditional puts, two processes that ask for the first time at the same moment may get two names.
        """
        key = self.prefix + _PLACE
        try:
            return (await self._store.read(self.bucket, key)).decode()
        except ObjectNotFoundError:
            body = token_urlsafe(16).encode()
        with suppress(ObjectAlreadyExistsError):
            await self.put_beside(key, body, None)
        return (await self._store.read(self.bucket, key)).decode()

    async def put_beside(self, key: str, body: bytes, etag: str | None) -> None:
        """Put an object that is no state, if it is as it was read, where the store has that condition.

        Args:
            key: of the object.
            body: of the object.
            etag: of the object that it replaces; None if there was none.

        Raises:
            PreconditionFailedError, ObjectNotFoundError: another process has put or removed it meanwhile.
        """
        store = self._store
        try:
            if etag is None and store.supports("put_if_none_match"):
                await store.put(self.bucket, key, body, if_none_match="*")
                return
            if etag is not None and store.supports("put_if_match"):
                await store.put(self.bucket, key, body, if_match=etag)
                return
        except UnsupportedError:
            pass  # a service without conditions in buckets that keep versions
        await store.put(self.bucket, key, body)

    async def ids(self) -> AsyncIterator[str]:
        """Yield the ids of all uploads."""
        async for found in self._store.list(self.bucket, self.prefix):
            name = found.key.removeprefix(self.prefix)
            if not name.endswith(_DATA) and "/" not in name:
                yield name

    async def data_objects(self) -> AsyncIterator[tuple[str, ObjectInfo]]:
        """Yield the objects with such bytes, each with the id of its upload."""
        async for found in self._store.list(self.bucket, self.prefix):
            name = found.key.removeprefix(self.prefix)
            if name.endswith(_DATA):
                yield name.removesuffix(_DATA), found
