"""`ReadOnly`: a store that can be read and not changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, TypeVar, get_args

from trove_async.driver.base import Driver
from trove_async.driver.capabilities import PresignMethod
from trove_async.errors import AccessDeniedError
from trove_async.layers.base import Call, LayerDriver, Operation

__all__ = ["READS", "SIGNED_READS", "ReadOnly"]

R = TypeVar("R")

READS: Final = frozenset(
    {
        "ping", "get", "get_range", "get_version", "head", "list_page", "list_buckets", "list_versions",
        "list_versions_page", "list_parts", "list_multipart_uploads", "list_noncurrent", "get_versioning",
        "get_lifecycle", "get_tags", "presign_get", "presign_head", "watch",
    }
)  # fmt: skip
"""The methods of drivers that change nothing. One that is not listed is refused, so that no new one is forgotten."""

SIGNED_READS: Final = frozenset({"GET", "HEAD"})
"""The methods of signed URLs that change nothing."""


@dataclass(frozen=True)
class ReadOnly:
    """Refuse every operation that changes something with an `AccessDeniedError`, which is a `PermissionError`.

    It is refused before any request, and before its body is read. URLs are signed for reading only.
    """

    def __call__(self, driver: Driver) -> Driver:
        """Put the layer around a driver."""
        return _ReadOnlyDriver(driver)


class _ReadOnlyDriver(LayerDriver):
    drops: ClassVar[Mapping[type | str, str]] = {
        method: "the store is read-only, and whoever has such a URL could change it"
        for method in get_args(PresignMethod)
        if method not in SIGNED_READS
    }

    async def around(self, operation: Operation, call: Call[R]) -> R:
        if operation.name not in READS:
            raise AccessDeniedError(f"the store is read-only: {operation.name} would change it")
        return await call()
