"""Whether a copy already exists: the rule by which interrupted work continues."""

from __future__ import annotations

from trove_async.errors import AccessDeniedError
from trove_async.transfers.ends import Description, End, describe, sha256_of

__all__ = ["is_unchanged"]


async def is_unchanged(
    source: End,
    target: End,
    *,
    by_checksum: bool = False,
    described: Description | None = None,
    there: Description | None = None,
) -> bool:
    """Return whether the target is a copy of the source in its current state.

    It is if both have the same size, and

    - the target has the source's modification time, to the nanosecond: copies record it in an object's metadata and
      set it on a file. An object without it was not written by a copy, and counts as changed. Clocks
      are never compared, so the clocks of two machines need not agree; or
    - with ``by_checksum``, both have the same SHA-256. An end without a stored checksum is read completely.

    `Transfer` decides before that, from a listing, where a small file is proved to have the bytes of the object;
    see `Look.is_content_of`.

    A target that the credentials may write and not read counts as changed.

    Args:
        source, target: the ends; the target need not exist.
        by_checksum: compare the bytes, not the times.
        described, there: the descriptions of the source and of the target, if they are known.

    Raises:
        OSError, TroveError: one of the ends cannot be accessed.
    """
    try:
        there = there or await describe(target)
    except AccessDeniedError:
        there = None  # a target that may be written and not read counts as changed
    if there is None:
        return False
    here = described or await describe(source)
    if here is None or here.size != there.size:
        return False
    if by_checksum:
        return await sha256_of(source, here) == await sha256_of(target, there)
    return there.recorded and here.mtime is not None and here.mtime == there.mtime
