"""Requests for objects and their answers, for every server and framework alike.

An adapter hands over the request's headers (names in lower case) and its body, and sends the `Answer`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable
from dataclasses import dataclass, field
from math import ceil
from typing import Final

from trove_async.errors import (
    InvalidArgumentError,
    PreconditionFailedError,
    RangeNotSatisfiableError,
    TroveError,
    UnavailableError,
    UnsupportedError,
)
from trove_async.ranges import ByteRange
from trove_async.reader import ObjectReader
from trove_async.store import Trove
from trove_async.types import ObjectInfo, ObjectRef
from trove_async.web.http import (
    VERSION_HEADER,
    Headers,
    content_length,
    error_body,
    error_status,
    evaluate,
    is_conditional,
    not_modified_headers,
    object_headers,
    parse_range,
    range_applies,
    stored_headers,
    write_conditions,
)

__all__ = ["Answer", "Overrides", "delete_object", "error_answer", "get_object", "head_object", "put_object"]

_ATTEMPTS: Final = 3
_log = logging.getLogger("trove_async.web")


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be sent.

    Attributes:
        status: of the answer.
        headers: in the order in which they are sent; Content-Length is among them where it is due.
        body: what follows; a reader is to be read to its end, or closed.
    """

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | ObjectReader = b""


@dataclass(frozen=True, slots=True)
class Overrides:
    """What an answer says instead of what is stored; None for what is stored."""

    content_type: str | None = None
    content_disposition: str | None = None

    def describe(self, info: ObjectInfo) -> list[tuple[str, str]]:
        """Return the headers that describe an object."""
        return object_headers(info, content_type=self.content_type, content_disposition=self.content_disposition)


_AS_STORED: Final = Overrides()


async def get_object(store: Trove, ref: ObjectRef, headers: Headers, overrides: Overrides = _AS_STORED) -> Answer:
    """Answer a GET: the object or a range of it, 304, 412 or 416.

    Conditions are decided about the very object that is then sent, also when it is replaced meanwhile.

    Raises:
        TroveError: as of `Trove.get`; see `error_answer`.
    """
    wanted = parse_range(headers)
    if not is_conditional(headers):
        return await _open(store, ref, wanted, overrides)
    for _ in range(_ATTEMPTS):
        info = await store.head(ref.bucket, ref.key, version_id=ref.version_id)
        status = evaluate(headers, info)
        if status is not None:
            return _refusal(status, info)
        chosen = wanted if range_applies(headers, info) else None
        answer = await _open(store, ref, chosen, overrides)
        if not isinstance(answer.body, ObjectReader) or answer.body.info.etag == info.etag:
            return answer
        await answer.body.aclose()
    raise UnavailableError("the object is replaced again and again; try again", bucket=ref.bucket, key=ref.key)


async def head_object(store: Trove, ref: ObjectRef, headers: Headers, overrides: Overrides = _AS_STORED) -> Answer:
    """Answer a HEAD: what GET without a range answers, less the body."""
    info = await store.head(ref.bucket, ref.key, version_id=ref.version_id)
    status = evaluate(headers, info)
    if status is not None:
        return _refusal(status, info)
    return Answer(200, [*overrides.describe(info), ("Content-Length", str(info.size))])


async def _open(store: Trove, ref: ObjectRef, wanted: ByteRange | None, overrides: Overrides) -> Answer:
    try:
        reader = await store.get(ref.bucket, ref.key, range=wanted, version_id=ref.version_id)
    except RangeNotSatisfiableError as error:
        info = await store.head(ref.bucket, ref.key, version_id=ref.version_id)
        return error_answer(error, ("Content-Range", f"bytes */{info.size}"))
    headers = [*overrides.describe(reader.info), ("Content-Length", str(reader.size))]
    if wanted is None:
        return Answer(200, headers, reader)
    headers.append(("Content-Range", f"bytes {reader.start}-{reader.stop - 1}/{reader.info.size}"))
    return Answer(206, headers, reader)


def _refusal(status: int, info: ObjectInfo) -> Answer:
    if status == 304:
        return Answer(304, not_modified_headers(info))
    return error_answer(PreconditionFailedError("a condition of the request does not hold"))


async def put_object(store: Trove, ref: ObjectRef, headers: Headers, body: AsyncIterable[bytes]) -> Answer:
    """Answer a PUT: the body is streamed into the store, with the content headers that came with it.

    If-Match and If-None-Match are honoured. If the body raises, nothing is stored and the error passes.

    Raises:
        TroveError: as of `Trove.put`; see `error_answer`.
    """
    if "content-range" in headers:
        raise InvalidArgumentError("Content-Range: a PUT replaces the whole object (RFC 9110, section 14.5)")
    if_match, if_none_match = write_conditions(headers)
    info = await store.put(
        ref.bucket,
        ref.key,
        body,
        if_match=if_match,
        if_none_match=if_none_match,
        size=content_length(headers),
        **stored_headers(headers),
    )
    described = [(name, value) for name, value in object_headers(info) if name in ("ETag", VERSION_HEADER)]
    return Answer(200, [*described, ("Content-Length", "0")])


async def delete_object(store: Trove, ref: ObjectRef, headers: Headers) -> Answer:
    """Answer a DELETE, of an object or of a version; If-Match is honoured.

    Raises:
        TroveError: as of `Trove.delete`; see `error_answer`.
    """
    if_match, if_none_match = write_conditions(headers)
    if if_none_match is not None:
        raise UnsupportedError("If-None-Match is not honoured for DELETE; use If-Match")
    await store.delete(ref.bucket, ref.key, version_id=ref.version_id, if_match=if_match)
    return Answer(204)


def error_answer(error: TroveError, *headers: tuple[str, str], status: int | None = None) -> Answer:
    """Return the answer for an error: JSON with a code and a message. What is the server's fault is logged.

    Args:
        error: what went wrong.
        headers: sent besides.
        status: default the one that the error's class stands for.
    """
    status = status or error_status(error)
    if status >= 500:
        _log.error("a request was answered with %d: %s", status, error, exc_info=error)
    body = error_body(error)
    found = [*headers, ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    if error.retry_after is not None:
        found.append(("Retry-After", str(ceil(error.retry_after))))
    return Answer(status, found, body)
