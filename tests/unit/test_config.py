"""The configuration: its form, its errors with their places, and stores that are opened by name."""

from __future__ import annotations

import copy
import os
import pickle
import re
import sys
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import trove_async
from tests.unit.test_members import FirstDriver
from trove_async.config import Config, ConfigWarning, NamedStore
from trove_async.config import config as config_module
from trove_async.config.making import LAYERS
from trove_async.driver import Driver, Member, OpenOptions, Target
from trove_async.drivers import BUILTIN
from trove_async.dsn import is_name
from trove_async.errors import (
    AccessDeniedError,
    ConfigError,
    InvalidArgumentError,
    InvalidDSNError,
    RootNotFoundError,
    UnpicklableError,
)
from trove_async.layers.breaker import BreakerDriver
from trove_async.layers.members import open_members
from trove_async.testing.mock import MockDriver

MEDIA = """
[stores.media]
dsn = "memory://config-media"
min_part_size = 5
layers = [
  { use = "Limit", concurrency = 64 },  # innermost
  { use = "CircuitBreaker", threshold = 5 },
  "Retry",
]
"""


@pytest.fixture(autouse=True)
def no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own is found."""
    monkeypatch.delenv("TROVE_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "trove.toml", MEDIA)


def layers_of(t: trove_async.Trove) -> list[str]:
    names = []
    driver: Driver | None = t.driver
    while driver is not None:
        names.append(type(driver).__name__.strip("_"))
        driver = driver.unwrap()
    return names


# Opening


@pytest.mark.asyncio
async def test_a_name_opens_the_store_with_its_settings_and_layers(file: Path) -> None:
    async with trove_async.open("media", config=file) as t:
        assert t.features.limits.min_part_size == 5
        assert layers_of(t) == ["RetryDriver", "BreakerDriver", "LimitDriver", "MemoryDriver"]
        await t.create_bucket("b", exist_ok=True)
        await t.put("b", "k", b"content")
    async with trove_async.open("memory://config-media") as t:
        assert await t.read("b", "k") == b"content"


@pytest.mark.asyncio
async def test_given_layers_are_outside_and_given_settings_replace_those_of_the_file(file: Path) -> None:
    async with trove_async.open("media", config=file, layers=[trove_async.ReadOnly()], min_part_size=9) as t:
        assert layers_of(t)[:2] == ["ReadOnlyDriver", "RetryDriver"]
        assert t.features.limits.min_part_size == 9
    with pytest.raises(InvalidArgumentError, match="Retry must not be around Retry"):
        await trove_async.open("media", config=file, layers=[trove_async.Retry()])


@pytest.mark.asyncio
async def test_each_opening_has_layers_of_its_own(file: Path) -> None:
    async with trove_async.open("media", config=file) as one, trove_async.open("media", config=file) as two:
        breakers = [trove_async.unwrap(t.driver, BreakerDriver).breaker for t in (one, two)]
        assert breakers[0] is not breakers[1]


@pytest.mark.asyncio
async def test_a_mapping_is_a_configuration() -> None:
    async with trove_async.open("m", config={"stores": {"m": {"dsn": "memory://", "layers": ("ReadOnly",)}}}) as t:
        assert layers_of(t) == ["ReadOnlyDriver", "MemoryDriver"]


@pytest.mark.asyncio
@pytest.mark.parametrize("dsn", ["trove://media/assets/photos", "TROVE://media/assets/photos/"])
async def test_a_dsn_of_a_name_has_a_bucket_and_a_prefix(dsn: str, file: Path) -> None:
    async with trove_async.open("media", config=file) as t:
        await t.create_bucket("assets", exist_ok=True)
        async with trove_async.open(dsn, config=file) as within:
            assert within.bucket().name == "assets"
            await within.bucket().put("a", b"")
            assert [o.key async for o in within.list("assets")] == ["a"]
        assert [o.key async for o in t.list("assets")] == ["photos/a"]


@pytest.mark.asyncio
async def test_the_path_continues_a_dsn_that_names_a_bucket() -> None:
    config = {"stores": {"media": {"dsn": "s3://key:secret@eu-west-1/assets/2024"}}}
    async with trove_async.open("trove://media/may", config=config) as t:
        assert t.bucket().name == "assets"
        url = await t.bucket().presign_get("a.jpg")
    assert "/2024/may/a.jpg" in url


@pytest.mark.asyncio
async def test_parameters_of_the_dsn_of_a_name_are_settings(file: Path) -> None:
    async with trove_async.open("trove://media?min_part_size=7", config=file) as t:
        assert t.features.limits.min_part_size == 7


@pytest.mark.asyncio
async def test_a_store_by_another_name_has_settings_of_its_own(tmp_path: Path) -> None:
    text = MEDIA + '[stores.one]\ndsn = "trove://media?min_part_size=7"\n[stores.two]\ndsn = "one"\nmin_part_size = 8\n'
    path = write(tmp_path / "trove.toml", text)
    for name, size in {"media": 5, "one": 7, "two": 8}.items():
        async with trove_async.open(name, config=path) as t:
            assert t.features.limits.min_part_size == size
    async with trove_async.open("two", config=path, min_part_size=9) as t:
        assert t.features.limits.min_part_size == 9


@pytest.mark.asyncio
async def test_members_may_be_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROVE_CONFIG", str(file))
    async with trove_async.open(Member("trove://media").target) as t:
        assert layers_of(t)[0] == "RetryDriver"


# Where it is


@pytest.mark.asyncio
async def test_the_variable_is_before_the_directory_and_that_before_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"home": tmp_path / "home/trove/trove.toml", "here": Path("trove.toml"), "named": tmp_path / "other.toml"}
    for number, (name, path) in enumerate(places.items(), start=1):
        write(path, f'[stores.s]\ndsn = "memory://"\nmin_part_size = {number}\n')
        if name == "named":
            monkeypatch.setenv("TROVE_CONFIG", str(path))
        async with trove_async.open("s") as t:
            assert t.features.limits.min_part_size == number


@pytest.mark.asyncio
async def test_without_a_configuration_a_name_is_explained() -> None:
    with pytest.raises(ConfigError, match="'media' is no DSN such as 'local:///srv/data', and there is no conf"):
        await trove_async.open("media")
    with pytest.raises(ConfigError, match=r"'memory' is no DSN such as 'memory://', and there"):
        await trove_async.open("memory")


@pytest.mark.parametrize("text", ["./media", "a.b", "media/x", "1a", "", "media:", "C:\\data"])
def test_what_is_no_name_is_still_no_dsn(text: str) -> None:
    assert not is_name(text)


@pytest.mark.asyncio
async def test_a_path_is_still_no_dsn() -> None:
    with pytest.raises(InvalidDSNError, match="has no scheme followed by"):
        await trove_async.open("./media")


@pytest.mark.asyncio
async def test_a_file_that_is_named_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROVE_CONFIG", "/nowhere/trove.toml")
    with pytest.raises(ConfigError, match=r"/nowhere/trove\.toml: the file does not exist, and TROVE_CONFIG names it"):
        await trove_async.open("media")


@pytest.mark.asyncio
async def test_a_user_without_a_home_directory_has_no_configuration_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose user is in no password file; nothing is read from a folder that is called ``~``."""
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setattr(os.path, "expanduser", str)
    write(Path("~/.config/trove/trove.toml"), MEDIA)
    with pytest.raises(ConfigError, match="'media' is no DSN such as"):
        await trove_async.open("media")
    monkeypatch.setenv("TROVE_CONFIG", "~nobody/trove.toml")
    with pytest.raises(ConfigError, match=r"~nobody/trove\.toml: the file does not exist, and TROVE_CONFIG names it"):
        await trove_async.open("media")
    with pytest.raises(ConfigError, match="~nobody/key' does not exist"):
        settings_of(tmp_path, '[stores.s]\ndsn = "s3://eu-west-1"\nsecret_key = { file = "~nobody/key" }\n')


@pytest.mark.asyncio
async def test_a_file_of_the_directory_that_others_can_write_to_is_refused_unless_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write(Path("trove.toml"), '[stores.s]\ndsn = "memory://"\n')
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="since everyone can write to it; to use it, name it in TROVE_CONFIG"):
        await trove_async.open("s")
    monkeypatch.setenv("TROVE_CONFIG", "trove.toml")
    await (await trove_async.open("s")).aclose()


@pytest.mark.asyncio
async def test_a_file_of_the_directory_that_belongs_to_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    write(Path("trove.toml"), '[stores.s]\ndsn = "memory://"\n')
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    other = os.stat_result((0o100600, 0, 0, 1, 54321, 0, 0, 0, 0, 0))
    monkeypatch.setattr(Path, "stat", lambda self, **options: other)
    with pytest.raises(ConfigError, match="it belongs to another user"):
        await trove_async.open("s")


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ('[stores.s]\ndsn = "s3://key:secret@eu-west-1"\n', "2: stores.s.dsn"),
        ('[stores.s]\ndsn = "s3://eu-west-1"\nsecret_key = "hidden"\n', "3: stores.s.secret_key"),
        ('[stores.s]\ndsn = "s3://${K}:${S}@eu-west-1"\nsecret_key = { env = "X" }\n', None),
        ('[stores.s]\ndsn = "memory://"\n', None),
    ],
)
def test_a_file_with_a_secret_that_others_can_read_is_warned_about(
    text: str, warned: str | None, tmp_path: Path
) -> None:
    path = write(tmp_path / "trove.toml", text)
    Config.load(path)
    path.chmod(0o640)
    if warned is None:
        Config.load(path)
        return
    with pytest.warns(ConfigWarning, match=f"{warned}: other users can read this file") as caught:
        Config.load(path)
    assert "hidden" not in str(caught[0].message)


# Errors


def problem(tmp_path: Path, text: str) -> ConfigError:
    """Return the only error of a configuration."""
    path = write(tmp_path / "trove.toml", text)
    try:
        [error] = Config.load(path).check()
    except ConfigError as raised:
        error = raised
    assert isinstance(error, ConfigError)
    assert error.file == str(path)
    return error


STORE = '[stores.s]\ndsn = "memory://"\n'

WRONG = {
    "no TOML": ("[stores.s]\ndsn = \n", 2, None, "this is not TOML: Invalid value"),
    "end": ("[stores.s]\ndsn = [", 2, None, "this is not TOML"),
    "a name twice": (STORE + STORE, 3, "stores.s", "defined twice; it is defined first in line 1"),
    "a key twice": (STORE + 'dsn = "memory://"\n', 3, "stores.s.dsn", "defined twice; it is defined first in line 2"),
    "the top": ('[store.s]\ndsn = "memory://"\n', 1, "store", "no key 'store' (is it 'stores'?)"),
    "stores": ("stores = 3\n", 1, "stores", "this is a table of keys and values, not a number"),
    "a store": ('[stores]\ns = "memory://"\n', 2, "stores.s", "this is a table of keys and values, not text"),
    "a name": ('[stores."a b"]\ndsn = "memory://"\n', 1, 'stores."a b"', "the name of a store begins with a letter"),
    "mistyped dsn": (
        '[stores.s]\ndns = "memory://"\n',
        2,
        "stores.s.dns",
        "there is no key 'dns' (is it 'dsn'?); a store has one of: dsn, failover, mirror, route",
    ),
    "table of a limit": (
        '[stores.s]\ndsn = "memory://"\nlayers = [{ use = "Quota", limits = { b = { bytes = 5 } } }]\n',
        3,
        "stores.s.layers[0].limits",
        'is a QuotaLimit(bytes=…, objects=…), not {\'bytes\': 5}; here it is written { use = "QuotaLimit", … }',
    ),
    "budget": (
        STORE + 'layers = [{ use = "Retry", budget = 5 }]\n',
        3,
        "stores.s.layers[0].budget",
        'not 5; here it is written { use = "Budget", … }',
    ),
    "mirror as a layer": (
        STORE + 'layers = [{ use = "Mirror" }]\n',
        3,
        "stores.s.layers[0].use",
        "'Mirror' is no layer, but a store over several: write 'mirror = …' in place of 'dsn'",
    ),
    "queue": (
        '[stores.s.mirror]\nmembers = ["memory://", "memory://"]\nqueue = "repair.db"\n',
        3,
        "stores.s.mirror.queue",
        "queue is no URL of a database",
    ),
    "no dsn": ("[stores.s]\nmin_part_size = 3\n", 1, "stores.s", "this store has no key of: dsn"),
    "no text": ("[stores.s]\ndsn = 3\n", 2, "stores.s.dsn", "this is a DSN such as"),
    "an unknown scheme": ('[stores.s]\ndsn = "memry://"\n', 2, "stores.s.dsn", "'memry' (is it 'memory'?)"),
    "a malformed dsn": ('[stores.s]\ndsn = "memory://?a"\n', 2, "stores.s.dsn", "the parameter 'a' has no value"),
    "a part of the dsn": ('[stores.s]\n\ndsn = "memory://u@x"\n', 3, "stores.s.dsn", "memory has no user"),
    "a setting": (
        STORE + "\nmin_part_sise = 3\n", 4, "stores.s.min_part_sise",
        "memory has no parameter 'min_part_sise' (is it 'min_part_size'?)",
    ),
    "a value": (STORE + 'min_part_size = "x"\n', 3, "stores.s.min_part_size", "must be a whole number, not 'x'"),
    "a table": (STORE + "[stores.s.presign]\nx = 1\n", 3, "stores.s.presign", "a setting is text, a number"),
    "a time": (STORE + "presign_key = 2024-05-01\n", 3, "stores.s.presign_key", "nothing takes a date or a time"),
    "cleanup_timeout": (STORE + "cleanup_timeout = 3\n", 3, "stores.s.cleanup_timeout", "an argument of open()"),
    "transfer_memory": (STORE + "transfer_memory = 3\n", 3, "stores.s.transfer_memory", "an argument of open()"),
    "a reference": (STORE + 'presign_key = "${X}"\n', 3, "stores.s.presign_key", "${…} has a meaning in DSNs and"),
    "no variable": (
        STORE + 'presign_key = { env = "NO_SUCH" }\n', 3, "stores.s.presign_key.env",
        "the environment variable 'NO_SUCH' is not set",
    ),
    "an empty variable": (
        STORE + 'presign_key = { env = "EMPTY" }\n', 3, "stores.s.presign_key.env",
        "the environment variable 'EMPTY' is empty",
    ),
    "a variable's name": (
        STORE + 'presign_key = { env = "A B" }\n', 3, "stores.s.presign_key.env",
        "'A B' is not the name of an environment variable",
    ),
    "no variable in a dsn": (
        '[stores.s]\ndsn = "s3://k:${NO_SUCH}@eu"\n', 2, "stores.s.dsn",
        "the environment variable 'NO_SUCH' is not set",
    ),
    "no file": (
        STORE + 'presign_key = { file = "none" }\n', 3, "stores.s.presign_key.file", "none' does not exist",
    ),
    "a folder": (
        STORE + 'presign_key = { file = "." }\n', 3, "stores.s.presign_key.file", "cannot be read: Is a directory",
    ),
    "an empty file": (
        STORE + 'presign_key = { file = "empty" }\n', 3, "stores.s.presign_key.file", "empty' is empty",
    ),
    "a file of bytes": (
        STORE + 'presign_key = { file = "bytes" }\n', 3, "stores.s.presign_key.file", "bytes' is not UTF-8",
    ),
    "two lines": (
        STORE + 'presign_key = { file = "lines" }\n', 3, "stores.s.presign_key.file", "must not be blank or",
    ),
    "an endless file": (
        STORE + 'presign_key = { file = "/dev/zero" }\n', 3, "stores.s.presign_key.file", "is larger than 64 KiB",
    ),
    "two sources": (
        STORE + 'presign_key = { env = "A", file = "b" }\n', 3, "stores.s.presign_key",
        "a table with 'env' has nothing else in it",
    ),
    "no source": (STORE + "presign_key = { env = 3 }\n", 3, "stores.s.presign_key.env", "this is the name of an env"),
    "layers": (STORE + 'layers = "Retry"\n', 3, "stores.s.layers", "layers is a list, such as"),
    "a layer": (STORE + "layers = [\n  3,\n]\n", 4, "stores.s.layers[0]", "this is a table of keys and values"),
    "no use": (STORE + "layers = [{ concurrency = 3 }]\n", 3, "stores.s.layers[0]", "a layer is its name, or a table"),
    "an unknown layer": (
        STORE + 'layers = ["Retry",\n"Limt"]\n', 4, "stores.s.layers[1]", "for 'Limt' (is it 'Limit'?)",
    ),
    "an unknown argument": (
        STORE + 'layers = [\n  "Retry",\n  { use = "CircuitBreaker", treshold = 5 },\n]\n', 5,
        "stores.s.layers[1].treshold", "there is no key 'treshold' (is it 'threshold'?); CircuitBreaker has: ",
    ),
    "a refused argument": (
        STORE + 'layers = [{ use = "Limit",  concurrency = "8" }]\n', 3, "stores.s.layers[0].concurrency",
        "concurrency is a whole number of 1 or more",
    ),
    "a refused combination": (
        STORE + 'layers = ["Timeout"]\n', 3, "stores.s.layers[0]", "Timeout needs a time",
    ),
    "a function": (STORE + 'layers = ["Observe"]\n', 3, "stores.s.layers[0]", "Observe needs 'hook'; what TOML cannot"),
    "no function": (
        STORE + 'layers = [{ use = "Observe", hook = "print" }]\n', 3, "stores.s.layers[0].hook",
        "hook is a function of an Observation",
    ),
    "a part of a layer": (
        STORE + '[[stores.s.layers]]\nuse = "Retry"\n[stores.s.layers.budget]\nuse = "Budgt"\n', 6,
        "stores.s.layers[0].budget.use", "'Budgt' cannot be an argument, only Backoff, Budget",
    ),
    "an unknown store": (
        STORE + '[stores.t]\ndsn = "trove://z"\n', 4, "stores.t.dsn", "there is no store 'z'; there are: s, t",
    ),
    "a malformed reference": (STORE + '[stores.t]\ndsn = "trove://u@s"\n', 4, "stores.t.dsn", "write trove://NAME"),
    "a wrong order": (
        STORE + '\nlayers = ["Retry", { use = "Limit", concurrency = 3 }]\n', 4, "stores.s.layers",
        "Limit must not be around Retry",
    ),
    "a wrong order over two stores": (
        STORE + 'layers = ["Retry"]\n[stores.t]\nlayers = ["Retry"]\ndsn = "trove://s/b"\n', 5, "stores.t.layers",
        "Retry must not be around Retry",
    ),
    "a setting of a store by another name": (
        STORE + '[stores.t]\ndsn = "s"\nmin_part_sise = 3\n', 5, "stores.t.min_part_sise",
        "memory has no parameter 'min_part_sise'",
    ),
    "a parameter of a name": (
        STORE + '[stores.t]\ndsn = "trove://s?sise=3"\n', 4, "stores.t.dsn", "memory has no parameter 'sise'",
    ),
    "a circle of one": ('[stores.s]\ndsn = "s"\n', 2, "stores.s.dsn", "refer to each other in a circle: s -> s"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_an_error_names_file_line_and_key(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, line, key, message = WRONG[case]
    monkeypatch.setenv("EMPTY", " ")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "lines").write_text("one\ntwo\n")
    error = problem(tmp_path, text)
    assert (error.line, error.config_key) == (line, key)
    where = f"{error.file}:{line}: " + (f"{key}: " if key else "")
    assert error.message.startswith(where)
    assert message in error.message.removeprefix(where)


def test_bytes_that_are_no_text_are_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "trove.toml"
    path.write_bytes(b"[stores.s]\n# \xff\n")
    with pytest.raises(ConfigError, match=r"trove.toml:2: the file is not UTF-8"):
        Config.load(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the file cannot be read: Is a directory"):
        Config.load(tmp_path)
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        Config.load("/dev/zero")
    with pytest.raises(ConfigError, match="nested too deeply"):
        Config.load(write(tmp_path / "trove.toml", f"a = {'[' * 5000}"))


def test_stores_that_refer_to_each_other_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "trove.toml", '[stores.a]\ndsn = "b"\n[stores.b]\ndsn = "trove://a/x"\n')
    with pytest.raises(ConfigError, match="circle: a -> b -> a"):
        Config.load(path).resolve("a")


def test_another_store_that_is_wrong_is_no_obstacle(tmp_path: Path) -> None:
    path = write(tmp_path / "trove.toml", STORE + '[stores.t]\ndsn = "memory://${NO_SUCH}"\n')
    Config.load(path).resolve("s")


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["medai", "trove://medai/b"])
async def test_an_unknown_name_is_an_error_with_the_nearest(name: str, file: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no store 'medai' \(is it 'media'\?\); there are: media") as caught:
        await trove_async.open(name, config=file)
    assert caught.value.operation == "open"


@pytest.mark.asyncio
async def test_a_setting_of_the_call_is_not_blamed_on_the_file(file: Path) -> None:
    with pytest.raises(InvalidDSNError, match="memory has no parameter 'regoin'"):
        await trove_async.open("media", config=file, regoin="x")


@pytest.mark.asyncio
async def test_an_error_of_the_store_passes(tmp_path: Path) -> None:
    path = write(tmp_path / "trove.toml", '[stores.s]\ndsn = "local:///nowhere/at/all"\n')
    assert Config.load(path).check() == []
    with pytest.raises(RootNotFoundError):
        await trove_async.open("s", config=path)


@pytest.mark.asyncio
async def test_what_is_no_configuration_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="config is the path of a file, or a mapping, not int"):
        trove_async.open("media", config=3)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match=r"the path 'a\\x00b' contains NUL"):
        await trove_async.open("media", config="a\0b")
    with pytest.raises(InvalidDSNError, match="memory has no parameter 'config'"):
        await trove_async.open("memory://", config="trove.toml")


@pytest.mark.asyncio
async def test_a_directory_that_was_removed_has_no_configuration(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("removed").mkdir()
    monkeypatch.chdir("removed")
    Path.cwd().rmdir()
    with pytest.raises(ConfigError, match="'media' is no DSN such as"):
        await trove_async.open("media")
    for config in (file, {"stores": {"media": {"dsn": "memory://"}}}):
        async with trove_async.open("media", config=config):
            pass


# Values


def settings_of(tmp_path: Path, text: str) -> Mapping[str, Any]:
    return Config.load(write(tmp_path / "etc/trove.toml", text)).resolve("s").settings


def test_secrets_come_from_the_environment_and_from_files_beside_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "an id")
    write(tmp_path / "etc/secrets/key", "a secret\n")
    text = '[stores.s]\ndsn = "s3://eu-west-1"\naccess_key = { env = "KEY" }\nsecret_key = { file = "secrets/key" }\n'
    text += 'ca_file = { path = "ca.pem" }\n'
    assert settings_of(tmp_path, text) == {
        "access_key": "an id",
        "secret_key": "a secret",
        "ca_file": str(tmp_path / "etc/ca.pem"),
    }


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    write(tmp_path / "etc/key", "\ufeffa secret\r\n")
    text = '\ufeff[stores.s]\r\ndsn = "s3://eu-west-1"\r\naccess_key = "k"\r\nsecret_key = { file = "key" }\r\n'
    assert settings_of(tmp_path, text) == {"access_key": "k", "secret_key": "a secret"}


def test_variables_in_a_dsn_are_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "a/b@c?d\n")
    monkeypatch.setenv("FOLDER", " /srv/my data\n")
    text = (
        '[stores.s]\ndsn = "s3://key:${SECRET}@eu-west-1/assets?session_token=${SECRET}"\n'
        '[stores.l]\ndsn = "local://${FOLDER}/x"\n[stores.e]\ndsn = { env = "SECRET" }\n'
    )
    config = Config.load(write(tmp_path / "trove.toml", text))
    dsn = trove_async.parse_dsn(str(config.resolve("s").target))
    assert (dsn.password, dsn.params, dsn.path) == ("a/b@c?d", {"session_token": "a/b@c?d"}, "/assets")
    assert config.resolve("l").target == "local:///srv/my%20data/x"
    with pytest.raises(ConfigError, match=r"stores\.e\.dsn: the DSN has no scheme"):
        config.resolve("e")


def test_parts_of_layers_can_be_written(tmp_path: Path) -> None:
    text = STORE + (
        'layers = [{ use = "Retry", attempts = 2, budget = { use = "Budget", reserve = 10 }, '
        'transport = { use = "Backoff", first = 0.5, longest = 5 } }]\n'
    )
    [retry] = Config.load(write(tmp_path / "trove.toml", text)).resolve("s").layers
    assert isinstance(retry, trove_async.Retry)
    assert retry.transport == trove_async.Backoff(0.5, 5)
    assert retry.attempts == 2


def test_every_layer_of_the_library_has_its_name() -> None:
    import trove_async.layers as layers

    found = {
        name
        for name in layers.__all__
        if isinstance(getattr(layers, name), type) and "__call__" in vars(getattr(layers, name)) and name != "Call"
    }
    assert set(LAYERS.entries) == found | {"Dedup"}  # of `trove_async.managed`


@pytest.mark.asyncio
async def test_a_layer_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "site/acme-1.0.dist-info"
    write(info / "METADATA", "Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    write(info / "entry_points.txt", "[trove_async.layers]\nAudit = acme_audit:Audit\nMake = acme_audit:make\n")
    write(
        tmp_path / "site/acme_audit.py",
        "from trove_async.layers import LayerDriver\n"
        "class Audit(LayerDriver):\n"
        "    def __init__(self, inner, *, level='all'):\n"
        "        super().__init__(inner)\n"
        "        self.level = level\n"
        "def make():\n"
        "    return 5\n",
    )
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(LAYERS, "_found", None)
    monkeypatch.delitem(sys.modules, "acme_audit", raising=False)
    text = STORE + 'layers = [{ use = "Audit", level = "writes" }]\n[stores.t]\ndsn = "memory://"\nlayers = ["Make"]\n'
    path = write(tmp_path / "trove.toml", text + '[stores.u]\ndsn = "memory://"\nlayers = [{use="Audit", levl=1}]\n')
    async with trove_async.open("s", config=path) as t:
        assert t.driver.level == "writes"  # type: ignore[attr-defined]
    errors = [str(error).partition(": stores.")[2] for error in Config.load(path).check()]
    assert errors == [
        "t.layers[0]: a layer is called with a driver and returns a driver; 5 does not",
        "u.layers[0].levl: there is no key 'levl' (is it 'level'?); Audit has: level",
    ]


# Stores over several stores


@dataclass(frozen=True)
class First(Target):
    """Asks its first member alone."""

    members: Mapping[str, Any]
    depth: int = 1

    async def open(self, options: OpenOptions) -> Driver:
        found = {name: Member.of(member) for name, member in self.members.items()}
        return FirstDriver(await open_members(found, options))


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(config_module.TARGETS, "first", f"{__name__}:First")


FIRST = MEDIA + "[stores.all]\n"


@pytest.mark.asyncio
async def test_a_store_over_several_stores(tmp_path: Path, first: None) -> None:
    text = FIRST + (
        'first = { members = { hot = "media", cold = "memory://", own = { dsn = "memory://", min_part_size = 3, '
        'layers = ["ReadOnly"] } }, depth = 2 }\nlayers = ["Retry"]\n'
    )
    text = text.replace('\n  "Retry",\n', "\n")
    async with trove_async.open("all", config=write(tmp_path / "trove.toml", text)) as t:
        assert layers_of(t) == ["RetryDriver", "FirstDriver"]
        members = trove_async.unwrap(t.driver, FirstDriver).members
        assert [type(driver).__name__.strip("_") for driver in members.values()] == [
            "BreakerDriver",
            "MemoryDriver",
            "ReadOnlyDriver",
        ]


@pytest.mark.parametrize(
    ("table", "key", "message"),
    [
        ('{ members = { a = "medai" } }', "first.members.a", "there is no store 'medai' (is it 'media'?)"),
        ('{ members = { a = "x://" } }', "first.members.a", "no driver is registered for 'x'"),
        ('{ members = { a = "all" } }', "first.members.a", "refer to each other in a circle: all -> all"),
        ("{ members = { a = { dsn = 5 } } }", "first.members.a.dsn", "this is a DSN such as"),
        ("{ members = { a = 5 } }", "first.members.a", "a member is the name of a store, a DSN, or a table"),
        ("{ members = 5 }", "first.members", "members is a list of stores, or a table of stores with names"),
        ("{ depth = 5 }", "first.members", "members is a list of stores, or a table of stores with names"),
        ("{ members = {}, deepth = 5 }", "first.deepth", "(is it 'depth'?); first has: members, depth"),
        ("5", "first", "this is a table of keys and values, not a number"),
        (
            '{ members = {} }\ndsn = "memory://"',
            "",
            "both 'dsn' and 'first' instead of one key of: dsn, failover, mirror, route, first",
        ),
        ("{ members = {} }\nlayer = []", "layer", "(is it 'layers'?); a store with 'first' has: first, layers"),
    ],
)
def test_errors_of_a_store_over_several_stores(table: str, key: str, message: str, tmp_path: Path, first: None) -> None:
    error = problem(tmp_path, f"{FIRST}first = {table}\n")
    assert error.config_key == f"stores.all.{key}".rstrip(".")
    assert message in error.message


ROUTE = """
[stores.hot]
dsn = "memory://"
[stores.all]
[stores.all.route]
members = { hot = "hot", cold = { dsn = "memory://", layers = ["ReadOnly"] } }
rules = [["logs/**", "cold"], { use = "RouteRule", glob = "*.tmp", member = "cold", bucket = "b*" }]
default = "hot"
"""


@pytest.mark.asyncio
async def test_a_route(tmp_path: Path) -> None:
    async with trove_async.open("all", config=write(tmp_path / "trove.toml", ROUTE)) as t:
        assert t.driver.name == "route"
        with pytest.raises(AccessDeniedError, match="read-only"):
            await t.create_bucket("b")


@pytest.mark.parametrize(
    ("old", "new", "key", "line", "message"),
    [
        ('"cold"],', '"coold"],', "route.rules", 7, "names the unknown member 'coold'"),
        ('"hot"\n', '"hat"\n', "route.default", 8, "default names the unknown member 'hat'"),
        ("default =", "defualt =", "route.defualt", 8, "(is it 'default'?); route has: members, rules, default"),
        ('default = "hot"', "", "route", 5, "route needs 'default'"),
        ('hot = "hot"', 'hot = "hat"', "route.members.hot", 6, "there is no store 'hat'"),
        ("glob =", "globb =", "route.rules[1].globb", 7, "(is it 'glob'?)"),
    ],
)
def test_errors_of_a_route(old: str, new: str, key: str, line: int, message: str, tmp_path: Path) -> None:
    error = problem(tmp_path, ROUTE.replace(old, new))
    assert (error.config_key, error.line) == (f"stores.all.{key}", line)
    assert message in error.message


@pytest.mark.asyncio
async def test_a_failover(tmp_path: Path) -> None:
    text = """
    [stores.near]
    dsn = "memory://config-near"
    [stores.both]
    failover = { members = ["near", { dsn = "memory://", layers = ["Retry"] }], open_for = 5 }
    """
    path = write(tmp_path / "trove.toml", text)
    async with trove_async.open("near", config=path) as near, trove_async.open("both", config=path) as both:
        await near.create_bucket("b", exist_ok=True)
        await near.put("b", "k", b"content")
        assert await both.read("b", "k") == b"content"
    error = problem(tmp_path, text.replace("open_for = 5", "threshold = 0"))
    assert error.config_key == "stores.both.failover.threshold"


@pytest.mark.asyncio
async def test_a_mirror_knows_its_members_and_has_its_queue_beside_the_file(tmp_path: Path) -> None:
    text = """
    [stores.a]
    dsn = "memory://config-a"
    [stores.b]
    dsn = "a"
    layers = ["ReadOnly"]
    [stores.both.mirror]
    members = { one = "a", two = "memory://config-b" }
    queue = "sqlite:///state/repair.db"
    """
    path = write(tmp_path / "my etc/trove.toml", text)
    (path.parent / "state").mkdir()
    async with trove_async.open("both", config=path) as t:
        await t.create_bucket("b", exist_ok=True)
        await t.put("b", "k", b"content")
    assert (path.parent / "state/repair.db").exists()
    async with trove_async.open("memory://config-b") as b:
        assert await b.read("b", "k") == b"content"
    write(path, text.replace('"memory://config-b"', '"memory://config-c"'))
    with pytest.raises(ConfigError, match="the member 'two' is memory://config-c, but in the repair queue it is"):
        await trove_async.open("both", config=path)
    member = Config.load(path).resolve("b").member()
    assert (member.target, len(tuple(member.layers))) == ("memory://config-a", 1)
    error = problem(tmp_path, text.replace('queue = "sqlite:///state/repair.db"', ""))
    assert (error.config_key, error.line) == ("stores.both.mirror", 7)
    assert "mirror needs 'queue'" in error.message


@pytest.mark.asyncio
async def test_a_cache_on_a_store_of_the_file(tmp_path: Path) -> None:
    text = """
    [stores.disk]
    dsn = "memory://config-cache"
    [stores.s]
    dsn = "memory://"
    layers = [{ use = "Cache", on = "trove://disk/entries", namespace = "s" }]
    """
    path = write(tmp_path / "trove.toml", text)
    async with trove_async.open("s", config=path) as t:
        await t.create_bucket("b")
        await t.put("b", "k", b"content")
        assert [await t.read("b", "k") for _ in range(2)] == [b"content"] * 2
        async with trove_async.open("disk", config=path) as disk:
            assert [bucket.name for bucket in await disk.list_buckets()] == ["entries"]
    error = problem(tmp_path, text.replace("trove://disk", "trove://s"))
    assert error.config_key == "stores.s.layers[0].on"
    assert "refer to each other in a circle: s -> s" in error.message


@pytest.mark.asyncio
async def test_a_quota_with_its_limits(tmp_path: Path) -> None:
    text = """
    [stores.s]
    dsn = "memory://"
    [[stores.s.layers]]
    use = "Quota"
    limits = { env = { use = "QuotaLimit", bytes = 3 }, use = { use = "QuotaLimit", bytes = 9 } }
    """
    async with trove_async.open("s", config=write(tmp_path / "trove.toml", text)) as t:
        await t.create_bucket("env")
        with pytest.raises(trove_async.QuotaExceededError):
            await t.put("env", "k", b"content")


def test_the_examples_of_the_manual_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs/configuration.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    text = "".join(block for block in blocks if "[stores" in block)
    monkeypatch.setenv("MEDIA_KEY", "an id")
    secret = write(tmp_path / "media", "a secret")
    config = Config.load(write(tmp_path / "trove.toml", text.replace("/run/secrets/media", str(secret))))
    assert config.names == ("media", "archive", "assets", "twice", "near", "cached")
    assert config.check() == []


# Secrets


PLACES = {"s3": "eu-west-1", "azure": "account@", "sftp": "host/srv", "local": "/nowhere", "file": "/nowhere"}


def test_errors_and_representations_show_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hidden/value/of/20/bytes")
    text = (
        '[stores.s]\ndsn = "s3://key:${SECRET}@eu-west-1"\npart_sise = 1\n'
        '[stores.t]\ndsn = "memory://"\npresign_key = { env = "SECRET" }\npresign_url = "https://x"\n'
    )
    config = Config.load(write(tmp_path / "trove.toml", text))
    [error] = config.check()
    store = config.resolve("t")
    for shown in (error, repr(error.__cause__), repr(config), repr(store), config.description("s")):
        assert "hidden" not in str(shown)


@pytest.mark.parametrize(
    "table",
    [
        'dsn = "memory://"\nmin_part_size = { env = "SECRET" }',
        'dsn = "memory://?min_part_size=${SECRET}"',
        'dsn = "${SECRET}"',
        'dsn = "memory://"\nlayers = [{ use = "Limit", concurrency = { env = "SECRET" } }]',
        'dsn = "memory://"\nlayers = [{ use = { env = "SECRET" } }]',
    ],
)
def test_a_value_in_a_wrong_place_is_not_shown(table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hidden/'quoted")
    error = problem(tmp_path, f"[stores.s]\n{table}\n")
    assert "hidden" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("scheme", sorted(BUILTIN))
def test_the_settings_of_every_driver_are_checked_without_io(scheme: str, tmp_path: Path) -> None:
    text = f'[stores.s]\ndsn = "{scheme}://{PLACES.get(scheme, "")}"\nno_such = 1\n'
    error = problem(tmp_path, text)
    assert (error.line, error.config_key) == (3, "stores.s.no_such")
    assert "has no parameter 'no_such'" in error.message


def test_an_endpoint_of_the_files_of_the_sdk_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "trove.toml", '[stores.s]\ndsn = "s3://garage/assets"\n')
    monkeypatch.setenv("AWS_CONFIG_FILE", str(write(tmp_path / "aws", "[default]\nregion = x\n")))
    for variable in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"):
        monkeypatch.delenv(variable, raising=False)
    [error] = Config.load(path).check()
    assert "'garage' is not an Amazon region" in str(error)
    write(tmp_path / "aws", "[default]\nendpoint_url = http://localhost:3900\n")
    assert Config.load(path).check() == []


def test_a_name_can_be_pickled(file: Path) -> None:
    target = NamedStore.of("trove://media/b", file)
    assert pickle.loads(pickle.dumps(target)) == target
    assert pickle.loads(pickle.dumps(Member("trove://media"))) == Member("trove://media")


def test_what_holds_a_secret_cannot_be_pickled(tmp_path: Path) -> None:
    secret = "s3://key:hidden@eu-west-1"
    config = {"stores": {"s": {"dsn": secret}}}
    held: list[object] = [
        trove_async.parse_dsn(secret),
        trove_async.parse_dsn("s3://eu?session_token=hidden"),
        Member(secret),
        Member("s3://eu", settings={"secret_key": "hidden"}),
        OpenOptions(settings={"secret_key": "hidden"}),
        NamedStore.of("s", config),
        trove_async.Failover([secret]),
        trove_async.Route({"a": secret}, default="a"),
        trove_async.Mirror([secret, "memory://"], queue="sqlite:///q.db"),
        trove_async.Mirror(["memory://", "memory://"], queue="postgresql://u:hidden@h/db"),
        trove_async.Cache(on=secret, namespace="x"),
        trove_async.Quota(database="postgresql://u:hidden@h/db"),
        NamedStore.of("trove://s?secret_key=hidden"),
        Config.load(config).resolve("s"),
    ]
    for thing in held:
        with pytest.raises(UnpicklableError, match="trove") as caught:
            pickle.dumps(thing)
        assert isinstance(caught.value, TypeError)
        assert "hidden" not in str(caught.value)
        assert "hidden" not in repr(thing)


@pytest.mark.parametrize(
    "thing",
    [
        OpenOptions(settings={"attempts": 2}),
        trove_async.Quota({"b": trove_async.QuotaLimit(bytes=3)}, lease=9),
        trove_async.Failover(["trove://a", "memory://"]),
        trove_async.Route({"a": "trove://media"}, default="a"),
        trove_async.Mirror(["trove://a", "trove://b"], queue="sqlite:///q.db"),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_what_holds_no_secret_can_be_pickled(thing: object) -> None:
    assert pickle.loads(pickle.dumps(thing)) == thing


def test_a_dsn_without_a_secret_can_be_pickled_and_each_can_be_copied() -> None:
    dsn = trove_async.parse_dsn("s3://eu-west-1/assets?attempts=2")
    assert pickle.loads(pickle.dumps(dsn)) == dsn
    secret = trove_async.parse_dsn("s3://key:hidden@eu-west-1")
    assert copy.deepcopy(secret) == copy.copy(secret) == secret


@pytest.mark.asyncio
async def test_what_is_open_cannot_be_pickled() -> None:
    async with trove_async.open("memory://", layers=[trove_async.Retry()]) as t:
        for thing in (t, t.driver, MockDriver()):
            with pytest.raises(UnpicklableError, match="is open and cannot be pickled; pickle"):
                pickle.dumps(thing)


def test_nothing_warns_of_a_private_file(file: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Config.load(file)
