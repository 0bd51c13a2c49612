"""The files of forms, put as the frameworks give them."""

from __future__ import annotations

from tempfile import SpooledTemporaryFile

import httpx
import pytest
from aiohttp import BodyPartReader, web
from fastapi import UploadFile as FastAPIFile
from starlette.datastructures import UploadFile

import trove_async as trove
from tests.web.serving import aiohttp_serving
from trove_async.body import Body, BodyLike
from trove_async.errors import BodySourceError

pytestmark = pytest.mark.asyncio

DATA = bytes(range(256)) * 8192


def typed(part: BodyPartReader, file: UploadFile, other: FastAPIFile) -> list[BodyLike]:
    """Type-check: each of them is a body."""
    return [part, file, other]


@pytest.mark.parametrize("data", [b"", b"short", DATA], ids=len)
async def test_aiohttps_part_of_a_form(store: trove.Trove, data: bytes) -> None:
    async def upload(request: web.Request) -> web.Response:
        part = await (await request.multipart()).next()
        assert isinstance(part, BodyPartReader)
        info = await store.put("b", "k", part, size=len(data))
        return web.json_response({"size": info.size})

    app = web.Application()
    app.router.add_post("/", upload)
    async with aiohttp_serving(app) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        answer = await client.post("/", files={"file": ("a.bin", data)})
    assert answer.json() == {"size": len(data)}
    assert await store.read("b", "k") == data


@pytest.mark.parametrize("data", [b"", b"short", DATA], ids=len)
@pytest.mark.parametrize("end", [b"", b"\r", b"\r\n--", b"\r\n--boundar"])
async def test_a_form_that_breaks_off_replaces_nothing(store: trove.Trove, data: bytes, end: bytes) -> None:
    raised: list[trove.TroveError] = []

    async def upload(request: web.Request) -> web.Response:
        part = await (await request.multipart()).next()
        assert isinstance(part, BodyPartReader)
        with pytest.raises(BodySourceError) as caught:
            await store.put("b", "k", part)
        raised.append(caught.value)
        return web.Response()

    await store.put("b", "k", b"old")
    app = web.Application()
    app.router.add_post("/", upload)
    headers = {"Content-Type": "multipart/form-data; boundary=boundary"}
    form = b'--boundary\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + data + end
    async with aiohttp_serving(app) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert (await client.post("/", content=form, headers=headers)).status_code == 200
    assert "broke off" in str(raised[0])
    assert await store.read("b", "k") == b"old"


async def test_a_part_is_not_read_as_a_whole() -> None:
    class Part:
        async def read(self, *, decode: bool = False) -> bytes:
            raise AssertionError("it would all be in memory")

        async def read_chunk(self, size: int = 8192) -> bytes:
            chunk, self.left = self.left[:size], self.left[size:]
            return chunk

        left = DATA

    assert await Body(Part()).read_all() == DATA


@pytest.mark.parametrize("make", [UploadFile, FastAPIFile], ids=["starlette", "fastapi"])
async def test_starlettes_file_of_a_form(store: trove.Trove, make: type[UploadFile]) -> None:
    # As the parsers of forms make it: python-multipart is a dependency of neither framework.
    with SpooledTemporaryFile() as temporary:
        file = make(temporary, size=0, filename="a.bin")  # type: ignore[arg-type]
        await file.write(DATA)
        await file.seek(0)
        info = await store.put("b", "k", file)
    assert info.size == len(DATA)
    assert await store.read("b", "k") == DATA
