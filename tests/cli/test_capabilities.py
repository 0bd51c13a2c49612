"""``tag``, ``versions``, ``lifecycle``, ``presign``."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

import trove_async
from tests.cli.conftest import Run
from tests.cli.shell import Shell
from trove_async.cli.errors import UsageError
from trove_async.cli.lifecycle import parse_rules
from trove_async.types import LifecycleRule
from trove_async.web import signed_urls


def test_tags(trove: Run) -> None:
    trove("mb", "b")
    trove("put", "-", "b/k", "--tag", "a=1")
    assert trove("tag", "set", "b/k", "b=2", "c=3").code == 0
    assert trove("tag", "ls", "b/k").lines == ["a=1", "b=2", "c=3"]
    assert trove("tag", "rm", "b/k", "b", "never").code == 0
    assert trove("tag", "ls", "b/k", "--json").records == [
        {"type": "tag", "name": "a", "value": "1"},
        {"type": "tag", "name": "c", "value": "3"},
    ]


def test_tags_replaced_and_removed(shell: Shell, trove: Run) -> None:
    shell.write("f", b"")
    trove("mb", "b")
    trove("put", "f", "b/k", "--tag", "a=1")
    assert trove("tag", "set", "b/k", "x=y", "--replace").code == 0
    assert trove("tag", "ls", "b/k").lines == ["x=y"]
    assert trove("tag", "rm", "b/k").code == 2
    assert trove("tag", "rm", "b/k", "x", "--all").code == 2
    assert trove("tag", "rm", "b/k", "--all").code == 0
    assert trove("tag", "ls", "b/k").lines == []
    assert trove("tag", "ls", "b/missing").code == 3


def test_versions_of_a_bucket(trove: Run) -> None:
    trove("mb", "b")
    assert trove("versions", "status", "b").lines == ["unversioned"]
    assert trove("versions", "on", "b").code == 0
    for body in (b"one", b"two"):
        trove("put", "-", "b/k", stdin=body)
    trove("rm", "b/k")
    marker, second, first = trove("versions", "ls", "b/k", "--json").records
    assert (marker["is_delete_marker"], second["is_latest"], first["size"]) == (True, False, 3)
    assert trove("versions", "get", "b/k", first["version_id"]).out == b"one"
    assert trove("versions", "restore", "b/k", first["version_id"]).code == 0
    assert trove("cat", "b/k").out == b"one"


def test_versions_of_an_object(shell: Shell, trove: Run) -> None:
    trove("mb", "b")
    trove("versions", "on", "b")
    for body in (b"one", b"two"):
        shell.write("f", body)
        trove("put", "f", "b/k")
    lines = trove("versions", "ls", "b/k").lines
    assert [line.endswith(" latest") for line in lines] == [True, False]
    first = lines[1].split()[0]
    assert trove("cat", "b/k", "--version-id", first).out == b"one"
    assert trove("stat", "b/k", "--version-id", first, "--json").records[0]["version_id"] == first
    assert trove("versions", "get", "b/k", first, "--output", "saved").code == 0
    assert (shell.folder / "saved").read_bytes() == b"one"
    assert trove("versions", "rm", "b/k", first).code == 0
    assert trove("versions", "rm", "b/k", first).code == 3
    assert trove("versions", "ls", "b/missing").code == 3
    assert trove("versions", "off", "b").code == 0
    assert trove("versions", "status", "b", "--json").records == [
        {"type": "versioning", "bucket": "b", "status": "suspended"}
    ]


def test_lifecycle(shell: Shell, trove: Run) -> None:
    rules = [{"id": "old", "prefix": "tmp/", "expiration_days": 1}, {"id": "parts", "abort_incomplete_days": 7}]
    shell.write("f", b"")
    shell.write("rules.json", json.dumps(rules).encode())
    trove("mb", "b", "other")
    trove("put", "f", "b/tmp/x")
    trove("put", "f", "b/keep")
    assert trove("lifecycle", "get", "b").text == "[]\n"
    assert trove("lifecycle", "set", "b", "rules.json").code == 0
    printed = trove("lifecycle", "get", "b")
    assert [rule["id"] for rule in json.loads(printed.out)] == ["old", "parts"]
    shell.write("again.json", printed.out)
    assert trove("lifecycle", "set", "other", "again.json").code == 0
    assert trove("lifecycle", "get", "other", "--json").records == json.loads(printed.out)
    (report,) = trove("lifecycle", "apply", "b", "--json").records
    assert (report["bucket"], report["expired"], report["uploads_aborted"]) == ("b", 0, 0)
    assert [line.partition(":")[0] for line in trove("lifecycle", "apply").lines] == ["b", "other"]
    assert trove("lifecycle", "apply", shell.dsn.partition("?")[0]).code == 0
    assert trove("lifecycle", "rm", "b").code == 0
    assert trove("lifecycle", "get", "b").text == "[]\n"


def test_rules_come_from_standard_input(trove: Run) -> None:
    trove("mb", "b")
    assert trove("lifecycle", "set", "b", "-", stdin=b'[{"id": "a", "expiration_days": 3}]').code == 0
    assert json.loads(trove("lifecycle", "get", "b").out)[0]["expiration_days"] == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "not JSON"),
        (b"{}", "a JSON list"),
        (b"[1]", "rule 1 is not an object"),
        (b'[{"id": "a"}, {"prefix": "x"}]', "rule 2 is not an object with an id"),
        (b'[{"id": "a", "days": 3}]', "unknown field 'days'; the fields are abort_incomplete_days, "),
        (b"\xff", "not JSON"),
    ],
)
def test_invalid_rules(text: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_rules(text)


def test_rules() -> None:
    assert parse_rules(b'[{"id": "a", "enabled": false}]') == [LifecycleRule("a", enabled=False)]


@pytest.mark.parametrize("value", ['"3"', "-1", "1.5", "{}", "true"])
def test_a_rule_with_an_invalid_value_is_refused(shell: Shell, trove: Run, value: str) -> None:
    trove("mb", "b")
    shell.write("rules", f'[{{"id": "a", "expiration_days": {value}}}]'.encode())
    done = trove("lifecycle", "set", "b", "rules")
    assert (done.code, done.err.count("\n")) == (2, 1)


@pytest.mark.parametrize(("method", "status"), [("get", 200), ("head", 200), ("put", 200), ("delete", 204)])
def test_a_signed_url_permits_only_its_method(shell: Shell, trove: Run, method: str, status: int) -> None:
    base = "http://objects.test/signed"
    store = f"{shell.dsn}&presign_url={base}"
    shell.write("f", b"content")
    trove("mb", "b")
    trove("put", "f", "b/größe/k")
    (record,) = trove("presign", method, "b/größe/k", "--expires", "5m", "--store", store, "--json").records
    assert (record["method"], record["url"].startswith(base)) == (method.upper(), True)

    async def send() -> int:
        async with trove_async.open(store) as opened:
            transport = httpx.ASGITransport(app=signed_urls(opened))
            async with httpx.AsyncClient(transport=transport) as client:
                response = await client.request(method.upper(), record["url"])
                other = await client.request("POST", record["url"])
                assert other.status_code >= 400
                return response.status_code

    assert asyncio.run(send()) == status
