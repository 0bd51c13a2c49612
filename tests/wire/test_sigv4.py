from __future__ import annotations

import base64
import hmac
import importlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trove_async.errors import InvalidArgumentError
from trove_async.wire.sigv4 import (
    EMPTY_SHA256,
    MAX_EXPIRES,
    UNSIGNED_PAYLOAD,
    Credentials,
    SigV4,
    encode_path,
    encode_query,
)

# botocore is the reference, and has no types.
botocore_auth: Any = importlib.import_module("botocore.auth")
botocore_awsrequest: Any = importlib.import_module("botocore.awsrequest")
botocore_credentials: Any = importlib.import_module("botocore.credentials")
botocore_utils: Any = importlib.import_module("botocore.utils")

# A busy machine must not fail the test.
BOUNDS = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])

REQUESTS = 3000
POLICIES = 300

# The values that AWS publishes for verifying an implementation:
# https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
# https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
# https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-post-example.html
EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
EXAMPLE_HOST = "examplebucket.s3.amazonaws.com"
EXAMPLE_TIME = datetime(2013, 5, 24, tzinfo=UTC).timestamp()
EXAMPLE_POLICY = base64.b64encode(
    "\r\n".join(
        [
            '{ "expiration": "2015-12-30T12:00:00.000Z",',
            '  "conditions": [',
            '    {"bucket": "sigv4examplebucket"},',
            '    ["starts-with", "$key", "user/user1/"],',
            '    {"acl": "public-read"},',
            '    {"success_action_redirect": "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html"},',
            '    ["starts-with", "$Content-Type", "image/"],',
            '    {"x-amz-meta-uuid": "14365123651274"},',
            '    {"x-amz-server-side-encryption": "AES256"},',
            '    ["starts-with", "$x-amz-meta-tag", ""],',
            "",
            '    {"x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request"},',
            '    {"x-amz-algorithm": "AWS4-HMAC-SHA256"},',
            '    {"x-amz-date": "20151229T000000Z" }',
            "  ]",
            "}",
        ]
    ).encode()
).decode()

ALPHABETS = (
    "abcXYZ019",
    " +%/&=?#~.-_*'\"!$()<>[]{}|\\^`:;,@",
    "/.",
    "é ß ñ中文کلید",
    "🦄𝔘\u200d",
    "\t\r\n\x01\x7f",
)
REGIONS = ("us-east-1", "eu-central-1", "auto", "default")
AUTHORITIES = (
    "bucket.s3.us-west-2.amazonaws.com",
    "localhost:7480",
    "127.0.0.1:9000",
    "[::1]:7480",
    "my.dotted.bucket.s3.amazonaws.com",
)
HEADER_NAMES = (
    "content-type",
    "content-md5",
    "if-match",
    "if-none-match",
    "range",
    "x-amz-acl",
    "x-amz-copy-source",
    "x-amz-meta-a",
    "x-amz-meta-a-b",
    "x-amz-meta-a.b",
    "x-amz-meta-a1",
    "x-amz-storage-class",
    "x-amzn-other",
)
QUERY_NAMES = (
    "prefix",
    "marker",
    "uploadId",
    "partNumber",
    "versionId",
    "uploads",
    "tagging",
    "a",
    "a-b",
    "a b",
    "A",
    "ü",
    "a=b",
)


def random_text(rng: random.Random, longest: int) -> str:
    alphabets = rng.sample(ALPHABETS, rng.randint(1, 3))
    return "".join(rng.choice(rng.choice(alphabets)) for _ in range(rng.randint(0, longest)))


@dataclass(frozen=True)
class Request:
    credentials: Credentials
    region: str
    method: str
    scheme: str
    authority: str
    path: str
    params: list[tuple[str, str]]
    headers: list[tuple[str, str]]
    body: bytes
    signs_body: bool
    at: float

    @property
    def query(self) -> str:
        """Unsorted, and sometimes without "=" where the value is empty."""
        pairs = [
            (botocore_utils.percent_encode(name), botocore_utils.percent_encode(value)) for name, value in self.params
        ]
        bare = self.body.startswith(b"a")
        return "&".join(name if bare and not value else f"{name}={value}" for name, value in pairs)

    @property
    def payload_hash(self) -> str:
        return sha256(self.body).hexdigest() if self.signs_body else UNSIGNED_PAYLOAD

    def reference(self) -> Any:
        """The request as a botocore object, for its signers to change."""
        url = f"{self.scheme}://{self.authority}{self.path}" + (f"?{self.query}" if self.params else "")
        request = botocore_awsrequest.AWSRequest(method=self.method, url=url, data=self.body)
        for name, value in self.headers:
            request.headers[name] = value
        request.context["client_config"] = SimpleNamespace(s3={"payload_signing_enabled": self.signs_body})
        return request

    def reference_credentials(self) -> Any:
        given = self.credentials
        return botocore_credentials.Credentials(given.access_key, given.secret_key, given.token)


def random_header(rng: random.Random) -> str:
    words = [
        rng.choice(("a", "b,c", '"etag"', "bytes=0-9", "é", "x=1; y", "%20", "=?UTF-8?B?w6k=?=")) for _ in range(4)
    ]
    gaps = [rng.choice(("", " ", "  ", "\t", " \t  ")) for _ in range(5)]
    return gaps[0] + "".join(word + gap for word, gap in zip(words, gaps[1:], strict=True))[: rng.randint(0, 40)]


def random_request(rng: random.Random) -> Request:
    names = rng.sample(HEADER_NAMES, rng.randint(0, 6))
    if names and rng.random() < 0.1:
        names.append(names[0])
    return Request(
        credentials=Credentials(
            rng.choice(("AKIAIOSFODNN7EXAMPLE", "k")),
            rng.choice(("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "s", "é", "long" * 40)),
            rng.choice((None, "FwoGZXIvYXdzE+/token==")),
        ),
        region=rng.choice(REGIONS),
        method=rng.choice(("GET", "PUT", "HEAD", "DELETE", "POST")),
        scheme=rng.choice(("http", "https")),
        authority=rng.choice(AUTHORITIES),
        path="/" + encode_path(random_text(rng, 30)),
        params=[(name, random_text(rng, 8)) for name in rng.sample(QUERY_NAMES, rng.randint(0, 6))],
        headers=[(name, random_header(rng)) for name in names],
        body=rng.randbytes(rng.randint(0, 40)) if rng.random() < 0.5 else rng.choice((b"", b"a")),
        signs_body=rng.random() < 0.5,
        at=rng.randint(0, 4_000_000_000) + rng.choice((0, 0.25, 0.999)),
    )


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[Request]:
    """Requests generated from a fixed seed; botocore's clock is set to the time of each."""

    def generate() -> Iterator[Request]:
        rng = random.Random(20130524)
        for _ in range(REQUESTS):
            request = random_request(rng)
            now = datetime.fromtimestamp(request.at, UTC)
            monkeypatch.setattr(botocore_auth, "get_current_datetime", lambda now=now: now)
            yield request

    return generate()


def signature_of(headers: list[tuple[str, str]]) -> str:
    return dict(headers)["authorization"].partition("Signature=")[2]


def sign_example(
    method: str,
    path: str,
    query: str = "",
    headers: tuple[tuple[str, str], ...] = (),
    payload_hash: str = EMPTY_SHA256,
) -> list[tuple[str, str]]:
    return SigV4("us-east-1").sign(EXAMPLE, method, EXAMPLE_HOST, path, query, headers, payload_hash, EXAMPLE_TIME)


def test_example_of_aws_get_object_with_range() -> None:
    signed = sign_example("GET", "/test.txt", headers=(("range", "bytes=0-9"),))
    assert signed == [
        ("x-amz-content-sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("x-amz-date", "20130524T000000Z"),
        (
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
            "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
            "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
    ]


def test_example_of_aws_put_object() -> None:
    signed = sign_example(
        "PUT",
        f"/{encode_path('test$file.text')}",
        headers=(("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")),
        payload_hash=sha256(b"Welcome to Amazon S3.").hexdigest(),
    )
    assert signature_of(signed) == "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"


@pytest.mark.parametrize("query", ["lifecycle", "lifecycle="])
def test_example_of_aws_get_bucket_lifecycle(query: str) -> None:
    signed = sign_example("GET", "/", query)
    assert signature_of(signed) == "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"


@pytest.mark.parametrize("query", ["max-keys=2&prefix=J", "prefix=J&max-keys=2"])
def test_example_of_aws_list_objects(query: str) -> None:
    signed = sign_example("GET", "/", query)
    assert signature_of(signed) == "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"


def test_example_of_aws_presigned_url() -> None:
    url = SigV4("us-east-1").presign(EXAMPLE, "GET", "https", EXAMPLE_HOST, "/test.txt", [], [], 86400, EXAMPLE_TIME)
    assert url == (
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


def test_example_of_aws_post_policy() -> None:
    at = datetime(2015, 12, 29, tzinfo=UTC).timestamp()
    signature = SigV4("us-east-1").signature(EXAMPLE, EXAMPLE_POLICY, at)
    assert signature == "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e"


def test_headers_equal_those_of_botocore(requests: Iterator[Request]) -> None:
    count = 0
    for request in requests:
        reference = request.reference()
        botocore_auth.S3SigV4Auth(request.reference_credentials(), "s3", request.region).add_auth(reference)
        signed = SigV4(request.region).sign(
            request.credentials,
            request.method,
            request.authority,
            request.path,
            request.query,
            request.headers,
            request.payload_hash,
            request.at,
        )
        given = {name.lower() for name, _ in request.headers}
        assert dict(signed) == {
            name.lower(): value for name, value in reference.headers.items() if name.lower() not in given
        }, request
        count += 1
    assert count == REQUESTS


def test_urls_equal_those_of_botocore(requests: Iterator[Request]) -> None:
    count = 0
    for request in requests:
        expires = 1 + int(request.at) % MAX_EXPIRES
        reference = request.reference()
        reference.data = b""
        botocore_auth.S3SigV4QueryAuth(request.reference_credentials(), "s3", request.region, expires=expires).add_auth(
            reference
        )
        url = SigV4(request.region).presign(
            request.credentials,
            request.method,
            request.scheme,
            request.authority,
            request.path,
            request.params,
            request.headers,
            expires,
            request.at,
        )
        assert url == reference.url, request
        count += 1
    assert count == REQUESTS


def test_a_url_uses_the_payload_hash_in_its_headers(requests: Iterator[Request]) -> None:
    request = next(requests)
    headers = [("x-amz-content-sha256", sha256(b"bound").hexdigest())]
    reference = botocore_awsrequest.AWSRequest(method="PUT", url="http://localhost:7480/b/k", headers=dict(headers))
    botocore_auth.S3SigV4QueryAuth(request.reference_credentials(), "s3", "r", expires=60).add_auth(reference)
    url = SigV4("r").presign(request.credentials, "PUT", "http", "localhost:7480", "/b/k", [], headers, 60, request.at)
    assert url == reference.url


def test_forms_equal_those_of_botocore(requests: Iterator[Request]) -> None:
    for request, number in zip(requests, range(POLICIES), strict=False):
        conditions: list[Any] = [list(pair) for pair in request.params]
        policy = {"expiration": "2030-12-30T12:00:00.000Z", "conditions": [*conditions, ["size", 0, number]]}
        before = json.dumps(policy)
        fields = SigV4(request.region).sign_policy(request.credentials, policy, request.at)
        assert json.dumps(policy) == before
        reference = request.reference()
        reference.context["s3-presign-post-policy"] = json.loads(before)
        botocore_auth.S3SigV4PostAuth(request.reference_credentials(), "s3", request.region).add_auth(reference)
        assert fields == reference.context["s3-presign-post-fields"], request


def test_one_signer_with_changing_credentials_and_days_signs_like_a_new_one() -> None:
    signer = SigV4("us-east-1")
    for number in range(100):
        credentials = Credentials("k", f"secret {number % 30}")
        at = EXAMPLE_TIME + (number % 7) * 40_000.5
        args = (credentials, "GET", EXAMPLE_HOST, "/k", "", (), EMPTY_SHA256, at)
        assert signer.sign(*args) == SigV4("us-east-1").sign(*args)


def test_the_key_of_a_day_is_derived_once(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[bytes] = []

    def derive(key: bytes, text: bytes, algorithm: str) -> bytes:
        steps.append(text)
        return hmac.digest(key, text, algorithm)

    monkeypatch.setattr("trove_async.wire.sigv4.hmac_digest", derive)
    signer = SigV4("us-east-1")
    for second in (0, 1, 86_399, 86_400, 86_401):
        signer.sign(EXAMPLE, "GET", EXAMPLE_HOST, "/", "", (), EMPTY_SHA256, EXAMPLE_TIME + second)
    assert steps == [
        b"20130524",
        b"us-east-1",
        b"s3",
        b"aws4_request",
        b"20130525",
        b"us-east-1",
        b"s3",
        b"aws4_request",
    ]


def test_the_signature_depends_on_region_and_service() -> None:
    signatures = {
        SigV4(region, service).signature(EXAMPLE, "text", EXAMPLE_TIME)
        for region in ("us-east-1", "us-east-2")
        for service in ("s3", "sqs")
    }
    assert len(signatures) == 4


@pytest.mark.parametrize("expires", [-1, 0, MAX_EXPIRES + 1])
def test_an_expiry_that_no_service_accepts_is_refused(expires: int) -> None:
    with pytest.raises(InvalidArgumentError, match=str(MAX_EXPIRES)):
        SigV4("r").presign(EXAMPLE, "GET", "https", EXAMPLE_HOST, "/k", [], [], expires, EXAMPLE_TIME)


def test_the_repr_of_credentials_shows_no_secret() -> None:
    shown = repr(Credentials("access", "hidden-secret", "hidden-token"))
    assert "access" in shown
    assert "hidden" not in shown


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("photos/2024/a-b_c.d~e.jpg", "photos/2024/a-b_c.d~e.jpg"),
        ("a b+c%20", "a%20b%2Bc%2520"),
        ("/a//b/", "/a//b/"),
        ("../.", "../."),
        ("é🦄", "%C3%A9%F0%9F%A6%84"),
        ("a\n", "a%0A"),
        ("'\"*!()", "%27%22%2A%21%28%29"),
        ("٣", "%D9%A3"),
        ("", ""),
    ],
)
def test_paths_are_encoded_as_in_rfc_3986(key: str, path: str) -> None:
    assert encode_path(key) == path


@BOUNDS
@given(st.text(st.characters(codec="utf-8")))
def test_paths_equal_those_of_botocore(key: str) -> None:
    assert encode_path(key) == botocore_utils.percent_encode(key, safe="/~")


@BOUNDS
@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))))
def test_queries_equal_those_that_botocore_signs(params: list[tuple[str, str]]) -> None:
    request = botocore_awsrequest.AWSRequest(method="GET", url="https://localhost/", params=params)
    reference = botocore_auth.S3SigV4Auth(None, "s3", "r").canonical_query_string(request)
    assert encode_query(params) == reference


def test_a_query_is_sorted_by_name_and_then_by_value() -> None:
    params = [("b", ""), ("a-b", "1"), ("a", "2"), ("a", " "), ("a.b", "/")]
    assert encode_query(params) == "a=%20&a=2&a-b=1&a.b=%2F&b="
