"""Every test belongs to one part of the test budget."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.parts import PARTS, part_of

TESTS = Path(__file__).parent


def test_every_file_and_folder_of_tests_is_in_one_part() -> None:
    found = {path.relative_to(TESTS).parts[0] for path in TESTS.rglob("test_*.py")}
    assert Counter(path for part in PARTS.values() for path in part.paths) == Counter(found)


@pytest.mark.parametrize(
    ("path", "stack", "part"),
    [
        ("tests/unit/test_keys.py", None, "unit, tree and wire"),
        ("tests/test_docs.py", None, "docs"),
        ("tests/conformance/test_local.py", "plain", "conformance and drivers"),
        ("tests/conformance/test_local.py", "limit", "layers"),
        ("elsewhere/test_mine.py", None, None),
    ],
)
def test_part_of(path: str, stack: str | None, part: str | None) -> None:
    assert part_of(path, stack) == part
