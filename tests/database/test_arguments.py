"""Arguments of a wrong type: refused before any I/O, with an error that says what to write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from trove_async.database import Database, connect
from trove_async.errors import InvalidArgumentError, InvalidDSNError


async def _async_unit(_connection: object) -> None: ...


def _wrong(value: Any) -> Any:
    return value


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("call", "expected_message"),
    [
        (lambda db: db.write(_async_unit), "a unit of work is called and not awaited: write a plain function"),
        (lambda db: db.read(_async_unit), "a unit of work is called and not awaited: write a plain function"),
        (lambda db: db.write("DELETE"), "a unit of work is a function of a connection, not 'DELETE'"),
        (lambda db: db.leases.acquire("gc", owner="a", seconds="30"), "above 0 and below 1e9, not '30'"),
        (lambda db: db.leases.acquire("", owner="a", seconds=30), "the name of a lease is text that is not empty"),
        (lambda db: db.leases.acquire("gc", owner="a\0", seconds=30), "the owner of a lease is text .* without NUL"),
        (lambda db: db.leases.acquire("\ud800", owner="a", seconds=30), r"lone surrogates; not '\\ud800'"),
        (lambda db: db.lock("a\ud800").__aenter__(), r"the name of a lock is text .* surrogates; not 'a\\ud800'"),
        (lambda db: db.notify("jobs", 42), "the payload of a notification is a str, not int"),
    ],
)
async def test_what_is_refused(
    tmp_path: Path, call: Callable[[Database], Awaitable[object]], expected_message: str
) -> None:
    async with connect(f"sqlite:///{tmp_path}/state.db") as db:
        with pytest.raises(InvalidArgumentError, match=expected_message):
            await call(db)


def test_what_is_no_url(tmp_path: Path) -> None:
    with pytest.raises(InvalidDSNError, match=r"the URL of a database is a str such as .*, not PosixPath"):
        connect(_wrong(tmp_path / "state.db"))
