"""Proof of access: content gets a name without being sent, by those who have it and by nobody else."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Connection

from tests.managed.state import BUCKET, age, check, expire_exactly, live, lose, rows, sha384, stored
from trove_async import Trove
from trove_async.database import Database
from trove_async.errors import (
    BodySizeError,
    BodyTypeError,
    InvalidArgumentError,
    NotFoundError,
    ObjectNotFoundError,
    RequestExpiredError,
    ResourceDeletedError,
    ResponseMismatchError,
    ThrottledError,
    UnavailableError,
    UploadPendingError,
)
from trove_async.managed import ManagedStorage, PutResponse, RequestResponse, new_put_response
from trove_async.managed.schema import State
from trove_async.managed.transitions import Doomed, doom

pytestmark = pytest.mark.asyncio

DATA = random.Random(1).randbytes(40_000)
DIGEST = sha384(DATA)
WRONG = "0" * 96


@pytest_asyncio.fixture(autouse=True)
async def content(m: ManagedStorage) -> None:
    await m.put_for_bucket("owner", "p", DATA)


async def ask(m: ManagedStorage, path: str = "q", caller: str = "carol") -> RequestResponse:
    return await m.put_for_bucket_request("b", path, DIGEST, caller=caller, metadata={"a": "b"})


async def answer(m: ManagedStorage, request: RequestResponse, data: bytes = DATA, caller: str = "carol") -> None:
    await m.proof_of_access_response(await new_put_response(request, data), caller=caller)


async def named(m: ManagedStorage, path: str = "q") -> bool:
    try:
        await m.stat_for_bucket("b", path)
    except ObjectNotFoundError:
        return False
    return True


async def test_a_proof_gives_a_name(m: ManagedStorage) -> None:
    before = await stored(m)
    await answer(m, await ask(m))
    info = await m.stat_for_bucket("b", "q")
    assert (info.sha384, info.length, info.metadata) == (DIGEST, len(DATA), {"a": "b"})
    assert await stored(m) == before
    assert [blob.refs for blob in await live(m)] == [2]
    assert (await rows(m)).requests == []
    await check(m)


async def test_a_proof_replaces_what_the_path_had(m: ManagedStorage) -> None:
    await m.put_for_bucket("b", "q", b"old")
    await answer(m, await ask(m))
    assert [blob.digest for blob in await live(m)] == [DIGEST]
    await check(m)


async def test_a_request_with_its_proof_takes_two_round_trips(
    m: ManagedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counted(name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return inner(*args, **kwargs)

        return call

    for name in ("read", "write"):
        monkeypatch.setattr(Database, name, counted(name, getattr(Database, name)))
    monkeypatch.setattr(Trove, "put", counted("put", Trove.put))
    await answer(m, await ask(m))
    assert calls == ["write", "write"]


async def test_another_process_takes_the_answer(m: ManagedStorage, open_managed: Callable[[], ManagedStorage]) -> None:
    await answer(open_managed(), await ask(m))
    assert await named(m)
    with pytest.raises(RequestExpiredError):
        await answer(m, RequestResponse("x", b"", ((0, 1),), (await m.stat_for_bucket("b", "q")).created_at))  # type: ignore[arg-type]


async def test_a_request_for_nothing(m: ManagedStorage) -> None:
    with pytest.raises(NotFoundError, match="store it"):
        await m.put_for_bucket_request("b", "q", sha384(b"unknown"))


async def test_a_request_for_pending_content(m: ManagedStorage) -> None:
    await m.catalogue.put(sha384(b"pending"), 7)
    with pytest.raises(UploadPendingError):
        await m.put_for_bucket_request("b", "q", sha384(b"pending"))


async def test_each_request_is_answered_once(m: ManagedStorage) -> None:
    request = await ask(m)
    await answer(m, request)
    with pytest.raises(RequestExpiredError):
        await answer(m, request)
    assert [blob.refs for blob in await live(m)] == [2]


async def test_of_many_right_answers_one_counts(m: ManagedStorage) -> None:
    request = await ask(m)
    outcomes = await asyncio.gather(*(answer(m, request) for _ in range(10)), return_exceptions=True)
    assert sum(outcome is None for outcome in outcomes) == 1
    assert all(outcome is None or isinstance(outcome, RequestExpiredError) for outcome in outcomes)
    await check(m)


async def test_requests_are_answered_in_any_order(m: ManagedStorage) -> None:
    made = [await ask(m, str(n)) for n in range(8)]
    random.Random(2).shuffle(made)
    for request in made:
        await answer(m, request)
    assert [blob.refs for blob in await live(m)] == [9]


async def test_three_wrong_answers_end_a_request(m: ManagedStorage) -> None:
    request = await ask(m)
    for _ in range(3):
        with pytest.raises(ResponseMismatchError):
            await m.proof_of_access_response(PutResponse(request.request_id, WRONG), caller="carol")
    with pytest.raises(RequestExpiredError):
        await answer(m, request)
    assert not await named(m)


async def test_a_right_answer_after_two_wrong_ones(m: ManagedStorage) -> None:
    request = await ask(m)
    for proof in ("ünicode", "\ud800"):
        with pytest.raises(ResponseMismatchError):
            await m.proof_of_access_response(PutResponse(request.request_id, proof), caller="carol")
    await answer(m, request)
    assert await named(m)


async def test_a_stranger_costs_nobody_anything(m: ManagedStorage, open_managed: Callable[[], ManagedStorage]) -> None:
    request = await ask(m)
    for process in (m, open_managed()):
        for _ in range(5):
            with pytest.raises(ResponseMismatchError):
                await answer(process, request, caller="mallory")
            with pytest.raises(ResponseMismatchError):
                await process.proof_of_access_response(PutResponse(request.request_id, WRONG))
    await answer(m, request)
    assert await named(m)


async def test_a_proof_is_of_one_request(m: ManagedStorage) -> None:
    first, second = await ask(m, "1"), await ask(m, "2")
    proof = (await new_put_response(first, DATA)).proof
    with pytest.raises(ResponseMismatchError):
        await m.proof_of_access_response(PutResponse(second.request_id, proof), caller="carol")


async def test_requests_differ(m: ManagedStorage) -> None:
    made = [await ask(m, str(n)) for n in range(5)]
    for values in (
        {request.request_id for request in made},
        {request.nonce for request in made},
        {request.ranges for request in made},
    ):
        assert len(values) == 5


async def test_a_caller_makes_ten_requests_a_minute_for_one_content(m: ManagedStorage) -> None:
    for _ in range(10):
        await ask(m)
    with pytest.raises(ThrottledError) as caught:
        await ask(m)
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= 60
    await ask(m, caller="dave")
    await m.put_for_bucket("owner", "r", b"other")
    await m.put_for_bucket_request("b", "q", sha384(b"other"), caller="carol")
    await age(m, 61)
    await ask(m)


async def test_a_request_ends_at_its_time(m: ManagedStorage, open_managed: Callable[[], ManagedStorage]) -> None:
    request = await ask(m)
    now = await m.catalogue.database.now()
    assert 55 < (request.expires - now).total_seconds() <= 60
    await expire_exactly(m, past=True)
    for process in (m, open_managed()):
        with pytest.raises(RequestExpiredError):
            await answer(process, request)
    await expire_exactly(m, past=False)
    await answer(m, request)
    assert await named(m)


async def test_requests_that_ended_are_removed_by_the_next_one(m: ManagedStorage) -> None:
    for _ in range(3):
        await ask(m)
    await age(m, 61)
    await ask(m)
    assert len((await rows(m)).requests) == 1


async def test_content_that_was_condemned_is_taken_back(m: ManagedStorage) -> None:
    request = await ask(m)
    await m.remove_for_bucket("owner", "p")
    assert await live(m) == []
    await answer(m, request)
    assert [(blob.state, blob.refs) for blob in await live(m)] == [(State.STORED, 1)]
    await check(m)


async def test_condemned_content_can_be_asked_for(m: ManagedStorage) -> None:
    await m.remove_for_bucket("owner", "p")
    await answer(m, await ask(m))
    await check(m)


@pytest.mark.parametrize("in_another_process", [False, True])
async def test_content_that_was_swept(
    m: ManagedStorage, open_managed: Callable[[], ManagedStorage], store: Trove, in_another_process: bool
) -> None:
    request = await ask(m)
    await m.remove_for_bucket("owner", "p")
    (blob,) = (await rows(m)).blobs
    doomed = await m.catalogue.database.write(
        lambda connection: doom(connection, m.catalogue.space, [blob.id], grace=0)
    )
    assert doomed == [Doomed(blob.id, blob.key, blob.length)]
    if in_another_process:
        await store.delete(BUCKET, blob.key)
    with pytest.raises(ResourceDeletedError):
        await answer(open_managed() if in_another_process else m, request)
    assert not await named(m)
    with pytest.raises(RequestExpiredError):
        await answer(m, request)
    with pytest.raises(NotFoundError):
        await ask(m)


async def test_content_that_was_swept_and_stored_again(m: ManagedStorage, store: Trove) -> None:
    request = await ask(m)
    await m.remove_for_bucket("owner", "p")
    (key,) = await stored(m)
    await store.delete(BUCKET, key)
    await m.put_for_bucket("owner", "p", DATA)
    await answer(m, request)
    assert [blob.refs for blob in await live(m)] == [2]


async def test_content_that_another_writer_stores_again(m: ManagedStorage) -> None:
    request = await ask(m)
    await m.remove_for_bucket("owner", "p")
    id, _ = await m.catalogue.put(DIGEST, len(DATA))
    with pytest.raises(UploadPendingError):
        await answer(m, request)
    await m.catalogue.remove(id)
    await answer(m, request)
    assert await named(m)


async def test_condemned_content_whose_bytes_are_gone_is_not_taken_back(m: ManagedStorage, store: Trove) -> None:
    request = await ask(m)
    await m.remove_for_bucket("owner", "p")
    (key,) = await stored(m)
    await store.put(BUCKET, key, b"short")
    with pytest.raises(ResourceDeletedError):
        await answer(m, request)
    assert await live(m) == []


async def test_a_proof_is_no_use_if_the_bytes_are_incomplete(m: ManagedStorage, store: Trove) -> None:
    request = await ask(m)
    (key,) = await stored(m)
    last = max(start + size for start, size in request.ranges)
    await store.put(BUCKET, key, DATA[:last] if last < len(DATA) else DATA + b"more")
    with pytest.raises(ResourceDeletedError):
        await answer(m, request)
    assert not await named(m)
    await m.put_for_bucket("b", "q", DATA)
    async with m.get_for_bucket("owner", "p") as reader:
        assert await reader.read() == DATA


async def test_a_proof_of_nothing_is_no_use_if_its_object_is_missing(m: ManagedStorage, store: Trove) -> None:
    await m.put_for_bucket("owner", "empty", b"")
    request = await m.put_for_bucket_request("b", "q", sha384(b""), caller="carol")
    (key,) = [key for key, data in (await stored(m)).items() if not data]
    await store.delete(BUCKET, key)
    with pytest.raises(ResourceDeletedError):
        await answer(m, request, b"")
    assert not await named(m)


async def test_content_that_was_lost(m: ManagedStorage) -> None:
    request = await ask(m)
    await lose(m.catalogue, DIGEST)
    with pytest.raises(NotFoundError):
        await ask(m)
    with pytest.raises(ResourceDeletedError):
        await answer(m, request)
    assert not await named(m)
    await m.put_for_bucket("b", "q", DATA)  # it restores the content for all
    await answer(m, await ask(m))
    await check(m, strays=1)


async def test_an_answer_that_fails_late_changes_nothing(m: ManagedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    request = await ask(m)
    write = m.catalogue.database.write

    async def fail(unit: Callable[[Connection], object]) -> None:
        def failing(connection: Connection) -> None:
            unit(connection)
            raise UnavailableError("at the end of the transaction")

        await write(failing)

    with monkeypatch.context() as patch:
        patch.setattr(m.catalogue.database, "write", fail)
        with pytest.raises(UnavailableError):
            await answer(m, request)
    assert [blob.refs for blob in await live(m)] == [1]
    await check(m)
    await answer(m, request)
    assert [blob.refs for blob in await live(m)] == [2]


@pytest.mark.parametrize("size", [0, 1, 2, 1023, 8192, 8193])
async def test_content_of_any_size(m: ManagedStorage, size: int) -> None:
    data = DATA[:size]
    await m.put_for_bucket("owner", "small", data)
    request = await m.put_for_bucket_request("b", "q", sha384(data), caller="carol")
    if size <= 8192:
        assert request.ranges == ((0, size),)
        assert (request.range_start, request.range_length) == (0, size)
    await answer(m, request, data)
    if size:
        request = await m.put_for_bucket_request("b", "q", sha384(data), caller="carol")
        with pytest.raises(ResponseMismatchError):
            await answer(m, request, bytes(size))


async def file_of(data: bytes, tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(data)
    return tmp_path / "file"


class Counting(io.BytesIO):
    """Counts what is read."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


async def test_sources_of_an_answer(m: ManagedStorage, tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(DATA), 999):
            yield DATA[start : start + 999]

    request = await ask(m)
    expected = await new_put_response(request, DATA)
    file = Counting(b"head" + DATA)
    file.seek(4)
    for source in (bytearray(DATA), memoryview(DATA), await file_of(DATA, tmp_path), file, chunks(), iter([DATA])):
        assert await new_put_response(request, source) == expected
    assert file.tell() == 4
    assert file.taken == sum(size for _, size in request.ranges)
    async with m.get_for_bucket("owner", "p") as reader:
        assert await new_put_response(request, reader) == expected
    with open(tmp_path / "file", "rb", buffering=0) as raw:
        assert await new_put_response(request, raw) == expected


async def test_a_source_that_is_too_short(m: ManagedStorage, tmp_path: Path) -> None:
    request = await ask(m)
    short = DATA[: request.ranges[-1][0]]
    for source in (short, await file_of(short, tmp_path), io.BytesIO(short), iter([short])):
        with pytest.raises(BodySizeError):
            await new_put_response(request, source)


async def test_an_endless_source_is_read_up_to_the_last_range(m: ManagedStorage) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield DATA
        while True:
            yield bytes(1000)

    request = await ask(m)
    assert await new_put_response(request, endless()) == await new_put_response(request, DATA)


async def test_what_is_no_source(m: ManagedStorage) -> None:
    request = await ask(m)
    with pytest.raises(BodyTypeError):
        await new_put_response(request, 5)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError):
        await new_put_response("request", DATA)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        await new_put_response(request, Path("/nowhere/at/all"))


async def test_what_is_no_answer(m: ManagedStorage) -> None:
    response = await new_put_response(await ask(m), DATA)
    proof_in_bytes: Any = b"0"
    answers: list[Any] = [None, response.proof, PutResponse("", response.proof), PutResponse("id", proof_in_bytes)]
    for wrong in answers:
        with pytest.raises(InvalidArgumentError):
            await m.proof_of_access_response(wrong, caller="carol")
    for caller in (None, 5, "\0", "\ud800"):
        with pytest.raises(InvalidArgumentError):
            await m.proof_of_access_response(response, caller=caller)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError):
            await ask(m, caller=caller)  # type: ignore[arg-type]
