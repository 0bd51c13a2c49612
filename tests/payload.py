"""What tests store."""

from __future__ import annotations

__all__ = ["pattern"]


def pattern(size: int) -> bytes:
    """Return bytes of which no piece is found at another place."""
    return b"".join(number.to_bytes(4, "big") for number in range(-(-size // 4)))[:size]
