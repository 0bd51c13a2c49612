"""URLs of buckets; and credentials, found where the AWS SDKs find them and renewed once for all waiting requests."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiobotocore import httpsession

import trove_async as trove
from tests.wire.serving import Peer, serving
from trove_async.driver import OpenOptions
from trove_async.drivers.s3.session import Session
from trove_async.drivers.s3.settings import S3Settings
from trove_async.dsn import parse_dsn
from trove_async.errors import ClosedError, InvalidBucketNameError, InvalidDSNError, UnauthenticatedError
from trove_async.wire.sigv4 import Credentials

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the SDK an environment without credentials, region or configuration."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "REGION", "DEFAULT_REGION", "PROFILE"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


@asynccontextmanager
async def opened(dsn: str, **more: Any) -> AsyncIterator[Session]:
    settings = S3Settings.of(parse_dsn(dsn), OpenOptions(settings=more))
    session = Session(settings, settings.dialect())
    await session.open()
    try:
        yield session
    finally:
        await session.close()


async def test_a_role_that_needs_an_mfa_code_is_refused_without_a_prompt(home: Path) -> None:
    (home / "config").write_text(
        "[profile guarded]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = base\n"
        "mfa_serial = arn:aws:iam::1:mfa/me\n"
        "[profile base]\naws_access_key_id = a\naws_secret_access_key = s\n"
    )
    async with opened("s3://us-east-1/", aws_profile="guarded") as session:
        with pytest.raises(UnauthenticatedError, match="needs an MFA code"):
            await session.credentials()


async def test_white_space_around_keys_is_stripped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key\n")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", " secret\r\n")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token\n")
    async with opened("s3://us-east-1/") as session:
        assert await session.credentials() == Credentials("key", "secret", "token")


async def test_keys_with_line_breaks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key\nanother")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    async with opened("s3://us-east-1/") as session:
        with pytest.raises(InvalidDSNError, match=r"access key .* line break"):
            await session.credentials()


async def test_an_empty_profile_name_means_the_default(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "")
    (home / "config").write_text("[default]\nregion = eu-west-3\naws_access_key_id = a\naws_secret_access_key = s\n")
    async with opened("s3:///") as session:
        assert session.region == "eu-west-3"
        assert await session.credentials() == Credentials("a", "s")
        await session.client()


# Addresses


@pytest.mark.parametrize(
    ("dsn", "bucket", "url"),
    [
        ("s3://eu-west-1/", "assets", "https://assets.s3.eu-west-1.amazonaws.com"),
        ("s3://eu-west-1/", "", "https://s3.eu-west-1.amazonaws.com"),
        ("s3://eu-west-1/", "my.assets", "https://s3.eu-west-1.amazonaws.com/my.assets"),
        ("s3://eu-west-1/?addressing=path", "assets", "https://s3.eu-west-1.amazonaws.com/assets"),
        ("s3://eu-west-1/?addressing=virtual", "my.assets", "https://my.assets.s3.eu-west-1.amazonaws.com"),
        ("s3://eu-west-1/?dualstack=1", "assets", "https://assets.s3.dualstack.eu-west-1.amazonaws.com"),
        ("s3://us-east-1/?fips=1", "assets", "https://assets.s3-fips.us-east-1.amazonaws.com"),
        ("s3://us-east-1/?fips=1&dualstack=1", "assets", "https://assets.s3-fips.dualstack.us-east-1.amazonaws.com"),
        ("s3://us-east-1/?accelerate=1", "assets", "https://assets.s3-accelerate.amazonaws.com"),
        ("s3://us-east-1/?accelerate=1", "", "https://s3.us-east-1.amazonaws.com"),
        ("s3://us-gov-west-1/", "assets", "https://assets.s3.us-gov-west-1.amazonaws.com"),
        ("s3://cn-north-1/", "assets", "https://assets.s3.cn-north-1.amazonaws.com.cn"),
        ("s3://eusc-de-east-1/", "assets", "https://assets.s3.eusc-de-east-1.amazonaws.eu"),
        ("s3://us-iso-east-1/", "assets", "https://assets.s3.us-iso-east-1.c2s.ic.gov"),
        ("s3:///?endpoint=http://ceph:7480", "assets", "http://ceph:7480/assets"),
        ("s3:///?endpoint=http://ceph:7480", "", "http://ceph:7480"),
        ("s3:///?endpoint=http://ceph:80", "a_B", "http://ceph/a_B"),
        ("s3:///?endpoint=https://gw/s3/", "assets", "https://gw/s3/assets"),
        ("s3:///?endpoint=https://gw/s3/", "", "https://gw/s3"),
        ("s3:///?endpoint=http://[::1]:9000", "assets", "http://[::1]:9000/assets"),
        ("s3:///?endpoint=https://ceph&addressing=virtual", "assets", "https://assets.ceph"),
        ("s3:///?endpoint=https://gw/s3&addressing=virtual", "assets", "https://assets.gw/s3"),
        ("s3:///?endpoint=https://s3.eu-west-1.amazonaws.com", "assets", "https://assets.s3.eu-west-1.amazonaws.com"),
        ("s3:///?endpoint=http://127.0.0.1:1&profile=aws", "assets", "http://127.0.0.1:1/assets"),
    ],
)
async def test_the_url_of_a_bucket(dsn: str, bucket: str, url: str) -> None:
    async with opened(dsn) as session:
        place = session.address(bucket)
        assert f"{place.origin.scheme}://{place.origin.authority}{place.prefix}" == url


@pytest.mark.parametrize(
    ("region", "flags"),
    [
        *((region, "") for region in ("cn-northwest-1", "eusc-de-east-1", "us-isob-east-1")),
        *((region, flags) for region in ("eu-west-1", "us-gov-east-1") for flags in ("", "dualstack=1", "fips=1")),
    ],
)
async def test_the_sdk_uses_the_same_url(region: str, flags: str) -> None:
    urls: list[str] = []

    def stop(request: Any, **_: Any) -> None:
        urls.append(request.url)
        raise InterruptedError

    async with opened(f"s3://k:s@{region}/?{flags}") as session:
        client = await session.client()
        client.meta.events.register("before-send.s3", stop)
        for bucket in ("assets", "my.assets"):
            with pytest.raises(InterruptedError):
                await client.get_object(Bucket=bucket, Key="k")
            place = session.address(bucket)
            assert urls[-1] == f"https://{place.origin.authority}{place.prefix}/k"


async def test_a_bucket_in_another_region() -> None:
    async with opened("s3://cn-north-1/") as session:
        place = session.address("assets", "cn-northwest-1")
        assert place.region == "cn-northwest-1"
        assert place.origin.host == "assets.s3.cn-northwest-1.amazonaws.com.cn"
    async with opened("s3:///?endpoint=http://ceph:7480") as session:
        place = session.address("assets", "other")
        assert (place.region, place.origin.host, place.prefix) == ("other", "ceph", "/assets")


@pytest.mark.parametrize(("query", "strict"), [("", True), ("tls_strict=0", False)])
async def test_the_sdk_verifies_certificates_as_strictly_as_the_store(
    query: str, strict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = httpsession.create_urllib3_context

    def strict_context() -> ssl.SSLContext:
        """Make the context as Python does from 3.13 on."""
        context: ssl.SSLContext = default()
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(httpsession, "create_urllib3_context", strict_context)
    async with opened(f"s3://key:secret@us-east-1/?{query}") as session:
        client = await session.client()
        context = client._endpoint.http_session._build_verify_context()
    assert bool(context.verify_flags & ssl.VERIFY_X509_STRICT) is strict
    assert context.verify_mode is ssl.CERT_REQUIRED


async def test_a_name_with_dots_cannot_be_accelerated() -> None:
    async with opened("s3://us-east-1/?accelerate=1") as session:
        with pytest.raises(InvalidBucketNameError, match="accelerate"):
            session.address("my.assets")


async def test_requests_about_buckets_are_not_accelerated() -> None:
    targets: list[str] = []

    async def refuse(peer: Peer) -> None:
        targets.append((await peer.head()).target)
        await peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    async with serving(refuse) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        async with trove.open("s3://key:secret@eu-west-1/?accelerate=1&attempts=1", proxy=url) as store:
            for call in (store.delete_bucket("assets"), store.delete("assets", "key")):
                with pytest.raises(trove.TroveError):
                    await call
    assert targets == ["assets.s3.eu-west-1.amazonaws.com:443", "assets.s3-accelerate.amazonaws.com:443"]


async def test_a_session_that_is_not_open_has_no_urls() -> None:
    settings = S3Settings.of(parse_dsn("s3:///"), OpenOptions())
    with pytest.raises(ClosedError):
        Session(settings, settings.dialect()).address("assets")


# The region


async def test_the_region_comes_from_the_first_source_that_names_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def region(dsn: str, **more: Any) -> str:
        async with opened(dsn, **more) as session:
            return session.region

    assert await region("s3:///") == "us-east-1"
    (home / "config").write_text("[default]\nregion = eu-north-1\n[profile work]\nregion = eu-south-1\n")
    assert await region("s3:///") == "eu-north-1"
    assert await region("s3:///", aws_profile="work") == "eu-south-1"
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert await region("s3:///") == "eu-south-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    assert await region("s3:///") == "eu-west-2"
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    assert await region("s3:///") == "eu-west-3"
    assert await region("s3:///?endpoint=http://ceph") == "eu-west-3"
    assert await region("s3:///?endpoint=https://s3.us-west-004.backblazeb2.com") == "us-west-004"
    assert await region("s3:///?endpoint=https://x.r2.cloudflarestorage.com") == "auto"
    assert await region("s3://sa-east-1/") == "sa-east-1"


async def test_a_missing_profile() -> None:
    with pytest.raises(InvalidDSNError, match="nobody"):
        async with opened("s3:///", aws_profile="nobody"):
            pass


# Credentials


async def test_keys_of_the_dsn_are_used_without_the_sdk() -> None:
    async with opened("s3://key:secret@us-east-1/?session_token=t") as session:
        known = session.known_credentials
        assert known == Credentials("key", "secret", "t")
        assert await session.credentials() == known
        assert known is not None
        assert await session.renew(known) is False


async def test_anonymous_access_has_none() -> None:
    async with opened("s3://us-east-1/?anonymous=1") as session:
        assert session.known_credentials is None
        assert await session.credentials() is None
        assert await session.renew(Credentials("a", "b")) is False


async def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-env")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with opened("s3://us-east-1/") as session:
        assert session.known_credentials is None
        assert await session.credentials() == Credentials("from-env", "secret")
        assert session.known_credentials == Credentials("from-env", "secret")


async def test_a_section_of_the_credentials_file(home: Path) -> None:
    (home / "credentials").write_text("[work]\naws_access_key_id = from-file\naws_secret_access_key = secret\n")
    async with opened("s3://us-east-1/", aws_profile="work") as session:
        assert await session.credentials() == Credentials("from-file", "secret")


async def test_keys_of_a_file_are_read_again_when_the_service_refuses_them(home: Path) -> None:
    """Programs that issue temporary keys write them to the file."""
    section = "[default]\naws_access_key_id = {}\naws_secret_access_key = s\naws_session_token = t\n"
    (home / "credentials").write_text(section.format("one"))
    async with opened("s3://us-east-1/") as session:
        used = await session.credentials()
        assert used == Credentials("one", "s", "t")
        (home / "credentials").write_text(section.format("two"))
        assert await session.credentials() == used
        assert await asyncio.gather(*(session.renew(used) for _ in range(10))) == [True] * 10
        renewed = await session.credentials()
        assert renewed == Credentials("two", "s", "t")
        assert renewed is not None
        assert await session.renew(renewed) is False


async def test_no_credentials_at_all() -> None:
    async with opened("s3://us-east-1/") as session:
        for _ in range(2):
            with pytest.raises(UnauthenticatedError, match="anonymous=1"):
                await session.credentials()


class Issuer:
    """A program that issues credentials, as ``credential_process`` runs it, with a count of its runs."""

    def __init__(self, home: Path) -> None:
        self._calls = home / "calls"
        self._answer = home / "answer"
        program = home / "issue.py"
        program.write_text(
            "import sys, pathlib\n"
            f"calls, answer = map(pathlib.Path, {[str(self._calls), str(self._answer)]!r})\n"
            "with calls.open('a') as file:\n"
            "    file.write('.')\n"
            "print(answer.read_text())\n"
        )
        (home / "config").write_text(f"[default]\ncredential_process = {sys.executable} -I {program}\n")

    def issue(self, key: str, minutes: int) -> None:
        expires = datetime.now(UTC) + timedelta(minutes=minutes)
        answer = {"Version": 1, "AccessKeyId": key, "SecretAccessKey": "s", "SessionToken": "t"}
        self._answer.write_text(json.dumps({**answer, "Expiration": expires.isoformat()}))

    def fail(self) -> None:
        self._answer.unlink()

    @property
    def calls(self) -> int:
        return len(self._calls.read_text()) if self._calls.exists() else 0


@pytest.fixture
def issuer(home: Path) -> Issuer:
    return Issuer(home)


async def test_a_hundred_waiters_cause_one_request(issuer: Issuer) -> None:
    issuer.issue("one", 60)
    async with opened("s3://us-east-1/") as session:
        found = await asyncio.gather(*(session.credentials() for _ in range(100)))
        assert set(found) == {Credentials("one", "s", "t")}
        assert issuer.calls == 1


async def test_expired_credentials_are_renewed_once_for_all(issuer: Issuer) -> None:
    issuer.issue("one", 60)
    async with opened("s3://us-east-1/") as session:
        used = await session.credentials()
        assert used is not None
        issuer.issue("two", 60)
        assert await asyncio.gather(*(session.renew(used) for _ in range(100))) == [True] * 100
        assert await session.credentials() == Credentials("two", "s", "t")
        # Requests that were sent before, and are refused later.
        assert await session.renew(used) is True
        assert issuer.calls == 2


async def test_the_same_credentials_are_not_a_renewal(issuer: Issuer) -> None:
    issuer.issue("one", 60)
    async with opened("s3://us-east-1/") as session:
        used = await session.credentials()
        assert used is not None
        for _ in range(3):
            assert await asyncio.gather(*(session.renew(used) for _ in range(20))) == [False] * 20
        assert issuer.calls <= 3


async def test_credentials_near_expiry_are_renewed_in_the_background(issuer: Issuer) -> None:
    issuer.issue("one", 12)
    async with opened("s3://us-east-1/") as session:
        assert await session.credentials() == Credentials("one", "s", "t")
        before = issuer.calls
        issuer.issue("two", 60)
        session._good_until = 0.0  # as if the second had passed after which they are checked again
        assert await session.credentials() == Credentials("one", "s", "t")
        assert session._fetching is not None
        await session._fetching
        assert session.known_credentials == Credentials("two", "s", "t")
        assert issuer.calls == before + 1


async def test_credentials_with_a_short_lifetime_are_not_renewed_endlessly(issuer: Issuer) -> None:
    issuer.issue("one", 12)
    async with opened("s3://us-east-1/") as session:
        await session.credentials()
        before = issuer.calls
        for _ in range(10):
            session._good_until = 0.0
            await session.credentials()
            if session._fetching is not None:
                await session._fetching
        assert issuer.calls == before + 1


async def test_requests_wait_for_the_renewal_of_expired_credentials(issuer: Issuer) -> None:
    issuer.issue("one", 12)
    async with opened("s3://us-east-1/") as session:
        await session.credentials()
        session._source._expiry_time = datetime.now(UTC)
        session._good_until = 0.0
        issuer.issue("two", 60)
        assert await session.credentials() == Credentials("two", "s", "t")


async def test_a_failed_renewal_is_raised_to_all_waiters(issuer: Issuer) -> None:
    issuer.issue("one", 60)
    async with opened("s3://us-east-1/") as session:
        used = await session.credentials()
        assert used is not None
        issuer.fail()
        results = await asyncio.gather(*(session.renew(used) for _ in range(20)), return_exceptions=True)
        assert {type(result) for result in results} == {UnauthenticatedError}
        assert issuer.calls == 2


async def test_a_cancelled_waiter_does_not_affect_the_others(issuer: Issuer) -> None:
    issuer.issue("one", 60)
    async with opened("s3://us-east-1/") as session:
        waiters = [asyncio.create_task(session.credentials()) for _ in range(3)]
        await asyncio.sleep(0)
        waiters[0].cancel()
        done = await asyncio.gather(*waiters, return_exceptions=True)
        assert isinstance(done[0], asyncio.CancelledError)
        assert done[1:] == [Credentials("one", "s", "t")] * 2
        assert issuer.calls == 1


async def test_closing_ends_the_wait_and_leaves_no_task(issuer: Issuer) -> None:
    issuer.issue("one", 60)
    async with opened("s3://us-east-1/") as session:
        before = asyncio.all_tasks()
        waiter = asyncio.create_task(session.credentials())
        await asyncio.sleep(0)
        await session.close()
        with pytest.raises(ClosedError):
            await waiter
        await session.close()
        assert asyncio.all_tasks() == before
        for later in (session.credentials(), session.client()):
            with pytest.raises(ClosedError):
                await later


async def test_the_sdk_s_client_signs_with_the_session_s_credentials(issuer: Issuer) -> None:
    issuer.issue("one", 60)
    async with opened("s3://us-east-1/") as session:
        client = await session.client()
        assert await session.client() is client
        queue = await session.client("sqs", "http://127.0.0.1:9")
        assert queue is not client
        used = await session.credentials()
        assert used is not None
        assert "one" in await client.generate_presigned_url("get_object", {"Bucket": "assets", "Key": "k"})
        issuer.issue("two", 60)
        await session.renew(used)
        assert "two" in await client.generate_presigned_url("get_object", {"Bucket": "assets", "Key": "k"})
        assert issuer.calls == 2
