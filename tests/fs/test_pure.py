"""What paths are without I/O: the same as those of `pathlib`, as far as keys are paths."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trove_async as trove
from trove_async.errors import InvalidArgumentError
from trove_async.fs.pure import PureStorePath

STORE: Any = object()  # no path asks it for anything

NAME = st.text("ab.-_é", min_size=1, max_size=6).filter(lambda name: name not in (".", ".."))
NAMES = st.lists(NAME, max_size=4)
TEXT = st.text("ab./", max_size=10)


def path(*names: str, root: str = "") -> PureStorePath:
    return PureStorePath(STORE, "b", "/".join(names), root=root)


def posix(*names: str) -> PurePosixPath:
    return PurePosixPath("/", *names)


def same(ours: PureStorePath, theirs: PurePosixPath) -> bool:
    return ours.parts == theirs.parts[1:]


@given(names=NAMES, other=NAMES)
def test_the_parts_are_those_of_pathlib(names: list[str], other: list[str]) -> None:
    ours, theirs = path(*names), posix(*names)
    assert same(ours, theirs)
    assert (ours.name, ours.stem, ours.suffix, ours.suffixes) == (
        theirs.name, theirs.stem, theirs.suffix, theirs.suffixes
    )  # fmt: skip
    assert same(ours.parent, theirs.parent)
    assert [p.parts for p in ours.parents] == [p.parts[1:] for p in theirs.parents]
    assert ours.is_relative_to(path(*other)) == theirs.is_relative_to(posix(*other))
    assert (ours == path(*other)) == (theirs == posix(*other))
    assert (ours < path(*other)) == (theirs < posix(*other))
    assert hash(path(*names)) == hash(ours)


@given(names=NAMES, text=TEXT)
def test_joined_text_leads_where_normalised_paths_lead(names: list[str], text: str) -> None:
    joined = os.path.join("/", *names, text)
    depth = 0 if text.startswith("/") else len(names)
    for part in text.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            with pytest.raises(InvalidArgumentError, match="leads out of the root"):
                path(*names) / text
            return
    expected = PurePosixPath(os.path.normpath(joined))
    assert (path(*names) / text).parts == expected.parts[1:]
    assert same(path(*names) / PurePosixPath("a", "b"), posix(*names) / "a/b")


@given(
    names=NAMES.filter(bool),
    name=st.text("a./", max_size=3),
    suffix=st.sampled_from(["", ".", ".x", "x", "./", ".a.b"]),
)
def test_changed_names(names: list[str], name: str, suffix: str) -> None:
    def outcome(change: Any) -> object:
        try:
            changed = change()
        except ValueError:
            return ValueError
        if isinstance(changed, PureStorePath):
            return changed.parts
        # Some names are accepted there that are lost, or are two, when the path is parsed again.
        return changed.parts[1:] if PurePosixPath(str(changed)) == changed and ".." not in changed.parts else ValueError

    ours, theirs = path(*names), posix(*names)
    assert outcome(lambda: ours.with_suffix(suffix)) == outcome(lambda: theirs.with_suffix(suffix))
    assert outcome(lambda: ours.with_name(name)) == outcome(lambda: theirs.with_name(name))


@given(names=NAMES.filter(bool), pattern=st.text("ab.?*é/", min_size=1, max_size=6))
def test_match(names: list[str], pattern: str) -> None:
    if "**" in pattern or "" in pattern.removeprefix("/").split("/") or "." in pattern.split("/"):
        return
    whole = pattern.startswith("/")  # otherwise the root is a name there, which "?" matches
    assert path(*names).match(pattern) == (posix(*names) if whole else PurePosixPath(*names)).match(pattern)


@given(names=NAMES, below=NAMES)
def test_relative_to(names: list[str], below: list[str]) -> None:
    base = path(*names)
    way = base.below(below).relative_to(base)
    assert way == PurePosixPath(*below)
    assert base / way == base.below(below)
    with pytest.raises(InvalidArgumentError):
        base.relative_to(base.child("x"))


@given(key=st.text("a./", max_size=8))
def test_any_key_is_expressed_as_it_is(key: str) -> None:
    found = PureStorePath(STORE, "b", key)
    assert found.key == key
    for step in found.parents:
        assert found.key.startswith(step.prefix)
    assert path().below(found.parts) == found


def test_no_path_leaves_its_root() -> None:
    home = path(root="tenants/7")
    assert (home.key, home.prefix, home.parent) == ("tenants/7/", "tenants/7/", home)
    assert (home / "a" / ".." / "b.txt").key == (home / "/b.txt").key == "tenants/7/b.txt"
    for way in ("..", "a/../..", "../7", "/..", "../tenants/7"):
        with pytest.raises(InvalidArgumentError, match="leads out of the root 'tenants/7/'"):
            home / way
    assert home.child("..").key == "tenants/7/.."
    assert not path("tenants", "8").is_relative_to(home)
    assert path("tenants/7/a") != home / "a"


def test_names_that_paths_cannot_express_are_not_lost() -> None:
    odd = PureStorePath(STORE, "b", "a//../.")
    assert odd.parts == ("a", "", "..", ".")
    assert odd.parent.key == "a//.."
    assert odd.match("a//../.")
    with pytest.raises(InvalidArgumentError, match="would be lost"):
        odd.relative_to(path("a"))
    assert path("a", "").key == "a/"
    with pytest.raises(InvalidArgumentError, match="slash"):
        path().child("a/b")
    for name in ("", ".", ".."):
        with pytest.raises(InvalidArgumentError):
            path("a").with_name(name)
    with pytest.raises(InvalidArgumentError, match="root"):
        path().with_name("a")
    with pytest.raises(InvalidArgumentError):
        path("a").match("")
    with pytest.raises(TypeError):
        path("a") / 1  # type: ignore[operator]


def test_paths_of_two_stores_are_different_and_have_no_order() -> None:
    other = PureStorePath(trove, "b", "a")  # type: ignore[arg-type]
    assert other != path("a")
    with pytest.raises(TypeError):
        other < path("a")  # noqa: B015
    assert sorted([path("b"), path("a", "z"), path("a")]) == [path("a"), path("a", "z"), path("b")]
    assert str(path("a", "b")) == "b/a/b"
    assert repr(path("a", root="r")).endswith("'b', 'a', root='r/')")
