"""The settings that every HTTP driver takes from its DSN and the environment, for both of its planes."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from trove_async.dsn import SettingsParser, parse_dsn
from trove_async.errors import InvalidDSNError
from trove_async.version import __version__
from trove_async.wire.network import Network

S3_CA = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")


def read(query: str = "", **options: Any) -> Network:
    settings = SettingsParser(parse_dsn(f"s3://?{query}" if query else "s3://"), {})
    network = Network.of(settings, **options)
    settings.finish()
    return network


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, "https://a", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://a", "http://p:1"),
        ({"https_proxy": "http://p:1", "HTTPS_PROXY": "http://q:1"}, "https://a", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, "http://a", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://a:8080", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1", "REQUEST_METHOD": "GET"}, "http://a", None),
        ({"http_proxy": "http://p:1", "REQUEST_METHOD": "GET"}, "http://a", "http://p:1"),
        ({"ALL_PROXY": "http://p:1"}, "http://a", "http://p:1"),
        ({"ALL_PROXY": "http://p:1", "HTTPS_PROXY": "http://q:1"}, "https://a", "http://q:1"),
        ({"HTTPS_PROXY": "u:p@p:1"}, "https://a", "http://u:p@p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, "https://a", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "b, .example.com"}, "https://bucket.example.com", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "example.com"}, "https://example.com:9000", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "example.com:9000"}, "https://example.com:9000", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "example.com:9000"}, "https://example.com", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "ample.com"}, "https://example.com", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "localhost,10.0.0.0/8"}, "https://10.1.2.3:9000", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "localhost, 10.0.0.1/8"}, "https://10.1.2.3:9000", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, "https://11.1.2.3", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, "https://10.example.com", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/64"}, "https://10.0.0.0", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8,::1/128"}, "https://[::1]:9000", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "fd00::/8"}, "https://[fd12::7]", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "0.0.0.0/0"}, "https://[fd12::7]", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "::1"}, "https://[::1]:9000", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "[::1]"}, "https://[::1]:9000", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "[::1]:9000"}, "https://[::1]:9000", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "[::1]:9000"}, "https://[::1]:9001", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "0:0:0:0:0:0:0:1"}, "https://[::1]", None),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "a"}, "https://a", None),
        ({"HTTPS_PROXY": "", "NO_PROXY": "a"}, "https://a", None),
    ],
)
def test_proxies_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str, proxy: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    network = read()
    assert network.proxy_of(url) == proxy
    assert network.sdk_proxies(url) == ({} if proxy is None else {"http": proxy, "https": proxy})


def test_a_given_proxy_replaces_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://other:1")
    monkeypatch.setenv("NO_PROXY", "*")
    assert read("proxy=http://u:p@given:3128").proxy_of("https://a") == "http://u:p@given:3128"
    assert read("proxy=none").proxies is None
    assert "other" not in repr(read())
    with pytest.raises(InvalidDSNError, match="http://"):
        read("proxy=socks5://given")


@pytest.mark.parametrize(
    ("query", "environment", "options", "expected"),
    [
        ("", {}, {}, None),
        ("ca_file=/given", {"REQUESTS_CA_BUNDLE": "/requests"}, {}, "/given"),
        ("", {"REQUESTS_CA_BUNDLE": "/requests", "AWS_CA_BUNDLE": "/aws"}, {}, "/requests"),
        ("", {"REQUESTS_CA_BUNDLE": "/requests", "AWS_CA_BUNDLE": "/aws"}, {"ca_variables": S3_CA}, "/aws"),
        ("", {"REQUESTS_CA_BUNDLE": "/requests", "AWS_CA_BUNDLE": ""}, {"ca_variables": S3_CA}, "/requests"),
        ("verify=0", {"REQUESTS_CA_BUNDLE": "/requests"}, {}, None),
    ],
)
def test_ca_files(
    monkeypatch: pytest.MonkeyPatch,
    query: str,
    environment: dict[str, str],
    options: dict[str, Any],
    expected: str | None,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    network = read(query, **options)
    assert network.ca_file == expected
    if expected:
        assert network.sdk_verify == expected


def test_openssl_and_the_sdks_trust_the_same_file_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "ca.pem").touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    assert read().sdk_verify == str(tmp_path / "ca.pem")
    assert read("verify=0").sdk_verify is False


@pytest.mark.asyncio
async def test_contexts_follow_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    default = ssl.create_default_context

    def strict(**options: Any) -> ssl.SSLContext:
        context = default(**options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    assert (await read().tls_context()).verify_flags & ssl.VERIFY_X509_STRICT
    assert not (await read("tls_strict=0").tls_context()).verify_flags & ssl.VERIFY_X509_STRICT
    assert (await read("verify=0").tls_context()).verify_mode is ssl.CERT_NONE


def test_the_user_agent_is_checked() -> None:
    assert read().full_user_agent == f"trove-async/{__version__}"
    assert read("user_agent=my-service/1.2").full_user_agent == f"my-service/1.2 trove-async/{__version__}"
    with pytest.raises(InvalidDSNError, match="user agent"):
        read("user_agent=a%0d%0ab")
