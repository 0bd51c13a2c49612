"""Z: versions of objects, and delete markers."""

from __future__ import annotations

import pytest

from trove_async.driver import ServerCopyDriver, VersioningDriver, VersionListingDriver
from trove_async.errors import (
    BucketNotEmptyError,
    BucketNotFoundError,
    InvalidCursorError,
    ObjectNotFoundError,
    VersionNotFoundError,
)
from trove_async.testing.conformance.context import Context, requires
from trove_async.testing.helpers import read_all
from trove_async.types import ObjectInfo, VersionInfo, VersioningStatus

__all__ = ["VersionChecks"]


async def _put_versions(ctx: Context, *contents: bytes, key: str = "key") -> list[ObjectInfo]:
    """Enable versioning in the bucket and store some versions; return them, the oldest first."""
    await ctx.store.set_versioning(ctx.bucket, True)
    return [await ctx.store.put(ctx.bucket, key, content, metadata={"v": content.hex()}) for content in contents]


async def _ids(ctx: Context, key: str = "key") -> list[str]:
    return [version.version_id for version in await ctx.store.list_versions(ctx.bucket, key)]


def _id(info: ObjectInfo) -> str:
    assert info.version_id is not None, f"the put of {info.key!r} returned no version id"
    return info.version_id


async def _all(ctx: Context, prefix: str = "", *, page_size: int = 1000) -> list[VersionInfo]:
    return await ctx.store.list_all_versions(ctx.bucket, prefix, page_size=page_size).all()


async def _expected(ctx: Context, *keys: str) -> list[VersionInfo]:
    """Return the versions of the keys, key by key."""
    return [version for key in keys for version in await ctx.store.list_versions(ctx.bucket, key)]


class VersionChecks:
    """Replaced and deleted objects can be read, restored, and deleted permanently."""

    @requires(VersioningDriver)
    async def test_z01_versioning_is_set_for_each_bucket(self, ctx: Context) -> None:
        """A new bucket keeps no versions; switching versioning off keeps the existing versions."""
        assert await ctx.store.get_versioning(ctx.bucket) == VersioningStatus.UNVERSIONED
        one, two = await _put_versions(ctx, b"1", b"2")
        assert await ctx.store.get_versioning(ctx.bucket) == VersioningStatus.ENABLED
        await ctx.store.set_versioning(ctx.bucket, False)
        assert await ctx.store.get_versioning(ctx.bucket) == VersioningStatus.SUSPENDED
        await ctx.store.put(ctx.bucket, "key", b"3")
        await ctx.store.put(ctx.bucket, "key", b"4")
        assert (await _ids(ctx))[1:] == [two.version_id, one.version_id]
        assert await ctx.store.read(ctx.bucket, "key") == b"4"
        with pytest.raises(BucketNotFoundError):
            await ctx.store.get_versioning(ctx.missing_bucket)
        with pytest.raises(BucketNotFoundError):
            await ctx.store.set_versioning(ctx.missing_bucket, True)

    @requires(VersioningDriver)
    async def test_z01_versions_newest_first(self, ctx: Context) -> None:
        """Each version has its own properties, and exactly one is the latest."""
        infos = await _put_versions(ctx, b"1", b"22", b"333")
        await ctx.store.put(ctx.bucket, "key/other", b"x")
        versions = await ctx.store.list_versions(ctx.bucket, "key")
        assert [version.version_id for version in versions] == [info.version_id for info in reversed(infos)]
        assert [version.size for version in versions] == [3, 2, 1]
        assert [version.etag for version in versions] == [info.etag for info in reversed(infos)]
        assert [version.is_latest for version in versions] == [True, False, False]
        assert not any(version.is_delete_marker for version in versions)
        assert {version.key for version in versions} == {"key"}
        assert await ctx.store.list_versions(ctx.bucket, "never") == []

    @requires(VersioningDriver)
    async def test_z01_versions_are_read(self, ctx: Context) -> None:
        """Versions are read with content and metadata, by `get_version` and by every ``version_id``."""
        contents = [b"1", b"22", b"333"]
        infos = await _put_versions(ctx, *contents)
        for info, content in zip(infos, contents, strict=True):
            reader = await ctx.store.get_version(ctx.bucket, "key", _id(info))
            assert (reader.info.version_id, reader.info.etag) == (info.version_id, info.etag)
            assert await read_all(reader) == content
            assert await ctx.store.read(ctx.bucket, "key", version_id=info.version_id) == content
            head = await ctx.store.head(ctx.bucket, "key", version_id=info.version_id)
            assert dict(head.metadata) == {"v": content.hex()}
        for unknown in ("never", "../x", "0" * 64):
            with pytest.raises(VersionNotFoundError):
                await ctx.store.get_version(ctx.bucket, "key", unknown)
            with pytest.raises(VersionNotFoundError):
                await ctx.store.head(ctx.bucket, "key", version_id=unknown)

    @requires(VersioningDriver)
    async def test_z01_versions_are_deleted_for_good(self, ctx: Context) -> None:
        """Deleting a version does not affect the others; if it was the latest, the next newest becomes the latest."""
        one, two, three = map(_id, await _put_versions(ctx, b"1", b"2", b"3"))
        await ctx.store.delete_version(ctx.bucket, "key", two)
        await ctx.store.delete_version(ctx.bucket, "key", two)
        assert await _ids(ctx) == [three, one]
        with pytest.raises(VersionNotFoundError):
            await ctx.store.get_version(ctx.bucket, "key", two)
        assert await ctx.store.read(ctx.bucket, "key") == b"3"
        await ctx.store.delete(ctx.bucket, "key", version_id=three)
        assert await ctx.store.read(ctx.bucket, "key") == b"1"
        [left] = await ctx.store.list_versions(ctx.bucket, "key")
        assert (left.version_id, left.is_latest) == (one, True)
        await ctx.store.delete_version(ctx.bucket, "key", one)
        assert await _ids(ctx) == []
        with pytest.raises(ObjectNotFoundError):
            await ctx.store.read(ctx.bucket, "key")
        assert await ctx.store.list(ctx.bucket).all() == []
        await ctx.assert_clean()

    @requires(VersioningDriver)
    async def test_z02_delete_leaves_a_marker(self, ctx: Context) -> None:
        """A read without a version id finds no object; deleting the marker brings the object back."""
        [one] = map(_id, await _put_versions(ctx, b"1"))
        await ctx.store.delete(ctx.bucket, "key")
        with pytest.raises(ObjectNotFoundError):
            await ctx.store.read(ctx.bucket, "key")
        assert not await ctx.store.exists(ctx.bucket, "key")
        assert await ctx.store.list(ctx.bucket).all() == []
        marker, version = await ctx.store.list_versions(ctx.bucket, "key")
        assert (marker.is_delete_marker, marker.is_latest, marker.size, marker.etag) == (True, True, 0, None)
        assert (version.version_id, version.is_delete_marker, version.is_latest) == (one, False, False)
        with pytest.raises(VersionNotFoundError):
            await ctx.store.get_version(ctx.bucket, "key", marker.version_id)
        with pytest.raises(VersionNotFoundError):
            await ctx.store.restore_version(ctx.bucket, "key", marker.version_id)
        with pytest.raises(BucketNotEmptyError):
            await ctx.store.delete_bucket(ctx.bucket)
        assert await ctx.store.read(ctx.bucket, "key", version_id=one) == b"1"
        await ctx.store.delete_version(ctx.bucket, "key", marker.version_id)
        assert await ctx.store.read(ctx.bucket, "key") == b"1"
        assert [found.key for found in await ctx.store.list(ctx.bucket).all()] == ["key"]

    @requires(VersioningDriver)
    async def test_z02_bulk_delete_leaves_markers(self, ctx: Context) -> None:
        """`delete_many` creates delete markers as `delete` does."""
        await _put_versions(ctx, b"1", key="a")
        await _put_versions(ctx, b"2", key="b")
        assert await ctx.store.delete_many(ctx.bucket, ["a", "b"]) == 2
        for key in ("a", "b"):
            markers = [version.is_delete_marker for version in await ctx.store.list_versions(ctx.bucket, key)]
            assert markers == [True, False]

    @requires(VersioningDriver)
    async def test_z03_restored_version_is_the_latest(self, ctx: Context) -> None:
        """Restoring creates a new version with the old content and metadata; all other versions stay."""
        one, two = map(_id, await _put_versions(ctx, b"1", b"22"))
        restored = await ctx.store.restore_version(ctx.bucket, "key", one)
        head = await ctx.store.head(ctx.bucket, "key")
        assert (restored.etag, restored.version_id) == (head.etag, head.version_id)
        assert dict(head.metadata) == {"v": b"1".hex()}
        assert await ctx.store.read(ctx.bucket, "key") == b"1"
        assert await _ids(ctx) == [restored.version_id, two, one]
        await ctx.store.delete(ctx.bucket, "key")
        await ctx.store.restore_version(ctx.bucket, "key", one)
        assert await ctx.store.read(ctx.bucket, "key") == b"1"
        with pytest.raises(VersionNotFoundError):
            await ctx.store.restore_version(ctx.bucket, "key", "never")

    @requires(VersioningDriver)
    async def test_z04_put_gives_a_version_id(self, ctx: Context) -> None:
        """Put, head, get and the listing of versions return the same id; each put returns another one."""
        plain = await ctx.store.put(ctx.bucket, "before", b"x")
        one, two = await _put_versions(ctx, b"same", b"same")
        assert None not in (one.version_id, two.version_id)
        assert one.version_id != two.version_id
        head = await ctx.store.head(ctx.bucket, "key")
        async with ctx.store.get(ctx.bucket, "key") as reader:
            assert reader.info.version_id == head.version_id == two.version_id
        copied = await ctx.store.copy(ctx.bucket, "key", ctx.bucket, "copy")
        assert await _ids(ctx, "copy") == [copied.version_id]
        assert plain.version_id in (None, "null")
        assert await _ids(ctx, "before") == ["null"]
        await ctx.store.put(ctx.bucket, "before", b"y")
        assert await ctx.store.read(ctx.bucket, "before", version_id="null") == b"x"

    @requires(VersioningDriver, ServerCopyDriver)
    async def test_z04_version_is_copied(self, ctx: Context) -> None:
        """Any version of an object can be copied."""
        one, _ = await _put_versions(ctx, b"1", b"2")
        await ctx.store.copy(ctx.bucket, "key", ctx.bucket, "copy", source_version_id=one.version_id)
        assert await ctx.store.read(ctx.bucket, "copy") == b"1"
        with pytest.raises(VersionNotFoundError):
            await ctx.store.copy(ctx.bucket, "key", ctx.bucket, "copy", source_version_id="never")
        assert await ctx.store.read(ctx.bucket, "copy") == b"1"

    @requires(VersioningDriver, VersionListingDriver)
    async def test_z05_all_versions_of_a_bucket(self, ctx: Context) -> None:
        """Those of deleted keys too, in the order of the keys, and as `list_versions` describes them."""
        await ctx.store.put(ctx.bucket, "before", b"x")
        await _put_versions(ctx, b"1", b"22", b"333", key="a/b")
        await _put_versions(ctx, b"1", b"22", key="a")
        await _put_versions(ctx, b"1", key="gone")
        await _put_versions(ctx, b"1", key="ü")
        await ctx.store.delete(ctx.bucket, "gone")
        versions = await _all(ctx)
        assert versions == await _expected(ctx, "a", "a/b", "before", "gone", "ü")
        assert {version.key for version in versions if version.is_latest} >= {"a", "a/b", "before", "ü"}
        assert await _all(ctx, "a/") == await _expected(ctx, "a/b")
        assert await _all(ctx, "gon") == await _expected(ctx, "gone")
        assert await _all(ctx, "never") == []
        with pytest.raises(BucketNotFoundError):
            await ctx.store.list_all_versions(ctx.missing_bucket).all()

    @requires(VersioningDriver, VersionListingDriver)
    async def test_z05_objects_of_a_bucket_that_keeps_no_versions(self, ctx: Context) -> None:
        """Each is one version, which is the latest."""
        infos = [await ctx.store.put(ctx.bucket, key, b"x") for key in ("a", "b")]
        versions = await _all(ctx)
        assert versions == await _expected(ctx, "a", "b")
        assert [version.etag for version in versions] == [info.etag for info in infos]
        assert all(version.is_latest for version in versions)

    @requires(VersioningDriver, VersionListingDriver)
    async def test_z06_versions_in_pages(self, ctx: Context) -> None:
        """Small pages list the same; a cursor continues between any two versions, also with another page size."""
        for key in ("a", "b", "b/c"):
            await _put_versions(ctx, b"1", b"22", b"333", key=key)
        await ctx.store.delete(ctx.bucket, "b")
        expected = await _expected(ctx, "a", "b", "b/c")
        for size in (1, 2, 4):
            assert await _all(ctx, page_size=size) == expected
        listing = ctx.store.list_all_versions(ctx.bucket, page_size=4)
        for count in range(1, len(expected)):
            assert await listing.next() == expected[count - 1]
            following = ctx.store.list_all_versions(ctx.bucket, page_size=3, cursor=listing.cursor)
            assert await following.all() == expected[count:]
        with pytest.raises(InvalidCursorError):
            ctx.store.list_all_versions(ctx.bucket, "other", cursor=listing.cursor)

    @requires(VersioningDriver, VersionListingDriver)
    async def test_z06_deletions_behind_the_cursor(self, ctx: Context) -> None:
        """What was listed can be deleted meanwhile: nothing that follows is left out or listed again."""
        keys = [f"key{number}" for number in range(5)]
        for key in keys:
            await _put_versions(ctx, b"1", b"22", key=key)
        expected = await _expected(ctx, *keys)
        listing = ctx.store.list_all_versions(ctx.bucket, page_size=2)
        first = await listing.next()
        await ctx.store.delete_version(ctx.bucket, first.key, first.version_id)
        cursor = listing.cursor
        following = ctx.store.list_all_versions(ctx.bucket, page_size=2, cursor=cursor)
        assert [version.version_id for version in await following.all()] == [v.version_id for v in expected[1:]]
        assert [version.version_id for version in await listing.all()] == [v.version_id for v in expected[1:]]

    @requires(VersioningDriver, VersionListingDriver)
    async def test_z07_bucket_is_emptied(self, ctx: Context) -> None:
        """Without versions it then has no objects; with them it can be deleted."""
        await ctx.store.put(ctx.bucket, "before", b"x")
        for key in ("a", "gone"):
            await _put_versions(ctx, b"1", b"22", key=key)
        await ctx.store.delete(ctx.bucket, "gone")
        assert await ctx.store.empty_bucket(ctx.bucket) == 2
        assert await ctx.store.list(ctx.bucket).all() == []
        versions = await _all(ctx)
        assert {version.key for version in versions} == {"a", "before", "gone"}
        results = [result async for result in ctx.store.empty_bucket(ctx.bucket, versions=True)]
        assert {(r.key, r.version_id) for r in results} == {(v.key, v.version_id) for v in versions}
        assert await _all(ctx) == []
        await ctx.store.delete_bucket(ctx.bucket)
        await ctx.store.create_bucket(ctx.bucket)
        await ctx.store.put(ctx.bucket, "key", b"x")
        assert await ctx.store.empty_bucket(ctx.bucket, versions=True) == 1
        assert await ctx.store.list(ctx.bucket).all() == []
        await ctx.assert_clean()

    @requires(VersioningDriver)
    async def test_z07_many_versions_are_deleted(self, ctx: Context) -> None:
        """`delete_many` takes versions and keys together, and deletes the versions for good."""
        one, two = await _put_versions(ctx, b"1", b"2", key="a")
        await _put_versions(ctx, b"3", key="b")
        [_, old] = await ctx.store.list_versions(ctx.bucket, "a")
        results = [result async for result in ctx.store.delete_many(ctx.bucket, [old, "b"])]
        assert [(r.key, r.version_id, r.error) for r in results] == [("a", one.version_id, None), ("b", None, None)]
        assert await _ids(ctx, "a") == [two.version_id]
        assert [found.key for found in await ctx.store.list(ctx.bucket).all()] == ["a"]
