"""``trove_async/sync/store``: written from the source of ``trove_async/store``, or compared with it.

``python -m tests.sync_surface --write`` or ``--check``. Each module of verbs has a twin with the same classes,
signatures and docstrings, whose methods call the async ones on the portal.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "trove_async" / "store"
TARGET = ROOT / "trove_async" / "sync" / "store"
MODULES: Final = (
    "bucket", "bucket_uploads", "capabilities", "copies", "deletes", "multipart", "objects", "reads", "trove",
)  # fmt: skip
HINT = "Run 'python -m tests.sync_surface --write', and commit it."

HANDWRITTEN: Final[Mapping[str, str]] = {
    "BulkDelete": "trove_async.sync.bulk",
    "Lifetime": "trove_async.sync.base",
    "ObjectIterator": "trove_async.sync.listing",
    "ObjectReader": "trove_async.sync.reader",
    "ObjectWriter": "trove_async.sync.writer",
    "VersionIterator": "trove_async.sync.listing",
    "Watch": "trove_async.sync.watch",
}
"""Classes that have a twin elsewhere."""

BASES: Final[Mapping[str, str]] = {"BucketUploads": "BucketBase"}
"""Classes whose fields are those of a handwritten base."""

PHRASES: Final = (
    (": await it for their number, or ``async for`` over a `DeleteResult` for each.", ", and return their number."),
    ("raise_errors: raise at the end if a key failed; False to look at the results alone.",
     "raise_errors: raise at the end if a key failed; False to get an iterator over a `DeleteResult` for each\n"
     "                key, which deletes as it goes."),
    ("also from an async generator. A `VersionInfo` among them is a version or delete marker,\n                which",
     "also from a generator, which runs in another thread. A `VersionInfo` among them is\n"
     "                a version or delete marker, which"),
    ("sync sources are read off the\n                loop.",
     "sync sources are read in\n                another thread."),
    ("on_progress: called with", "on_progress: called in the portal's thread with"),
    (" (when awaited or entered)", ""),
    ("Any number of tasks of its loop may use it.", "Any number of threads may use it."),
    ("trove_async.open", "trove_async.sync.open"),
    ("aclose()", "close()"),
    ("async with", "with"),
    ("async for", "for"),
    ("await ", ""),
)  # fmt: skip
"""What docstrings say of asyncio, and what they say instead."""


class StaleError(Exception):
    """The modules are out of date, or cannot be written; the message says what to do."""


class Module:
    """A module of the async API, and its twin."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._text = (SOURCE / f"{name}.py").read_text(encoding="utf-8")
        self._lines = self._text.splitlines()
        self._tree = ast.parse(self._text)

    def twin(self) -> str:
        """Return the source of the twin, before it is formatted."""
        parts = [*self._definitions()]
        body = "\n\n".join(part for _, part in parts)
        names = ", ".join(f'"{name}"' for name, _ in parts)
        return (
            f'"""{rephrased(ast.get_docstring(self._tree) or "")}\n\n'
            f'Written by ``python -m tests.sync_surface --write``; not to be edited.\n"""\n\n'
            f"from __future__ import annotations\n\n{self._imports(body)}\n\n__all__ = [{names}]\n\n\n{body}\n"
        )

    def _definitions(self) -> Iterator[tuple[str, str]]:
        for node in self._tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield node.name, self._class(node)
            elif isinstance(node, ast.FunctionDef) and node.name == "open":
                yield node.name, self._function(node, "async_open", portal="portal")

    def _class(self, node: ast.ClassDef) -> str:
        bases = [BASES.get(node.name, "")] if node.name in BASES else [ast.unparse(base) for base in node.bases]
        parts = [f"class {node.name}({', '.join(bases)}):", self._docstring(node)]
        if any(isinstance(item, ast.Assign) and ast.unparse(item.targets[0]) == "__slots__" for item in node.body):
            parts.append("    __slots__ = ()\n")
        parts += [
            self._function(item, f"self._async.{item.name}", portal="self._portal")
            for item in node.body
            if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and not item.name.startswith("_")
        ]
        return "\n".join(parts)

    def _docstring(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
        first = node.body[0]
        if ast.get_docstring(node) is None:
            return ""
        return rephrased("\n".join(self._lines[first.lineno - 1 : first.end_lineno]))

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, target: str, *, portal: str) -> str:
        returned = ast.unparse(node.returns) if node.returns is not None else "None"
        header = self._header(node)
        if node.decorator_list:  # an overload
            return f"    @overload\n{header} ...\n"
        docstring = self._docstring(node)
        indent = " " * (node.col_offset + 4)
        if returned == "BulkDelete":
            return _bulk(header, docstring, target, node)
        call = f"{portal}.{_runner(node, returned)}(lambda: {target}({_arguments(node)}))"
        if target == "async_open":
            return f"{header}\n{docstring}\n{indent}portal = current()\n{indent}return Trove(portal, {call})\n"
        wrapper = next((name for name in [*HANDWRITTEN, "Bucket"] if re.search(rf"\b{name}\b", returned)), None)
        if " | " in returned and wrapper is not None:  # a lambda has no overloads
            call = f'cast("listing.ObjectIterator[Item]", {call})'
        result = call if wrapper is None else f"{wrapper}({portal}, {call})"
        return f"{header}\n{docstring}\n{indent}{'' if returned == 'None' else 'return '}{result}\n"

    def _header(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
        """Return the lines of a signature, as they stand."""
        first = node.body[0]
        *lines, last = self._lines[node.lineno - 1 : first.lineno]
        text = "\n".join([*lines, last[: first.col_offset]]).rstrip()
        text = re.sub(r"\basync def\b", "def", text)
        return re.sub(r"Opening\[(\w+)\]", r"\1", text)

    def _imports(self, body: str) -> str:
        """Return the imports of the names that the twin uses; ruff sorts them."""
        used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
        found: list[str] = []
        for node in self._tree.body:
            if isinstance(node, ast.Import):
                found += [f"import {alias.name}" for alias in node.names if alias.name in used]
            elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
                for alias in node.names:
                    if alias.name in used and alias.name not in HANDWRITTEN:
                        found.append(f"from {_twin_of(node.module or '')} import {alias.name}")
        found += [f"from {module} import {name}" for name, module in HANDWRITTEN.items() if name in used]
        found += [line for name, line in _EXTRA.items() if name in used]
        return "\n".join(found)


_EXTRA: Final[Mapping[str, str]] = {
    "BucketBase": "from trove_async.sync.base import BucketBase",
    "Literal": "from typing import Literal",
    "async_open": "from trove_async.store import open as async_open",
    "cast": "from typing import cast\nfrom trove_async import listing",
    "current": "from trove_async.portal import current",
    "off_loop": "from trove_async.sync.bulk import off_loop",
    "overload": "from typing import overload",
}


def _twin_of(module: str) -> str:
    name = module.removeprefix("trove_async.store.")
    return f"trove_async.sync.store.{name}" if name in MODULES else module


def rephrased(text: str) -> str:
    """Return a docstring as the sync API has it."""
    for phrase, instead in PHRASES:
        text = text.replace(phrase, instead)
    return text


def _runner(node: ast.FunctionDef | ast.AsyncFunctionDef, returned: str) -> str:
    """Return the method of the portal that runs a function: `call` if its result has to be awaited."""
    return "call" if isinstance(node, ast.AsyncFunctionDef) or returned.startswith("Opening[") else "run"


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    arguments = node.args
    passed = [argument.arg for argument in arguments.args if argument.arg != "self"]
    passed += [f"{argument.arg}={argument.arg}" for argument in arguments.kwonlyargs]
    if arguments.kwarg is not None:
        passed.append(f"**{arguments.kwarg.arg}")
    return ", ".join(passed)


def _bulk(header: str, docstring: str, target: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Return a method that deletes at once, or as its results are iterated over."""
    flag = "raise_errors: bool = True"
    if flag not in header:
        raise StaleError(f"{node.name} has no '{flag}'")
    at_once = header.replace(flag, "raise_errors: Literal[True] = True").replace("-> BulkDelete", "-> int")
    step_by_step = header.replace(flag, "raise_errors: Literal[False]")
    arguments = _arguments(node).replace("keys", "off_loop(keys)")
    return (
        f"    @overload\n{at_once} ...\n\n    @overload\n{step_by_step} ...\n\n"
        f"{header.replace('-> BulkDelete', '-> int | BulkDelete')}\n{docstring}\n"
        f"        deletion = self._portal.run(lambda: {target}({arguments}))\n"
        f"        return self._portal.call(lambda: deletion) if raise_errors else BulkDelete(self._portal, deletion)\n"
    )


def _formatted(text: str, name: str) -> str:
    # The modules need not exist yet, and their imports are sorted among those of the package nevertheless.
    ours = ["--config", 'lint.isort.known-first-party=["trove_async"]']
    for command in (["check", "--fix-only", "--quiet", "--select", "I", *ours], ["format", "--quiet"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(TARGET / name), "-"],
            input=text, capture_output=True, text=True, check=False, cwd=ROOT,
        )  # fmt: skip
        if done.returncode:
            raise StaleError(f"{name} cannot be formatted: {done.stderr}")
        text = done.stdout
    return text


def surface() -> dict[str, str]:
    """Return the file names and texts of the generated modules.

    Raises:
        StaleError: a rule of the translation fits nothing any more.
    """
    sources = "".join((SOURCE / f"{name}.py").read_text(encoding="utf-8") for name in MODULES)
    stale = [phrase for phrase, _ in PHRASES if phrase not in sources]
    if stale:
        raise StaleError(f"no docstring has {stale[0]!r} any more")
    found = {f"{name}.py": _formatted(Module(name).twin(), f"{name}.py") for name in MODULES}
    return {
        "__init__.py": '"""The verbs of the async API; written by ``python -m tests.sync_surface --write``."""\n',
        **found,
    }


def check(target: Path) -> None:
    """Fail unless the modules are what would be written."""
    expected = surface()
    found = {path.name: path.read_text(encoding="utf-8") for path in target.glob("*.py")}
    stale = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if stale:
        raise StaleError(f"{target} is not what the async API makes of it ({', '.join(stale)}). {HINT}")


def write(target: Path) -> None:
    """Write the modules, and remove others."""
    target.mkdir(parents=True, exist_ok=True)
    expected = surface()
    for path in target.glob("*.py"):
        if path.name not in expected:
            path.unlink()
    for name, text in expected.items():
        (target / name).write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sync_surface", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="write the modules")
    action.add_argument("--check", action="store_true", help="fail if they are stale")
    options = parser.parse_args(arguments)
    try:
        (write if options.write else check)(TARGET)
    except StaleError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
