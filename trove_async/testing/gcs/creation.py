"""Objects created from uploaded bytes, in any API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from trove_async.testing.gcs.conditions import Preconditions
from trove_async.testing.gcs.errors import invalid
from trove_async.testing.gcs.state import Content, Storage, StoredObject

__all__ = ["Expected", "create", "hashed"]

_T = TypeVar("_T")
_AT_ONCE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Expected:
    """The checksums that a client declares."""

    crc32c: str | None = None
    md5: str | None = None

    @classmethod
    def of(cls, headers: Mapping[str, str], metadata: Mapping[str, Any] | None = None) -> Expected:
        """Read ``x-goog-hash`` and ``Content-MD5``, and the metadata of the object."""
        metadata = metadata or {}
        crc32c, md5 = metadata.get("crc32c"), metadata.get("md5Hash")
        for item in headers.get("x-goog-hash", "").split(","):
            name, _, value = item.strip().partition("=")
            if name == "crc32c":
                crc32c = value
            elif name == "md5":
                md5 = value
        return cls(crc32c, headers.get("content-md5") or md5)

    def merged(self, later: Expected) -> Expected:
        """Return these checksums, overridden by those of a later request."""
        return Expected(later.crc32c or self.crc32c, later.md5 or self.md5)

    def check(self, content: Content) -> None:
        """Compare with the checksums of content.

        Raises:
            ServiceError: 400; one differs.
        """
        for name, wanted, actual in (("CRC32C", self.crc32c, content.crc32c), ("MD5", self.md5, content.md5)):
            if wanted and actual and wanted != actual:
                message = f'Provided {name} hash "{wanted}" doesn\'t match calculated {name} hash "{actual}".'
                raise invalid(message, xml_code="BadDigest")


def hashed(
    data: bytes, then: Callable[[Content], _T], make: Callable[[bytes], Content] = Content.of
) -> _T | Awaitable[_T]:
    """Hash bytes, in a thread if they are many, and return the result of ``then`` with them."""
    if len(data) <= _AT_ONCE:
        return then(make(data))

    async def later() -> _T:
        return then(await asyncio.to_thread(make, data))

    return later()


def create(
    storage: Storage,
    bucket_name: str,
    name: str,
    content: Content,
    fields: dict[str, Any],
    conditions: Preconditions,
    expected: Expected,
) -> StoredObject:
    """Create an object, if its checksums and the preconditions match.

    Raises:
        ServiceError: 400, 403, 404 or 412.
    """
    expected.check(content)
    bucket = storage.bucket(bucket_name)
    conditions.check(bucket.live(name))
    return storage.store(bucket, name, content, fields)
