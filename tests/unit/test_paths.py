"""Paths that no file can have are refused as invalid arguments, before any I/O."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import trove_async as trove
from trove_async.cli.names import FilePath, parse_name
from trove_async.dsn import SettingsParser, parse_dsn
from trove_async.errors import InvalidArgumentError, InvalidDSNError
from trove_async.paths import local_path
from trove_async.transfers import LocalFile, files_below

pytestmark = pytest.mark.asyncio

NUL = "folder/a\0b"
SURROGATE = "folder/\ud800"
WRONG = pytest.mark.parametrize("path", [NUL, SURROGATE, os.fsencode(NUL)], ids=["NUL", "surrogate", "bytes"])
TEXTS = pytest.mark.parametrize("path", [NUL, SURROGATE], ids=["NUL", "surrogate"])


@pytest.mark.parametrize("path", ["a", b"a", Path("a"), "\u00fc", b"\xff", ""])
async def test_other_paths_are_returned_as_text(path: str | bytes | Path) -> None:
    assert os.fsencode(local_path(path)) == os.fsencode(path)


@WRONG
async def test_a_path_that_no_file_can_have(path: str | bytes) -> None:
    with pytest.raises(InvalidArgumentError, match=r"NUL|position 7"):
        local_path(path)


@WRONG
async def test_a_download_is_refused_before_the_object_is_opened(path: str) -> None:
    async with trove.open("memory://") as store:
        with pytest.raises(InvalidArgumentError, match=r"download 'missing/k': the path"):
            await store.download("missing", "k", path)


@TEXTS
async def test_a_body_is_refused_before_anything_is_sent(path: str) -> None:
    async with trove.open("memory://") as store:
        with pytest.raises(InvalidArgumentError, match=r"put 'missing/k': the path"):
            await store.put("missing", "k", Path(path))


@TEXTS
async def test_trees_and_single_files(path: str) -> None:
    with pytest.raises(InvalidArgumentError):
        LocalFile(path)
    with pytest.raises(InvalidArgumentError):
        [found async for found in files_below(path)]
    with pytest.raises(InvalidArgumentError):
        await parse_name(f"./{path}", store=None)


async def test_the_command_takes_paths_that_are_not_text() -> None:
    name = os.fsdecode(b"./\xff")
    assert await parse_name(name, store=None) == FilePath(name, False)


@TEXTS
@pytest.mark.parametrize(
    ("dsn", "setting"),
    [
        ("s3://key:secret@us-east-1/bucket", "ca_file"),
        ("gcs://project/bucket", "credentials"),
        *(("sftp://user@host.invalid/root", setting) for setting in ("known_hosts", "key", "agent", "config")),
    ],
)
async def test_settings_that_are_paths(dsn: str, setting: str, path: str) -> None:
    with pytest.raises(InvalidDSNError, match=f"{setting} contains NUL, or a character"):
        await trove.open(dsn, **{setting: path})  # type: ignore[arg-type]


async def test_a_setting_that_is_a_path() -> None:
    parser = SettingsParser(parse_dsn("memory://"), {"file": "a"})
    assert (parser.path("file"), parser.path("other")) == ("a", None)


@pytest.mark.parametrize("path", ["/srv/a%00b", "/srv/\ud800"], ids=["NUL", "surrogate"])
async def test_the_root_of_a_local_store(path: str) -> None:
    with pytest.raises(InvalidDSNError, match="the path '/srv/"):
        await trove.open(f"local://{path}")
