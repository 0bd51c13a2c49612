"""One connection to the server, which is made again when it is lost."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Final

import asyncssh

from trove_async.cancellation import finish
from trove_async.drivers.sftp.channel import Channel, Counter
from trove_async.drivers.sftp.errors import (
    DisconnectedError,
    no_sftp,
    translated_login,
)
from trove_async.drivers.sftp.settings import SFTPSettings
from trove_async.errors import (
    ClosedError,
    HostKeyChangedError,
    HostKeyUnknownError,
    InvalidDSNError,
    TroveError,
    UnavailableError,
)

__all__ = ["Connection"]

_WINDOW: Final = 8 * 1024 * 1024
"""Bytes that the server may send before they are read: more than any link has in flight."""
_PACKET: Final = 128 * 1024
"""Bytes of a packet of SSH that the server may send; larger ones are fewer, and each costs the same."""
_CIPHERS: Final = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
"""AES-GCM first: processors have instructions for it, so that it is several times as fast as ChaCha20."""


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

    async def channel(self) -> Channel:
        """Return a working channel.

        Raises:
            UnauthenticatedError, HostKeyUnknownError, HostKeyChangedError, UnsupportedError: the login failed.
            UnavailableError, OperationTimeoutError: it cannot be reached.
        """
        found = self.current
        if found is not None:
            return found
        if self._closed:
            raise ClosedError("the store is closed")
        if self._connecting is None:
            self._connecting = asyncio.ensure_future(self._connect())
            self._connecting.add_done_callback(self._connected)
        return await asyncio.shield(self._connecting)

    def _connected(self, task: asyncio.Task[Channel]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # marks it as retrieved: if no caller waits any more, the next one tries again

    async def _connect(self) -> Channel:
        await self._hang_up()
        settings = self._settings
        try:
            async with asyncio.timeout(settings.connect_timeout):
                ssh = await self._log_in()
                channel = await self._start_sftp(ssh)
        except BaseException as error:
            await self._hang_up()
            if isinstance(error, asyncssh.HostKeyNotVerifiable):
                raise self._host_key_error(error) from error
            if isinstance(error, Exception):
                raise translated_login(error, settings.address) from error
            raise
        self.connected += 1
        self._channel = channel
        return channel

    async def _log_in(self) -> asyncssh.SSHClientConnection:
        settings = self._settings
        common = self._options()
        tunnel: Any = ()
        if settings.jump is not None:
            for hop in settings.jump.split(","):
                user, host, port = _hop(hop)
                named = {} if user is None else {"username": user}
                tunnel = await asyncssh.connect(host, port, tunnel=tunnel, **{**common, **named})
                self._tunnels.append(tunnel)
        password = {} if settings.password is None else {"password": settings.password}
        self._ssh = await asyncssh.connect(settings.host, settings.port, tunnel=tunnel, **common, **password)
        return self._ssh

    def _options(self) -> dict[str, Any]:
        settings = self._settings
        options: dict[str, Any] = {
            "config": [] if settings.config is None else [settings.config],
            "keepalive_interval": settings.keepalive,
            "keepalive_count_max": 3,
            "connect_timeout": settings.connect_timeout,
            "login_timeout": settings.connect_timeout,
            "compression_algs": None,
            "encryption_algs": settings.ciphers or _CIPHERS,
        }
        if settings.user is not None:
            options["username"] = settings.user
        if not settings.verify:
            options["known_hosts"] = None
        else:
            options["known_hosts"] = self._known_hosts()
        if settings.key is not None:
            options["client_keys"] = [self._load_key(settings.key)]
        if settings.agent is not None:
            options["agent_path"] = None if settings.agent == "none" else os.path.expanduser(settings.agent)
            if settings.agent == "none" and settings.key is None:
                options["client_keys"] = None
        elif settings.key is not None:
            options["agent_path"] = None  # the key that was asked for, and no other
        return options

    def _known_hosts(self) -> Any:
        given = self._settings.known_hosts
        path = os.path.expanduser(given or "~/.ssh/known_hosts")
        if given is None and not os.path.exists(path):
            return b""  # no host is known or trusted
        try:
            return asyncssh.read_known_hosts(path)
        except OSError as error:
            raise InvalidDSNError(f"the known hosts {path!r} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise InvalidDSNError(f"{path!r} is not a file of known hosts: {error}") from error

    def _load_key(self, path: str) -> asyncssh.SSHKey:
        try:
            return asyncssh.read_private_key(os.path.expanduser(path), self._settings.passphrase)
        except OSError as error:
            raise InvalidDSNError(f"the key {path!r} cannot be read: {error.strerror}") from error
        except asyncssh.KeyEncryptionError as error:
            raise InvalidDSNError(f"the passphrase does not open the key {path!r}") from error
        except asyncssh.KeyImportError as error:
            need = "give its passphrase" if "assphrase" in str(error) else str(error)
            raise InvalidDSNError(f"the key {path!r} cannot be used: {need}") from error

    def _host_key_error(self, error: asyncssh.HostKeyNotVerifiable) -> TroveError:
        settings = self._settings
        known = self._known_hosts()
        trusted: Any = ()
        if known:
            trusted = asyncssh.match_known_hosts(known, settings.host, "", settings.port)[0]
        where = settings.known_hosts or "~/.ssh/known_hosts"
        if trusted:
            return HostKeyChangedError(
                f"THE HOST KEY OF {settings.address} HAS CHANGED: it is not the one in {where}. Someone may be "
                "listening in. Nothing was sent; ask the server's administrator before you replace the known key"
            )
        return HostKeyUnknownError(
            f"the host {settings.address} is not in {where}; compare its key with what its administrator says, and add "
            f"it, for example from ssh-keyscan -p {settings.port} {settings.host} ({error.reason})"
        )

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


def _hop(text: str) -> tuple[str | None, str, int]:
    user, at, address = text.strip().rpartition("@")
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        host, port = address, "22"
    if not host:
        raise InvalidDSNError("jump does not name a host; write [user@]host[:port], separated by commas")
    return (user if at else None), host.strip("[]"), int(port)
