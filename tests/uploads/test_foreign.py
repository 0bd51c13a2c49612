"""The commands of the foreign clients, and how they report failures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.uploads.foreign import browser, page_serving, tus_js, tuspy

pytestmark = pytest.mark.asyncio


async def test_a_failure_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "data.bin"
    file.write_bytes(b"data")
    async with page_serving() as url:  # it allows no POST
        async with tus_js(file, url, retryDelays=[]) as client:
            result = await client.result()
        assert (result["ok"], result["status"]) == (False, 405)
        async with tuspy(file, url) as client:
            result = await client.result()
        assert (result["ok"], result["status"]) == (False, 405)
    assert client.creations == 1


async def test_a_page_is_driven() -> None:
    async with page_serving() as url, browser() as page:
        await page.call("goto", url)
        assert await page.call("text", "title") == "uploads"
        with pytest.raises(AssertionError, match="evaluate"):
            await page.call("evaluate", "nothing.there")
