"""`Channel`: requests to a server of uploads, with the application's headers, and their answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from trove_async.driver.retry import Attempts, RetryPolicy
from trove_async.errors import BackendError, TransientError, TroveError
from trove_async.uploads.client.answers import error_of
from trove_async.uploads.client.arguments import checked_headers
from trove_async.uploads.client.places import Place, Places
from trove_async.uploads.info import FinalAnswer
from trove_async.wire.transport import Response, Transport

if TYPE_CHECKING:
    from trove_async.sources import Chunk
    from trove_async.wire.protocol import OnInterim

__all__ = ["NO_BODY", "Channel", "HeaderSource", "Outgoing", "Reply", "in_memory", "tried"]

HeaderSource = Mapping[str, str] | Callable[[], Awaitable[Mapping[str, str]]]
"""Headers of the application; or an async function that returns them, which is called for each request."""

R = TypeVar("R")

_MOST_REDIRECTS: Final = 5
_MOST_CONTENT: Final = 1024 * 1024
_MOVED: Final = (307, 308)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The body of a request.

    Attributes:
        size: its bytes.
        chunks: returns them from the first on, each time it is called.
    """

    size: int
    chunks: Callable[[], AsyncGenerator[Chunk, None]]


def in_memory(chunks: Sequence[Chunk]) -> Outgoing:
    """Return a body of bytes in memory."""

    async def each() -> AsyncGenerator[Chunk, None]:
        for chunk in chunks:
            yield chunk

    return Outgoing(sum(map(len, chunks)), each)


NO_BODY: Final = in_memory(())


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Attributes:
        status, headers: names in lower case.
        content: the body; its beginning if it is an error's.
        place: where the request was answered, after redirects.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    place: Place

    def check(self) -> None:
        """Raise the error that the answer stands for, unless it is a success."""
        if not 200 <= self.status < 300:
            raise error_of(self.status, self.headers, self.content)

    def final(self) -> FinalAnswer:
        """Return it as the answer that finished an upload, for the application."""
        return FinalAnswer(self.status, tuple(self.headers.items()), self.content)


class Channel:
    """Sends requests, once each; only redirects, and 401 with headers that can be renewed, send them again.

    Args:
        transport: carries them.
        places: where they may be sent.
        headers: of the application, for the endpoint's origin alone.
    """

    def __init__(self, transport: Transport, places: Places, headers: HeaderSource) -> None:
        self.places = places
        self._transport = transport
        self._headers = headers

    async def exchange(
        self,
        method: str,
        place: Place,
        headers: list[tuple[str, str]],
        body: Outgoing = NO_BODY,
        on_interim: OnInterim | None = None,
    ) -> Reply:
        """Send a request and return the answer, whatever its status.

        Raises:
            UnavailableError, OperationTimeoutError, BackendError: as `Transport.send_stream`.
            UnavailableError: it is redirected to an origin that is not allowed.
        """
        renewed = not callable(self._headers)
        for _ in range(_MOST_REDIRECTS + 1):
            reply = await self._once(method, place, headers, body, on_interim)
            if reply.status == 401 and not renewed and self.places.trusts(place):
                renewed = True
            elif reply.status in _MOVED and "location" in reply.headers:
                place = self.places.find(place, reply.headers["location"])
            else:
                return reply
        raise BackendError(f"{self.places.endpoint.origin} redirects more than {_MOST_REDIRECTS} times: check the URL")

    async def _once(
        self, method: str, place: Place, headers: list[tuple[str, str]], body: Outgoing, on_interim: OnInterim | None
    ) -> Reply:
        sent = [*await self._own(place), *headers]
        async with aclosing(body.chunks()) as chunks:
            response = await self._transport.send_stream(
                place.origin, method, place.target, sent, chunks, body.size, on_interim=on_interim
            )
        return Reply(response.status, response.headers, await self._content(response), place)

    async def _own(self, place: Place) -> list[tuple[str, str]]:
        """Return the application's headers for a place.

        Raises:
            InvalidArgumentError: its function has returned what is invalid.
        """
        if not self.places.trusts(place):
            return []
        found = await self._headers() if callable(self._headers) else self._headers
        pairs = checked_headers(found)
        if self.places.authorization is not None and not any(name.lower() == "authorization" for name, _ in pairs):
            pairs.append(("Authorization", self.places.authorization))
        return pairs

    @staticmethod
    async def _content(response: Response) -> bytes:
        """Return the body of an answer; the status says enough if it is lost or very long."""
        try:
            return await response.read_all(_MOST_CONTENT)
        except (TransientError, BackendError):
            return b""


async def tried(policy: RetryPolicy, work: Callable[[], Awaitable[R]]) -> R:
    """Do what may be repeated, such as asking for an offset, until it succeeds or the policy ends it.

    Raises:
        TroveError: of the last attempt.
    """
    attempts = Attempts(policy)
    while True:
        try:
            return await work()
        except TroveError as error:
            await attempts.failed(error)
