"""The leftovers of a local store, found without its own sweeper."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


def residue_of(root: Path) -> list[str]:
    """Return what is in a root and belongs to no object, version, open upload or living process."""
    ours = root / ".trove"
    deleted = [f"the deleted bucket {path}" for path in _entries(ours / "deleted")]
    return [*_temporaries(ours / "tmp"), *_ended_uploads(ours / "uploads"), *_orphans(root), *deleted]


def _temporaries(folder: Path) -> Iterator[str]:
    for process in _entries(folder):
        for path in _entries(process):
            yield f"the temporary {path}"
        if not _is_locked(process):
            yield f"the folder of temporaries {process} of no living store"


def _is_locked(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _ended_uploads(folder: Path) -> Iterator[str]:
    for bucket in _entries(folder):
        for upload in _entries(bucket):
            if not (upload / "manifest").exists():
                yield f"the upload {upload} without a manifest"


def _orphans(root: Path) -> Iterator[str]:
    ours = root / ".trove"
    for bucket in _entries(ours / "meta"):
        files = [*_files(root / bucket.name), *_files(ours / "versions" / bucket.name)]
        generations = {f"{status.st_size:x}-{status.st_mtime_ns:x}" for status in map(os.lstat, files)}
        generations |= {token for file in files if (token := _token(file)) is not None}
        for sidecar in _files(bucket):
            if sidecar.rpartition(".")[2] not in generations:
                yield f"the sidecar {sidecar} of no object"


def _token(file: str) -> str | None:
    """Return the token that names the sidecar of a file; see `Records`."""
    try:
        stub = os.getxattr(file, "user.trove", follow_symlinks=False)
    except OSError:
        return None
    return stub.removeprefix(b"sidecar ").decode() if stub.startswith(b"sidecar ") else None


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _files(folder: Path) -> list[str]:
    # A path of an object may be too long for the methods of Path, but not for strings.
    return [f"{at}/{name}" for at, _, names in os.walk(folder) for name in names]
