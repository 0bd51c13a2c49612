"""The meaning of a name on the command line."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.cli.conftest import Run
from tests.sftp.stores import ServerName, dsn_of, handle_of, scratch_root
from trove_async.cli.errors import UsageError
from trove_async.cli.names import FilePath, Name, StoreName, parse_name
from trove_async.driver import OpenOptions, register
from trove_async.driver.registry import DRIVERS
from trove_async.drivers.memory import MemoryDriver
from trove_async.dsn import DSN, parse_dsn
from trove_async.errors import InvalidDSNError

STORE = "local:///data"
keys = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
buckets = st.text("abcdefghijklmnopqrstuvwxyz0123456789-.", min_size=3, max_size=12).filter(lambda s: s[0] not in ".")


def parsed(text: str, store: str | None = STORE) -> Name:
    return asyncio.run(parse_name(text, store=store))


def stored(text: str, store: str | None = STORE) -> StoreName:
    name = parsed(text, store)
    assert isinstance(name, StoreName)
    return name


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root of a local store."""
    (tmp_path / "srv/data/.trove").mkdir(parents=True)
    return tmp_path / "srv/data"


@pytest.mark.parametrize(
    ("text", "path", "folder"),
    [
        ("/etc/hosts", "/etc/hosts", False),
        ("./a", "./a", False),
        ("./a/", "./a/", True),
        ("../a", "../a", False),
        (".", ".", False),
        ("..", "..", False),
        ("/", "/", True),
        ("./s3://x", "./s3://x", False),
    ],
)
def test_paths(text: str, path: str, folder: bool) -> None:
    assert parsed(text) == FilePath(path, folder)


@pytest.mark.parametrize(
    ("text", "dsn", "bucket", "key"),
    [
        ("gcs://project/b/k/l?attempts=2", "gcs://project?attempts=2", "b", "k/l"),
        ("gcs://project", "gcs://project", "", ""),
        ("gs://b/k//l", "gs://", "b", "k//l"),
        ("gs://b", "gs://", "b", ""),
        ("azure://account@b/k", "azure://account@", "b", "k"),
        ("azure://account:a%2Fkey@b/k?attempts=2", "azure://account:a%2Fkey@?attempts=2", "b", "k"),
        ("azure://b/k", "azure://", "b", "k"),
        ("memory://shared/b/k/l?min_part_size=1", "memory://shared?min_part_size=1", "b", "k/l"),
        ("memory:///b/k", "memory://", "b", "k"),
    ],
)
def test_a_driver_splits_its_dsn(text: str, dsn: str, bucket: str, key: str) -> None:
    assert stored(text, store=None) == StoreName(dsn, bucket, key, False)


class ReversedDriver(MemoryDriver):
    """A driver of another package, whose DSN is ``scheme://BUCKET.STORE/KEY``."""

    @classmethod
    async def split(cls, dsn: DSN) -> tuple[str, str | None, str]:
        bucket, _, store = dsn.host.rpartition(".")
        return DSN(dsn.scheme, host=store, params=dsn.params).reveal(), bucket or None, dsn.path.removeprefix("/")

    async def open(self, dsn: DSN, options: OpenOptions) -> None:
        await super().open(DSN("memory", host=f"reversed-{dsn.host}"), options)


@pytest.fixture
def reversed_scheme() -> Iterator[str]:
    register("reversed", ReversedDriver)
    yield "reversed"
    del DRIVERS.entries["reversed"]


def test_the_command_works_with_a_driver_of_another_package(trove: Run, reversed_scheme: str) -> None:
    assert trove("mb", f"{reversed_scheme}://assets.shop").code == 0
    assert trove("put", "-", f"{reversed_scheme}://assets.shop/a/b.txt", stdin=b"text").code == 0
    assert trove("cat", f"{reversed_scheme}://assets.shop/a/b.txt").out == b"text"
    assert trove("ls", f"{reversed_scheme}://assets.shop/a/").lines == ["assets/a/b.txt"]
    assert trove("ls", f"{reversed_scheme}://shop").lines == ["assets"]


def test_a_driver_may_be_registered_as_a_function(reversed_scheme: str) -> None:
    DRIVERS.entries[reversed_scheme] = lambda: ReversedDriver()
    assert stored(f"{reversed_scheme}://b.s/k") == StoreName(f"{reversed_scheme}://s", "b", "k", False)


@pytest.mark.parametrize("server", ["sshd", "asyncssh"])
def test_objects_over_sftp_are_named_by_dsn(trove: Run, server: ServerName) -> None:
    handle = handle_of(server)
    parameters = f"known_hosts={quote(str(handle.known_hosts))}&key={quote(str(handle.client_key))}&fsync=0"
    with scratch_root(server) as root:
        dsn = dsn_of(server, root)
        assert trove("mb", "assets", "--store", f"{dsn}?{parameters}").code == 0
        for key in ("a/b.txt", "a//b", "../up", "größe"):
            name = f"{dsn}/assets/{quote(key)}?{parameters}"
            done = trove("put", "-", name, stdin=key.encode())
            assert done.code == 0, done.err
            assert trove("cat", name).text == key
        assert trove("ls", f"{dsn}/assets/a/?{parameters}").lines == ["assets/a//", "assets/a/b.txt"]
        assert trove("ls", f"{dsn}?{parameters}").lines == ["assets"]
        missing = trove("ls", f"{dsn}-missing/assets/a?{parameters}")
        assert missing.code == 2
        assert "contains .trove" in missing.err
        assert "--store sftp://" in missing.err


def test_home() -> None:
    assert parsed("~/a", store=None) == FilePath(os.path.expanduser("~/a"))


@pytest.mark.parametrize(
    ("text", "bucket", "key", "folder"),
    [
        ("assets", "assets", "", False),
        ("assets/", "assets", "", True),
        ("assets/a", "assets", "a", False),
        ("assets/a/", "assets", "a/", True),
        ("assets//a", "assets", "/a", False),
        ("assets/../a", "assets", "../a", False),
        ("assets/http://x", "assets", "http://x", False),
        (".hidden", ".hidden", "", False),
        ("-", "-", "", False),
        ("assets/50%25.txt", "assets", "50%25.txt", False),
    ],
)
def test_names_in_the_given_store(text: str, bucket: str, key: str, folder: bool) -> None:
    assert stored(text) == StoreName(STORE, bucket, key, folder)


def test_a_name_without_a_store_is_refused_with_advice() -> None:
    with pytest.raises(UsageError, match=r"set TROVE_DSN, give --store, or write \./photos/a\.jpg"):
        parsed("photos/a.jpg", store=None)
    with pytest.raises(UsageError, match="empty"):
        parsed("")


@pytest.mark.parametrize(
    ("scheme", "path", "bucket", "key"),
    [
        ("local", "", "", ""),
        ("local", "/", "", ""),
        ("local", "/b", "b", ""),
        ("file", "/b/k", "b", "k"),
        ("local", "/assets/a/b.jpg", "assets", "a/b.jpg"),
        ("local", "/b//k", "b", "/k"),
        ("local", "//b/k", "b", "k"),
        ("local", "/b/a%20b%3F?fsync=0", "b", "a b?"),
        ("LOCAL", "/b/k", "b", "k"),
    ],
)
def test_the_root_of_a_local_store_contains_trove(root: Path, scheme: str, path: str, bucket: str, key: str) -> None:
    found = stored(f"{scheme}://{root}{path}", store=None)
    query = f"?{path.partition('?')[2]}" if "?" in path else ""
    assert (found.dsn, found.bucket, found.key) == (f"{scheme.lower()}://{root}{query}", bucket, key)


def test_a_root_with_escaped_characters_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "a b?/.trove").mkdir(parents=True)
    found = stored(f"local://{tmp_path}/a%20b%3F/bucket/k")
    assert parse_dsn(found.dsn).path == f"{tmp_path}/a b?"


def test_a_missing_root_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--store local://… or in TROVE_DSN"):
        stored(f"local://{tmp_path}/nowhere/b/k")


def test_an_object_cannot_turn_a_folder_into_a_store(root: Path) -> None:
    """A key "a/.trove/x" gives "a" a directory ".trove"; then no root is guessed."""
    (root / "b/a/.trove").mkdir(parents=True)
    with pytest.raises(UsageError, match=f"'{root}' and '{root}/b/a'"):
        stored(f"local://{root}/b/a/k")


def test_unknown_schemes_and_malformed_dsns(root: Path) -> None:
    with pytest.raises(UsageError, match="'nosuch'"):
        stored("nosuch://host/b/k")
    with pytest.raises(InvalidDSNError, match="%23"):
        stored(f"local://{root}/b/a#b")


def test_a_name_does_not_show_the_secrets_of_its_store() -> None:
    assert "hunter2" not in repr(stored("b/k", store="x://user:hunter2@host"))


@settings(deadline=None)
@given(bucket=buckets, key=keys)
def test_bucket_and_key_round_trip(bucket: str, key: str) -> None:
    assume(bucket not in (".", ".."))
    name = stored(f"{bucket}/{key}")
    assert (name.bucket, name.key) == (bucket, key)


@settings(deadline=None)
@given(text=st.text(min_size=1, max_size=40))
def test_every_text_has_one_meaning_or_is_an_error(text: str) -> None:
    try:
        name = parsed(text)
    except (UsageError, InvalidDSNError):
        return
    if isinstance(name, StoreName) and "://" not in text:
        assert (f"{name.bucket}/{name.key}" if "/" in text else name.bucket) == text
