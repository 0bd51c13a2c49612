"""Finding the root of a store in a path that goes on to a bucket and a key."""

from __future__ import annotations

from collections.abc import Sequence
from posixpath import normpath

from trove_async.errors import InvalidDSNError

__all__ = ["possible_roots", "split_path"]


def possible_roots(path: str) -> Sequence[str]:
    """Return the directories on a path, the outermost first; one of them should be the root of a store."""
    ends = [i for i in range(1, len(path)) if path[i] == "/" and path[i - 1] != "/"]
    candidates = ["/", *(path[:end] for end in ends)]
    if path and not path.endswith("/"):
        candidates.append(path)
    # A key may contain "." and "..": the path "ROOT/bucket/../key" names the directory ROOT twice.
    distinct = {normpath(candidate): candidate for candidate in reversed(candidates)}
    return [candidate for candidate in candidates if distinct[normpath(candidate)] == candidate]


def split_path(path: str, roots: Sequence[str]) -> tuple[str, str | None, str]:
    """Split a path into the root of the store, the bucket and the key.

    Args:
        path: absolute.
        roots: the `possible_roots` that contain ``.trove``, which every store has after it was opened once.

    Raises:
        InvalidDSNError: there is not exactly one root.
    """
    if not roots:
        raise InvalidDSNError(f"no directory on the path {path!r} contains .trove, so none is the root of a store")
    if len(roots) > 1:
        # The innermost may be an object's doing: an object "x/.trove/y" gives the directory "x" a ".trove".
        raise InvalidDSNError(f"both {roots[0]!r} and {roots[-1]!r} contain .trove, so either may be the store's root")
    root = roots[0]
    bucket, _, key = path[len(root) :].lstrip("/").partition("/")
    return root, bucket or None, key
