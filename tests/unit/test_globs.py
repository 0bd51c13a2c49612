"""Patterns of keys: what they match, and that no name takes long."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trove_async.globs import WILDCARD, expression

PLAIN = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
"""What the wildcards mean, without regard to time."""


def plain(pattern: str) -> str:
    found, end = "", 0
    for wildcard in WILDCARD.finditer(pattern):
        found += re.escape(pattern[end : wildcard.start()]) + PLAIN[wildcard.group()]
        end = wildcard.end()
    return found + re.escape(pattern[end:])


@settings(max_examples=500, deadline=None)
@given(
    pattern=st.lists(st.sampled_from(["a", "b", "/", "*", "**", "**/", "?"]), max_size=9).map("".join),
    names=st.lists(st.text("ab/\n", max_size=9), min_size=1, max_size=30),
)
def test_a_pattern_matches_what_its_wildcards_mean(pattern: str, names: list[str]) -> None:
    assert [name for name in names if re.fullmatch(expression(pattern), name, re.DOTALL)] == [
        name for name in names if re.fullmatch(plain(pattern), name, re.DOTALL)
    ]


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*a*a*a*a*a*a*a*b", "a" * 1024),
        ("**a**a**a**a**a**a**b", "a" * 1024),
        ("**/*-*-*-*-*.log", "-" * 1024),
        ("**/**/**/**/**/x", "a/" * 512),
        ("**/?*?*?*?*?*/x", "a" * 1024),
        ("**/a/**/b/**/c/**/d", "a/b/c/" * 170),
    ],
)
def test_no_name_takes_long(pattern: str, name: str) -> None:
    """With a plain expression each of these takes minutes or years."""
    assert re.fullmatch(expression(pattern), name, re.DOTALL) is None
    end = re.split(r"[*]|/", pattern)[-1]
    assert (re.fullmatch(expression(pattern), name + end, re.DOTALL) is None) == (pattern == "**/?*?*?*?*?*/x")
