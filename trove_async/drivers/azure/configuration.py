"""What the library keeps with a container, in a hidden blob: lifecycle rules, and whether it keeps versions."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from trove_async.driver.retry import until_uncontended
from trove_async.drivers.azure.client import Client
from trove_async.drivers.azure.headers import etag_in
from trove_async.drivers.azure.names import OWN
from trove_async.errors import BackendError, ObjectNotFoundError, PreconditionFailedError
from trove_async.types import LifecycleRule, VersioningStatus
from trove_async.wire.fields import write_conditions

__all__ = ["Configuration", "Configurations"]

_BLOB: Final = f"{OWN}trove/settings.json"


@dataclass(frozen=True, slots=True)
class Configuration:
    """The configuration of a container.

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
    def load(cls, content: bytes) -> Configuration:
        """Read what `dump` wrote.

        Raises:
            BackendError: it is something else.
        """
        try:
            found: dict[str, Any] = json.loads(content)
            rules = tuple(LifecycleRule(**rule) for rule in found["lifecycle"])
            return cls(VersioningStatus(found["versioning"]), rules)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BackendError(f"the container's settings in {_BLOB!r} cannot be read") from error


class Configurations:
    """The configurations of the containers of a store.

    Args:
        client: sends the requests.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def get(self, bucket: str) -> Configuration:
        """Return the configuration of a container.

        Raises:
            BucketNotFoundError: there is no such container.
        """
        return (await self._load(bucket))[0]

    async def change(self, bucket: str, **changes: Any) -> None:
        """Replace some fields, and leave those that others change meanwhile."""

        async def attempt() -> None:
            before, etag = await self._load(bucket)
            after = replace(before, **changes)
            if after != before:
                await self._store(bucket, after, etag)

        await until_uncontended(
            attempt,
            lost=PreconditionFailedError,
            message="the container's settings were changed by others again and again",
        )

    async def _load(self, bucket: str) -> tuple[Configuration, str | None]:
        try:
            headers, content = await self._client.document("GET", bucket, _BLOB)
        except ObjectNotFoundError:
            return Configuration(), None
        return Configuration.load(content), etag_in(headers)

    async def _store(self, bucket: str, configuration: Configuration, etag: str | None) -> None:
        headers = [("x-ms-blob-type", "BlockBlob"), ("x-ms-blob-content-type", "application/json")]
        headers += write_conditions(etag, "*" if etag is None else None)
        await self._client.write("PUT", bucket, _BLOB, headers=headers, body=[configuration.dump()])
