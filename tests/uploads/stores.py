"""Stores for processes of the example server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from tests.s3.stores import scratch
from tests.servers import running

__all__ = ["StoreName", "example_store"]

StoreName = Literal["local", "ceph"]


@asynccontextmanager
async def example_store(name: StoreName, folder: Path) -> AsyncIterator[str]:
    """Make an empty store and yield its DSN.

    Args:
        name: local files, or Ceph's S3 gateway.
        folder: in which the local files are.
    """
    if name == "local":
        yield f"local://{folder}/store?create=1&fsync=0"
        return
    ceph = running("ceph")
    keys = f"{quote(ceph.access_key, safe='')}:{quote(ceph.secret_key, safe='')}"
    async with scratch("ceph") as bucket:
        yield f"s3://{keys}@{ceph.region}/{bucket}?endpoint={ceph.endpoint}&profile=ceph"
