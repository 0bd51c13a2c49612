"""Requests that no client sends by mistake: none is a fault of the server, and none changes an upload."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.uploads.serving import ServerName
from tests.uploads.web.apps import EVERY_SERVER, served
from tests.uploads.web.talking import peer

pytestmark = pytest.mark.asyncio

SHORT: Final = ("uvicorn", "aiohttp")

_TUS: Final = "Tus-Resumable: 1.0.0"
_HEAD: Final = ("HEAD {upload} HTTP/1.1", _TUS)
_CREATE: Final = ("POST /files/ HTTP/1.1", _TUS, "Upload-Length: 1")
_APPEND: Final = (
    *("PATCH {upload} HTTP/1.1", _TUS, "Content-Type: application/offset+octet-stream"),
    *("Content-Length: 1", "Upload-Offset: 0"),
)

# Lines of a request, and its status; None where each server has its own way: 400 to 499, or the end of the connection.
ROWS: Final[Mapping[str, tuple[tuple[str, ...], int | None]]] = {
    "two offsets": ((*_APPEND, "Upload-Offset: 0"), 400),
    "two lengths": ((*_CREATE, "Upload-Length: 1"), 400),
    "two versions": ((*_HEAD, _TUS), 412),
    "two types": ((*_APPEND, "Content-Type: text/plain"), None),
    "a length that is no number": ((*_APPEND[:3], "Upload-Offset: 0", "Content-Length: x"), None),
    "a negative length": ((*_APPEND[:3], "Upload-Offset: 0", "Content-Length: -1"), None),
    "a length with a sign": ((*_APPEND[:3], "Upload-Offset: 0", "Content-Length: +1"), None),
    "two different lengths": ((*_APPEND, "Content-Length: 2"), None),
    "a name with a space": ((*_HEAD, "Upload Offset: 0"), None),
    "a NUL": ((*_APPEND[:-1], "Upload-Offset: 0\x00"), None),
    "Latin-1 in metadata": ((*_CREATE, "Upload-Metadata: n\xe4me YQ=="), None),
    "metadata of 100 KB": ((*_CREATE, "Upload-Metadata: n " + "A" * 100_000), None),
    "no HTTP": (("\x16\x03\x01\x02",), None),
}


@pytest.mark.parametrize(
    "server", [pytest.param(each, marks=[] if each in SHORT else [pytest.mark.long]) for each in EVERY_SERVER]
)
async def test_malformed_requests(server: ServerName, tmp_path: Path) -> None:
    async with served(server, log=tmp_path / "log") as port, peer(port) as client:
        path = await client.create(10)
        for name, (lines, status) in ROWS.items():
            async with peer(port) as wrong:
                request = "\r\n".join([lines[0].format(upload=path), "Host: x", *lines[1:], "", ""])
                found = 400
                with contextlib.suppress(EOFError, OSError):
                    await wrong.send_bytes(request.encode("latin-1") + b"0" * ("PATCH" in lines[0]))
                    found = (await wrong.answer(of_head="HEAD" in lines[0])).status
            assert found == status if status is not None else 400 <= found < 500, (name, found)
        async with peer(port) as again:
            assert await again.offset(path) == 0
