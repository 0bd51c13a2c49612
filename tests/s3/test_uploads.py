"""Puts and copies in parts, on real servers: the number and the sizes of parts, and the leftovers of failures."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import trove_async as trove
from tests.s3.stores import PART, ServerName, address, busy, opened, pattern
from trove_async.driver import OpenOptions
from trove_async.drivers.s3.profiles import PROFILES, Profile
from trove_async.drivers.s3.settings import S3Settings
from trove_async.drivers.s3.uploads import plan_for
from trove_async.dsn import parse_dsn
from trove_async.testing.answers import AnsweringProxy, SeenRequest, s3_error
from trove_async.testing.proxy import ConnectionFault, FaultProxy

pytestmark = pytest.mark.asyncio

MIB = 1024 * 1024
TIB = 1024**4


async def stream(data: bytes, size: int = 50_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def part_number(request: SeenRequest) -> int | None:
    found = parse_qs(urlsplit(request.target).query).get("partNumber")
    return None if found is None else int(found[0])


def parts(service: AnsweringProxy) -> list[int]:
    """Return the sizes of the uploaded parts, in the order of their numbers."""
    sent = {number: request.body_size for request in service.requests if (number := part_number(request)) is not None}
    return [sent[number] for number in sorted(sent)]


# The sizes of parts


def settings(dsn: str = "s3://us-east-1/") -> S3Settings:
    return S3Settings.of(parse_dsn(dsn), OpenOptions())


async def test_parts_of_unknown_length_grow_until_ten_thousand_fit_the_largest_object() -> None:
    chosen = settings()
    sizes = [plan_for(chosen, chosen.dialect()).size_for(number, None) for number in range(1, 10_001)]
    assert sizes[:1000] == [8 * MIB] * 1000
    assert sizes == sorted(sizes)
    assert sum(sizes) >= 5 * TIB
    assert max(sizes) <= chosen.dialect().max_part_size
    # Memory grows with the number of bytes sent, and no faster.
    assert all(size <= max(8 * MIB, sent // 500) for size, sent in zip(sizes[1:], accumulate(sizes), strict=False))
    with pytest.raises(trove.InvalidArgumentError, match="part_size"):
        plan_for(chosen, chosen.dialect()).size_for(10_001, None)


async def test_equal_parts_do_not_grow() -> None:
    chosen = settings("s3:///?endpoint=https://x.r2.cloudflarestorage.com")
    profile = chosen.dialect()
    assert profile.equal_parts
    assert {plan_for(chosen, profile).size_for(number, None) for number in (1, 1001, 9_999, 10_000)} == {8 * MIB}
    with pytest.raises(trove.InvalidArgumentError, match="part_size"):
        plan_for(chosen, profile).size_for(10_001, None)


@pytest.mark.parametrize("size", [0, 1, 8 * MIB, 80_000 * MIB, 80_000 * MIB + 1, 5 * TIB])
async def test_a_body_of_known_length_has_parts_of_one_sufficient_size(size: int) -> None:
    chosen = settings()
    profile = chosen.dialect()
    part_size = plan_for(chosen, profile).size_for(1, size)
    assert part_size >= chosen.part_size
    assert -(-size // part_size) <= profile.max_parts
    assert part_size == chosen.part_size or -(-size // (part_size - MIB)) > profile.max_parts


async def test_a_length_that_exceeds_the_largest_object() -> None:
    chosen = settings()
    profile: Profile = replace(chosen.dialect(), max_parts=10, max_part_size=8 * MIB)
    assert plan_for(chosen, profile).size_for(1, 80 * MIB) == 8 * MIB
    with pytest.raises(trove.InvalidArgumentError, match=str(80 * MIB)):
        plan_for(chosen, profile).size_for(1, 80 * MIB + 1)


# Puts


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, []),
        (1, []),
        (PART - 1, []),
        (PART, []),
        (PART + 1, [PART, 1]),
        (2 * PART, [PART, PART]),
        (5 * PART + 77, [PART] * 5 + [77]),
    ],
)
async def test_the_number_of_requests_of_a_put(
    server: ServerName, bucket: str, service: AnsweringProxy, size: int, expected: list[int], known: bool
) -> None:
    data = pattern(size)
    async with opened(server, service.url()) as store:
        info = await store.put(bucket, "key", stream(data), size=size if known else None)
        assert info.size == size
        assert parts(service) == expected
        assert service.count() == (len(expected) + 2 if expected else 1)
        assert (await store.head(bucket, "key")).etag == info.etag
        assert await store.read(bucket, "key") == data


async def test_chunks_that_are_no_multiple_of_a_part(server: ServerName, bucket: str, service: AnsweringProxy) -> None:
    data = pattern(7 * PART + 5)
    async with opened(server, service.url()) as store:
        for size in (1_000, PART + 1, 3 * PART, len(data)):
            service.requests.clear()
            await store.put(bucket, "key", stream(data, size))
            assert parts(service) == [PART] * 7 + [5]
            assert await store.read(bucket, "key") == data


async def test_parts_that_grow(
    server: ServerName, bucket: str, service: AnsweringProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROFILES, server, replace(PROFILES[server], max_parts=20))
    data = pattern(12 * PART)
    async with opened(server, service.url()) as store:
        await store.put(bucket, "key", stream(data))
        assert parts(service) == [PART, PART, 2 * PART, 2 * PART, 4 * PART, 2 * PART]
        assert await store.read(bucket, "key") == data


async def test_parts_of_a_file_are_read_while_they_are_sent_and_again_when_they_are_sent_again(
    server: ServerName, bucket: str, tmp_path: Path
) -> None:
    size = 2 * MIB
    data = pattern(5 * size + 77)
    path = tmp_path / "file"
    path.write_bytes(data)
    seen: list[int] = []
    async with (
        FaultProxy(*address(server)) as network,
        opened(server, network.url(), part_size=size, transfer_memory=0) as store,
    ):
        network.script([None, *[ConnectionFault(reset_up_after=3 * MIB // 2)] * 3])
        info = await store.put(bucket, "key", path, on_progress=lambda taken, _: seen.append(taken))
        assert any(strike.kind == "reset" for strike in network.strikes)
        assert seen[-1] == info.size == len(data)
        assert seen == sorted(seen)
        assert await store.read(bucket, "key") == data
        checked = await store.put(bucket, "checked", path, checksum="sha256")
        assert checked.checksums == {"sha256": hashlib.sha256(data).hexdigest()}
        assert await store.read(bucket, "checked") == data


async def test_equal_parts_that_are_too_small(
    server: ServerName, bucket: str, service: AnsweringProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROFILES, server, replace(PROFILES[server], equal_parts=True, max_parts=5))
    async with opened(server, service.url()) as store:
        await store.put(bucket, "key", stream(bytes(5 * PART)))
        assert parts(service) == [PART] * 5
        service.requests.clear()
        with pytest.raises(trove.InvalidArgumentError, match="part_size"):
            await store.put(bucket, "key", stream(bytes(5 * PART + 1)))
        assert len(parts(service)) <= 5
        assert busy(store) == 0
        assert (await store.head(bucket, "key")).size == 5 * PART


async def test_a_known_length_that_needs_larger_parts(
    server: ServerName, bucket: str, service: AnsweringProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROFILES, server, replace(PROFILES[server], max_parts=3))
    data = pattern(3 * MIB + 500_000)
    async with opened(server, service.url()) as store:
        await store.put(bucket, "key", stream(data), size=len(data))
        assert parts(service) == [2 * MIB, MIB + 500_000]
        assert await store.read(bucket, "key") == data


async def test_the_source_is_not_read_further_ahead_than_parts_are_sent(server: ServerName, bucket: str) -> None:
    pulled = 0
    async with FaultProxy(*address(server)) as network, opened(server, network.url(), part_concurrency=3) as store:

        async def source() -> AsyncIterator[bytes]:
            nonlocal pulled
            for number in range(1000):
                if number == 2:  # the upload has been begun
                    network.inject_open(ConnectionFault(stall_up_after=0))
                    network.inject(ConnectionFault(stall_up_after=0), times=None)
                pulled += 1
                yield bytes(PART)

        putting = asyncio.create_task(store.put(bucket, "key", source()))
        await network.until(lambda proxy: len([strike for strike in proxy.strikes if strike.kind == "stall"]) >= 3)
        for _ in range(50):
            await asyncio.sleep(0)
        # Three parts are being sent, one is ready, and one is being read.
        assert pulled <= 5
        network.clear()
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting


class BrokenError(Exception):
    pass


async def failing(data: bytes, after: int) -> AsyncIterator[bytes]:
    async for chunk in stream(data[:after]):
        yield chunk
    raise BrokenError


@pytest.mark.parametrize("after", [0, 1, PART, PART + 1, 3 * PART, 6 * PART])
async def test_an_exception_of_the_source_leaves_the_old_object(server: ServerName, bucket: str, after: int) -> None:
    async with opened(server) as store:
        await store.put(bucket, "key", b"old")
        with pytest.raises(BrokenError):
            await store.put(bucket, "key", failing(bytes(6 * PART), after))
        assert busy(store) == 0
        assert await store.list_multipart_uploads(bucket) == []
        assert await store.read(bucket, "key") == b"old"


@pytest.mark.parametrize("declared", [4 * PART - 1, 4 * PART + 1])
async def test_a_length_other_than_the_declared_one(server: ServerName, bucket: str, declared: int) -> None:
    async with opened(server) as store:
        with pytest.raises(trove.BodySizeError):
            await store.put(bucket, "key", stream(bytes(4 * PART)), size=declared)
        assert busy(store) == 0
        assert await store.list_multipart_uploads(bucket) == []
        assert not await store.exists(bucket, "key")


async def test_a_refused_part_ends_the_put(server: ServerName, bucket: str, service: AnsweringProxy) -> None:
    service.answer(s3_error(403, "AccessDenied", request_id="id-1"), method="PUT", path="partNumber=3&", times=None)
    async with opened(server, service.url(), part_concurrency=2) as store:
        with pytest.raises(trove.AccessDeniedError) as caught:
            await store.put(bucket, "key", stream(bytes(100 * PART)))
        assert caught.value.request_id == "id-1"
        assert len(parts(service)) < 50  # others go on until the refusal has arrived
        assert await store.list_multipart_uploads(bucket) == []
        assert not await store.exists(bucket, "key")


async def test_an_upload_that_cannot_be_initiated(server: ServerName, bucket: str, service: AnsweringProxy) -> None:
    service.answer(s3_error(403, "AccessDenied"), method="POST", path="uploads", times=None)
    async with opened(server, service.url()) as store:
        with pytest.raises(trove.AccessDeniedError):
            await store.put(bucket, "key", stream(bytes(4 * PART)))
        assert service.count() == 1


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("server", ["ceph"])
async def test_a_condition_that_would_be_ignored_is_refused_before_any_request(
    bucket: str, service: AnsweringProxy, known: bool
) -> None:
    async with opened("ceph", service.url()) as store:
        size = 2 * PART if known else None
        with pytest.raises(trove.UnsupportedError, match="part_size"):
            await store.put(bucket, "key", stream(bytes(2 * PART)), size=size, if_none_match="*")
        assert service.count() == 0


async def test_a_condition_on_a_small_body_of_unknown_length(server: ServerName, bucket: str) -> None:
    async with opened(server) as store:
        await store.put(bucket, "key", stream(b"data"), if_none_match="*")
        with pytest.raises(trove.ObjectAlreadyExistsError):
            await store.put(bucket, "key", stream(b"other"), if_none_match="*")
        assert await store.read(bucket, "key") == b"data"


# Copies

DESCRIPTION: dict[str, Any] = {
    "content_type": "text/x-given",
    "metadata": {"a": "b", "greeting": "grüße  zwei"},
    "tags": {"color": "deep blue", "a+b": "c=d/e"},
    "cache_control": "no-cache",
    "content_disposition": 'attachment; filename="x.txt"',
    "content_language": "de",
}


def described(info: trove.ObjectInfo) -> tuple[object, ...]:
    return (
        info.size,
        info.content_type,
        dict(info.metadata),
        info.cache_control,
        info.content_disposition,
        info.content_language,
    )


@pytest.mark.parametrize("size", [3 * PART, 4 * PART + 5])
async def test_a_copy_above_the_limit_is_made_in_parts(
    server: ServerName, bucket: str, service: AnsweringProxy, size: int
) -> None:
    data = pattern(size)
    async with opened(server, service.url(), max_copy_size=PART) as store:
        source = await store.put(bucket, "a b+ü", data, **DESCRIPTION)
        service.requests.clear()
        info = await store.copy(bucket, "a b+ü", bucket, "copy")
        ranges = [request.header("x-amz-copy-source-range") for request in service.requests if part_number(request)]
        expected = [f"bytes={start}-{min(start + PART, size) - 1}" for start in range(0, size, PART)]
        assert sorted(map(str, ranges)) == sorted(expected)
        found = await store.head(bucket, "copy")
        assert described(found) == described(source) == described(info)
        assert found.etag == info.etag
        assert await store.get_tags(bucket, "copy") == DESCRIPTION["tags"]
        assert await store.read(bucket, "copy") == data


async def test_a_copy_at_the_limit_is_one_request(server: ServerName, bucket: str, service: AnsweringProxy) -> None:
    async with opened(server, service.url(), max_copy_size=PART) as store:
        await store.put(bucket, "key", bytes(PART), **DESCRIPTION)
        service.requests.clear()
        await store.copy(bucket, "key", bucket, "copy")
        assert service.count("PUT", "/copy") == 1
        assert service.count("POST") == 0
        assert await store.get_tags(bucket, "copy") == DESCRIPTION["tags"]


@pytest.mark.parametrize("limit", [PART, 8 * PART], ids=["parts", "whole"])
async def test_a_copy_onto_itself_keeps_the_object(server: ServerName, bucket: str, limit: int) -> None:
    data = pattern(3 * PART)
    async with opened(server, max_copy_size=limit) as store:
        source = await store.put(bucket, "key", data, **DESCRIPTION)
        await store.copy(bucket, "key", bucket, "key")
        assert described(await store.head(bucket, "key")) == described(source)
        assert await store.get_tags(bucket, "key") == DESCRIPTION["tags"]
        assert await store.read(bucket, "key") == data


async def test_a_copy_in_parts_with_replaced_metadata(server: ServerName, bucket: str) -> None:
    async with opened(server, max_copy_size=PART) as store:
        await store.put(bucket, "key", bytes(3 * PART), **DESCRIPTION)
        await store.copy(bucket, "key", bucket, "copy", replace=True, content_type="x/y", metadata={"n": "m"})
        found = await store.head(bucket, "copy")
        assert (found.content_type, dict(found.metadata)) == ("x/y", {"n": "m"})


async def test_a_failed_copy_in_parts_leaves_nothing(server: ServerName, bucket: str, service: AnsweringProxy) -> None:
    service.answer(s3_error(403, "AccessDenied"), method="PUT", path="partNumber=2&", times=None)
    async with opened(server, max_copy_size=PART) as direct, opened(server, service.url(), max_copy_size=PART) as store:
        await direct.put(bucket, "key", bytes(5 * PART))
        await direct.put(bucket, "copy", b"old")
        with pytest.raises(trove.AccessDeniedError):
            await store.copy(bucket, "key", bucket, "copy")
        assert await direct.list_multipart_uploads(bucket) == []
        assert await direct.read(bucket, "copy") == b"old"


async def test_a_part_of_a_copy_answered_with_200_and_an_error(
    server: ServerName, bucket: str, service: AnsweringProxy
) -> None:
    data = pattern(3 * PART)
    service.answer(s3_error(200, "InternalError"), method="PUT", path="partNumber=2&", skip=1)
    async with opened(server, service.url(), max_copy_size=PART) as store:
        await store.put(bucket, "key", data)
        await store.copy(bucket, "key", bucket, "copy")
        assert service.count("PUT", "/copy?partNumber=2&") == 2
        assert await store.read(bucket, "copy") == data
