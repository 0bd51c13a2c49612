"""Random numbers for delays, so that clients that failed together do not return together."""

from __future__ import annotations

from random import SystemRandom
from typing import Final

__all__ = ["jitter"]

jitter: Final = SystemRandom()
"""A generator that no program can seed: the one of the module `random` may have the same seed in every process, or be a
program's own source of repeatable numbers, of which the library must not take any."""
