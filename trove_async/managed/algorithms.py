"""The hash functions whose digests can stand for content."""

from __future__ import annotations

from typing import Final

from trove_async.checksums import new_hasher
from trove_async.errors import InvalidArgumentError

__all__ = ["check_algorithm"]

_ALGORITHMS: Final = ("sha256", "blake3", "sha384", "sha512")
"""Only what resists collisions: with another algorithm, anybody could prepare two contents of one digest, and whoever
reads one would get the other."""


def check_algorithm(algorithm: object) -> str:
    """Return an algorithm that can be computed here.

    Raises:
        InvalidArgumentError: it is none, or does not resist collisions.
        MissingDependencyError: its package is not installed.
    """
    if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS:
        raise InvalidArgumentError(f"the algorithm is one of {', '.join(_ALGORITHMS)}, not {algorithm!r}")
    new_hasher(algorithm)
    return algorithm
