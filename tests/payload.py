"""The bytes that tests store."""

from __future__ import annotations

import struct

__all__ = ["pattern"]


def pattern(size: int) -> bytes:
    """Return bytes in which no piece occurs at another position."""
    count = -(-size // 4)
    return struct.pack(f">{count}I", *range(count))[:size]
