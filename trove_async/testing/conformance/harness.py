"""`Harness`: what the suite needs to know about a backend; the author of a driver writes only this."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from trove_async.driver import Driver
from trove_async.testing.conformance.stacks import STACKS

__all__ = ["HTTPClient", "HTTPResponse", "Harness"]


class HTTPResponse(Protocol):
    """A response, such as `httpx.Response`."""

    @property
    def status_code(self) -> int:
        """The status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; names are case-insensitive."""

    @property
    def content(self) -> bytes:
        """The body."""


class HTTPClient(Protocol):
    """A plain HTTP client, such as `httpx.AsyncClient`, without knowledge of the backend's API."""

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> HTTPResponse:
        """Send a request and read the complete response."""


class Harness(ABC):
    """A backend under test. One instance is used for the whole run of the suite.

    `stacks` and `await_point_step` make an ordinary run shorter. With ``--trove-long`` the checks run through every
    stack and cancel at every await point.

    Attributes:
        name: the backend's column in the capability table.
        xfails: check id (``"C2"``, all tests of it), a test's name (``"test_c02_create_only_race"``) or one of its
            cases (``"test_t09_other_delimiters[abc]"``) to the reason why the backend cannot meet it; shown in the
            table. One that is named here and passes nevertheless fails the run.
        part_size: bytes of a part in the suite's uploads; at least ``limits.min_part_size``.
        outlives_process: True if another process sees what this one stored.
        stores_in_process: True if this process holds the objects, so that its memory says nothing of bounds.
        bulk_objects: how many objects the check of a listing's memory stores; 100,000 where storing is cheap. An
            ordinary run stores 5,000 at most.
        transfer_memory: bytes of memory that one put may take whatever its size: part size times (concurrency + 1).
        settle_seconds: how long a service may take at most to carry out what was sent before a cancellation. Until then
            the checks of cancellation look again when they find what must not stay.
        stacks: the names of the stacks of layers that the checks run through. Plainly is enough for a service that
            answers each request in milliseconds: layers do not know what they wrap.
        await_point_step: 1 cancels at every await point, 5 at every fifth.
        storage_class: one that is not the default; None if the backend has no classes.
    """

    name: str
    xfails: Mapping[str, str] = {}
    part_size: int = 64 * 1024
    outlives_process: bool = True
    stores_in_process: bool = False
    bulk_objects: int = 100_000
    transfer_memory: int = 64 * 1024 * 1024
    storage_class: str | None = "STANDARD_IA"
    settle_seconds: float = 0.0
    await_point_step: int = 1
    stacks: Sequence[str] = tuple(STACKS)

    async def start(self) -> None:
        """Get the backend ready; called once, on the loop of the first test."""

    async def stop(self) -> None:
        """Take it down; called once, at the end."""

    @abstractmethod
    async def driver(self) -> Driver:
        """Return a new driver that is open; every one of them sees the same data. The caller closes it."""

    def dsn(self) -> str | None:
        """Return a DSN with which `trove_async.open`, here or in another process, sees the same data.

        None if there is none; checks that need one are then left out.
        """
        return None

    def bad_dsns(self) -> Sequence[str]:
        """Return DSNs whose credentials are wrong; empty where there are no credentials."""
        return ()

    def dead_dsns(self) -> Sequence[str]:
        """Return DSNs of a server that does not answer, or of a root that does not exist."""
        return ()

    def bucket_name(self, number: int) -> str:
        """Return a valid bucket name, another for each number."""
        return f"conformance-{number}"

    @asynccontextmanager
    async def http(self, driver: Driver) -> AsyncIterator[HTTPClient]:
        """Yield a client for signed URLs of a driver; needed where `PresignDriver` is declared."""
        raise NotImplementedError("the driver declares presign: the harness needs http()")
        yield

    async def residue(self) -> Sequence[str]:
        """Return a description of each thing that a clean store must not hold.

        Temporaries, parts of no upload, open handles, connections in use: whatever the backend lets
        one see. The suite asks after each check of atomicity and cancellation, when nothing is under way.
        """
        return ()
