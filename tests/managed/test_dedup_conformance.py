"""The conformance suite with a `Dedup`: what its catalogue decides in every run, all of it in a long one."""

from __future__ import annotations

from typing import Final

import pytest

from tests.managed.dedup_harness import chunks, local, memory, postgres
from trove_async.testing.conformance.suite import ConformanceSuite


def _checks(letter: str, first: int, last: int) -> list[str]:
    return [f"{letter}{number}" for number in range(first, last + 1)]


_ORDINARY: Final = frozenset(
    [
        *("B1", "D1", "D5", "E1", "K6", "M1", "P1", "P20", "R1", "R2", "R3", "R4", "R5", "Q1", "V2", "V13", "X1"),
        *_checks("C", 1, 12),  # conditions
        *_checks("T", 1, 13),  # listings
        *_checks("U", 1, 14),  # uploads
        *("M18", "M19"),  # tags
        *_checks("Y", 1, 12),  # copies
        *_checks("Z", 1, 7),  # versions
    ]
)


@pytest.mark.long(but=_ORDINARY)
class TestDedup(ConformanceSuite):
    harness = memory


@pytest.mark.long(but=frozenset(["P1", "P20", "R1", "R2", "R3", "R4", "R5", "Q1", "Y1", "Z1", *_checks("U", 1, 14)]))
class TestDedupChunks(ConformanceSuite):
    harness = chunks


@pytest.mark.long
class TestDedupLocal(ConformanceSuite):
    harness = local


@pytest.mark.long
class TestDedupPostgres(ConformanceSuite):
    harness = postgres
