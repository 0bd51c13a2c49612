"""What proxies say about the URL that a client has used, and whom the app believes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pytest

from trove_async.errors import InvalidArgumentError
from trove_async.uploads.forwarding import PublicURL, TrustedProxies

EDGE: Final = "10.0.0.1"
INNER: Final = "10.0.0.2"
CLIENT: Final = "192.0.2.7"

FORGED: Final = {
    "x-forwarded-host": "evil.example",
    "x-forwarded-proto": "https",
    "x-forwarded-prefix": "/evil",
    "forwarded": "for=10.0.0.1;host=evil.example;proto=https",
}

# peer, headers besides Host, origin and path
ROWS: Final[Mapping[str, tuple[str | None, Mapping[str, str], str, str]]] = {
    "nothing said": (EDGE, {}, "http://app:8000", "/files/"),
    "proto": (EDGE, {"x-forwarded-proto": "https"}, "https://app:8000", "/files/"),
    "host": (EDGE, {"x-forwarded-host": "example.com"}, "http://example.com", "/files/"),
    "host and port": (EDGE, {"x-forwarded-host": "example.com:8443"}, "http://example.com:8443", "/files/"),
    "an IPv6 host": (EDGE, {"x-forwarded-host": "[2001:db8::1]:8443"}, "http://[2001:db8::1]:8443", "/files/"),
    "prefix": (EDGE, {"x-forwarded-prefix": "/api/v1/"}, "http://app:8000", "/api/v1/files/"),
    "prefix of the root": (EDGE, {"x-forwarded-prefix": "/"}, "http://app:8000", "/files/"),
    "an untrusted peer": (CLIENT, FORGED, "http://app:8000", "/files/"),
    "an untrusted socket": (None, FORGED, "http://app:8000", "/files/"),
    "no address": ("testclient", FORGED, "http://app:8000", "/files/"),
    "a mapped address": ("::ffff:10.0.0.1", {"x-forwarded-proto": "https"}, "https://app:8000", "/files/"),
    "a proxy of IPv6": ("2001:db8::5", {"x-forwarded-proto": "https"}, "https://app:8000", "/files/"),
    "a forged value before the proxy's": (
        EDGE,
        {"x-forwarded-for": f"1.2.3.4, {CLIENT}", "x-forwarded-host": "evil.example, example.com"},
        "http://example.com",
        "/files/",
    ),
    "two trusted proxies": (
        INNER,
        {"x-forwarded-for": f"{CLIENT}, {EDGE}", "x-forwarded-proto": "https, http"},
        "https://app:8000",
        "/files/",
    ),
    "two trusted proxies behind a forger": (
        INNER,
        {"x-forwarded-for": f"{EDGE}, {CLIENT}, {EDGE}", "x-forwarded-proto": "ftp, https, http"},
        "https://app:8000",
        "/files/",
    ),
    "only the inner proxy says it": (
        INNER,
        {"x-forwarded-for": f"{CLIENT}, {EDGE}", "x-forwarded-proto": "https"},
        "https://app:8000",
        "/files/",
    ),
    "Forwarded": (EDGE, {"forwarded": "for=192.0.2.7;proto=https;host=example.com"}, "https://example.com", "/files/"),
    "Forwarded, quoted": (
        EDGE,
        {"forwarded": 'For="[2001:db8:9::1]:80"; Proto=HTTPS ;host="example.com:8443"'},
        "https://example.com:8443",
        "/files/",
    ),
    "Forwarded by a forger, too": (
        EDGE,
        {"forwarded": "host=evil.example;proto=ftp, for=192.0.2.7;host=example.com"},
        "http://example.com",
        "/files/",
    ),
    "Forwarded by two": (
        INNER,
        {"forwarded": f"for={CLIENT};host=example.com;proto=https, for={EDGE};proto=http"},
        "https://example.com",
        "/files/",
    ),
    "X-Forwarded counts": (
        EDGE,
        {"forwarded": "host=evil.example", "x-forwarded-host": "example.com"},
        "http://example.com",
        "/files/",
    ),
    "a malformed Forwarded": (EDGE, {"forwarded": 'host="example.com'}, "http://app:8000", "/files/"),
    "a Forwarded without values": (EDGE, {"forwarded": ";;,,"}, "http://app:8000", "/files/"),
    "a long Forwarded": (EDGE, {"forwarded": "host=example.com;" * 1000}, "http://app:8000", "/files/"),
    "no host": (EDGE, {"x-forwarded-host": "example.com/evil"}, "http://app:8000", "/files/"),
    "a host with a user": (EDGE, {"x-forwarded-host": "user@example.com"}, "http://app:8000", "/files/"),
    "a host with a line break": (EDGE, {"x-forwarded-host": "example.com\r\nx: y"}, "http://app:8000", "/files/"),
    "no scheme": (EDGE, {"x-forwarded-proto": "javascript"}, "http://app:8000", "/files/"),
    "another origin as prefix": (EDGE, {"x-forwarded-prefix": "//evil.example"}, "http://app:8000", "/files/"),
    "a prefix with a query": (EDGE, {"x-forwarded-prefix": "/a?b"}, "http://app:8000", "/files/"),
    "a prefix without a slash": (EDGE, {"x-forwarded-prefix": "evil"}, "http://app:8000", "/files/"),
}


@pytest.mark.parametrize("name", ROWS)
def test_what_proxies_say(name: str) -> None:
    peer, headers, origin, path = ROWS[name]
    proxies = TrustedProxies(["10.0.0.0/8", "2001:db8::/32"])
    assert proxies.public_url(peer, "http", {"host": "app:8000", **headers}, "/files") == PublicURL(origin, path)


@pytest.mark.parametrize(
    ("root", "path"),
    [
        ("", "/"),
        ("/a b/ä", "/a%20b/%C3%A4/"),
        ("/a?b#c%2F", "/a%3Fb%23c%252F/"),
        ("//evil.example", "/evil.example/"),
        ("/\\evil.example", "/%5Cevil.example/"),
    ],
)
def test_the_path_is_encoded(root: str, path: str) -> None:
    assert TrustedProxies(()).public_url(None, "http", {}, root) == PublicURL(None, path)


def test_a_unix_socket_can_be_trusted() -> None:
    url = TrustedProxies(["unix"]).public_url(None, "http", {"x-forwarded-host": "example.com"}, "")
    assert url == PublicURL("http://example.com", "/")


def test_nobody_is_trusted_unless_named() -> None:
    assert TrustedProxies(()).public_url("127.0.0.1", "http", {"host": "app", **FORGED}, "").origin == "http://app"


@pytest.mark.parametrize("networks", ["10.0.0.0/8", ["10.0.0.1/8"], ["proxy.example"], [""], ["*"]])
def test_networks_are_checked(networks: str | list[str]) -> None:
    with pytest.raises(InvalidArgumentError, match="trusted_proxies"):
        TrustedProxies(networks)
