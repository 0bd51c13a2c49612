"""An ASGI app that speaks as much of tus as a client needs, and keeps no byte."""

from __future__ import annotations

from typing import Any

__all__ = ["app"]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Serve one request, or the lifespan."""
    if scope["type"] == "lifespan":
        for _ in range(2):
            event = await receive()
            await send({"type": f"{event['type']}.complete"})
        return
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    headers = [(b"tus-version", b"1.0.0"), (b"location", b"/files/1")]
    if scope["method"] == "PATCH":
        headers.append((b"upload-offset", str(int(dict(scope["headers"])[b"upload-offset"]) + size).encode()))
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
