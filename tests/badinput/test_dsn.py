"""Invalid DSNs, part by part: the error says what is wrong, and nothing is created."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from trove_async.drivers.memory import MemoryDriver
from trove_async.errors import InvalidArgumentError, InvalidDSNError

pytestmark = pytest.mark.asyncio


async def refused(dsn: Any, **settings: Any) -> str:
    with pytest.raises(InvalidDSNError) as raised:
        await trove.open(dsn, **settings)
    assert raised.value.operation == "open"
    assert "\n" not in str(raised.value)
    return raised.value.message


@pytest.mark.parametrize(
    ("dsn", "expected_message"),
    [
        ("", "no scheme"),
        ("/srv/data", "no scheme"),
        ("local:/srv/data", "no scheme"),
        ("://x", "is not a scheme"),
        ("lo cal:///srv", "is not a scheme"),
        ("locale:///srv", "no driver is registered for 'locale' (is it 'local'?)"),
        ("memory:///a#b", "write it as %23"),
        ("memory://a\nb", "control character"),
        ("memory://host:port", "port"),
        ("memory://host:99999", "port"),
        ("s3://key:se/cret@region/bucket", "write '/' as %2F"),
        ("memory://[::1", "brackets"),
        ("memory://a%zz", "host of the DSN has a '%'"),
        ("local:///srv/%", "path of the DSN has a '%'"),
        ("local:///srv/%ff", "path of the DSN is not UTF-8"),
        ("local:///srv?fsync", "'fsync' has no value"),
        ("local:///srv?=1", "'' has no value"),
        ("local:///srv?fsync=1&fsync=0", "'fsync' is given twice"),
    ],
)
async def test_malformed_dsns(dsn: str, expected_message: str) -> None:
    assert expected_message in await refused(dsn)


@pytest.mark.parametrize(
    ("dsn", "expected_message"),
    [
        ("memory://user@", "no user"),
        ("memory://:secret@", "no"),
        ("memory://name:80", "no port"),
        ("memory:///path", "memory:// or memory://NAME, without a path"),
        ("memory://?min_part_size=0", "min_part_size must be at least 1"),
        ("memory://?min_part_size=x", "min_part_size must be a whole number"),
        ("memory://?fsync=1", "no parameter 'fsync'"),
        ("memory://?presign_url=", "presign_url must be text"),
        ("memory://?presign_url=ftp://x/", "http"),
        ("memory://?presign_key=0123456789abcdef", "presign_url"),
        ("memory://?presign_url=http://x/&presign_key=short", "5 bytes"),
    ],
)
async def test_invalid_dsns_of_memory(dsn: str, expected_message: str) -> None:
    assert expected_message in await refused(dsn)


@pytest.mark.parametrize(
    ("location", "expected_message"),
    [
        ("local://", "does not name a directory"),
        ("local://srv/data", "three slashes"),
        ("local://host", "three slashes"),
        ("local://host:80{root}", "three slashes"),
        ("local://user@{root}", "three slashes"),
        ("local://user:secret@{root}", "three slashes"),
        ("file://srv/data", "file:///srv/data"),
        ("local://{root}%00", "NUL"),
        ("local://{root}?fsync=maybe", "fsync must be 1 or 0"),
        ("local://{root}?create=2", "create must be 1 or 0"),
        ("local://{root}?min_part_size=0", "min_part_size must be at least 1"),
        ("local://{root}?min_part_size=5MiB", "min_part_size must be a whole number"),
        (
            "local://{root}?sync=1",
            "no parameter 'sync' (is it 'fsync'?); it has: create, fsync, merge_names, min_part_size",
        ),
        ("local://{root}?presign_url=", "presign_url must be text"),
        ("local://{root}?presign_url=objects.test", "http"),
        ("local://{root}?presign_url=http://objects.test/%3Fa", "without query"),
        ("local://{root}?presign_key=0123456789abcdef", "presign_url"),
        ("local://{root}?presign_url=http://x/&presign_key=short", "5 bytes"),
        ("local://{root}?presign_url=http://x/&presign_key=", "presign_key must be text"),
    ],
)
async def test_invalid_dsns_of_local(tmp_path: Path, location: str, expected_message: str) -> None:
    message = await refused(location.format(root=tmp_path))
    assert expected_message in message
    assert "secret" not in message
    assert list(tmp_path.iterdir()) == []


async def test_invalid_settings(tmp_path: Path) -> None:
    dsn = f"local://{tmp_path}"
    assert "'fsync' is given in the DSN and as an argument" in await refused(f"{dsn}?fsync=1", fsync=True)
    assert "no parameter 'parts'" in await refused(dsn, parts=3)
    assert "presign_key must be text" in await refused(dsn, presign_url="http://x/", presign_key=7)
    for value in (None, True, 3.5, float("inf"), "x"):
        assert f"min_part_size must be a whole number, not {value!r}" in await refused(dsn, min_part_size=value)
    with pytest.raises(InvalidArgumentError, match="cleanup_timeout"):
        trove.open(dsn, cleanup_timeout=0)
    assert list(tmp_path.iterdir()) == []


async def test_objects_that_are_not_a_dsn(tmp_path: Path) -> None:
    assert "write f'local://{path}'" in await refused(tmp_path)
    for value in (None, 7, b"memory://"):
        assert type(value).__name__ in await refused(value)
    assert "MemoryDriver is a class; give a DSN" in await refused(MemoryDriver)
