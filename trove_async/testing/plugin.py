"""The pytest plugin, for environments whose installation does not name it: ``pytest -p trove_async.testing.plugin``."""

from pytest_trove_async import pytest_addoption, pytest_configure, throwaway_store, trove_harnesses

__all__ = ["pytest_addoption", "pytest_configure", "throwaway_store", "trove_harnesses"]
