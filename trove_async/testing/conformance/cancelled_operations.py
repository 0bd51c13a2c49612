"""The operations that the checks X1, X4, X7 and X10 cancel, and what must hold after each run."""

from __future__ import annotations

import asyncio
import io
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trove_async.body import BodyLike
from trove_async.driver import AppendDriver, MultipartDriver, PartCopyDriver
from trove_async.errors import InvalidPartError, NotFoundError
from trove_async.store import Trove
from trove_async.testing.conformance.context import Context
from trove_async.testing.conformance.interception import Streams
from trove_async.testing.helpers import random_bytes
from trove_async.testing.injection import Outcome
from trove_async.types import ObjectInfo, ObjectRef, PartInfo

__all__ = ["OPERATIONS", "CancelledOperation", "Stored", "snapshot"]

_CHUNKS: Final = 10


@dataclass(frozen=True)
class Stored:
    """An object as a reader sees it; its `repr` shows only the length of the content."""

    content: bytes
    content_type: str | None = "application/octet-stream"
    metadata: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"<{len(self.content)} bytes from {self.content[:8]!r}, {self.content_type}, {self.metadata}>"


State = Mapping[str, Stored]


async def snapshot(store: Trove, bucket: str) -> dict[str, Stored]:
    """Return what is in a bucket; list, head and read must agree on each object."""
    state = {}
    for listed in await store.list(bucket).all():
        head = await store.head(bucket, listed.key)
        content = await store.read(bucket, listed.key)
        assert (listed.size, listed.etag) == (head.size, head.etag), listed.key
        assert head.size == len(content), listed.key
        state[listed.key] = Stored(content, head.content_type, tuple(head.metadata.items()))
    return state


class CancelledOperation(ABC):
    """An operation that changes the bucket from an old state to a new one.

    Attributes:
        capability: the capability that the store must have.
        least_points: the minimum number of await points on every driver.
    """

    capability: type | None = None
    least_points = 0

    def __init__(self, ctx: Context, folder: Path) -> None:
        self.ctx = ctx
        self.store = ctx.store
        self.bucket = ctx.bucket
        self.folder = folder
        self.small = random_bytes(1000, seed=1)
        self.large = random_bytes(ctx.part_size * 5 // 2, seed=2)
        self.old: dict[str, Stored] = {"other": Stored(b"untouched")}
        self.new: dict[str, Stored] = dict(self.old)

    async def open(self) -> None:
        """Prepare once, before the first run."""

    async def prepare(self) -> None:
        """Create the old state."""
        if await snapshot(self.store, self.bucket) == self.old:
            return
        await self.store.delete_many(self.bucket, [found.key async for found in self.store.list(self.bucket)])
        for key, stored in self.old.items():
            await self.store.put(
                self.bucket,
                key,
                stored.content,
                content_type=stored.content_type,
                metadata=dict(stored.metadata),
            )

    @abstractmethod
    async def run(self) -> object:
        """Carry out the operation."""

    async def check(self, outcome: Outcome[object]) -> None:
        """Fail unless the call ended as required, and left the required state and nothing else."""
        if outcome.error is not None:
            raise AssertionError(f"the cancellation became {outcome.error!r}") from outcome.error
        assert not outcome.left_running, f"tasks still run after the call: {outcome.left_running}"
        state = await self._settled_state()
        if not outcome.cancelled:
            assert state == self.new, "the call returned its result, but the operation was not carried out"
        await self.check_more(outcome, state)
        await self.check_uploads(state)
        await self.ctx.assert_clean()

    async def _settled_state(self) -> State:
        """Return the state of the bucket, in which each object is old or new.

        A service may carry out a request that was sent before the cancellation a moment later, even between two reads.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.ctx.harness.settle_seconds
        while True:
            try:
                state = await snapshot(self.store, self.bucket)
                for key in {*self.old, *self.new, *state}:
                    assert state.get(key) in (self.old.get(key), self.new.get(key)), f"{key!r} is neither old nor new"
            except (AssertionError, NotFoundError):
                if loop.time() > deadline:
                    raise
                await asyncio.sleep(0.01)
            else:
                return state

    async def check_more(self, outcome: Outcome[object], state: State) -> None:
        """Check the requirements of this operation only."""

    async def check_uploads(self, state: State) -> None:
        """Fail if an upload is open; an operation on an upload completes it."""
        if self.store.supports(MultipartDriver):
            assert await self.store.list_multipart_uploads(self.bucket) == [], "an upload was left open"


class _Put(CancelledOperation):
    """Replaces an object, or creates one, with a body of one kind."""

    def __init__(
        self,
        ctx: Context,
        folder: Path,
        make_body: Callable[[_Put], BodyLike],
        *,
        large: bool = True,
        create: bool = False,
        least_points: int = 0,
    ) -> None:
        super().__init__(ctx, folder)
        self.make_body = make_body
        self.least_points = least_points
        self.data = self.large if large else self.small
        if not create:
            self.old["key"] = Stored(b"old" * 5000, "text/old", (("version", "old"),))
        self.new["key"] = Stored(self.data, "text/new", (("version", "new"),))

    async def open(self) -> None:
        path = self.folder / "body"
        await asyncio.to_thread(path.write_bytes, self.data)

    async def run(self) -> object:
        return await self.store.put(
            self.bucket, "key", self.make_body(self), content_type="text/new", metadata={"version": "new"}
        )

    async def check_more(self, outcome: Outcome[object], state: State) -> None:
        if isinstance(outcome.result, ObjectInfo):
            assert outcome.result.etag == (await self.store.head(self.bucket, "key")).etag

    def chunks(self) -> list[bytes]:
        size = len(self.data) // _CHUNKS + 1
        return [self.data[first : first + size] for first in range(0, len(self.data), size)]

    async def stream(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks():
            await asyncio.sleep(0)
            yield chunk


class _AsyncFile:
    """An object with an async ``read``, such as an uploaded file in a web framework."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self._step = len(data) // _CHUNKS + 1

    async def read(self, size: int, /) -> bytes:
        await asyncio.sleep(0)
        return self._file.read(min(size, self._step))


class _Writer(_Put):
    async def run(self) -> None:
        options = {"content_type": "text/new", "metadata": {"version": "new"}}
        async with self.store.writer(self.bucket, "key", **options) as writer:  # type: ignore[arg-type]
            for chunk in self.chunks():
                await asyncio.sleep(0)
                await writer.write(chunk)


class _Read(CancelledOperation):
    """Reads an object through a stream; nothing changes, and no stream stays open."""

    least_points = 1

    def __init__(self, ctx: Context, folder: Path) -> None:
        super().__init__(ctx, folder)
        self.old["key"] = self.new["key"] = Stored(self.large)
        self.streams = Streams()
        self.reading = ctx.store

    async def open(self) -> None:
        self.reading = await self.ctx.reopen(self.streams)

    async def run(self) -> bytes:
        async with self.reading.get(self.bucket, "key") as reader:
            return b"".join([chunk async for chunk in reader])

    async def check_more(self, outcome: Outcome[object], state: State) -> None:
        assert outcome.cancelled or outcome.result == self.large
        assert self.streams.open == 0, "a stream was left open"


class _ReadRanges(_Read):
    async def run(self) -> bytes:
        half, size = len(self.large) // 2, len(self.large)
        ranges = [(0, half), (half, size - half)]
        return b"".join(await self.reading.read_ranges(self.bucket, "key", ranges, coalesce_gap=0))


class _List(CancelledOperation):
    def __init__(self, ctx: Context, folder: Path) -> None:
        super().__init__(ctx, folder)
        self.old.update({f"key-{number}": Stored(b"x") for number in range(5)})
        self.new = dict(self.old)

    async def run(self) -> list[str]:
        return [found.key async for found in self.store.list(self.bucket, page_size=2)]

    async def check_more(self, outcome: Outcome[object], state: State) -> None:
        assert outcome.cancelled or outcome.result == sorted(self.old)


class _Copy(CancelledOperation):
    def __init__(self, ctx: Context, folder: Path) -> None:
        super().__init__(ctx, folder)
        source = Stored(self.large, "text/source", (("version", "new"),))
        self.old.update(source=source, key=Stored(b"old", "text/old", (("version", "old"),)))
        self.new.update(source=source, key=source)

    async def run(self) -> object:
        return await self.store.copy(self.bucket, "source", self.bucket, "key")


class _Move(_Copy):
    def __init__(self, ctx: Context, folder: Path) -> None:
        super().__init__(ctx, folder)
        del self.new["source"]

    async def run(self) -> object:
        return await self.store.move(self.bucket, "source", self.bucket, "key")

    async def check_more(self, outcome: Outcome[object], state: State) -> None:
        assert "source" in state or state["key"] == self.new["key"], "the source is gone before the target is there"


class _Delete(CancelledOperation):
    def __init__(self, ctx: Context, folder: Path) -> None:
        super().__init__(ctx, folder)
        self.old["key"] = Stored(self.small)

    async def run(self) -> None:
        await self.store.delete(self.bucket, "key")


class _DeleteMany(CancelledOperation):
    def __init__(self, ctx: Context, folder: Path) -> None:
        super().__init__(ctx, folder)
        self.keys = [f"key-{number}" for number in range(4)]
        self.old.update(dict.fromkeys(self.keys, Stored(b"x")))

    async def run(self) -> object:
        return await self.store.delete_many(self.bucket, self.keys)


class _UploadPart(CancelledOperation):
    """Replaces a part: afterwards it is the old or the new one, and the upload stays open."""

    capability: type = MultipartDriver
    least_points = 1

    def __init__(self, ctx: Context, folder: Path) -> None:
        super().__init__(ctx, folder)
        self.upload = ""
        self.parts: list[PartInfo] = []
        self.data = b"n" * ctx.part_size

    async def prepare(self) -> None:
        await super().prepare()
        self.upload = await self.store.initiate_multipart(self.bucket, "key")
        part = await self.store.upload_part(self.bucket, "key", self.upload, 1, b"o" * self.ctx.part_size)
        self.parts = [part]

    async def chunks(self) -> AsyncIterator[bytes]:
        for first in range(0, len(self.data), 16 * 1024):
            await asyncio.sleep(0)
            yield self.data[first : first + 16 * 1024]

    async def run(self) -> object:
        return await self.store.upload_part(self.bucket, "key", self.upload, 1, self.chunks())

    async def check_more(self, outcome: Outcome[object], state: State) -> None:
        part = await self._completed()
        assert outcome.cancelled or outcome.result == part
        content = await self.store.read(self.bucket, "key")
        assert content == (b"o" * self.ctx.part_size if part == self.parts[0] else self.data)
        await self.store.delete(self.bucket, "key")

    async def _completed(self) -> PartInfo:
        """Complete the upload with its part, which may still be replaced between the two requests."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.ctx.harness.settle_seconds
        while True:
            [part] = await self.store.list_parts(self.bucket, "key", self.upload)
            try:
                await self.store.complete_multipart(self.bucket, "key", self.upload, [part])
            except InvalidPartError:
                if loop.time() > deadline:
                    raise
                await asyncio.sleep(0.01)
            else:
                return part


class _AppendPart(_UploadPart):
    """Appends to a part in place of its second half: afterwards it has a piece of the body, behind the first half."""

    capability = AppendDriver

    async def run(self) -> object:
        offset = self.ctx.part_size // 2
        return await self.store.append_part(self.bucket, "key", self.upload, 1, offset, self.chunks())

    async def check_more(self, outcome: Outcome[object], state: State) -> None:
        part = await self._completed()
        assert outcome.cancelled or outcome.result == part
        content = await self.store.read(self.bucket, "key")
        assert len(content) == part.size
        offset = self.ctx.part_size // 2
        old, new = b"o" * self.ctx.part_size, b"o" * offset + self.data
        assert content == (old if part == self.parts[0] else new[: part.size])
        assert outcome.cancelled or content == new
        assert part == self.parts[0] or part.size >= offset
        await self.store.delete(self.bucket, "key")


class _CopyPart(_UploadPart):
    """Replaces a part by a copy of an object: afterwards it is the old or the new one, and the upload stays open."""

    capability = PartCopyDriver
    least_points = 0

    def __init__(self, ctx: Context, folder: Path) -> None:
        super().__init__(ctx, folder)
        self.old["origin"] = self.new["origin"] = Stored(self.data)

    async def run(self) -> object:
        source = ObjectRef(self.bucket, "origin")
        return await self.store.copy_part(self.bucket, "key", self.upload, 1, source, 0, len(self.data))


class _CompleteMultipart(CancelledOperation):
    """Completes an upload: either the object is new and the upload is gone, or nothing has changed."""

    capability: type = MultipartDriver
    letters = b"12"

    def __init__(self, ctx: Context, folder: Path) -> None:
        super().__init__(ctx, folder)
        self.old["key"] = Stored(b"old", "text/old")
        self.new["key"] = Stored(b"".join(bytes([letter]) * ctx.part_size for letter in self.letters), "text/new")
        self.upload = ""
        self.parts: list[PartInfo] = []

    async def prepare(self) -> None:
        await super().prepare()
        self.upload = await self.store.initiate_multipart(self.bucket, "key", content_type="text/new")
        self.parts = [await self.store_part(*numbered) for numbered in enumerate(self.letters, 1)]

    async def store_part(self, number: int, letter: int) -> PartInfo:
        data = bytes([letter]) * self.ctx.part_size
        return await self.store.upload_part(self.bucket, "key", self.upload, number, data)

    async def run(self) -> object:
        return await self.store.complete_multipart(self.bucket, "key", self.upload, self.parts)

    async def check_uploads(self, state: State) -> None:
        uploads = await self.store.list_multipart_uploads(self.bucket)
        if state["key"] == self.new["key"]:
            assert uploads == [], "the upload was completed and is still open"
        else:
            assert [found.upload_id for found in uploads] == [self.upload], "the upload was neither completed nor kept"
            assert await self.store.list_parts(self.bucket, "key", self.upload) == self.parts
            await self.store.abort_multipart(self.bucket, "key", self.upload)


class _CompleteOnePart(_CompleteMultipart):
    """Completes an upload whose only part has grown, which may become the object as it is."""

    capability = AppendDriver
    letters = b"1"

    async def store_part(self, number: int, letter: int) -> PartInfo:
        data = bytes([letter]) * self.ctx.part_size
        return await self.store.append_part(self.bucket, "key", self.upload, number, 0, data)


class _InitiateMultipart(CancelledOperation):
    """Initiates an upload: a cancelled call may leave an upload open that has no parts."""

    capability = MultipartDriver

    async def run(self) -> object:
        return await self.store.initiate_multipart(self.bucket, "key")

    async def check_uploads(self, state: State) -> None:
        for found in await self.store.list_multipart_uploads(self.bucket):
            assert await self.store.list_parts(self.bucket, "key", found.upload_id) == []
            await self.store.abort_multipart(self.bucket, "key", found.upload_id)


Make = Callable[[Context, Path], CancelledOperation]


def _put(body: Callable[[_Put], BodyLike], *, large: bool = True, create: bool = False, least_points: int = 0) -> Make:
    return lambda ctx, folder: _Put(ctx, folder, body, large=large, create=create, least_points=least_points)


OPERATIONS: Final[dict[str, Make]] = {
    "put-bytes": _put(lambda put: put.data, large=False),
    "put-bytes-new": _put(lambda put: put.data, large=False, create=True),
    "put-large-bytes": _put(lambda put: put.data),
    "put-path": _put(lambda put: put.folder / "body", least_points=1),
    "put-file": _put(lambda put: io.BytesIO(put.data), least_points=1),
    "put-iterable": _put(lambda put: put.chunks(), least_points=1),
    "put-async-iterable": _put(lambda put: put.stream(), least_points=_CHUNKS),
    "put-async-iterable-small": _put(lambda put: put.stream(), large=False, least_points=_CHUNKS),
    "put-async-iterable-new": _put(lambda put: put.stream(), create=True, least_points=_CHUNKS),
    "put-async-read": _put(lambda put: _AsyncFile(put.data), least_points=_CHUNKS),
    "writer": lambda ctx, folder: _Writer(ctx, folder, lambda put: put.data, least_points=_CHUNKS),
    "get": _Read,
    "read-ranges": _ReadRanges,
    "list": _List,
    "copy": _Copy,
    "move": _Move,
    "delete": _Delete,
    "delete-many": _DeleteMany,
    "initiate-multipart": _InitiateMultipart,
    "upload-part": _UploadPart,
    "append-part": _AppendPart,
    "copy-part": _CopyPart,
    "complete-multipart": _CompleteMultipart,
    "complete-one-part": _CompleteOnePart,
}
"""The factory of each operation, by its name."""
