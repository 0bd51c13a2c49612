"""Stores on the project's own server, as the tests of the driver open them: whatever they did, nothing may be left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import trove_async as trove
from tests.payload import pattern
from trove_async.drivers.gcs.driver import GCSDriver
from trove_async.drivers.gcs.settings import CHUNK
from trove_async.testing.answers import Answer
from trove_async.testing.gcs import GCSServer

__all__ = ["MIN_PART", "PART", "busy", "driver_of", "json_error", "opened", "pattern", "xml_error"]

PART: Final = CHUNK
MIN_PART: Final = 64 * 1024


def driver_of(store: trove.Trove) -> GCSDriver:
    """Return the driver of a store."""
    return trove.unwrap(store.driver, GCSDriver)


def busy(store: trove.Trove) -> int:
    """Return how many connections carry a request or an answer."""
    return driver_of(store).busy_connections


@asynccontextmanager
async def opened(server: GCSServer, endpoint: str | None = None, **settings: Any) -> AsyncIterator[trove.Trove]:
    """Open a store, and see at its end that every connection was given back.

    Args:
        server: what it talks to.
        endpoint: the URL of a proxy before it; None for the server's own.
        settings: parameters; None takes one of those below away.
    """
    chosen: dict[str, Any] = {
        "endpoint": endpoint or server.url,
        "access_token": server.issue_token(),
        "part_size": PART,
        "min_part_size": MIN_PART,
        **settings,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    async with trove.open(f"gcs://{server.project}/", **given) as store:
        yield store
        assert busy(store) == 0


def json_error(status: int, reason: str, message: str = "no reason", headers: dict[str, str] | None = None) -> Answer:
    """Return an error as the JSON API says it."""
    body = (
        f'{{"error": {{"code": {status}, "message": "{message}", '
        f'"errors": [{{"reason": "{reason}", "message": "{message}", "domain": "global"}}]}}}}'
    )
    return Answer(status, {"Content-Type": "application/json; charset=UTF-8", **(headers or {})}, body.encode())


def xml_error(status: int, code: str, message: str = "no reason", headers: dict[str, str] | None = None) -> Answer:
    """Return an error in the form of the XML API."""
    body = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Answer(status, {"Content-Type": "application/xml; charset=UTF-8", **(headers or {})}, body.encode())
