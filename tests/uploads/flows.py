"""Requests for an `UploadHandler` whose bodies do what a test says; without sockets and servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.uploads.memory_store import MemoryStore, PlainStore
from trove_async.types import EMPTY
from trove_async.uploads import DataStore, Hooks, Locker, Request
from trove_async.uploads.handler import UploadHandler
from trove_async.uploads.lockers.memory import MemoryLocker
from trove_async.uploads.protocol.messages import Settings
from trove_async.uploads.receiving import RequestBody
from trove_async.web.asgi import ClientGoneError
from trove_async.web.http import join_headers
from trove_async.web.objects import Answer

BYTES = "application/offset+octet-stream"
GONE = ClientGoneError()


class Stall:
    """A place in a body at which no byte comes; `reached` is set there, and `go` lets the body go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go = asyncio.Event()


class Trailers(dict[str, str]):
    """The trailers of a body, by names in lower case."""


Part = bytes | Stall | Exception | Trailers
"""What a body does next."""


class Script:
    """A `BodySource` that yields bytes, stalls, and raises."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = [part for part in parts if not isinstance(part, Trailers)]
        self._trailers = next((part for part in parts if isinstance(part, Trailers)), Trailers())
        self.reads = 0

    @property
    def trailers(self) -> Mapping[str, str]:
        return EMPTY if self._parts else self._trailers

    async def read(self) -> bytes:
        self.reads += 1
        await asyncio.sleep(0)
        while self._parts:
            match self._parts[0]:
                case Stall() as stall:
                    stall.reached.set()
                    await stall.go.wait()
                    self._parts.pop(0)
                case Exception() as error:
                    raise error
                case bytes() as chunk:
                    self._parts.pop(0)
                    return chunk
        return b""


class Reply:
    """An answer, easier to look at."""

    def __init__(self, answer: Answer, source: Script, body: RequestBody) -> None:
        self.answer = answer
        self.status = answer.status
        self.headers = {name.lower(): value for name, value in answer.headers}
        self.reads = source.reads
        self.body = body

    @property
    def problem(self) -> dict[str, Any]:
        """The problem details of an error."""
        assert isinstance(self.answer.body, bytes)
        assert self.headers["content-type"] == "application/problem+json"
        found: dict[str, Any] = json.loads(self.answer.body)
        return found

    @property
    def upload_id(self) -> str:
        """The id in Location."""
        return self.headers["location"].removeprefix("/files/")


class Flow:
    """A handler, and the requests to it."""

    def __init__(
        self,
        store: DataStore | None = None,
        *,
        hooks: Hooks | None = None,
        settings: Settings | None = None,
        locker: Locker | None = None,
        trailers: bool = False,
        **options: float,
    ) -> None:
        self._store = MemoryStore() if store is None else store
        self.locker = locker or MemoryLocker(timeout=5)
        self.handler = UploadHandler(self._store, locker=self.locker, hooks=hooks, settings=settings, **options)
        self._trailers = trailers

    @property
    def store(self) -> PlainStore:
        """The store in memory."""
        assert isinstance(self._store, PlainStore)
        return self._store

    async def send(
        self,
        method: str,
        upload_id: str | None = None,
        *parts: Part,
        **headers: str | None,
    ) -> Reply:
        """Send a request of tus; underscores in names of headers stand for dashes, None leaves one out."""
        said = {"tus_resumable": "1.0.0", **headers}
        pairs = [(name.replace("_", "-"), value) for name, value in said.items() if value is not None]
        request = Request(method, join_headers(pairs), upload_id, "/files/", trailers=self._trailers)
        source = Script(parts)
        body = RequestBody(source, idle_timeout=None)
        try:
            return Reply(await self.handler.answer(request, body), source, body)
        finally:
            body.close()

    async def create(self, size: int | None = None, **headers: str | None) -> str:
        """Create an upload and return its id."""
        if size is not None:
            headers["upload_length"] = str(size)
        reply = await self.send("POST", None, **headers)
        assert reply.status == 201, reply.answer
        return reply.upload_id

    async def patch(self, upload_id: str, offset: int, *parts: Part, **headers: str | None) -> Reply:
        """Append to an upload."""
        return await self.send(
            "PATCH", upload_id, *parts, **{"content_type": BYTES, "upload_offset": str(offset), **headers}
        )

    async def partial(self, data: bytes, **headers: str | None) -> str:
        """Upload a part of a final upload and return its id."""
        upload_id = await self.create(len(data), upload_concat="partial", **headers)
        if data:
            assert (await self.patch(upload_id, 0, data)).status == 204
        return upload_id

    async def final(self, *partial_ids: str, **headers: str | None) -> Reply:
        """Create a final upload."""
        urls = " ".join(f"/files/{each}" for each in partial_ids)
        return await self.send("POST", None, **{"upload_concat": f"final;{urls}", **headers})
