"""Ranges, times and pairs on the command line."""

from __future__ import annotations

import pytest

from trove_async.cli.errors import ExitCode, UsageError, combined, line_of, printable
from trove_async.cli.values import parse_duration, parse_pairs, parse_range
from trove_async.ranges import ByteRange


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0-0", ByteRange(0, 1)), ("10-19", ByteRange(10, 10)), ("5-", ByteRange(5)), ("-3", ByteRange(-3))],
)
def test_ranges(text: str, expected: ByteRange) -> None:
    assert parse_range(text) == expected


@pytest.mark.parametrize("text", ["", "-", "5", "3-1", "a-b", "1-2-3", " 1-2", "1-2\n", "٣-٤"])
def test_invalid_ranges(text: str) -> None:
    with pytest.raises(UsageError):
        parse_range(text)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("7d", 604800)])
def test_times(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-1", "1.5h", "1w", "1h30m"])
def test_invalid_times(text: str) -> None:
    with pytest.raises(UsageError, match="not a time"):
        parse_duration(text)


def test_pairs() -> None:
    assert parse_pairs(["a=1", "b=", "c=x=y"], "the tag") == {"a": "1", "b": "", "c": "x=y"}
    for wrong in (["a"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(UsageError, match="the tag"):
            parse_pairs(wrong, "the tag")


def test_failures_of_one_kind_keep_their_code() -> None:
    assert combined([]) == ExitCode.OK
    assert combined([ExitCode.NOT_FOUND] * 2) == ExitCode.NOT_FOUND
    assert combined([ExitCode.NOT_FOUND, ExitCode.ACCESS]) == ExitCode.FAILED


def test_names_cannot_send_control_sequences_to_the_terminal() -> None:
    assert printable("größe 日本 😀") == "größe 日本 😀"
    assert printable("a\x1b[2Jb\nc\udcff\u202e") == "a\\x1b[2Jb\\nc\\udcff\\u202e"


def test_system_errors_name_the_file() -> None:
    assert line_of(FileNotFoundError(2, "No such file or directory", "./a")) == "./a: No such file or directory"
    assert line_of(OSError("plain")) == "plain"
