"""Finding the root of a store in a path that also has a bucket and a key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trove_async.errors import InvalidDSNError
from trove_async.tree import possible_roots, split_path


@pytest.mark.parametrize(
    ("path", "roots"),
    [
        ("", ["/"]),
        ("/", ["/"]),
        ("/a", ["/", "/a"]),
        ("/a/", ["/", "/a"]),
        ("/a//b/c", ["/", "/a", "/a//b", "/a//b/c"]),
        ("/a/b/../c/.", ["/", "/a", "/a/b", "/a/b/../c"]),
        ("/a/../b/c", ["/", "/a", "/a/../b", "/a/../b/c"]),
    ],
)
def test_every_directory_on_the_path_may_be_the_root(path: str, roots: list[str]) -> None:
    assert possible_roots(path) == roots


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("/b/k", "/", ("/", "b", "k")),
        ("/data", "/data", ("/data", None, "")),
        ("/data/", "/data", ("/data", None, "")),
        ("/data//b", "/data", ("/data", "b", "")),
        ("/data/b/a//k/", "/data", ("/data", "b", "a//k/")),
    ],
)
def test_bucket_and_key_follow_the_root(path: str, root: str, expected: tuple[str, str | None, str]) -> None:
    assert split_path(path, [root]) == expected


@pytest.mark.parametrize("roots", [[], ["/a", "/a/b/c"]])
def test_without_exactly_one_root_none_is_guessed(roots: list[str]) -> None:
    with pytest.raises(InvalidDSNError):
        split_path("/a/b/c/d", roots)


@given(st.lists(st.text("ab", min_size=1, max_size=2), min_size=1, max_size=4), st.text("abc/", max_size=8))
def test_a_key_is_found_below_any_root(names: list[str], key: str) -> None:
    root = "/" + "/".join(names)
    path = f"{root}/bucket/{key}"
    assert root in possible_roots(path)
    assert split_path(path, [root]) == (root, "bucket", key)
