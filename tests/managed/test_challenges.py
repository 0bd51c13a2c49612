"""What a proof of access is of."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate

from trove_async.managed.proof import choose_ranges, prove


def test_ranges_reach_every_byte_with_the_same_probability() -> None:
    length = 10_000
    changes: Counter[int] = Counter()
    for start in range(length):  # every place at which a range may begin
        spans = set(choose_ranges(length, lambda _, start=start: start))  # type: ignore[misc]
        assert sum(size for _, size in spans) == 1024
        for begin, size in spans:
            changes.update({begin: 1, begin + size: -1})
    assert [*accumulate(changes[position] for position in range(length))] == [1024] * length


def test_a_proof_depends_on_all_that_it_is_of() -> None:
    proofs = [
        prove("id", b"nonce", ((0, 2),), [b"ab"]),
        prove("ie", b"nonce", ((0, 2),), [b"ab"]),
        prove("id", b"oncen", ((0, 2),), [b"ab"]),
        prove("id", b"nonce", ((1, 2),), [b"ab"]),
        prove("id", b"nonce", ((0, 2),), [b"ba"]),
        prove("id", b"nonce", ((0, 1), (1, 1)), [b"a", b"b"]),
    ]
    assert len(set(proofs)) == len(proofs)
