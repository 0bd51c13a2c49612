"""Going on after the connection was lost."""

from __future__ import annotations

from trove_async.driver.retry import Attempts, Retries
from trove_async.drivers.sftp.connection import Connection
from trove_async.drivers.sftp.errors import DisconnectedError, translated
from trove_async.errors import TroveError, UnavailableError

__all__ = ["Recovery"]


class Recovery:
    """How the operations of a store go on after their connection was lost.

    All of them go on over one new connection, so that the first one that does pays for all.

    Args:
        retries: of the store.
        connection: of the store.
    """

    def __init__(self, retries: Retries, connection: Connection) -> None:
        self.retries = retries
        self._connection = connection
        self._paid = -1

    async def again(self, attempts: Attempts, error: TroveError) -> bool:
        """Wait before an operation is tried again; False if it is not, and the error is to be raised."""
        return await attempts.another(error, pay=self._pay)

    async def step_again(self, attempts: Attempts, error: DisconnectedError) -> bool:
        """Wait before a step is tried again over a new connection; False if it is not, as in `again`."""
        failure = translated(error)
        if await self.again(attempts, failure):
            return True
        error.failure = failure
        return False

    async def settle_again(self, attempts: Attempts, error: DisconnectedError) -> bool:
        """Wait before the server is asked what has become of a step, whatever has ended the connection; as `again`."""
        return await self.again(attempts, UnavailableError(str(error)))

    def _pay(self) -> bool:
        made = self._connection.logins
        if made != self._paid:
            if not self.retries.budget.take():
                return False
            self._paid = made
        return True
