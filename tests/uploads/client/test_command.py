"""``trove upload``, as a process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from random import Random

import pytest

from tests.cli.shell import COMMAND_VARIABLES, heed_interrupts
from tests.uploads.client.serving import HOST, Peer
from trove_async.cli.app import run
from trove_async.testing.answers import Answer
from trove_async.testing.proxy import ConnectionFault, FaultProxy

SIZE = 4_000_000
CUT = 3_000_000


class Command:
    """Runs the command in a folder, which also keeps what it notes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in COMMAND_VARIABLES},
            "XDG_STATE_HOME": str(folder / "state"),
            "NO_PROXY": HOST,
        }

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        command = [sys.executable, "-m", "trove_async.cli", "upload", *arguments]
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *command,
            cwd=self.folder,
            env=self.environment,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            preexec_fn=heed_interrupts,
        )

    async def run(self, *arguments: str, stdin: bytes = b"") -> tuple[int | None, str, str]:
        """Run to the end; return the exit code and both outputs."""
        process = await self.start(*arguments)
        out, err = await process.communicate(stdin)
        return process.returncode, out.decode(), err.decode()

    @property
    def kept(self) -> list[Path]:
        return list((self.folder / "state").rglob("*.json"))


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(Random(1).randbytes(SIZE))
    return path


@pytest.mark.asyncio
async def test_files_and_standard_input(peer: Peer, command: Command, file: Path, data: bytes) -> None:
    (command.folder / "headers").write_text("X-One: 1\n\nX-Two: a: b\n")
    command.environment["TROVE_UPLOAD_HEADERS"] = "Authorization: Bearer secret"
    code, out, err = await command.run(
        *(file.name, "-", "missing", ".", peer.url, "--metadata", "owner=me", "--checksum", "sha256"),
        *("--header", "@headers", "--header", "X-Three: 3", "--chunk-size", "1000000", "--json"),
        stdin=data,
    )
    first, second = map(json.loads, out.splitlines())
    assert (code, err) == (
        1,
        "trove: missing: No such file or directory\ntrove: .: Is a directory; name the files in it\n",
    )
    assert peer.data(first["url"]) == peer.data(second["url"]) == data
    assert first == {"type": "upload", "file": file.name, "url": first["url"], "size": len(data), "resumed_at": 0}
    assert {request.header("authorization") for request in peer.proxy.requests} == {"Bearer secret"}
    assert [peer.sent("POST")[0].header(name) for name in ("x-one", "x-two", "x-three")] == ["1", "a: b", "3"]
    assert peer.sent("PATCH")[0].body_size == 1_000_000
    assert "owner" in (peer.sent("POST")[0].header("upload-metadata") or "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["file"], "at the end the URL"),
        (["http://example.com/"], "at the end the URL"),
        (["file", "ftp://example.com/"], "at the end the URL"),
        (["file", "http://example.com/", "--protocol", "x"], "the protocol is"),
        (["file", "http://example.com/", "--header", "secret"], "a header is 'Name: value'"),
    ],
)
def test_invalid_command_lines(arguments: list[str], words: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["upload", *arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert words in err
    assert "secret" not in err


@pytest.mark.asyncio
async def test_what_the_server_says_is_shown(peer: Peer, command: Command, file: Path) -> None:
    peer.proxy.answer(Answer(403, body=b"the quota is used up"), method="PATCH")
    code, out, err = await command.run(file.name, peer.url)
    assert (code, out) == (5, "")
    assert "the quota is used up" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(("number", "parallel"), [(signal.SIGKILL, 1), (signal.SIGKILL, 2), (signal.SIGINT, 1)])
@pytest.mark.asyncio
async def test_an_upload_that_was_interrupted_is_continued(
    peer: Peer, command: Command, large: Path, number: signal.Signals, parallel: int
) -> None:
    """No byte that the server has is sent again, but for those that it may have taken without a word."""
    arguments = [large.name, f"--parallel={parallel}", "--chunk-size=500000"]
    async with FaultProxy(HOST, peer.proxy.port) as network:
        url = f"{network.url()}/files/"
        network.inject(ConnectionFault(stall_up_after=CUT // parallel), times=None)
        process = await command.start(*arguments, url)
        await network.until(lambda network: any(strike.kind == "stall" for strike in network.strikes))
        process.send_signal(number)
        _, err = await process.communicate()
        assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
        if number == signal.SIGINT:
            assert b"large.bin: the same command continues the upload" in err
        assert len(command.kept) == 1
        network.clear()
        there = sum(len(upload.data) for upload in peer.store.uploads.values())
        assert there >= CUT // parallel - 600_000
        before = sum(request.body_size for request in peer.sent("PATCH"))
        created = len(peer.sent("POST"))
        code, out, _ = await command.run(*arguments, url, "--json")
    [record] = map(json.loads, out.splitlines())
    assert code == 0
    assert peer.data(record["url"]) == large.read_bytes()
    assert record["resumed_at"] >= there
    assert sum(request.body_size for request in peer.sent("PATCH")) - before == SIZE - record["resumed_at"]
    if parallel == 1:
        assert len(peer.sent("POST")) == created
    assert command.kept == []


@pytest.mark.asyncio
async def test_no_resume(peer: Peer, command: Command, large: Path) -> None:
    async with FaultProxy(HOST, peer.proxy.port, plan=[ConnectionFault(stall_up_after=CUT)]) as network:
        process = await command.start(large.name, f"{network.url()}/files/", "--no-resume")
        await network.until(lambda network: any(strike.kind == "stall" for strike in network.strikes))
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert (process.returncode, err) == (130, b"trove: interrupted\n")
    assert command.kept == []
