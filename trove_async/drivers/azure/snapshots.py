"""Versions for accounts that keep none: before an object is replaced, a snapshot is made of it.

Every object that is written while its container keeps versions has the id of its version in its metadata, and a
snapshot keeps that. What replaces it names the ETag of what was kept, so that nothing is lost in between. A delete
marker is an empty blob that says so in its metadata: a blob with snapshots cannot be deleted without them.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from trove_async.driver import CompleteOptions, CopyOptions, DeleteOptions, HeadOptions, PutOptions, check_write
from trove_async.drivers.azure.client import Client, Params
from trove_async.drivers.azure.control import Control
from trove_async.drivers.azure.copies import Copies
from trove_async.drivers.azure.gate import Send
from trove_async.drivers.azure.headers import DELETED, NULL, VERSION
from trove_async.drivers.azure.listing import Lister
from trove_async.drivers.azure.names import OWN
from trove_async.drivers.azure.objects import Objects
from trove_async.drivers.azure.pages import Listed
from trove_async.drivers.azure.versions import Found, Versions, replaced
from trove_async.errors import (
    ObjectNotFoundError,
    PreconditionFailedError,
    TransientError,
    VersionNotFoundError,
)
from trove_async.types import VersionInfo, VersioningStatus
from trove_async.wire.fields import etag_of

__all__ = ["Snapshots"]

T = TypeVar("T")

_ATTEMPTS: Final = 30
"""How often a write is tried that others come before each time."""

_INCLUDE: Final = "snapshots,metadata"


@dataclass(frozen=True, slots=True)
class _Current:
    """What is under a key: an object or a delete marker."""

    etag: str
    version_id: str
    deleted: bool


class Snapshots(Versions):
    """Keeps versions as snapshots, in the containers that are told to. It is the gate of every write.

    Args:
        client, objects, lister, control, copies: send the requests.
    """

    def __init__(self, client: Client, objects: Objects, lister: Lister, control: Control, copies: Copies) -> None:
        super().__init__(objects)
        self._client = client
        self._lister = lister
        self._control = control
        self._copies = copies

    # Containers

    async def set(self, bucket: str, enabled: bool) -> None:
        """Keep versions from now on, or stop to."""
        status = VersioningStatus.ENABLED if enabled else VersioningStatus.SUSPENDED
        await self._control.change_settings(bucket, versioning=status)

    async def status(self, bucket: str) -> VersioningStatus:
        """Tell what the container does."""
        return (await self._control.settings(bucket)).versioning

    # Writing

    async def write(
        self, bucket: str, key: str, options: PutOptions | CopyOptions | CompleteOptions, send: Send[T]
    ) -> T:
        """Send a write, after what it replaces was kept."""
        status = await self.status(bucket)
        if status == VersioningStatus.UNVERSIONED:
            return await send(options.if_match, options.if_none_match, {VERSION: NULL})
        for _ in range(_ATTEMPTS):
            current = await self._current(bucket, key)
            there = None if current is None or current.deleted else current.etag
            check_write(there, options.if_match, options.if_none_match)
            try:
                await self._keep(bucket, key, current, status)
                if current is None:
                    return await send(None, "*", _own(status))
                return await send(current.etag, None, _own(status))
            except PreconditionFailedError as error:
                if error.ambiguous:
                    raise
            await asyncio.sleep(random.uniform(0, 0.05))
        raise TransientError("others replaced the object again and again before this write could keep its version")

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Put a delete marker in the place of an object, or delete a version for good."""
        if options.version_id is not None:
            await self._delete_version(bucket, key, options.version_id)
            return
        status = await self.status(bucket)
        if status == VersioningStatus.UNVERSIONED:
            await self._objects.delete(bucket, key, options)
            return
        for _ in range(_ATTEMPTS):
            current = await self._current(bucket, key)
            if current is None or current.deleted:
                check_write(None, options.if_match, None)
                return
            check_write(current.etag, options.if_match, None)
            try:
                await self._keep(bucket, key, current, status)
                await self._mark(bucket, key, current.etag, status)
            except PreconditionFailedError as error:
                if error.ambiguous:
                    raise
            else:
                return
            await asyncio.sleep(random.uniform(0, 0.05))
        raise TransientError("others replaced the object again and again before it could be deleted")

    async def _current(self, bucket: str, key: str) -> _Current | None:
        try:
            response = await self._client.request("HEAD", bucket, key)
        except ObjectNotFoundError:
            return None
        headers = response.headers
        version_id = headers.get(f"x-ms-meta-{VERSION}", NULL)
        return _Current(etag_of(headers.get("etag", "")), version_id, f"x-ms-meta-{DELETED}" in headers)

    async def _keep(self, bucket: str, key: str, current: _Current | None, status: VersioningStatus) -> None:
        """Make a snapshot of what is about to be replaced, unless it is the one version that is replaced in place."""
        if current is None or (status == VersioningStatus.SUSPENDED and current.version_id == NULL):
            return
        try:
            await self._snapshot(bucket, key, current.etag)
        except ObjectNotFoundError as error:
            raise PreconditionFailedError(error.message) from error

    async def _snapshot(self, bucket: str, key: str, etag: str) -> str:
        """Make a snapshot and return the time that names it."""
        headers = [("if-match", f'"{etag}"')]
        response = await self._client.request("PUT", bucket, key, params=[("comp", "snapshot")], headers=headers)
        return response.headers.get("x-ms-snapshot", "")

    async def _mark(self, bucket: str, key: str, etag: str, status: VersioningStatus) -> None:
        headers = [("x-ms-blob-type", "BlockBlob"), (f"x-ms-meta-{DELETED}", "1"), ("if-match", f'"{etag}"')]
        headers += [(f"x-ms-meta-{name}", value) for name, value in _own(status).items()]
        await self._client.request("PUT", bucket, key, headers=headers, writes=True)

    # Reading

    async def find(self, bucket: str, key: str, version_id: str) -> Found:
        """Return where a version is, which takes a listing of the key's snapshots."""
        for blob in await self._blobs(bucket, key):
            if _id(blob) == version_id:
                if DELETED in blob.metadata:
                    raise VersionNotFoundError("the version is a delete marker")
                if blob.snapshot is None:
                    return Found((), blob.info.etag)
                return Found([("snapshot", blob.snapshot)])
        raise VersionNotFoundError(f"there is no version {version_id!r}")

    async def pin(self, bucket: str, key: str, version_id: str) -> Params:
        """Return the snapshot of a version; one is made of the object itself."""
        found = await self.find(bucket, key, version_id)
        if found.etag is None:
            return found.params
        return [("snapshot", await self._snapshot(bucket, key, found.etag))]

    async def history(self, bucket: str, key: str) -> Sequence[VersionInfo]:
        """Return versions and markers, newest first."""
        return _history(await self._blobs(bucket, key))

    async def list_noncurrent(self, bucket: str, prefix: str) -> Sequence[VersionInfo]:
        """Return the versions that are not the latest."""
        result: list[VersionInfo] = []
        for blobs in (await self._by_key(bucket, prefix)).values():
            result += replaced(_history(blobs))
        return result

    async def keys(self, bucket: str) -> Sequence[str]:
        """Return the keys under which there is anything."""
        return sorted(await self._by_key(bucket, ""))

    async def _blobs(self, bucket: str, key: str) -> list[Listed]:
        """Return what there is of a key, newest first: the blob, then its snapshots."""
        found = await self._lister.all(bucket, prefix=key, include=_INCLUDE)
        return _newest_first([blob for blob in found if blob.info.key == key])

    async def _by_key(self, bucket: str, prefix: str) -> dict[str, list[Listed]]:
        grouped: dict[str, list[Listed]] = {}
        for blob in await self._lister.all(bucket, prefix=prefix, include=_INCLUDE):
            if blob.info.key[0] != OWN:
                grouped.setdefault(blob.info.key, []).append(blob)
        return {key: _newest_first(blobs) for key, blobs in grouped.items()}

    # Deleting for good

    async def _delete_version(self, bucket: str, key: str, version_id: str) -> None:
        for _ in range(_ATTEMPTS):
            blobs = await self._blobs(bucket, key)
            gone = [blob for blob in blobs if _id(blob) == version_id]
            rest = [blob for blob in blobs if _id(blob) != version_id]
            try:
                if gone and gone[0].snapshot is None:
                    await self._replace_latest(bucket, key, gone, rest)
                    return
                await self._delete_snapshots(bucket, key, gone)
            except PreconditionFailedError:
                continue
            return
        raise TransientError("others replaced the object again and again before its version could be deleted")

    async def _replace_latest(self, bucket: str, key: str, gone: Sequence[Listed], rest: Sequence[Listed]) -> None:
        """Put the next newest version, or nothing, in the place of the latest."""
        latest, snapshots = gone[0], gone[1:]
        if not rest:
            await self._delete_snapshots(bucket, key, snapshots)
            await self._objects.delete(bucket, key, DeleteOptions(if_match=latest.info.etag))
            return
        params = [("snapshot", rest[0].snapshot or "")]
        if DELETED in rest[0].metadata:
            await self._client.request("PUT", bucket, key, headers=_marker_again(rest[0], latest), writes=True)
        else:
            source = await self._objects.head(bucket, key, HeadOptions(), params)
            await self._copies.promote(bucket, key, source, params, latest.info.etag)
        await self._delete_snapshots(bucket, key, snapshots)

    async def _delete_snapshots(self, bucket: str, key: str, snapshots: Sequence[Listed]) -> None:
        for blob in snapshots:
            await self._objects.delete(bucket, key, DeleteOptions(), [("snapshot", blob.snapshot or "")])


def _own(status: VersioningStatus) -> Mapping[str, str]:
    """Return the metadata of a version that is made now."""
    return {VERSION: secrets.token_hex(16) if status == VersioningStatus.ENABLED else NULL}


def _id(blob: Listed) -> str:
    return blob.metadata.get(VERSION, NULL)


def _newest_first(blobs: Sequence[Listed]) -> list[Listed]:
    return sorted(blobs, key=lambda blob: blob.snapshot or "~", reverse=True)


def _marker_again(marker: Listed, latest: Listed) -> list[tuple[str, str]]:
    headers = [("x-ms-blob-type", "BlockBlob"), ("if-match", f'"{latest.info.etag}"')]
    return headers + [(f"x-ms-meta-{name}", value) for name, value in marker.metadata.items()]


def _history(blobs: Sequence[Listed]) -> list[VersionInfo]:
    """Return the versions of a key; one that has several snapshots, as after a write that failed, is there once."""
    versions: dict[str, VersionInfo] = {}
    for blob in blobs:
        deleted = DELETED in blob.metadata
        version = VersionInfo(
            version_id=_id(blob),
            key=blob.info.key,
            size=blob.info.size,
            last_modified=blob.info.last_modified,
            is_latest=blob.snapshot is None,
            is_delete_marker=deleted,
            etag=None if deleted else blob.info.etag,
        )
        versions.setdefault(version.version_id, version)
    return list(versions.values())
