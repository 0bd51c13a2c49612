"""File systems that do less than those of this machine, imitated in the calls of the system."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

__all__ = ["KINDS", "Imitate"]

Imitate = Callable[[pytest.MonkeyPatch], None]


def times_of(grain_ns: int) -> Imitate:
    """Store the times that are set in steps."""

    def imitate(monkeypatch: pytest.MonkeyPatch) -> None:
        original = os.utime

        def utime(path: Any, *, ns: tuple[int, int], **options: Any) -> None:
            original(path, ns=(ns[0] // grain_ns * grain_ns, ns[1] // grain_ns * grain_ns), **options)

        monkeypatch.setattr(os, "utime", utime)

    return imitate


def no_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse to set the time of a file."""
    monkeypatch.setattr(os, "utime", _failing(errno.EPERM))


def no_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no extended attributes."""
    monkeypatch.setattr(os, "setxattr", _failing(errno.ENOTSUP))
    monkeypatch.setattr(os, "getxattr", _failing(errno.ENOTSUP))


def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give no file a second name, as FAT, exFAT and many network file systems."""
    monkeypatch.setattr(os, "link", _failing(errno.EPERM))


def _failing(code: int) -> Callable[..., None]:
    def fail(*args: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def _all(*imitations: Imitate) -> Imitate:
    def imitate(monkeypatch: pytest.MonkeyPatch) -> None:
        for one in imitations:
            one(monkeypatch)

    return imitate


KINDS: dict[str, Imitate] = {
    "as here": _all(),
    "100 ns": times_of(100),
    "10 ms": times_of(10_000_000),
    "1 s": times_of(1_000_000_000),
    "2 s": times_of(2_000_000_000),
    "2 s, no attributes": _all(times_of(2_000_000_000), no_attributes),
    "no links": no_links,
    "2 s, no attributes, no links": _all(times_of(2_000_000_000), no_attributes, no_links),
    "no times": no_times,
    "no times, no links": _all(no_times, no_links),
    "no times, no attributes": _all(no_times, no_attributes),
}
"""The kinds of file systems; the last two cannot keep versions, and cannot be opened at all."""
