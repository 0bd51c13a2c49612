"""What the parts of `Limit` have in common: each is a layer, and a `Limit` consists of those that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from trove_async.driver.methods import SIGNING
from trove_async.layers.aimd import LimitClass
from trove_async.layers.base import LayerDriver

__all__ = ["LIMIT_CLASSES", "READERS", "LimitPart"]

READERS: Final = frozenset({"get", "get_range", "get_version"})
"""Operations that return a reader."""

_NAMES: Final[Mapping[LimitClass, frozenset[str]]] = {
    "read": READERS | SIGNING | {"get_lifecycle", "get_tags", "get_versioning", "head", "ping", "watch"},
    "write": frozenset(
        {
            "append_part", "complete_multipart", "copy", "copy_part", "create_bucket", "initiate_multipart", "put",
            "restore_version", "server_copy", "set_lifecycle", "set_tags", "set_versioning", "transition",
            "upload_part",
        }
    ),
    "list": frozenset(
        {
            "list_buckets", "list_multipart_uploads", "list_noncurrent", "list_page", "list_parts", "list_versions",
            "list_versions_page",
        }
    ),
    "delete": frozenset(
        {
            "abort_multipart", "delete", "delete_bucket", "delete_lifecycle", "delete_many", "delete_tags",
            "delete_version", "expire",
        }
    ),
}  # fmt: skip

LIMIT_CLASSES: Final[Mapping[str, LimitClass]] = {name: kind for kind, names in _NAMES.items() for name in names}
"""The class of each operation."""


class LimitPart(LayerDriver):
    """A part of `Limit`."""

    layer_name: ClassVar[str | None] = "Limit"
    never_around: ClassVar[Mapping[str, str]] = {"Retry": "its attempts would pass Limit only once"}
