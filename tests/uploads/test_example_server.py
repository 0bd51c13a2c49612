"""The command of the example server: what it refuses, and that it serves with each HTTP server."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import pytest

from examples import tus_server
from tests.uploads.serving import ServerName, tus_server_process

TUS = {"Tus-Resumable": "1.0.0"}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--dsn", "local:///"], "root of the file system"),
        (["--dsn", "local:///srv/.."], "root of the file system"),
        (["--dsn", "file:///"], "root of the file system"),
        (["--token", "ä"], "the token has letters"),
        (["--workers", "2"], "need --locks or --database"),
        (["--workers", "2", "--locks", "locks", "--server", "aiohttp"], "no workers"),
        (["--locks", "locks", "--database", "postgresql://localhost/a"], "--locks or --database"),
    ],
)
def test_what_cannot_be_served_is_refused(
    arguments: list[str], reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def serve(*_: object) -> None:
        raise AssertionError("it was not refused")

    monkeypatch.setattr(tus_server, "serve", serve)
    monkeypatch.setattr(sys, "argv", ["tus_server", *arguments])
    with pytest.raises(SystemExit):
        tus_server.main()
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("a b.txt", "a b.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\files\\ä.txt", "ä.txt"),
        ("a\nb\0", "a_b_"),
        ("..", "file"),
        ("", "file"),
        ("x" * 200 + ".png", "x" * 96 + ".png"),
    ],
)
def test_the_name_of_a_file_becomes_a_part_of_a_key(said: str, name: str) -> None:
    assert tus_server.file_name(said) == name


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("server", "options"),
    [
        ("uvicorn", []),
        ("hypercorn", []),
        ("aiohttp", []),
        ("granian", []),
        ("uvicorn", ["--workers", "2"]),
        pytest.param("hypercorn", ["--workers", "2"], marks=pytest.mark.long),
        pytest.param("granian", ["--workers", "2"], marks=pytest.mark.long),
    ],
)
async def test_each_server_serves_uploads_and_the_page(server: ServerName, options: list[str], tmp_path: Path) -> None:
    dsn = f"local://{tmp_path}/store?create=1&fsync=0"
    more = [*options, "--locks", str(tmp_path / "locks")] if options else []
    async with (
        tus_server_process(server, dsn, tmp_path / "log", "--max-size", "1000", *more) as process,
        httpx.AsyncClient(base_url=process.url) as client,
    ):
        page = await client.get("/")
        assert page.status_code == 200
        assert "<h1>Uploads</h1>" in page.text
        script = await client.get("/page.js")
        assert "javascript" in script.headers["content-type"]
        said = {"Upload-Length": "1000", "Upload-Metadata": "filename YS9iLnR4dA=="}  # a/b.txt
        created = await client.post("/files/", headers=TUS | said)
        assert created.status_code == 201
        url = created.headers["location"]
        bytes_type = {"Content-Type": "application/offset+octet-stream"}
        sent = await client.patch(url, headers=TUS | bytes_type | {"Upload-Offset": "0"}, content=bytes(1000))
        assert sent.status_code == 204
        got = await client.get(url)
        assert got.content == bytes(1000)
        assert got.headers["content-disposition"] == 'inline; filename="a_b.txt"'
        assert got.headers["content-type"] == "text/plain"
        assert (await client.post("/files/", headers=TUS | {"Upload-Length": "1001"})).status_code == 413
    assert [path.name for path in (tmp_path / "store" / "uploads").glob("*/*.txt")] == ["b.txt"]
