"""An error is freed with its last reference, and with it the body that its traceback refers to.

An error whose traceback refers to a frame with a variable for the error would stay until a garbage collection. In an
outage these are all the bodies of some seconds.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref

import pytest

import trove_async as trove
from trove_async.errors import TransientError

pytestmark = pytest.mark.asyncio

DSNS = {
    "s3": "s3://k:s@us-east-1?endpoint={}",
    "azure": "azure://account:a2V5@?endpoint={}/account",
    "gcs": "gcs://project?endpoint={}&anonymous=1",
}


@pytest.mark.parametrize("driver", DSNS)
@pytest.mark.parametrize("answers", [True, False], ids=["500", "no server"])
async def test_an_error_is_freed_at_once(driver: str, answers: bool, delays: list[float]) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = await asyncio.start_server(answer, sock=listener.dup()) if answers else None
        async with trove.open(DSNS[driver].format(endpoint)) as t:
            gc.collect()
            gc.disable()
            try:
                try:
                    await t.head("bucket", "key")
                except TransientError as error:
                    raised = weakref.ref(error)
                else:
                    pytest.fail("no error was raised")
                await asyncio.sleep(0)
                assert raised() is None
            finally:
                gc.enable()
        if server is not None:
            server.close()
            await server.wait_closed()
    assert delays
