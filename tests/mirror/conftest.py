from __future__ import annotations

from tests.database.conftest import new_schema, postgres, postgres_url, url  # noqa: F401 - fixtures
