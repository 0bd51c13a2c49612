"""What a program sees that was installed without the extra of managed storage."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
sys.modules[{missing!r}] = None
from trove_async.errors import MissingDependencyError
try:
    from trove_async import managed
except MissingDependencyError as error:
    print(error)
"""


@pytest.mark.parametrize("missing", ["sqlalchemy", "alembic"])
def test_the_error_names_the_extra(missing: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", SCRIPT.format(missing=missing)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert "pip install 'trove-async[managed]'" in done.stdout, done.stderr
