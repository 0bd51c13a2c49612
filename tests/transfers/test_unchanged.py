"""A second copy to and from S3: what a listing decides, and what it does not."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import trove_async
from tests.s3.stores import opened, scratch
from tests.transfers.test_listed import Counting
from trove_async import Trove
from trove_async.transfers import Job, LocalFile, Outcome, Result, StoredObject, Transfer, files_below, objects_below

pytestmark = pytest.mark.asyncio

FILES = 40


class Copies:
    """A folder, a bucket at a real server, and the requests of copies between them."""

    def __init__(self, store: Trove, bucket: str, folder: Path) -> None:
        self.store, self.bucket, self.folder = store, bucket, folder
        self._counting = trove_async.unwrap(store.driver, Counting)

    async def jobs(self) -> AsyncIterator[Job]:
        async for found in files_below(str(self.folder)):
            yield Job(found.end, StoredObject(self.store, self.bucket, f"tree/{found.name}"), found.size)

    async def into(self, **options: bool) -> Counter[Outcome]:
        return await self._run(self.jobs(), **options)

    async def out(self, folder: Path, **options: bool) -> Counter[Outcome]:
        async def jobs() -> AsyncIterator[Job]:
            async for found in objects_below(self.store, self.bucket, "tree/"):
                file = LocalFile(str(folder / found.name), tree=str(folder))
                yield Job(found.end, file, found.size, found.info)

        return await self._run(jobs(), **options)

    async def _run(self, jobs: AsyncIterator[Job], **options: bool) -> Counter[Outcome]:
        self._counting.calls.clear()
        results: list[Result] = []
        await Transfer(**options).run(jobs, results.append)  # type: ignore[arg-type]
        return Counter(result.outcome for result in results)

    @property
    def requests(self) -> Counter[str]:
        return self._counting.calls


@pytest_asyncio.fixture
async def copies(tmp_path: Path) -> AsyncIterator[Copies]:
    folder = tmp_path / "source"
    for number in range(FILES):
        path = folder / f"d{number % 3}" / f"{number:02}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%02d" % number * 100)
    async with scratch("ceph") as bucket, opened("ceph", layers=[Counting]) as store:
        yield Copies(store, bucket, folder)


async def test_a_second_copy_takes_only_listings(copies: Copies, tmp_path: Path) -> None:
    assert await copies.into() == {Outcome.COPIED: FILES}
    assert copies.requests == {"put": FILES, "list_page": 1}
    assert await copies.into() == {Outcome.UNCHANGED: FILES}
    assert copies.requests == {"list_page": 1}
    assert await copies.out(tmp_path / "target") == {Outcome.COPIED: FILES}
    assert copies.requests == {"get": FILES, "list_page": 1}
    assert await copies.out(tmp_path / "target") == {Outcome.UNCHANGED: FILES}
    assert copies.requests == {"list_page": 1}


async def test_other_bytes_of_the_same_size_are_copied_whatever_their_time(copies: Copies, tmp_path: Path) -> None:
    await copies.into()
    await copies.out(tmp_path / "target")
    changed = copies.folder / "d0" / "00"
    changed.write_bytes(b"xx" * 100)
    os.utime(changed, (1, 1))
    assert await copies.into() == {Outcome.COPIED: 1, Outcome.UNCHANGED: FILES - 1}
    assert await copies.store.read(copies.bucket, "tree/d0/00") == b"xx" * 100
    assert await copies.out(tmp_path / "target") == {Outcome.COPIED: 1, Outcome.UNCHANGED: FILES - 1}
    assert (tmp_path / "target" / "d0" / "00").read_bytes() == b"xx" * 100


async def test_a_file_with_another_time_and_the_same_bytes_is_unchanged(copies: Copies) -> None:
    await copies.into()
    before = await copies.store.head(copies.bucket, "tree/d0/00")
    os.utime(copies.folder / "d0" / "00", (1, 1))
    assert await copies.into() == {Outcome.UNCHANGED: FILES}
    assert (await copies.store.head(copies.bucket, "tree/d0/00")).metadata == before.metadata


async def test_a_preview_says_what_the_copy_does(copies: Copies) -> None:
    await copies.into()
    os.utime(copies.folder / "d0" / "00", (1, 1))
    (copies.folder / "d1" / "01").write_bytes(b"xx" * 100)
    os.utime(copies.folder / "d1" / "01", (1, 1))
    transfer = Transfer()
    copies.requests.clear()
    expected = Counter([await transfer.preview(job) async for job in copies.jobs()])
    assert expected == {Outcome.COPIED: 1, Outcome.UNCHANGED: FILES - 1}
    assert copies.requests["list_page"] == 1
    assert copies.requests["head"] <= 2
    assert await copies.into() == expected


async def test_a_preview_does_not_read_files_that_are_new(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("trove_async.transfers.looking.open", refuse, raising=False)
    transfer = Transfer()
    assert {await transfer.preview(job) async for job in copies.jobs()} == {Outcome.COPIED}


async def test_with_preserve_a_time_that_differs_makes_a_copy(copies: Copies) -> None:
    await copies.into(preserve=True)
    path = copies.folder / "d0" / "00"
    path.chmod(0o600)
    os.utime(path, (1, 1))
    assert await copies.into(preserve=True) == {Outcome.COPIED: 1, Outcome.UNCHANGED: FILES - 1}
    assert (await copies.store.head(copies.bucket, "tree/d0/00")).metadata["mode"] == "100600"


async def test_a_move_asks_for_each_target_before_it_removes_a_source(copies: Copies) -> None:
    await copies.into()
    assert await copies.into(move=True) == {Outcome.UNCHANGED: FILES}
    assert copies.requests["head"] == FILES
    assert [path for path in copies.folder.rglob("*") if path.is_file()] == []


async def test_an_object_of_several_parts_goes_by_its_time(copies: Copies) -> None:
    """Its ETag is no MD5."""
    data = b"%02d" % 0 * 100
    upload = await copies.store.initiate_multipart(copies.bucket, "tree/d0/00")
    part = await copies.store.upload_part(copies.bucket, "tree/d0/00", upload, 1, data)
    await copies.store.complete_multipart(copies.bucket, "tree/d0/00", upload, [part])
    assert await copies.into() == {Outcome.COPIED: FILES}


async def test_files_that_cannot_be_read_go_by_their_time(
    copies: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await copies.into()
    await copies.out(tmp_path / "target")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("trove_async.transfers.looking.open", refuse, raising=False)
    assert await copies.into() == {Outcome.UNCHANGED: FILES}
    assert await copies.out(tmp_path / "target") == {Outcome.UNCHANGED: FILES}
    (tmp_path / "target" / "d0" / "00").write_bytes(b"xx" * 100)
    assert await copies.out(tmp_path / "target") == {Outcome.COPIED: 1, Outcome.UNCHANGED: FILES - 1}
    assert (tmp_path / "target" / "d0" / "00").read_bytes() == b"00" * 100
