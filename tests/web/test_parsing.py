"""The headers of clients are parsed in linear time."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import pytest

import trove_async.web
from tests.web.patterns import ambiguity
from trove_async.driver import PresignOptions
from trove_async.errors import TroveError
from trove_async.keys import check_content_type, check_key
from trove_async.ranges import ByteRange
from trove_async.signing import URLSigner
from trove_async.types import ObjectInfo
from trove_async.web import http

OBJECT = ObjectInfo("k", 1, etag="a", last_modified=datetime(2026, 1, 1, tzinfo=UTC))
SIGNER = URLSigner(b"k" * 32, "http://test")
SIGNED = SIGNER.sign("GET", "b", "k", PresignOptions(expires=60), now=0)
MODULES = [
    "trove_async.keys",
    "trove_async.ranges",
    "trove_async.signing",
    "trove_async.store.arguments",
    *(name for _, name, _ in pkgutil.iter_modules(trove_async.web.__path__, "trove_async.web.")),
]

Parser = Callable[[str], object]

PARSERS: dict[str, Parser] = {
    "range": lambda text: http.parse_range({"range": text}),
    "if-match": lambda text: http.evaluate({"if-match": text}, OBJECT),
    "if-none-match": lambda text: http.evaluate({"if-none-match": text}, OBJECT),
    "if-modified-since": lambda text: http.evaluate({"if-modified-since": text}, OBJECT),
    "if-unmodified-since": lambda text: http.evaluate({"if-unmodified-since": text}, OBJECT),
    "if-range": lambda text: http.range_applies({"if-range": text}, OBJECT),
    "conditions of a write": lambda text: http.write_conditions({"if-match": text, "if-none-match": text}),
    "content-length": lambda text: http.content_length({"content-length": text}),
    "content-type": check_content_type,
    "content-disposition": lambda text: http.content_disposition("attachment", text),
    "key": check_key,
    "path of a signed URL": lambda text: SIGNER.verify("GET", f"/b/{text}"),
    "query of a signed URL": lambda text: SIGNER.verify("GET", f"{SIGNED}&{text}"),
}

HEADS = ("", "bytes", "bytes=", "bytes=1", "bytes=1-", '"', '"a"', "W/", "Mon, ", "Mon, 01 Jan", "text/plain;")
REPEATED = (" ", "\t", "0", "-", ",", "(", '"', "W/", '"a",', '"a" ', 'W/"a" , ', "%41", "/", "&", "=", "a=b&", ";")
TAILS = ("", "x")


class Counter:
    """Counts calls of Python and C functions, and the characters to which patterns are applied."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps = 0
        for name in MODULES:
            for attribute, value in vars(importlib.import_module(name)).items():
                if isinstance(value, re.Pattern):
                    monkeypatch.setattr(f"{name}.{attribute}", _CountedPattern(value, self))

    def count(self, parse: Parser, text: str) -> int:
        self.steps = 0
        sys.setprofile(self._see)
        try:
            with suppress(TroveError, ValueError):
                parse(text)
        finally:
            sys.setprofile(None)
        return self.steps

    def _see(self, frame: object, event: str, argument: object) -> None:
        self.steps += 1


class _CountedPattern:
    def __init__(self, pattern: re.Pattern[str], counter: Counter) -> None:
        self._pattern = pattern
        self._counter = counter

    def match(self, text: str, position: int = 0) -> re.Match[str] | None:
        found = self._pattern.match(text, position)
        self._counter.steps += (len(text) if found is None else found.end()) - position
        return found


@pytest.mark.parametrize("name", MODULES)
def test_no_pattern_backtracks(name: str) -> None:
    patterns = [value for value in vars(importlib.import_module(name)).values() if isinstance(value, re.Pattern)]
    assert [found for found in map(ambiguity, patterns) if found is not None] == []


@pytest.mark.parametrize("pattern", [r"=\s*(\d*)\s*-", r"(a*)*b", r"\w+\d", r"(?:,|a)*a", r".*x"])
def test_a_pattern_that_backtracks_is_found(pattern: str) -> None:
    assert ambiguity(re.compile(pattern)) is not None


@pytest.mark.parametrize("name", PARSERS)
def test_twice_the_text_takes_at_most_twice_the_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Counter(monkeypatch)
    for head in HEADS:
        for repeated in REPEATED:
            for tail in TAILS:
                once, twice = (
                    counter.count(PARSERS[name], head + repeated * (size // len(repeated)) + tail)
                    for size in (1000, 2000)
                )
                assert twice <= 2 * once + 100, f"{head!r} + {repeated!r}… + {tail!r}: {once} steps, then {twice}"
                assert twice <= 25 * 2000


def test_repeated_headers_are_joined_once() -> None:
    class Value(str):
        added = 0

        def strip(self, characters: str | None = None) -> Value:
            return self

        def __format__(self, spec: str) -> str:
            Value.added += 1
            return self

    joined = http.join_headers(("If-Match", Value('"a"')) for _ in range(1000))
    assert joined["if-match"].count('"a"') == 1000
    assert Value.added == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes=0-1", ByteRange(0, 2)),
        ("Bytes = 3 - ", ByteRange(3)),
        ("bytes=-5", ByteRange.suffix(5)),
        ("bytes=0\t-\t1", ByteRange(0, 2)),
        ("bytes=0 1-2", None),
        ("bytes=0-1-2", None),
        ("bytes=0-1,2-3", None),
        ("bytes=-", None),
        ("bytes=-0", None),
        ("bytes=2-1", None),
        ("bytes=٣-", None),
        ("bytes=+1-", None),
        ("bytes", None),
        ("items=0-1", None),
        ("bytes=0-" + "9" * 64, ByteRange(0, int("9" * 64) + 1)),
        ("bytes=0-" + "9" * 65, None),
        ("bytes=0-1" + " " * 60_000, None),
    ],
)
def test_ranges(text: str, expected: ByteRange | None) -> None:
    assert http.parse_range({"range": text}) == expected


def test_headers_that_are_too_long_are_malformed() -> None:
    many = '"b",' * 20_000 + '"a"'
    assert http.evaluate({"if-none-match": '"b", "a"'}, OBJECT) == 304
    assert http.evaluate({"if-none-match": many}, OBJECT) is None
    assert http.evaluate({"if-match": many}, OBJECT) == 412
    assert http.evaluate({"if-modified-since": "Thu, 01 Jan 2026 00:00:00 GMT"}, OBJECT) == 304
    assert http.evaluate({"if-modified-since": "Thu, 01 Jan 2026 00:00:00 GMT" + " " * 64}, OBJECT) is None
