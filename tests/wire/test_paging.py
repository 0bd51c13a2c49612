"""Listings over several pages: all pages are read, and a listing that never ends is refused."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from trove_async.errors import BackendError
from trove_async.wire.paging import pages

pytestmark = pytest.mark.asyncio


async def listed(following: Mapping[str | None, str | None]) -> list[str | None]:
    asked: list[str | None] = []

    async def fetch(marker: str | None) -> str | None:
        asked.append(marker)
        return marker

    async for _ in pages(fetch, lambda page: following[page], "things"):
        pass
    return asked


async def test_every_page_is_requested_once() -> None:
    assert await listed({None: "a", "a": "b", "b": None}) == [None, "a", "b"]


@pytest.mark.parametrize(
    "following",
    [{None: "a", "a": "a"}, {None: "a", "a": "b", "b": "a"}, {None: "a", "a": "b", "b": "c", "c": "b"}],
)
async def test_a_repeated_marker_is_an_error(following: Mapping[str | None, str | None]) -> None:
    with pytest.raises(BackendError, match="the listing of things does not end"):
        await listed(following)
