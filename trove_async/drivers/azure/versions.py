"""Versions of objects: none, or those that the account keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from trove_async.driver import DeleteOptions, HeadOptions
from trove_async.drivers.azure.client import Client, Params
from trove_async.drivers.azure.copies import Copies
from trove_async.drivers.azure.listing import Lister
from trove_async.drivers.azure.objects import Objects
from trove_async.drivers.azure.pages import Listed
from trove_async.errors import UnsupportedError, VersionNotFoundError
from trove_async.types import VersionInfo, VersioningStatus

__all__ = ["AccountVersions", "Found", "Versions"]

MARKER: Final = "deleted"
"""The id of the delete marker that stands for a blob that has versions, and of which none is the blob."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where a version is.

    Attributes:
        params: of a query that names it; empty if it is the object itself.
        etag: of the object, if it is the object itself, which may be replaced at any time; else None.
    """

    params: Params
    etag: str | None = None


class Versions:
    """Keeps no versions, and finds none.

    Args:
        objects: deletes.

    Attributes:
        include: what a listing includes to tell whether a container is empty; None for nothing more.
    """

    include: str | None = None

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def find(self, bucket: str, key: str, version_id: str) -> Found:
        """Return where a version is.

        Raises:
            VersionNotFoundError: there is none, or it is a delete marker.
        """
        raise VersionNotFoundError(f"the store was opened without versions, and finds none, such as {version_id!r}")

    async def pin(self, bucket: str, key: str, version_id: str) -> Params:
        """Return what names a version whatever becomes of the object; errors as of `find`."""
        return (await self.find(bucket, key, version_id)).params

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Delete an object, or a version for good."""
        if options.version_id is None:
            await self._objects.delete(bucket, key, options)

    async def set(self, bucket: str, enabled: bool) -> None:
        """Keep versions from now on, or stop to."""
        raise self._refusal()

    async def status(self, bucket: str) -> VersioningStatus:
        """Tell what the container does."""
        raise self._refusal()

    async def history(self, bucket: str, key: str) -> Sequence[VersionInfo]:
        """Return versions and markers, newest first."""
        raise self._refusal()

    async def list_noncurrent(self, bucket: str, prefix: str) -> Sequence[VersionInfo]:
        """Return the versions that are not the latest, with the times at which they were replaced."""
        return ()

    async def keys(self, bucket: str) -> Sequence[str]:
        """Return the keys that have versions or markers."""
        return ()

    @staticmethod
    def _refusal() -> UnsupportedError:
        return UnsupportedError("the store was opened without versions; open it with versions=native or =snapshots")


class AccountVersions(Versions):
    """The versions of an account that keeps them, which is a setting of the account's and not of containers.

    Args:
        client, objects, lister, copies: send the requests.
    """

    include = "versions"

    def __init__(self, client: Client, objects: Objects, lister: Lister, copies: Copies) -> None:
        super().__init__(objects)
        self._client = client
        self._lister = lister
        self._copies = copies

    async def find(self, bucket: str, key: str, version_id: str) -> Found:
        """Return where a version is; the service is not asked."""
        if version_id == MARKER:
            raise VersionNotFoundError("the version is a delete marker")
        return Found([("versionid", version_id)])

    async def set(self, bucket: str, enabled: bool) -> None:
        """Accept that versions are kept.

        Raises:
            UnsupportedError: they are not to be kept: that is the account's to say.
        """
        await self._objects.require_bucket(bucket)
        if not enabled:
            raise UnsupportedError("the account keeps versions, not the container; change the account's settings")

    async def status(self, bucket: str) -> VersioningStatus:
        """Return that versions are kept."""
        await self._objects.require_bucket(bucket)
        return VersioningStatus.ENABLED

    async def history(self, bucket: str, key: str) -> Sequence[VersionInfo]:
        """Return versions, newest first; before them a marker, if none of them is the object."""
        found = await self._lister.all(bucket, prefix=key, include="versions")
        return _history(key, [blob for blob in found if blob.info.key == key])

    async def list_noncurrent(self, bucket: str, prefix: str) -> Sequence[VersionInfo]:
        """Return the versions that are not the latest."""
        result: list[VersionInfo] = []
        for key, blobs in (await self._by_key(bucket, prefix)).items():
            result += replaced(_history(key, blobs))
        return result

    async def keys(self, bucket: str) -> Sequence[str]:
        """Return the keys that have versions."""
        return sorted(await self._by_key(bucket, ""))

    async def _by_key(self, bucket: str, prefix: str) -> dict[str, list[Listed]]:
        grouped: dict[str, list[Listed]] = {}
        for blob in await self._lister.all(bucket, prefix=prefix, include="versions"):
            grouped.setdefault(blob.info.key, []).append(blob)
        return grouped

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Delete an object, which leaves its versions; or a version for good."""
        version_id = options.version_id
        if version_id is None:
            await self._objects.delete(bucket, key, options)
            return
        versions = await self.history(bucket, key)
        found = next((version for version in versions if version.version_id == version_id), None)
        if found is None:
            return
        if found.is_latest and not found.is_delete_marker:
            # The version that is the object cannot be deleted as a version.
            await self._objects.delete(bucket, key, DeleteOptions(if_match=found.etag))
        if not found.is_delete_marker:
            await self._objects.delete(bucket, key, DeleteOptions(), [("versionid", version_id)])
        rest = [version for version in versions if version is not found and not version.is_delete_marker]
        if found.is_latest and rest:
            source = await self._objects.head(bucket, key, HeadOptions(), [("versionid", rest[0].version_id)])
            await self._copies.promote(bucket, key, source, [("versionid", rest[0].version_id)], None)


def _history(key: str, blobs: Sequence[Listed]) -> list[VersionInfo]:
    newest_first = sorted(blobs, key=lambda blob: blob.version_id or "", reverse=True)
    versions = [
        VersionInfo(
            version_id=blob.version_id or "null",
            key=key,
            size=blob.info.size,
            last_modified=blob.info.last_modified,
            is_latest=blob.current,
            etag=blob.info.etag,
        )
        for blob in newest_first
    ]
    if versions and not any(version.is_latest for version in versions):
        versions.insert(0, VersionInfo(MARKER, key, 0, None, is_latest=True, is_delete_marker=True))
    return versions


def replaced(versions: Sequence[VersionInfo]) -> list[VersionInfo]:
    """Return those of a key's versions that are not the latest, each with the time at which the next one came."""
    result = []
    for newer, version in pairwise(versions):
        time = newer.last_modified or version.last_modified
        result.append(
            VersionInfo(
                version.version_id,
                version.key,
                version.size,
                time,
                is_latest=False,
                is_delete_marker=version.is_delete_marker,
                etag=version.etag,
            )
        )
    return result
