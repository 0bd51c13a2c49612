"""S3 DSNs: the meaning of each part, and the errors of refused ones."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import fields
from typing import Any

import pytest

from trove_async.driver import OpenOptions
from trove_async.drivers.s3.settings import S3Settings
from trove_async.dsn import parse_dsn
from trove_async.errors import InvalidDSNError
from trove_async.wire.network import Network
from trove_async.wire.proxies import Proxies

MIB = 1024 * 1024
KEY = base64.b64encode(bytes(range(32))).decode()


def read(dsn: str, **settings: Any) -> S3Settings:
    return S3Settings.of(parse_dsn(dsn), OpenOptions(settings=settings))


def test_the_shortest_dsn_has_the_defaults() -> None:
    settings = read("s3://")
    assert {field.name: getattr(settings, field.name) for field in fields(settings)} == {
        "region": None,
        "bucket": None,
        "prefix": "",
        "endpoint": None,
        "access_key": None,
        "secret_key": None,
        "session_token": None,
        "anonymous": False,
        "aws_profile": None,
        "profile": None,
        "addressing": "auto",
        "signed_payload": None,
        "checksum": None,
        "conditions": None,
        "part_size": 8 * MIB,
        "part_concurrency": 32,
        "min_part_size": None,
        "max_copy_size": None,
        "network": Network(
            connections=100,
            pool_timeout=60,
            connect_timeout=10,
            idle_timeout=60,
            attempts=5,
            retry_budget=3,
            proxies=None,
            ca_file=None,
            verify=True,
            tls_strict=True,
            user_agent=None,
        ),
        "sse": None,
        "sse_kms_key": None,
        "sse_customer_key": None,
        "requester_pays": False,
        "storage_class": None,
        "accelerate": False,
        "dualstack": False,
        "fips": False,
        "watch": None,
        "queue": None,
        "queue_endpoint": None,
        "watch_setup": False,
    }
    assert settings.dialect().name == "aws"


def test_every_part_of_a_dsn() -> None:
    settings = read(
        "s3://key:s%2Fcret@eu-west-1/assets?session_token=t%2B&part_size=16777216&part_concurrency=3"
        "&min_part_size=1048576&max_copy_size=2097152&connections=7&pool_timeout=1.5&connect_timeout=2&idle_timeout=3&attempts=1"
        "&proxy=http://u:p@proxy:3128&ca_file=/ca.pem&sse=aws:kms&sse_kms_key=alias/x&requester_pays=1"
        "&storage_class=STANDARD_IA&dualstack=1&watch=sqs&queue=events&watch_setup=yes&payload=signed"
        "&checksum=crc32&conditions=get,delete&addressing=path&profile=aws"
    )
    assert (settings.region, settings.bucket) == ("eu-west-1", "assets")
    assert (settings.access_key, settings.secret_key, settings.session_token) == ("key", "s/cret", "t+")
    assert (settings.part_size, settings.part_concurrency) == (16 * MIB, 3)
    assert (settings.min_part_size, settings.max_copy_size) == (MIB, 2 * MIB)
    network = settings.network
    assert (network.connections, network.pool_timeout, network.connect_timeout) == (7, 1.5, 2)
    assert (network.idle_timeout, network.attempts, settings.storage_class) == (3, 1, "STANDARD_IA")
    assert (network.proxies, network.ca_file) == (Proxies.given("http://u:p@proxy:3128"), "/ca.pem")
    assert (settings.watch, settings.queue, settings.watch_setup) == ("sqs", "events", True)
    assert settings.requester_pays
    assert settings.dualstack
    assert settings.signed_payload is True
    assert settings.dialect().conditions == {"get", "delete"}
    assert settings.dialect().checksum == "crc32"


@pytest.mark.parametrize(
    ("dsn", "bucket", "prefix"),
    [
        ("s3:///abc", "abc", ""),
        ("s3:///abc/", "abc", ""),
        ("s3:///abc/b", "abc", "b/"),
        ("s3:///abc/b/", "abc", "b/"),
        ("s3:///abc//", "abc", "/"),
        ("s3:///abc//b/../c%3F//", "abc", "/b/../c?//"),
        ("s3://us-east-1/abc/b/?part_size=5242880", "abc", "b/"),
    ],
)
def test_the_prefix_of_a_dsn(dsn: str, bucket: str, prefix: str) -> None:
    settings = read(dsn)
    assert (settings.bucket, settings.prefix) == (bucket, prefix)


def test_keyword_arguments_are_the_same_settings() -> None:
    given = read("s3://us-east-1/bkt", access_key="k", secret_key="s", endpoint="http://h:1", part_size=6 * MIB)
    assert given == read(f"s3://k:s@us-east-1/bkt?endpoint=http://h:1&part_size={6 * MIB}")
    with pytest.raises(InvalidDSNError, match="give it once"):
        read("s3:///bkt?part_size=8388608", part_size=8388608)


def test_secrets_are_hidden() -> None:
    settings = read(
        "s3://key:hunter2@us-east-1/bkt?session_token=hunter3&proxy=http://u:hunter4@p:1", sse_customer_key=KEY
    )
    for secret in ("hunter2", "hunter3", "hunter4", KEY):
        assert secret not in repr(settings)
    assert "key" in repr(settings)


@pytest.mark.parametrize(
    ("dsn", "endpoint"),
    [
        ("s3:///?endpoint=http://localhost:7480", "http://localhost:7480"),
        ("s3:///?endpoint=https://s3.example.com/", "https://s3.example.com"),
        ("s3:///?endpoint=https://gw.example.com/s3/", "https://gw.example.com/s3"),
        ("s3:///?endpoint=http://[::1]:9000", "http://[::1]:9000"),
    ],
)
def test_endpoints(dsn: str, endpoint: str) -> None:
    settings = read(dsn)
    assert settings.endpoint == endpoint
    assert settings.dialect().name == "generic"


def test_regions_of_other_services_may_have_any_form() -> None:
    assert read("s3://auto/?endpoint=https://x.r2.cloudflarestorage.com").region == "auto"
    assert read("s3://garage/?endpoint=http://h").region == "garage"
    assert read("s3://us-gov-west-1/").region == "us-gov-west-1"


def test_payloads_are_signed_unless_tls_protects_them() -> None:
    for dsn, over_http, over_https in (
        ("s3:///", True, False),
        ("s3:///?payload=signed", True, True),
        ("s3:///?payload=unsigned", False, False),
    ):
        assert read(dsn).signs_payload("http") is over_http
        assert read(dsn).signs_payload("https") is over_https


def test_encryption_headers() -> None:
    assert read("s3:///").encryption_headers() == []
    assert read("s3:///?sse=AES256").encryption_headers() == [("x-amz-server-side-encryption", "AES256")]
    assert read("s3:///?sse=aws:kms&sse_kms_key=k").encryption_headers() == [
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "k"),
    ]
    assert read("s3:///?sse=AES256").customer_key_headers() == []


def test_customer_key_headers() -> None:
    settings = read("s3:///", sse_customer_key=KEY)
    digest = base64.b64encode(hashlib.md5(bytes(range(32)), usedforsecurity=False).digest()).decode()
    expected = {"algorithm": "AES256", "key": KEY, "key-md5": digest}
    for headers, prefix in (
        (settings.customer_key_headers(), "x-amz-server-side-encryption-customer-"),
        (settings.encryption_headers(), "x-amz-server-side-encryption-customer-"),
        (settings.customer_key_headers(source=True), "x-amz-copy-source-server-side-encryption-customer-"),
    ):
        assert dict(headers) == {prefix + name: value for name, value in expected.items()}


@pytest.mark.parametrize(
    ("dsn", "expected_message"),
    [
        ("s3://assets", "'assets' is not an Amazon region: an s3 DSN is s3://region/bucket"),
        ("s3://localhost:9000/b", "write s3://us-east-1/bucket?endpoint=http://localhost:9000"),
        ("s3://minio.example.com/b", "endpoint=http://minio.example.com"),
        ("s3://:9000/b", "no port"),
        ("s3:////b", "a prefix and no bucket"),
        (f"s3:///abc/{'b' * 1023}", "fewer than 1024 bytes"),
        ("s3://assets/photos?endpoint=http://h", "a bucket of this name write s3:///assets?endpoint=http://h; "),
        ("s3://assets/photos?endpoint=http://h", "write s3:///photos?region=assets&endpoint=http://h"),
        ("s3://assets?endpoint=http://h", "a bucket of this name write s3:///assets?endpoint=http://h; "),
        ("s3://us-east-1/a?region=us-east-1", "once"),
        ("s3:///-upper", "letter or digit at both ends"),
        ("s3://us-east-1/arn:aws:s3:us-east-1:1:accesspoint/ap", "an access point"),
        ("s3:///data--use1-az4--x-s3", "directory bucket"),
        ("s3://a%20b/?endpoint=http://h", "is not a region"),
        ("s3://key@us-east-1/", "give both before"),
        ("s3://:secret@us-east-1/", "give both before"),
        ("s3:///?access_key=k", "belong together"),
        ("s3://k%0Al:hidden@us-east-1/", "access_key must not be blank or hold a line break"),
        ("s3:///?secret_key=k", "belong together"),
        ("s3:///?session_token=t", "belongs to access_key"),
        ("s3://k:s@us-east-1/?access_key=k", "access_key and the DSN's user contradict"),
        ("s3://k:s@us-east-1/?secret_key=k", "secret_key and the DSN's user contradict"),
        ("s3://k:s@us-east-1/?anonymous=1", "anonymous and access_key contradict"),
        ("s3:///?anonymous=1&aws_profile=p", "anonymous and aws_profile contradict"),
        ("s3://k:s@us-east-1/?aws_profile=p", "aws_profile and access_key contradict"),
        ("s3:///?endpoint=localhost:9000", "endpoint must be a URL that begins with http:// or https://"),
        ("s3:///?endpoint=ftp://h", "endpoint must be a URL"),
        ("s3:///?endpoint=http://", "endpoint must be a URL"),
        ("s3:///?endpoint=http://h:99999", "endpoint is not a URL"),
        ("s3:///?endpoint=http://[::1", "endpoint is not a URL"),
        ("s3:///?endpoint=http://u:hunter2@h", "the endpoint must not hold a user"),
        ("s3:///?endpoint=http://h%3Fa=b", "without '?'"),
        ("s3:///?proxy=https://p:1", "proxy must be a URL that begins with http://"),
        ("s3:///?proxy=socks5://u:hunter2@p", "proxy must be a URL"),
        ("s3:///?profile=minoi", "unknown profile 'minoi'"),
        ("s3:///?profile=ceph", "profile=ceph needs the endpoint"),
        ("s3:///?addressing=dns", "addressing must be one of auto, path, virtual, not 'dns'"),
        ("s3:///?payload=yes", "payload must be one of signed, unsigned"),
        ("s3:///?checksum=adler", "checksum must be one of crc32c"),
        ("s3:///?conditions=put", "unknown condition 'put'"),
        ("s3:///?sse=kms", "sse must be one of AES256"),
        ("s3:///?sse_kms_key=k", "sse_kms_key and a missing sse contradict"),
        ("s3:///?sse=AES256&sse_kms_key=k", "sse_kms_key and sse=AES256 contradict"),
        (f"s3:///?sse=AES256&sse_customer_key={KEY}", "sse and sse_customer_key contradict"),
        ("s3:///?sse_customer_key=hunter2!", "not base64"),
        ("s3:///?sse_customer_key=aHVudGVyMg==", "32 bytes in base64, not of 7"),
        ("s3:///?watch=sns", "watch must be one of poll, sqs"),
        ("s3:///?watch=sqs", "needs a queue"),
        ("s3:///?queue=q", "queue and a missing watch contradict"),
        ("s3:///?watch=poll&queue=q", "queue and watch=poll contradict"),
        ("s3:///?watch=poll&watch_setup=1", "watch_setup and watch=poll contradict"),
        ("s3:///?verify=0&ca_file=/x", "ca_file and verify=0 contradict"),
        ("s3:///?accelerate=1&endpoint=http://h", "accelerate and endpoint contradict"),
        ("s3:///?dualstack=1&endpoint=http://h", "dualstack and endpoint contradict"),
        ("s3:///?fips=1&endpoint=http://h", "fips and endpoint contradict"),
        ("s3:///?accelerate=1&addressing=path", "accelerate and addressing=path contradict"),
        ("s3:///?accelerate=1&fips=1", "accelerate and fips contradict"),
        ("s3:///a.b.c?accelerate=1", "accelerate and bucket 'a.b.c' contradict"),
        ("s3:///?part_size=1048576", "part_size is 1048576; profile 'aws' has parts of 5242880"),
        ("s3:///?part_size=5368709121", "profile 'aws' has parts of"),
        ("s3:///?part_size=8MB", "part_size must be a whole number"),
        ("s3:///?connections=0", "connections must be at least 1"),
        ("s3:///?attempts=0", "attempts must be at least 1"),
        ("s3:///?idle_timeout=0", "idle_timeout must be more than 0"),
        ("s3:///?regoin=x", "s3 has no parameter 'regoin' (is it 'region'?); it has: accelerate, access_key"),
    ],
)
def test_refused_dsns(dsn: str, expected_message: str) -> None:
    with pytest.raises(InvalidDSNError) as raised:
        read(dsn)
    assert expected_message in raised.value.message
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("environment", "dsn", "endpoint", "queue_endpoint"),
    [
        ({"AWS_ENDPOINT_URL": "http://all:1/"}, "s3://", "http://all:1", None),
        ({"AWS_ENDPOINT_URL": "http://all:1", "AWS_ENDPOINT_URL_S3": "http://s3:1"}, "s3://", "http://s3:1", None),
        ({"AWS_ENDPOINT_URL_S3": "http://s3:1"}, "s3:///?endpoint=http://dsn:1", "http://dsn:1", None),
        ({"AWS_ENDPOINT_URL": "http://all:1"}, "s3:///?watch=sqs&queue=q&profile=moto", "http://all:1", "http://all:1"),
        (
            {"AWS_ENDPOINT_URL": "http://all:1", "AWS_ENDPOINT_URL_SQS": "http://sqs:1"},
            "s3:///?watch=sqs&queue=q&profile=moto",
            "http://all:1",
            "http://sqs:1",
        ),
        ({"AWS_ENDPOINT_URL": "http://all:1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "True"}, "s3://", None, None),
        ({"AWS_ENDPOINT_URL": ""}, "s3://", None, None),
    ],
)
def test_endpoints_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    dsn: str,
    endpoint: str | None,
    queue_endpoint: str | None,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = read(dsn)
    assert (settings.endpoint, settings.queue_endpoint) == (endpoint, queue_endpoint)


def test_an_invalid_endpoint_of_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "localhost:9000")
    with pytest.raises(InvalidDSNError, match="the AWS_ENDPOINT_URL_S3 must be a URL"):
        read("s3://")


def test_the_ca_bundle_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/aws.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/requests.pem")
    assert read("s3://").network.ca_file == "/aws.pem"
