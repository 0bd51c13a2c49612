from __future__ import annotations

import sys
from pathlib import Path

import pytest

import trove_async
from trove_async.driver import registry
from trove_async.driver.registry import Registry, lookup, register, schemes
from trove_async.errors import DriverRegistrationError, InvalidDSNError, MissingDependencyError
from trove_async.testing.mock import MockDriver
from trove_async.types import ObjectInfo


@pytest.fixture(autouse=True)
def fresh_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = Registry("driver", registry.DRIVERS.group, DriverRegistrationError, registry.DRIVERS.entries)
    monkeypatch.setattr(registry, "DRIVERS", fresh)


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, entry: str, module: str = "") -> None:
    """Put a package with an entry point on the path, as an installer would."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[trove_async.drivers]\n{entry}\n")
    if module:
        (folder / f"{name}.py").write_text(module)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)


def test_a_registered_factory_is_found() -> None:
    register("unit-test", MockDriver)
    assert lookup("unit-test") is MockDriver
    assert "unit-test" in schemes()
    assert schemes() == sorted(schemes())


def test_a_path_is_imported_at_its_first_use() -> None:
    register("unit-test", "trove_async.testing.mock:MockDriver")
    assert lookup("unit-test") is MockDriver


@pytest.mark.parametrize("scheme", ["memory", "local"])
def test_a_scheme_is_registered_once(scheme: str) -> None:
    with pytest.raises(DriverRegistrationError, match=f"already registered for {scheme!r}"):
        register(scheme, MockDriver)


@pytest.mark.parametrize("scheme", ["", "Unit", "unit://"])
def test_an_invalid_scheme_is_refused(scheme: str) -> None:
    with pytest.raises(DriverRegistrationError, match="is not a scheme"):
        register(scheme, MockDriver)


def test_the_error_for_an_unknown_scheme_lists_the_known_ones() -> None:
    with pytest.raises(DriverRegistrationError, match="memory") as caught:
        lookup("no-such")
    assert "no-such" in str(caught.value)


@pytest.mark.asyncio
async def test_a_factory_that_returns_no_driver_is_refused() -> None:
    register("unit-test", dict)  # type: ignore[arg-type]
    with pytest.raises(DriverRegistrationError, match="registered for 'unit-test' makes a dict, not a Driver"):
        await trove_async.open("unit-test://")


@pytest.mark.asyncio
async def test_open_says_that_the_dsn_is_wrong() -> None:
    with pytest.raises(InvalidDSNError, match="no driver is registered for 'no-such'"):
        await trove_async.open("no-such://")


def test_a_missing_package_is_named() -> None:
    register("unit-test", "no_such_package.driver:Driver")
    with pytest.raises(MissingDependencyError, match=r"'no_such_package'.*pip install no_such_package$") as caught:
        lookup("unit-test")
    assert isinstance(caught.value.__cause__, ImportError)


@pytest.mark.parametrize(("scheme", "extra"), [("s3", "s3"), ("gs", "gcs")])
def test_a_package_that_a_built_in_driver_lacks_is_named_with_its_extra(
    scheme: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name="httptools")

    monkeypatch.setattr(registry, "import_module", missing)
    with pytest.raises(MissingDependencyError, match=rf"'httptools'.*pip install 'trove-async\[{extra}\]'"):
        lookup(scheme)


@pytest.mark.asyncio
async def test_an_installed_package_registers_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = (
        "from trove_async.testing.mock import MockDriver\n"
        "from trove_async.types import ObjectInfo\n"
        "def make():\n"
        "    return MockDriver(head=ObjectInfo('k', 3, 'from-plugin'))\n"
    )
    install(tmp_path, monkeypatch, "trove_plugin", "plugged = trove_plugin:make", module)
    assert "plugged" in schemes()
    async with trove_async.open("plugged://") as t:
        assert await t.head("b", "k") == ObjectInfo("k", 3, "from-plugin")


def test_two_packages_that_register_one_scheme_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "one", monkeypatch, "plugin_one", "plugged = plugin_one:make")
    install(tmp_path / "two", monkeypatch, "plugin_two", "plugged = plugin_two:make")
    with pytest.raises(DriverRegistrationError, match="two installed packages"):
        lookup("plugged")


def test_a_package_cannot_register_a_built_in_scheme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "plugin_greedy", "memory = plugin_greedy:make")
    assert lookup("memory").__name__ == "MemoryDriver"
    with pytest.raises(DriverRegistrationError, match="memory"):
        schemes()
