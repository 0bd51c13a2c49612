"""``mirror``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import trove_async
from tests.cli.conftest import Run
from tests.cli.shell import Shell
from tests.mirror.stores import rot

NOTHING = "nothing waits for repair"


class Members:
    """Two local stores, which trove.toml names, and of which it makes stores over both."""

    def __init__(self, folder: Path) -> None:
        self.roots = {name: folder / name for name in ("here", "there")}
        for root in self.roots.values():
            root.mkdir()
        dsns = {name: f"local://{root}?fsync=0" for name, root in self.roots.items()}
        self.config = folder / "trove.toml"
        self.config.write_text(f'''
            [stores.here]
            dsn = "{dsns["here"]}"

            [stores.there]
            dsn = "{dsns["there"]}"

            [stores.twice]
            mirror = {{ members = {{ here = "here", there = "there" }}, queue = "sqlite:///mirror.db" }}
            layers = ["Retry"]

            [stores.near]
            failover = {{ members = ["here", "there"], queue = "sqlite:///failover.db" }}

            [stores.read]
            failover = {{ members = ["here", "there"] }}
        ''')

    def put(self, store: str, key: str, data: bytes) -> None:
        """Store an object with a checksum in a store of the configuration."""

        async def put() -> None:
            async with trove_async.open(store, config=self.config) as t:
                await t.create_bucket("b", exist_ok=True)
                await t.put("b", key, data, checksum="sha256")

        asyncio.run(put())

    def rot(self, member: str, data: bytes) -> None:
        """Change the files of a member that have this content, as a bad disk does."""
        files = [file for file in self.roots[member].rglob("*") if file.is_file() and file.read_bytes() == data]
        assert files
        for file in files:
            rot(file)


@pytest.fixture
def members(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Members:
    found = Members(shell.folder)
    monkeypatch.setenv("TROVE_CONFIG", str(found.config))
    return found


def test_what_a_member_lacks_is_queued_and_repaired(trove: Run, members: Members) -> None:
    members.put("here", "a", b"a")
    members.put("here", "c/d", b"d")
    assert trove("mirror", "status", "twice").lines == [f"here: {NOTHING}", f"there: {NOTHING}"]
    assert trove("mirror", "backfill", "twice", "b/c/").lines == ["b/c/: 1 copies queued for repair"]
    assert trove("mirror", "backfill", "twice:").lines == ["b: 1 copies queued for repair"]
    here, there = trove("mirror", "status", "twice").lines
    assert here == f"here: {NOTHING}"
    assert there.startswith("there: 2 copies wait for repair, the oldest since 20")
    done = trove("mirror", "repair", "trove://twice")
    assert (done.code, done.lines) == (0, ["2 copies repaired"])
    assert trove("cat", "there:b/c/d").out == b"d"


def test_records(trove: Run, members: Members) -> None:
    members.put("here", "a", b"a")
    assert trove("mirror", "backfill", "twice", "--json").records == [
        {"type": "backfill", "bucket": "b", "prefix": "", "queued": 1}
    ]
    here, there = trove("--json", "mirror", "status", "twice").records
    assert here == {"type": "member", "member": "here", "copies": 0, "oldest": None, "failing": 0, "error": ""}
    assert there["oldest"].endswith("+00:00")
    assert {**there, "oldest": None} == {**here, "member": "there", "copies": 1}
    assert trove("mirror", "repair", "twice", "--json").records == [{"type": "repair", "repaired": 1, "waiting": 0}]
    assert trove("mirror", "scrub", "twice", "b/a", "--json", "--rate", "50e6").records == [
        {"type": "scrub", "bucket": "b", "prefix": "a", "objects": 1, "bytes": 2, "queued": 0, "lost": [], "skipped": 0}
    ]


def test_a_scrub_finds_what_has_gone_bad(trove: Run, members: Members) -> None:
    members.put("twice", "bad", b"bad content")
    members.put("twice", "lost", b"lost content")
    members.rot("there", b"bad content")
    members.rot("here", b"lost content")
    members.rot("there", b"lost content")
    done = trove("mirror", "scrub", "twice", "b/bad")
    assert (done.code, done.lines) == (
        0,
        ["b/bad: 1 objects compared, 22 bytes read, 1 copies queued for repair, 0 objects skipped, 0 lost"],
    )
    done = trove("mirror", "scrub", "twice", "b")
    assert (done.code, done.err) == (1, "trove: 'b/lost': no copy matches its checksum; nothing was changed\n")
    assert done.lines == [
        "b: 2 objects compared, 24 bytes read, 0 copies queued for repair, 1 objects skipped, 1 lost",
    ]
    assert trove("mirror", "repair", "twice").code == 0
    assert trove("cat", "there:b/bad").out == b"bad content"


def test_a_copy_that_still_waits_is_an_error(trove: Run, members: Members) -> None:
    members.put("here", "a", b"content")
    assert trove("mirror", "backfill", "twice").code == 0
    members.rot("here", b"content")
    done = trove("mirror", "repair", "twice")
    assert (done.code, done.lines) == (1, ["0 copies repaired"])
    assert done.err.startswith("trove: there: 1 copies wait for repair, the oldest since 20")
    assert "; 1 of them failed, for example: " in done.err
    assert done.err.endswith(" was expected\n")
    assert trove("ls", "there:b").lines == []


def test_a_failover_with_a_queue(trove: Run, members: Members) -> None:
    members.put("here", "a", b"a")
    assert trove("mirror", "backfill", "near").lines == ["b: 1 copies queued for repair"]
    assert trove("mirror", "repair", "near").code == 0
    assert trove("mirror", "status", "near").lines == [f"0: {NOTHING}", f"1: {NOTHING}"]
    assert trove("cat", "there:b/a").out == b"a"


@pytest.mark.parametrize("store", ["read", "here", "s3://key:secret@us-east-1"])
def test_other_stores_are_refused(trove: Run, members: Members, store: str) -> None:
    done = trove("mirror", "status", store)
    shown = store.replace("secret", "***")
    assert (done.code, done.err) == (
        2,
        f"trove: the store {shown!r} is neither a mirror nor a Failover with a queue\n",
    )


def test_what_does_not_exist(trove: Run, members: Members) -> None:
    done = trove("mirror", "scrub", "twice")
    assert (done.code, done.err) == (
        0,
        "trove: the mirror lists no bucket; name those that only a later member has\n",
    )
    members.put("twice", "a", b"a")
    done = trove("mirror", "scrub", "twice", "other", "b")
    assert done.code == 3
    assert done.err.count("\n") == 1
    assert "'other'" in done.err
    assert done.lines[0].startswith("b: 1 objects compared")
    assert trove("mirror", "backfill", "twice", "/b").err == (
        "trove: '/b' does not name a bucket; write BUCKET or BUCKET/PREFIX\n"
    )
    done = trove("mirror", "scrub", "twice:b")
    assert (done.code, done.err) == (
        2,
        "trove: 'twice:b' names more than a store; write 'twice', and the bucket behind it\n",
    )
    assert trove("mirror", "status", "tvice").code == 2
    assert trove("mirror", "scrub", "twice", "--rate", "0").code == 2
