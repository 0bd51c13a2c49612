"""Logging in on the server, and on the hosts on the way to it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final

import asyncssh

from trove_async.drivers.sftp.errors import translated_login
from trove_async.drivers.sftp.known_hosts import DEFAULT_KNOWN_HOSTS, KnownHosts
from trove_async.drivers.sftp.settings import SFTPSettings, address_of
from trove_async.errors import InvalidDSNError, TroveError

__all__ = ["Login"]

_CIPHERS: Final = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
"""AES-GCM first: processors have instructions for it, so that it is several times as fast as ChaCha20."""


@dataclass(frozen=True, slots=True)
class _Host:
    """A host to connect to: as it was named, and what OpenSSH's configuration makes of it.

    Attributes:
        named: by the user; the configuration is looked up by it.
        port, user: None to use those of the configuration, or the defaults.
        key_name, key_port: by which the host is known.
        jump: the hosts to go through according to the configuration.
        known_hosts: the files according to the configuration.
    """

    named: str
    port: int | None
    user: str | None
    key_name: str
    key_port: int
    jump: str | None
    known_hosts: tuple[str, ...]

    @property
    def address(self) -> str:
        return address_of(self.named, self.key_port)


class _Recorder(asyncssh.SSHClient):
    """Stores the host key that could not be verified."""

    def __init__(self) -> None:
        self.offered: asyncssh.SSHKey | None = None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.offered = key
        return False


class Login:
    """Connects to a server as the settings say, and OpenSSH's configuration where they name one."""

    def __init__(self, settings: SFTPSettings) -> None:
        self._settings = settings

    async def connect(self, opened: list[asyncssh.SSHClientConnection]) -> asyncssh.SSHClientConnection:
        """Connect and log in.

        Args:
            opened: gets each connection on the way, which the caller closes.

        Raises:
            InvalidDSNError: a key, a configuration or the known hosts cannot be used.
            TroveError: the login failed; see `translated_login` and `KnownHosts.error`.
        """
        settings = self._settings
        target = self._host(settings.host, settings.port, settings.user)
        tunnel: asyncssh.SSHClientConnection | None = None
        jump = settings.jump or target.jump
        for hop in jump.split(",") if jump is not None else ():
            tunnel = await self._connect(self._hop(hop), tunnel, {})
            opened.append(tunnel)
        password = {} if settings.password is None else {"password": settings.password}
        return await self._connect(target, tunnel, password)

    async def _connect(
        self, host: _Host, tunnel: asyncssh.SSHClientConnection | None, secrets: dict[str, str]
    ) -> asyncssh.SSHClientConnection:
        known = self._known_hosts(host)
        options = {**self._options(host, known), **secrets, "tunnel": tunnel}
        port = {} if host.port is None else {"port": host.port}
        client = _Recorder()
        try:
            return await asyncssh.connect(host.named, **port, **options, client_factory=lambda: client)
        except asyncssh.HostKeyNotVerifiable as error:
            assert known is not None
            raise known.error(host.key_name, host.key_port, host.address, client.offered, error.reason) from error
        except (asyncssh.KeyExchangeFailed, asyncssh.ConnectionLost, ConnectionResetError, BrokenPipeError) as error:
            changed = await self._other_type(host, known, {**options, **port})
            raise (changed or translated_login(error, host.address)) from error
        except Exception as error:
            raise translated_login(error, host.address) from error

    async def _other_type(self, host: _Host, known: KnownHosts | None, options: dict[str, Any]) -> TroveError | None:
        """Find out whether the key exchange failed because the host has no key of a type by which it is known.

        Only such types were offered. Servers end the connection then; some do not say why, or reset it before the
        client has read why.
        """
        if known is None or not known.types(host.key_name, host.key_port):
            return None
        client = _Recorder()
        options |= {"server_host_key_algs": "default", "client_factory": lambda: client, "password": None}
        try:
            # No key is trusted, so the connection ends before anything is sent to log in.
            connection = await asyncssh.connect(host.named, **{**options, "known_hosts": b"", "client_keys": None})
        except asyncssh.HostKeyNotVerifiable as error:
            return known.error(host.key_name, host.key_port, host.address, client.offered, error.reason)
        except (asyncssh.Error, OSError):
            return None
        connection.abort()
        return None

    # What OpenSSH's configuration says

    def _host(self, name: str, port: int | None, user: str | None) -> _Host:
        if self._settings.config is None:
            return _Host(name, port, user, name, port or 22, None, ())
        named: dict[str, Any] = {"port": port, "username": user}
        options = self._configured(name, {option: value for option, value in named.items() if value is not None})
        jump = options.tunnel if isinstance(options.tunnel, str) else None
        key_name = options.host_key_alias or options.host
        paths = options.known_hosts if isinstance(options.known_hosts, list) else []
        return _Host(name, port, user, key_name, options.port, jump, tuple(map(str, paths)))

    def _configured(self, name: str, named: dict[str, Any]) -> asyncssh.SSHClientConnectionOptions:
        path = self._config_path()
        try:
            with open(path, "rb"):
                pass
            return asyncssh.SSHClientConnectionOptions(
                config=[path], host=name, client_keys=None, agent_path=None, **named
            )
        except OSError as error:
            raise InvalidDSNError(f"the configuration {path!r} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise InvalidDSNError(f"the configuration {path!r} cannot be used: {error}") from error

    def _config_path(self) -> str:
        return os.path.expanduser(self._settings.config or "")

    def _hop(self, text: str) -> _Host:
        user, at, address = text.strip().rpartition("@")
        name, colon, port = address.rpartition(":")
        if not colon or not port.isdigit():
            name, port = address, ""
        if not name:
            raise InvalidDSNError("jump does not name a host; write [user@]host[:port], separated by commas")
        return self._host(name.strip("[]"), int(port) if port else None, user if at else None)

    # Options for asyncssh

    def _options(self, host: _Host, known: KnownHosts | None) -> dict[str, Any]:
        settings = self._settings
        options: dict[str, Any] = {
            "config": [] if settings.config is None else [self._config_path()],
            "keepalive_interval": settings.keepalive,
            "keepalive_count_max": 3,
            "connect_timeout": settings.connect_timeout,
            "login_timeout": settings.connect_timeout,
            "compression_algs": None,
            "encryption_algs": settings.ciphers or _CIPHERS,
            "known_hosts": None if known is None else known.hosts,
        }
        if host.user is not None:
            options["username"] = host.user
        if settings.key is not None:
            options["client_keys"] = [self._load_key(settings.key)]
        if settings.agent is not None:
            options["agent_path"] = None if settings.agent == "none" else os.path.expanduser(settings.agent)
            if settings.agent == "none" and settings.key is None and settings.config is None:
                options["client_keys"] = None
        elif settings.key is not None:
            options["agent_path"] = None  # the key that was asked for, and no other
        return options

    def _known_hosts(self, host: _Host) -> KnownHosts | None:
        settings = self._settings
        if not settings.verify:
            return None
        if settings.known_hosts is not None:
            return KnownHosts([settings.known_hosts], required=True)
        return KnownHosts(host.known_hosts or [DEFAULT_KNOWN_HOSTS], required=False)

    def _load_key(self, path: str) -> Any:
        """Return a private key, with the certificate beside it if there is one (``KEY-cert.pub``, as for OpenSSH)."""
        expanded = os.path.expanduser(path)
        try:
            key = asyncssh.read_private_key(expanded, self._settings.passphrase)
        except OSError as error:
            raise InvalidDSNError(f"the key {path!r} cannot be read: {error.strerror}") from error
        except asyncssh.KeyEncryptionError as error:
            raise InvalidDSNError(f"the passphrase does not open the key {path!r}") from error
        except asyncssh.KeyImportError as error:
            need = "give its passphrase" if "assphrase" in str(error) else str(error)
            raise InvalidDSNError(f"the key {path!r} cannot be used: {need}") from error
        certificate = f"{expanded}-cert.pub"
        if not os.path.exists(certificate):
            return key
        try:
            return key, asyncssh.read_certificate(certificate)
        except OSError as error:
            raise InvalidDSNError(f"the certificate {certificate!r} cannot be read: {error.strerror}") from error
        except asyncssh.KeyImportError as error:
            raise InvalidDSNError(f"the certificate {certificate!r} cannot be used: {error}") from error
