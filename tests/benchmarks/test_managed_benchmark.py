"""The benchmark of managed storage with little work, without its peer."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.managed import DedupStore, Load, Managed, Subject, count_proof, large, measure

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("kind", [Managed, DedupStore])
async def test_small_contents(kind: type[Subject], tmp_path: Path) -> None:
    rate = await measure(kind(f"sqlite:///{tmp_path}/managed.db"), Load(puts=50, tasks=16, size=100))
    assert rate.failures == 0
    assert rate.per_second > 0


async def test_a_proof_costs_two_round_trips_and_no_bytes(tmp_path: Path) -> None:
    assert await count_proof(f"sqlite:///{tmp_path}/proof.db") == [
        "request: 1 round trip to the database, 0 bytes sent to the store",
        "proof: 1 round trip to the database, 0 bytes sent to the store (1 get, 1 head)",
    ]


async def test_a_large_content(tmp_path: Path) -> None:
    assert [*await large(tmp_path, 2**21)] == ["managed storage", "put alone", "hashlib.sha384 alone"]
