"""Versions of objects: none, or those that the account keeps.

What keeps versions stands before every write and deletion, and finds the blobs that versions are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeVar

from trove_async.driver import CompleteOptions, CopyOptions, DeleteOptions, PutOptions, VersionListOptions
from trove_async.drivers.azure.client import Client, Params
from trove_async.drivers.azure.listing import Listing
from trove_async.drivers.azure.names import OWN
from trove_async.drivers.azure.pages import Listed
from trove_async.drivers.azure.sas import Signatures
from trove_async.errors import UnsupportedError, VersionNotFoundError
from trove_async.iteration import decode_cursor, encode_cursor
from trove_async.types import EMPTY, ObjectRef, VersionInfo, VersioningStatus
from trove_async.version_listing import VersionPage
from trove_async.wire.fields import write_conditions

__all__ = ["AccountVersions", "Conditions", "Found", "KeptVersions", "Send", "Versions"]

T = TypeVar("T")

Conditions = PutOptions | CopyOptions | CompleteOptions
"""Options of a write, of which only ``if_match`` and ``if_none_match`` are meant."""

Send = Callable[[str | None, str | None, Mapping[str, str]], Awaitable[T]]
"""Sends a write with ``if_match``, ``if_none_match`` and metadata of the library's own; it may be called again."""

_CURSOR: Final = 30
"""The kind of the cursors of listings."""

MARKER: Final = "deleted"
"""The id of the delete marker that stands for a blob that was deleted and has versions."""


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
        client: sends the requests.

    Attributes:
        include: what a listing has to include to show the versions; None for nothing.
        records: whether a write makes a version that the account would not make by itself.
    """

    include: str | None = None
    records = False

    def __init__(self, client: Client) -> None:
        self._client = client

    async def write(self, bucket: str, key: str, conditions: Conditions, send: Send[T]) -> T:
        """Send a write of an object, after the version that it replaces was kept."""
        return await send(conditions.if_match, conditions.if_none_match, EMPTY)

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Delete an object, or a version permanently."""
        if options.version_id is None:
            await self._client.delete(bucket, key, options.if_match)

    async def find(self, bucket: str, key: str, version_id: str) -> Found:
        """Return where a version is.

        Raises:
            VersionNotFoundError: there is none, or it is a delete marker.
        """
        raise VersionNotFoundError(f"the store was opened without versions; it does not look for {version_id!r}")

    async def pin(self, bucket: str, key: str, version_id: str) -> Params:
        """Return what names a version even after the object is replaced; errors as in `find`."""
        return (await self.find(bucket, key, version_id)).params

    async def set(self, bucket: str, enabled: bool) -> None:
        """Keep versions from now on, or stop."""
        raise self._unsupported()

    async def status(self, bucket: str) -> VersioningStatus:
        """Tell whether the container keeps versions."""
        raise self._unsupported()

    async def history(self, bucket: str, key: str) -> Sequence[VersionInfo]:
        """Return versions and delete markers, newest first."""
        raise self._unsupported()

    async def page(self, bucket: str, options: VersionListOptions) -> VersionPage:
        """Return a page of the versions of a container."""
        raise self._unsupported()

    async def list_noncurrent(self, bucket: str, prefix: str) -> Sequence[VersionInfo]:
        """Return the versions that are not the latest, with the times at which they were replaced."""
        return ()

    @staticmethod
    def _unsupported() -> UnsupportedError:
        return UnsupportedError("the store was opened without versions; open it with versions=native or =snapshots")


class KeptVersions(Versions, ABC):
    """Versions that are blobs, beside the object that they are versions of.

    Args:
        client, listing: send the requests.
        signatures: let the service read what it copies.
    """

    def __init__(self, client: Client, listing: Listing, signatures: Signatures) -> None:
        super().__init__(client)
        self._listing = listing
        self._signatures = signatures

    @abstractmethod
    def _sorted(self, blobs: Sequence[Listed]) -> list[Listed]:
        """Return the blobs of a key, newest first."""

    @abstractmethod
    def _described(self, key: str, blobs: Sequence[Listed]) -> list[VersionInfo]:
        """Return the versions of a key, whose blobs are in the order of `_sorted`."""

    async def history(self, bucket: str, key: str) -> Sequence[VersionInfo]:
        """Return versions and delete markers, newest first."""
        return self._described(key, await self._blobs(bucket, key))

    async def page(self, bucket: str, options: VersionListOptions) -> VersionPage:
        """Return a page of the versions of a container.

        The service lists the versions of a blob oldest first, so a page ends between two blobs: the versions of the
        last one of an answer are asked for at once if it is not the last answer. The cursor is the marker of the next
        answer, and the last key on the page, versions of which the answer may begin with.
        """
        marker, after = (None, None) if options.cursor is None else decode_cursor(_CURSOR, 2, options.cursor)
        answer = await self._listing.blobs(
            bucket, prefix=options.prefix, include=self.include, marker=marker, size=options.page_size
        )
        grouped = self._grouped(blob for blob in answer.blobs if after is None or blob.info.key > after)
        found: list[VersionInfo] = []
        last = next(reversed(grouped), None)
        for key, blobs in grouped.items():
            if key == last and answer.marker is not None:
                found += await self.history(bucket, key)
            else:
                found += self._described(key, self._sorted(blobs))
        if answer.marker is None:
            return VersionPage(found)
        return VersionPage(found, encode_cursor(_CURSOR, (answer.marker, last or after)))

    async def list_noncurrent(self, bucket: str, prefix: str) -> Sequence[VersionInfo]:
        """Return the versions that are not the latest, with the times at which they were replaced."""
        result: list[VersionInfo] = []
        for key, blobs in (await self._by_key(bucket, prefix)).items():
            result += _replaced(self._described(key, blobs))
        return result

    async def _blobs(self, bucket: str, key: str) -> list[Listed]:
        return self._sorted(await self._listing.of_key(bucket, key, include=self.include))

    async def _by_key(self, bucket: str, prefix: str) -> dict[str, list[Listed]]:
        grouped = self._grouped(await self._listing.all(bucket, prefix=prefix, include=self.include))
        return {key: self._sorted(blobs) for key, blobs in grouped.items()}

    @staticmethod
    def _grouped(blobs: Iterable[Listed]) -> dict[str, list[Listed]]:
        """Return the blobs of each key, in the order of the keys, without the library's own."""
        grouped: dict[str, list[Listed]] = {}
        for blob in blobs:
            if blob.info.key[0] != OWN and not blob.directory:
                grouped.setdefault(blob.info.key, []).append(blob)
        return grouped

    async def _promote(self, bucket: str, key: str, params: Params, etag: str | None) -> None:
        """Make a version the object again, as it was.

        Args:
            bucket, key: of the object.
            params: what names the version.
            etag: of the object that there is now; None if there is none.
        """
        url, authorization = await self._signatures.source_url(ObjectRef(bucket, key), params, tags=True)
        headers = [
            ("x-ms-copy-source", url),
            *authorization,
            ("x-ms-requires-sync", "true"),
            ("x-ms-copy-source-tag-option", "COPY"),
            *write_conditions(etag, None if etag else "*"),
        ]
        await self._client.write("PUT", bucket, key, headers=headers)


class AccountVersions(KeptVersions):
    """The versions of an account that keeps them, which is a setting of the account and not of containers."""

    include = "versions"

    async def find(self, bucket: str, key: str, version_id: str) -> Found:
        """Return where a version is; the service is not asked."""
        if version_id == MARKER:
            raise VersionNotFoundError("the version is a delete marker")
        return Found([("versionid", version_id)])

    async def set(self, bucket: str, enabled: bool) -> None:
        """Accept that versions are kept.

        Raises:
            UnsupportedError: the container is to keep no versions, which is a setting of the account.
        """
        await self._client.require_bucket(bucket)
        if not enabled:
            raise UnsupportedError("the account keeps versions, not the container; change the account's settings")

    async def status(self, bucket: str) -> VersioningStatus:
        """Return that versions are kept."""
        await self._client.require_bucket(bucket)
        return VersioningStatus.ENABLED

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Delete an object, which leaves its versions; or a version permanently."""
        version_id = options.version_id
        if version_id is None:
            await self._client.delete(bucket, key, options.if_match)
            return
        versions = await self.history(bucket, key)
        found = next((version for version in versions if version.version_id == version_id), None)
        if found is None:
            return
        if found.is_latest and not found.is_delete_marker:
            # The version that is the object cannot be deleted as a version.
            await self._client.delete(bucket, key, found.etag)
        if not found.is_delete_marker:
            await self._client.delete(bucket, key, params=[("versionid", version_id)])
        older = [version for version in versions if version is not found and not version.is_delete_marker]
        if found.is_latest and older:
            await self._promote(bucket, key, [("versionid", older[0].version_id)], None)

    def _sorted(self, blobs: Sequence[Listed]) -> list[Listed]:
        return sorted(blobs, key=lambda blob: blob.version_id or "", reverse=True)

    def _described(self, key: str, blobs: Sequence[Listed]) -> list[VersionInfo]:
        versions = [
            VersionInfo(
                version_id=blob.version_id or "null",
                key=key,
                size=blob.info.size,
                last_modified=blob.info.last_modified,
                is_latest=blob.current,
                etag=blob.info.etag,
            )
            for blob in blobs
        ]
        if versions and not any(version.is_latest for version in versions):
            versions.insert(0, VersionInfo(MARKER, key, 0, None, is_latest=True, is_delete_marker=True))
        return versions


def _replaced(versions: Sequence[VersionInfo]) -> list[VersionInfo]:
    """Return those of a key's versions that are not the latest, each with the time at which the next one was made."""
    return [
        VersionInfo(
            version.version_id,
            version.key,
            version.size,
            newer.last_modified or version.last_modified,
            is_latest=False,
            is_delete_marker=version.is_delete_marker,
            etag=version.etag,
        )
        for newer, version in pairwise(versions)
    ]
