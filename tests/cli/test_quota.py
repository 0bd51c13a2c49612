"""``quota``."""

from __future__ import annotations

import asyncio

import pytest

import trove_async
from tests.cli.conftest import Run
from tests.cli.shell import Shell

LIMITS = {"b": trove_async.QuotaLimit(bytes=100, objects=5), "b/t/": trove_async.QuotaLimit(bytes=50)}


@pytest.fixture
def url(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> str:
    """The database of a quota, which counts an object that is not there any more."""
    database = f"sqlite:///{shell.folder}/quota.db"

    async def write() -> None:
        async with (
            trove_async.open(shell.dsn, layers=[trove_async.Quota(LIMITS, database=database)]) as t,
            trove_async.open(shell.dsn) as plain,
        ):
            await t.create_bucket("b", exist_ok=True)
            await t.put("b", "t/a", b"x" * 20)
            await t.put("b", "c", b"x" * 3)
            await plain.delete("b", "c")

    asyncio.run(write())
    monkeypatch.setenv("TROVE_QUOTA_DATABASE", database)
    return database


def test_show_and_recount(shell: Shell, trove: Run, url: str) -> None:
    assert trove("quota", "show").lines == ["b: 23 of 100 bytes, 2 of 5 objects", "b/t/: 20 of 50 bytes, 1 objects"]
    assert trove("quota", "show", "b/t/").lines == ["b/t/: 20 of 50 bytes, 1 objects"]
    assert trove("quota", "recount", shell.dsn, "b/t/").lines == ["b/t/: 20 of 50 bytes, 1 objects"]
    assert trove("quota", "recount").lines == [
        "b: 20 of 100 bytes, 1 of 5 objects (before: 23 bytes, 2 objects)",
        "b/t/: 20 of 50 bytes, 1 objects",
    ]
    (record,) = trove("quota", "show", "--json", "--database", url, "b").records
    assert record == {"type": "quota", "quota": "b", "bytes": 20, "max_bytes": 100, "objects": 1, "max_objects": 5}
    (record,) = trove("quota", "recount", "--json", "b").records
    assert (record["bytes"], record["bytes_before"]) == (20, 20)


def test_what_does_not_exist(shell: Shell, trove: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = trove("quota", "recount", "other")
    assert (done.code, done.err) == (2, "trove: there is no limit for 'other'; there are limits for 'b', 'b/t/'\n")
    assert trove("quota", "show", "b/x").err == done.err.replace("'other'", "'b/x'")
    done = trove("quota", "recount", "--database", f"sqlite:///{shell.folder}/empty.db")
    assert "the database has no limits of a quota" in done.err
    done = trove("quota", "show", "--database", f"sqlite:///{shell.folder}/typing-error.db")
    assert (done.code, done.lines) == (2, [])
    assert "the database has no limits of a quota" in done.err
    monkeypatch.delenv("TROVE_QUOTA_DATABASE")
    done = trove("quota", "show")
    assert done.code == 2
    assert "--database" in done.err


def test_the_store_of_a_recount_may_be_one_of_the_configuration(
    shell: Shell, trove: Run, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = shell.folder / "trove.toml"
    config.write_text(f'[stores.media]\ndsn = "{shell.dsn}"\n')
    monkeypatch.setenv("TROVE_CONFIG", str(config))
    monkeypatch.delenv("TROVE_DSN")
    assert trove("quota", "recount", "media:", "b/t/").lines == ["b/t/: 20 of 50 bytes, 1 objects"]
    done = trove("quota", "recount", "media")
    assert (done.code, done.err) == (
        2,
        "trove: 'media' is taken for a limit; write 'media:' for the store of trove.toml\n",
    )
    assert trove("quota", "recount", "b/t/").code == 2
