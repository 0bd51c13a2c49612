"""Buckets, versions, lifecycle rules, tags, and what else objects have beside their content."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from trove_async.driver import LifecycleDeleteBySet, TagsDeleteBySet
from trove_async.driver.retry import until_uncontended
from trove_async.drivers.gcs.addressing import bucket_path, resource_path
from trove_async.drivers.gcs.client import Client, Query
from trove_async.drivers.gcs.credentials import Credentials
from trove_async.drivers.gcs.documents import MALFORMED, items, listing_page, mapping, resource, text, text_if_any
from trove_async.drivers.gcs.lifecycle import from_gcs, own_labels, to_gcs
from trove_async.drivers.gcs.names import check_new_bucket
from trove_async.drivers.gcs.resources import MAX_METADATA, TAGS, parse_time, tags_of
from trove_async.drivers.gcs.settings import GCSSettings
from trove_async.drivers.gcs.versions import VERSION_FIELDS, newest_first, version_of
from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    BucketAlreadyExistsError,
    BucketNotFoundError,
    ConflictError,
    InvalidTagsError,
    PreconditionFailedError,
)
from trove_async.types import BucketInfo, LifecycleRule, VersionInfo, VersioningStatus
from trove_async.wire.paging import pages
from trove_async.wire.sigv4 import encode_query

__all__ = ["Control"]

_PAGE: Final = 1000
_BUCKETS: Final = ("fields", "kind,nextPageToken,items(name,timeCreated)")


class Control(LifecycleDeleteBySet, TagsDeleteBySet):
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
            BucketAlreadyExistsError: it exists, in this project or in another.
            ConflictError: another operation on the bucket is under way.
            InvalidBucketNameError: a new bucket cannot have the name.
            InvalidArgumentError: nothing says in which project.
        """
        check_new_bucket(name)
        content = {"name": name}
        if (place := location or self._settings.location) is not None:
            content["location"] = place
        query = [("project", await self._credentials.find_project()), ("fields", "name")]
        try:
            await self._client.json(
                "POST", "/b", name, query=query, content=content, writes=True, final=(ConflictError,)
            )
        except ConflictError as error:
            # Google answers 409 to both, and does not always say which it is.
            if not await self._is_taken(name):
                raise
            raise BucketAlreadyExistsError(
                f"the bucket {name!r} already exists",
                bucket=name,
                status=error.status,
                request_id=error.request_id,
                ambiguous=error.ambiguous,
            ) from error

    async def _is_taken(self, name: str) -> bool:
        try:
            await self._client.require_bucket(name)
        except BucketNotFoundError:
            return False
        except AccessDeniedError:
            return True  # it is another's
        return True

    async def delete_bucket(self, name: str) -> None:
        """Delete an empty bucket.

        Raises:
            BucketNotFoundError: it does not exist.
            BucketNotEmptyError: it holds objects or versions.
        """
        await self._client.json("DELETE", bucket_path(name), name, writes=True)

    async def list_buckets(self) -> Sequence[BucketInfo]:
        """Return the buckets of the project, in the order of their names."""
        query = [("project", await self._credentials.find_project()), _BUCKETS]
        async with aclosing(self._items("/b", "", query, "buckets")) as listed:
            found = [_bucket(item) async for item in listed]
        return sorted(found, key=lambda bucket: bucket.name)

    # Versions

    async def set_versioning(self, bucket: str, enabled: bool) -> None:
        """Keep versions from now on, or stop; a bucket that never kept any stays unversioned."""
        if not enabled and await self.get_versioning(bucket) is VersioningStatus.UNVERSIONED:
            return
        await self._patch_bucket(bucket, {"versioning": {"enabled": enabled}})

    async def get_versioning(self, bucket: str) -> VersioningStatus:
        """Tell whether the bucket keeps versions."""
        versioning = mapping(await self._bucket(bucket, "versioning"), "versioning")
        if not versioning:
            return VersioningStatus.UNVERSIONED
        return VersioningStatus.ENABLED if versioning.get("enabled") else VersioningStatus.SUSPENDED

    async def list_versions(self, bucket: str, key: str) -> Sequence[VersionInfo]:
        """Return the generations of an object, newest first; empty if it never existed."""
        query = [
            ("versions", "true"),
            ("prefix", key),
            ("startOffset", key),
            ("endOffset", f"{key}\x01"),
            VERSION_FIELDS,
        ]
        async with aclosing(self._items(f"{bucket_path(bucket)}/o", bucket, query, "versions")) as listed:
            found = [version_of(key, item) async for item in listed if text(item, "name") == key]
        return newest_first(found)

    # Lifecycle

    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        """Replace the bucket's rules; none removes them.

        Raises:
            UnsupportedError: the service has no such rule.
        """
        wanted, labels = to_gcs(rules)

        async def attempt() -> None:
            found = await self._bucket(bucket, "labels,metageneration")
            content = {
                "lifecycle": {"rule": wanted} if wanted else None,
                "labels": {**dict.fromkeys(own_labels(mapping(found, "labels"))), **labels},
            }
            await self._patch_bucket(bucket, content, ("ifMetagenerationMatch", str(found.get("metageneration"))))

        message = "the bucket is changed too often by others for its lifecycle rules to be set"
        await until_uncontended(attempt, lost=PreconditionFailedError, message=message)

    async def get_lifecycle(self, bucket: str) -> Sequence[LifecycleRule]:
        """Return the rules; empty if there are none.

        Raises:
            UnsupportedError: there is a rule that a `LifecycleRule` cannot hold.
        """
        found = await self._bucket(bucket, "lifecycle,labels")
        return from_gcs(items(mapping(found, "lifecycle"), "rule"), mapping(found, "labels"))

    async def _bucket(self, bucket: str, fields: str) -> Mapping[str, Any]:
        # The answer is empty without one field that every bucket has.
        return resource(
            await self._client.json("GET", bucket_path(bucket), bucket, query=[("fields", f"name,{fields}")])
        )

    async def _patch_bucket(self, bucket: str, content: Mapping[str, Any], *conditions: tuple[str, str]) -> None:
        query = [("fields", "name"), *conditions]
        await self._client.json("PATCH", bucket_path(bucket), bucket, query=query, content=content, writes=True)

    # Tags

    async def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        """Return an object's tags."""
        path = resource_path(bucket, key)
        found = await self._client.json("GET", path, bucket, key, query=[("fields", "name,metadata")])
        return tags_of(mapping(resource(found), "metadata"))

    async def set_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> None:
        """Replace an object's tags: the one entry of its metadata that holds them, whatever else changes meanwhile.

        Raises:
            InvalidTagsError: they are larger than the metadata that the service takes.
        """
        value = encode_query(tags.items()) if tags else None
        if value is not None and len(value) > MAX_METADATA - len(TAGS):
            raise InvalidTagsError(f"the tags are {len(value)} bytes as they are stored, more than {MAX_METADATA}")
        await self.patch(bucket, key, {"metadata": {TAGS: value}})

    async def patch(self, bucket: str, key: str, content: Mapping[str, Any]) -> None:
        """Change what an object has beside its content."""
        query = [("fields", "generation")]
        await self._client.json(
            "PATCH", resource_path(bucket, key), bucket, key, query=query, content=content, writes=True
        )

    async def _items(self, path: str, bucket: str, query: Query, what: str) -> AsyncGenerator[Mapping[str, Any], None]:
        """Yield what a listing has, to its end; ``what`` names it for errors."""

        async def fetch(token: str | None) -> Mapping[str, Any]:
            paging = [("maxResults", str(self._page_size))]
            if token is not None:
                paging.append(("pageToken", token))
            return listing_page(await self._client.json("GET", path, bucket, query=query + paging))

        async with aclosing(pages(fetch, lambda page: text_if_any(page, "nextPageToken"), what)) as found:
            async for page in found:
                for item in items(page, "items"):
                    yield resource(item)


def _bucket(item: Mapping[str, Any]) -> BucketInfo:
    try:
        return BucketInfo(text(item, "name"), parse_time(item.get("timeCreated")))
    except MALFORMED as error:
        raise BackendError("the answer does not describe a bucket: is the endpoint Cloud Storage?") from error
