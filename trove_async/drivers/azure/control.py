"""Containers, access tiers, and what the library keeps with a container: rules, and whether it keeps versions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from trove_async.driver import GetOptions, ObjectAttributes, PutOptions
from trove_async.drivers.azure.client import Client, Params
from trove_async.drivers.azure.headers import tier_header
from trove_async.drivers.azure.listing import Lister
from trove_async.drivers.azure.names import OWN
from trove_async.drivers.azure.objects import Objects
from trove_async.errors import (
    BackendError,
    BucketNotEmptyError,
    ObjectNotFoundError,
    PreconditionFailedError,
    TransientError,
)
from trove_async.types import BucketInfo, LifecycleRule, VersioningStatus
from trove_async.wire.xml import parse

__all__ = ["BucketSettings", "Control"]

_SETTINGS: Final = f"{OWN}trove/settings.json"
_ATTEMPTS: Final = 10
_JSON: Final = ObjectAttributes(content_type="application/json")


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """What the library keeps with a container, in a blob of its own.

    Attributes:
        versioning: whether snapshots are made of what is replaced.
        lifecycle: the rules, which the sweeper carries out.
    """

    versioning: VersioningStatus = VersioningStatus.UNVERSIONED
    lifecycle: tuple[LifecycleRule, ...] = ()

    def dump(self) -> bytes:
        """Return it as JSON."""
        return json.dumps({"versioning": self.versioning, "lifecycle": [asdict(r) for r in self.lifecycle]}).encode()

    @classmethod
    def load(cls, content: bytes) -> BucketSettings:
        """Read what `dump` wrote.

        Raises:
            BackendError: it is something else.
        """
        try:
            found: dict[str, Any] = json.loads(content)
            rules = tuple(LifecycleRule(**rule) for rule in found["lifecycle"])
            return cls(VersioningStatus(found["versioning"]), rules)
        except (ValueError, KeyError, TypeError) as error:
            raise BackendError(f"the container's settings in {_SETTINGS!r} cannot be read") from error


class Control:
    """Requests about containers.

    Args:
        client, objects, lister: send them.
    """

    def __init__(self, client: Client, objects: Objects, lister: Lister) -> None:
        self._client = client
        self._objects = objects
        self._lister = lister

    # Containers

    async def create_bucket(self, name: str) -> None:
        """Make a container."""
        await self._client.request("PUT", name, params=[("restype", "container")], writes=True)

    async def delete_bucket(self, name: str, include: str | None) -> None:
        """Delete a container that has no blobs but the library's own; the service would delete it with all it holds.

        Args:
            name: of the container.
            include: what else counts, as of `Lister.page`; such as ``snapshots``.
        """
        marker: str | None = None
        while True:
            page = await self._lister.page(name, include=include, marker=marker)
            if any(found.info.key[0] != OWN for found in page.blobs):
                raise BucketNotEmptyError(f"the container {name!r} is not empty", bucket=name)
            marker = page.marker
            if marker is None:
                break
        await self._client.request("DELETE", name, params=[("restype", "container")], writes=True)

    async def list_buckets(self) -> Sequence[BucketInfo]:
        """Return the containers of the account; when they were made the service does not say."""
        found: list[BucketInfo] = []
        marker: str | None = None
        while True:
            params: list[tuple[str, str]] = [("comp", "list")]
            if marker is not None:
                params.append(("marker", marker))
            _, content = await self._client.document("GET", "", params=params)
            root = parse(content)
            if root.tag != "EnumerationResults":
                raise BackendError("the answer to a listing is none: is the endpoint an Azure Blob service?")
            found += [BucketInfo(item.findtext("Name") or "") for item in root.iter("Container")]
            marker = root.findtext("NextMarker") or None
            if marker is None:
                return sorted(found, key=lambda bucket: bucket.name)

    # Settings

    async def settings(self, bucket: str) -> BucketSettings:
        """Return what the library keeps with a container.

        Raises:
            BucketNotFoundError: there is no such container.
        """
        return (await self._load(bucket))[0]

    async def _load(self, bucket: str) -> tuple[BucketSettings, str | None]:
        try:
            async with await self._objects.get(bucket, _SETTINGS, GetOptions()) as reader:
                return BucketSettings.load(await reader.read()), reader.info.etag
        except ObjectNotFoundError:
            return BucketSettings(), None

    async def change_settings(self, bucket: str, **changes: Any) -> None:
        """Replace some of it, and nothing of what others change meanwhile."""
        for _ in range(_ATTEMPTS):
            before, etag = await self._load(bucket)
            after = replace(before, **changes)
            if after == before:
                return
            options = PutOptions(attributes=_JSON, if_match=etag, if_none_match="*" if etag is None else None)
            try:
                await self._objects.put(bucket, _SETTINGS, [after.dump()], options, None)
            except PreconditionFailedError:
                continue
            return
        raise TransientError("the container's settings were changed by others again and again")

    # Tiers

    async def set_tier(self, bucket: str, key: str, storage_class: str, params: Params = ()) -> None:
        """Move a blob to another access tier."""
        await self._client.request(
            "PUT", bucket, key, params=[("comp", "tier"), *params], headers=[tier_header(storage_class)], writes=True
        )
