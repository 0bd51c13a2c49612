"""Proof of access: which bytes of content a caller must know, and the answer from them.

A proof is the HMAC-SHA-384 of the request's id and of the bytes of its ranges, keyed by its nonce. Whoever has only
some of the content fails with the probability that one of the ranges is not within it: with 8 random ranges,
having half of a large file passes 1 time in 256.
"""

from __future__ import annotations

import hmac
import os
import secrets
import struct
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Final, cast

import anyio.to_thread

from trove_async.body import Body, BodyLike
from trove_async.cancellation import CLEANUP_TIMEOUT, finish, to_the_end
from trove_async.errors import BodySizeError, InvalidArgumentError
from trove_async.managed.resources import PutResponse, RequestResponse
from trove_async.paths import local_path
from trove_async.reader import ObjectReader

__all__ = ["NONCE_BYTES", "choose_ranges", "new_put_response", "prove"]

NONCE_BYTES: Final = 32
_RANGES: Final = 8
_LONGEST: Final = 1024
_HEAD: Final = struct.Struct(">QQ")

Ranges = Sequence[tuple[int, int]]


def choose_ranges(length: int, below: Callable[[int], int] = secrets.randbelow) -> tuple[tuple[int, int], ...]:
    """Return random ranges of content, in order, as offset and length.

    Content of up to 8 KiB is one range. Of longer content there are 8 ranges of 1 KiB, each of which begins at any byte
    with the same probability, and goes on at the first byte where the content ends: it is then given as two.

    Args:
        length: of the content, bytes.
        below: returns a random number from 0 to below its argument.
    """
    if length <= _RANGES * _LONGEST:
        return ((0, length),)
    ranges = []
    for _ in range(_RANGES):
        start = below(length)
        size = min(_LONGEST, length - start)
        ranges.append((start, size))
        if size < _LONGEST:
            ranges.append((0, _LONGEST - size))
    return tuple(sorted(ranges))


def prove(request_id: str, nonce: bytes, ranges: Ranges, chunks: Sequence[bytes]) -> str:
    """Return a proof, in lower-case hex.

    Args:
        request_id, nonce, ranges: of the request.
        chunks: the bytes of each range.
    """
    mac = hmac.new(nonce, request_id.encode(), "sha384")
    for span, chunk in zip(ranges, chunks, strict=True):
        mac.update(_HEAD.pack(*span))
        mac.update(chunk)
    return mac.hexdigest()


async def new_put_response(request: RequestResponse, source: BodyLike | ObjectReader) -> PutResponse:
    """Answer a request for a proof of access.

    Args:
        request: what ``put_for_…_request`` has returned.
        source: the content; as for `Trove.put`, or a reader of an object. Of bytes, paths, files that can seek, and
            readers only the ranges of the request are read; anything else is read up to the end of the last one. A file
            is read from its current position, which does not change.

    Raises:
        BodySizeError: the source is shorter than the content.
        BodyTypeError: it is no body.
    """
    if not isinstance(request, RequestResponse):
        raise InvalidArgumentError(f"a request is a RequestResponse, not of type {type(request).__name__}")
    chunks = await _read(source, request.ranges)
    for (start, size), chunk in zip(request.ranges, chunks, strict=True):
        if len(chunk) != size:
            raise BodySizeError(f"the source has fewer than the {start + size} bytes that the request asks for")
    return PutResponse(request.request_id, prove(request.request_id, request.nonce, request.ranges, chunks))


async def _read(source: BodyLike | ObjectReader, ranges: Ranges) -> list[bytes]:
    """Return the bytes of each range; fewer where the source is too short."""
    if isinstance(source, ObjectReader):
        return await _read_object(source, ranges)
    if isinstance(source, os.PathLike):
        path = local_path(source)
        return await _in_thread(lambda: _read_path(path, ranges))
    if _can_seek(source):
        file = cast("BinaryIO", source)
        return await _in_thread(lambda: _read_file(file, ranges))
    body = Body(source)
    if (buffer := body.buffer) is not None:
        return [bytes(buffer[start : start + size]) for start, size in ranges]
    try:
        await body.prepare()
        return await _read_stream(body, ranges)
    finally:
        await finish(body.aclose(), timeout=CLEANUP_TIMEOUT, leftover="the source of a proof")


async def _in_thread(function: Callable[[], list[bytes]]) -> list[bytes]:
    """Call a function in a thread; a cancellation waits until it returns."""
    reading = anyio.to_thread.run_sync(function)
    return await to_the_end(reading, timeout=CLEANUP_TIMEOUT, leftover="a thread that reads the source of a proof")


async def _read_object(reader: ObjectReader, ranges: Ranges) -> list[bytes]:
    chunks = []
    for start, size in ranges:
        await reader.seek(start)
        chunks.append(await reader.read(size))
    return chunks


def _read_path(path: str, ranges: Ranges) -> list[bytes]:
    with open(path, "rb") as file:
        return _read_file(file, ranges)


def _can_seek(source: object) -> bool:
    seekable = getattr(source, "seekable", None)
    return callable(seekable) and hasattr(source, "tell") and seekable() is True


def _read_file(file: BinaryIO, ranges: Ranges) -> list[bytes]:
    begin = file.tell()
    try:
        return [_read_at(file, begin + start, size) for start, size in ranges]
    finally:
        file.seek(begin)


def _read_at(file: BinaryIO, position: int, size: int) -> bytes:
    file.seek(position)
    chunks = bytearray()
    while len(chunks) < size and (chunk := file.read(size - len(chunks))):
        chunks += chunk
    return bytes(chunks)


async def _read_stream(body: Body, ranges: Ranges) -> list[bytes]:
    """Keep the bytes of the ranges, of a source that is read in order."""
    found = [bytearray() for _ in ranges]
    end = max(start + size for start, size in ranges)
    position = 0
    if end == 0:
        return [b"" for _ in ranges]
    async for chunk in body:
        view: Any = memoryview(chunk)
        for kept, (start, size) in zip(found, ranges, strict=True):
            kept += view[max(0, start - position) : max(0, start + size - position)]
        position += len(chunk)
        if position >= end:
            break
    return [bytes(kept) for kept in found]
