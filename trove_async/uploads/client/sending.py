"""`Sending`: one upload of the server, from its creation to its last byte, through failures."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from trove_async.checksums import digest
from trove_async.driver.retry import Attempts, RetryPolicy
from trove_async.errors import (
    BackendError,
    ChecksumError,
    ContentTooLargeError,
    TransientError,
    TroveError,
    UploadNotFoundError,
    UploadOffsetError,
)
from trove_async.sources import Chunk
from trove_async.uploads.client.channel import NO_BODY, Channel, Outgoing, Reply, in_memory
from trove_async.uploads.client.contents import Content, Piece
from trove_async.uploads.client.dialects import Creation, Dialect, State
from trove_async.uploads.client.places import Place
from trove_async.uploads.client.progress import Meter
from trove_async.uploads.client.remote import RemoteUpload
from trove_async.uploads.protocol.fields import whole_number

__all__ = ["Sending", "Terms"]

_WITH_CREATION: Final = 256 * 1024
"""Bytes of an upload that is sent with its creation: so few that sending them again costs less than another request."""
_HASHED: Final = 8 * 1024 * 1024
"""Bytes of a request whose checksum is sent, unless the application chooses others: they are in memory meanwhile."""
_SMALLEST: Final = 64 * 1024
"""Bytes of a request that every server is expected to take; if 413 comes even so, the upload is too large."""
_FIRST_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of a request after the first 413. What answers it is a proxy with a limit of 100 MB or less, mostly."""
_PERMANENT: Final = frozenset(range(400, 500)) - {408, 423, 425, 429}

_log = logging.getLogger("trove_async.uploads")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How uploads are sent.

    Attributes:
        channel: to the server.
        dialect: the protocol.
        policy: how often what failed is tried again. Bytes that the server took meanwhile begin the count anew.
        limit: bytes of a request; None without a limit.
        checksum: algorithm of the checksums of requests; None to send none.
    """

    channel: Channel
    dialect: Dialect
    policy: RetryPolicy
    limit: int | None
    checksum: str | None


class Sending:
    """Sends one upload.

    Args:
        terms: how.
        content: what.
        creation: how it is created.
        meter: how far it is.
        noted: called with the URL when the upload was created, before its first byte is sent; with None when the
            server does not have it any more.
        url: of an upload that was begun before; None to create one.

    Attributes:
        resumed_at: bytes that the server had when it was first asked.
    """

    def __init__(
        self,
        terms: Terms,
        content: Content,
        creation: Creation,
        meter: Meter,
        noted: Callable[[str | None], Awaitable[None]],
        url: str | None = None,
    ) -> None:
        self.resumed_at = 0
        self._terms = terms
        self._channel = terms.channel
        self._dialect = terms.dialect
        self._content = content
        self._creation = creation
        self._meter = meter
        self._noted = noted
        self._place = None if url is None else self._channel.places.find(self._channel.places.endpoint, url)
        self._is_first_look = url is not None
        self._limit = terms.limit
        self._offset = 0
        self._is_known = False  # whether the offset is the server's
        self._is_said = False  # whether the server has said that it has everything
        self._is_declared = creation.size is not None  # whether the server knows the size
        self._best = 0  # the largest offset so far
        self._advanced = False  # whether it grew since the last failure
        self._disputes = 0  # refusals since then that another request may resolve
        self._anew = 0  # how often the upload was begun anew
        self._sent = 0  # bytes of the last request
        self._last: State | None = None

    @property
    def url(self) -> str | None:
        """The URL of the upload; None before it is created."""
        return None if self._place is None else str(self._place)

    async def run(self) -> RemoteUpload:
        """Send the upload to its end.

        Raises:
            TroveError: what cannot be resolved, or was not within the attempts of the policy.
        """
        attempts = Attempts(self._terms.policy)
        while True:
            try:
                finished = await self._step()
            except TroveError as error:
                await self._recover(error, attempts)
            else:
                if finished is not None:
                    return finished
                if self._advanced and self._is_known:
                    self._disputes = 0
                    attempts.succeeded()

    async def _step(self) -> RemoteUpload | None:
        """Send one request; return the upload when it is finished."""
        if self._place is None:
            return await self._create()
        if not self._is_known:
            await self._look(self._place)
            return None
        return await self._append(self._place)

    async def _recover(self, error: TroveError, attempts: Attempts) -> None:
        """Decide how it goes on after a failure, and wait for it; raise the error if it does not."""
        try:
            paid, self._advanced = self._advanced, False
            was_known, self._is_known = self._is_known, False
            if isinstance(error, UploadNotFoundError) and self._place is not None:
                await self._begin_anew(error)
            elif isinstance(error, ContentTooLargeError) and was_known:
                self._reduce(error)
            elif isinstance(error, UploadOffsetError | ChecksumError) and was_known and error.status is not None:
                self._disputes += 1
                if self._disputes >= self._terms.policy.attempts:
                    raise error
            else:
                await attempts.failed(error, paid=paid)
        finally:
            del error  # its traceback refers to this frame

    async def _begin_anew(self, error: UploadNotFoundError) -> None:
        self._anew += 1
        if self._anew >= self._terms.policy.attempts or not self._content.reaches(0):
            raise error
        _log.warning("%s: %s; it begins anew", self.url, error.message)
        self._place = self._last = None
        self._is_first_look = self._is_said = False
        self._is_declared = self._creation.size is not None
        self.resumed_at = self._offset = self._best = 0
        await self._noted(None)
        self._meter.lost(0)

    def _reduce(self, error: ContentTooLargeError) -> None:
        """Make requests smaller after 413: to the limit that the server says, or by half."""
        said = None if self._last is None else self._last.max_append
        if said and said < self._sent:
            self._limit = said
        elif self._sent // 2 >= _SMALLEST:
            self._limit = min(self._sent // 2, _FIRST_LIMIT)
        else:
            error.message += f"; it refuses even a request of {self._sent} bytes"
            raise error

    # Requests.

    async def _create(self) -> RemoteUpload | None:
        channel, creation = self._channel, self._creation
        body = NO_BODY
        size = self._content.size
        if size and size <= (self._bound(_WITH_CREATION) or 0) and self._takes_body_at_creation:
            body = self._metered((await self._content.piece(0, size)).body, 0)
        hints: list[str] = []

        def take(status: int, headers: Mapping[str, str]) -> None:
            if status == 104 and "location" in headers:
                hints.append(headers["location"])

        try:
            reply = await channel.exchange(
                "POST", channel.places.endpoint, self._dialect.create(creation, body.size), body, take
            )
            state = self._read(reply)
        except UploadNotFoundError as error:
            error.message = f"no uploads are created at {channel.places.endpoint}: check the URL"
            raise
        except TransientError:
            if hints:  # the answer was lost, and the upload was created all the same
                await self._created(channel.places.find(channel.places.endpoint, hints[0]))
            raise
        location = reply.headers.get("location")
        if location is None:
            raise BackendError(
                f"{channel.places.endpoint} answered a creation with {reply.status} and without Location: "
                f"are uploads of {self._dialect.name} created there?",
                status=reply.status,
            )
        place = channel.places.find(reply.place, location)
        if body.size == size and self._dialect.creates_whole and (state.offset or 0) == size:
            self._place = place
            self._settle(size)
            return self._finished(reply)
        await self._created(place)
        if state.offset is not None or not body.size:  # otherwise it is asked for
            self._settle(state.offset or 0)
        return None

    @property
    def _takes_body_at_creation(self) -> bool:
        simple = self._terms.checksum is None and not self._creation.is_partial
        return simple and self._dialect.creates_with_body

    async def _created(self, place: Place) -> None:
        self._place = place
        await self._noted(str(place))

    async def _look(self, place: Place) -> None:
        """Ask for the offset."""
        reply = await self._channel.exchange("HEAD", place, self._dialect.plain())
        state = self._read(reply)
        self._place = reply.place
        size, offset = self._content.size, state.offset
        if state.size is not None and size is not None and state.size != size:
            raise UploadNotFoundError(f"the upload has {state.size} bytes, and what is uploaded has {size}")
        if offset is None and state.is_complete:
            offset = size
        if offset is None:
            raise BackendError(f"{place} answered HEAD without Upload-Offset: is it an upload?", status=reply.status)
        if size is not None and offset > size:
            raise BackendError(f"the server has {offset} bytes of an upload of {size}", status=reply.status)
        if self._is_first_look:
            self.resumed_at = offset
            self._is_first_look = False
        self._is_said = bool(state.is_complete) or (state.is_complete is None and offset == size)
        self._settle(offset)

    async def _append(self, place: Place) -> RemoteUpload | None:
        """Send the bytes that the server lacks, or as many of them as a request takes.

        If it lacks none, the request asks for the answer to the last ones, which was lost.
        """
        start = self._offset
        piece = await self._content.piece(start, self._bound(None if self._terms.checksum is None else _HASHED))
        self._sent = piece.body.size
        body, checksum = await self._checked(piece)
        declared = None if self._is_declared or not piece.is_last else piece.end

        def take(status: int, headers: Mapping[str, str]) -> None:
            offset = whole_number(headers, "upload-offset")
            if status == 104 and offset is not None and start <= offset <= piece.end:
                self._advance(offset)

        headers = self._dialect.append(start, declared, is_last=piece.is_last, digest=checksum)
        reply = await self._channel.exchange("PATCH", place, headers, self._metered(body, start), take)
        self._place = reply.place
        is_confirmed = self._is_said and not piece.body.size
        if is_confirmed and reply.status in _PERMANENT:
            return self._finished(None)  # not every server gives the answer again
        state = self._read(reply)
        if is_confirmed or (piece.is_last and self._dialect.is_finished(state, piece.end)):
            self._settle(piece.end)
            return self._finished(reply)
        if state.offset is None:
            raise TransientError("the answer to PATCH has no Upload-Offset", status=reply.status)
        if state.offset > piece.end:
            raise BackendError(f"the server has {state.offset} bytes, and was sent {piece.end}", status=reply.status)
        if state.offset <= start:
            what = "took none of the bytes that it was sent" if piece.body.size else "does not complete the upload"
            raise TransientError(f"the server {what}", status=reply.status)
        self._settle(state.offset)
        return None

    def _read(self, reply: Reply) -> State:
        """Return what an answer says, or raise its error."""
        self._last = self._dialect.read(reply)
        reply.check()
        self._is_declared = self._is_declared or self._last.size is not None
        if self._last.max_append:
            self._limit = self._bound(self._last.max_append)
        return self._last

    def _settle(self, offset: int) -> None:
        """Take the server's offset."""
        if offset < self._offset:
            lost = self._offset - offset
            _log.warning("%s: the server has lost %d acknowledged bytes; they are sent again", self.url, lost)
            self._meter.lost(offset)
        self._advance(offset)
        self._offset = offset
        self._is_known = True
        self._meter.reached(offset)

    def _advance(self, offset: int) -> None:
        """Take in that the server has bytes; only those that it never had before count as progress."""
        if offset > self._best:
            self._best = offset
            self._advanced = True

    def _finished(self, reply: Reply | None) -> RemoteUpload:
        """Return the finished upload, with the server's last answer if there is one."""
        return RemoteUpload(
            url=self.url or "",
            offset=self._offset,
            size=self._offset,
            is_finished=True,
            resumed_at=self.resumed_at,
            answer=None if reply is None else reply.final(),
        )

    # Bodies.

    def _bound(self, limit: int | None) -> int | None:
        """Return the smaller one of a limit for requests and the current one."""
        return min((each for each in (limit, self._limit) if each is not None), default=None)

    async def _checked(self, piece: Piece) -> tuple[Outgoing, tuple[str, bytes] | None]:
        """Return the body of a piece and its checksum, which the server gets before the body."""
        algorithm = self._terms.checksum
        if algorithm is None:
            return piece.body, None
        async with aclosing(piece.body.chunks()) as source:
            chunks = [bytes(chunk) async for chunk in source]
        return in_memory(chunks), (algorithm, await digest(algorithm, chunks))

    def _metered(self, body: Outgoing, start: int) -> Outgoing:
        """Return a body that notes how far it was taken."""

        async def chunks() -> AsyncGenerator[Chunk, None]:
            position = start
            async with aclosing(body.chunks()) as source:
                async for chunk in source:
                    yield chunk
                    position += len(chunk)
                    self._meter.reached(position)

        return Outgoing(body.size, chunks)
