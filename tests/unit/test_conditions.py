from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from trove_async.driver import HeadOptions, check_read, check_write
from trove_async.errors import NotModifiedError, ObjectAlreadyExistsError, PreconditionFailedError
from trove_async.types import ObjectInfo

STORED = datetime(2024, 5, 6, 7, 8, 9, 500_000, tzinfo=UTC)
SECOND = STORED.replace(microsecond=0)
INFO = ObjectInfo("k", 1, "now", STORED)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"if_match": "now"},
        {"if_match": "*"},
        {"if_none_match": "other"},
        {"if_modified_since": SECOND - timedelta(seconds=1)},
        {"if_unmodified_since": SECOND},
        {"if_unmodified_since": STORED},
        {"if_match": "now", "if_unmodified_since": SECOND - timedelta(days=1)},
        {"if_none_match": "other", "if_modified_since": SECOND + timedelta(days=1)},
    ],
)
def test_reads_whose_conditions_hold(options: dict[str, Any]) -> None:
    check_read(INFO, HeadOptions(**options))


@pytest.mark.parametrize(
    "options",
    [
        {"if_match": "other"},
        {"if_unmodified_since": SECOND - timedelta(seconds=1)},
        {"if_match": "other", "if_none_match": "now"},
        {"if_match": "other", "if_unmodified_since": STORED + timedelta(days=1)},
    ],
)
def test_reads_whose_precondition_fails(options: dict[str, Any]) -> None:
    with pytest.raises(PreconditionFailedError):
        check_read(INFO, HeadOptions(**options))


@pytest.mark.parametrize(
    "options",
    [
        {"if_none_match": "now"},
        {"if_none_match": "*"},
        {"if_modified_since": SECOND},
        {"if_modified_since": STORED},
        {"if_match": "now", "if_none_match": "now"},
        {"if_none_match": "now", "if_modified_since": SECOND - timedelta(days=1)},
    ],
)
def test_reads_of_an_object_that_has_not_changed(options: dict[str, Any]) -> None:
    with pytest.raises(NotModifiedError):
        check_read(INFO, HeadOptions(**options))


def test_dates_are_ignored_if_the_backend_has_no_time() -> None:
    unknown = ObjectInfo("k", 1, "now")
    check_read(unknown, HeadOptions(if_modified_since=STORED))
    check_read(unknown, HeadOptions(if_unmodified_since=STORED))


@pytest.mark.parametrize(
    ("current", "if_match", "if_none_match"),
    [
        (None, None, None),
        ("now", None, None),
        ("now", "now", None),
        ("now", "*", None),
        (None, None, "*"),
        (None, None, "other"),
        ("now", None, "other"),
    ],
)
def test_writes_whose_conditions_hold(current: str | None, if_match: str | None, if_none_match: str | None) -> None:
    check_write(current, if_match, if_none_match)


@pytest.mark.parametrize(
    ("current", "if_match", "if_none_match", "error"),
    [
        (None, "now", None, PreconditionFailedError),
        (None, "*", None, PreconditionFailedError),
        ("now", "other", None, PreconditionFailedError),
        ("now", None, "*", ObjectAlreadyExistsError),
        ("now", None, "now", PreconditionFailedError),
    ],
)
def test_writes_whose_conditions_fail(
    current: str | None, if_match: str | None, if_none_match: str | None, error: type[Exception]
) -> None:
    with pytest.raises(PreconditionFailedError) as caught:
        check_write(current, if_match, if_none_match)
    assert type(caught.value) is error
