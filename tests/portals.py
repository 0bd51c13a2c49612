"""A captive portal, or a proxy that requires a login: it answers every request with 200 and a page of HTML.

A driver's tests derive a class from `Portals`, and define the fixtures ``target``, ``bucket`` and ``service``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

import trove_async as trove
from tests.network_faults import Target
from trove_async.testing.answers import Answer, AnsweringProxy

__all__ = ["Portals"]

Operation = Callable[[trove.Trove], Awaitable[object]]

_UPLOAD: Final = "0" * 30
_PARTS: Final = [trove.PartInfo(1, "0" * 32, 4)]
_RULES: Final = [trove.LifecycleRule(id="old", prefix="x", expiration_days=3)]

OPERATIONS: Final[dict[str, Operation]] = {
    "ping": lambda store: store.ping(),
    "create bucket": lambda store: store.create_bucket("bucket"),
    "delete bucket": lambda store: store.delete_bucket("bucket"),
    "list buckets": lambda store: store.list_buckets(),
    "head": lambda store: store.head("bucket", "key"),
    "read": lambda store: store.read("bucket", "key"),
    "put": lambda store: store.put("bucket", "key", b"data"),
    "put nothing": lambda store: store.put("bucket", "key", b""),
    "create": lambda store: store.put("bucket", "key", b"data", if_none_match="*"),
    "copy": lambda store: store.copy("bucket", "key", "bucket", "copy"),
    "delete": lambda store: store.delete("bucket", "key"),
    "delete many": lambda store: _delete_many(store),
    "list": lambda store: store.list("bucket").all(),
    "list versions": lambda store: store.list_versions("bucket", "key"),
    "get tags": lambda store: store.get_tags("bucket", "key"),
    "set tags": lambda store: store.set_tags("bucket", "key", {"a": "b"}),
    "delete tags": lambda store: store.delete_tags("bucket", "key"),
    "get lifecycle": lambda store: store.get_lifecycle("bucket"),
    "set lifecycle": lambda store: store.set_lifecycle("bucket", _RULES),
    "delete lifecycle": lambda store: store.delete_lifecycle("bucket"),
    "get versioning": lambda store: store.get_versioning("bucket"),
    "set versioning": lambda store: store.set_versioning("bucket", True),
    "initiate": lambda store: store.initiate_multipart("bucket", "key"),
    "part": lambda store: store.upload_part("bucket", "key", _UPLOAD, 1, b"data"),
    "complete": lambda store: store.complete_multipart("bucket", "key", _UPLOAD, _PARTS),
    "abort": lambda store: store.abort_multipart("bucket", "key", _UPLOAD),
    "list parts": lambda store: store.list_parts("bucket", "key", _UPLOAD),
    "list uploads": lambda store: store.list_multipart_uploads("bucket"),
}
PAGES: Final = {
    "page": b"<!DOCTYPE html>\n<html><body>Sign in</body></html>",
    "page that is XML": b"<html><body>Sign in</body></html>",
    "page with a comment": b"\xef\xbb\xbf \n<!-- v2 -->\n<HTML>",
}
NO_SUCCESS: Final = (202, 203, 205, 206, 207, 226, 299, 300, 301, 302, 307, 308)


async def _delete_many(store: trove.Trove) -> None:
    await store.delete_many("bucket", ["a", "b"])


class Portals:
    """No answer of a portal is treated as a success."""

    async def _check(self, target: Target, service: AnsweringProxy, answer: Answer) -> None:
        service.answer(answer, times=None)
        settings: dict[str, Any] = {"attempts": 1}
        async with target.opened(service, **settings) as store:
            for name, operation in OPERATIONS.items():
                try:
                    found = await operation(store)
                except trove.UnsupportedError:
                    continue  # nothing was sent
                except (
                    trove.BackendError,
                    trove.CopyError,
                    trove.TransientError,
                    trove.NotFoundError,
                    trove.BulkError,
                ):
                    continue
                pytest.fail(f"{name} believes {answer.status}: {found!r}")

    @pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
    async def test_a_portal(self, target: Target, service: AnsweringProxy, page: bytes) -> None:
        await self._check(target, service, Answer(200, {"Content-Type": "text/html; charset=utf-8"}, page))

    @pytest.mark.parametrize("status", NO_SUCCESS)
    async def test_statuses(self, target: Target, service: AnsweringProxy, status: int) -> None:
        await self._check(target, service, Answer(status))
