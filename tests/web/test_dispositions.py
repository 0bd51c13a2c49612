"""The filename of a Content-Disposition header."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trove_async.web.http import content_disposition, disposition_filename


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ('attachment; filename="a b.txt"', "a b.txt"),
        ("inline;filename=a.txt", "a.txt"),
        ('inline ; FileName = "a" ; size=3', "a"),
        (r'inline; filename="a\"b"', 'a"b'),
        ("inline; filename=x; filename*=UTF-8''%C3%BC.txt", "ü.txt"),
        ("inline; filename*=UTF-8'en'a%20b; filename=x", "a b"),
        ("inline; filename*=iso-8859-1''%FC", "ü"),
        ("inline; filename=x; filename*=UTF-8''%FF", "x"),
        ("inline; filename=x; filename*=utf-7''y", "x"),
        ('inline; filename="C:\\\\dir\\\\a.txt"', "a.txt"),
        ('inline; filename="../../etc/passwd"', "passwd"),
        ('inline; filename="dir/"', None),
        ("inline", None),
        ("", None),
        ("inline; filename", None),
        ("inline; filename=", None),
        ("inline; filename=a b", None),
        ('inline; filename="a', None),
        ('inline; filename="a"b', None),
        ("inline;; filename=a", None),
        ("inline; filename=a;", None),
    ],
)
def test_filenames(value: str, name: str | None) -> None:
    assert disposition_filename(value) == name


@given(
    st.text(alphabet=st.characters(exclude_categories=["C", "Z"], exclude_characters="/\\"), min_size=1, max_size=20)
)
def test_what_is_written_is_read(name: str) -> None:
    expected = name if name.strip(" .") else "_"
    assert disposition_filename(content_disposition("inline", name)) == expected


@given(st.one_of(st.text(), st.text(alphabet="a;=\"\\*' %", max_size=60)))
def test_no_text_breaks_it(value: str) -> None:
    assert disposition_filename(value) != ""


@pytest.mark.parametrize("value", ["a" + ";a=b" * 20_000 + "\n", 'a; b="' + "\\a" * 30_000, "a;" + " " * 60_000])
def test_long_texts_take_no_long_time(value: str) -> None:
    assert disposition_filename(value) is None
