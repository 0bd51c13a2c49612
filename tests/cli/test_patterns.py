"""Patterns of keys."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trove_async
from trove_async.cli.patterns import expand, fixed_part, is_pattern, matcher
from trove_async.driver import ListOptions, ListPage

components = st.text("ab.*?/", min_size=1, max_size=8)
keys = st.sets(st.text("ab./", min_size=1, max_size=6), max_size=12)


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        ("*.jpg", ["a.jpg", ".jpg"], ["x/a.jpg", "a.jpeg", "a.jpg.txt"]),
        ("p/*/c", ["p/b/c", "p//c"], ["p/c", "p/a/b/c"]),
        ("p/**", ["p/a", "p/a/b", "p/"], ["p", "q/a"]),
        ("p/**/c", ["p/c", "p/a/c", "p/a/b/c"], ["p/xc", "pc"]),
        ("**/*.txt", ["a.txt", "x/y/a.txt"], ["a.txt/b"]),
        ("a?c", ["abc", "a\nc"], ["a/c", "ac"]),
        ("a+(b).*", ["a+(b).c"], ["aab.c"]),
        ("*", ["a", "a[1].txt"], ["a/b"]),
    ],
)
def test_what_patterns_match(pattern: str, matches: list[str], others: list[str]) -> None:
    found = matcher(pattern)
    assert [key for key in matches if not found.fullmatch(key)] == []
    assert [key for key in others if found.fullmatch(key)] == []


def test_fixed_parts() -> None:
    assert fixed_part("a/b/c*/d") == "a/b/"
    assert fixed_part("a*") == ""
    assert fixed_part("a/?/b*") == "a/"
    assert is_pattern("a?")
    assert not is_pattern("a[b]")


async def expanded(stored: set[str], pattern: str) -> list[str]:
    async with trove_async.open("memory://") as store:
        await store.create_bucket("b")
        for key in stored:
            await store.put("b", key, b"")
        return [item.key async for item in expand(store, "b", pattern, prefixes=False)]


@settings(max_examples=150, deadline=None)
@given(stored=keys, pattern=components.filter(is_pattern))
def test_expansion_finds_what_the_pattern_matches(stored: set[str], pattern: str) -> None:
    found = asyncio.run(expanded(stored, pattern))
    expression = matcher(pattern)
    expected = {key for key in stored if expression.fullmatch(key)}
    assert len(found) == len(set(found))
    # A pattern that ends in a slash matches folders; an object with such a key is found only by its exact name.
    assert set(found) == {key for key in expected if not (pattern.endswith("/") and "**" not in pattern)}


def test_only_the_levels_of_the_pattern_are_listed() -> None:
    async def listed() -> list[str]:
        seen = []
        async with trove_async.open("memory://") as store:
            await store.create_bucket("b")
            for key in ("p/x/1.jpg", "p/x/deep/2.jpg", "p/y/3.jpg", "q/4.jpg"):
                await store.put("b", key, b"")
            original = store.driver.list_page

            async def list_page(bucket: str, options: ListOptions) -> ListPage:
                seen.append(options.prefix)
                return await original(bucket, options)

            store.driver.list_page = list_page  # type: ignore[method-assign]
            found = [item.key async for item in expand(store, "b", "p/*/*.jpg", prefixes=False)]
        assert found == ["p/x/1.jpg", "p/y/3.jpg"]
        return seen

    assert asyncio.run(listed()) == ["p/", "p/x/", "p/y/"]
