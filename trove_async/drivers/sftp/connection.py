"""One connection to the server, which is made again when it is lost."""

from __future__ import annotations

import asyncio
from copy import copy
from typing import Final

import asyncssh

from trove_async.cancellation import finish
from trove_async.drivers.sftp.channel import Channel, Counter
from trove_async.drivers.sftp.errors import (
    DisconnectedError,
    no_sftp,
    translated_login,
)
from trove_async.drivers.sftp.login import Login
from trove_async.drivers.sftp.settings import SFTPSettings
from trove_async.errors import ClosedError, TroveError, UnavailableError

__all__ = ["Connection"]

_WINDOW: Final = 8 * 1024 * 1024
"""Bytes that the server may send before they are read: more than any link has in flight."""
_PACKET: Final = 128 * 1024
"""Bytes of a packet of SSH that the server may send; larger ones are fewer, and each costs the same."""


class Connection:
    """Returns the current channel or connects: the first caller connects, and the others wait for it.

    Attributes:
        connected: how many connections were made.
    """

    def __init__(self, settings: SFTPSettings, *, cleanup_timeout: float) -> None:
        self._settings = settings
        self._cleanup_timeout = cleanup_timeout
        self._ssh: asyncssh.SSHClientConnection | None = None
        self._tunnels: list[asyncssh.SSHClientConnection] = []
        self._channel: Channel | None = None
        self._connecting: asyncio.Task[Channel] | None = None
        self._counts: Counter = {}
        self._closed = False
        self.connected = 0
        self._failed = 0

    @property
    def current(self) -> Channel | None:
        """The working channel, None if there is none now."""
        channel = self._channel
        return channel if channel is not None and channel.failure is None else None

    @property
    def open_handles(self) -> int:
        """How many handles are open on the server."""
        return 0 if self._channel is None else self._channel.open_handles

    @property
    def counts(self) -> Counter:
        """How many requests of each kind were sent, over all connections."""
        found = dict(self._counts)
        for name, count in self._channel.counts.items() if self._channel is not None else ():
            found[name] = found.get(name, 0) + count
        return found

    @property
    def logins(self) -> int:
        """How many logins have ended, well or badly."""
        return self.connected + self._failed

    async def channel(self) -> Channel:
        """Return a working channel.

        Raises:
            UnauthenticatedError, HostKeyUnknownError, HostKeyChangedError, UnsupportedError: the login failed.
            UnavailableError, OperationTimeoutError: it cannot be reached.
            ClosedError: it was closed, perhaps while this waited.
        """
        found = self.current
        if found is not None:
            return found
        if self._closed:
            raise ClosedError("the store is closed")
        if self._connecting is None:
            self._connecting = asyncio.ensure_future(self._connect())
            self._connecting.add_done_callback(self._connected)
        connecting = self._connecting
        try:
            return await asyncio.shield(connecting)
        except TroveError as error:
            raise copy(error) from error.__cause__  # the callers who waited for it change their own
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                raise ClosedError("the store was closed during the operation") from None
            raise

    def _connected(self, task: asyncio.Task[Channel]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # marks it as retrieved: if no caller waits any more, the next one tries again

    async def _connect(self) -> Channel:
        await self._hang_up()
        settings = self._settings
        try:
            async with asyncio.timeout(settings.connect_timeout):
                self._ssh = await Login(settings).connect(self._tunnels)
                channel = await self._start_sftp(self._ssh)
        except BaseException as error:
            await self._hang_up()
            self._failed += 1
            if isinstance(error, Exception):
                raise translated_login(error, settings.address) from error
            raise
        self.connected += 1
        self._channel = channel
        return channel

    async def _start_sftp(self, ssh: asyncssh.SSHClientConnection) -> Channel:
        made: list[Channel] = []

        def factory() -> Channel:
            made.append(Channel(idle_timeout=self._settings.idle_timeout))
            return made[0]

        try:
            await ssh.create_session(factory, subsystem="sftp", encoding=None, window=_WINDOW, max_pktsize=_PACKET)
            await made[0].handshake()
        except asyncssh.ChannelOpenError as error:
            if error.code == asyncssh.OPEN_REQUEST_SESSION_FAILED or "subsystem" in error.reason.lower():
                raise no_sftp(self._settings.address) from error
            raise
        except DisconnectedError as error:
            if ssh.is_closed():
                raise UnavailableError(f"the connection to {self._settings.address} was lost at once") from error
            raise no_sftp(self._settings.address) from error
        return made[0]

    async def _hang_up(self) -> None:
        """Abort what remains of a connection."""
        channel, self._channel = self._channel, None
        ssh, self._ssh = self._ssh, None
        tunnels, self._tunnels = self._tunnels, []
        if channel is not None:
            for name, count in channel.counts.items():
                self._counts[name] = self._counts.get(name, 0) + count
            channel.fail(DisconnectedError("the connection was closed"))
        for connection in ([] if ssh is None else [ssh]) + tunnels[::-1]:
            connection.abort()
            await connection.wait_closed()

    async def close(self) -> None:
        """Close permanently."""
        self._closed = True
        if self._connecting is not None:
            connecting = self._connecting
            connecting.cancel()
            await asyncio.wait({connecting})
        if self.current is not None and self._ssh is not None:
            await finish(_leave(self._ssh), timeout=self._cleanup_timeout, leftover="a connection that does not close")
        await self._hang_up()


async def _leave(ssh: asyncssh.SSHClientConnection) -> None:
    ssh.close()
    await ssh.wait_closed()
