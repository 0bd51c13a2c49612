"""`ResourceCatalog`: references, uploads that are pending, and their leases."""

from __future__ import annotations

import asyncio

import pytest

from tests.managed.state import age, check, live, lose, rows, sha384
from trove_async.errors import (
    BodySizeError,
    InvalidArgumentError,
    NotFoundError,
    PreconditionFailedError,
    ResourceAlreadyExistsError,
    ResourceDeletedError,
    UploadPendingError,
)
from trove_async.managed import ManagedStorage, Resource, ResourceCatalog
from trove_async.managed.schema import State

pytestmark = pytest.mark.asyncio

DATA = b"some content"
DIGEST = sha384(DATA)


@pytest.fixture
def catalogue(m: ManagedStorage) -> ResourceCatalog:
    return m.catalogue


async def put(catalogue: ResourceCatalog, digest: str = DIGEST, length: int = len(DATA)) -> tuple[str, str]:
    return await catalogue.put(digest, length)


async def test_the_first_put_is_pending(catalogue: ResourceCatalog, m: ManagedStorage) -> None:
    id, path = await put(catalogue)
    assert path == ""
    (blob,) = await live(m)
    assert (blob.id, blob.state, blob.refs, blob.length) == (id, State.PENDING, 1, len(DATA))


async def test_another_put_of_pending_content_adds_a_reference(catalogue: ResourceCatalog, m: ManagedStorage) -> None:
    first = await put(catalogue)
    assert await put(catalogue) == first
    assert [blob.refs for blob in await live(m)] == [2]


async def test_a_put_of_stored_content_returns_its_path(catalogue: ResourceCatalog, m: ManagedStorage) -> None:
    id, _ = await put(catalogue)
    await catalogue.upload_complete(id, "a/path")
    assert await put(catalogue) == (id, "a/path")
    assert [blob.refs for blob in await live(m)] == [2]


async def test_different_content_is_another_resource(catalogue: ResourceCatalog, m: ManagedStorage) -> None:
    one, _ = await put(catalogue)
    two, _ = await put(catalogue, sha384(b"other"), 5)
    assert one != two
    assert [blob.refs for blob in await live(m)] == [1, 1]


@pytest.mark.parametrize("complete", [False, True])
async def test_another_length_is_refused(catalogue: ResourceCatalog, m: ManagedStorage, complete: bool) -> None:
    id, _ = await put(catalogue)
    if complete:
        await catalogue.upload_complete(id, "path")
    with pytest.raises(BodySizeError, match=f"{len(DATA)} bytes, not 1"):
        await put(catalogue, length=1)
    assert [blob.refs for blob in await live(m)] == [1]


async def test_get_and_find(catalogue: ResourceCatalog) -> None:
    id, _ = await put(catalogue)
    await catalogue.upload_complete(id, "path")
    assert await catalogue.find(DIGEST) == id
    assert await catalogue.find(DIGEST.upper()) == id
    assert await catalogue.get(id) == Resource(id, DIGEST, "path", len(DATA))


async def test_get_and_find_of_nothing(catalogue: ResourceCatalog) -> None:
    with pytest.raises(NotFoundError):
        await catalogue.get("nothing")
    with pytest.raises(NotFoundError):
        await catalogue.find(DIGEST)


async def test_get_and_find_of_pending_content(catalogue: ResourceCatalog) -> None:
    id, _ = await put(catalogue)
    with pytest.raises(UploadPendingError):
        await catalogue.get(id)
    with pytest.raises(UploadPendingError):
        await catalogue.find(DIGEST)


async def test_the_second_that_completes_is_told(catalogue: ResourceCatalog) -> None:
    id, _ = await put(catalogue)
    await put(catalogue)
    await catalogue.upload_complete(id, "first")
    with pytest.raises(ResourceAlreadyExistsError):
        await catalogue.upload_complete(id, "second")
    assert (await catalogue.get(id)).path == "first"


async def test_no_two_resources_have_the_same_path(catalogue: ResourceCatalog) -> None:
    one, _ = await put(catalogue)
    two, _ = await put(catalogue, sha384(b"other"), 5)
    await catalogue.upload_complete(one, "path")
    with pytest.raises(PreconditionFailedError, match="the path 'path' is taken; store the bytes at a new path"):
        await catalogue.upload_complete(two, "path")
    with pytest.raises(UploadPendingError):
        await catalogue.get(two)
    await catalogue.upload_complete(two, "another")


async def test_complete_of_nothing_and_of_what_was_removed(catalogue: ResourceCatalog) -> None:
    with pytest.raises(NotFoundError):
        await catalogue.upload_complete("nothing", "path")
    id, _ = await put(catalogue)
    await catalogue.remove(id)
    with pytest.raises(NotFoundError):
        await catalogue.upload_complete(id, "path")


async def test_remove_of_pending_content_deletes_its_row(catalogue: ResourceCatalog, m: ManagedStorage) -> None:
    id, _ = await put(catalogue)
    assert await catalogue.remove(id) == (True, "")
    assert (await rows(m)).blobs == []


async def test_the_last_remove_condemns(catalogue: ResourceCatalog, m: ManagedStorage) -> None:
    id, _ = await put(catalogue)
    await put(catalogue)
    await catalogue.upload_complete(id, "path")
    assert await catalogue.remove(id) == (False, "path")
    assert (await catalogue.get(id)).path == "path"
    assert await catalogue.remove(id) == (True, "path")
    assert [blob.state for blob in (await rows(m)).blobs] == [State.CONDEMNED]
    for gone in (catalogue.get(id), catalogue.remove(id), catalogue.find(DIGEST)):
        with pytest.raises(NotFoundError):
            await gone


async def test_content_that_was_condemned_begins_anew(catalogue: ResourceCatalog, m: ManagedStorage) -> None:
    id, _ = await put(catalogue)
    await catalogue.upload_complete(id, "path")
    await catalogue.remove(id)
    again, path = await put(catalogue)
    assert again != id
    assert path == ""
    await catalogue.upload_complete(again, "new path")
    assert (await catalogue.get(again)).path == "new path"
    assert sorted(blob.key for blob in (await rows(m)).blobs) == ["new path", "path"]


async def test_a_writer_that_died_is_taken_over(catalogue: ResourceCatalog, m: ManagedStorage) -> None:
    dead, _ = await put(catalogue, length=99)  # its length may be wrong too
    await age(m, 599)
    await put(catalogue, length=99)  # it is alive: the lease begins again
    await age(m, 599)
    with pytest.raises(BodySizeError):
        await put(catalogue)
    await age(m, 2)
    id, path = await put(catalogue)
    assert id != dead
    assert path == ""
    for late in (catalogue.upload_complete(dead, "late"), catalogue.remove(dead), catalogue.renew(dead)):
        with pytest.raises(NotFoundError):
            await late
    assert [(blob.id, blob.refs, blob.held, blob.length) for blob in await live(m)] == [(id, 1, 1, len(DATA))]


async def test_a_slow_writer_renews_its_lease(catalogue: ResourceCatalog, m: ManagedStorage) -> None:
    id, _ = await put(catalogue)
    for _ in range(3):
        await age(m, 599)
        await catalogue.renew(id)
    assert await put(catalogue) == (id, "")
    await catalogue.upload_complete(id, "path")
    await catalogue.renew(id)  # there is nothing to renew any more
    assert await put(catalogue) == (id, "path")


async def test_a_late_writer_that_nobody_took_over_completes(catalogue: ResourceCatalog, m: ManagedStorage) -> None:
    id, _ = await put(catalogue)
    await age(m, 10_000)
    await catalogue.upload_complete(id, "path")
    assert (await catalogue.get(id)).path == "path"


async def test_content_that_was_lost_is_stored_again(catalogue: ResourceCatalog, m: ManagedStorage) -> None:
    await m.put_for_all("name", DATA)
    id = await catalogue.find(DIGEST)
    await lose(m.catalogue, DIGEST)
    for call in (catalogue.get(id), catalogue.find(DIGEST)):
        with pytest.raises(ResourceDeletedError, match="lost"):
            await call
    assert await put(catalogue) == (id, "")
    await m.storage.put("a/new/path", DATA)
    await catalogue.upload_complete(id, "a/new/path")
    assert await (await m.get_for_all("name")).read() == DATA
    assert await catalogue.remove(id) == (False, "a/new/path")


async def test_names_are_no_references_of_the_catalogue(catalogue: ResourceCatalog, m: ManagedStorage) -> None:
    await m.put_for_all("name", DATA)
    id = await catalogue.find(DIGEST)
    with pytest.raises(PreconditionFailedError, match="names"):
        await catalogue.remove(id)
    assert (await put(catalogue))[0] == id
    assert (await catalogue.remove(id))[0] is False
    await check(m)


async def test_many_writers_of_the_same_content(catalogue: ResourceCatalog, m: ManagedStorage) -> None:
    results = await asyncio.gather(*(put(catalogue) for _ in range(30)))
    assert len(set(results)) == 1
    assert [blob.refs for blob in await live(m)] == [30]
    id = results[0][0]
    completions = (catalogue.upload_complete(id, f"path {n}") for n in range(30))
    outcomes = await asyncio.gather(*completions, return_exceptions=True)
    assert sorted(type(one).__name__ for one in outcomes) == ["NoneType"] + ["ResourceAlreadyExistsError"] * 29
    removals = await asyncio.gather(*(catalogue.remove(id) for _ in range(30)))
    assert [deleted for deleted, _ in removals].count(True) == 1


async def test_spaces_are_separate(catalogue: ResourceCatalog) -> None:
    other = ResourceCatalog(catalogue.database, f"{catalogue.space} 2")
    id, _ = await put(catalogue)
    assert (await put(other))[0] != id
    with pytest.raises(NotFoundError):
        await other.upload_complete(id, "path")


@pytest.mark.parametrize("digest", ["", "abc", "g" * 96, "0" * 64, "0" * 97, None, b"0" * 96])
async def test_a_hash_that_is_none_is_refused(catalogue: ResourceCatalog, digest: str) -> None:
    with pytest.raises(InvalidArgumentError, match="sha384"):
        await catalogue.put(digest, 1)
    with pytest.raises(InvalidArgumentError, match="sha384"):
        await catalogue.find(digest)


@pytest.mark.parametrize("length", [-1, 1.0, True, None, 2**63])
async def test_a_length_that_is_none_is_refused(catalogue: ResourceCatalog, length: int) -> None:
    with pytest.raises(InvalidArgumentError, match="length"):
        await catalogue.put(DIGEST, length)


@pytest.mark.parametrize("id", ["", "\0", None, "\ud800"])
async def test_an_id_that_is_none_is_refused(catalogue: ResourceCatalog, id: str) -> None:
    for call in (catalogue.get(id), catalogue.upload_complete(id, "p"), catalogue.remove(id), catalogue.renew(id)):
        with pytest.raises(InvalidArgumentError):
            await call


@pytest.mark.parametrize("lease", [0, -1, float("nan"), float("inf"), True, "1"])
async def test_a_lease_that_is_none_is_refused(catalogue: ResourceCatalog, lease: float) -> None:
    with pytest.raises(InvalidArgumentError, match="lease"):
        ResourceCatalog(catalogue.database, lease=lease)
