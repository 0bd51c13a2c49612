"""What an error of SSH or SFTP is in the library's tree."""

from __future__ import annotations

import errno
from typing import Final

import asyncssh

from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    HostKeyUnknownError,
    InvalidKeyError,
    OperationTimeoutError,
    StorageFullError,
    TroveError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)

__all__ = [
    "DisconnectedError",
    "EndOfFileError",
    "IdleError",
    "NameTooLongError",
    "ProtocolError",
    "RefusedError",
    "SpaceError",
    "no_sftp",
    "translated",
    "translated_login",
]


class DisconnectedError(ConnectionError):
    """The connection was lost.

    Attributes:
        failure: the library's error, if a step was tried again and the attempts are used up; None before.
    """

    failure: TroveError | None = None


class ProtocolError(DisconnectedError):
    """The server violated the protocol; the connection was closed, since none of its answers can be relied on."""


class EndOfFileError(OSError):
    """SFTP's status 1: the end of a file or directory."""


class IdleError(DisconnectedError):
    """The connection was closed since the server did not answer in time."""


class RefusedError(OSError):
    """SFTP's status 4: every failure without a status of its own, such as a file that exists."""


class SpaceError(RefusedError):
    """A write was refused, and the server's file system is full."""


class NameTooLongError(OSError):
    """SFTP's status 5: OpenSSH returns it for a name that is too long."""


_TABLE: Final[tuple[tuple[type[OSError], type[TroveError], str], ...]] = (
    (IdleError, OperationTimeoutError, "; the connection was closed, and the next call makes a new one"),
    (ProtocolError, BackendError, "; the connection was closed. The server, or a proxy before it, violates SFTP"),
    (DisconnectedError, UnavailableError, ""),
    (SpaceError, StorageFullError, "; free some space or raise the quota"),
    (RefusedError, BackendError, "; the server's log may say why"),
    (NameTooLongError, InvalidKeyError, "; the root and the key together are too long a path"),
    (PermissionError, AccessDeniedError, "; the user needs to read and write below the root"),
    (ConnectionError, UnavailableError, ""),
)


def translated(error: OSError) -> TroveError:
    """Return the library's error for the error of a request, which should be its cause."""
    if isinstance(error, DisconnectedError) and error.failure is not None:
        return error.failure
    for kind, becomes, hint in _TABLE:
        if isinstance(error, kind):
            return becomes(f"{error.strerror or error}{hint}")
    if error.errno == errno.ENOTSUP:
        return UnsupportedError(f"the server does not support this: {error.strerror}")
    return BackendError(str(error.strerror or error))


def translated_login(error: Exception, host: str) -> TroveError:
    """Return the library's error for an error of connecting to a host or logging in."""
    if isinstance(error, TroveError):
        return error
    if isinstance(error, TimeoutError):
        return OperationTimeoutError(f"the login on {host} took too long")
    if isinstance(error, asyncssh.PermissionDenied):
        return UnauthenticatedError(
            f"{host} accepts none of the credentials; check user, password, key and agent: {error.reason}"
        )
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return HostKeyUnknownError(f"the host key of {host} cannot be verified: {error.reason}")
    if isinstance(error, asyncssh.ChannelOpenError):
        return UnavailableError(f"{host} refused to open a session: {error.reason}")
    if isinstance(error, asyncssh.Error):
        return UnavailableError(f"the connection to {host} failed: {error.reason}")
    if isinstance(error, OSError):
        return UnavailableError(f"{host} cannot be reached: {error.strerror or error}")
    return BackendError(f"the connection to {host} failed: {error}")


def no_sftp(host: str) -> TroveError:
    """Return the error for a server that accepts the login but has no SFTP."""
    return UnsupportedError(
        f"{host} has no SFTP: its subsystem 'sftp' was refused or ended at once; sshd_config needs 'Subsystem sftp'"
    )
