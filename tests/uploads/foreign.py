"""Foreign clients of resumable uploads in processes of their own: their events, and their end.

The commands are in `tests.uploads.clients`; each says which events it prints. Every client is used in ``async with``,
which kills it at the end if it still runs::

    async with tus_js(file, f"{server.url}/files/", chunkSize=1 << 20) as client:
        await client.until(lambda event: event["event"] == "chunk" and event["accepted"] >= 3 << 20)
        await server.kill()
        await server.start()
        result = await client.result()
    assert result["ok"]
    assert client.creations == 1
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

from aiohttp import web

from tests.servers.folder import REPOSITORY
from tests.servers.install import which
from tests.servers.launch import tied
from tests.servers.process import ProcessId
from tests.servers.tus import PACKAGES
from tests.web.serving import aiohttp_serving

__all__ = ["Browser", "Event", "ForeignClient", "browser", "page_serving", "terminate", "tus_js", "tuspy"]

Event: TypeAlias = dict[str, Any]
"""``event`` is its name; the client's command describes the others."""

_COMMANDS: Final = Path(__file__).parent / "clients"
_LINE_LIMIT: Final = 1 << 24  # bytes: an answer may have a body
_SECONDS: Final = 120
"""The maximum time in seconds that a test waits for an event."""


class ForeignClient:
    """A client that runs.

    Attributes:
        events: all events so far.
        output: lines that it printed and that are no events, such as those of a crash.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.events: list[Event] = []
        self.output: list[str] = []
        self._process = process
        self._identity = ProcessId.of(process.pid)
        self._answers: dict[int, Event] = {}
        self._ended = False
        self._change = asyncio.Event()

    @property
    def creations(self) -> int:
        """The number of POST requests that it has sent, without those that stand for other methods."""
        sent = [event for event in self.events if event["event"] == "request" and event["method"] == "POST"]
        return sum(event.get("override") is None for event in sent)

    async def until(self, holds: Callable[[Event], object]) -> Event:
        """Return the first event, past or future, for which a condition holds.

        Raises:
            AssertionError: the client ended before, or it does not come within two minutes; the message has the last
                events and the output.
        """
        return await self._look(lambda: next((event for event in self.events if holds(event)), None))

    async def progress(self, size: int) -> Event:
        """Return the first event with which the server has accepted, or the client has sent, this many bytes."""
        return await self.until(lambda event: max(event.get("accepted", 0), event.get("sent", 0)) >= size)

    async def result(self) -> Event:
        """Return the result: ``ok`` and ``url``, or ``error`` and the ``status`` and ``body`` of the last answer.

        That of a browser's latest upload is returned. Raises as `until` does.
        """
        return await self.until(lambda event: event["event"] == "result")

    async def kill(self) -> None:
        """Kill the client, and wait until it is gone."""
        # `Process.kill` may take the exit code away from asyncio, which then logs a warning.
        self._identity.send(signal.SIGKILL)
        await self._process.wait()

    async def _look(self, find: Callable[[], Event | None]) -> Event:
        try:
            async with asyncio.timeout(_SECONDS):
                while (found := find()) is None:
                    assert not self._ended, f"the client has ended: {self.events[-5:]} {self.output[-20:]}"
                    await self._change.wait()
                return found
        except TimeoutError:
            raise AssertionError(f"not after {_SECONDS} s: {self.events[-5:]} {self.output[-20:]}") from None

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                self.output.append(line.decode(errors="replace").rstrip())
                continue
            if "id" in message and "event" not in message:
                self._answers[message["id"]] = message
            else:
                self.events.append(message)
            self._note_change()
        self._ended = True
        self._note_change()

    def _note_change(self) -> None:
        self._change.set()
        self._change = asyncio.Event()


class Browser(ForeignClient):
    """A page in headless Chromium: see ``clients/browser.mjs`` for the commands, and ``clients/page.mjs``."""

    _numbers = itertools.count(1)

    async def call(self, name: str, *arguments: Any) -> Any:
        """Call a command, such as ``call("click", "#pause")``, and return its result.

        Raises:
            AssertionError: it failed.
        """
        assert self._process.stdin is not None
        number = next(self._numbers)
        line = json.dumps({"id": number, "call": name, "arguments": arguments})
        self._process.stdin.write(f"{line}\n".encode())
        answer = await self._look(lambda: self._answers.pop(number, None))
        assert "error" not in answer, f"{name}: {answer['error']}"
        return answer["result"]

    async def upload(self, client: str, file: Path, endpoint: str, **options: Any) -> None:
        """Start an upload by ``tus`` (tus-js-client) or ``uppy``, and forget the events so far.

        An unfinished upload of the same file is resumed. ``options`` are those of tus-js-client.
        """
        self.events.clear()
        await self.call("upload", client, str(file), endpoint, options)

    async def reload(self) -> None:
        """Load the page again, as a user does in the middle of an upload."""
        await self.call("reload")


@asynccontextmanager
async def _running(client: type[ForeignClient], command: Sequence[str]) -> AsyncIterator[Any]:
    process = await asyncio.create_subprocess_exec(
        *tied(command),
        cwd=REPOSITORY,
        stdin=asyncio.subprocess.PIPE if client is Browser else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=_LINE_LIMIT,
    )
    running = client(process)
    reading = asyncio.ensure_future(running._read())
    try:
        yield running
        if process.stdin is not None:
            process.stdin.close()  # it closes the browser
            await process.wait()
    finally:
        await running.kill()
        await reading


def _node(script: str, *arguments: str) -> list[str]:
    return ["node", str(_COMMANDS / script), str(PACKAGES.folder), *arguments]


def _stored(previous: Path | None) -> list[str]:
    return [] if previous is None else ["--previous", str(previous)]


def tus_js(
    file: Path, endpoint: str, *, previous: Path | None = None, **options: Any
) -> AbstractAsyncContextManager[ForeignClient]:
    """Upload a file with tus-js-client in Node.

    Args:
        file: the file.
        endpoint: the URL at which uploads are created.
        previous: a file that keeps the URLs of uploads, to resume an unfinished one of the same file; None for none.
        options: those of tus-js-client, such as ``chunkSize=1000, parallelUploads=3, retryDelays=[0, 100],
            protocol="ietf-draft-05", uploadLengthDeferred=True, metadata={"filename": "a"}, headers={}``.
    """
    command = _node("tus_js.mjs", "upload", str(file), endpoint, "--options", json.dumps(options), *_stored(previous))
    return _running(ForeignClient, command)


def terminate(url: str, **options: Any) -> AbstractAsyncContextManager[ForeignClient]:
    """Terminate an upload with tus-js-client in Node; ``options`` are those of tus-js-client."""
    return _running(ForeignClient, _node("tus_js.mjs", "terminate", url, "--options", json.dumps(options)))


def tuspy(
    file: Path,
    endpoint: str,
    *,
    previous: Path | None = None,
    headers: Mapping[str, str] | None = None,
    asynchronous: bool = False,
    **options: Any,
) -> AbstractAsyncContextManager[ForeignClient]:
    """Upload a file with tuspy.

    Args:
        file: the file.
        endpoint: the URL at which uploads are created.
        previous: a file that keeps the URLs of uploads, to resume an unfinished one of the same file; None for none.
        headers: sent with every request.
        asynchronous: use its client on aiohttp.
        options: keyword arguments of its ``Uploader``, such as ``chunk_size=1000, upload_checksum=True, retries=3,
            retry_delay=1, metadata={"filename": "a"}``; the delay is a number of seconds.
    """
    command = [sys.executable, "-m", "tests.uploads.clients.tuspy_client", str(file), endpoint]
    command += ["--options", json.dumps(options), "--headers", json.dumps(headers or {}), *_stored(previous)]
    return _running(ForeignClient, [*command, "--asynchronous"] if asynchronous else command)


def browser() -> AbstractAsyncContextManager[Browser]:
    """Start headless Chromium with an empty page; go to another with ``await browser.call("goto", url)``."""
    return _running(Browser, _node("browser.mjs", which("chromium") or "chromium"))


@asynccontextmanager
async def page_serving() -> AsyncIterator[str]:
    """Serve an empty page, and yield its URL: another origin than that of a server on another port."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>uploads</title><body></body>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    async with aiohttp_serving(app) as port:
        yield f"http://127.0.0.1:{port}/"
