"""Batches of calls of the JSON API (https://cloud.google.com/storage/docs/batch)."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from trove_async.testing.gcs.errors import ServiceError, invalid
from trove_async.testing.gcs.http import Request, Response
from trove_async.testing.gcs.multipart import Part, divided, split

__all__ = ["batch"]

_CALLS: Final = 100
_OUTER: Final = ("content-", "transfer-encoding", "expect", "connection", "host")


async def batch(request: Request, call: Callable[[Request], Response | Awaitable[Response]]) -> Response:
    """Answer ``POST /batch/storage/v1``: each call separately, in order.

    Raises:
        ServiceError: 400; it is not a batch, or it has more than 100 calls.
    """
    parts = split(request.body, request.header("content-type"))
    if not parts:
        raise invalid("Failed to parse batch request, error: 0 items parsed.", reason="badRequest")
    if len(parts) > _CALLS:
        raise invalid(
            f"The batch request contains {len(parts)} calls, at most {_CALLS} are allowed.", reason="badRequest"
        )
    boundary = f"batch_{secrets.token_urlsafe(24)}"
    pieces: list[bytes] = []
    for part in parts:
        response = await _answered(_inner(part, request), call)
        identity = part.headers.get("content-id", "")
        named = f"Content-ID: <response-{identity.strip('<>')}>\r\n" if identity else ""
        pieces += (f"--{boundary}\r\nContent-Type: application/http\r\n{named}\r\n".encode(), response, b"\r\n")
    pieces.append(f"--{boundary}--\r\n".encode())
    return Response(200, {"Content-Type": f"multipart/mixed; boundary={boundary}"}, b"".join(pieces))


def _inner(part: Part, outer: Request) -> Request:
    head, body = divided(bytes(part.body))
    lines = head.decode("utf-8", "replace").strip().splitlines()
    words = lines[0].split(" ")
    if len(words) not in (2, 3):
        raise invalid("Failed to parse batch request.", reason="badRequest")
    # A call inherits the headers of the batch, except those about the body, unless it has its own.
    headers = {name: value for name, value in outer.headers.items() if not name.startswith(_OUTER)}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if "host" in outer.headers:
        headers["host"] = outer.headers["host"]
    request = Request(words[0], words[1], headers)
    length = headers.get("content-length")
    if length is not None and not length.isdigit():
        raise invalid("Failed to parse batch request.", reason="badRequest")
    body = body.rstrip(b"\r\n") if length is None else body[: int(length)]
    request.chunks, request.size, request.complete = [body], len(body), True
    return request


async def _answered(request: Request, call: Callable[[Request], Response | Awaitable[Response]]) -> bytes:
    if request.query.get("alt") == "media" or not request.raw_path.startswith("/storage/v1/"):
        error = ServiceError(400, "badRequest", "A batch cannot have uploads, downloads or calls of other APIs.")
        response = Response(400, {"Content-Type": "application/json; charset=UTF-8"}, error.as_json())
    else:
        result = call(request)
        response = result if isinstance(result, Response) else await result
    phrase = HTTPStatus(response.status).phrase
    lines = [f"HTTP/1.1 {response.status} {phrase}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    lines.append(f"Content-Length: {len(response.body)}\r\n\r\n")
    return "\r\n".join(lines).encode() + bytes(response.body)
