"""Keys are converted to file names and back, whatever they contain."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trove_async.keys import MAX_KEY_BYTES
from trove_async.tree.names import (
    CONTINUED,
    DIRECTORY,
    FILE,
    Entry,
    decode,
    may_be_placed_by_hand,
    path_of,
    routes_of,
)

# The characters and sequences that are escaped, among others that a key may contain.
_PIECES = st.one_of(
    st.sampled_from(["/", "//", ".", "..", "%", "%E", "%D", "%F", "%C", "%2F", "\x01", "\x7f", "\n", "a", " ", "~"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8),
    st.builds(lambda c, n: c * n, st.sampled_from("xé☃\U0001f600.%\x1f"), st.integers(50, 400)),
)
KEYS = st.lists(_PIECES, min_size=1, max_size=20).map("".join).filter(lambda k: len(k.encode()) <= MAX_KEY_BYTES)


def key_of(names: list[str]) -> str:
    key = ""
    for at, name in enumerate(names):
        entry = decode(name)
        assert entry is not None, name
        key += entry.text
        if entry.mark == CONTINUED:
            assert at < len(names) - 1, "a key cannot end in a continued component"
        elif at < len(names) - 1:
            key += "/"
    return key


@given(KEYS)
@settings(max_examples=400, deadline=None)
def test_a_path_represents_only_its_key(key: str) -> None:
    names = path_of(key)
    assert key_of(names) == key
    for name in names:
        assert name not in ("", ".", "..")
        assert "/" not in name
        assert not any(c < " " or c == "\x7f" for c in name)
        # A marker may be added, and file systems permit 255 bytes.
        assert len(name.encode()) + len(DIRECTORY) <= 255


@given(KEYS)
@settings(max_examples=200, deadline=None)
def test_markers_do_not_change_the_key_of_a_name(key: str) -> None:
    *above, last = path_of(key)
    assert decode(last + FILE) == Entry(_text(last), FILE)
    for name in above:
        if not name.endswith(CONTINUED):
            assert decode(name + DIRECTORY) == Entry(_text(name), DIRECTORY)


def _text(name: str) -> str:
    entry = decode(name)
    assert entry is not None
    assert entry.mark == ""
    return entry.text


@given(KEYS, KEYS)
@settings(max_examples=200, deadline=None)
def test_different_keys_have_different_paths(one: str, other: str) -> None:
    assert (path_of(one) == path_of(other)) == (one == other)


@given(
    st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=20)
    | st.binary(min_size=1, max_size=20).map(lambda raw: raw.translate(None, b"/\0") or b"a")
)
@settings(max_examples=400, deadline=None)
def test_a_name_represents_a_key_only_if_the_key_produces_that_name(name: str | bytes) -> None:
    text = name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")
    entry = decode(text)
    if entry is not None and entry.mark != CONTINUED:
        assert path_of(entry.text) == [text.removesuffix(entry.mark) if entry.mark else text]


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("photos/a.jpg", "photos/a.jpg"),
        ("Größe/naïve ☃.txt", "Größe/naïve ☃.txt"),
        ("../../etc/passwd", "%2E%2E/%2E%2E/etc/passwd"),
        (".", "%2E"),
        ("a/./b", "a/%2E/b"),
        (".hidden/...", ".hidden/..."),
        ("/", "%E/%E"),
        ("a//b/", "a/%E/b/%E"),
        ("100%", "100%25"),
        ("a%2Fb", "a%252Fb"),
        ("a%D", "a%25D"),
        ("tab\tnewline\n", "tab%09newline%0A"),
        ("x" * 240, "x" * 240),
        ("x" * 241, "x" * 240 + "%C/x"),
        ("x" * 240 + "./y", "x" * 240 + "%C/%2E/y"),
        ("x" * 239 + "%", "x" * 239 + "%C/%25"),
        ("é" * 121, "é" * 120 + "%C/é"),
    ],
)
def test_examples_of_paths(key: str, path: str) -> None:
    assert "/".join(path_of(key)) == path
    assert key_of(path_of(key)) == key


@pytest.mark.parametrize(
    "name",
    ["%", "a%", "a%2", "a%2f", "a%41", "%00", "a%2Fb", "%C", "a\n", "\udcff", "x" * 241 + "%F", "%2E%2E%2E", "a%X"],
)
def test_names_that_no_key_produces(name: str) -> None:
    assert decode(name) is None


def test_longest_names() -> None:
    for character in ("a", "\x01", "%", "é", "☃", "\U0001f600", "/"):
        key = character * (MAX_KEY_BYTES // len(character.encode()))
        assert key_of(path_of(key)) == key
        assert max(len(name.encode()) for name in path_of(key)) + len(FILE) <= 255


@pytest.mark.parametrize("length", [240, 241, 242, 243, 253, 254, 255])
@pytest.mark.parametrize("character", ["n", "é", "☃", "\U0001f600"])
def test_a_long_name_that_was_placed_by_hand_represents_a_key(length: int, character: str) -> None:
    name = (character * length).encode()[:length].decode(errors="ignore")
    name += "n" * (length - len(name.encode()))
    assert decode(name) == Entry(name, "")
    routes = routes_of(f"a/{name}/b")
    assert routes[0] == (("a",),)
    assert routes[1][0] == tuple(path_of(name))
    assert routes[1][-1] == (name,)
    assert len(routes[1]) == (1 if length == 240 else 2)
    assert may_be_placed_by_hand(path_of(name)) == (length > 240)


def test_a_component_that_is_too_long_for_a_name_has_one_path() -> None:
    assert routes_of("n" * 256) == [(("n" * 240 + CONTINUED, "n" * 16),)]


def test_a_long_name_with_a_mark_represents_nothing() -> None:
    for mark in (DIRECTORY, FILE):
        assert decode("n" * 240 + mark) == Entry("n" * 240, mark)
        assert decode("n" * 241 + mark) is None
