"""`Bucket` has the methods of `Trove` without the bucket: the same types, and whole docstrings for editors."""

from __future__ import annotations

import inspect
import re

import pytest

from trove_async import Bucket, Trove

METHODS = sorted(name for name, value in vars(Bucket).items() if not name.startswith("_") and callable(value))
NAMING = {"copy", "move"}
"""Those that name two objects: of the source the bucket is known, and of the target it is by default."""


def for_bucket(docstring: str) -> str:
    """Return the docstring of a method of `Trove` without what it says of the argument ``bucket``."""
    text = re.sub(r"^    (?:src_)?bucket: .*\n(?:     +.*\n?)*", "", docstring, flags=re.MULTILINE)
    text = re.sub(r"^    src_bucket, src_key: ", "    src_key: ", text, flags=re.MULTILINE)
    text = re.sub(
        r"^    dst_bucket, dst_key: (.*)\.$",
        r"    dst_key, dst_bucket: \1; default the same bucket.",
        text,
        flags=re.MULTILINE,
    )
    text = re.sub(r"^    bucket, ", "    ", text, flags=re.MULTILINE)
    return re.sub(r"\n\nArgs:(?=\n\n|\n?\Z)", "", text).rstrip()


@pytest.mark.parametrize("name", METHODS)
def test_docstrings(name: str) -> None:
    own, of_the_store = inspect.getdoc(getattr(Bucket, name)), inspect.getdoc(getattr(Trove, name))
    assert own is not None
    assert of_the_store is not None
    assert own == for_bucket(of_the_store)


@pytest.mark.parametrize("name", sorted({*METHODS} - NAMING))
def test_signatures(name: str) -> None:
    own, of_the_store = (inspect.signature(getattr(owner, name), eval_str=True) for owner in (Bucket, Trove))
    expected = [parameter for parameter in of_the_store.parameters.values() if parameter.name != "bucket"]
    assert [*own.parameters.values()] == expected
    assert own.return_annotation == of_the_store.return_annotation


@pytest.mark.parametrize("name", sorted(NAMING))
def test_signatures_of_methods_that_name_two_objects(name: str) -> None:
    own, of_the_store = (inspect.signature(getattr(owner, name), eval_str=True) for owner in (Bucket, Trove))
    left_out = {"src_bucket", "dst_bucket"}
    assert [p for p in own.parameters.values() if p.name not in left_out] == [
        p for p in of_the_store.parameters.values() if p.name not in left_out
    ]
    assert own.return_annotation == of_the_store.return_annotation
