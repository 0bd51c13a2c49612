"""What a client that asks for an object and does not read it costs."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import stat
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from tests.s3 import stores
from tests.web.serving import aiohttp_serving, uvicorn_serving
from tests.web.sites import FRAMEWORKS, aiohttp_site, starlette_site
from trove_async.driver import GetOptions
from trove_async.layers import LayerDriver
from trove_async.reader import ObjectReader, StreamWrapper
from trove_async.wire.response import Response

pytestmark = pytest.mark.asyncio

MOST = 512 * 1024
DATA = bytes(range(256)) * (16 * 4096)
LOOKS = 20
BUCKET = "slow-clients"


class Taken:
    """How many bytes this process has taken from a store."""

    count = 0


def counting(taken: Taken) -> type[LayerDriver]:
    class Counted(StreamWrapper):
        async def read(self, size: int) -> bytes:
            chunk = await super().read(size)
            taken.count += len(chunk)
            return chunk

    class Counting(LayerDriver):
        async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
            reader = await super().get(bucket, key, options)
            reader.wrap(Counted)
            return reader

    return Counting


@asynccontextmanager
async def opened(kind: str, root: Path, taken: Taken, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[trove.Trove]:
    """Open a store with an object of 16 MiB."""
    if kind == "local":
        context: Any = trove.open(f"local://{root}", layers=[counting(taken)])
    else:
        context = stores.opened("moto")
    async with context as store:
        with contextlib.suppress(trove.BucketAlreadyExistsError):
            await store.create_bucket(BUCKET)
        await store.put(BUCKET, "k", DATA)
        if kind == "s3":
            add = Response._add

            def count(self: Response, data: bytes) -> bool:
                taken.count += len(data)
                return add(self, data)

            monkeypatch.setattr(Response, "_add", count)
        yield store
        await store.delete(BUCKET, "k")


@asynccontextmanager
async def served(framework: str, store: trove.Trove) -> AsyncIterator[int]:
    if framework == "starlette":
        async with uvicorn_serving(starlette_site(store, {}, {}, BUCKET)) as port:
            yield port
    else:
        async with aiohttp_serving(aiohttp_site(store, {}, {}, BUCKET)) as port:
            yield port


class Client:
    """Sends a request, and reads nothing of the answer until it is told to."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.sendall(b"GET /o/k HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    def in_kernel(self) -> int:
        """Return how many bytes of the answer have left the server, and not come to the client."""
        return _count(self._socket.fileno(), termios.FIONREAD) + sum(
            _count(descriptor, termios.TIOCOUTQ) for descriptor in self._other_ends()
        )

    def _other_ends(self) -> list[int]:
        return [number for number in map(int, os.listdir("/proc/self/fd")) if self._is_other_end(number)]

    def _is_other_end(self, descriptor: int) -> bool:
        try:
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                return False
            with socket.socket(fileno=os.dup(descriptor)) as end:
                return bool(end.getpeername() == self._socket.getsockname())
        except OSError:
            return False

    def read(self) -> bytes:
        with self._socket, self._socket.makefile("rb") as file:
            return file.read()


def _count(descriptor: int, question: int) -> int:
    return int.from_bytes(fcntl.ioctl(descriptor, question, bytes(4)), "little")


@pytest.mark.parametrize("kind", ["local", "s3"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_client_that_reads_nothing_costs_a_bounded_number_of_bytes(
    framework: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = Taken()
    async with opened(kind, tmp_path, taken, monkeypatch) as store, served(framework, store) as port:
        client = Client(port)
        held: list[int] = []
        unchanged = 0
        while unchanged < LOOKS:
            before = taken.count
            await asyncio.sleep(0.005)
            held.append(before - client.in_kernel())
            unchanged = unchanged + 1 if taken.count == before > 0 else 0
        assert taken.count < len(DATA)  # it does not all go into the kernel's buffers
        assert 0 < max(held) <= MOST, f"{max(held) // 1024} KiB"
        answer = await asyncio.to_thread(client.read)
    assert answer.endswith(b"\r\n\r\n" + DATA)
