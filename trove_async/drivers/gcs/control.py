"""What is asked more rarely: buckets, versions, lifecycle rules, tags, holds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final

from trove_async.drivers.gcs.client import Client, Query, bucket_path, resource_path
from trove_async.drivers.gcs.credentials import Credentials
from trove_async.drivers.gcs.lifecycle import from_gcs, own_labels, to_gcs
from trove_async.drivers.gcs.names import check_new_bucket
from trove_async.drivers.gcs.resources import MAX_METADATA, TAGS, encode_tags, parse_time, tags_of
from trove_async.drivers.gcs.settings import GCSSettings
from trove_async.errors import BackendError, InvalidTagsError, PreconditionFailedError
from trove_async.types import BucketInfo, LifecycleRule, VersionInfo, VersioningStatus

__all__ = ["Control"]

_PAGE: Final = 1000
_ATTEMPTS: Final = 10
_BUCKETS: Final = ("fields", "nextPageToken,items(name,timeCreated)")
_VERSIONS: Final = ("fields", "nextPageToken,items(name,size,generation,timeCreated,timeDeleted)")


class Control:
    """Requests about buckets, and about what objects have beside their content.

    Args:
        client: sends them.
        credentials: know the project.
        settings: of the store.
        page_size: how many items are asked for at once, at most 1,000.
    """

    def __init__(
        self, client: Client, credentials: Credentials, settings: GCSSettings, *, page_size: int = _PAGE
    ) -> None:
        self._client = client
        self._credentials = credentials
        self._settings = settings
        self._page_size = page_size

    # Buckets

    async def create_bucket(self, name: str, location: str | None) -> None:
        """Make a bucket.

        Args:
            name: of the bucket.
            location: where; None for the store's own, or else for the service's default.

        Raises:
            BucketAlreadyExistsError: there is one, of anybody's.
            InvalidBucketNameError: a new bucket cannot have the name.
            InvalidArgumentError: nothing says in which project.
        """
        check_new_bucket(name)
        content = {"name": name}
        if (place := location or self._settings.location) is not None:
            content["location"] = place
        query = [("project", await self._credentials.find_project()), ("fields", "name")]
        await self._client.json("POST", "/b", name, query=query, content=content, writes=True)

    async def delete_bucket(self, name: str) -> None:
        """Delete an empty bucket.

        Raises:
            BucketNotFoundError: there is none.
            BucketNotEmptyError: it holds objects or versions.
        """
        await self._client.json("DELETE", bucket_path(name), name, writes=True)

    async def list_buckets(self) -> Sequence[BucketInfo]:
        """Return the buckets of the project, in the order of their names."""
        query = [("project", await self._credentials.find_project()), _BUCKETS]
        found = [
            BucketInfo(item["name"], parse_time(item.get("timeCreated"))) async for item in self._items("/b", "", query)
        ]
        return sorted(found, key=lambda bucket: bucket.name)

    # Versions

    async def set_versioning(self, bucket: str, enabled: bool) -> None:
        """Keep versions from now on, or stop to; a bucket that never kept any stays unversioned."""
        if not enabled and await self.get_versioning(bucket) is VersioningStatus.UNVERSIONED:
            return
        await self._patch_bucket(bucket, {"versioning": {"enabled": enabled}})

    async def get_versioning(self, bucket: str) -> VersioningStatus:
        """Tell what the bucket does."""
        versioning = (await self._bucket(bucket, "versioning")).get("versioning")
        if versioning is None:
            return VersioningStatus.UNVERSIONED
        return VersioningStatus.ENABLED if versioning.get("enabled") else VersioningStatus.SUSPENDED

    async def list_versions(self, bucket: str, key: str) -> Sequence[VersionInfo]:
        """Return the generations of an object, newest first; empty if it never existed."""
        query = [("versions", "true"), ("prefix", key), ("startOffset", key), ("endOffset", f"{key}\x01"), _VERSIONS]
        items = [item async for item in self._items(f"{bucket_path(bucket)}/o", bucket, query) if item["name"] == key]
        found = [
            VersionInfo(
                version_id=str(item["generation"]),
                key=key,
                size=int(item.get("size", 0)),
                last_modified=parse_time(item.get("timeCreated")),
                is_latest="timeDeleted" not in item,
                etag=str(item["generation"]),
            )
            for item in items
        ]
        return sorted(found, key=lambda version: int(version.version_id), reverse=True)

    # Lifecycle

    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        """Replace the bucket's rules; none removes them.

        Raises:
            UnsupportedError: the service has no such rule.
        """
        wanted, labels = to_gcs(rules)
        for attempt in range(1, _ATTEMPTS + 1):
            found = await self._client.json(
                "GET", bucket_path(bucket), bucket, query=[("fields", "labels,metageneration")]
            )
            old = own_labels(found.get("labels") or {})
            content = {
                "lifecycle": {"rule": wanted} if wanted else None,
                "labels": {**dict.fromkeys(old), **labels},
            }
            try:
                await self._patch_bucket(bucket, content, ("ifMetagenerationMatch", str(found.get("metageneration"))))
                return
            except PreconditionFailedError:  # another change of the bucket came between
                if attempt == _ATTEMPTS:
                    raise

    async def get_lifecycle(self, bucket: str) -> Sequence[LifecycleRule]:
        """Return the rules; empty if there are none.

        Raises:
            UnsupportedError: there is a rule that a `LifecycleRule` cannot hold.
        """
        found = (
            await self._client.json("GET", bucket_path(bucket), bucket, query=[("fields", "lifecycle,labels")]) or {}
        )
        return from_gcs((found.get("lifecycle") or {}).get("rule") or [], found.get("labels") or {})

    async def _bucket(self, bucket: str, fields: str) -> Mapping[str, Any]:
        found = await self._client.json("GET", bucket_path(bucket), bucket, query=[("fields", fields)])
        return found if isinstance(found, dict) else {}

    async def _patch_bucket(self, bucket: str, content: Mapping[str, Any], *conditions: tuple[str, str]) -> None:
        query = [("fields", "name"), *conditions]
        await self._client.json("PATCH", bucket_path(bucket), bucket, query=query, content=content, writes=True)

    # Tags

    async def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        """Return an object's tags."""
        path = resource_path(bucket, key)
        found = await self._client.json("GET", path, bucket, key, query=[("fields", "metadata")])
        return tags_of((found or {}).get("metadata") or {})

    async def set_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> None:
        """Replace an object's tags: the one entry of its metadata that holds them, whatever else changes meanwhile.

        Raises:
            InvalidTagsError: they are more than the service takes as metadata.
        """
        value = encode_tags(tags) if tags else None
        if value is not None and len(value) > MAX_METADATA - len(TAGS):
            raise InvalidTagsError(f"the tags are {len(value)} bytes as they are stored, more than {MAX_METADATA}")
        await self.patch(bucket, key, {"metadata": {TAGS: value}})

    async def patch(self, bucket: str, key: str, content: Mapping[str, Any]) -> None:
        """Change what an object has beside its content."""
        query = [("fields", "generation")]
        await self._client.json(
            "PATCH", resource_path(bucket, key), bucket, key, query=query, content=content, writes=True
        )

    async def _items(self, path: str, bucket: str, query: Query) -> AsyncGenerator[dict[str, Any], None]:
        token: str | None = None
        while True:
            paging = [("maxResults", str(self._page_size))]
            if token is not None:
                paging.append(("pageToken", token))
            page = await self._client.json("GET", path, bucket, query=query + paging) or {}
            for item in page.get("items", ()):
                yield item
            following = page.get("nextPageToken")
            if not following:
                return
            if following == token:
                raise BackendError("the service answers with the same page again and again")
            token = following
