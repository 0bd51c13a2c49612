"""fsspec's own tests of a file system, on five backends."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Final

import pytest
from fsspec.tests import abstract

from tests.drivers.local_harness import LocalHarness
from tests.fs import conftest
from tests.sftp.harness import SFTPHarness
from trove_async.fs.fsspec import TroveFileSystem

# Those with a folder have one of their own, which is removed at the end.
BACKENDS: Final = {**conftest.BACKENDS, "local": LocalHarness(), "sshd": SFTPHarness("sshd")}


@pytest.fixture(scope="module", params=BACKENDS)
def place(request: pytest.FixtureRequest) -> Iterator[tuple[TroveFileSystem, str]]:
    """A file system with a bucket."""
    backend = BACKENDS[request.param]
    dsn = backend.dsn()
    assert dsn is not None
    fs = TroveFileSystem(dsn)
    bucket = f"fsspec-{uuid.uuid4().hex[:12]}"
    fs.mkdir(bucket)
    yield fs, bucket
    fs.rm(bucket, recursive=True)
    asyncio.run(backend.stop())


class Fixtures(abstract.AbstractFixtures):  # type: ignore[misc]
    @pytest.fixture
    def fs(self, place: tuple[TroveFileSystem, str]) -> TroveFileSystem:
        return place[0]

    @pytest.fixture
    def fs_path(self, place: tuple[TroveFileSystem, str]) -> str:
        return f"{place[1]}/{uuid.uuid4().hex[:8]}"

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


class TestCopy(abstract.AbstractCopyTests, Fixtures):  # type: ignore[misc]
    pass


class TestGet(abstract.AbstractGetTests, Fixtures):  # type: ignore[misc]
    pass


class TestPut(abstract.AbstractPutTests, Fixtures):  # type: ignore[misc]
    pass


class TestOpen(abstract.AbstractOpenTests, Fixtures):  # type: ignore[misc]
    pass


class TestPipe(abstract.AbstractPipeTests, Fixtures):  # type: ignore[misc]
    pass
