"""Random operations on a driver and on the reference: after each step both must look the same."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

import trove_async
from tests.model.reference import NULL, ReferenceBucket, Stored, name_of
from trove_async import (
    BucketAlreadyExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    Item,
    NotModifiedError,
    ObjectAlreadyExistsError,
    ObjectInfo,
    ObjectIterator,
    ObjectNotFoundError,
    PartInfo,
    PreconditionFailedError,
    RangeNotSatisfiableError,
    Trove,
    VersioningStatus,
    VersionNotFoundError,
)

T = TypeVar("T")

PART_SIZE = 8

# Names that are both a file and a folder, look like a driver's escapes, or mean something to a file system.
KEYS = [
    "a", "a/", "a/b", "b/a", "c/a", "a//b", "a/b/c", "a%D", "a%F", "a.", "aa", "/", "//", ".", "..", "../a", "%41", "A",
    ".trove", "a\\b", "a\nb", "ä", "a\u0308", "🗝/ключ", "\U0010ffff", "-" * 250,
]  # fmt: skip
PREFIXES = ["", "a", "a/", "a//", ".", "/", "%", "ä", "🗝", "\U0010ffff", "no"]

buckets = st.sampled_from(["one", "one", "two"])
keys = Bundle("keys")
bodies = st.binary(max_size=3 * PART_SIZE)
tag_sets = st.dictionaries(st.sampled_from(["team", "Stage", "ä"]), st.text("ab ü", max_size=3), max_size=3)
metadata = st.dictionaries(st.sampled_from(["author", "x-1"]), st.text("ab ü", max_size=3), max_size=2)
content_types = st.sampled_from([None, "text/plain"])


class StoreMachine(RuleBasedStateMachine):
    """Runs operations on one store, on its own loop, and on the reference."""

    def dsn(self) -> str:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.buckets: dict[str, ReferenceBucket] = {}
        self.uploads: dict[str, tuple[str, str, dict[int, tuple[PartInfo, bytes]]]] = {}
        self.touched: set[str] = set()
        self.trove: Trove = self.run(self.open())

    async def open(self) -> Trove:
        return await trove_async.open(self.dsn())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(30):
                return await work

        return self.runner.run(bounded())

    def fails(self, work: Coroutine[Any, Any, object], *errors: type[Exception]) -> None:
        """Assert that an operation raises exactly this error and no subclass of it."""
        with pytest.raises(errors) as caught:
            self.run(work)
        assert type(caught.value) in errors

    def teardown(self) -> None:
        try:
            self.touched.update(self.buckets)
            self.run(self.compare())
        finally:
            self.run(self.close())
            self.runner.close()

    async def close(self) -> None:
        await self.trove.aclose()

    # Comparison

    @invariant()
    def both_look_the_same(self) -> None:
        self.run(self.compare())

    async def compare(self) -> None:
        """Compare the buckets that the last step changed."""
        assert [info.name for info in await self.trove.list_buckets()] == sorted(self.buckets)
        for name in self.touched & self.buckets.keys():
            await self.compare_bucket(name, self.buckets[name])
        self.touched.clear()

    async def compare_bucket(self, name: str, expected: ReferenceBucket) -> None:
        listed = await self.trove.list(name).all()
        objects = expected.objects()
        assert [info.key for info in listed] == list(objects)
        for delimiter in ("/", "a"):
            grouped = self.listing(name, "", delimiter, page_size=2)
            assert [name_of(item) async for item in grouped] == expected.listing("", delimiter, None)
        for info in listed:
            await self.compare_object(name, info, objects[info.key])
        assert await self.trove.get_versioning(name) is expected.status
        for key in expected.versions:
            await self.compare_versions(name, key, expected.versions[key])
        open_uploads = {upload_id: key for upload_id, (at, key, _) in self.uploads.items() if at == name}
        found = await self.trove.list_multipart_uploads(name)
        assert {upload.upload_id: upload.key for upload in found} == open_uploads
        assert [upload.key for upload in found] == sorted(open_uploads.values())

    async def compare_object(self, bucket: str, listed: ObjectInfo, expected: Stored) -> None:
        assert expected.data is not None
        assert (listed.size, listed.etag) == (len(expected.data), expected.etag)
        async with self.trove.get(bucket, listed.key) as reader:
            assert await reader.read() == expected.data
        head = await self.trove.head(bucket, listed.key)
        assert head == reader.info
        assert (head.size, head.etag, head.last_modified) == (listed.size, listed.etag, listed.last_modified)
        assert head.content_type == expected.content_type
        assert tuple(sorted(head.metadata.items())) == expected.metadata
        assert (head.version_id or NULL) == expected.version_id
        assert tuple(sorted((await self.trove.get_tags(bucket, listed.key)).items())) == expected.tags

    async def compare_versions(self, bucket: str, key: str, expected: list[Stored]) -> None:
        found = await self.trove.list_versions(bucket, key)
        assert [(v.version_id, v.key, v.size, v.etag, v.is_delete_marker, v.is_latest) for v in found] == [
            (stored.version_id, key, len(stored.data or b""), stored.etag, stored.is_marker, stored is expected[-1])
            for stored in reversed(expected)
        ]
        for stored in expected:
            if stored.data is not None:
                assert await self.trove.read(bucket, key, version_id=stored.version_id) == stored.data

    # Records of the reference

    def bucket(self, name: str) -> ReferenceBucket | None:
        self.touched.add(name)
        return self.buckets.get(name)

    def note(self, bucket: ReferenceBucket, key: str, info: ObjectInfo, template: Stored) -> None:
        """Record what a write has stored, with the ETag and the version id that the driver assigned."""
        version_id = info.version_id or NULL
        if bucket.status is VersioningStatus.ENABLED:
            assert version_id != NULL
            assert bucket.version(key, version_id) is None
        else:
            assert version_id == NULL
        assert template.data is not None
        assert (info.key, info.size) == (key, len(template.data))
        before = bucket.current(key)
        assert before is None or before.data == template.data or before.etag != info.etag
        stored = Stored(version_id, template.data, info.etag, template.content_type, template.metadata, template.tags)
        bucket.write(key, stored)

    def note_deletion(self, name: str, bucket: ReferenceBucket, key: str) -> None:
        marker = NULL
        if bucket.status is VersioningStatus.ENABLED:
            marker = self.run(self.trove.list_versions(name, key))[0].version_id
            assert bucket.version(key, marker) is None
            assert marker != NULL
        bucket.delete(key, marker)

    def described(self, data: bytes, content_type: str | None, meta: dict[str, str], tags: dict[str, str]) -> Stored:
        return Stored(
            NULL,
            data,
            content_type=content_type or "application/octet-stream",
            metadata=tuple(sorted(meta.items())),
            tags=tuple(sorted(tags.items())),
        )

    # Buckets

    @initialize(target=keys, chosen=st.lists(st.sampled_from(KEYS), min_size=2, max_size=8, unique=True))
    def choose_keys(self, chosen: Sequence[str]) -> MultipleResults[str]:
        # A few keys for each run, so that its operations affect the same objects.
        return multiple(*chosen)

    @initialize(versions=st.sampled_from([None, None, True, False]))
    def begin_with_a_bucket(self, versions: bool | None) -> None:
        self.create_bucket("one")
        if versions is not None:
            self.set_versioning("one", True)
            self.set_versioning("one", versions)

    @rule(name=buckets)
    def create_bucket(self, name: str) -> None:
        if self.bucket(name) is not None:
            self.fails(self.trove.create_bucket(name), BucketAlreadyExistsError)
        else:
            self.run(self.trove.create_bucket(name))
            self.buckets[name] = ReferenceBucket()

    @rule(name=buckets)
    def delete_bucket(self, name: str) -> None:
        bucket = self.bucket(name)
        for upload_id in [upload_id for upload_id, (at, _, _) in self.uploads.items() if at == name]:
            self.abort(upload_id)
        if bucket is None:
            self.fails(self.trove.delete_bucket(name), BucketNotFoundError)
        elif not bucket.empty:
            self.fails(self.trove.delete_bucket(name), BucketNotEmptyError)
        else:
            self.run(self.trove.delete_bucket(name))
            del self.buckets[name]

    # Objects

    @rule(name=buckets, key=keys, data=bodies, content_type=content_types, meta=metadata, tags=tag_sets)
    def put(
        self, name: str, key: str, data: bytes, content_type: str | None, meta: dict[str, str], tags: dict[str, str]
    ) -> None:
        bucket = self.bucket(name)
        work = self.trove.put(name, key, data, content_type=content_type, metadata=meta, tags=tags)
        if bucket is None:
            self.fails(work, BucketNotFoundError)
            return
        self.note(bucket, key, self.run(work), self.described(data, content_type, meta, tags))

    @rule(name=buckets, chosen=st.lists(keys, min_size=3, max_size=12))
    def put_many(self, name: str, chosen: Sequence[str]) -> None:
        """Fill a bucket, and give a key several versions: most faults need some of both."""
        for number, key in enumerate(chosen):
            self.put(name, key, b"%d" % number, None, {}, {})

    @rule(name=buckets, key=keys, data=bodies, condition=st.sampled_from(["create", "match", "stale", "other"]))
    def put_on_condition(self, name: str, key: str, data: bytes, condition: str) -> None:
        bucket = self.bucket(name)
        if bucket is None:
            return
        current = bucket.current(key)
        etag = "no-such-etag" if current is None or current.etag is None else current.etag
        options: dict[str, dict[str, str]] = {
            "create": {"if_none_match": "*"},
            "match": {"if_match": etag},
            "stale": {"if_match": "stale"},
            "other": {"if_none_match": etag},
        }
        holds = {
            "create": current is None,
            "match": current is not None,
            "stale": False,
            "other": current is None,
        }
        work = self.trove.put(name, key, data, **options[condition])  # type: ignore[arg-type]
        if holds[condition]:
            self.note(bucket, key, self.run(work), self.described(data, None, {}, {}))
        else:
            self.fails(work, ObjectAlreadyExistsError if condition == "create" else PreconditionFailedError)

    @rule(name=buckets, key=keys, pieces=st.lists(bodies, max_size=4))
    def write_piece_by_piece(self, name: str, key: str, pieces: list[bytes]) -> None:
        bucket = self.bucket(name)
        if bucket is None:
            return

        async def write() -> ObjectInfo:
            async with self.trove.writer(name, key) as writer:
                for piece in pieces:
                    await writer.write(piece)
            assert writer.info is not None
            return writer.info

        self.note(bucket, key, self.run(write()), self.described(b"".join(pieces), None, {}, {}))

    @rule(name=buckets, key=keys, data=bodies)
    def put_that_breaks_off(self, name: str, key: str, data: bytes) -> None:
        self.bucket(name)

        def broken() -> Iterable[bytes]:
            yield data
            raise ZeroDivisionError

        # A driver may check for the bucket before or after it reads the body.
        errors = [ZeroDivisionError] if name in self.buckets else [ZeroDivisionError, BucketNotFoundError]
        self.fails(self.trove.put(name, key, broken()), *errors)

    @rule(name=buckets, key=keys)
    def delete(self, name: str, key: str) -> None:
        bucket = self.bucket(name)
        if bucket is None:
            self.fails(self.trove.delete(name, key), BucketNotFoundError)
            return
        self.run(self.trove.delete(name, key))
        self.note_deletion(name, bucket, key)

    @rule(name=buckets, key=keys, stale=st.booleans())
    def delete_on_condition(self, name: str, key: str, stale: bool) -> None:
        bucket = self.bucket(name)
        if bucket is None:
            return
        current = bucket.current(key)
        if current is None or stale:
            self.fails(self.trove.delete(name, key, if_match="stale"), PreconditionFailedError)
            return
        self.run(self.trove.delete(name, key, if_match=current.etag))
        self.note_deletion(name, bucket, key)

    @rule(name=buckets, chosen=st.lists(keys, max_size=6))
    def delete_many(self, name: str, chosen: Sequence[str]) -> None:
        bucket = self.bucket(name)
        chosen = [*dict.fromkeys(chosen)]

        async def delete() -> int:
            return await self.trove.delete_many(name, chosen)

        if bucket is None:
            return
        assert self.run(delete()) == len(chosen)
        for key in chosen:
            self.note_deletion(name, bucket, key)

    @rule(src=buckets, src_key=keys, dst=buckets, dst_key=keys, replace=st.booleans(), meta=metadata)
    def copy(self, src: str, src_key: str, dst: str, dst_key: str, replace: bool, meta: dict[str, str]) -> None:
        source, target = self.bucket(src), self.bucket(dst)
        work = self.trove.copy(src, src_key, dst, dst_key, replace=replace, metadata=meta if replace else None)
        if source is None or target is None:
            self.fails(work, BucketNotFoundError, ObjectNotFoundError)
            return
        current = source.current(src_key)
        if current is None or current.data is None:
            self.fails(work, ObjectNotFoundError)
            return
        template = self.described(current.data, None, meta, {}) if replace else current
        self.note(target, dst_key, self.run(work), template)

    @rule(src=buckets, src_key=keys, dst=buckets, dst_key=keys)
    def move(self, src: str, src_key: str, dst: str, dst_key: str) -> None:
        source, target = self.bucket(src), self.bucket(dst)
        work = self.trove.move(src, src_key, dst, dst_key)
        if source is None or target is None:
            self.fails(work, BucketNotFoundError, ObjectNotFoundError)
            return
        current = source.current(src_key)
        if current is None:
            self.fails(work, ObjectNotFoundError)
            return
        info = self.run(work)
        if (src, src_key) == (dst, dst_key):
            assert info.etag == current.etag
            return
        self.note(target, dst_key, info, current)
        self.note_deletion(src, source, src_key)

    # Reading

    @rule(name=buckets, key=keys, offset=st.integers(0, 30), length=st.none() | st.integers(0, 30))
    def read_a_range(self, name: str, key: str, offset: int, length: int | None) -> None:
        bucket = self.buckets.get(name)
        current = None if bucket is None else bucket.current(key)
        work = self.trove.read(name, key, (offset, length))
        if length == 0:
            assert self.run(work) == b""
        elif current is None or current.data is None:
            self.fails(work, ObjectNotFoundError if bucket is not None else BucketNotFoundError)
        elif offset >= len(current.data):
            self.fails(work, RangeNotSatisfiableError)
        else:
            assert self.run(work) == current.data[offset:][:length]

    @rule(name=buckets, key=keys)
    def read_on_condition(self, name: str, key: str) -> None:
        bucket = self.buckets.get(name)
        current = None if bucket is None else bucket.current(key)
        if current is None:
            assert not self.run(self.trove.exists(name, key))
            return
        assert self.run(self.trove.read(name, key, if_match=current.etag)) == current.data
        self.fails(self.trove.read(name, key, if_match="stale"), PreconditionFailedError)
        self.fails(self.trove.head(name, key, if_none_match=current.etag), NotModifiedError)

    @rule(
        name=buckets,
        prefix=st.sampled_from(PREFIXES),
        delimiter=st.sampled_from([None, "/", "//", "a", "%"]),
        start_after=st.none() | keys,
        page_sizes=st.tuples(st.integers(1, 4), st.integers(1, 4)),
        taken=st.integers(0, 6),
    )
    def list_in_two(
        self,
        name: str,
        prefix: str,
        delimiter: str | None,
        start_after: str | None,
        page_sizes: tuple[int, int],
        taken: int,
    ) -> None:
        """List some, and the remainder from the cursor, with pages of another size."""

        first, second = page_sizes

        async def go_on() -> Sequence[str]:
            iterator = self.listing(name, prefix, delimiter, start_after=start_after, page_size=first, max_keys=taken)
            found = [name_of(item) async for item in iterator]
            if iterator.cursor is None:
                return found
            rest = self.listing(name, prefix, delimiter, cursor=iterator.cursor, page_size=second)
            return found + [name_of(item) async for item in rest]

        bucket = self.buckets.get(name)
        if bucket is not None:
            assert self.run(go_on()) == bucket.listing(prefix, delimiter, start_after)
        elif taken:
            self.fails(go_on(), BucketNotFoundError)

    def listing(
        self, name: str, prefix: str, delimiter: str | None, **options: Any
    ) -> ObjectIterator[ObjectInfo] | ObjectIterator[Item]:
        if delimiter is None:
            return self.trove.list(name, prefix, **options)
        return self.trove.list(name, prefix, delimiter=delimiter, **options)

    # Tags

    @rule(name=buckets, key=keys, tags=tag_sets)
    def set_tags(self, name: str, key: str, tags: dict[str, str]) -> None:
        bucket = self.bucket(name)
        work = self.trove.set_tags(name, key, tags) if tags else self.trove.delete_tags(name, key)
        if bucket is None:
            self.fails(work, BucketNotFoundError)
        elif bucket.current(key) is None:
            self.fails(work, ObjectNotFoundError)
        else:
            self.run(work)
            bucket.set_tags(key, tags)

    # Uploads in parts

    @rule(name=buckets, key=keys, meta=metadata)
    def begin_upload(self, name: str, key: str, meta: dict[str, str]) -> None:
        if self.bucket(name) is None:
            self.fails(self.trove.initiate_multipart(name, key), BucketNotFoundError)
            return
        upload_id = self.run(self.trove.initiate_multipart(name, key))
        assert upload_id not in self.uploads
        self.uploads[upload_id] = (name, key, {})

    @precondition(lambda self: self.uploads)
    @rule(data=st.data(), number=st.integers(1, 4), part=st.binary(min_size=PART_SIZE, max_size=2 * PART_SIZE))
    def upload_part(self, data: st.DataObject, number: int, part: bytes) -> None:
        upload_id = data.draw(st.sampled_from([*self.uploads]))
        name, key, parts = self.uploads[upload_id]
        self.touched.add(name)
        info = self.run(self.trove.upload_part(name, key, upload_id, number, part))
        assert (info.number, info.size) == (number, len(part))
        parts[number] = (info, part)
        assert self.run(self.trove.list_parts(name, key, upload_id)) == [parts[n][0] for n in sorted(parts)]

    @precondition(lambda self: self.uploads)
    @rule(data=st.data(), complete=st.booleans())
    def end_upload(self, data: st.DataObject, complete: bool) -> None:
        upload_id = data.draw(st.sampled_from([*self.uploads]))
        name, key, parts = self.uploads[upload_id]
        self.touched.add(name)
        if not complete or not parts:
            self.abort(upload_id)
            return
        chosen = [parts[number] for number in sorted(parts)]
        info = self.run(self.trove.complete_multipart(name, key, upload_id, [part for part, _ in chosen]))
        del self.uploads[upload_id]
        self.note(self.buckets[name], key, info, self.described(b"".join(data for _, data in chosen), None, {}, {}))

    def abort(self, upload_id: str) -> None:
        name, key, _ = self.uploads.pop(upload_id)
        self.run(self.trove.abort_multipart(name, key, upload_id))
        self.run(self.trove.abort_multipart(name, key, upload_id))

    # Versions

    @rule(name=buckets, enabled=st.booleans())
    def set_versioning(self, name: str, enabled: bool) -> None:
        bucket = self.bucket(name)
        if bucket is None:
            self.fails(self.trove.set_versioning(name, enabled), BucketNotFoundError)
            return
        self.run(self.trove.set_versioning(name, enabled))
        if enabled:
            bucket.status = VersioningStatus.ENABLED
        elif bucket.status is VersioningStatus.ENABLED:
            bucket.status = VersioningStatus.SUSPENDED

    @precondition(lambda self: any(bucket.versions for bucket in self.buckets.values()))
    @rule(data=st.data(), what=st.sampled_from(["delete", "restore", "read", "delete by options"]))
    def use_a_version(self, data: st.DataObject, what: str) -> None:
        there = [
            (name, key, stored)
            for name, bucket in sorted(self.buckets.items())
            for key, versions in sorted(bucket.versions.items())
            for stored in versions
        ]
        name, key, stored = data.draw(st.sampled_from(there))
        bucket = self.bucket(name)
        assert bucket is not None
        if what == "delete":
            self.run(self.trove.delete_version(name, key, stored.version_id))
            bucket.delete_version(key, stored.version_id)
        elif what == "delete by options":
            self.run(self.trove.delete(name, key, version_id=stored.version_id))
            bucket.delete_version(key, stored.version_id)
        elif stored.data is None:
            self.fails(self.trove.restore_version(name, key, stored.version_id), VersionNotFoundError)
            self.fails(self.trove.get_version(name, key, stored.version_id), VersionNotFoundError)
        elif what == "restore":
            info = self.run(self.trove.restore_version(name, key, stored.version_id))
            self.note(bucket, key, info, stored)
        else:
            self.run(self.compare_version_by_get(name, key, stored))

    async def compare_version_by_get(self, name: str, key: str, stored: Stored) -> None:
        async with await self.trove.get_version(name, key, stored.version_id) as reader:
            assert await reader.read() == stored.data
        assert reader.info.etag == stored.etag

    @rule(name=buckets, key=keys)
    def use_a_version_that_never_was(self, name: str, key: str) -> None:
        if self.buckets.get(name) is None:
            self.fails(self.trove.delete_version(name, key, "never"), BucketNotFoundError)
            return
        self.run(self.trove.delete_version(name, key, "never"))
        self.fails(self.trove.get_version(name, key, "never"), VersionNotFoundError)
        self.fails(self.trove.restore_version(name, key, "never"), VersionNotFoundError)


class MemoryMachine(StoreMachine):
    def dsn(self) -> str:
        return f"memory://?min_part_size={PART_SIZE}"


class LocalMachine(StoreMachine):
    def dsn(self) -> str:
        self.root = tempfile.TemporaryDirectory(prefix="trove-model-")
        return f"local://{self.root.name}?fsync=0&min_part_size={PART_SIZE}"

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self.root.cleanup()


class PrefixedMachine(StoreMachine):
    """Memory below a prefix: other keys in its buckets make no difference, and stay."""

    PREFIX = "tenant/"
    OTHERS = ("tenan", "tenant", "tenant.", "tenant/", "tenant0", "z")

    async def open(self) -> Trove:
        dsn = f"memory://model-{uuid4().hex}?min_part_size={PART_SIZE}"
        self.whole = await trove_async.open(dsn)
        return await trove_async.open(dsn, layers=[trove_async.Prefixed(self.PREFIX)])

    async def close(self) -> None:
        await super().close()
        await self.whole.aclose()

    async def compare_bucket(self, name: str, expected: ReferenceBucket) -> None:
        await super().compare_bucket(name, expected)
        keys = [info.key async for info in self.whole.list(name)]
        assert keys == sorted([*self.OTHERS, *(self.PREFIX + key for key in expected.objects())])
        for key in self.OTHERS:
            assert await self.whole.read(name, key) == key.encode()

    async def put_others(self, name: str) -> None:
        for key in self.OTHERS:
            await self.whole.put(name, key, key.encode())

    async def remove_others(self, name: str) -> None:
        others = [version async for version in self.whole.list_all_versions(name) if version.key in self.OTHERS]
        await self.whole.delete_many(name, others)

    @rule(name=buckets)
    def create_bucket(self, name: str) -> None:
        exists = name in self.buckets
        super().create_bucket(name)
        if not exists:
            self.run(self.put_others(name))

    @rule(name=buckets)
    def delete_bucket(self, name: str) -> None:
        if name not in self.buckets:
            super().delete_bucket(name)
            return
        self.fails(self.trove.delete_bucket(name), BucketNotEmptyError)
        self.run(self.remove_others(name))
        super().delete_bucket(name)
        if name in self.buckets:
            self.run(self.put_others(name))


BOUNDS = settings(max_examples=30, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TestMemory = MemoryMachine.TestCase
TestMemory.settings = BOUNDS
TestPrefixed = PrefixedMachine.TestCase
TestPrefixed.settings = settings(BOUNDS, max_examples=20)
TestLocal = LocalMachine.TestCase
TestLocal.settings = BOUNDS
