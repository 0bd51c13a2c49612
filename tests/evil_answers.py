"""Answers of a broken or malicious service: whatever it sends, a driver raises only `TroveError`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

import trove_async as trove
from trove_async.testing.answers import Answer

__all__ = ["EVIL_HEADERS", "EVIL_VALUES", "OPERATIONS", "SMALL", "check", "mutations"]

Operation = Callable[[trove.Trove], Awaitable[Any]]

_NAMES: Final = ("bucket", "key")


def nested(depth: int) -> list[Any]:
    """Return lists within lists."""
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


EVIL_VALUES: Final[Mapping[str, Any]] = {
    "null": None,
    "true": True,
    "negative": -1,
    "fraction": 1.5,
    "infinity": float("inf"),
    "not a number": float("nan"),
    "empty text": "",
    "text": "x\r\ny",
    "lone surrogate": "\ud800",
    "many digits": "9" * 5000,
    "other digits": "\u00b2",
    "empty list": [],
    "list": [None, 1, "x", [], {}],
    "empty object": {},
    "object": {"x": [1]},
    "nested": nested(400),
}
"""JSON values in place of those that a service would send."""

EVIL_HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "Last-Modified": (
        "Fri, 31 Dec 9999 23:59:59 -0100",
        "Mon, 01 Jan 0001 00:00:00 +0100",
        "Mon, 01 Jan 2001 00:00:00 +99999999999999999999",
        "0, 0",
        "x" * 100,
        "",
    ),
    "Content-Range": (
        "bytes 5-9/10",
        "bytes 9-5/10",
        "bytes 0--5/10",
        "bytes 0-9/10",
        "bytes 0-3/*",
        f"bytes 0-{'9' * 5000}/10",
        f"bytes 0-3/{'9' * 18}",
        "\u00b2",
    ),
    "ETag": ("", '"', '""', "\u00e4"),
    "Retry-After": ("9" * 400, "Fri, 31 Dec 9999 23:59:59 -2359", "Fri, 31 Dec 2029 23:59:59 +9999999999999", "\u00b2"),
    "Date": ("Fri, 31 Dec 9999 23:59:59 -2359", "Fri, 31 Dec 2009 23:59:59 +9999999999999"),
    "Content-Type": ("", "x", "multipart/mixed", "multipart/mixed; boundary=", "multipart/mixed; boundary*=x'y'z"),
    "Location": ("", "http://[", "//", "file:///etc/passwd", "/\u00e4"),
}
"""Header values in place of those that a service would send."""


async def _upload(store: trove.Trove) -> None:
    upload = await store.initiate_multipart(*_NAMES)
    part = await store.upload_part(*_NAMES, upload, 1, b"data")
    await store.complete_multipart(*_NAMES, upload, [part])


async def _list_all_versions(store: trove.Trove) -> None:
    await store.list_all_versions("bucket").all()  # the call itself raises if the store has no versions


OPERATIONS: Final[Mapping[str, Operation]] = {
    "read": lambda store: store.read(*_NAMES),
    "read a range": lambda store: store.read(*_NAMES, range=(0, 4)),
    "head": lambda store: store.head(*_NAMES),
    "put": lambda store: store.put(*_NAMES, b"data"),
    "put under a condition": lambda store: store.put(*_NAMES, b"data", if_match="*"),
    "put in parts": lambda store: store.put(*_NAMES, bytes(300_000)),
    "put in a session": lambda store: store.put(*_NAMES, bytes(300_000), if_none_match="*"),
    "multipart": _upload,
    "list_parts": lambda store: store.list_parts(*_NAMES, "upload"),
    "list_uploads": lambda store: store.list_multipart_uploads("bucket"),
    "copy": lambda store: store.copy(*_NAMES, "bucket", "copy"),
    "delete": lambda store: store.delete(*_NAMES),
    "delete_many": lambda store: store.delete_many("bucket", ["key"]),
    "list": lambda store: store.list("bucket").all(),
    "list_buckets": lambda store: store.list_buckets(),
    "create_bucket": lambda store: store.create_bucket("bucket"),
    "get_versioning": lambda store: store.get_versioning("bucket"),
    "list_versions": lambda store: store.list_versions(*_NAMES),
    "list_all_versions": _list_all_versions,
    "get_lifecycle": lambda store: store.get_lifecycle("bucket"),
    "set_lifecycle": lambda store: store.set_lifecycle("bucket", []),
    "get_tags": lambda store: store.get_tags(*_NAMES),
    "set_tags": lambda store: store.set_tags(*_NAMES, {"a": "b"}),
}


async def _message_of(operation: Awaitable[Any]) -> str:
    try:
        await operation
    except trove.TroveError as error:
        return str(error)
    return ""


SMALL: Final[Mapping[str, Operation]] = {
    name: operation for name, operation in OPERATIONS.items() if name not in ("put in parts", "put in a session")
}
"""Operations that make few requests."""


async def check(store: trove.Trove, answer: Answer, operations: Mapping[str, Operation] = OPERATIONS) -> None:
    """Call operations of a store that gets this answer to each request: they may fail, but only with a `TroveError`."""
    for name, operation in operations.items():
        try:
            message = await _message_of(operation(store))
        except Exception as error:
            error.add_note(f"{name} was answered {answer!r:.2000}")
            raise
        assert "\n" not in message, name
        assert len(message) < 1500, name


def mutations(document: Any, value: Any) -> Iterator[Any]:
    """Yield copies of a JSON document, in each of which one value is replaced."""
    yield value
    if isinstance(document, dict):
        for name in document:
            for changed in mutations(document[name], value):
                yield {**document, name: changed}
    elif isinstance(document, list):
        for number, item in enumerate(document):
            for changed in mutations(item, value):
                yield [*document[:number], changed, *document[number + 1 :]]
