"""The public API: its names, the cost of importing it, and its types for type checkers."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import assert_type

import pytest

import trove_async
from tests import sync_surface
from trove_async import (
    Bucket,
    BulkDelete,
    Item,
    ObjectInfo,
    ObjectIterator,
    ObjectReader,
    ObjectWriter,
    Opening,
    Prefix,
    PresignedPost,
    Trove,
    VersionInfo,
    Watch,
    api,
)

PACKAGE = Path(trove_async.__file__).parent
MODULES = sorted(found.name for found in pkgutil.walk_packages([str(PACKAGE)], "trove_async."))
FOREIGN = [
    "aiobotocore", "botocore", "boto3", "gcloud", "google", "azure", "asyncssh", "watchfiles", "uvicorn", "starlette",
    "fastapi", "aiohttp", "sqlalchemy", "alembic", "asyncpg", "greenlet",
    "httpx", "pytest", "hypothesis", "opentelemetry", "prometheus_client",
]  # fmt: skip


def test_every_public_name_exists_once_and_in_order() -> None:
    def order(name: str) -> tuple[int, str]:
        """Constants first, then classes, then all others: the order that ruff keeps."""
        return 0 if name.isupper() else 1 if name[0].isupper() else 2, name

    names = trove_async.__all__
    assert sorted(names, key=order) == names
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(trove_async, name) is not None


def test_nothing_is_public_by_accident() -> None:
    def is_ours(name: str, value: object) -> bool:
        return not name.startswith("_") and not isinstance(value, ModuleType)

    found = {name for name, value in vars(api).items() if is_ours(name, value)}
    assert found | api._LAYERS | {"__version__"} == set(trove_async.__all__)
    assert {*dir(trove_async)} >= {*trove_async.__all__}
    script = "import trove_async; print(*(name for name in vars(trove_async) if not name.startswith('_')))"
    assert subprocess.check_output([sys.executable, "-c", script], text=True, timeout=60).split() == []


def test_importing_the_package_alone_imports_none_of_its_modules() -> None:
    script = "import sys, trove_async; print(*(name for name in sys.modules if 'trove_async' in name))"
    assert subprocess.check_output([sys.executable, "-c", script], text=True, timeout=60).split() == ["trove_async"]
    for statement in (
        "trove_async.open",
        "from trove_async import open",
        "from trove_async import *; open",
        "trove_async.errors",
    ):
        subprocess.run([sys.executable, "-c", f"import trove_async; {statement}"], timeout=60, check=True)
    assert imported_with("trove_async.api").isdisjoint(["aiofiles", "difflib", "zipfile"])


def test_layers_are_imported_when_the_first_one_is_used() -> None:
    script = "import sys, trove_async; assert 'trove_async.layers' not in sys.modules; trove_async.Limit(1)"
    subprocess.run([sys.executable, "-c", script], timeout=60, check=True)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'trove_async' has no attribute 'Limits'"):
        getattr(trove_async, "Limits")  # noqa: B009 - a type checker would refuse the attribute


def test_modules_import_each_other_in_one_direction() -> None:
    """At run time and for type checkers."""
    graph: dict[str, set[str]] = {name: imports_of(name) for name in MODULES}
    reached = {name: reachable(graph, name) for name in graph}
    circles = {frozenset(m for m in reached[name] if name in reached[m]) for name in graph if name in reached[name]}
    assert not circles


def imports_of(name: str) -> set[str]:
    """Return the modules of the package that a module imports at its top, including imports for type checkers only."""
    module = importlib.import_module(name)
    if hasattr(module, "__path__"):
        return set()  # a package re-exports names, and everything in it imports it
    tree = ast.parse(inspect.getsource(module))
    blocks = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.If))]
    found: set[str] = set()
    for node in itertools.chain(*blocks):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & set(MODULES)


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    ahead = list(graph[start])
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += graph[name]
    return found


def imported_with(*modules: str) -> set[str]:
    script = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_importing_the_package_imports_nothing_that_a_driver_or_a_test_needs() -> None:
    assert imported_with("trove_async.api").isdisjoint(FOREIGN)


def test_no_driver_is_imported_before_it_is_needed() -> None:
    script = "import sys, trove_async.api; print(*(m for m in sys.modules if m.startswith('trove_async.drivers.')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


def test_files_and_paths_import_no_other_face() -> None:
    assert imported_with("trove_async.fs").isdisjoint([*FOREIGN, "fsspec", "zarr", "django"])
    script = "import sys, trove_async.fs; print('trove_async.sync' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", script], text=True, timeout=60).split() == ["False"]


def test_a_missing_fsspec_is_named_by_its_extra() -> None:
    script = (
        "import sys, trove_async.fs; sys.modules['fsspec'] = None; sys.modules['fsspec.asyn'] = None\n"
        "from trove_async.errors import MissingDependencyError\n"
        "try: trove_async.fs.TroveFileSystem\n"
        "except MissingDependencyError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "pip install 'trove-async[fsspec]'" in done.stdout


@pytest.mark.parametrize("module", ["trove_async.testing.mock", "trove_async.testing.faults"])
def test_doubles_need_no_test_framework(module: str) -> None:
    assert imported_with(module).isdisjoint(FOREIGN)


@pytest.mark.parametrize(
    ("layer", "package", "extra"),
    [("OpenTelemetry", "opentelemetry", "otel"), ("Prometheus", "prometheus_client", "prometheus")],
)
def test_a_missing_package_is_named_by_its_extra(layer: str, package: str, extra: str) -> None:
    script = (
        f"import sys; sys.modules[{package!r}] = None\n"
        f"import trove_async\n"
        f"from trove_async import *\n"
        f"try: trove_async.{layer}()\n"
        f"except trove_async.MissingDependencyError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert f"pip install 'trove-async[{extra}]'" in done.stdout


def test_other_layers_import_no_package_of_observers() -> None:
    script = (
        "import sys, trove_async; trove_async.Observe(print), trove_async.Limit(1)\n"
        "print([m for m in sys.modules if m.startswith(('opentelemetry', 'prometheus_client'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def documented() -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for name in MODULES:
        module = importlib.import_module(name)
        found.append((name, module))
        for attribute in getattr(module, "__all__", []):
            value = getattr(module, attribute)
            if getattr(value, "__module__", None) == name and (inspect.isclass(value) or inspect.isfunction(value)):
                found.append((f"{name}.{attribute}", value))
    return found


@pytest.mark.parametrize(("name", "value"), documented(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_public_module_class_and_function_is_documented(name: str, value: object) -> None:
    text = inspect.getdoc(value) or ""
    assert text.strip(), f"{name} has no docstring"
    if inspect.isclass(value):
        own = {
            method: member
            for method, member in vars(value).items()
            if inspect.isfunction(member) and member.__module__ == value.__module__
        }
        public = {method: member for method, member in own.items() if not method.startswith(("_", "test_"))}
        undocumented = [method for method, member in public.items() if not inspect.getdoc(member)]
        inherited = {method for base in value.__mro__[1:] for method in vars(base)}
        assert [method for method in undocumented if method not in inherited] == []


LONGER = {"errors.py": 800}
"""The lines of modules that are one list, and grow with it: a class for each error."""


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_is_longer_than_600_lines(path: Path) -> None:
    limit = LONGER.get(str(path.relative_to(PACKAGE)), 600)
    assert len(path.read_text(encoding="utf-8").splitlines()) <= limit


def test_bucket_and_store_describe_their_verbs_the_same_way() -> None:
    for name, method in inspect.getmembers(Bucket, inspect.isfunction):
        if name.startswith("_"):
            continue
        of_store = list(inspect.signature(getattr(Trove, name)).parameters)
        of_bucket = list(inspect.signature(method).parameters)
        if any(p.kind is p.VAR_KEYWORD for p in inspect.signature(method).parameters.values()):
            of_bucket = of_bucket[:-1]
            of_store = of_store[: len(of_bucket) + 1]
        expected = [p for p in of_store if p not in ("bucket", "src_bucket", "dst_bucket")]
        assert [p for p in of_bucket if p != "dst_bucket"] == expected, name


def test_the_sync_api_is_what_the_async_one_makes_of_it() -> None:
    sync_surface.check(sync_surface.TARGET)


async def types_as_checked(t: Trove, bucket: Bucket, delimiter: str | None) -> None:
    """Use the API as a type checker sees it; mypy checks this function, and nothing runs it."""
    assert_type(t.get("b", "k"), Opening[ObjectReader])
    assert_type(t.watch("b"), Watch)
    assert_type(t.delete_many("b", ["k"]), BulkDelete)
    assert_type(await t.presign_post("b", "k", max_size=1), PresignedPost)
    assert_type(t.list("b"), ObjectIterator[ObjectInfo])
    assert_type(t.list("b", "p", delimiter="/"), ObjectIterator[Item])
    assert_type(bucket.list("p"), ObjectIterator[ObjectInfo])
    assert_type(bucket.list("p", delimiter="/"), ObjectIterator[Item])
    assert_type(await t.list("b").all(), list[ObjectInfo])
    async for info in t.list("b"):
        assert_type(info, ObjectInfo)
    async for item in t.list("b", delimiter="/"):
        assert_type(item, ObjectInfo | Prefix)
    async for page in t.list("b").pages():
        assert_type(page, list[ObjectInfo])
    assert_type(await t.put("b", "k", b""), ObjectInfo)
    assert_type(await t.get("b", "k"), ObjectReader)
    async with t.get("b", "k") as reader:
        assert_type(reader, ObjectReader)
        assert_type(await reader.read(), bytes)
    async with t.writer("b", "k", content_type="text/plain") as writer:
        assert_type(writer, ObjectWriter)
    assert_type(await t.read("b", "k"), bytes)
    assert_type(await t.read_ranges("b", "k", [(0, 1), (5, None)]), list[bytes])
    assert_type(await t.delete_many("b", ["k"]), int)
    assert_type(await t.list_versions("b", "k"), list[VersionInfo])
    assert_type(t.bucket("b"), Bucket)
    async with trove_async.open("memory://") as opened:
        assert_type(opened, Trove)
