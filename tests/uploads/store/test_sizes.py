"""How large an upload can be."""

from __future__ import annotations

import pytest

from trove_async.driver.capabilities import Limits
from trove_async.errors import ContentTooLargeError
from trove_async.uploads.store.sizes import PartSizes

GIB = 1 << 30
S3 = Limits(min_part_size=5 << 20, max_part_size=5 * GIB, max_parts=10_000)


def sizes(memory: int = 64 << 20) -> PartSizes:
    return PartSizes(S3, part_size=8 << 20, memory=memory, max_size=None)


def test_the_memory_bounds_the_parts_and_so_the_upload() -> None:
    assert sizes().fixed(625 * GIB, None) == 64 << 20
    for size in (625 * GIB + 1, 2**63 - 1, 10**30):
        with pytest.raises(ContentTooLargeError, match="10000 parts of 67108864 bytes"):
            sizes().fixed(size, None)
    assert sizes(memory=GIB).fixed(5 << 40, None) == 525 << 20


def test_an_upload_of_unknown_size_ends_with_the_last_part() -> None:
    assert sizes().size_of(1, None) == 8 << 20
    assert sizes().size_of(10_000, None) == 64 << 20
    with pytest.raises(ContentTooLargeError):
        sizes().size_of(10_001, None)
