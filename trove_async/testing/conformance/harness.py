"""`Harness`: what the suite needs to know about a backend; the author of a driver writes only this."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from trove_async.driver import Driver
from trove_async.testing.conformance.stacks import ORDINARY

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
    """A backend under test. One instance is used for the complete run of the suite.

    `stacks` and `await_point_step` make an ordinary run shorter. With ``--trove-long`` the checks run through every
    stack and cancel at every await point.

    Attributes:
        name: the backend's column in the capability table.
        xfails: check id (``"C2"``, all tests of it), a test's name (``"test_c02_create_only_race"``) or one of its
            cases (``"test_t09_other_delimiters[abc]"``) to the reason why the backend cannot pass it; shown in the
            table. A check that is named here and passes fails the run.
        part_size: the size of a part in the suite's uploads in bytes; at least ``limits.min_part_size``.
        outlives_process: True if another process sees the objects that this one stored.
        stores_in_process: True if the objects are in this process's memory; checks of memory bounds are then skipped.
        bulk_objects: the number of objects that the check of a listing's memory stores; 100,000 if storing is cheap.
            An ordinary run stores 5,000 at most.
        transfer_memory: the maximum memory of a put of any size, in bytes: part size times (concurrency + 1).
        settle_seconds: the maximum time in seconds that a service needs to carry out a request that was sent before a
            cancellation. Until then the checks of cancellation look again if they find a leftover.
        stacks: the names of the stacks of layers that the checks run through in an ordinary run. ``plain`` is enough
            for a service that answers each request in milliseconds: layers do not depend on the driver.
        await_point_step: 1 cancels at every await point, 5 at every fifth.
        storage_class: a class that is not the default; None if the backend has no classes.
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
    stacks: Sequence[str] = ORDINARY

    async def start(self) -> None:
        """Start the backend; called once, on the loop of the first test."""

    async def stop(self) -> None:
        """Stop the backend; called once, at the end."""

    @abstractmethod
    async def driver(self) -> Driver:
        """Return a new open driver; all of them see the same data. The caller closes it."""

    def dsn(self) -> str | None:
        """Return a DSN with which `trove_async.open`, here or in another process, sees the same data.

        None if there is none; checks that need one are then skipped.
        """
        return None

    def bad_dsns(self) -> Sequence[str]:
        """Return DSNs with wrong credentials; empty if the backend has no credentials."""
        return ()

    def dead_dsns(self) -> Sequence[str]:
        """Return DSNs of a server that does not answer, or of a root that does not exist."""
        return ()

    def bucket_name(self, number: int) -> str:
        """Return a valid bucket name, a different one for each number."""
        return f"conformance-{number}"

    @asynccontextmanager
    async def http(self, driver: Driver) -> AsyncIterator[HTTPClient]:
        """Yield a client for signed URLs of a driver; required if `PresignDriver` is declared."""
        raise NotImplementedError("the driver declares presign: the harness needs http()")
        yield

    async def residue(self) -> Sequence[str]:
        """Return a description of each leftover that a clean store must not have.

        Temporaries, parts without an upload, open handles, connections in use: whatever the backend can list. The
        suite calls it after each check, when no operation is under way.
        """
        return ()
