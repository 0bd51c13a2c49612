"""Versions for accounts that keep none: before an object is replaced, a snapshot is made of it.

Every object that is written while its container keeps versions has the id of its version in its metadata, and a
snapshot keeps the metadata. What replaces the object names the ETag of what was kept, so that nothing is lost in
between. A delete marker is an empty blob with a mark in its metadata: a blob that has snapshots cannot be deleted
without them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from trove_async.driver import DeleteOptions, check_write
from trove_async.driver.retry import many_requests, until_uncontended
from trove_async.drivers.azure.client import Client, Params
from trove_async.drivers.azure.configuration import Configurations
from trove_async.drivers.azure.headers import DELETED, NULL, SERVICE, VERSION, etag_in
from trove_async.drivers.azure.listing import Listing
from trove_async.drivers.azure.names import OWN
from trove_async.drivers.azure.pages import Listed
from trove_async.drivers.azure.sas import Signatures
from trove_async.drivers.azure.versions import Conditions, Found, KeptVersions, Send
from trove_async.errors import (
    ConflictError,
    ObjectChangedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    VersionNotFoundError,
)
from trove_async.types import VersionInfo, VersioningStatus
from trove_async.wire.fields import required

__all__ = ["Snapshots"]

T = TypeVar("T")


class _OvertakenError(ConflictError):
    """Another writer replaced the object between the look at it and the write."""


@contextmanager
def _overtaking() -> Iterator[None]:
    """Raise `_OvertakenError` for the condition that this module has added to a write."""
    try:
        yield
    except ObjectChangedError:
        raise  # the source of a copy, after it was looked at
    except PreconditionFailedError as error:
        if error.ambiguous:
            raise
        raise _OvertakenError(error.message, status=error.status, request_id=error.request_id) from error


@dataclass(frozen=True, slots=True)
class _Current:
    """The blob of a key: an object or a delete marker."""

    etag: str
    version_id: str
    deleted: bool


class Snapshots(KeptVersions):
    """Keeps versions as snapshots, in the containers whose configuration says so.

    Args:
        client, listing: send the requests.
        signatures: let the service read what it copies.
        configurations: of the containers.
    """

    include = "snapshots,metadata"
    records = True

    def __init__(
        self, client: Client, listing: Listing, signatures: Signatures, configurations: Configurations
    ) -> None:
        super().__init__(client, listing, signatures)
        self._configurations = configurations

    # Containers

    async def set(self, bucket: str, enabled: bool) -> None:
        """Keep versions from now on, or stop."""
        status = VersioningStatus.ENABLED if enabled else VersioningStatus.SUSPENDED
        await self._configurations.change(bucket, versioning=status)

    async def status(self, bucket: str) -> VersioningStatus:
        """Tell whether the container keeps versions."""
        return (await self._configurations.get(bucket)).versioning

    # Writing

    async def write(self, bucket: str, key: str, conditions: Conditions, send: Send[T]) -> T:
        """Send a write of an object, after the version that it replaces was kept."""
        if key[0] == OWN:
            return await super().write(bucket, key, conditions, send)
        status = await self.status(bucket)
        if status == VersioningStatus.UNVERSIONED:
            return await send(conditions.if_match, conditions.if_none_match, {VERSION: NULL})

        async def attempt() -> T:
            current = await self._current(bucket, key)
            there = None if current is None or current.deleted else current.etag
            check_write(there, conditions.if_match, conditions.if_none_match)
            with _overtaking():
                await self._keep(bucket, key, current, status)
                if current is None:
                    return await send(None, "*", _own(status))
                return await send(current.etag, None, _own(status))

        with many_requests():
            return await until_uncontended(
                attempt,
                lost=_OvertakenError,
                message="others replaced the object again and again before this write could keep its version",
            )

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Put a delete marker in the place of an object, or delete a version permanently."""
        if options.version_id is not None:
            await self._delete_version(bucket, key, options.version_id)
            return
        status = await self.status(bucket)
        if status == VersioningStatus.UNVERSIONED:
            await self._client.delete(bucket, key, options.if_match)
            return

        async def attempt() -> None:
            current = await self._current(bucket, key)
            if current is None or current.deleted:
                check_write(None, options.if_match, None)
                return
            check_write(current.etag, options.if_match, None)
            with _overtaking():
                await self._keep(bucket, key, current, status)
                await self._mark(bucket, key, current.etag, {DELETED: "1", **_own(status)})

        with many_requests():
            await until_uncontended(
                attempt,
                lost=_OvertakenError,
                message="others replaced the object again and again before it could be deleted",
            )

    async def _current(self, bucket: str, key: str) -> _Current | None:
        try:
            response = await self._client.request("HEAD", bucket, key)
        except ObjectNotFoundError:
            return None
        headers = response.headers
        version_id = headers.get(f"x-ms-meta-{VERSION}", NULL)
        return _Current(etag_in(headers), version_id, f"x-ms-meta-{DELETED}" in headers)

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
        response = await self._client.request(
            "PUT", bucket, key, params=[("comp", "snapshot")], headers=[("if-match", f'"{etag}"')]
        )
        return required(response.headers, "x-ms-snapshot", SERVICE)

    async def _mark(self, bucket: str, key: str, etag: str, metadata: Mapping[str, str]) -> None:
        """Put a delete marker, of which the metadata makes it one, in the place of a blob."""
        headers = [("x-ms-blob-type", "BlockBlob"), ("if-match", f'"{etag}"')]
        headers += [(f"x-ms-meta-{name}", value) for name, value in metadata.items()]
        await self._client.write("PUT", bucket, key, headers=headers)

    # Reading

    async def find(self, bucket: str, key: str, version_id: str) -> Found:
        """Return where a version is, which takes a listing of the key's snapshots."""
        for blob in await self._blobs(bucket, key):
            if _id(blob) == version_id:
                if DELETED in blob.metadata:
                    raise VersionNotFoundError("the version is a delete marker")
                if blob.snapshot is None:
                    return Found((), blob.info.etag)
                return Found(_named(blob))
        raise VersionNotFoundError(f"there is no version {version_id!r}")

    async def pin(self, bucket: str, key: str, version_id: str) -> Params:
        """Return the snapshot of a version; one is made of the object itself."""
        found = await self.find(bucket, key, version_id)
        if found.etag is None:
            return found.params
        return [("snapshot", await self._snapshot(bucket, key, found.etag))]

    def _sorted(self, blobs: Sequence[Listed]) -> list[Listed]:
        return sorted(blobs, key=lambda blob: blob.snapshot or "~", reverse=True)

    def _described(self, key: str, blobs: Sequence[Listed]) -> list[VersionInfo]:
        """Return the versions; one that has several snapshots, after a write that failed, only once."""
        versions: dict[str, VersionInfo] = {}
        for blob in blobs:
            deleted = DELETED in blob.metadata
            version = VersionInfo(
                version_id=_id(blob),
                key=key,
                size=blob.info.size,
                last_modified=blob.info.last_modified,
                is_latest=blob.snapshot is None,
                is_delete_marker=deleted,
                etag=None if deleted else blob.info.etag,
            )
            versions.setdefault(version.version_id, version)
        return list(versions.values())

    # Deleting permanently

    async def _delete_version(self, bucket: str, key: str, version_id: str) -> None:
        async def attempt() -> None:
            blobs = await self._blobs(bucket, key)
            gone = [blob for blob in blobs if _id(blob) == version_id]
            kept = [blob for blob in blobs if _id(blob) != version_id]
            with _overtaking():
                if gone and gone[0].snapshot is None:
                    await self._replace_latest(bucket, key, gone, kept)
                else:
                    await self._delete_snapshots(bucket, key, gone)

        with many_requests():
            await until_uncontended(
                attempt,
                lost=_OvertakenError,
                message="others replaced the object again and again before its version could be deleted",
            )

    async def _replace_latest(self, bucket: str, key: str, gone: Sequence[Listed], kept: Sequence[Listed]) -> None:
        """Put the next newest version, or nothing, in the place of the latest."""
        latest, snapshots = gone[0].info.etag, gone[1:]
        if not kept:
            await self._delete_snapshots(bucket, key, snapshots)
            await self._client.delete(bucket, key, latest)
            return
        if DELETED in kept[0].metadata:
            await self._mark(bucket, key, latest, kept[0].metadata)
        else:
            await self._promote(bucket, key, _named(kept[0]), latest)
        await self._delete_snapshots(bucket, key, snapshots)

    async def _delete_snapshots(self, bucket: str, key: str, snapshots: Sequence[Listed]) -> None:
        for blob in snapshots:
            await self._client.delete(bucket, key, params=_named(blob))


def _own(status: VersioningStatus) -> Mapping[str, str]:
    """Return the metadata of a version that is made now."""
    return {VERSION: secrets.token_hex(16) if status == VersioningStatus.ENABLED else NULL}


def _id(blob: Listed) -> str:
    return blob.metadata.get(VERSION, NULL)


def _named(blob: Listed) -> Params:
    return [("snapshot", blob.snapshot or "")]
