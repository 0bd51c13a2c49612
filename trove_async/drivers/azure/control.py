"""Requests about containers, and about what objects have beside their content: tags, tiers and versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from xml.etree.ElementTree import Element

from trove_async.driver import HeadOptions
from trove_async.drivers.azure.client import Client, Params
from trove_async.drivers.azure.configuration import Configurations
from trove_async.drivers.azure.headers import check_tags, tier_header
from trove_async.drivers.azure.listing import Listing
from trove_async.drivers.azure.names import check_new_bucket
from trove_async.drivers.azure.objects import Objects
from trove_async.drivers.azure.versions import Versions
from trove_async.errors import BackendError, BucketNotEmptyError
from trove_async.types import BucketInfo, LifecycleRule, VersionInfo, VersioningStatus
from trove_async.wire.paging import pages
from trove_async.wire.xml import document, parse

__all__ = ["Control"]


class Control:
    """Requests about containers, tags, tiers and versions.

    Args:
        client, objects, listing: send them.
        versions: keep and find versions.
        configurations: of the containers.
    """

    def __init__(
        self, client: Client, objects: Objects, listing: Listing, versions: Versions, configurations: Configurations
    ) -> None:
        self._client = client
        self._objects = objects
        self._listing = listing
        self._versions = versions
        self._configurations = configurations

    # Containers

    async def create_bucket(self, name: str, region: str | None) -> None:
        """Make a container; it is where the account is, whatever the region."""
        check_new_bucket(name)
        await self._client.write("PUT", name, params=[("restype", "container")])

    async def delete_bucket(self, name: str) -> None:
        """Delete an empty container; the service would delete it with all blobs in it."""
        if not await self._listing.is_empty(name, self._versions.include):
            raise BucketNotEmptyError(bucket=name)
        await self._client.write("DELETE", name, params=[("restype", "container")])

    async def list_buckets(self) -> Sequence[BucketInfo]:
        """Return the containers of the account; the service does not say when they were made."""

        async def fetch(marker: str | None) -> Element:
            params = [("comp", "list")] if marker is None else [("comp", "list"), ("marker", marker)]
            _, content = await self._client.document("GET", "", params=params)
            root = parse(content)
            if root.tag != "EnumerationResults":
                raise BackendError(
                    f"the answer to a listing is a <{root.tag[:40]}>: is the endpoint an Azure Blob service?"
                )
            return root

        found: list[BucketInfo] = []
        listing = pages(fetch, lambda root: root.findtext("NextMarker") or None, "the containers")
        async with aclosing(listing) as answers:
            async for root in answers:
                found += [BucketInfo(item.findtext("Name") or "") for item in root.iter("Container")]
        return sorted(found, key=lambda bucket: bucket.name)

    # Versions

    async def set_versioning(self, bucket: str, enabled: bool) -> None:
        """Keep versions from now on, or stop."""
        await self._versions.set(bucket, enabled)

    async def get_versioning(self, bucket: str) -> VersioningStatus:
        """Tell whether the container keeps versions."""
        return await self._versions.status(bucket)

    async def list_versions(self, bucket: str, key: str) -> Sequence[VersionInfo]:
        """Return the versions and delete markers of a key, newest first."""
        return await self._versions.history(bucket, key)

    # Lifecycle

    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        """Store rules, which the sweeper carries out."""
        await self._configurations.change(bucket, lifecycle=tuple(rules))

    async def get_lifecycle(self, bucket: str) -> Sequence[LifecycleRule]:
        """Return the rules."""
        return list((await self._configurations.get(bucket)).lifecycle)

    async def delete_lifecycle(self, bucket: str) -> None:
        """Remove the rules."""
        await self.set_lifecycle(bucket, ())

    async def transition(self, bucket: str, key: str, storage_class: str, if_match: str) -> None:
        """Move an object to another access tier; the service has no condition for it, so that a look decides."""
        await self._objects.head(bucket, key, HeadOptions(if_match=if_match))
        headers = [tier_header(storage_class)]
        await self._client.write("PUT", bucket, key, params=[("comp", "tier")], headers=headers)

    # Tags, which Azure calls blob index tags

    async def get_tags(self, bucket: str, key: str, params: Params = ()) -> dict[str, str]:
        """Return the tags of an object, or of the version or snapshot that ``params`` name."""
        _, content = await self._client.document("GET", bucket, key, params=[("comp", "tags"), *params])
        return {item.findtext("Key") or "": item.findtext("Value") or "" for item in parse(content).iter("Tag")}

    async def set_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> None:
        """Replace the tags; none removes them.

        Raises:
            InvalidTagsError: Azure does not take them.
        """
        check_tags(tags)
        pairs = [("Tag", [("Key", name), ("Value", value)]) for name, value in tags.items()]
        body = document("Tags", [("TagSet", pairs)])
        headers = [("content-type", "application/xml; charset=utf-8")]
        await self._client.write("PUT", bucket, key, params=[("comp", "tags")], headers=headers, body=[body])

    async def delete_tags(self, bucket: str, key: str) -> None:
        """Remove the tags."""
        await self.set_tags(bucket, key, {})
