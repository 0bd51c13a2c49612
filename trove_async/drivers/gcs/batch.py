"""The batch endpoint: many requests in one (https://cloud.google.com/storage/docs/batch)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from email.message import Message
from typing import Final

from trove_async.drivers.gcs.client import Client, resource_path
from trove_async.drivers.gcs.errors import refusal
from trove_async.errors import (
    BackendError,
    BucketNotFoundError,
    NotFoundError,
    ObjectNotFoundError,
    TroveError,
    UnauthenticatedError,
)
from trove_async.types import DeleteResult

__all__ = ["Batch"]

_NUMBER = re.compile(r"(\d+)>?\s*\Z")
_STATUS = re.compile(rb"HTTP/1\.\d (\d{3})\b")
_END: Final = b"\r\n\r\n"


class Batch:
    """Deletions of one bucket's objects.

    Args:
        client: sends the requests.
        bucket: of the objects.
        alone: deletes one object, for what a batch could not: with all the attempts that a single request has.
    """

    def __init__(self, client: Client, bucket: str, alone: Callable[[str], Awaitable[None]]) -> None:
        self._client = client
        self._bucket = bucket
        self._alone = alone

    async def delete(self, keys: Sequence[str]) -> dict[str, DeleteResult]:
        """Delete up to a hundred objects; return a result for each.

        Raises:
            BucketNotFoundError: there is no such bucket.
            TroveError: nothing could be tried.
        """
        boundary = f"batch_{secrets.token_hex(16)}"
        content = b"".join(self._call(boundary, number, key) for number, key in enumerate(keys))
        content += f"--{boundary}--\r\n".encode()
        response, answer = await self._client.batch(content, f"multipart/mixed; boundary={boundary}", self._bucket)
        told = _answers(response.headers.get("content-type", ""), answer)
        results = {}
        for number, key in enumerate(keys):
            results[key] = await self._result(key, told.get(number))
        return results

    def _call(self, boundary: str, number: int, key: str) -> bytes:
        target = self._client.target(f"/storage/v1{resource_path(self._bucket, key)}")
        return (
            f"--{boundary}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
            f"Content-ID: <{boundary}+{number}>\r\n\r\nDELETE {target} HTTP/1.1\r\nContent-Length: 0\r\n\r\n\r\n"
        ).encode()

    async def _result(self, key: str, told: tuple[int, dict[str, str], bytes] | None) -> DeleteResult:
        if told is not None:
            status, headers, content = told
            if status < 300:
                return DeleteResult(key)
            error = refusal(self._bucket, key, status, headers, content)
            if isinstance(error, BucketNotFoundError):
                raise error
            if isinstance(error, ObjectNotFoundError):
                return DeleteResult(key)
            unclear = error.retryable or isinstance(error, UnauthenticatedError) or type(error) is NotFoundError
            if not unclear:
                return DeleteResult(key, error)
        try:
            await self._alone(key)
        except BucketNotFoundError:
            raise
        except TroveError as error:
            return DeleteResult(key, error)
        return DeleteResult(key)


def _answers(content_type: str, content: bytes) -> dict[int, tuple[int, dict[str, str], bytes]]:
    """Return status, headers and body of each answer, by the number of its request.

    Raises:
        BackendError: it is no answer of the batch endpoint.
    """
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_boundary()
    if boundary is None:
        raise BackendError("the answer to a batch has no parts: is the endpoint Cloud Storage?")
    found = {}
    for part in content.split(b"--" + boundary.encode())[1:]:
        if part.startswith(b"--"):
            break
        outer, _, inner = part.removeprefix(b"\r\n").partition(_END)
        number = _NUMBER.search(_headers(outer).get("content-id", ""))
        head, _, body = inner.partition(_END)
        status = _STATUS.match(head)
        if number is not None and status is not None:
            found[int(number[1])] = (int(status[1]), _headers(head), body.removesuffix(b"\r\n"))
    return found


def _headers(head: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n"))
    return {name.strip().lower(): value.strip() for name, colon, value in lines if colon}
