"""The batch endpoint: many requests in one (https://cloud.google.com/storage/docs/batch)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from trove_async.drivers.gcs.addressing import resource_path
from trove_async.drivers.gcs.client import Client
from trove_async.drivers.gcs.errors import read_error
from trove_async.errors import (
    BackendError,
    BucketNotFoundError,
    ObjectNotFoundError,
    TroveError,
    UnauthenticatedError,
)
from trove_async.types import DeleteResult

__all__ = ["Batch"]

_BOUNDARY: Final = re.compile(r"""multipart/mixed\s*;.*\bboundary=(?:"([^"]+)"|([^\s;"]+))""", re.I)
_NUMBER: Final = re.compile(r"(\d{1,9})>?\s*\Z", re.ASCII)
_STATUS: Final = re.compile(rb"HTTP/1\.\d (\d{3})\b")
_END: Final = b"\r\n\r\n"

_Answer = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""


class Batch:
    """Deletions of one bucket's objects.

    Args:
        client: sends the requests.
        bucket: of the objects.
        alone: deletes one object that the batch did not, with all the attempts that a single request has.
    """

    def __init__(self, client: Client, bucket: str, alone: Callable[[str], Awaitable[None]]) -> None:
        self._client = client
        self._bucket = bucket
        self._alone = alone

    async def delete(self, keys: Sequence[str]) -> dict[str, DeleteResult]:
        """Delete up to a hundred objects; return a result for each.

        Raises:
            BucketNotFoundError: the bucket does not exist.
            TroveError: nothing could be tried.
        """
        boundary = f"batch_{secrets.token_hex(16)}"
        content = b"".join(self._call(boundary, number, key) for number, key in enumerate(keys))
        content += f"--{boundary}--\r\n".encode()
        response, answer = await self._client.batch(content, f"multipart/mixed; boundary={boundary}", self._bucket)
        answers = _answers(response.headers.get("content-type", ""), answer)
        return {key: await self._result(key, answers.get(number)) for number, key in enumerate(keys)}

    def _call(self, boundary: str, number: int, key: str) -> bytes:
        target = self._client.target(f"/storage/v1{resource_path(self._bucket, key)}")
        return (
            f"--{boundary}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
            f"Content-ID: <{boundary}+{number}>\r\n\r\nDELETE {target} HTTP/1.1\r\nContent-Length: 0\r\n\r\n\r\n"
        ).encode()

    async def _result(self, key: str, answer: _Answer | None) -> DeleteResult:
        if answer is not None:
            status, headers, content = answer
            if status < 300:
                return DeleteResult(key)
            found = read_error(self._bucket, key, status, headers, content)
            error = found.error
            if isinstance(error, BucketNotFoundError):
                raise error
            if not found.unclear:
                if isinstance(error, ObjectNotFoundError):
                    return DeleteResult(key)
                if not error.retryable and not isinstance(error, UnauthenticatedError):
                    return DeleteResult(key, error)
        try:
            await self._alone(key)
        except BucketNotFoundError:
            raise
        except TroveError as error:
            return DeleteResult(key, error)
        return DeleteResult(key)


def _answers(content_type: str, content: bytes) -> dict[int, _Answer]:
    """Return the answers, by the numbers of their requests.

    Raises:
        BackendError: it is not an answer of the batch endpoint.
    """
    boundary = _BOUNDARY.match(content_type)
    if boundary is None:
        raise BackendError("the answer to a batch has no parts: is the endpoint Cloud Storage?", ambiguous=True)
    found = {}
    for part in content.split(b"--" + (boundary[1] or boundary[2]).encode())[1:]:
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
