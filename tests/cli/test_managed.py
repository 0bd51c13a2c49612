"""``managed``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

import trove_async
from tests.cli.conftest import Run
from tests.cli.shell import Done, Shell
from tests.managed.state import age
from trove_async import managed
from trove_async.managed import ManagedStorage

Work = Callable[[ManagedStorage], Awaitable[object]]


@pytest.fixture
def work_on(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Callable[[Work], None]:
    """Work on managed storage in the bucket ``b``, whose database the variable names."""
    database = f"sqlite:///{shell.folder}/managed.db?synchronous=0"
    monkeypatch.setenv("TROVE_MANAGED_DATABASE", database)

    def run(work: Work) -> None:
        async def opened() -> None:
            async with trove_async.open(shell.dsn) as t:
                await t.create_bucket("b", exist_ok=True)
                async with managed.open(t, database=database, bucket="b") as m:
                    await work(m)

        asyncio.run(opened())

    return run


async def prepare(m: ManagedStorage) -> None:
    """Store two contents under three names, and one that was removed two days ago."""
    await m.put_for_bucket("x", "one", b"content")
    await m.put_for_user("u", "two", b"content")
    await m.put_for_all("three", b"x" * 100)
    await m.put_for_bucket("x", "old", b"old")
    await m.remove_for_bucket("x", "old")
    await age(m, 2 * 86400)


async def lose(m: ManagedStorage) -> None:
    """Delete the bytes of a content behind the catalogue's back."""
    info = await m.stat_for_all("three")
    resource = await m.catalogue.get(await m.catalogue.find(info.sha384))
    await m.storage.remove(resource.path)


def test_migrate_creates_the_tables(shell: Shell, trove: Run) -> None:
    database = f"sqlite:///{shell.folder}/new.db"
    for _ in range(2):
        done = trove("managed", "migrate", "--database", database)
        assert (done.code, done.lines) == (0, ["the tables are up to date"])
    assert trove("managed", "migrate", "--database", database, "--json").records == [
        {"type": "migration", "component": "managed"}
    ]
    done = trove("managed", "stats", "--database", database, "--space", "typo")
    assert (done.code, done.err) == (0, "trove: the database has no content of the space 'typo'\n")


def test_stats(trove: Run, work_on: Callable[[Work], None]) -> None:
    work_on(prepare)
    assert trove("managed", "stats").lines == [
        "2 contents of 107 bytes",
        "3 references to 114 bytes, 3 of them names",
        "0 pinned, 0 pending, 0 lost",
        "1 without references, of 3 bytes, wait for gc",
    ]
    (record,) = trove("managed", "stats", "--json").records
    assert record == {
        "type": "stats", "space": "managed", "blobs": 2, "bytes": 107, "references": 3, "logical_bytes": 114,
        "names": 3, "pinned": 0, "pending": 0, "lost": 0, "condemned": 1, "condemned_bytes": 3,
    }  # fmt: skip


def test_gc_deletes_only_if_it_is_told_to(trove: Run, work_on: Callable[[Work], None]) -> None:
    work_on(prepare)
    done = trove("managed", "gc", "b")
    assert done.code == 1
    assert "1 of 3 blobs would be deleted, more than 10%; nothing was deleted" in done.err
    assert trove("managed", "gc", "b", "--grace", "3d", "--delete").lines == ["deleted 0 blobs of 0 bytes; 1 waits"]
    assert trove("managed", "gc", "b", "--force").lines == ["would delete 1 blob of 3 bytes; 0 wait"]
    assert trove("managed", "gc", "b", "--force", "--delete", "--max-deletes", "0").lines == [
        "deleted 0 blobs of 0 bytes; 0 wait"
    ]
    (record,) = trove("managed", "gc", "b", "--force", "--delete", "--json").records
    assert record == {
        "type": "collection", "space": "managed", "dry_run": False, "expired": 0, "orphans": 0, "unfinished": 0,
        "deleted": 1, "bytes": 3, "waiting": 0, "failed": [],
    }  # fmt: skip
    assert len(trove("ls", "-r", "b").lines) == 2


def test_gc_of_the_wrong_space(shell: Shell, trove: Run, work_on: Callable[[Work], None]) -> None:
    work_on(prepare)
    done = trove("managed", "gc", "b", "--grace", "0", "--delete", "--force", "--space", "typo")
    assert (done.code, done.lines) == (0, ["deleted 0 blobs of 0 bytes; 0 wait"])
    assert done.err == "trove: the database has no content of the space 'typo'\n"
    assert len(trove("ls", "-r", "b").lines) == 3
    assert "no content of the space 'typo'" in trove("managed", "fsck", "b", "--space", "typo").err


def test_fsck(shell: Shell, trove: Run, work_on: Callable[[Work], None]) -> None:
    work_on(prepare)
    for depth in ("rows", "heads"):
        done = trove("managed", "fsck", "b", "--depth", depth)
        assert (done.code, done.lines) == (0, ["3 contents, 0 problems"])
    assert trove("managed", "fsck", "b", "--depth", "bytes").lines == ["3 contents, 107 bytes read, 0 problems"]
    work_on(lose)
    done = trove("managed", "fsck", "b", "--depth", "heads")
    (problem, summary) = done.lines
    assert done.code == 1
    assert problem.startswith("missing: ")
    assert problem.endswith(": its 100 bytes are missing")
    assert summary == "3 contents, 1 problems"
    assert "1 problems are left; --repair corrects what can be corrected" in done.err
    done = trove("managed", "fsck", "b", "--depth", "heads", "--repair")
    assert done.code == 1
    assert done.lines[0].startswith("marked as lost: missing: ")
    assert "content is lost; store it again" in done.err
    record, summary_record = trove("managed", "fsck", "b", "--depth", "heads", "--json").records
    assert (record["type"], record["kind"], record["repaired"]) == ("problem", "missing", False)
    assert record["digest"].startswith("sha384:")
    assert summary_record == {
        "type": "fsck", "space": "managed", "depth": "heads", "contents": 3, "bytes": 0, "problems": 1
    }  # fmt: skip
    work_on(lambda m: m.put_for_all("again", b"x" * 100))
    assert trove("managed", "fsck", "b", "--depth", "bytes").code == 0


def test_fsck_of_the_wrong_bucket(trove: Run, work_on: Callable[[Work], None]) -> None:
    work_on(prepare)
    assert trove("mb", "wrong").code == 0
    line = ("managed", "fsck", "wrong", "--depth", "heads", "--repair")
    done = trove(*line)
    assert (done.code, done.lines) == (1, [])
    assert "2 of 2 blobs would be marked as lost, more than 10%; nothing was marked as lost" in done.err
    assert trove("managed", "fsck", "b", "--depth", "bytes").code == 0
    assert len(trove(*line, "--force").lines) == 3
    assert trove("managed", "fsck", "b", "--depth", "bytes", "--repair").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gc", "b", "--grace", "soon"), "is not a time"),
        (("gc", "b/key"), "does not name a bucket"),
        (("gc", "b", "--max-deletes", "-1"), "max-deletes"),
        (("fsck", "b", "--depth", "deep"), "the depth is one of rows, heads, bytes, not 'deep'"),
        (("stats", "--database", "mysql://x"), "database"),
        (("gc",), "NAME"),
    ],
)
def test_invalid_command_lines(
    trove: Run, work_on: Callable[[Work], None], arguments: tuple[str, ...], message: str
) -> None:
    work_on(prepare)
    done = trove("managed", *arguments)
    assert done.code == 2
    assert message in done.err


BAD_DATABASES = [
    ("managed.db", 2, "the URL of a database has a scheme"),
    ("mysql://host/x", 2, "'mysql' is not the scheme of a database"),
    ("sqlite:///managed.db?busy_timeout=soon", 2, "busy_timeout must be a number of seconds, not 'soon'"),
    ("sqlite:///managed.db?nothing=1", 2, "sqlite has no parameter 'nothing'"),
    ("sqlite:///typo.db", 3, "typo.db' does not exist; trove managed migrate creates one"),
    ("sqlite:///none/managed.db", 3, "none/managed.db' does not exist"),
    ("sqlite:///notes.txt", 1, "notes.txt': the file is no SQLite database"),
    ("postgresql://u:secret@127.0.0.1:1/x", 1, "the database cannot be reached"),
    ("postgresql://u:secret@127.0.0.1:1/x?pool_size=0", 2, "pool_size must be"),
]
COMMANDS = [("stats",), ("gc", "b", "--delete", "--force"), ("fsck", "b", "--depth", "heads", "--repair", "--force")]


def files(shell: Shell) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in shell.folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("database", "code", "message"), BAD_DATABASES)
def test_databases_that_cannot_be_used(
    shell: Shell, trove: Run, work_on: Callable[[Work], None], database: str, code: int, message: str
) -> None:
    work_on(prepare)
    (shell.folder / "notes.txt").write_text("no database" * 1000)
    before = files(shell)
    for command in COMMANDS:
        refuses(trove("managed", *command, "--database", database), code, message)
    assert files(shell) == before


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("nothing",), 3, "the bucket 'nothing' does not exist"),
        (("b", "--space", ""), 2, "a space is text that is not empty"),
        (("b", "--space", "x" * 1025), 2, "a space has at most 1024 bytes"),
        (("b", "--namespace", "x" * 1025), 2, "more than 1024"),
        (("b", "--grace", "nan"), 2, "'nan' is not a time"),
        (("b", "--grace=-1"), 2, "'-1' is not a time"),
        (("b", "--grace", "99999999d"), 2, "the grace is a number of seconds from 0 to 1e9"),
    ],
)
def test_options_that_cannot_be_used(
    shell: Shell, trove: Run, work_on: Callable[[Work], None], options: tuple[str, ...], code: int, message: str
) -> None:
    work_on(prepare)
    before = files(shell)
    for command in (("gc", "--delete", "--force"), ("fsck", "--depth", "heads", "--repair", "--force")):
        refuses(trove("managed", *command, *options), code, message)
    assert files(shell) == before


def refuses(done: Done, code: int, message: str) -> None:
    assert (done.code, done.lines) == (code, [])
    assert message in done.err
    assert done.err.count("\n") == 1
    assert "secret" not in done.err


def test_the_blobs_of_a_dedup_are_in_the_store_beneath_it(
    shell: Shell, trove: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = f"sqlite:///{shell.folder}/dedup.db?synchronous=0"
    config = shell.folder / "trove.toml"
    config.write_text(
        f'[stores.plain]\ndsn = "{shell.dsn}"\n'
        f'[stores.assets]\ndsn = "plain"\nlayers = [{{ use = "Dedup", database = "{database}", bucket = "blobs" }}]\n'
    )
    monkeypatch.setenv("TROVE_CONFIG", str(config))
    monkeypatch.setenv("TROVE_MANAGED_DATABASE", database)
    assert trove("mb", "assets:b").code == 0
    assert trove("put", "-", "assets:b/a", stdin=b"content").code == 0
    for line in (["gc", "--delete"], ["fsck", "--repair", "--depth", "heads"]):
        done = trove("managed", *line, "assets:b", "--space", "dedup")
        assert done.code == 2
        assert "name the store without this layer" in done.err
    done = trove("managed", "fsck", "plain:blobs", "--space", "dedup", "--depth", "bytes")
    assert (done.code, done.lines) == (0, ["1 contents, 7 bytes read, 0 problems"])
    assert trove("cat", "assets:b/a").out == b"content"


def test_without_a_database(trove: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TROVE_MANAGED_DATABASE", raising=False)
    done = trove("managed", "stats")
    assert done.code == 2
    assert "--database" in done.err
