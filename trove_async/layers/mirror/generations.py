"""Generations: the ETags of a mirror, and the hidden metadata that carries them."""

from __future__ import annotations

import time
from dataclasses import replace
from secrets import token_hex
from typing import Final

from trove_async.checksums import Checksum
from trove_async.driver.capabilities import Limits
from trove_async.driver.options import ObjectAttributes, PutOptions
from trove_async.errors import InvalidMetadataError
from trove_async.types import FrozenDict, ObjectInfo

__all__ = ["NAME", "generation_of", "is_stamped", "limits_behind", "new_generation", "public", "stamped"]

NAME: Final = "trove-mirror"
"""The name of the hidden metadata."""

_ALGORITHM: Final = "sha256"
_ROOM: Final = 256
"""Bytes of metadata that are left for the mirror: a generation may hold the ETag of a member."""


def new_generation() -> str:
    """Return a generation that differs from all others, and sorts by the clock of this machine."""
    return f"{time.time_ns() // 1000:014x}{token_hex(6)}"


def limits_behind(limits: Limits) -> Limits:
    """Return the limits that are left for users."""
    return replace(limits, max_metadata_size=limits.max_metadata_size - _ROOM)


def stamped(options: PutOptions, generation: str) -> PutOptions:
    """Return the options with which a member is written: without conditions, with a generation and a checksum.

    By the checksum a copy is recognised that has gone bad; each read of a whole object compares it.

    Raises:
        InvalidMetadataError: the user's metadata has the name of the mirror's.
    """
    attributes = options.attributes
    if NAME in attributes.metadata:
        raise InvalidMetadataError(f"the name {NAME!r} in metadata belongs to the mirror; use another one")
    return PutOptions(
        attributes=replace(attributes, metadata=FrozenDict({**attributes.metadata, NAME: generation})),
        checksum=options.checksum or Checksum(_ALGORITHM),
    )


def is_stamped(info: ObjectInfo) -> bool:
    """Tell whether a copy was written by a mirror; others were there before, or were placed by hand."""
    return NAME in info.metadata


def generation_of(info: ObjectInfo, member: str) -> str:
    """Return the generation of a copy: the one that it was written with, or one made of the member's own ETag."""
    return info.metadata.get(NAME) or f"{member}:{info.etag}"


def public(info: ObjectInfo, member: str) -> ObjectInfo:
    """Return the description of a copy as users see it."""
    metadata = info.metadata
    if NAME in metadata:
        metadata = FrozenDict({name: value for name, value in metadata.items() if name != NAME})
    return replace(info, etag=generation_of(info, member), metadata=metadata, version_id=None)


def copy_options(info: ObjectInfo, member: str, tags: FrozenDict, *, shares_backend: bool) -> PutOptions:
    """Return the options with which a copy of a copy is written: of the same generation and with the same checksum.

    Args:
        info: of the copy that is read.
        member: which has it.
        tags: its tags.
        shares_backend: whether both have the same storage classes.
    """
    attributes = ObjectAttributes.of(info, tags)
    attributes = replace(
        attributes,
        metadata=FrozenDict({**attributes.metadata, NAME: generation_of(info, member)}),
        storage_class=attributes.storage_class if shares_backend else None,
    )
    known = next(iter(info.checksums.items()), None)
    return PutOptions(attributes=attributes, checksum=Checksum(*known) if known else Checksum(_ALGORITHM))
