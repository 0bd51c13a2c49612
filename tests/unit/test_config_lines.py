"""The lines of keys: those of hand-written documents, and of generated ones, compared with what `tomllib` reads."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trove_async.config.lines import KeyPath, lines_of, written

DOCUMENT = '''# a comment with = and [brackets]
title = "x" # another

[stores.media]              # 4
dsn = "s3://a#b=c[d]"
'quoted key'."and another" = 1
text = """
[not.a.table]
key = 1 \\"""
""""
raw = \'\'\'
also = "not"\'\'\'
layers = [ # 13
  "one", { use = "two", deep = { er = [1,
  2] } }, # 15

  [3, 4],
]
after = 1979-05-27 07:32:00 # 19

[[stores.more.list]] # 21
a = 1
[stores.more.list.sub]
b = 2
[[stores.more.list]] # 25
a = { x.y = 1 }
[[stores.more.list.inner]] # 27
c.d.e = 3
'''


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lines_of_a_document(newline: str) -> None:
    text = DOCUMENT.replace("\n", newline)
    tomllib.loads(text)
    of = lines_of(text.replace("\r\n", "\n")).of
    more: KeyPath = ("stores", "more", "list")
    assert of[("title",)] == 2
    assert of[("stores",)] == of[("stores", "media")] == 4
    media = {key[2:]: line for key, line in of.items() if key[:2] == ("stores", "media")}
    assert media == {
        (): 4,
        ("dsn",): 5,
        ("quoted key",): 6,
        ("quoted key", "and another"): 6,
        ("text",): 7,
        ("raw",): 11,
        ("layers",): 13,
        ("layers", 0): 14,
        ("layers", 1): 14,
        ("layers", 1, "use"): 14,
        ("layers", 1, "deep"): 14,
        ("layers", 1, "deep", "er"): 14,
        ("layers", 1, "deep", "er", 0): 14,
        ("layers", 1, "deep", "er", 1): 15,
        ("layers", 2): 17,
        ("layers", 2, 0): 17,
        ("layers", 2, 1): 17,
        ("after",): 19,
    }
    assert {key[3:]: line for key, line in of.items() if key[:3] == more} == {
        (): 21,
        (0,): 21,
        (0, "a"): 22,
        (0, "sub"): 23,
        (0, "sub", "b"): 24,
        (1,): 25,
        (1, "a"): 26,
        (1, "a", "x"): 26,
        (1, "a", "x", "y"): 26,
        (1, "inner"): 27,
        (1, "inner", 0): 27,
        (1, "inner", 0, "c"): 28,
        (1, "inner", 0, "c", "d"): 28,
        (1, "inner", 0, "c", "d", "e"): 28,
    }


@pytest.mark.parametrize(
    ("text", "path", "first", "line"),
    [
        ("a = 1\n\na = 2\n", ("a",), 1, 3),
        ("[s.a]\nx = 1\n[s.b]\n[s.a]\n", ("s", "a"), 1, 4),
        ("[s.a]\nx.y = 1\nx.y = 2\n", ("s", "a", "x", "y"), 2, 3),
        ("s = { a = 1, a = 2 }\n", ("s", "a"), 1, 1),
        ('[s]\na = 1\n"a" = 2\n', ("s", "a"), 2, 3),
        ("[[s]]\na = 1\n[[s]]\na = 1\nb = 1\nb = 2\n", ("s", 1, "b"), 5, 6),
    ],
)
def test_a_key_that_is_defined_twice(text: str, path: KeyPath, first: int, line: int) -> None:
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads(text)
    assert lines_of(text).repeated == [(path, first, line)]


@pytest.mark.parametrize(
    "text", ["[", "[a", "a", "a =", "a = [1,", "a = {b", 'a = "', "a = '''", "=", '"\\z" = 1', "a..b = 1", "]"]
)
def test_a_malformed_document_is_read_as_far_as_possible(text: str) -> None:
    assert lines_of(f"first = 1\n{text}").of[("first",)] == 1


def test_a_key_is_written_as_in_toml() -> None:
    assert written(("stores", "a b", "layers", 1, 'say "x"')) == 'stores."a b".layers[1]."say \\"x\\""'


keys = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=6)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
values = st.recursive(
    st.one_of(st.integers(-9, 9), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), texts),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


class Writer:
    """Writes a document in one of many forms, and notes the line of every key."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.text = ""
        self.lines: dict[KeyPath, int] = {}

    def note(self, path: KeyPath) -> None:
        self.lines.setdefault(path, self.text.count("\n") + 1)

    def gap(self, *, newlines: bool) -> None:
        gaps = ["", " ", "\t "] + (["\n", " # [no] = 'key' \"\n", "\n\n  "] if newlines else [])
        self.text += self.draw(st.sampled_from(gaps))

    def key(self, key: str) -> str:
        bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
        forms = [json_text(key)]
        if bare:
            forms.append(key)
        if key.isprintable() and "'" not in key:
            forms.append(f"'{key}'")
        return self.draw(st.sampled_from(forms))

    def string(self, text: str) -> str:
        forms = [json_text(text), '"""\n' + json_text(text)[1:-1].replace("\\n", "\n") + '"""']
        if text.isprintable() and "'" not in text:
            forms += [f"'{text}'", f"'''\n{text}'''"]
        return self.draw(st.sampled_from(forms))

    def value(self, path: KeyPath, value: Any) -> None:
        if isinstance(value, Mapping):
            self.text += "{"
            for index, (key, inner) in enumerate(value.items()):
                self.text += ", " if index else " "
                self.pair((*path, key), inner)
            self.text += " }"
        elif isinstance(value, list):
            self.text += "["
            for index, inner in enumerate(value):
                self.gap(newlines=True)
                self.note((*path, index))
                self.value((*path, index), inner)
                self.gap(newlines=True)
                self.text += ","
            self.gap(newlines=True)
            self.text += "]"
        elif isinstance(value, str):
            self.text += self.string(value)
        else:
            self.text += json.dumps(value)

    def pair(self, path: KeyPath, value: Any) -> None:
        self.note(path)
        self.text += self.key(str(path[-1]))
        self.gap(newlines=False)
        self.text += "="
        self.gap(newlines=False)
        self.value(path, value)

    def table(self, path: KeyPath, header: list[str], table: Mapping[str, Any]) -> None:
        """Write a table: first its values, then what is written as tables of their own."""
        later = []
        for key, value in table.items():
            own = isinstance(value, Mapping) or (
                isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value)
            )
            if own and self.draw(st.booleans()):
                later.append((key, value))
                continue
            self.gap(newlines=True)
            self.pair((*path, key), value)
            self.text += "\n"
        for key, value in later:
            inner = (*path, key)
            items = [(inner, value)] if isinstance(value, Mapping) else [((*inner, i), v) for i, v in enumerate(value)]
            for at, item in items:
                self.gap(newlines=True)
                self.note(inner)
                self.note(at)
                name = ".".join([*header, self.key(key)])
                self.text += f"[{name}]\n" if isinstance(value, Mapping) else f"[[ {name} ]]\n"
                self.table(at, [*header, self.key(key)], item)


def json_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[KeyPath, int], dict[str, Any]]:
    data = draw(st.dictionaries(keys, values, max_size=4))
    writer = Writer(draw)
    writer.table((), [], data)
    return writer.text, writer.lines, data


@given(documents())
def test_every_key_of_any_document_has_its_line(document: tuple[str, dict[KeyPath, int], dict[str, Any]]) -> None:
    text, expected, data = document
    assert tomllib.loads(text) == data
    found = lines_of(text)
    assert found.of == expected
    assert found.repeated == []


@given(st.text(max_size=60) | st.text("ab.=[]{}\"'#\n, 1\\", max_size=60))
def test_any_text_can_be_read(text: str) -> None:
    found = lines_of(text)
    assert all(1 <= line <= text.count("\n") + 1 for line in found.of.values())
