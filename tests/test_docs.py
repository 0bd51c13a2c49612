"""The documentation is correct: its examples run, its links have a target, its tables match the code."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import examples.custom_driver  # noqa: F401 - docs/drivers.md opens its DSNs
import trove_async
from tests import readme
from trove_async import errors
from trove_async.driver import CAPABILITIES, Driver, methods_of, registry
from trove_async.drivers import BUILTIN

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)")
NAMED_PATH = re.compile(r"`((?:trove_async|tests|examples|docs)/[\w./-]*)`")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def examples_of(page: Path) -> Iterator[doctest.Example]:
    """Yield the code of a page: the steps of its sessions, and its other blocks of Python in one piece."""
    text = page.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start(1)) + 1
        if not block[1].startswith(">>>"):
            yield doctest.Example(block[1], want="", lineno=line)
            continue
        for example in doctest.DocTestParser().get_examples(block[1], page.name):
            example.lineno += line
            yield example


class Session:
    """Runs examples as ``python -m asyncio`` does: ``await`` may be used at the top level."""

    def __init__(self, page: Path, runner: asyncio.Runner) -> None:
        self._page = page
        self._runner = runner
        self._names: dict[str, Any] = {"__name__": "__main__"}

    def run(self, example: doctest.Example) -> None:
        printed = io.StringIO()
        error = None
        with contextlib.redirect_stdout(printed):
            try:
                self._runner.run(self._execute(example))
            except Exception as raised:
                if example.exc_msg is None:
                    raise
                error = raised
        got, want = printed.getvalue(), example.want
        if example.exc_msg is not None:
            got, want = "".join(traceback.format_exception_only(error)) if error else got, example.exc_msg
        assert doctest.OutputChecker().check_output(want, got, doctest.ELLIPSIS), (
            f"{self._page.name}:{example.lineno}: {example.source}expected:\n{want}got:\n{got}"
        )

    async def _execute(self, example: doctest.Example) -> None:
        # A single statement shows its value. It runs on the loop even without an await: `t.list()` needs one.
        mode = "single" if example.want or example.exc_msg else "exec"
        tree = compile(example.source, f"{self._page.name}:{example.lineno}", mode, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(tree, self._names)
        if inspect.iscoroutine(result):
            await result


@pages
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs in an empty directory; a page must close what it opens, since warnings are errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "displayhook", sys.__displayhook__)
    # A page's drivers are removed after it.
    monkeypatch.setattr(registry.DRIVERS, "entries", dict(registry.DRIVERS.entries))
    with asyncio.Runner() as runner:
        session = Session(page, runner)
        for example in examples_of(page):
            session.run(example)


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pages
def test_links_have_a_target(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors_of(found), f"{page.name} links to {target}#{anchor}"


@pages
def test_named_paths_exist(page: Path) -> None:
    for path in NAMED_PATH.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), f"{page.name} names {path}"


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES[1:] if page.name != "index.md" and f"]({page.name})" not in index] == []


def test_readme_shows_the_generated_table() -> None:
    assert readme.shown_table() == readme.generated_table(), "run 'python -m tests.readme' and commit the README"


def test_errors_page_draws_the_tree() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert errors.__doc__ is not None
    _, _, drawn = errors.__doc__.partition("::\n\n")
    assert inspect.cleandoc("\n" + drawn) in page
    assert [name for name in errors.__all__ if name not in page] == []


@pytest.mark.parametrize("scheme", sorted(BUILTIN))
def test_dsn_page_names_every_parameter(scheme: str, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "dsn.md").read_text(encoding="utf-8")
    title = {"file": "local", "gs": "gcs"}.get(scheme, scheme)
    section = page.partition(f"\n## {title}")[2].partition("\n## ")[0]
    assert section, f"docs/dsn.md has no section on {scheme}"

    async def known() -> list[str]:
        path = str(tmp_path) if scheme in ("local", "file") else ""
        with pytest.raises(trove_async.InvalidDSNError) as refused:
            await trove_async.open(f"{scheme}://{path}", no_such_parameter=1)
        return refused.value.message.partition("it has: ")[2].split(", ")

    assert [name for name in asyncio.run(known()) if f"`{name}`" not in section] == []


def test_the_page_on_drivers_lists_the_methods_of_every_capability() -> None:
    page = (ROOT / "docs" / "drivers.md").read_text(encoding="utf-8")
    table = page.partition("## Capabilities and features")[2]
    rows = dict(re.findall(r"^\| `(\w+Driver)` \| (.*) \|$", table, re.MULTILINE))
    listed = {name: set(re.findall(r"`(\w+)`", methods)) for name, methods in rows.items()}
    own = {c.__name__: set(methods_of(c)) for c in CAPABILITIES}
    own["LifecycleSweepDriver"] -= own["LifecycleDriver"]
    assert listed == own


def test_the_page_on_drivers_lists_the_methods_of_a_driver() -> None:
    page = (ROOT / "docs" / "drivers.md").read_text(encoding="utf-8")
    table = page.partition("## The methods")[2].partition("\n\n`")[0]
    assert set(re.findall(r"`(\w+)(?:\(.*?\))?`", "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)))) == set(
        Driver.__abstractmethods__
    )
