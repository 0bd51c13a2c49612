"""A probe for each capability and condition, and the methods of `Trove` that need them.

The probes call the driver directly, because `Trove` refuses what is not declared.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from trove_async.body import Body
from trove_async.driver import (
    AppendDriver,
    BulkDeleteDriver,
    CompleteOptions,
    Condition,
    CopyOptions,
    DeleteOptions,
    Driver,
    GetOptions,
    HeadOptions,
    LifecycleDriver,
    LifecycleSweepDriver,
    MultipartDriver,
    NotificationDriver,
    PartCopyDriver,
    PresignDriver,
    PresignOptions,
    PutOptions,
    RangeDriver,
    ServerCopyDriver,
    TaggingDriver,
    VersioningDriver,
    VersionListingDriver,
    VersionListOptions,
    WatchOptions,
)
from trove_async.errors import (
    NotModifiedError,
    ObjectAlreadyExistsError,
    ObjectNotFoundError,
    PreconditionFailedError,
)
from trove_async.store import Trove, Watch
from trove_async.types import EventType, LifecycleRule, ObjectInfo, ObjectRef

__all__ = ["CAPABILITY_CALLS", "CAPABILITY_PROBES", "CONDITION_PROBES", "STALE", "Call", "Probe", "works"]

Probe = Callable[[Any, str], Awaitable[None]]
Call = Callable[[Trove, str], Any]

DATA = b"some content"
STALE = "0123456789abcdef0123456789abcdef"
RULE = LifecycleRule("old", prefix="logs/", expiration_days=30)


async def works(probe: Probe, driver: Driver, bucket: str) -> bool:
    """Whether a driver has what a probe checks; any exception means that it does not."""
    try:
        await probe(driver, bucket)
    except (Exception, pytest.fail.Exception):  # noqa: BLE001 - drivers fail in many ways
        return False
    return True


async def put(driver: Driver, bucket: str, key: str = "key", **options: Any) -> ObjectInfo:
    return await driver.put(bucket, key, Body(DATA), PutOptions(**options))


async def read(driver: Driver, bucket: str, key: str = "key") -> bytes:
    async with await driver.get(bucket, key, GetOptions()) as reader:
        return await reader.read()


async def multipart(driver: Any, bucket: str) -> None:
    upload = await driver.initiate_multipart(bucket, "key", PutOptions())
    try:
        part = await driver.upload_part(bucket, "key", upload, 1, Body(DATA))
        assert [part] == [*await driver.list_parts(bucket, "key", upload)]
        assert [upload] == [found.upload_id for found in await driver.list_multipart_uploads(bucket)]
        await driver.complete_multipart(bucket, "key", upload, [part], CompleteOptions())
    finally:
        await driver.abort_multipart(bucket, "key", upload)
    assert await read(driver, bucket) == DATA


async def append(driver: Any, bucket: str) -> None:
    upload = await driver.initiate_multipart(bucket, "key", PutOptions())
    try:
        await driver.append_part(bucket, "key", upload, 1, 0, Body(DATA))
        part = await driver.append_part(bucket, "key", upload, 1, 4, Body(DATA))
        await driver.complete_multipart(bucket, "key", upload, [part], CompleteOptions())
    finally:
        await driver.abort_multipart(bucket, "key", upload)
    assert await read(driver, bucket) == DATA[:4] + DATA


async def part_copy(driver: Any, bucket: str) -> None:
    # Amazon copies no ranges of objects that are smaller than a part.
    data = DATA * (driver.features.limits.min_part_size // len(DATA) + 1)
    await driver.put(bucket, "origin", Body(data), PutOptions())
    upload = await driver.initiate_multipart(bucket, "key", PutOptions())
    try:
        part = await driver.copy_part(bucket, "key", upload, 1, ObjectRef(bucket, "origin"), 1, len(data) - 1)
        await driver.complete_multipart(bucket, "key", upload, [part], CompleteOptions())
    finally:
        await driver.abort_multipart(bucket, "key", upload)
    assert await read(driver, bucket) == data[1:]


async def presign(driver: Any, bucket: str) -> None:
    methods = driver.features.presign_methods or {"GET", "PUT"}
    for method in sorted(methods - {"POST"}):
        url = await getattr(driver, f"presign_{method.lower()}")(bucket, "key", PresignOptions())
        assert url.startswith(("http://", "https://"))


async def versioning(driver: Any, bucket: str) -> None:
    await driver.set_versioning(bucket, True)
    first = await put(driver, bucket)
    await put(driver, bucket)
    versions = await driver.list_versions(bucket, "key")
    assert [version.is_latest for version in versions] == [True, False]
    assert first.version_id == versions[1].version_id
    async with await driver.get_version(bucket, "key", versions[1].version_id) as reader:
        assert await reader.read() == DATA
    await driver.restore_version(bucket, "key", versions[1].version_id)
    await driver.delete_version(bucket, "key", versions[0].version_id)


async def version_listing(driver: Any, bucket: str) -> None:
    await driver.set_versioning(bucket, True)
    await put(driver, bucket)
    await put(driver, bucket)
    page = await driver.list_versions_page(bucket, VersionListOptions())
    assert [version.is_latest for version in page.versions] == [True, False]


async def watch(driver: Any, bucket: str) -> None:
    def subscribe(on_ready: Callable[[], object]) -> Any:
        return driver.watch(bucket, WatchOptions(poll_interval=0.05, on_ready=on_ready))

    async with Watch(subscribe, locate=lambda error: None, cleanup_timeout=10) as events:
        await put(driver, bucket)
        event = await anext(events)
    assert (event.type, event.key) == (EventType.CREATED, "key")


async def lifecycle(driver: Any, bucket: str) -> None:
    await driver.set_lifecycle(bucket, [RULE])
    assert [*await driver.get_lifecycle(bucket)] == [RULE]
    await driver.delete_lifecycle(bucket)
    assert [*await driver.get_lifecycle(bucket)] == []


async def lifecycle_sweep(driver: Any, bucket: str) -> None:
    info = await put(driver, bucket)
    await driver.transition(bucket, "key", "COLD", info.etag)
    assert (await driver.head(bucket, "key", HeadOptions())).storage_class == "COLD"
    assert [*await driver.list_noncurrent(bucket)] == []


async def ranges(driver: Any, bucket: str) -> None:
    await put(driver, bucket)
    async with await driver.get_range(bucket, "key", 5, 3) as reader:
        assert await reader.read() == DATA[5:8]


async def server_copy(driver: Any, bucket: str) -> None:
    await put(driver, bucket)
    await driver.server_copy(ObjectRef(bucket, "key"), ObjectRef(bucket, "copy"))
    assert await read(driver, bucket, "copy") == DATA


async def tagging(driver: Any, bucket: str) -> None:
    await put(driver, bucket)
    await driver.set_tags(bucket, "key", {"a": "1"})
    assert await driver.get_tags(bucket, "key") == {"a": "1"}
    await driver.delete_tags(bucket, "key")


async def bulk_delete(driver: Any, bucket: str) -> None:
    await put(driver, bucket)
    results = await driver.delete_many(bucket, ["key", "missing"])
    assert [(result.key, result.error) for result in results] == [("key", None), ("missing", None)]
    with pytest.raises(ObjectNotFoundError):
        await driver.head(bucket, "key", HeadOptions())


async def put_if_none_match(driver: Driver, bucket: str) -> None:
    info = await put(driver, bucket, if_none_match="*")
    with pytest.raises(ObjectAlreadyExistsError):
        await put(driver, bucket, if_none_match="*")
    assert (await driver.head(bucket, "key", HeadOptions())).etag == info.etag


async def put_if_match(driver: Driver, bucket: str) -> None:
    info = await put(driver, bucket)
    with pytest.raises(PreconditionFailedError):
        await put(driver, bucket, if_match=STALE)
    await put(driver, bucket, if_match=info.etag)


async def conditional_get(driver: Driver, bucket: str) -> None:
    info = await put(driver, bucket)
    with pytest.raises(PreconditionFailedError):
        await driver.get(bucket, "key", GetOptions(if_match=STALE))
    with pytest.raises(NotModifiedError):
        await driver.get(bucket, "key", GetOptions(if_none_match=info.etag))


async def conditional_delete(driver: Driver, bucket: str) -> None:
    info = await put(driver, bucket)
    with pytest.raises(PreconditionFailedError):
        await driver.delete(bucket, "key", DeleteOptions(if_match=STALE))
    await driver.delete(bucket, "key", DeleteOptions(if_match=info.etag))


async def conditional_copy(driver: Driver, bucket: str) -> None:
    await put(driver, bucket)
    await put(driver, bucket, "copy")
    with pytest.raises(ObjectAlreadyExistsError):
        await driver.copy(bucket, "key", bucket, "copy", CopyOptions(if_none_match="*"))


async def conditional_complete(driver: Any, bucket: str) -> None:
    await put(driver, bucket)
    upload = await driver.initiate_multipart(bucket, "key", PutOptions())
    try:
        part = await driver.upload_part(bucket, "key", upload, 1, Body(DATA))
        with pytest.raises(ObjectAlreadyExistsError):
            await driver.complete_multipart(bucket, "key", upload, [part], CompleteOptions(if_none_match="*"))
        with pytest.raises(PreconditionFailedError):
            await driver.complete_multipart(bucket, "key", upload, [part], CompleteOptions(if_match=STALE))
    finally:
        await driver.abort_multipart(bucket, "key", upload)


CAPABILITY_PROBES: Final[dict[type, Probe]] = {
    MultipartDriver: multipart,
    AppendDriver: append,
    PartCopyDriver: part_copy,
    PresignDriver: presign,
    VersioningDriver: versioning,
    VersionListingDriver: version_listing,
    NotificationDriver: watch,
    LifecycleDriver: lifecycle,
    LifecycleSweepDriver: lifecycle_sweep,
    RangeDriver: ranges,
    ServerCopyDriver: server_copy,
    TaggingDriver: tagging,
    BulkDeleteDriver: bulk_delete,
}
"""For each capability a coroutine that raises unless a driver has it."""

CONDITION_PROBES: Final[dict[Condition, Probe]] = {
    "put_if_none_match": put_if_none_match,
    "put_if_match": put_if_match,
    "get": conditional_get,
    "delete": conditional_delete,
    "copy": conditional_copy,
    "complete": conditional_complete,
}
"""The same for each kind of condition."""

CAPABILITY_CALLS: Final[dict[type, dict[str, Call]]] = {
    MultipartDriver: {
        "initiate_multipart": lambda t, b: t.initiate_multipart(b, "key"),
        "upload_part": lambda t, b: t.upload_part(b, "key", "upload", 1, DATA),
        "complete_multipart": lambda t, b: t.complete_multipart(b, "key", "upload", []),
        "abort_multipart": lambda t, b: t.abort_multipart(b, "key", "upload"),
        "list_parts": lambda t, b: t.list_parts(b, "key", "upload"),
        "list_multipart_uploads": lambda t, b: t.list_multipart_uploads(b),
    },
    AppendDriver: {"append_part": lambda t, b: t.append_part(b, "key", "upload", 1, 0, DATA)},
    PartCopyDriver: {"copy_part": lambda t, b: t.copy_part(b, "key", "upload", 1, ObjectRef(b, "origin"), 0, 1)},
    PresignDriver: {
        "presign_get": lambda t, b: t.presign_get(b, "key"),
        "presign_put": lambda t, b: t.presign_put(b, "key"),
        "presign_head": lambda t, b: t.presign_head(b, "key"),
        "presign_delete": lambda t, b: t.presign_delete(b, "key"),
        "presign_post": lambda t, b: t.presign_post(b, "key", max_size=1),
    },
    VersioningDriver: {
        "set_versioning": lambda t, b: t.set_versioning(b, True),
        "get_versioning": lambda t, b: t.get_versioning(b),
        "list_versions": lambda t, b: t.list_versions(b, "key"),
        "get_version": lambda t, b: t.get_version(b, "key", "1"),
        "delete_version": lambda t, b: t.delete_version(b, "key", "1"),
        "restore_version": lambda t, b: t.restore_version(b, "key", "1"),
    },
    VersionListingDriver: {"list_all_versions": lambda t, b: t.list_all_versions(b)},
    NotificationDriver: {"watch": lambda t, b: t.watch(b)},
    LifecycleDriver: {
        "set_lifecycle": lambda t, b: t.set_lifecycle(b, [RULE]),
        "get_lifecycle": lambda t, b: t.get_lifecycle(b),
        "delete_lifecycle": lambda t, b: t.delete_lifecycle(b),
    },
    LifecycleSweepDriver: {"apply_lifecycle": lambda t, b: t.apply_lifecycle(b)},
    RangeDriver: {"get_range": lambda t, b: t.get_range(b, "key", 0, 1)},
    ServerCopyDriver: {"server_copy": lambda t, b: t.server_copy(ObjectRef(b, "key"), ObjectRef(b, "copy"))},
    TaggingDriver: {
        "get_tags": lambda t, b: t.get_tags(b, "key"),
        "set_tags": lambda t, b: t.set_tags(b, "key", {"a": "1"}),
        "delete_tags": lambda t, b: t.delete_tags(b, "key"),
    },
    BulkDeleteDriver: {},  # every store has delete_many, which deletes one by one if necessary
}
"""For each capability calls of the methods of `Trove` that need it."""
