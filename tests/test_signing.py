from __future__ import annotations

import base64
import string
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trove_async.driver import Driver, PresignOptions
from trove_async.drivers.memory import MemoryDriver
from trove_async.errors import AccessDeniedError, InvalidArgumentError
from trove_async.layers import LayerDriver
from trove_async.signing import SigningDriver, URLSigner, find_signer

KEY = b"0123456789abcdef"
BASE = "https://files.example.com/objects"
NOW = 1_700_000_000.0
ALL = PresignOptions(
    expires=60,
    version_id="v1",
    content_type="text/plain",
    content_length=5,
    response_content_type="text/html",
    response_content_disposition='attachment; filename="a.txt"',
)


def sign(method: str = "GET", bucket: str = "b", key: str = "k", options: PresignOptions = ALL) -> str:
    return URLSigner(KEY, BASE).sign(method, bucket, key, options, NOW)


def verify(method: str, url: str, now: float = NOW) -> Any:
    return URLSigner(KEY, BASE).verify(method, url, now)


def with_query(url: str, **changes: str | None) -> str:
    query = dict(parse_qsl(urlsplit(url).query))
    for name, value in changes.items():
        name = name.replace("_", "-")
        if value is None:
            del query[name]
        else:
            query[name] = value
    return f"{url.partition('?')[0]}?{urlencode(query)}"


def test_verify_returns_all_that_was_signed() -> None:
    request = verify("PUT", sign("PUT", "bücket %", "a/../b//c"))
    assert (request.method, request.bucket, request.key) == ("PUT", "bücket %", "a/../b//c")
    assert request.version_id == "v1"
    assert (request.content_type, request.content_length) == ("text/plain", 5)
    assert request.response_content_type == "text/html"
    assert request.response_content_disposition == 'attachment; filename="a.txt"'


def test_defaults_are_absent() -> None:
    request = verify("GET", sign(options=PresignOptions()))
    assert (request.version_id, request.content_type, request.content_length) == (None, None, None)
    assert (request.response_content_type, request.response_content_disposition) == (None, None)


@given(key=st.text(min_size=1, max_size=40))
def test_any_key_round_trips_through_a_path_that_clients_do_not_change(key: str) -> None:
    url = sign(key=key)
    assert verify("GET", url).key == key
    assert set(urlsplit(url).path) <= set(string.ascii_letters + string.digits + "/-_")


@pytest.mark.parametrize("path", ["/objects", "", "/deeper/still", "https://elsewhere.example.com"])
def test_the_mount_path_of_the_app_does_not_matter(path: str) -> None:
    parts = urlsplit(sign())
    tail = "/".join(parts.path.split("/")[-2:])
    assert verify("GET", f"{path}/{tail}?{parts.query}").key == "k"


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "v2"},
        {"version": None},
        {"content_type": "text/html"},
        {"content_type": None},
        {"content_length": "6"},
        {"content_length": None},
        {"content_length": "five"},
        {"response_content_type": "text/plain"},
        {"response_content_type": None},
        {"response_content_disposition": "inline"},
        {"response_content_disposition": None},
        {"expires": f"{NOW + 61:.3f}"},
        {"expires": None},
        {"expires": "never"},
        {"signature": "A" * 43},
        {"signature": "ä"},
        {"signature": ""},
        {"signature": None},
        {"unknown": "x"},
    ],
    ids=str,
)
def test_a_changed_query_is_refused(changes: dict[str, str | None]) -> None:
    with pytest.raises(AccessDeniedError):
        verify("GET", with_query(sign(), **changes))


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "POST", "get"])
def test_each_method_has_its_own_signature(method: str) -> None:
    with pytest.raises(AccessDeniedError, match="another method"):
        verify(method, sign("GET"))


def test_another_bucket_or_key_is_refused() -> None:
    url = sign()
    for changed in (
        url.replace("/b/", "/c/"),
        url.replace("/" + _base64("k"), "/" + _base64("l")),
        url.replace("/" + _base64("k"), "/!"),
        url.replace("/" + _base64("k"), "/"),
        url.replace("/" + _base64("k"), "/_w"),  # no UTF-8
    ):
        assert changed != url
        with pytest.raises(AccessDeniedError):
            verify("GET", changed)


def test_values_cannot_move_from_one_field_to_another() -> None:
    url = sign(options=PresignOptions(response_content_type="text/html"))
    moved = url.replace("response-content-type=", "response-content-disposition=")
    with pytest.raises(AccessDeniedError):
        verify("GET", moved)
    assert sign(bucket="ab", key="c") != sign(bucket="a", key="bc")


def test_a_parameter_given_twice_is_refused() -> None:
    with pytest.raises(AccessDeniedError):
        verify("GET", sign() + "&version=v1")


def test_another_key_verifies_nothing() -> None:
    with pytest.raises(AccessDeniedError):
        URLSigner(b"f" * 16, BASE).verify("GET", sign(), NOW)


def test_a_url_is_valid_before_its_expiry_only() -> None:
    url = sign()
    assert verify("GET", url, NOW + 59.999).key == "k"
    with pytest.raises(AccessDeniedError, match="expired"):
        verify("GET", url, NOW + 60)


@pytest.mark.parametrize(
    "base",
    [
        "",
        "/objects",
        "ftp://host/x",
        "http://",
        "http://user:pw@host",
        "http://host/?a=b",
        "http://host/#f",
        "http://höst",
    ],
)
def test_an_invalid_base_url_is_refused(base: str) -> None:
    with pytest.raises(InvalidArgumentError):
        URLSigner(KEY, base)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="16"):
        URLSigner(b"short", BASE)


def test_no_repr_shows_the_key() -> None:
    assert "0123" not in repr(URLSigner(KEY, BASE))


def test_find_signer_walks_through_layers() -> None:
    class DriverWithSigner(MemoryDriver):
        url_signer = URLSigner(KEY, BASE)

    class Layer(LayerDriver):
        pass

    driver: Driver = DriverWithSigner()
    assert isinstance(driver, SigningDriver)
    assert find_signer(Layer(Layer(driver))) is DriverWithSigner.url_signer
    assert find_signer(Layer(MemoryDriver())) is None


def _base64(text: str) -> str:
    return quote(base64.urlsafe_b64encode(text.encode()).decode().rstrip("="))
