"""Resumable uploads: one session, in chunks, which goes on from what the service has after whatever breaks.

https://cloud.google.com/storage/docs/performing-resumable-uploads

The last request is the commit, and small: it brings the last 256 KiB at most, with the checksum of all.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from trove_async.body import Body, Chunk
from trove_async.cancellation import finish, to_the_end
from trove_async.checksums import Checksum
from trove_async.driver import DeleteOptions, PutOptions
from trove_async.drivers.gcs.checksums import crc32c_in, encode, extend, mismatch
from trove_async.drivers.gcs.client import Client, Headers, Query, decode
from trove_async.drivers.gcs.objects import Objects
from trove_async.drivers.gcs.settings import CHUNK
from trove_async.drivers.gcs.writes import Writes
from trove_async.errors import BackendError, NotFoundError, TransientError, TroveError
from trove_async.types import ObjectInfo
from trove_async.wire.fields import required
from trove_async.wire.parts import PartSource
from trove_async.wire.transport import Response

__all__ = ["Resumable"]

_INCOMPLETE: Final = 308
_CANCELLED: Final = 499


@dataclass(slots=True)
class _Session:
    """A session that is open: where it is, and what was said to it.

    Attributes:
        bucket, key: of the object.
        target: path and query of its URL.
        total: bytes of the object; None as long as the body has not ended.
        crc32c: of all the bytes up to those that are under way.
        made: the resource of the object, once it is one.
    """

    bucket: str
    key: str
    target: str
    total: int | None = None
    crc32c: int = 0
    made: Mapping[str, Any] | None = None


@dataclass(slots=True)
class _Unsent:
    """Bytes that the service may not have yet, from an offset of the object on."""

    start: int
    chunks: deque[Chunk] = field(default_factory=deque)

    @property
    def size(self) -> int:
        return sum(map(len, self.chunks))

    def drop(self, offset: int) -> None:
        """Forget the bytes before an offset.

        Raises:
            BackendError: they were forgotten before, and cannot be sent again.
        """
        count = offset - self.start
        if not 0 <= count <= self.size:
            raise BackendError(f"the service has {offset} bytes of the upload, after it said that it has {self.start}")
        self.start = offset
        while count:
            chunk = self.chunks.popleft()
            if len(chunk) > count:
                self.chunks.appendleft(memoryview(chunk)[count:])
            count -= min(count, len(chunk))


class Resumable:
    """Uploads in one session each.

    Args:
        client: sends the requests.
        objects: delete what should not have been made.
        writes: describe what is written.
        part_size: bytes of a chunk, a multiple of 256 KiB.
        cleanup_timeout: seconds that giving a session up may take.
    """

    def __init__(
        self, client: Client, objects: Objects, writes: Writes, part_size: int, cleanup_timeout: float
    ) -> None:
        self._client = client
        self._objects = objects
        self._writes = writes
        self._part_size = part_size
        self._cleanup_timeout = cleanup_timeout

    async def put(
        self,
        bucket: str,
        key: str,
        body: Body,
        source: PartSource,
        first: list[Chunk],
        options: PutOptions,
        conditions: Query,
    ) -> ObjectInfo:
        """Store what is left of a body.

        Args:
            bucket, key, body, options: of the put.
            source: of the body, from which ``first`` was taken.
            first: its first part.
            conditions: parameters; they hold when the session begins and when the object is made.
        """
        known = body.checksum
        if known is not None and body.buffer is not None:
            known = Checksum(known.algorithm, body.digest)
        resource = self._writes.description(key, options.attributes, known)
        async with self._open(bucket, key, resource, conditions) as session:
            rest = await self._send(session, source, first)
            await to_the_end(
                self._commit(session, rest),
                timeout=self._cleanup_timeout,
                leftover=f"the last request of the upload of {key!r} in bucket {bucket!r}",
            )
        checksum = Checksum(body.checksum.algorithm, body.digest) if body.checksum is not None else None
        return self._writes.written(key, body.taken, session.made or {}, options.attributes, checksum)

    @asynccontextmanager
    async def _open(
        self, bucket: str, key: str, resource: Mapping[str, Any], conditions: Query
    ) -> AsyncGenerator[_Session, None]:
        """Begin a session, and give it up unless it became an object when the block ends."""
        beginning = asyncio.ensure_future(self._begin(bucket, key, resource, conditions))

        async def undo() -> None:
            await asyncio.wait({beginning})
            if beginning.exception() is None:
                await self._cancel(beginning.result())

        try:
            session = await asyncio.shield(beginning)
        except asyncio.CancelledError:
            # The service may have begun it already: only its answer tells what to give up.
            await self._give_up(bucket, key, undo())
            raise
        try:
            yield session
        finally:
            if session.made is None:
                await self._give_up(bucket, key, self._cancel(session))

    async def _give_up(self, bucket: str, key: str, work: Any) -> None:
        await finish(
            work, timeout=self._cleanup_timeout, leftover=f"a session that uploads {key!r} to bucket {bucket!r}"
        )

    async def _begin(self, bucket: str, key: str, resource: Mapping[str, Any], conditions: Query) -> _Session:
        query = self._writes.upload_query("resumable") + conditions
        headers = [("content-type", "application/json; charset=utf-8")]
        response, _ = await self._client.upload("POST", bucket, key, query, headers, [json.dumps(resource).encode()])
        url = urlsplit(required(response.headers, "location", "Cloud Storage"))
        # The session is where we are: a proxy or gateway in between is not known to the service.
        prefix = "" if url.path.startswith(f"{self._client.prefix}/") else self._client.prefix
        return _Session(bucket, key, f"{prefix}{url.path}?{url.query}")

    async def _send(self, session: _Session, source: PartSource, chunks: list[Chunk]) -> _Unsent:
        """Send all but the last bytes, and return those."""
        unsent = _Unsent(0)
        while True:
            session.crc32c = extend(session.crc32c, chunks)
            unsent.chunks.extend(chunks)
            if source.ended:
                break
            await self._put_chunk(session, unsent, unsent.size // CHUNK * CHUNK)
            chunks = await source.take(self._part_size)
        session.total = unsent.start + unsent.size
        whole = max(0, unsent.size - 1) // CHUNK * CHUNK
        if whole:
            await self._put_chunk(session, unsent, whole)
        return unsent

    async def _put_chunk(self, session: _Session, unsent: _Unsent, size: int) -> None:
        """Have the service take so many bytes, which stay ours until it says that it has them."""
        stop = unsent.start + size
        attempts = self._client.attempts(session.bucket, session.key)
        while unsent.start < stop:
            before = unsent.start
            try:
                response, _ = await self._send_bytes(session, _cut(unsent.chunks, stop - before), before, stop, "*")
            except TroveError as failure:
                await attempts.failed(failure)
                response, _ = await self._ask(session, "*")
            if response.status != _INCOMPLETE:
                raise BackendError(f"the service has made an object of {session.key!r} before it had all of its bytes")
            unsent.drop(_persisted(response))
            if unsent.start > before:
                attempts.succeeded()
            else:
                await attempts.failed(TransientError("the service takes none of the bytes that are sent"))

    async def _commit(self, session: _Session, rest: _Unsent) -> None:
        """Send the last bytes and have the object made."""
        total = session.total
        assert total is not None
        verify = ("x-goog-hash", f"crc32c={encode(session.crc32c)}")
        attempts = self._client.attempts(session.bucket, session.key)
        unsettled = False
        while True:
            try:
                response, answer = await self._send_bytes(
                    session, list(rest.chunks), rest.start, total, str(total), [verify]
                )
                if response.status == _INCOMPLETE:
                    rest.drop(_persisted(response))
                    raise TransientError("the service did not take all of the bytes that were sent")
                break
            except TroveError as failure:
                unsettled |= failure.ambiguous
                await attempts.failed(failure)
                response, answer = await self._ask_commit(session, str(total), unsettled)
                if response.status != _INCOMPLETE:
                    break
                rest.drop(_persisted(response))
        made = decode(answer)
        if not isinstance(made, dict):
            raise BackendError("the answer to an upload describes no object: is the endpoint Cloud Storage?")
        session.made = made
        await self._verify(session, made)

    async def _ask_commit(self, session: _Session, total: str, unsettled: bool) -> tuple[Response, bytes]:
        try:
            return await self._ask(session, total)
        except TroveError as error:
            error.ambiguous |= unsettled
            raise

    async def _verify(self, session: _Session, made: Mapping[str, Any]) -> None:
        found = crc32c_in(f"crc32c={made['crc32c']}" if "crc32c" in made else None)
        if found is not None and found != session.crc32c:
            # A service that compares had refused it; this one stored what nobody sent.
            generation = str(made.get("generation"))
            await self._objects.delete(session.bucket, session.key, DeleteOptions(if_match=generation))
            raise mismatch(session.key, session.crc32c, found)

    async def _send_bytes(
        self,
        session: _Session,
        chunks: Sequence[Chunk],
        start: int,
        stop: int,
        total: str,
        headers: Sequence[tuple[str, str]] = (),
    ) -> tuple[Response, bytes]:
        """Send bytes, once: after a failure the service is asked what it has."""
        span = f"{start}-{stop - 1}" if stop > start else "*"
        return await self._put(session, [("content-range", f"bytes {span}/{total}"), *headers], chunks, once=True)

    async def _ask(self, session: _Session, total: str) -> tuple[Response, bytes]:
        """Ask what the service has."""
        return await self._put(session, [("content-range", f"bytes */{total}")], (), once=False)

    async def _put(
        self, session: _Session, headers: Headers, chunks: Sequence[Chunk], *, once: bool
    ) -> tuple[Response, bytes]:
        try:
            return await self._client.upload(
                "PUT", session.bucket, session.key, [], headers, chunks,
                accepts=(_INCOMPLETE,), target=session.target, once=once,
            )  # fmt: skip
        except NotFoundError as error:
            raise BackendError(f"the service has ended the upload's session: {error.message}") from error

    async def _cancel(self, session: _Session) -> None:
        """Give a session up; one that is not open is success."""
        try:
            await self._client.upload(
                "DELETE", session.bucket, session.key, [], [], (), accepts=(_CANCELLED,), target=session.target
            )
        except NotFoundError:
            return


def _persisted(response: Response) -> int:
    """Return how many bytes the service says that it has.

    Raises:
        BackendError: it says something else.
    """
    found = response.headers.get("range")
    if found is None:
        return 0
    unit, _, span = found.partition("=")
    first, _, last = span.partition("-")
    if unit != "bytes" or first != "0" or not last.isdigit():
        raise BackendError(f"the answer has a range that cannot be understood: {found!r}")
    return int(last) + 1


def _cut(chunks: Sequence[Chunk], size: int) -> list[Chunk]:
    """Return the first bytes, without a copy."""
    taken: list[Chunk] = []
    for chunk in chunks:
        if size <= 0:
            break
        taken.append(chunk if len(chunk) <= size else memoryview(chunk)[:size])
        size -= len(chunk)
    return taken
