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
    "IdleError",
    "NameTooLongError",
    "RefusedError",
    "SpaceError",
    "no_sftp",
    "translated",
    "translated_login",
]


class DisconnectedError(ConnectionError):
    """The connection broke, or the other side breaks the protocol."""


class IdleError(DisconnectedError):
    """Nothing came for so long that the connection was given up."""


class RefusedError(OSError):
    """SFTP's status 4: all that a server finds no other code for, such as a file that exists."""


class SpaceError(RefusedError):
    """A write was refused, and the server's file system is full."""


class NameTooLongError(OSError):
    """SFTP's status 5: OpenSSH says so of a name that is too long."""


_TABLE: Final[tuple[tuple[type[OSError], type[TroveError], str], ...]] = (
    (IdleError, OperationTimeoutError, "; the connection was given up, and the next call makes another"),
    (DisconnectedError, UnavailableError, ""),
    (SpaceError, StorageFullError, "; free some space or raise the quota"),
    (RefusedError, BackendError, "; the server's log may say why"),
    (NameTooLongError, InvalidKeyError, "; the root and the key together are too long a path"),
    (PermissionError, AccessDeniedError, "; the user needs to read and write below the root"),
    (ConnectionError, UnavailableError, ""),
)


def translated(error: OSError) -> TroveError:
    """Return the error of the tree for one of a request, which becomes its cause."""
    for kind, becomes, hint in _TABLE:
        if isinstance(error, kind):
            return becomes(f"{error.strerror or error}{hint}")
    if error.errno == errno.ENOTSUP:
        return UnsupportedError(f"the server cannot do it: {error.strerror}")
    return BackendError(str(error.strerror or error))


def translated_login(error: Exception, host: str) -> TroveError:
    """Return the error of the tree for one of connecting to a host and logging in."""
    if isinstance(error, TroveError):
        return error
    if isinstance(error, TimeoutError):
        return OperationTimeoutError(f"{host} did not let us in in time")
    if isinstance(error, asyncssh.PermissionDenied):
        return UnauthenticatedError(
            f"{host} accepts none of our credentials; check user, password and key (the agent's too): {error.reason}"
        )
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return HostKeyUnknownError(f"the host key of {host} cannot be verified: {error.reason}")
    if isinstance(error, asyncssh.ChannelOpenError):
        return UnavailableError(f"{host} opens no session: {error.reason}")
    if isinstance(error, asyncssh.Error):
        return UnavailableError(f"the connection to {host} failed: {error.reason}")
    if isinstance(error, OSError):
        return UnavailableError(f"{host} cannot be reached: {error.strerror or error}")
    return BackendError(f"the connection to {host} failed: {error}")


def no_sftp(host: str) -> TroveError:
    """Return the error for a server that lets us in and has no SFTP."""
    return UnsupportedError(
        f"{host} has no SFTP: its subsystem 'sftp' was refused or ended at once; sshd_config needs 'Subsystem sftp'"
    )
