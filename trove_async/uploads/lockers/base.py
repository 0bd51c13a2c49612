"""What a server of resumable uploads asks of locks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

__all__ = ["Lock", "Locker"]


@runtime_checkable
class Lock(Protocol):
    """A lock that is held."""

    @property
    def lost(self) -> bool:
        """Whether it is no longer held, though it was not released: the connection to its database broke.

        Nothing may be written then.
        """

    async def release(self) -> None:
        """Release the lock. It is shielded from cancellation, and success if the lock was lost or released."""


@runtime_checkable
class Locker(Protocol):
    """Gives locks by name.

    A holder may be a request whose client has gone without a word. So the locker asks the holder to stop when another
    request waits; the holder makes durable what it has, and releases the lock.
    """

    async def acquire(self, name: str, on_request: Callable[[], object]) -> Lock:
        """Wait for a lock and take it.

        Args:
            name: any text.
            on_request: called once, from the event loop, when the holder must stop: another request asks for the lock,
                the lock is lost, or the locker is closed. It must not block. It may be called before this returns.

        Raises:
            UploadLockedError: the holder did not stop in time.
            TransientError: the locks cannot be reached.
        """

    async def aclose(self) -> None:
        """Ask all holders in this process to stop, and release what the locker holds once they have."""
