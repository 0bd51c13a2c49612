"""Apps that read a body and answer with its size, and with the process that has read it."""

from __future__ import annotations

import json
import os
from typing import Any

from aiohttp import web

__all__ = ["aiohttp_app", "app", "greeting_app", "lifespan"]


def _answer(size: int, greeting: str) -> bytes:
    return json.dumps({"size": size, "greeting": greeting, "pid": os.getpid()}).encode()


async def lifespan(receive: Any, send: Any) -> None:
    """Answer the events of an ASGI app's lifespan."""
    for event in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{event}"
        await send({"type": f"lifespan.{event}.complete"})


def greeting_app(greeting: str) -> Any:
    """Return an ASGI app."""

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": _answer(size, greeting)})

    return counting


app = greeting_app("")


def aiohttp_app(greeting: str = "") -> web.Application:
    """Return the same as an aiohttp application."""

    async def count(request: web.Request) -> web.Response:
        size = 0
        async for chunk in request.content.iter_any():
            size += len(chunk)
        return web.Response(body=_answer(size, greeting), content_type="application/json")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", count)
    return application
