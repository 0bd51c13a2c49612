"""Objects in memory: ``memory://`` for a private store, ``memory://NAME`` for one that the process shares.

This is the reference driver: it has every capability and condition, and exact errors.
"""

from trove_async.drivers.memory.driver import MemoryDriver

__all__ = ["MemoryDriver"]
