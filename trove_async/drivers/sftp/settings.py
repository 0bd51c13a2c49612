"""The settings of an SFTP store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from trove_async.driver import OpenOptions
from trove_async.dsn import DSN, SettingsParser
from trove_async.errors import InvalidDSNError
from trove_async.signing import SigningSettings

__all__ = ["SFTPSettings", "address_of"]

MIN_PART_SIZE: Final = 5 * 1024 * 1024


@dataclass(frozen=True, slots=True, repr=False)
class SFTPSettings:
    """The parameters of ``sftp://``.

    Attributes:
        host: the server.
        port: None for that of ``config``, or 22.
        user: None for that of ``config``, or the name of the current user.
        password: for the login; None if there is none.
        root: an absolute path on the server, or one that begins with ``~``, the directory that a login begins in.
        known_hosts: a file in the format of OpenSSH's; None for ``~/.ssh/known_hosts``.
        verify: False to accept any host key.
        key: a file with a private key; None for the keys of the agent and those in ``~/.ssh`` with the usual names.
        passphrase: of the key.
        agent: the socket of an agent; None for the one that ``SSH_AUTH_SOCK`` names, ``"none"`` for none.
        jump: hosts to connect through, ``[user@]host[:port]`` separated by commas.
        config: a file like ``~/.ssh/config``, for settings that are not given here; None for no file.
        ciphers: the offered ciphers, in OpenSSH's notation; None to prefer AES-GCM.
        merge_names: whether to accept a file system that does not distinguish all names.
        create: whether to create the root if it is missing.
        fsync: whether a put returns only when the server says that the file is on its disk.
        handles: how many files and directories may be open on the server at a time.
        attempts: how often an operation that can be repeated is tried.
        retry_budget: attempts beside the first ones that need no success; see `Budget`.
        connect_timeout: seconds for the connection and the login.
        idle_timeout: seconds without an answer after which the connection is closed.
        keepalive: seconds of silence after which a keep-alive is sent.
        lease: seconds for which a lock of this client holds if it is not renewed.
        min_part_size: bytes of every part of an upload but the last; the default is that of S3.
        signing: of URLs; the root's own key is ``.trove/presign.key``.
    """

    host: str
    port: int | None
    user: str | None
    password: str | None
    root: str
    known_hosts: str | None
    verify: bool
    key: str | None
    passphrase: str | None
    agent: str | None
    jump: str | None
    config: str | None
    ciphers: str | None
    merge_names: bool
    create: bool
    fsync: bool
    handles: int
    attempts: int
    retry_budget: int
    connect_timeout: float
    idle_timeout: float
    keepalive: float
    lease: float
    min_part_size: int
    signing: SigningSettings

    @classmethod
    def of(cls, dsn: DSN, options: OpenOptions) -> SFTPSettings:
        """Read a DSN.

        Raises:
            InvalidDSNError: it has no host, no absolute path, or an unknown parameter.
        """
        settings = SettingsParser(dsn, options.settings)
        result = cls(
            host=dsn.host,
            port=dsn.port,
            user=dsn.user or None,
            password=dsn.password if dsn.password is not None else settings.text("password"),
            root=dsn.path,
            known_hosts=settings.path("known_hosts"),
            verify=settings.flag("verify", True),
            key=settings.path("key"),
            passphrase=settings.text("passphrase"),
            agent=settings.path("agent"),
            jump=settings.text("jump"),
            config=settings.path("config"),
            ciphers=settings.text("ciphers"),
            merge_names=settings.flag("merge_names", False),
            create=settings.flag("create", False),
            fsync=settings.flag("fsync", True),
            handles=settings.integer("handles", 256, minimum=4),
            attempts=settings.integer("attempts", 3, minimum=1),
            retry_budget=settings.integer("retry_budget", 3),
            connect_timeout=settings.seconds("connect_timeout", 20.0),
            idle_timeout=settings.seconds("idle_timeout", 60.0),
            keepalive=settings.seconds("keepalive", 30.0),
            lease=settings.seconds("lease", 60.0),
            min_part_size=settings.integer("min_part_size", MIN_PART_SIZE, minimum=1),
            signing=SigningSettings.of(settings),
        )
        settings.finish()
        if not dsn.host:
            raise InvalidDSNError("the DSN does not name a host; write for example sftp://user@host/srv/data")
        if not dsn.path.startswith("/"):
            raise InvalidDSNError("the DSN does not name a directory; write for example sftp://user@host/srv/data")
        if "\0" in dsn.path:
            raise InvalidDSNError("the path of the DSN contains NUL, which a directory's name cannot contain")
        result._check()
        return replace(result, root=_normal(dsn.path))

    def _check(self) -> None:
        if not self.verify and self.known_hosts is not None:
            raise InvalidDSNError(
                "with verify=0 any host key is accepted and known_hosts is not read; give only one of them"
            )
        if self.passphrase is not None and self.key is None:
            raise InvalidDSNError("passphrase has no effect without key; give both")
        if self.lease < 1:
            raise InvalidDSNError("lease must be at least 1 second: SFTP's times are in whole seconds")

    @property
    def address(self) -> str:
        """The server's host and port, for people."""
        return address_of(self.host, self.port or 22)


def address_of(host: str, port: int) -> str:
    """Return a host and port, for people."""
    return host if port == 22 else f"{host}:{port}"


def _normal(path: str) -> str:
    """Return a path without empty components and single dots; refuse ``..``, whose meaning depends on links."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    if ".." in names:
        raise InvalidDSNError("the path of the DSN contains '..'; write the directory's own path")
    joined = "/".join(names)
    return joined if names[:1] == ["~"] else f"/{joined}"
