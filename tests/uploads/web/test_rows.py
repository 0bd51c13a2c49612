"""tus 1.0 and Resumable Uploads as a table, over sockets: each row is a request for a fresh upload of 10 bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

import trove_async as trove
from tests.uploads.serving import ServerName
from tests.uploads.web.apps import EVERY_SERVER, served
from tests.uploads.web.talking import BYTES, TUS, Peer, peer
from trove_async import Trove
from trove_async.uploads import TusOptions

pytestmark = pytest.mark.asyncio

SHORT: Final = ("uvicorn", "aiohttp")
"""Servers with all rows in a short run."""

SIZE: Final = 10
MOST: Final = 100

DRAFT: Final = {"Upload-Draft-Interop-Version": "8"}
PARTIAL: Final = {**DRAFT, "Content-Type": "application/partial-upload"}


@dataclass(frozen=True)
class Row:
    """A request and its answer.

    Attributes:
        method, path, headers, body: of the request; ``{upload}`` in the path is that of an upload of 10 bytes, of which
            4 are there; ``{done}`` is finished.
        status: of the answer.
        said: headers of the answer; None for one that it must not have.
        ends: the body of the answer ends with this.
    """

    method: str
    path: str
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    said: Mapping[str, str | None] = field(default_factory=dict)
    ends: bytes = b""


def chunked(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n"


def continued(offset: int | str, **headers: str) -> dict[str, str]:
    return {**BYTES, "Upload-Offset": str(offset), **headers}


CHUNKED: Final = {"Transfer-Encoding": "chunked"}

ROWS: Final[Mapping[str, Row]] = {
    "options": Row(
        "OPTIONS", "/files/", 204, said={"tus-version": "1.0.0", "tus-resumable": "1.0.0", "tus-max-size": "100"}
    ),
    "options of an upload": Row("OPTIONS", "{upload}", 204, said={"tus-version": "1.0.0"}),
    "create": Row("POST", "/files/", 201, {**TUS, "Upload-Length": "5"}, b"", {"tus-resumable": "1.0.0"}),
    "create without a slash": Row("POST", "/files", 201, {**TUS, "Upload-Length": "5"}, b""),
    "create with bytes": Row("POST", "/files/", 201, {**BYTES, "Upload-Length": "5"}, b"hello", {"upload-offset": "5"}),
    "create with some bytes": Row(
        "POST", "/files/", 201, {**BYTES, "Upload-Length": "5"}, b"he", {"upload-offset": "2"}
    ),
    "create, deferred": Row("POST", "/files/", 201, {**TUS, "Upload-Defer-Length": "1"}, b""),
    "create by another method": Row(
        "PUT", "/files/", 201, {**TUS, "X-HTTP-Method-Override": "POST", "Upload-Length": "5"}, b""
    ),
    "create without a version": Row(
        "POST", "/files/", 412, {"Upload-Length": "5"}, b"", {"tus-version": "1.0.0", "tus-resumable": "1.0.0"}
    ),
    "create too large": Row("POST", "/files/", 413, {**TUS, "Upload-Length": "101"}, b""),
    "create negative": Row("POST", "/files/", 400, {**TUS, "Upload-Length": "-1"}, b""),
    "create, no length": Row("POST", "/files/", 400, TUS, b""),
    "create, bad metadata": Row("POST", "/files/", 400, {**TUS, "Upload-Length": "5", "Upload-Metadata": "a %"}, b""),
    "head": Row("HEAD", "{upload}", 200, TUS, None, {"upload-offset": "4", "upload-length": "10"}),
    "head with a slash": Row("HEAD", "{upload}/", 200, TUS, None, {"upload-offset": "4"}),
    "head of nothing": Row("HEAD", "/files/nothing", 404, TUS, None, {"upload-offset": None}),
    "head of another version": Row("HEAD", "{upload}", 412, {"Tus-Resumable": "0.2.2"}, None, {"tus-version": "1.0.0"}),
    "a path below an upload": Row("HEAD", "{upload}/more", 404, TUS),
    "a path above": Row("HEAD", "/files/%2e%2e%2fsecret", 404, TUS),
    "a NUL in the path": Row("HEAD", "/files/a%00b", 404, TUS),
    "no UTF-8 in the path": Row("HEAD", "/files/%ff", 404, TUS),
    "append": Row("PATCH", "{upload}", 204, continued(4), b"45", {"upload-offset": "6"}),
    "append the end": Row("PATCH", "{upload}", 204, continued(4), b"456789", {"upload-offset": "10"}),
    "append in chunks": Row("PATCH", "{upload}", 204, continued(4, **CHUNKED), chunked(b"456"), {"upload-offset": "7"}),
    "append nothing": Row("PATCH", "{upload}", 204, continued(4), b"", {"upload-offset": "4"}),
    "append by another method": Row(
        "POST", "{upload}", 204, continued(4, **{"X-HTTP-Method-Override": "PATCH"}), b"4", {"upload-offset": "5"}
    ),
    "append elsewhere": Row("PATCH", "{upload}", 409, continued(5), b"5", ends=b"}"),
    "append before": Row("PATCH", "{upload}", 409, continued(0), b"0", ends=b"}"),
    "append too much": Row("PATCH", "{upload}", 413, continued(4), b"4567890"),
    "append too much in chunks": Row("PATCH", "{upload}", 413, continued(4, **CHUNKED), chunked(b"4567890")),
    "append another type": Row("PATCH", "{upload}", 415, {**TUS, "Upload-Offset": "4"}, b"4"),
    "append nowhere": Row("PATCH", "{upload}", 400, BYTES, b"4"),
    "append at +4": Row("PATCH", "{upload}", 400, continued("+4"), b"4"),
    "append to nothing": Row("PATCH", "/files/nothing", 404, continued(0), b"4"),
    "append with a checksum": Row(
        "PATCH", "{upload}", 204, continued(4, **{"Upload-Checksum": "crc32 rEAlKw=="}), b"45", {"upload-offset": "6"}
    ),
    "append with a wrong checksum": Row(
        "PATCH", "{upload}", 460, continued(4, **{"Upload-Checksum": "crc32 AAAAAA=="}), b"45"
    ),
    "append with an unknown checksum": Row(
        "PATCH", "{upload}", 400, continued(4, **{"Upload-Checksum": "sum AAAA"}), b"45"
    ),
    "append with a trailer that is not delivered": Row(
        "PATCH", "{upload}", 400, continued(4, Trailer="Upload-Checksum", **CHUNKED), chunked(b"45")
    ),
    "remove": Row("DELETE", "{upload}", 204, TUS),
    "remove nothing": Row("DELETE", "/files/nothing", 404, TUS),
    "read": Row("GET", "{done}", 200, said={"x-content-type-options": "nosniff"}, ends=b"hello"),
    "read what is not finished": Row("GET", "{upload}", 400, ends=b"}"),
    "another method": Row("PUT", "{upload}", 405, TUS, b"", {"allow": "HEAD, PATCH, GET, DELETE, OPTIONS"}),
    "a method of nobody": Row("PROPFIND", "/files/", 405, TUS, b""),
    "draft: create": Row("POST", "/files/", 201, {**DRAFT, "Upload-Complete": "?0"}, b"abc", {"upload-offset": "3"}),
    "draft: create all": Row(
        "POST", "/files/", 201, {**DRAFT, "Upload-Complete": "?1"}, b"abc", {"upload-complete": "?1"}
    ),
    "draft: head": Row("HEAD", "{upload}", 204, DRAFT, None, {"upload-offset": "4", "upload-complete": "?0"}),
    "draft: append": Row(
        "PATCH",
        "{upload}",
        204,
        {**PARTIAL, "Upload-Offset": "4", "Upload-Complete": "?0"},
        b"4",
        {"upload-offset": "5"},
    ),
    "draft: append elsewhere": Row(
        "PATCH",
        "{upload}",
        409,
        {**PARTIAL, "Upload-Offset": "5", "Upload-Complete": "?0"},
        b"4",
        {"upload-offset": "4"},
    ),
    "draft: too large": Row("POST", "/files/", 413, {**DRAFT, "Upload-Complete": "?1"}, bytes(101)),
    "draft: too large in chunks": Row(
        "POST", "/files/", 413, {**DRAFT, "Upload-Complete": "?1", **CHUNKED}, chunked(bytes(101))
    ),
    "draft: remove": Row("DELETE", "{upload}", 204, DRAFT),
}

FEW: Final = (
    *("options", "create without a slash", "create with bytes", "head", "append in chunks", "append elsewhere"),
    *("append too much in chunks", "no UTF-8 in the path", "remove", "read", "draft: append", "draft: too large"),
)
"""Rows that each server runs in a short run."""


async def check(client: Peer, row: Row, upload: str, done: str) -> None:
    said = await client.ask(row.method, row.path.format(upload=upload, done=done), row.headers, row.body)
    assert said.status == row.status, said
    for name, value in row.said.items():
        assert said.headers.get(name) == value, said
    assert said.body.endswith(row.ends)
    assert said.headers["access-control-allow-origin"] == "*"


async def run(
    server: ServerName, names: tuple[str, ...], log: Path, store: Trove | None = None, bucket: str | None = None
) -> None:
    options: TusOptions = {"max_size": MOST} if bucket is None else {"max_size": MOST, "bucket": bucket}
    async with served(server, store, log=log, **options) as port:
        for name in names:
            async with peer(port) as client:
                upload, done = await client.create(SIZE), await client.create(5)
                assert (await client.ask("PATCH", upload, continued(0), b"0123")).status == 204
                assert (await client.ask("PATCH", done, continued(0), b"hello")).status == 204
                try:
                    await check(client, ROWS[name], upload, done)
                except (AssertionError, OSError, EOFError) as error:
                    error.add_note(f"in the row {name!r}")
                    raise


@pytest.mark.parametrize("server", EVERY_SERVER)
async def test_each_server_runs_a_few_rows(server: ServerName, tmp_path: Path) -> None:
    await run(server, FEW, tmp_path / "log")


@pytest.mark.parametrize(
    "server", [pytest.param(each, marks=[] if each in SHORT else [pytest.mark.long]) for each in EVERY_SERVER]
)
async def test_all_rows(server: ServerName, tmp_path: Path) -> None:
    await run(server, tuple(ROWS), tmp_path / "log")


@pytest.mark.parametrize("dsn", ["memory://", "local://{root}?fsync=0"])
async def test_all_rows_with_a_store_of_objects(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    async with trove.open(dsn.format(root=tmp_path / "root")) as store:
        await store.create_bucket("uploads")
        await run("uvicorn", tuple(ROWS), tmp_path / "log", store, "uploads")
