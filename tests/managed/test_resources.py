"""The values of managed storage."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from trove_async.managed import RequestResponse


def test_one_range_has_a_start_and_a_length() -> None:
    request = RequestResponse("id", b"nonce", ((3, 5),), datetime.now(UTC))
    assert (request.range_start, request.range_length) == (3, 5)


def test_several_ranges_have_none() -> None:
    request = RequestResponse("id", b"nonce", ((3, 5), (9, 1)), datetime.now(UTC))
    with pytest.raises(ValueError, match="2 ranges"):
        _ = request.range_start
