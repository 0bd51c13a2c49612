"""The leftovers of a store over SFTP, found on the server's disk without its own sweeper."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["generation_of", "residue_of"]


def residue_of(root: Path | str) -> list[str]:
    """Return what is in a root and belongs to no object, open upload or open store."""
    ours = Path(root) / ".trove"
    return [*_temporaries(ours / "tmp"), *_locks(ours / "locks"), *_ended_uploads(ours / "uploads"), *_orphans(root)]


def _temporaries(folder: Path) -> Iterator[str]:
    for client in _entries(folder):
        for path in _entries(client):
            if path.name != "lease":
                yield f"the temporary {path}"


def _locks(folder: Path) -> Iterator[str]:
    for path in _entries(folder):
        yield f"the lock {path}"


def _ended_uploads(folder: Path) -> Iterator[str]:
    for bucket in _entries(folder):
        for upload in _entries(bucket):
            if not (upload / "manifest").exists():
                yield f"the upload {upload} without a manifest"


def generation_of(path: str) -> str:
    """Return the reference to the sidecar of a file: ``docs/sftp.md``, "Layout"."""
    status = os.lstat(path)
    carried = int(status.st_atime) - 2**31
    return f"{status.st_size:x}-{int(status.st_mtime) * 10**9 + (carried % 2**30 if carried >= 0 else 0):x}"


def _orphans(root: Path | str) -> Iterator[str]:
    for bucket in _entries(Path(root) / ".trove" / "meta"):
        generations = {generation_of(path) for path in _files(Path(root) / bucket.name)}
        for sidecar in _files(bucket):
            if sidecar.rpartition(".")[2] not in generations:
                yield f"the sidecar {sidecar} of no object"


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _files(folder: Path) -> list[str]:
    # A path of an object may be too long for the methods of Path, but not for strings.
    return [f"{at}/{name}" for at, _, names in os.walk(folder) for name in names]
