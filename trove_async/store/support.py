"""The names of what a store may support, as users write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, cast, get_args

from trove_async.driver.capabilities import (
    CAPABILITIES,
    BulkDeleteDriver,
    Condition,
    LifecycleSweepDriver,
    NotificationDriver,
    PresignMethod,
    TaggingDriver,
    VersionListingDriver,
)
from trove_async.driver.methods import METHODS
from trove_async.errors import InvalidArgumentError

__all__ = ["capability_words", "meaning_of"]

_WORDS: Final = re.compile(r"\B(?=[A-Z])")
"""The places between the words of a class's name."""

_OTHER_NAMES: Final[Mapping[str, type]] = {
    "bulk_delete": BulkDeleteDriver,
    "tags": TaggingDriver,
    "watch": NotificationDriver,
    "list_all_versions": VersionListingDriver,
    "apply_lifecycle": LifecycleSweepDriver,
}
"""Names of capabilities that neither their Protocols nor their methods have."""

_CONDITIONS: Final = frozenset(get_args(Condition))


def capability_words(capability: type, separator: str = " ") -> str:
    """Return the name of a capability in words: ``server copy`` for `ServerCopyDriver`."""
    return _WORDS.sub(separator, capability.__name__.removesuffix("Driver")).lower()


def _capabilities() -> dict[str, type]:
    found: dict[str, type] = {}
    for capability in CAPABILITIES:
        found[capability_words(capability, "_")] = found[capability.__name__] = capability
    for name, method in METHODS.items():
        if method.capability is not None:
            found[name] = method.capability
    return {**found, **_OTHER_NAMES}


_NAMED: Final = _capabilities()

# What every store has; `get`, `delete` and `copy` are also the names of conditions, and mean these.
_ALWAYS: Final = frozenset(METHODS) - _NAMED.keys() - _CONDITIONS | {
    "list", "exists", "read", "read_ranges", "download", "writer", "move", "delete_many", "empty_bucket",
}  # fmt: skip


def meaning_of(what: type | str) -> Condition | type | PresignMethod | None:
    """Return the condition, capability, or method of signed URLs that a name stands for; None if every store has it.

    Args:
        what: a name, or the Protocol of a capability, which stands for itself.

    Raises:
        InvalidArgumentError: it stands for nothing; the message lists the names.
    """
    if isinstance(what, type):
        if what not in CAPABILITIES:
            raise InvalidArgumentError(
                f"{what.__name__} is not the Protocol of a capability; give one such as VersioningDriver, or a name"
            )
        return what
    if not isinstance(what, str):
        raise InvalidArgumentError(
            f"a capability is a Protocol such as VersioningDriver, or a name such as 'versioning', not {what!r}"
        )
    return _meaning_of_name(what)


def _meaning_of_name(name: str) -> Condition | type | PresignMethod | None:
    if name in _CONDITIONS:
        return cast(Condition, name)
    method = name.removeprefix("presign_").upper()
    if name.startswith("presign_") and method in get_args(PresignMethod):
        return cast(PresignMethod, method)
    if name in _ALWAYS:
        return None
    if name in _NAMED:
        return _NAMED[name]
    capabilities = sorted({capability_words(capability, "_") for capability in CAPABILITIES} | {"watch", "tags"})
    raise InvalidArgumentError(
        f"{name!r} is neither a capability ({', '.join(capabilities)}), nor a condition "
        f"({', '.join(get_args(Condition))}), nor a method of a store"
    )
