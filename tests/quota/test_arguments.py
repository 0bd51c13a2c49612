"""Wrong limits and databases: each is an error of its own, before anything is opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from tests.quota.truth import layers, quota_of
from trove_async.errors import InvalidArgumentError, InvalidDSNError
from trove_async.layers.quota.limits import Coverage, Scope


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bytes": -1}, "bytes is a whole number from 0"),
        ({"bytes": 1.5}, "bytes is a whole number"),
        ({"objects": True}, "objects is a whole number"),
        ({"bytes": 2**63}, "bytes is a whole number"),
        ({"objects": "7"}, "objects is a whole number"),
        ({}, "a limit needs bytes=, objects= or both"),
        ({"objects": 0, "bytes": 5}, "objects=0 allows no object, so bytes= means nothing"),
    ],
)
def test_limits_that_are_none(arguments: Mapping[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        trove.QuotaLimit(**arguments)


SMALL, LARGE = trove.QuotaLimit(bytes=10), trove.QuotaLimit(bytes=11, objects=1)
MORE = trove.QuotaLimit(bytes=11)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (None, "Quota needs limits"),
        ({}, "there are no limits"),
        ([("b", SMALL)], "limits is a dict"),
        (SMALL, "limits is a dict"),
        ({b"b": SMALL}, "a limit is for a bucket or 'bucket/prefix', not b'b'"),
        ({None: SMALL}, "a limit is for a bucket or 'bucket/prefix', not None"),
        ({"/b": SMALL}, "a limit cannot be for '/b'"),
        ({"..": SMALL}, r"a limit cannot be for '\.\.'"),
        ({"b/\0": SMALL}, "a limit cannot be for 'b/"),
        ({"b/" + "k" * 1025: SMALL}, "more than 1024"),
        ({"b": 10}, "the limit of 'b' is a QuotaLimit"),
        ({"b": {"bytes": 10}}, "the limit of 'b' is a QuotaLimit"),
        ({"b": SMALL, "b/": SMALL}, "two limits are for the bucket 'b': leave 'b/' out"),
        ({"b": SMALL, "b/t": LARGE}, "the limit of 'b/t' can never be reached: it allows 11 bytes, and that of 'b'"),
        ({"b/t": SMALL, "b/t/": LARGE}, "the limit of 'b/t/' can never be reached"),
        ({"": SMALL, "b": LARGE}, "the limit of 'b' can never be reached.*'the whole store'"),
    ],
)
def test_limits_that_contradict_each_other(limits: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        trove.Quota(limits)


@pytest.mark.parametrize("lease", [0, -1, "30", True, float("inf"), float("nan")])
def test_a_lease_is_a_time(lease: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="lease is a number of seconds, more than 0"):
        trove.Quota({"b": SMALL}, database="sqlite:///x.db", lease=lease)


def test_a_wrong_database_is_refused_before_it_is_opened() -> None:
    for database in ("quota.db", "mysql://host/quota", "sqlite://"):
        with pytest.raises(InvalidDSNError):
            trove.Quota({"b": SMALL}, database=database)
    with pytest.raises(InvalidArgumentError, match="database is the URL of a database, a Database that is connected"):
        trove.Quota({"b": SMALL}, database=Path("quota.db"))  # type: ignore[arg-type]


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(trove.Quota({"b": SMALL}, database="postgresql://user:secret@host/quota"))


def test_limits_around_each_other_may_be_equal_or_of_other_kinds() -> None:
    trove.Quota({"b": SMALL, "b/t/": SMALL, "b/u/": trove.QuotaLimit(objects=99), "": SMALL})


def test_which_limits_a_key_is_under() -> None:
    names = ["", "b", "b/t", "b/t/", "b/t/a", "c/x"]
    coverage = Coverage(Scope.parse(name) for name in names)
    for bucket in ("b", "c", "d"):
        for key in ("t", "t/", "t/a", "t/ab", "s", "x", "xy", "\U0010ffff"):
            expected = {name for name in names if Scope.parse(name).covers(bucket, key)}
            assert {scope.name for scope in coverage.of(bucket, key)} == expected
    assert Scope.parse("b/t").covers("b", "t/a")
    assert not Scope.parse("b/t").covers("c", "t/a")
    assert not Coverage([Scope.parse("b/t")]).touches("c")


@pytest.mark.asyncio
async def test_names_of_limits_that_do_not_exist(sqlite_url: str) -> None:
    with pytest.raises(InvalidArgumentError, match="the database has no limits of a quota"):
        await trove.open("memory://", layers=layers(None, sqlite_url))
    async with trove.open("memory://", layers=layers({"b": SMALL}, None)) as t:
        with pytest.raises(InvalidArgumentError, match="there is no limit for 'c'; there are limits for 'b'"):
            await quota_of(t).recount("c")
        with pytest.raises(InvalidArgumentError, match="a limit cannot be for"):
            await quota_of(t).recount("/")


@pytest.mark.asyncio
async def test_limits_are_those_of_the_store_that_was_opened_last(sqlite_url: str, tmp_path: Path) -> None:
    dsn = f"memory://{tmp_path.name}"
    async with trove.open(dsn, layers=layers({"b": SMALL, "c": SMALL}, sqlite_url)) as first:
        for bucket in ("b", "c"):
            await first.create_bucket(bucket)
            await first.put(bucket, "a", b"x" * 10)
        async with trove.open(dsn, layers=layers({"b/t": MORE, "b": MORE}, sqlite_url)):
            await first.put("b", "t", b"x")
            with pytest.raises(trove.QuotaExceededError, match="of 'b' allows 11 bytes"):
                await first.put("b", "a", b"x" * 11)
            await first.put("c", "a", b"x" * 100)
            usage = {one.quota: (one.bytes, one.objects) for one in await quota_of(first).usage()}
            assert usage == {"b": (11, 2), "b/t": (1, 1)}
        async with trove.open(dsn, layers=layers({"c": trove.QuotaLimit(bytes=200)}, sqlite_url)) as last:
            assert [(one.quota, one.bytes) for one in await quota_of(last).usage()] == [("c", 100)]


@pytest.mark.asyncio
async def test_it_says_where_it_counts(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "trove_async.quota")
    async with trove.open("memory://", layers=layers({"b": SMALL}, sqlite_url)) as t:
        assert quota_of(t).is_shared
    assert not caplog.records
    async with trove.open("memory://", layers=layers({"b": SMALL}, None)) as t:
        assert not quota_of(t).is_shared
    assert "counted in this process alone" in caplog.text
