"""Finding out whether a file system distinguishes all names: otherwise two keys would be one object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from trove_async.errors import UnsupportedError

__all__ = ["PROBE", "VARIANTS", "check_distinct"]

PROBE: Final = "A\u00e9"
"""The end of the name of a file; no file whose name ends in one of the `VARIANTS` instead may be found then."""
VARIANTS: Final = {
    "a\u00e9": "upper and lower case",
    "Ae\u0301": "composed and decomposed characters of Unicode",
    "A\u00e9.": "names with and without a dot at the end",
    "A\u00e9 ": "names with and without a space at the end",
}
"""Other names that some file systems take for the same, and what they do not distinguish then."""


def check_distinct(found: Sequence[bool], where: str) -> None:
    """Check what was found under the names of the variants.

    Args:
        found: whether there was a file under each, in order.
        where: the directory, for the message.

    Raises:
        UnsupportedError: something was found, so the file system does not distinguish these names.
    """
    merged = [what for what, is_same in zip(VARIANTS.values(), found, strict=True) if is_same]
    if merged:
        raise UnsupportedError(
            f"the file system of {where} does not distinguish {' or '.join(merged)}, so that two keys could be one "
            "object; use another directory, or accept this with merge_names=1"
        )
