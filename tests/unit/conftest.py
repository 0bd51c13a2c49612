from __future__ import annotations

from hypothesis import settings

# A shared machine may stall for any time; pytest-timeout is what limits a test.
settings.register_profile("unit", deadline=None)
settings.load_profile("unit")
