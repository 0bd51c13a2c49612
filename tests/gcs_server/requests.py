"""Requests as in Google's documentation, and checks of the responses."""

from __future__ import annotations

import json
from typing import Any

import httpx

OBJECTS = "/storage/v1/b/my-bucket/o"
UPLOADS = "/upload/storage/v1/b/my-bucket/o"
QUANTUM = 256 * 1024


def related(metadata: dict[str, Any], data: bytes, content_type: str | None = None) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of an upload with ``uploadType=multipart``."""
    content_type = content_type or metadata.get("contentType", "text/plain")
    head = f"--separator\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(metadata)}\r\n"
    head += f"--separator\r\nContent-Type: {content_type}\r\n\r\n"
    body = head.encode() + data + b"\r\n--separator--"
    return body, {"Content-Type": "multipart/related; boundary=separator"}


async def started(client: httpx.AsyncClient, name: str, **parameters: str) -> str:
    """Begin a resumable upload and return its session's URI."""
    answer = await client.post(UPLOADS, params={"uploadType": "resumable", "name": name, **parameters})
    assert answer.status_code == 200, answer.text
    return answer.headers["Location"]


def assert_error(answer: httpx.Response, status: int, reason: str, message: str = "") -> None:
    """Check the shape of an error of the JSON API."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"].startswith("application/json")
    error = answer.json()["error"]
    assert error["code"] == status
    assert error["errors"][0]["reason"] == reason
    assert error["errors"][0]["domain"] == "global"
    assert error["errors"][0]["message"] == error["message"]
    assert message in error["message"]


def assert_xml_error(answer: httpx.Response, status: int, code: str) -> None:
    """Check the shape of an error of the XML API."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"].startswith("application/xml")
    assert f"<Error><Code>{code}</Code><Message>" in answer.text
