"""The command on S3 services: how objects are named, and ``ping --probe``."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.conftest import Run
from tests.cli.shell import Shell
from tests.s3.stores import address
from tests.servers import running
from trove_async.cli.names import StoreName, parse_name
from trove_async.dsn import parse_dsn
from trove_async.testing.answers import Answer, AnsweringProxy

KEYS = ["a b", "a//b", "/leading", "../up", "50%25", "what?", "#1", "größe", "a:b@c"]


@dataclass(frozen=True)
class Service:
    """A bucket on a server, and its DSN."""

    bucket: str
    account: str
    parameters: str

    def dsn(self, path: str = "") -> str:
        return f"s3://{self.account}/{path}?{self.parameters}"


@pytest.fixture(params=["ceph", "moto"])
def service(request: pytest.FixtureRequest, trove: Run) -> Iterator[Service]:
    handle = running(request.param)
    account = f"{handle.access_key}:{handle.secret_key}@{handle.region}"
    service = Service(f"cli-{uuid.uuid4().hex[:12]}", account, f"endpoint={handle.endpoint}&profile={request.param}")
    assert trove("mb", service.dsn(service.bucket)).code == 0
    yield service
    trove("rm", "-r", "-y", "-f", service.dsn(service.bucket))
    assert trove("rb", service.dsn(service.bucket)).code == 0


# Names


@pytest.mark.parametrize(
    ("text", "dsn", "bucket", "key", "folder"),
    [
        ("s3://us-east-1", "s3://us-east-1", "", "", False),
        ("s3://us-east-1/", "s3://us-east-1", "", "", False),
        ("s3://us-east-1/b", "s3://us-east-1", "b", "", False),
        ("s3://us-east-1/b/", "s3://us-east-1", "b", "", True),
        ("s3://us-east-1/b/k/l?profile=aws", "s3://us-east-1?profile=aws", "b", "k/l", False),
        ("s3:///b/k", "s3://", "b", "k", False),
        ("s3://us-east-1/b//k", "s3://us-east-1", "b", "/k", False),
        ("s3://us-east-1/b/f/", "s3://us-east-1", "b", "f/", True),
        ("s3://us-east-1/b/50%25%3F%23", "s3://us-east-1", "b", "50%?#", False),
        ("S3://id:sec%2Fret@eu-west-1/b/k", "s3://id:sec%2Fret@eu-west-1", "b", "k", False),
    ],
)
def test_bucket_and_key_follow_the_region(text: str, dsn: str, bucket: str, key: str, folder: bool) -> None:
    assert asyncio.run(parse_name(text, store=None)) == StoreName(dsn, bucket, key, folder)


@given(st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S")), min_size=1, max_size=20))
def test_credentials_may_contain_any_character(secret: str) -> None:
    escaped = "".join(f"%{ord(c):02X}" for c in secret)
    name = asyncio.run(parse_name(f"s3://{escaped}:{escaped}@us-east-1/b/k", store=None))
    assert isinstance(name, StoreName)
    opened = parse_dsn(name.dsn)
    assert (opened.user, opened.password, opened.host, opened.path) == (secret, secret, "us-east-1", "")
    assert "dsn" not in repr(name)


def test_names_in_a_store_with_a_prefix(service: Service, trove: Run) -> None:
    store, bucket = service.dsn(f"{service.bucket}/photos/2024"), service.bucket
    assert trove("--store", store, "cp", "-", f"{bucket}/a/k", stdin=b"data").code == 0
    assert trove("--store", store, "ls", "-r", bucket).lines[0].endswith("a/k")
    assert trove("--store", store, "cat", f"{bucket}/a/k").out == b"data"
    assert "photos" not in trove("--store", store, "cat", f"{bucket}/missing").err
    assert trove("cat", service.dsn(f"{bucket}/photos/2024/a/k")).out == b"data"


def test_a_host_in_place_of_a_region_is_reported_by_the_driver(trove: Run) -> None:
    done = trove("ls", "s3://localhost:9000/b/k")
    assert done.code == 2
    assert "?endpoint=http://localhost:9000" in done.err


# Commands


def test_objects_are_named_by_dsn(trove: Run, service: Service) -> None:
    for key in KEYS:
        escaped = "".join(c if (c.isalnum() and c.isascii()) or c == "/" else _escaped(c) for c in key)
        assert trove("put", "-", service.dsn(f"{service.bucket}/{escaped}"), stdin=key.encode()).code == 0
        assert trove("cat", service.dsn(f"{service.bucket}/{escaped}")).text == key
    found = trove("ls", "-r", "--json", service.dsn(service.bucket)).records
    assert sorted(record["key"] for record in found) == sorted(KEYS)


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())


def test_a_day_at_work(shell: Shell, trove: Run, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROVE_DSN", service.dsn())
    bucket = service.bucket
    shell.write("tree/a.txt", b"12345")
    shell.write("tree/sub/b.txt", b"6789")
    assert trove("cp", "-r", "./tree", f"{bucket}/t").code == 0
    assert trove("ls", "-r", bucket).lines == [f"{bucket}/t/a.txt", f"{bucket}/t/sub/b.txt"]
    assert trove("ls", service.dsn(f"{bucket}/t/")).lines == [f"{bucket}/t/a.txt", f"{bucket}/t/sub/"]
    assert f"{bucket}" in trove("ls").lines
    assert trove("cp", "-r", "./tree", f"{bucket}/t").err == "trove: 0 copied, 2 unchanged\n"
    assert trove("stat", f"{bucket}/t/a.txt", "--json").records[0]["size"] == 5
    assert trove("mv", f"{bucket}/t/a.txt", f"{bucket}/moved").code == 0
    assert trove("cat", f"{bucket}/moved").text == "12345"
    assert trove("tag", "set", f"{bucket}/moved", "team=web").code == 0
    assert trove("tag", "ls", f"{bucket}/moved").lines == ["team=web"]
    assert trove("put", "./tree/a.txt", f"{bucket}/moved", "--no-clobber").code == 4
    assert trove("cp", f"{bucket}/moved", "./back").code == 0
    assert (shell.folder / "back").read_bytes() == b"12345"
    assert "X-Amz-Signature=" in trove("presign", "get", f"{bucket}/moved").text
    assert trove("rm", f"{bucket}/nothing").code == 3
    assert trove("ls", f"{bucket}-missing").code == 3


def test_the_bucket_of_trove_dsn_is_repeated_in_names(
    trove: Run, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TROVE_DSN", service.dsn(service.bucket))
    assert trove("put", "-", f"{service.bucket}/k", stdin=b"x").code == 0
    assert trove("ls", service.bucket).lines == [f"{service.bucket}/k"]


def test_a_wrong_secret_is_not_shown(trove: Run) -> None:
    ceph = running("ceph")
    done = trove("ls", f"s3://{ceph.access_key}:hush-hush@us-east-1/bucket?endpoint={ceph.endpoint}")
    assert done.code == 5
    assert "hush-hush" not in done.err
    assert len(done.err.splitlines()) == 1


def test_an_invalid_command_line_shows_no_secret(trove: Run) -> None:
    dsn = "s3://id:hush-hush@us-east-1/bucket/?endpoint=http://127.0.0.1:1&session_token=hush-hush"
    for arguments in (("put", "-", dsn), ("rb", f"{dsn[:-10]}#"), ("mb", "--store", "x", dsn, "--nope", dsn)):
        done = trove(*arguments)
        assert done.code == 2
        assert "hush-hush" not in done.text + done.err


# ping --probe


def test_probe_output_for_people(trove: Run, service: Service) -> None:
    server = service.parameters.rpartition("=")[2]
    unknown = service.dsn(service.bucket).replace(f"&profile={server}", "")
    done = trove("ping", "--probe", unknown)
    assert done.code == 0, done.err
    findings = {line.split()[0]: " ".join(line.split()[1:]) for line in done.lines[1:]}
    assert findings["put_if_none_match"] == "yes"
    assert findings["copy"] == "no a stale x-amz-copy-source-if-match was ignored"
    assert findings["profile"] == server
    assert findings["for"].startswith(f"the DSN profile={server}")
    assert running(server).secret_key not in done.text + done.err  # type: ignore[call-overload]
    assert trove("ls", service.dsn(service.bucket)).lines == []


def test_probe_output_for_machines(trove: Run, service: Service) -> None:
    server = service.parameters.rpartition("=")[2]
    done = trove("ping", "--probe", "--json", service.dsn(service.bucket))
    assert done.code == 0, done.err
    ping, seen = done.records
    assert (ping["type"], seen["type"], seen["profile"]) == ("ping", "probe", server)
    assert seen["findings"]["get"] == {"works": True, "detail": ""}
    assert seen["conditions"] == sorted(name for name in seen["conditions"] if seen["findings"][name]["works"])
    assert seen["parameters"]["profile"] == server


def test_probe_needs_a_bucket(trove: Run, service: Service) -> None:
    done = trove("ping", "--probe", service.dsn())
    assert done.code == 2
    assert "s3://region/bucket" in done.err


def test_probe_is_refused_by_drivers_without_one(trove: Run) -> None:
    done = trove("ping", "--probe")
    assert (done.code, done.lines) == (1, [])
    assert done.err == "trove: local has nothing to probe: its features are known; leave out --probe\n"


# Few rights


@pytest.mark.asyncio
async def test_few_rights(shell: Shell) -> None:
    """Writing a tree needs the right to write below its prefix; the rights to read and to list are not needed."""
    shell.write("tree/x", b"x")
    shell.write("tree/y", b"y")
    denied = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    headers = {"content-type": "application/xml", "x-amz-request-id": "1"}
    async with AnsweringProxy(*address("moto")) as service:
        for method in ("GET", "HEAD", "POST"):
            service.answer(Answer(403, headers, b"" if method == "HEAD" else denied), method=method, times=None)
        service.answer(Answer(200, {**headers, "etag": '"e"'}, b""), method="PUT", times=None)
        dsn = f"s3://AK:SK@us-east-1/drop/in?endpoint={service.url()}"
        done = await asyncio.to_thread(shell.run, "cp", "-r", "./tree", dsn)
        assert (done.code, done.err) == (0, "trove: 2 copied, 0 unchanged\n")
        assert sorted((seen.method, seen.target.partition("?")[0]) for seen in service.requests) == [
            ("GET", "/drop"),  # a listing, which is refused once
            ("HEAD", "/drop/in/x"),
            ("HEAD", "/drop/in/y"),
            ("PUT", "/drop/in/x"),
            ("PUT", "/drop/in/y"),
        ]


@pytest.mark.asyncio
async def test_an_object_is_shown_to_who_may_only_read_it(shell: Shell) -> None:
    denied = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    headers = {"content-type": "application/xml", "x-amz-request-id": "1"}
    described = {**headers, "etag": '"e"', "content-length": "5", "last-modified": "Sun, 29 Nov 2026 10:00:00 GMT"}
    async with AnsweringProxy(*address("moto")) as service:
        service.answer(Answer(403, headers, denied), method="GET", times=None)
        service.answer(Answer(200, described, b""), method="HEAD", times=None)
        dsn = f"s3://AK:SK@us-east-1/drop/tools/update.sh?endpoint={service.url()}"
        done = await asyncio.to_thread(shell.run, "ls", dsn)
    assert (done.code, done.text) == (0, "drop/tools/update.sh\n")
