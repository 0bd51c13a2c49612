"""Keys and regions that are read without the SDK: the same that the SDK finds, or none."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import running
from trove_async.drivers.s3.session import _ask, _sdk_region
from trove_async.drivers.s3.static import read_profile, static_credentials
from trove_async.wire.sigv4 import Credentials

KEYS = "aws_access_key_id = {0}\naws_secret_access_key = s-{0}\n"
TOKEN = "aws_session_token = t-{0}\n"
IN_ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "env", "AWS_SECRET_ACCESS_KEY": "s-env"}

CREDENTIALS = [
    None,
    "[default]\n" + KEYS.format("shared"),
    "[default]\n" + KEYS.format("shared") + TOKEN.format("shared") + "region = eu-west-1\n[work]\n" + KEYS.format("w1"),
    "[work]\naws_access_key_id = half\n[other]\n" + KEYS.format("other"),
    "[default]\naws_access_key_id =\naws_secret_access_key = s\n[profile work]\n" + KEYS.format("odd"),
    "[default]\naws_access_key_id = old\naws_secret_access_key = s\naws_security_token = legacy\n",
]
CONFIGS = [
    None,
    "[default]\nregion = eu-north-1\n" + KEYS.format("config") + TOKEN.format("config"),
    "[default]\nregion = eu-west-2\n[profile work]\nregion = eu-south-1\noutput = json\n" + KEYS.format("w2"),
    "[profile default]\nregion = a\n[default]\nregion = b\n[profile 'work']\nregion = c\n[work]\nregion = d\n",
    "[DEFAULT]\nregion = everywhere\n[profile work]\ns3 =\n  max_concurrent_requests = 20\n" + KEYS.format("w3"),
    "[profile work]\n" + KEYS.format("w4") + "  continued\n[sso-session work]\nsso_region = us-east-1\n",
    "[profile work]\ns3 =\n  no setting\n",
    "[default]\nregion =\n  a = b\n",
    "no section\n",
    "[default]\nregion = a\n[default]\nregion = b\n",
]
ENVIRONMENTS: list[dict[str, str]] = [
    {},
    IN_ENVIRONMENT,
    {**IN_ENVIRONMENT, "AWS_SESSION_TOKEN": "t-env", "AWS_PROFILE": "work"},
    {**IN_ENVIRONMENT, "AWS_SESSION_TOKEN": "t-env", "AWS_SECURITY_TOKEN": "t-legacy"},
    {"AWS_ACCESS_KEY_ID": "half", "AWS_PROFILE": ""},
    {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "s", "AWS_PROFILE": "work"},
    {"AWS_PROFILE": "other", "AWS_DEFAULT_PROFILE": "work"},
    {"AWS_PROFILE": "nobody"},
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Remove what the environment says about Amazon, and give the SDK files that do not exist."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


def write(home: Path, credentials: str | None, config: str | None) -> None:
    for name, content in (("credentials", credentials), ("config", config)):
        (home / name).unlink(missing_ok=True)
        if content is not None:
            (home / name).write_text(content)


def sdk_credentials(aws_profile: str | None) -> Credentials:
    _, found = _ask(aws_profile, None)
    return Credentials(found.access_key, found.secret_key, found.token)


@pytest.mark.parametrize("environ", ENVIRONMENTS, ids=lambda environ: "+".join(environ) or "none")
def test_what_is_found_is_what_the_sdk_finds(
    home: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    found = 0
    for credentials, config, aws_profile in itertools.product(CREDENTIALS, CONFIGS, (None, "work")):
        write(home, credentials, config)
        case = f"{credentials}\n---\n{config}\n--- {aws_profile}"
        static = static_credentials(aws_profile)
        if static is not None:
            found += 1
            assert static == sdk_credentials(aws_profile), case
        profile = read_profile(aws_profile)
        if profile is not None:
            assert profile.get("region") == _sdk_region(aws_profile), case
    assert found > 5


@pytest.mark.parametrize("token", ["", TOKEN.format("a")], ids=["", "token"])
@pytest.mark.parametrize("file", ["credentials", "config"])
@pytest.mark.parametrize("chosen", ["argument", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "default"])
def test_a_plain_profile_is_read(
    home: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, file: str, token: str
) -> None:
    name = "default" if chosen == "default" else "work"
    section = f"profile {name}" if file == "config" and chosen != "default" else name
    (home / file).write_text(f"[{section}]\nregion = eu-west-3\noutput = json\n" + KEYS.format("a") + token)
    if chosen.startswith("AWS"):
        monkeypatch.setenv(chosen, name)
    aws_profile = name if chosen == "argument" else None
    expected = Credentials("a", "s-a", "t-a" if token else None)
    assert static_credentials(aws_profile) == expected == sdk_credentials(aws_profile)
    profile = read_profile(aws_profile)
    assert profile is not None
    assert profile["region"] == "eu-west-3" == _sdk_region(aws_profile)


@pytest.mark.parametrize(
    "setting",
    [
        "role_arn = arn:aws:iam::1:role/r\nsource_profile = base",
        "role_arn = arn:aws:iam::1:role/r\nweb_identity_token_file = /token",
        "credential_process = /bin/issue",
        "sso_session = work",
        "sso_account_id = 1",
        "login_session = arn:aws:iam::1:user/u",
        "services = local",
        "aws_security_token = legacy",
        "a_setting_of_the_future = 1",
    ],
)
@pytest.mark.parametrize("file", ["credentials", "config"])
def test_a_profile_with_another_source_is_left_to_the_sdk(home: Path, file: str, setting: str) -> None:
    (home / "credentials").write_text("[default]\n" + KEYS.format("a"))
    assert static_credentials(None) == Credentials("a", "s-a")
    with (home / file).open("a") as writing:
        writing.write(f"{'[default]' if file == 'config' else ''}\n{setting}\n")
    assert static_credentials(None) is None


@pytest.mark.parametrize(
    ("keys", "variables"),
    [
        (False, {"AWS_ROLE_ARN": "arn:aws:iam::1:role/r", "AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}),
        (True, {**IN_ENVIRONMENT, "AWS_CREDENTIAL_EXPIRATION": "2030-01-01T00:00:00Z"}),
        (True, {"AWS_ACCESS_KEY_ID": "half"}),
        (False, {**IN_ENVIRONMENT, "AWS_PROFILE": "nobody"}),
    ],
)
def test_an_environment_with_another_source_is_left_to_the_sdk(
    home: Path, monkeypatch: pytest.MonkeyPatch, keys: bool, variables: dict[str, str]
) -> None:
    (home / "credentials").write_text("[default]\n" + KEYS.format("a"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert static_credentials(None) is None


# Without the SDK

OPERATIONS = """
import asyncio, sys
import trove_async as trove

async def main():
    async with trove.open(sys.argv[1], part_size=1 << 20, min_part_size=1 << 20) as store:
        name = sys.argv[2]
        await store.create_bucket(name)
        try:
            await store.put(name, "small", b"data")
            await store.put(name, "large", bytes(3 << 20))
            assert await store.read(name, "small") == b"data"
            assert len(await store.read(name, "large")) == 3 << 20
            assert (await store.head(name, "small")).size == 4
            await store.copy(name, "small", name, "copy")
            assert [found.key async for found in store.list(name)] == ["copy", "large", "small"]
            assert await store.list_multipart_uploads(name) == []
            assert name in [bucket.name for bucket in await store.list_buckets()]
            await store.presign_get(name, "small")
            await store.delete(name, "copy")
        finally:
            await store.delete_many(name, ["copy", "large", "small"])
            await store.delete_bucket(name)

asyncio.run(main())
"""
COMMAND = """
import sys
from trove_async.cli.app import run
assert not run(["ls", sys.argv[1]])
"""
REPORT = """
foreign = {"aiobotocore", "aiohttp", "botocore", "httpx", "urllib3"}
print("imported:", *sorted(foreign.intersection(sys.modules)))
"""


@pytest.mark.parametrize("program", [OPERATIONS, COMMAND], ids=["operations", "command"])
@pytest.mark.parametrize("keys", ["dsn", "environment", "credentials", "config"])
def test_a_store_with_static_keys_does_not_import_the_sdk(home: Path, keys: str, program: str) -> None:
    ceph = running("ceph")
    environ = dict(os.environ)
    query = f"endpoint={ceph.endpoint}&profile=ceph"
    dsn = f"s3:///?{query}"
    settings = f"aws_access_key_id = {ceph.access_key}\naws_secret_access_key = {ceph.secret_key}\n"
    if keys == "dsn":
        dsn = f"s3://{ceph.access_key}:{ceph.secret_key}@{ceph.region}/?{query}"
    elif keys == "environment":
        environ |= {"AWS_ACCESS_KEY_ID": ceph.access_key, "AWS_SECRET_ACCESS_KEY": ceph.secret_key}
    else:
        (home / keys).write_text(f"[default]\nregion = {ceph.region}\n{settings}")
    command = [sys.executable, "-c", program + REPORT, dsn, f"static-{os.getpid()}-{keys}"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["imported:"]
