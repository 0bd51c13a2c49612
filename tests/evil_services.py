"""Answers of a broken or malicious service, and the errors that HTTP drivers raise for them.

A driver's tests derive a class from `EvilAnswers`, and define the fixtures ``target`` (see `tests.network_faults`),
``bucket`` and ``service``. Whatever a service sends, callers see only errors of the library.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Final

import pytest

import trove_async as trove
from tests.network_faults import Target
from trove_async.testing.answers import Answer, AnsweringProxy

__all__ = ["EvilAnswers"]

Operation = Callable[[trove.Trove, str], Awaitable[object]]

READS: Final[dict[str, Operation]] = {
    "head": lambda store, bucket: store.head(bucket, "key"),
    "read": lambda store, bucket: store.read(bucket, "key"),
    "range": lambda store, bucket: store.read(bucket, "key", range=(0, 4)),
    "end": lambda store, bucket: store.read(bucket, "key", range=(-2, None)),
}
OPERATIONS: Final[dict[str, Operation]] = {
    **READS,
    "put": lambda store, bucket: store.put(bucket, "key", b"data"),
    "put if none": lambda store, bucket: store.put(bucket, "key", b"data", if_none_match="*"),
    "copy": lambda store, bucket: store.copy(bucket, "key", bucket, "copy"),
    "delete": lambda store, bucket: store.delete(bucket, "key"),
    "list": lambda store, bucket: store.list(bucket).all(),
    "list buckets": lambda store, _: store.list_buckets(),
    "get tags": lambda store, bucket: store.get_tags(bucket, "key"),
    "get lifecycle": lambda store, bucket: store.get_lifecycle(bucket),
    "initiate": lambda store, bucket: store.initiate_multipart(bucket, "key"),
}
DOCUMENTS: Final = ("list", "list buckets", "get tags", "get lifecycle")

FIELDS: Final[dict[str, dict[str, str]]] = {
    "no ETag": {"ETag": "-"},
    "empty ETag": {"ETag": ""},
    "time that is none": {"Last-Modified": "0, 0"},
    "long time": {"Last-Modified": "x" * 5000},
    "time before the first": {"Last-Modified": "Mon, 01 Jan 0001 00:00:00 +0100"},
    "time after the last": {"Last-Modified": "Fri, 31 Dec 9999 23:59:59 -0100"},
    "time of a huge zone": {"Last-Modified": "Mon, 01 Jan 2001 00:00:00 +99999999999999999999"},
    "metadata that is no word": {"x-ms-meta-a": "=?UTF-8?B?!?=", "x-amz-meta-a": "=?nope?Q?=FF?="},
    "checksum without a value": {"x-ms-meta-trove_checksum": "sha256:", "x-amz-meta-trove-checksum": ":"},
}
RANGES: Final[dict[str, tuple[str, bytes]]] = {
    "other bytes": ("bytes 5-8/10", b"data"),
    "more bytes": ("bytes 0-9/10", b"0123456789"),
    "fewer bytes": ("bytes 0-1/10", b"01"),
    "bytes that are missing": ("bytes 0-3/10", b"01"),
    "bytes of an unknown size": ("bytes 0-3/*", b"data"),
    "inverted": ("bytes 9-5/10", b"data"),
    "negative": ("bytes 0--5/10", b"data"),
    "5000 digits": (f"bytes 0-{'9' * 5000}/10", b"data"),
    "another unit": ("lines 0-3/10", b"data"),
}
BODIES: Final[dict[str, bytes]] = {
    "nothing": b"",
    "half an element": b"<Error",
    "half a list": b"[",
    "a page": b"<html><body>no</body></html>",
    "another document": b"<Other/>",
    "deep XML": b"<a>" * 50_000,
    "deep lists": b"[" * 50_000 + b"]" * 50_000,
    "deep objects": b'{"error":' * 50_000,
    "a document type": b'<!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>',
    "null": b"null",
    "a number": b"1e400",
    "fields of other types": b'{"error": {"code": {}, "message": [], "errors": [1, {"reason": 5}]}, "items": 5}',
    "an error that is a list": b'{"error": [1]}',
    "no text": b"\xff\xfe\0\x01",
    "a long line": b"<Error><Code>" + b"x" * 50_000 + b"</Code></Error>",
}


async def attempt(operation: Operation, store: trove.Trove, bucket: str) -> trove.TroveError | None:
    """Return the error that an operation raises, None if it succeeds; an error outside the tree fails the test."""
    try:
        await operation(store, bucket)
    except trove.TroveError as error:
        return error
    return None


class EvilAnswers:
    """Answers that no healthy service gives.

    Attributes:
        own: headers that every answer of the service has.
    """

    own: ClassVar[Mapping[str, str]] = {}

    def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> Answer:
        """Return an answer of the service."""
        described = {"ETag": '"0x1"', "Last-Modified": "Wed, 01 Jan 2025 00:00:00 GMT", **self.own, **headers}
        return Answer(status, {name: value for name, value in described.items() if value != "-"}, body)

    @pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
    async def test_fields(self, target: Target, service: AnsweringProxy, fields: dict[str, str]) -> None:
        service.answer(self.answer(200, fields, b"data"), times=None)
        async with target.opened(service, attempts=1) as store:
            for operation in READS.values():
                await attempt(operation, store, "bucket")

    @pytest.mark.parametrize("found", RANGES.values(), ids=RANGES)
    async def test_ranges(self, target: Target, service: AnsweringProxy, found: tuple[str, bytes]) -> None:
        content_range, body = found
        service.answer(self.answer(206, {"Content-Range": content_range}, body), times=None)
        async with target.opened(service, attempts=1) as store:
            for name in ("read", "range"):
                assert await attempt(READS[name], store, "bucket") is not None, name

    async def test_a_complete_object_with_a_range(self, target: Target, service: AnsweringProxy) -> None:
        service.answer(self.answer(200, {"Content-Range": "bytes 0-3/10"}, b"data"), times=None)
        async with target.opened(service, attempts=1) as store:
            for name in ("read", "range"):
                assert await attempt(READS[name], store, "bucket") is not None, name

    @pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
    @pytest.mark.parametrize("status", [400, 403, 404, 409, 500])
    async def test_error_documents(self, target: Target, service: AnsweringProxy, status: int, body: bytes) -> None:
        service.answer(self.answer(status, {}, body), times=None)
        async with target.opened(service, attempts=1) as store:
            for name, operation in OPERATIONS.items():
                error = await attempt(operation, store, "bucket")
                # A missing object can be deleted, and has no rules.
                assert error is not None or (status == 404 and name in ("delete", "get lifecycle")), name
                assert error is None or len(str(error)) < 2000, name

    @pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
    async def test_documents(self, target: Target, service: AnsweringProxy, body: bytes) -> None:
        service.answer(self.answer(200, {}, body), times=None)
        async with target.opened(service, attempts=1) as store:
            for name, operation in OPERATIONS.items():
                error = await attempt(operation, store, "bucket")
                assert error is not None or name not in ("list", "list buckets"), name

    @pytest.mark.parametrize(
        "value", ["9" * 400, "Fri, 31 Dec 9999 23:59:59 -2359", "Fri, 31 Dec 2029 23:59:59 +9999999999999", "²", "-1"]
    )
    async def test_times_to_wait(self, target: Target, service: AnsweringProxy, value: str) -> None:
        headers: dict[str, Any] = {"Retry-After": value.encode().decode("latin-1"), "Date": value}
        service.answer(self.answer(503, {"Retry-After": headers["Retry-After"]}, b""), times=None)
        async with target.opened(service, attempts=1) as store:
            error = await attempt(READS["read"], store, "bucket")
            assert isinstance(error, trove.TransientError)
