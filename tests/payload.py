"""What tests store."""

from __future__ import annotations

import struct

__all__ = ["pattern"]


def pattern(size: int) -> bytes:
    """Return bytes of which no piece is found at another place."""
    count = -(-size // 4)
    return struct.pack(f">{count}I", *range(count))[:size]
