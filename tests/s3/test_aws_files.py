"""Endpoints in the configuration files of the AWS SDKs."""

from __future__ import annotations

from pathlib import Path

import pytest

import trove_async as trove
from tests.s3.stores import scratch
from tests.servers import running
from trove_async.drivers.s3 import session
from trove_async.drivers.s3.aws_files import configured_endpoints
from trove_async.errors import InvalidDSNError

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the SDK its own files, and no environment variables."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "ENDPOINT_URL", "ENDPOINT_URL_S3"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path


FILE = """
[default]
endpoint_url = http://default:1
[profile minio]
endpoint_url = http://all:1
services = minio
[services minio]
s3 =
  endpoint_url = http://objects:1
[profile ignoring]
endpoint_url = http://ignored:1
ignore_configured_endpoint_urls = true
[profile amazon]
region = eu-west-1
"""


@pytest.mark.parametrize(
    ("profile", "endpoints"),
    [
        (None, {"s3": "http://default:1", "sqs": "http://default:1"}),
        ("minio", {"s3": "http://objects:1", "sqs": "http://all:1"}),
        ("ignoring", {}),
        ("amazon", {}),
    ],
)
async def test_endpoints_of_a_profile(home: Path, profile: str | None, endpoints: dict[str, str]) -> None:
    (home / "config").write_text(FILE)
    assert await configured_endpoints(profile) == endpoints


async def test_files_without_endpoints_do_not_need_the_sdk(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "sdk_session", None)
    assert await configured_endpoints(None) == {}
    (home / "config").write_text("[default]\nregion = eu-west-1\n")
    assert await configured_endpoints(None) == {}


async def test_a_missing_profile_is_reported(home: Path) -> None:
    (home / "config").write_text(FILE)
    with pytest.raises(InvalidDSNError, match="nobody"):
        await configured_endpoints("nobody")


async def test_a_store_uses_the_endpoint_of_its_profile(home: Path) -> None:
    async with scratch("ceph") as bucket:
        handle = running("ceph")
        (home / "config").write_text(f"[profile local]\nregion = {handle.region}\nendpoint_url = {handle.endpoint}\n")
        (home / "credentials").write_text(
            f"[local]\naws_access_key_id = {handle.access_key}\naws_secret_access_key = {handle.secret_key}\n"
        )
        async with trove.open("s3:///?aws_profile=local&profile=ceph") as store:
            await store.put(bucket, "key", b"data")
            assert await store.read(bucket, "key") == b"data"
            assert bucket in [found.name for found in await store.list_buckets()]


async def test_the_dsn_and_the_environment_take_precedence(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "config").write_text("[default]\nendpoint_url = http://user:secret@default:1\n")
    keys = "s3://key:secret@us-east-1/"
    async with trove.open(f"{keys}?endpoint=http://given:1"):
        pass
    with pytest.raises(InvalidDSNError, match="endpoint_url of the AWS configuration must not hold"):
        await trove.open(keys)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://environment:1")
    async with trove.open(keys):
        pass
