"""Checksums that are sent with a body, which the service verifies before it stores anything."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from trove_async.body import Piece
from trove_async.checksums import digest

__all__ = ["checksum_headers", "document_headers", "part_checksum"]


async def checksum_headers(algorithm: str, chunks: Sequence[Piece]) -> list[tuple[str, str]]:
    """Return the header with the checksum of a body.

    Args:
        algorithm: ``md5`` for Content-MD5, ``none`` for no header, or an algorithm for which S3 has a header
            (https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html).
        chunks: the body. A large one is read in a thread.
    """
    if algorithm == "none":
        return []
    value = base64.b64encode(await digest(algorithm, chunks)).decode()
    return [("content-md5" if algorithm == "md5" else f"x-amz-checksum-{algorithm}", value)]


def document_headers(content: bytes) -> list[tuple[str, str]]:
    """Return the headers for an XML document; S3 requires Content-MD5 for some, and accepts it for all."""
    value = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
    return [("content-md5", value), ("content-type", "application/xml")]


def part_checksum(algorithm: str) -> str:
    """Return the checksum header for a part.

    An upload that was initiated without an algorithm accepts only Content-MD5 for its parts.
    """
    return "none" if algorithm == "none" else "md5"
