"""The control plane, on real servers."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from aiobotocore.awsrequest import AioAWSResponse
from botocore.awsrequest import HeadersDict

from tests.s3.test_session import Issuer
from tests.servers import running
from trove_async.driver import OpenOptions
from trove_async.drivers.s3.client import Client
from trove_async.drivers.s3.control import Control
from trove_async.drivers.s3.session import Session
from trove_async.drivers.s3.settings import S3Settings
from trove_async.dsn import parse_dsn
from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    BucketAlreadyExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    InvalidBucketNameError,
    ObjectNotFoundError,
    TroveError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
    UploadNotFoundError,
)
from trove_async.testing.answers import Answer, AnsweringProxy
from trove_async.types import LifecycleRule, VersioningStatus

pytestmark = pytest.mark.asyncio

ODD_KEYS = ["plain", "a b", "plus+and%", "ü/☃", "a//b", "quote\"<&>'"]


def settings_of(server: str, **more: Any) -> S3Settings:
    handle = running(server)  # type: ignore[call-overload]
    keys = {"access_key": handle.access_key, "secret_key": handle.secret_key}
    given = {"endpoint": handle.endpoint, "profile": server, **keys, **more}
    return S3Settings.of(parse_dsn(f"s3://{handle.region}/"), OpenOptions(settings=given))


@asynccontextmanager
async def controlling(settings: S3Settings, page_size: int = 1000) -> AsyncIterator[tuple[Control, Any]]:
    """Yield a control plane, and the SDK's client for creating objects."""
    session = Session(settings, settings.dialect())
    await session.open()
    transport = await settings.network.transport()
    try:
        client = Client(settings, session, transport, settings.network.retries())
        yield Control(client, session, settings.dialect(), page_size=page_size), await session.client(attempts=1)
    finally:
        await transport.aclose()
        await session.close()


@pytest.fixture(params=["ceph", "moto"])
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture
async def store(server: str) -> AsyncIterator[tuple[Control, Any]]:
    """A store with pages of two items, so that paging is tested everywhere."""
    async with controlling(settings_of(server), page_size=2) as both:
        yield both


@pytest_asyncio.fixture
async def bucket(store: tuple[Control, Any]) -> AsyncIterator[str]:
    control, client = store
    name = f"control-{uuid.uuid4().hex[:12]}"
    await control.create_bucket(name)
    yield name
    await empty(client, name)
    await control.delete_bucket(name)


async def empty(client: Any, bucket: str) -> None:
    for upload in (await client.list_multipart_uploads(Bucket=bucket)).get("Uploads", []):
        await client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    while True:
        page = await client.list_object_versions(Bucket=bucket)
        versions = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        if not versions:
            return
        for version in versions:
            await client.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])


async def test_a_bucket_is_created_once_and_listed_in_order(store: tuple[Control, Any], bucket: str) -> None:
    control, _ = store
    with pytest.raises(BucketAlreadyExistsError) as raised:
        await control.create_bucket(bucket)
    assert raised.value.bucket == bucket
    listed = await control.list_buckets()
    names = [info.name for info in listed]
    assert names == sorted(names)
    assert bucket in names
    created = listed[names.index(bucket)].created_at
    assert created is not None
    assert created.utcoffset() is not None


@pytest.mark.parametrize("server", ["ceph"], indirect=True)  # moto has only one user
async def test_a_bucket_of_another_user_is_taken(bucket: str) -> None:
    ceph = running("ceph")
    other = settings_of("ceph", access_key=ceph.other_access_key, secret_key=ceph.other_secret_key)
    async with controlling(other) as (control, _):
        with pytest.raises(BucketAlreadyExistsError):
            await control.create_bucket(bucket)
        assert bucket not in [info.name for info in await control.list_buckets()]
        with pytest.raises(AccessDeniedError):
            await control.delete_bucket(bucket)


async def test_names_are_refused_before_any_request() -> None:
    unreachable = S3Settings.of(
        parse_dsn("s3://us-east-1/?endpoint=http://127.0.0.1:9&access_key=a&secret_key=b&attempts=1&profile=moto"),
        OpenOptions(),
    )
    async with controlling(unreachable) as (control, _):
        with pytest.raises(InvalidBucketNameError):
            await control.create_bucket("Under_Scored")
        with pytest.raises(UnavailableError):
            await control.create_bucket("fine-name")


async def test_deleting_a_bucket(store: tuple[Control, Any], bucket: str) -> None:
    control, client = store
    await client.put_object(Bucket=bucket, Key="k", Body=b"x")
    with pytest.raises(BucketNotEmptyError) as raised:
        await control.delete_bucket(bucket)
    assert raised.value.status == 409
    with pytest.raises(BucketNotFoundError):
        await control.delete_bucket(bucket + "-missing")


@pytest.mark.parametrize("call", ["versions", "versioning", "lifecycle", "uploads", "set_lifecycle", "notifications"])
async def test_a_missing_bucket_has_its_own_error(store: tuple[Control, Any], call: str) -> None:
    control, _ = store
    name = f"missing-{uuid.uuid4().hex[:12]}"
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "versions": lambda: control.list_versions(name, "k"),
        "versioning": lambda: control.get_versioning(name),
        "lifecycle": lambda: control.get_lifecycle(name),
        "set_lifecycle": lambda: control.set_lifecycle(name, [LifecycleRule("r", expiration_days=1)]),
        "uploads": lambda: control.list_multipart_uploads(name),
        "notifications": lambda: control.get_notifications(name),
    }
    with pytest.raises(BucketNotFoundError) as raised:
        await calls[call]()
    assert raised.value.status == 404
    assert raised.value.request_id


async def test_versioning_status(store: tuple[Control, Any], bucket: str) -> None:
    control, _ = store
    assert await control.get_versioning(bucket) is VersioningStatus.UNVERSIONED
    await control.set_versioning(bucket, False)
    assert await control.get_versioning(bucket) is VersioningStatus.UNVERSIONED
    await control.set_versioning(bucket, True)
    assert await control.get_versioning(bucket) is VersioningStatus.ENABLED
    await control.set_versioning(bucket, False)
    assert await control.get_versioning(bucket) is VersioningStatus.SUSPENDED


async def test_versions_of_one_key_newest_first(store: tuple[Control, Any], bucket: str, server: str) -> None:
    control, client = store
    await control.set_versioning(bucket, True)
    made: list[tuple[str, bool]] = []
    for size in range(1, 6):
        answer = await client.put_object(Bucket=bucket, Key="k", Body=b"x" * size)
        made.append((answer["VersionId"], False))
        await client.put_object(Bucket=bucket, Key=f"k{size}", Body=b"longer key")
        await client.put_object(Bucket=bucket, Key="a", Body=b"earlier key")
        if size % 2:
            answer = await client.delete_object(Bucket=bucket, Key="k")
            made.append((answer["VersionId"], True))
    versions = await control.list_versions(bucket, "k")
    listed = [(v.version_id, v.is_delete_marker) for v in versions]
    assert set(listed) == set(made)
    assert listed[0] == made[-1]
    if server == "ceph":  # moto separates versions from markers, but does not order them within a second
        assert listed == made[::-1]
    assert [v.is_latest for v in versions] == [True] + [False] * (len(made) - 1)
    assert {v.key for v in versions} == {"k"}
    assert [v.size for v in versions if not v.is_delete_marker] == [5, 4, 3, 2, 1]
    assert all(v.size == 0 and v.etag is None for v in versions if v.is_delete_marker)
    assert all(v.etag and '"' not in v.etag for v in versions if not v.is_delete_marker)
    assert all(v.last_modified is not None and v.last_modified.utcoffset() is not None for v in versions)
    assert await control.list_versions(bucket, "never") == []


async def test_versions_of_an_unversioned_object(store: tuple[Control, Any], bucket: str) -> None:
    control, client = store
    await client.put_object(Bucket=bucket, Key="k", Body=b"x")
    (version,) = await control.list_versions(bucket, "k")
    assert (version.version_id, version.is_latest, version.size) == ("null", True, 1)


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_unusual_keys_have_versions_tags_and_uploads(store: tuple[Control, Any], bucket: str, key: str) -> None:
    control, client = store
    await control.set_versioning(bucket, True)
    for _ in range(3):
        await client.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert len(await control.list_versions(bucket, key)) == 3
    await control.set_tags(bucket, key, {"a": "b"})
    assert await control.get_tags(bucket, key) == {"a": "b"}
    upload_id = (await client.create_multipart_upload(Bucket=bucket, Key=key))["UploadId"]
    assert [(u.key, u.upload_id) for u in await control.list_multipart_uploads(bucket, key)] == [(key, upload_id)]


async def test_tags(store: tuple[Control, Any], bucket: str, server: str) -> None:
    control, client = store
    await client.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert await control.get_tags(bucket, "k") == {}
    # moto accepts only ASCII letters.
    tags = {"team": "späti" if server == "ceph" else "spati", "empty": "", "odd +-=._:/@": "a b"}
    await control.set_tags(bucket, "k", tags)
    assert await control.get_tags(bucket, "k") == tags
    await control.set_tags(bucket, "k", {"only": "one"})
    assert await control.get_tags(bucket, "k") == {"only": "one"}
    await control.delete_tags(bucket, "k")
    assert await control.get_tags(bucket, "k") == {}
    for missing in (control.get_tags(bucket, "no"), control.set_tags(bucket, "no", {"a": "b"})):
        with pytest.raises(ObjectNotFoundError):
            await missing


RULES = [
    LifecycleRule("expire", prefix="tmp/", expiration_days=3),
    LifecycleRule("off", enabled=False, expiration_days=1),
    LifecycleRule(
        "all",
        prefix="logs/",
        transition_days=30,
        transition_storage="STANDARD_IA",
        expiration_days=90,
        noncurrent_expiration_days=7,
        abort_incomplete_days=2,
    ),
]


async def test_lifecycle_rules_round_trip(store: tuple[Control, Any], bucket: str) -> None:
    control, _ = store
    assert await control.get_lifecycle(bucket) == []
    await control.set_lifecycle(bucket, RULES)
    assert sorted(await control.get_lifecycle(bucket), key=lambda r: r.id) == sorted(RULES, key=lambda r: r.id)
    await control.set_lifecycle(bucket, RULES[:1])
    assert await control.get_lifecycle(bucket) == RULES[:1]
    await control.set_lifecycle(bucket, [])
    assert await control.get_lifecycle(bucket) == []
    await control.set_lifecycle(bucket, RULES[:1])
    await control.delete_lifecycle(bucket)
    assert await control.get_lifecycle(bucket) == []


async def test_a_rule_with_unknown_elements_is_refused(store: tuple[Control, Any], bucket: str) -> None:
    control, client = store
    rule = {
        "ID": "tagged",
        "Status": "Enabled",
        "Filter": {"Tag": {"Key": "a", "Value": "b"}},
        "Expiration": {"Days": 1},
    }
    await client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    with pytest.raises(UnsupportedError, match=r"'tagged' has Filter\.Tag"):
        await control.get_lifecycle(bucket)


async def test_parts_in_the_order_of_their_numbers(store: tuple[Control, Any], bucket: str, server: str) -> None:
    control, client = store
    upload_id = (await client.create_multipart_upload(Bucket=bucket, Key="k"))["UploadId"]
    assert await control.list_parts(bucket, "k", upload_id) == []
    etags = {}
    # moto treats the number after which a page begins as an index.
    numbers = (11, 2, 5, 1, 9) if server == "ceph" else (5, 2, 4, 1, 3)
    for number in numbers:
        answer = await client.upload_part(
            Bucket=bucket, Key="k", UploadId=upload_id, PartNumber=number, Body=b"x" * number
        )
        etags[number] = answer["ETag"].strip('"')
    parts = await control.list_parts(bucket, "k", upload_id)
    assert [(part.number, part.size) for part in parts] == [(n, n) for n in sorted(numbers)]
    assert {part.number: part.etag for part in parts} == etags
    await client.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload_id)
    with pytest.raises(UploadNotFoundError):
        await control.list_parts(bucket, "k", upload_id)


async def test_uploads_in_the_order_of_keys_then_of_start(store: tuple[Control, Any], bucket: str) -> None:
    control, client = store
    for key in ("b", "a", "a", "p/c", "a", "p/é", "z"):
        await client.create_multipart_upload(Bucket=bucket, Key=key)
    uploads = await control.list_multipart_uploads(bucket)
    assert [upload.key for upload in uploads] == ["a", "a", "a", "b", "p/c", "p/é", "z"]
    begun = [upload.initiated_at for upload in uploads if upload.key == "a"]
    assert len({upload.upload_id for upload in uploads}) == 7
    assert all(time is not None for time in begun)
    assert begun == sorted(begun)  # type: ignore[type-var]
    assert [upload.key for upload in await control.list_multipart_uploads(bucket, "p/")] == ["p/c", "p/é"]


async def test_notifications(store: tuple[Control, Any], bucket: str, server: str) -> None:
    control, _ = store
    assert await control.get_notifications(bucket) == {}
    if server == "moto":
        queue = {"QueueArn": "arn:aws:sqs:us-east-1:123456789012:q", "Events": ["s3:ObjectCreated:*"], "Id": "trove"}
        await control.set_notifications(bucket, {"QueueConfigurations": [queue]})
        assert (await control.get_notifications(bucket))["QueueConfigurations"][0]["QueueArn"] == queue["QueueArn"]
        await control.set_notifications(bucket, {})
        assert await control.get_notifications(bucket) == {}


@pytest.mark.parametrize(
    ("access_key", "secret_key", "code"),
    [("trove-access", "wrong", "SignatureDoesNotMatch"), ("nobody", "wrong", "InvalidAccessKeyId")],
)
async def test_wrong_credentials(access_key: str, secret_key: str, code: str) -> None:
    async with controlling(settings_of("ceph", access_key=access_key, secret_key=secret_key)) as (control, _):
        with pytest.raises(UnauthenticatedError) as raised:
            await control.list_buckets()
    assert code in raised.value.message
    assert raised.value.status == 403
    assert raised.value.request_id
    assert "wrong" not in str(raised.value).replace("is wrong", "")


@pytest.mark.parametrize("server", ["ceph"], indirect=True)
async def test_anonymous_access_is_denied_with_an_explanation(bucket: str) -> None:
    handle = running("ceph")
    dsn = parse_dsn(f"s3:///?endpoint={handle.endpoint}&anonymous=1&profile=ceph")
    async with controlling(S3Settings.of(dsn, OpenOptions())) as (control, _):
        with pytest.raises(AccessDeniedError):
            await control.delete_bucket(bucket)


async def test_an_expired_token_is_renewed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = Issuer(tmp_path)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    issuer.issue("one", 60)
    keys: list[str] = []

    def refuse_one(request: Any, **_: Any) -> AioAWSResponse | None:
        keys.append(request.headers["Authorization"].decode().partition("Credential=")[2].partition("/")[0])
        return None if keys[-1] == "two" else expired(request.url)

    settings = settings_of("moto", access_key=None, secret_key=None)
    async with controlling(settings) as (control, client):
        client.meta.events.register("before-send.s3", refuse_one)
        with pytest.raises(UnauthenticatedError, match="ExpiredToken"):
            await control.get_versioning("missing-bucket")
        assert keys == ["one"]
        issuer.issue("two", 60)
        control._session._unrenewable = None  # as if the seconds had passed
        with pytest.raises(BucketNotFoundError):
            await control.get_versioning("missing-bucket")
        assert keys == ["one", "one", "two"]


def expired(url: str) -> AioAWSResponse:
    class Raw:
        async def read(self) -> bytes:
            return b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"

    return AioAWSResponse(url, 400, HeadersDict({"content-type": "application/xml"}), Raw())


async def test_https_with_a_private_authority() -> None:
    handle = running("ceph")
    async with controlling(settings_of("ceph", endpoint=handle.https_endpoint, ca_file=handle.ca_file)) as (control, _):
        name = f"tls-{uuid.uuid4().hex[:12]}"
        await control.create_bucket(name)
        await control.set_lifecycle(name, RULES[:1])
        await control.delete_bucket(name)
    async with controlling(settings_of("ceph", endpoint=handle.https_endpoint, attempts=1)) as (control, _):
        with pytest.raises(UnavailableError) as raised:
            await control.list_buckets()
    assert not raised.value.retryable
    assert "ca_file" in raised.value.message


async def test_an_endpoint_that_is_not_s3() -> None:
    nginx = running("nginx")
    url = next(str(value) for value in vars(nginx).values() if str(value).startswith("http"))
    settings = S3Settings.of(parse_dsn(f"s3://k:s@us-east-1/?endpoint={url}"), OpenOptions())
    async with controlling(settings) as (control, _):
        with pytest.raises(BackendError) as raised:
            await control.list_buckets()
    assert isinstance(raised.value, TroveError)
    assert "does not speak S3" in raised.value.message


@pytest.mark.parametrize(
    ("profile", "queries"),
    [
        ("aws", ["max-buckets=1000", "continuation-token=a%2Fb%2Bc&max-buckets=1000"]),
        ("ceph", ["", "continuation-token=a%2Fb%2Bc"]),
    ],
)
async def test_buckets_are_listed_page_by_page(profile: str, queries: list[str]) -> None:
    page = (
        "<ListAllMyBucketsResult><Buckets><Bucket><Name>{}</Name><CreationDate>2026-01-02T03:04:05.000Z</CreationDate>"
        "</Bucket></Buckets>{}</ListAllMyBucketsResult>"
    )
    handle = running("ceph")
    url = urlsplit(handle.endpoint)
    async with AnsweringProxy(str(url.hostname), int(url.port or 80)) as service:
        service.answer(Answer(200, body=page.format("second", "").encode()), path="continuation-token=")
        token = "<ContinuationToken>a/b+c</ContinuationToken>"
        service.answer(Answer(200, body=page.format("third", token).encode()))
        async with controlling(settings_of("ceph", endpoint=service.url(), profile=profile)) as (control, _):
            assert [bucket.name for bucket in await control.list_buckets()] == ["second", "third"]
        assert [urlsplit(request.target).query for request in service.requests] == queries
