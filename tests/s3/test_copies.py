"""Copies within the service: at which end they fail, and what happens if the service has no copies."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

import trove_async as trove
from tests.s3.stores import PART, ServerName, opened, pattern
from trove_async import CopyPhase
from trove_async.testing.answers import Answer, AnsweringProxy, s3_error
from trove_async.transfers import StoredObject, copy

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]

READ, WRITE = CopyPhase.READ, CopyPhase.WRITE


@dataclass(frozen=True)
class Failure:
    """Answers of the service to the requests of a copy from ``source`` to ``copy``, and the error."""

    answers: tuple[tuple[str, str, Answer, int], ...]
    raised: type[trove.TroveError]
    phase: CopyPhase
    if_none_match: str | None = None


GONE = s3_error(412, "PreconditionFailed")
FAILURES = {
    "head denied": Failure((("HEAD", "/source", Answer(403), 0),), trove.AccessDeniedError, READ),
    "head missing": Failure((("HEAD", "/source", Answer(404), 0),), trove.ObjectNotFoundError, READ),
    "head busy": Failure((("HEAD", "/source", Answer(503), 0),), trove.ThrottledError, READ),
    "denied": Failure((("PUT", "/copy", s3_error(403, "AccessDenied"), 0),), trove.AccessDeniedError, WRITE),
    "no bucket": Failure((("PUT", "/copy", s3_error(404, "NoSuchBucket"), 0),), trove.BucketNotFoundError, READ),
    "full": Failure((("PUT", "/copy", s3_error(403, "QuotaExceeded"), 0),), trove.StorageFullError, WRITE),
    "busy": Failure((("PUT", "/copy", s3_error(503, "SlowDown"), 0),), trove.ThrottledError, WRITE),
    "other": Failure((("PUT", "/copy", s3_error(418, "Teapot"), 0),), trove.CopyError, WRITE),
    "deleted": Failure((("PUT", "/copy", s3_error(404, "NoSuchKey"), 0),), trove.ObjectNotFoundError, READ),
    "changed": Failure((("PUT", "/copy", GONE, 0),), trove.ObjectChangedError, READ),
    "exists": Failure((("PUT", "/copy", GONE, 0),), trove.ObjectAlreadyExistsError, WRITE, if_none_match="*"),
    "changed, or exists": Failure(
        (("PUT", "/copy", GONE, 0), ("HEAD", "/source", Answer(412), 1)),
        trove.ObjectChangedError,
        READ,
        if_none_match="*",
    ),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
async def test_the_end_that_failed(server: ServerName, bucket: str, service: AnsweringProxy, failure: Failure) -> None:
    async with opened(server, service.url(), attempts=2, conditions="all") as store:
        await store.put(bucket, "source", b"data")
        for method, path, answer, skip in failure.answers:
            service.answer(answer, method=method, path=path, skip=skip, times=None)
        with pytest.raises(failure.raised) as caught:
            await store.copy(bucket, "source", bucket, "copy", if_none_match=failure.if_none_match)
        error = caught.value
        assert (type(error), error.copy_phase) == (failure.raised, failure.phase)
        assert (error.bucket, error.key) == (bucket, "source" if failure.phase is READ else "copy")
        service.clear()
        assert not await store.exists(bucket, "copy")


@pytest.mark.parametrize("status", [405, 501])
@pytest.mark.parametrize("size", [5, PART * 2 + 1], ids=["whole", "in parts"])
async def test_what_the_service_cannot_copy_is_read_and_written(
    server: ServerName, bucket: str, service: AnsweringProxy, status: int, size: int
) -> None:
    data = pattern(size)
    async with opened(server, service.url(), max_copy_size=PART) as store:
        info = await store.put(
            bucket, "source", data, content_type="a/b", metadata={"a": "b"}, cache_control="no-store", tags={"t": "v"}
        )
        refused = "/copy" if size == 5 else "partNumber=1"
        service.answer(s3_error(status, "NotImplemented"), method="PUT", path=refused)
        copied = await store.copy(bucket, "source", bucket, "copy")
        head = await store.head(bucket, "copy")
        assert (copied.etag, copied.size) == (head.etag, info.size)
        assert (head.content_type, head.metadata, head.cache_control) == ("a/b", {"a": "b"}, "no-store")
        assert await store.get_tags(bucket, "copy") == {"t": "v"}
        assert await store.read(bucket, "copy") == data
        assert await store.list_multipart_uploads(bucket) == []
        assert service.count("GET", "/source") >= 1


async def test_two_stores_with_the_same_settings_copy_within_the_service(
    server: ServerName, bucket: str, service: AnsweringProxy
) -> None:
    async with opened(server, service.url()) as one, opened(server, service.url()) as two:
        await one.put(bucket, "source", b"data", metadata={"mtime": "1.000000000"})
        await copy(StoredObject(one, bucket, "source"), StoredObject(two, bucket, "copy"))
        assert service.count("GET", "/source") == 0
        assert await two.read(bucket, "copy") == b"data"
    async with opened(server, service.url()) as one, opened(server, service.url(), part_concurrency=3) as two:
        await copy(StoredObject(one, bucket, "source"), StoredObject(two, bucket, "copy"))
        assert service.count("GET", "/source") >= 1
