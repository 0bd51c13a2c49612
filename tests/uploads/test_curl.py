"""Resumable Uploads for HTTP by hand, with curl, against the example server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.payload import pattern
from tests.uploads.processes import ServerProcess
from tests.uploads.serving import ServerName, tus_server_process

pytestmark = pytest.mark.asyncio

SIZE: Final = 1_000_000
HALF: Final = 400_000
VERSION: Final = "Upload-Draft-Interop-Version: 8"
PARTIAL: Final = "Content-Type: application/partial-upload"


class Said(NamedTuple):
    """An answer; the names of headers are in lower case."""

    status: int
    headers: dict[str, str]


async def curl(*arguments: str, headers: Sequence[str] = (), output: Path = Path("/dev/null")) -> list[Said]:
    """Run curl, and return all answers to the request, interim ones first."""
    sent = [part for header in headers for part in ("--header", header)]
    command = ["curl", "--silent", "--show-error", "--dump-header", "-", "--output", str(output), *sent, *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()
    assert process.returncode == 0, command
    answers = []
    for head in printed.decode().split("\r\n\r\n")[:-1]:
        first, *lines = head.split("\r\n")
        pairs = (line.partition(": ") for line in lines)
        answers.append(Said(int(first.split(" ")[1]), {name.lower(): value for name, _, value in pairs}))
    return answers


def url_in(process: ServerProcess, said: Said) -> str:
    return process.url + said.headers["location"]


async def content(url: str, folder: Path) -> bytes:
    await curl(url, output=folder / "got")
    return (folder / "got").read_bytes()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data.bin"
    path.write_bytes(pattern(SIZE))
    return path


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn", "granian", "aiohttp"])
async def test_uploads_by_hand(server: ServerName, file: Path, tmp_path: Path) -> None:
    dsn = f"local://{tmp_path}/store?create=1&fsync=0"
    async with tus_server_process(server, dsn, tmp_path / "log") as process:
        for version in ([VERSION], []):
            await in_one_request(process, server, version, file, tmp_path)
            await carefully(process, version, file, tmp_path)


async def in_one_request(
    process: ServerProcess, server: ServerName, version: list[str], file: Path, folder: Path
) -> None:
    headers = [*version, "Upload-Complete: ?1"]
    *interim, final = await curl("--data-binary", f"@{file}", f"{process.url}/files/", headers=headers)
    assert (final.status, final.headers["upload-complete"]) == (201, "?1")
    told = [said for said in interim if said.status == 104]
    # Only a client that names a version may get a 104, and only aiohttp sends one.
    assert len(told) == bool(version and server == "aiohttp")
    assert [said.headers["location"] for said in told] == [final.headers["location"]] * len(told)
    assert await content(url_in(process, final), folder) == pattern(SIZE)


async def carefully(process: ServerProcess, version: list[str], file: Path, folder: Path) -> None:
    """Create an upload without a body, send some of it, ask for the offset, and send the remainder."""
    *_, created = await curl(
        *("--request", "POST", f"{process.url}/files/"),
        headers=[*version, "Upload-Complete: ?0", f"Upload-Length: {SIZE}"],
    )
    assert (created.status, created.headers["upload-complete"]) == (201, "?0")
    url = url_in(process, created)
    (folder / "first").write_bytes(pattern(SIZE)[:HALF])
    appended = await append(url, folder / "first", 0, [*version, "Upload-Complete: ?0"])
    assert (appended.status, appended.headers["upload-offset"]) == (204, str(HALF))

    refused = await append(url, file, 0, [*version, "Upload-Complete: ?1"])
    assert (refused.status, refused.headers["upload-offset"]) == (409, str(HALF))

    [described] = await curl("--head", url, headers=version)
    assert (described.status, described.headers["upload-complete"]) == (204, "?0")
    offset = int(described.headers["upload-offset"])
    assert (offset, described.headers["upload-length"]) == (HALF, str(SIZE))
    (folder / "last").write_bytes(file.read_bytes()[offset:])
    finished = await append(url, folder / "last", offset, [*version, "Upload-Complete: ?1"])
    assert (finished.status, finished.headers["upload-complete"]) == (204, "?1")
    assert await content(url, folder) == pattern(SIZE)


async def append(url: str, file: Path, offset: int, headers: list[str]) -> Said:
    data = ["--request", "PATCH", "--data-binary", f"@{file}"]
    return (await curl(*data, url, headers=[*headers, PARTIAL, f"Upload-Offset: {offset}"]))[-1]
