"""The local driver under the conformance suite: ``pytest --trove-driver=tests.drivers.local_harness:harness``."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

import trove_async
from trove_async.driver import Driver, OpenOptions
from trove_async.drivers.local import LocalDriver
from trove_async.dsn import parse_dsn
from trove_async.layers import LayerDriver
from trove_async.testing.conformance import Harness, HTTPClient
from trove_async.web import signed_urls

_BASE_URL = "http://objects.test/signed"
_PART_SIZE = 16 * 1024


class _Borrowed(LayerDriver):
    """A driver that whoever opened it closes."""

    async def close(self) -> None:
        pass


class LocalHarness(Harness):
    name = "local"
    part_size = _PART_SIZE
    bulk_objects = 20_000

    def __init__(self) -> None:
        self._root: Path | None = None

    @property
    def root(self) -> Path:
        if self._root is None:
            self._root = Path(tempfile.mkdtemp(prefix="trove-local-"))
        return self._root

    async def stop(self) -> None:
        if self._root is not None:
            shutil.rmtree(self._root)
            self._root = None

    async def driver(self) -> Driver:
        driver = LocalDriver()
        await driver.open(parse_dsn(self.dsn()), OpenOptions())
        return driver

    def dsn(self) -> str:
        return f"local://{self.root}?fsync=0&min_part_size={_PART_SIZE}&presign_url={_BASE_URL}"

    def dead_dsns(self) -> Sequence[str]:
        return [f"local://{self.root}/missing"]

    @asynccontextmanager
    async def http(self, driver: Driver) -> AsyncIterator[HTTPClient]:
        async with trove_async.open(_Borrowed(driver)) as store:
            transport = httpx.ASGITransport(app=signed_urls(store))
            async with httpx.AsyncClient(transport=transport) as client:
                yield client

    async def residue(self) -> Sequence[str]:
        return residue_of(self.root)


def residue_of(root: Path) -> list[str]:
    """Return what a root holds that no object, version, open upload or living process needs."""
    ours = root / ".trove"
    return [*_temporaries(ours / "tmp"), *_ended_uploads(ours / "uploads"), *_orphans(root)]


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
        for sidecar in _files(bucket):
            if sidecar.rpartition(".")[2] not in generations:
                yield f"the sidecar {sidecar} of no object"


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _files(folder: Path) -> list[str]:
    # Paths of objects may be longer than a Path method would be happy with; strings do.
    return [f"{at}/{name}" for at, _, names in os.walk(folder) for name in names]


harness = LocalHarness()
