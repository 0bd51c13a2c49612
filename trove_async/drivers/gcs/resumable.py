"""Resumable uploads: one session, in chunks, which goes on from what the service has after a request fails.

https://cloud.google.com/storage/docs/performing-resumable-uploads

The last request is the commit, and small: it brings the last 256 KiB at most, with the checksum of all.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from trove_async.body import Body, Chunk, Piece, loaded
from trove_async.driver import DeleteOptions, PutOptions
from trove_async.drivers.gcs.checksums import crc32c_of, encode, extend, mismatch
from trove_async.drivers.gcs.client import Client, Headers, Query
from trove_async.drivers.gcs.documents import ambiguous_if_malformed, decode, resource
from trove_async.drivers.gcs.objects import Objects
from trove_async.drivers.gcs.settings import CHUNK
from trove_async.errors import BackendError, ConflictError, TransientError, TroveError
from trove_async.types import ObjectInfo
from trove_async.wire.fields import required
from trove_async.wire.multipart import Upload
from trove_async.wire.transport import Response

__all__ = ["ResumableUpload"]

_INCOMPLETE: Final = 308
_CANCELLED: Final = 499
_GONE: Final = (404, 410)
"""Statuses of a session that does not exist any more, whatever the body: the upload has to begin anew."""

_PERSISTED: Final = re.compile(r"bytes=0-(\d{1,19})", re.ASCII)
_TARGET: Final = re.compile(r"[\x21-\x7e]+")


class _Unsent:
    """The bytes that the service may not have yet.

    Attributes:
        start: the offset in the object of the first of them.
    """

    def __init__(self) -> None:
        self.start = 0
        self._chunks: deque[Chunk] = deque()

    @property
    def stop(self) -> int:
        """The offset in the object after the last byte."""
        return self.start + sum(map(len, self._chunks))

    def append(self, chunks: Sequence[Chunk]) -> None:
        """Add the next bytes of the object."""
        self._chunks.extend(chunks)

    def until(self, offset: int) -> list[Chunk]:
        """Return the bytes before an offset, without a copy."""
        taken: list[Chunk] = []
        size = offset - self.start
        for chunk in self._chunks:
            if size <= 0:
                break
            taken.append(chunk if len(chunk) <= size else memoryview(chunk)[:size])
            size -= len(chunk)
        return taken

    def drop(self, offset: int) -> None:
        """Forget the bytes before an offset.

        Raises:
            BackendError: they were forgotten before, and cannot be sent again.
        """
        if not self.start <= offset <= self.stop:
            raise BackendError(f"the service has {offset} bytes of the upload; it said before that it has {self.start}")
        count = offset - self.start
        self.start = offset
        while count:
            chunk = self._chunks.popleft()
            if len(chunk) > count:
                self._chunks.appendleft(memoryview(chunk)[count:])
            count -= min(count, len(chunk))


class ResumableUpload(Upload[int]):
    """One session. Its parts are sent one after the other.

    Args:
        client: sends the requests.
        objects: describe the object, and delete it if it was stored wrong.
        bucket, key, body, options: of the put.
        conditions: parameters; they hold when the session begins and when the object is made.
    """

    def __init__(
        self,
        client: Client,
        objects: Objects,
        bucket: str,
        key: str,
        *,
        body: Body,
        options: PutOptions,
        conditions: Query,
    ) -> None:
        self._client = client
        self._objects = objects
        self._bucket = bucket
        self._key = key
        self._body = body
        self._attributes = options.attributes
        self._conditions = conditions
        self._target = ""
        self._unsent = _Unsent()
        self._crc32c = 0

    def __str__(self) -> str:
        return f"a session that uploads {self._key!r} to bucket {self._bucket!r}"

    async def begin(self) -> None:
        """Open the session."""
        described = self._objects.resource_of(self._key, self._attributes, self._body.known_checksum)
        query = self._objects.upload_query("resumable") + self._conditions
        headers = [("content-type", "application/json; charset=utf-8")]
        content = [json.dumps(described).encode()]
        response, _ = await self._client.upload("POST", self._bucket, self._key, query, headers, content)
        self._target = self._target_of(required(response.headers, "location", "Cloud Storage"))

    def _target_of(self, location: str) -> str:
        """Return path and query of the session's URL.

        Its host is the endpoint's: the service knows nothing of a proxy or gateway before it.
        """
        try:
            url = urlsplit(location)
        except ValueError:
            url = urlsplit("")
        if not url.path.startswith("/") or not _TARGET.fullmatch(target := f"{url.path}?{url.query}"):
            raise BackendError(f"the answer that opens a session has a location that is not a URL: {location[:80]!r}")
        return target if url.path.startswith(f"{self._client.prefix}/") else self._client.prefix + target

    async def send(self, number: int, pieces: Sequence[Piece]) -> int:
        """Send the next bytes, but keep the last up to 256 KiB of them, which may be the last of the object."""
        chunks = await loaded(pieces)
        self._crc32c = extend(self._crc32c, chunks)
        unsent = self._unsent
        unsent.append(chunks)
        await self._send_until(unsent.start + max(0, unsent.stop - unsent.start - 1) // CHUNK * CHUNK)
        return sum(map(len, chunks))

    async def _send_until(self, stop: int) -> None:
        """Send the bytes before an offset, and keep those that the service does not confirm."""
        unsent = self._unsent
        attempts = self._client.retries.of_step()
        while (before := unsent.start) < stop:
            try:
                response, _ = await self._send_bytes(unsent.until(stop), before, stop, "*")
            except TroveError as failure:
                await attempts.failed(failure)
                response, _ = await self._ask("*")
            if response.status != _INCOMPLETE:
                raise BackendError("the service made an object before it had all of its bytes", ambiguous=True)
            unsent.drop(_persisted(response))
            if unsent.start > before:
                attempts.succeeded()
            else:
                await attempts.failed(TransientError("the service takes none of the bytes that are sent"))

    async def complete(self, parts: Sequence[int]) -> ObjectInfo:
        """Send the last bytes and have the object made."""
        unsent = self._unsent
        total = unsent.stop
        checked = ("x-goog-hash", f"crc32c={encode(self._crc32c)}")
        attempts = self._client.retries.of_step()
        unsettled = False
        while True:
            try:
                response, answer = await self._send_bytes(
                    unsent.until(total), unsent.start, total, str(total), [checked]
                )
                if response.status == _INCOMPLETE:
                    raise TransientError("the service did not take all of the bytes that were sent")
            except TroveError as failure:
                unsettled |= failure.ambiguous
                failure.ambiguous = unsettled
                await attempts.failed(failure)
                response, answer = await self._ask(str(total), unsettled=unsettled)
            if response.status != _INCOMPLETE:
                return await self._made(answer, total)
            unsent.drop(_persisted(response))

    async def _made(self, answer: bytes, total: int) -> ObjectInfo:
        """Return the object that the session became, as the answer describes it."""
        with ambiguous_if_malformed():
            made = resource(decode(answer))
        info = self._objects.written(self._key, total, made, self._attributes, self._body.computed)
        self.completed = True
        found = crc32c_of(made.get("crc32c"))
        if found is not None and found != self._crc32c:
            # A service that compares would have refused it; this one stored other bytes than were sent.
            await self._objects.delete(self._bucket, self._key, DeleteOptions(if_match=info.etag))
            raise mismatch(self._key, self._crc32c, found)
        return info

    async def find(self, parts: Sequence[int]) -> ObjectInfo | None:
        """Return the object if the session says that it has become one."""
        total = sum(parts)
        response, answer = await self._ask(str(total))
        return None if response.status == _INCOMPLETE else await self._made(answer, total)

    async def abort(self) -> None:
        """Give the session up."""
        await self._client.upload(
            "DELETE", self._bucket, self._key, [], [], (), accepts=(_CANCELLED, *_GONE), target=self._target
        )

    async def _send_bytes(
        self, chunks: Sequence[Chunk], start: int, stop: int, total: str, headers: Sequence[tuple[str, str]] = ()
    ) -> tuple[Response, bytes]:
        """Send bytes, once: after a failure the service is asked what it has."""
        span = f"{start}-{stop - 1}" if stop > start else "*"
        return await self._put([("content-range", f"bytes {span}/{total}"), *headers], chunks, once=True)

    async def _ask(self, total: str, *, unsettled: bool = False) -> tuple[Response, bytes]:
        """Ask what the service has; if the object may exist already, errors are ambiguous."""
        try:
            return await self._put([("content-range", f"bytes */{total}")], (), once=False)
        except TroveError as error:
            error.ambiguous |= unsettled
            raise

    async def _put(self, headers: Headers, chunks: Sequence[Chunk], *, once: bool) -> tuple[Response, bytes]:
        response, answer = await self._client.upload(
            "PUT", self._bucket, self._key, [], headers, chunks,
            accepts=(_INCOMPLETE, *_GONE), target=self._target, once=once,
        )  # fmt: skip
        if response.status in _GONE:
            raise ConflictError(
                "the service ended the session of the upload: send the body again", status=response.status
            )
        return response, answer


def _persisted(response: Response) -> int:
    """Return how many bytes the service says that it has.

    Raises:
        BackendError: it says something else.
    """
    found = response.headers.get("range")
    if found is None:
        return 0
    span = _PERSISTED.fullmatch(found)
    if span is None:
        raise BackendError(f"the answer has a range that is not one of an upload: {found[:80]!r}")
    return int(span[1]) + 1
