"""The checks of an answer to a read, before its bytes are used."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from trove_async.errors import BackendError, RangeNotSatisfiableError
from trove_async.ranges import ByteRange
from trove_async.wire.reading import placement


def placed(status: int, headers: dict[str, str], length: int | None, wanted: ByteRange | None) -> tuple[int, int, int]:
    response: Any = SimpleNamespace(status=status, headers=headers)
    return placement(response, length, wanted, "a service")


def part(span: str) -> dict[str, str]:
    return {"content-range": f"bytes {span}"}


@pytest.mark.parametrize(
    ("status", "headers", "length", "wanted", "expected"),
    [
        (200, {}, 10, None, (0, 10, 10)),
        (200, {}, 0, None, (0, 0, 0)),
        (200, {}, 10, ByteRange(2, 3), (2, 5, 10)),
        (200, {}, 10, ByteRange(-3), (7, 10, 10)),
        (206, part("2-4/10"), 3, ByteRange(2, 3), (2, 5, 10)),
        (206, part("2-4/10"), None, ByteRange(2, 3), (2, 5, 10)),
        (206, part("8-9/10"), 2, ByteRange(8, 100), (8, 10, 10)),
        (206, part("7-9/10"), 3, ByteRange(-3), (7, 10, 10)),
        (206, part("0-9/10"), 10, ByteRange(-100), (0, 10, 10)),
    ],
)
def test_valid_answers(
    status: int,
    headers: dict[str, str],
    length: int | None,
    wanted: ByteRange | None,
    expected: tuple[int, int, int],
) -> None:
    assert placed(status, headers, length, wanted) == expected


@pytest.mark.parametrize(
    ("status", "headers", "length", "wanted"),
    [
        (200, part("1-3/10"), 3, ByteRange(1, 3)),
        (200, part("0-9/10"), 10, None),
        (206, part("0-9/10"), 10, None),
        (206, part("0-2/10"), 3, ByteRange(-2)),
        (206, part("0-2/10"), 3, ByteRange(1, 3)),
        (206, part("1-4/10"), 4, ByteRange(1, 3)),
        (206, part("1-2/10"), 2, ByteRange(1, 3)),
        (206, part("1-3/10"), 2, ByteRange(1, 3)),
        (206, part("1-3/10"), 4, ByteRange(1, 3)),
        (206, part("1-3/2"), 3, ByteRange(1, 3)),
        (206, part("3-1/10"), 3, ByteRange(1, 3)),
        (206, part("1-3/*"), 3, ByteRange(1, 3)),
        (206, part("1-3/" + "9" * 5000), 3, ByteRange(1, 3)),
        (206, part("1-3/\u0661\u0660"), 3, ByteRange(1, 3)),
        (206, {"content-range": "items 1-3/10"}, 3, ByteRange(1, 3)),
        (206, {}, 3, ByteRange(1, 3)),
        (203, {}, 10, None),
        (204, {}, 0, None),
    ],
)
def test_invalid_answers_are_refused(
    status: int, headers: dict[str, str], length: int | None, wanted: ByteRange | None
) -> None:
    with pytest.raises(BackendError):
        placed(status, headers, length, wanted)


@pytest.mark.parametrize("status", [200, 206])
def test_a_range_past_the_end_is_not_satisfiable(status: int) -> None:
    headers = {} if status == 200 else part("10-9/10")
    with pytest.raises(RangeNotSatisfiableError):
        placed(status, headers, 10 if status == 200 else 0, ByteRange(10, 1))
