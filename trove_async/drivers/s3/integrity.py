"""Checksums that are sent with a body, for the service to verify before it stores anything."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final

import anyio.to_thread

from trove_async.body import Chunk
from trove_async.checksums import new_hasher

__all__ = ["checksum_headers", "document_headers", "part_checksum"]

_ON_LOOP: Final = 1024 * 1024


async def checksum_headers(algorithm: str, chunks: Sequence[Chunk]) -> list[tuple[str, str]]:
    """Return the header that tells the checksum of a body.

    Args:
        algorithm: ``md5`` for Content-MD5, ``none`` for no header, or one that S3 has a header for
            (https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html).
        chunks: the body. One that is large is read in a thread.
    """
    if algorithm == "none":
        return []
    if sum(map(len, chunks)) > _ON_LOOP:
        value = await anyio.to_thread.run_sync(_checksum, algorithm, chunks)
    else:
        value = _checksum(algorithm, chunks)
    return [("content-md5" if algorithm == "md5" else f"x-amz-checksum-{algorithm}", value)]


def document_headers(content: bytes) -> list[tuple[str, str]]:
    """Return the headers of an XML document that is sent; S3 wants Content-MD5 with some, and takes it with all."""
    return [("content-md5", _checksum("md5", [content])), ("content-type", "application/xml")]


def part_checksum(algorithm: str) -> str:
    """Return what to send with a part.

    An upload that was begun without naming an algorithm takes Content-MD5 with its parts, and no other.
    """
    return "none" if algorithm == "none" else "md5"


def _checksum(algorithm: str, chunks: Sequence[Chunk]) -> str:
    hasher = new_hasher(algorithm)
    for chunk in chunks:
        hasher.update(chunk)
    return base64.b64encode(bytes.fromhex(hasher.hexdigest())).decode()
