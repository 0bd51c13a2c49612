"""What a name on the command line stands for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trove_async.cli.errors import UsageError
from trove_async.cli.names import FilePath, StoreName, is_store_root, parse_name
from trove_async.dsn import parse_dsn
from trove_async.errors import InvalidDSNError

STORE = "local:///data"
keys = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
buckets = st.text("abcdefghijklmnopqrstuvwxyz0123456789-.", min_size=3, max_size=12).filter(lambda s: s[0] not in ".")


def stored(text: str, *roots: str, store: str | None = STORE) -> StoreName:
    name = parse_name(text, store=store, is_root=lambda path: path in roots)
    assert isinstance(name, StoreName)
    return name


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
    assert parse_name(text, store=STORE) == FilePath(path, folder)


@pytest.mark.parametrize(
    ("text", "dsn", "bucket", "key"),
    [
        ("gcs://project/b/k/l?attempts=2", "gcs://project/?attempts=2", "b", "k/l"),
        ("gcs://project", "gcs://project/", "", ""),
        ("gs://b/k//l", "gs://", "b", "k//l"),
        ("gs://b", "gs://", "b", ""),
        ("azure://account@b/k", "azure://account@", "b", "k"),
        ("azure://account:a%2Fkey@b/k?attempts=2", "azure://account:a%2Fkey@?attempts=2", "b", "k"),
        ("azure://b/k", "azure://", "b", "k"),
    ],
)
def test_a_bucket_and_a_key_of_the_cloud(text: str, dsn: str, bucket: str, key: str) -> None:
    assert parse_name(text, store=None) == StoreName(dsn, bucket, key, False)


def test_home() -> None:
    assert parse_name("~/a", store=None) == FilePath(os.path.expanduser("~/a"))


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
def test_names_in_the_store_at_hand(text: str, bucket: str, key: str, folder: bool) -> None:
    assert stored(text) == StoreName(STORE, bucket, key, folder)


def test_a_name_of_no_store_says_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"set TROVE_DSN, give --store, or write \./photos/a\.jpg"):
        parse_name("photos/a.jpg", store=None)
    with pytest.raises(UsageError, match="empty"):
        parse_name("", store=STORE)


def test_a_dsn_needs_no_store() -> None:
    found = stored("local:///srv/data/assets/a/b.jpg", "/srv/data", store=None)
    assert found == StoreName("local:///srv/data", "assets", "a/b.jpg")


@pytest.mark.parametrize(
    ("text", "dsn", "bucket", "key"),
    [
        ("local:///srv/data", "local:///srv/data", "", ""),
        ("local:///srv/data/", "local:///srv/data", "", ""),
        ("local:///srv/data/b", "local:///srv/data", "b", ""),
        ("file:///srv/data/b/k", "file:///srv/data", "b", "k"),
        ("local:///srv/data/b//k", "local:///srv/data", "b", "/k"),
        ("local:///srv/data//b/k", "local:///srv/data", "b", "k"),
        ("local:///srv/data/b/a%20b%3F?fsync=0", "local:///srv/data?fsync=0", "b", "a b?"),
        ("LOCAL:///srv/data/b/k", "local:///srv/data", "b", "k"),
        ("memory://shared/b/k/l?min_part_size=1", "memory://shared?min_part_size=1", "b", "k/l"),
        ("memory:///b/k", "memory://", "b", "k"),
    ],
)
def test_dsns(text: str, dsn: str, bucket: str, key: str) -> None:
    found = stored(text, "/srv/data")
    assert (found.dsn, found.bucket, found.key) == (dsn, bucket, key)


def test_a_root_whose_name_needs_escapes_keeps_them() -> None:
    found = stored("local:///srv/a%20b%3F/bucket/k", "/srv/a b?")
    assert parse_dsn(found.dsn).path == "/srv/a b?"


def test_the_root_of_the_machine_is_a_root_too() -> None:
    assert stored("local:///b/k", "/") == StoreName("local:///", "b", "k")


def test_no_root_says_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"--store local:///srv/data or TROVE_DSN"):
        stored("local:///nowhere/b/k", "/srv/data")


def test_an_object_cannot_make_a_folder_a_store() -> None:
    """A key "a/.trove/x" gives "a" a directory ".trove"; then no root is guessed."""
    with pytest.raises(UsageError, match="'/srv/data' and '/srv/data/b/a'"):
        stored("local:///srv/data/b/a/k", "/srv/data", "/srv/data/b/a")


def test_unknown_schemes_and_malformed_dsns() -> None:
    with pytest.raises(UsageError, match="give --store nosuch://"):
        stored("nosuch://host/b/k")
    with pytest.raises(InvalidDSNError, match="%23"):
        stored("local:///srv/data/b/a#b", "/srv/data")


def test_a_name_does_not_show_the_secrets_of_its_store() -> None:
    assert "hunter2" not in repr(stored("b/k", store="x://user:hunter2@host"))


def test_a_root_is_a_directory_with_ours_in_it(tmp_path: Path) -> None:
    assert not is_store_root(str(tmp_path))
    (tmp_path / ".trove").mkdir()
    assert is_store_root(str(tmp_path))


@settings(deadline=None)
@given(bucket=buckets, key=keys)
def test_bucket_and_key_come_out_as_they_went_in(bucket: str, key: str) -> None:
    assume(bucket not in (".", ".."))
    name = stored(f"{bucket}/{key}")
    assert (name.bucket, name.key) == (bucket, key)


@settings(deadline=None)
@given(text=st.text(min_size=1, max_size=40))
def test_every_text_is_one_thing_or_an_error(text: str) -> None:
    try:
        name = parse_name(text, store=STORE, is_root=lambda path: path == "/")
    except (UsageError, InvalidDSNError):
        return
    if isinstance(name, StoreName) and "://" not in text:
        assert (f"{name.bucket}/{name.key}" if "/" in text else name.bucket) == text
