"""Structured fields: what is parsed, what is ignored, and that no text breaks the parser."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.web.patterns import ambiguity
from trove_async.uploads.protocol import fields
from trove_async.uploads.protocol.fields import Value, boolean, dictionary, whole_number

DIFFICULT = st.text(alphabet='aZ09*-_.+/=?:;,"\\()%@ \t\n\0ü', max_size=40)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("  12  ", 12),
        ("007", 7),
        ("-0", 0),
        ("999999999999999", 999_999_999_999_999),
        ('5;a;b=?1;c="x";d=tok;e=:YQ==:;f=1.5;g=@1;h=%"%c3%bc"', 5),
        ("1000000000000000", None),
        ("-1", None),
        ("+1", None),
        ("1.0", None),
        ("1.", None),
        ("1e3", None),
        ("0x1", None),
        ("1_0", None),
        ("1, 2", None),
        ("1 2", None),
        ("?1", None),
        ('"1"', None),
        ("1;", None),
        ("1;A", None),
        ("1;a=", None),
        ("1;a =1", None),
        ("", None),
        ("\t1", None),
        ("١", None),
        ("1\n", None),
    ],
)
def test_whole_numbers(text: str, number: int | None) -> None:
    assert whole_number({"a": text}, "a") == number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("?1", True),
        ("?0", False),
        (" ?0;a=1 ", False),
        ("?2", None),
        ("?", None),
        ("??1", None),
        ("?1?", None),
        ("?1, ?1", None),
        ("1", None),
        ("true", None),
        ("", None),
    ],
)
def test_booleans(text: str, value: bool | None) -> None:
    assert boolean({"a": text}, "a") is value


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("", {}),
        ("a=1, b=?0,c\t,\td=:YWI=:", {"a": 1, "b": False, "c": True, "d": b"ab"}),
        ("a=1;x=2, a=3", {"a": 3}),
        ('a="x, \\"y\\" \\\\", b=tok/en:1, c=1.25, d=@-3, e=%"%c3%bc"', dict.fromkeys("abcde")),
        ('a=(1 2), b=( "x";y :YQ==: ), c=();z, d=1', {"a": None, "b": None, "c": None, "d": 1}),
        ("*a_b-c.d=1", {"*a_b-c.d": 1}),
        ("a=:YQ:", {"a": b"a"}),  # padding may be missing
        ("a=:YR==:", {"a": b"a"}),  # and its bits not zero
        ("a=::", {"a": b""}),
        *(
            (text, {})
            for text in (
                "A=1",
                "a=1,",
                "a=1,,b=2",
                ",a=1",
                "a=1 b=2",
                "a =1",
                "a= 1",
                "a=",
                "a=:Y:",
                "a=:Y=Q=:",
                "a=:Y Q=:",
                "a=:YQ==",
                "a=:YQ-_:",
                'a="x',
                'a="\\x"',
                'a="ü"',
                "a=(1,2)",
                "a=(1(2))",
                'a=("x""y")',
                "a=(1",
                'a=%"%C3%BC"',
                'a=%"%c3"',
                "a=1.2345",
                "a=@1.5",
                "a=1\n",
                "ü=1",
            )
        ),
    ],
)
def test_dictionaries(text: str, members: dict[str, Value]) -> None:
    assert dictionary({"a": text}, "a") == members


def test_missing_fields() -> None:
    assert whole_number({}, "a") is None
    assert boolean({}, "a") is None
    assert dictionary({}, "a") == {}


@given(st.one_of(st.text(), DIFFICULT))
def test_no_text_breaks_the_parser(text: str) -> None:
    headers = {"a": text}
    number, value, members = whole_number(headers, "a"), boolean(headers, "a"), dictionary(headers, "a")
    assert number is None or 0 <= number < 10**15
    assert value in (None, True, False)
    assert all(key.isascii() for key in members)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z*][a-z0-9_.*-]{0,8}", fullmatch=True), st.one_of(st.booleans(), st.integers(0, 10**15 - 1))
    )
)
def test_what_is_written_is_read(members: dict[str, int | bool]) -> None:
    text = ", ".join(
        f"{key}=?{value:d}" if isinstance(value, bool) else f"{key}={value}" for key, value in members.items()
    )
    assert dictionary({"a": text}, "a") == members


def test_no_pattern_backtracks() -> None:
    patterns = [value for value in vars(fields).values() if isinstance(value, re.Pattern)]
    assert len(patterns) == 5
    assert [found for found in map(ambiguity, patterns) if found is not None] == []


@pytest.mark.parametrize(
    "text",
    [
        "a=" + "(" * 60_000,
        "a=" + '"\\' * 30_000,
        "a=:" + "A" * 60_000,
        "a" * 60_000 + "ü",
        "a=1" + ";a" * 30_000 + "ü",
        "a=(" + "1 " * 30_000 + "ü",
        "a=(" + " " * 60_000 + "ü",
        'a=%"' + "%aa" * 20_000,
        "a," * 30_000,
        "1" * 60_000,
    ],
    ids=lambda text: text[:6],
)
def test_long_texts_take_no_long_time(text: str) -> None:
    """A search that tries again from each character would take minutes."""
    assert dictionary({"a": text}, "a") == {}
    assert whole_number({"a": text[2:]}, "a") is None
