"""Objects in memory: ``memory://`` for a store of one's own, ``memory://NAME`` for one that the process shares.

It is the reference: every capability, every condition, exact errors.
"""

from trove_async.drivers.memory.driver import MemoryDriver

__all__ = ["MemoryDriver"]
