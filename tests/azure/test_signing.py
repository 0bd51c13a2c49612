"""The signer, compared byte for byte with that of Microsoft's SDK."""

from __future__ import annotations

import random
import string
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.pipeline.transport import HttpRequest
from azure.storage.blob._shared.authentication import SharedKeyCredentialPolicy

from trove_async.drivers.azure.shared_key import SharedKey, date_header
from trove_async.errors import InvalidArgumentError
from trove_async.wire.sigv4 import encode_path, encode_query

KEY = "c2VjcmV0IG9mIHRoZSBhY2NvdW50"


def signed_by_sdk(method: str, path: str, params: list[tuple[str, str]], headers: dict[str, str], size: int) -> str:
    """Return the ``Authorization`` that the SDK computes."""
    url = f"https://account.blob.core.windows.net{path}" + (f"?{encode_query(params)}" if params else "")
    request = HttpRequest(method, url, headers={**headers, "Content-Length": str(size)})
    policy = SharedKeyCredentialPolicy("account", KEY)  # type: ignore[no-untyped-call]
    policy.on_request(SimpleNamespace(http_request=request, context=SimpleNamespace(transport=None)))  # type: ignore[no-untyped-call]
    return str(request.headers["Authorization"])


def both(method: str, path: str, params: list[tuple[str, str]], headers: dict[str, str], size: int) -> tuple[str, str]:
    ours = SharedKey("account", KEY).sign(method, path, params, [*headers.items()], size)
    return ours, signed_by_sdk(method, path, params, headers, size)


COMMON = {"x-ms-date": date_header(1_700_000_000), "x-ms-version": "2023-11-03"}

REQUESTS: dict[str, Any] = {
    "get": ("GET", "/container/key", [], {}, 0),
    "range": ("GET", "/container/key", [], {"x-ms-range": "bytes=0-9", "if-match": '"0x8D"'}, 0),
    "put": (
        "PUT",
        "/container/a/b%20c",
        [],
        {"x-ms-blob-type": "BlockBlob", "content-md5": "abc=", "x-ms-blob-content-type": "text/plain"},
        4096,
    ),
    "metadata": (
        "PUT",
        "/container/key",
        [],
        {f"x-ms-meta-{name}": "1" for name in ("a", "a_b", "ab", "a0", "_a", "a__b", "z9", "a_0", "blob", "abc_d")},
        1,
    ),
    "list": ("GET", "/container", [("restype", "container"), ("comp", "list"), ("prefix", "a/ü&=+ b")], {}, 0),
    "block": ("PUT", "/container/key", [("comp", "block"), ("blockid", "AAA+/w==")], {}, 10),
    "tags": ("PUT", "/container/key", [("comp", "tags")], {"content-type": "application/xml; charset=utf-8"}, 7),
    "conditions": (
        "PUT",
        "/container/key",
        [],
        {"if-none-match": "*", "if-modified-since": "Sat, 21 Nov 2026 00:00:00 GMT", "x-ms-tags": "a=1&b=2"},
        2,
    ),
    "emulator": ("GET", "/devstoreaccount1/container/key", [], {}, 0),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_the_signature_equals_that_of_the_sdk(request_: Any) -> None:
    method, path, params, headers, size = request_
    ours, theirs = both(method, path, params, {**COMMON, **headers}, size)
    assert ours == theirs


def test_the_signature_equals_that_of_the_sdk_for_generated_requests() -> None:
    source = random.Random(7)
    letters = string.ascii_lowercase + string.digits + "_"
    for _ in range(300):
        names = {"m" + "".join(source.choices(letters, k=source.randrange(1, 9))) for _ in range(source.randrange(9))}
        headers = {**COMMON, **{f"x-ms-meta-{name}": "".join(source.choices(letters, k=5)) for name in names}}
        key = "".join(source.choices("abc/ +%?#&=ü☺.", k=12)).strip("./") or "k"
        names = {"".join(source.choices(string.ascii_lowercase, k=4)) for _ in range(3)}
        params = [(name, "".join(source.choices("ab &=+ü/", k=5))) for name in names]
        ours, theirs = both("PUT", f"/container/{encode_path(key)}", params, headers, source.randrange(3))
        assert ours == theirs, (key, names, params)


def test_the_example_of_the_documentation() -> None:
    """The example of Get Blob, https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key."""
    headers = [("x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT"), ("x-ms-version", "2015-02-21")]
    params = [("comp", "metadata"), ("restype", "container"), ("timeout", "20")]
    text = SharedKey("myaccount", KEY).string_to_sign("GET", "/mycontainer", params, headers, 0)
    assert text == (
        "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n"
        "/myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20"
    )


def test_a_key_that_is_not_base64_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="base64"):
        SharedKey("account", "not base64!")
