"""Back a folder up, without asyncio: ``python -m examples.backup_script FOLDER DSN BUCKET``.

It stores the files that are new or have changed since the last run. Ctrl-C leaves no half object; the next run goes on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trove_async as trove


def backup(folder: Path, bucket: trove.sync.Bucket) -> int:
    """Store what has changed, and return the number of files."""
    there = {obj.key: obj for obj in bucket.list()}
    stored = 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        key = path.relative_to(folder).as_posix()
        if not is_current(there.get(key), path):
            print("stored", key, bucket.put(key, path).size)
            stored += 1
    return stored


def is_current(copy: trove.ObjectInfo | None, path: Path) -> bool:
    if copy is None or copy.last_modified is None:
        return False
    status = path.stat()
    return copy.size == status.st_size and copy.last_modified.timestamp() >= status.st_mtime


def main(folder: str, dsn: str, bucket: str) -> None:
    with trove.sync.open(dsn) as t:
        print(backup(Path(folder), t.create_bucket(bucket, exist_ok=True)), "files were stored")


if __name__ == "__main__":
    main(*sys.argv[1:])
