from __future__ import annotations

from hypothesis import settings

# A shared machine may stall for any time; what bounds a test is pytest-timeout.
settings.register_profile("unit", deadline=None)
settings.load_profile("unit")
