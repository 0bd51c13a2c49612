"""The sync API has the names, signatures and docstrings of the async one."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, assert_type, get_overloads

import pytest

import trove_async as trove
from tests import sync_surface
from trove_async import sync

PAIRS: Final[Mapping[str, tuple[type, type]]] = {
    name: (getattr(trove, name), getattr(sync, name)) for name in sync.__all__ if inspect.isclass(getattr(sync, name))
}
RENAMED: Final = {
    "aclose": "close",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
}
FOR_DRIVERS: Final = {"buffer", "expect", "parallel", "resume_by", "wrap"}
"""What `ObjectReader` has for drivers and layers, which are async."""

pairs = pytest.mark.parametrize("name", PAIRS)


def names_of(cls: type) -> set[str]:
    """Return the public names of a class and those of its protocols, and the attributes that it sets."""
    found = {name for name in dir(cls) if not name.startswith("_")} - FOR_DRIVERS
    found |= {name for name in RENAMED.keys() | RENAMED.values() if name.startswith("__") and hasattr(cls, name)}
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_set(node)}
    found |= {name for name in attributes if not name.startswith("_")} - FOR_DRIVERS
    return found


def is_set(node: ast.Attribute) -> bool:
    return isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name) and node.value.id == "self"


@pairs
def test_every_public_name_is_there(name: str) -> None:
    theirs, ours = PAIRS[name]
    expected = {RENAMED.get(each, each) for each in names_of(theirs)}
    if name == "BulkDelete":
        expected |= {"__next__"}  # the async one makes another iterator
    assert names_of(ours) == expected


def as_sync(returned: str) -> str:
    """Return the annotation of the sync method, from that of the async one."""
    if returned == "BulkDelete":
        return "int | BulkDelete"
    return returned.replace("AsyncIterator", "Iterator").removeprefix("Opening[").replace("Reader]", "Reader")


def assert_same_signature(theirs: Callable[..., Any], ours: Callable[..., Any]) -> None:
    left, right = inspect.signature(theirs), inspect.signature(ours)
    assert list(right.parameters.values()) == list(left.parameters.values())
    assert right.return_annotation == as_sync(left.return_annotation)


@pairs
def test_every_method_has_the_same_signature(name: str) -> None:
    theirs, ours = PAIRS[name]
    for method in names_of(theirs):
        found, twin = getattr(theirs, method, None), getattr(ours, RENAMED.get(method, method))
        if not inspect.isfunction(found) or (name, method) == ("BulkDelete", "__aiter__"):
            continue
        assert not inspect.iscoroutinefunction(twin)
        assert not inspect.isasyncgenfunction(twin)
        assert_same_signature(found, twin)
        if method not in ("delete_many", "empty_bucket"):
            overloads = zip(get_overloads(found), get_overloads(twin), strict=True)
            for pair in overloads:
                assert_same_signature(*pair)


def test_open_has_the_same_signature() -> None:
    theirs, ours = inspect.signature(trove.open), inspect.signature(sync.open)
    assert list(ours.parameters.values()) == list(theirs.parameters.values())
    assert ours.return_annotation == "Trove"


def docstrings() -> list[tuple[str, str]]:
    return [
        (f"{path.name}: {getattr(node, 'name', '')}", ast.get_docstring(node) or "")
        for path in sorted(Path(sync.__file__).parent.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    ]


@pytest.mark.parametrize("word", ["await", "async for", "async with", "aclose", "coroutine", "task"])
def test_docstrings_do_not_speak_of_asyncio(word: str) -> None:
    assert [where for where, text in docstrings() if word in text.split("::")[0]] == []


@pairs
def test_every_method_is_described_like_the_async_one(name: str) -> None:
    theirs, ours = PAIRS[name]
    for method in names_of(theirs):
        found, twin = getattr(theirs, method, None), getattr(ours, RENAMED.get(method, method))
        if inspect.isfunction(found) and not method.startswith("_"):
            expected = sync_surface.rephrased(inspect.getdoc(found) or "").replace("AsyncIteration", "Iteration")
            assert (inspect.getdoc(twin) or "").splitlines()[0] == expected.splitlines()[0]


def test_a_stale_module_is_found(tmp_path: Path) -> None:
    sync_surface.write(tmp_path)
    sync_surface.check(tmp_path)
    (tmp_path / "reads.py").write_text("", encoding="utf-8")
    (tmp_path / "old.py").write_text("", encoding="utf-8")
    with pytest.raises(sync_surface.StaleError, match=r"\(old\.py, reads\.py\)"):
        sync_surface.check(tmp_path)
    sync_surface.write(tmp_path)
    assert not (tmp_path / "old.py").exists()


def types_as_checked(t: trove.sync.Trove, bucket: trove.sync.Bucket) -> None:
    """Use the API as a type checker sees it; mypy checks this function, and nothing runs it."""
    assert_type(t.get("b", "k"), sync.ObjectReader)
    assert_type(t.watch("b"), sync.Watch)
    assert_type(t.delete_many("b", ["k"]), int)
    assert_type(t.delete_many("b", (o.key for o in t.list("b")), raise_errors=False), sync.BulkDelete)
    assert_type(bucket.empty_bucket(), int)
    assert_type(t.presign_post("b", "k", max_size=1), trove.PresignedPost)
    assert_type(t.list("b"), sync.ObjectIterator[trove.ObjectInfo])
    assert_type(t.list("b", "p", delimiter="/"), sync.ObjectIterator[trove.Item])
    assert_type(bucket.list("p"), sync.ObjectIterator[trove.ObjectInfo])
    assert_type(t.list("b").all(), list[trove.ObjectInfo])
    for info in t.list("b"):
        assert_type(info, trove.ObjectInfo)
    for page in t.list("b").pages():
        assert_type(page, list[trove.ObjectInfo])
    for version in t.list_all_versions("b"):
        assert_type(version, trove.VersionInfo)
    with t.get("b", "k") as reader:
        assert_type(reader.read(), bytes)
        for chunk in reader:
            assert_type(chunk, bytes)
    with t.writer("b", "k", content_type="text/plain") as writer:
        assert_type(writer, sync.ObjectWriter)
    with t.watch("b") as events:
        for event in events:
            assert_type(event, trove.ObjectEvent)
    assert_type(t.bucket("b"), sync.Bucket)
    with trove.sync.open("memory://") as opened:
        assert_type(opened, sync.Trove)
