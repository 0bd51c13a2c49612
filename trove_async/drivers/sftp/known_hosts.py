"""The file of known hosts, and what is wrong with a host key that it does not confirm."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import asyncssh

from trove_async.errors import HostKeyChangedError, HostKeyUnknownError, InvalidDSNError, TroveError

__all__ = ["DEFAULT_KNOWN_HOSTS", "KnownHosts"]

DEFAULT_KNOWN_HOSTS: Final = "~/.ssh/known_hosts"

_log = logging.getLogger("trove_async")


class KnownHosts:
    """The host keys of one or more files in the format of OpenSSH's.

    Args:
        paths: of the files.
        required: whether they must exist; without any, no host is known.

    Raises:
        InvalidDSNError: a file cannot be read, or none of its lines is a known host.
    """

    def __init__(self, paths: Sequence[str], *, required: bool) -> None:
        self._where = ", ".join(paths)
        texts = [_read(os.path.expanduser(path), required=required) for path in paths]
        self.hosts = asyncssh.import_known_hosts("\n".join(texts))

    def types(self, host: str, port: int) -> list[str]:
        """Return the types of the keys by which a host is known."""
        trusted = asyncssh.match_known_hosts(self.hosts, host, "", None if port == 22 else port)[0]
        return sorted({_type(key) for key in trusted if isinstance(key, asyncssh.SSHKey)})

    def error(self, host: str, port: int, address: str, offered: asyncssh.SSHKey | None, reason: str) -> TroveError:
        """Return the error for a host whose key could not be verified.

        Args:
            host, port: by which the host is looked up.
            address: of the host, for people.
            offered: the key that the host has; None if it is not known.
            reason: what asyncssh said.
        """
        known = self.types(host, port)
        where = self._where
        if known and offered is not None and _type(offered) not in known:
            return HostKeyUnknownError(
                f"{address} is known in {where} by a key of type {' and '.join(known)}; it has none of that type, but "
                f"one of type {_type(offered)} ({offered.get_fingerprint()}). Nothing was sent; compare this key with "
                "what the server's administrator says, and add it"
            )
        if known:
            return HostKeyChangedError(
                f"THE HOST KEY OF {address} HAS CHANGED: it is not the one in {where}. Someone may be listening in. "
                "Nothing was sent; ask the server's administrator before you replace the known key"
            )
        return HostKeyUnknownError(
            f"the host {address} is not in {where}; compare its key with what its administrator says, and add it, for "
            f"example from ssh-keyscan -p {port} {host} ({reason})"
        )


def _type(key: asyncssh.SSHKey) -> str:
    return key.get_algorithm()


def _read(path: str, *, required: bool) -> str:
    """Return a file's lines that can be used; warn of the others."""
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError as error:
        if not required:
            return ""
        raise InvalidDSNError(f"the known hosts {path!r} cannot be read: {error.strerror}") from error
    except OSError as error:
        raise InvalidDSNError(f"the known hosts {path!r} cannot be read: {error.strerror}") from error
    try:
        asyncssh.import_known_hosts(text)
    except ValueError:
        text = _without_bad_lines(path, text)
    return text


def _without_bad_lines(path: str, text: str) -> str:
    good: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            asyncssh.import_known_hosts(line)
        except ValueError as error:
            _log.warning("line %d of the known hosts %r is skipped: %s", number, path, error)
        else:
            good.append(line)
    if not any(line.strip() and not line.lstrip().startswith("#") for line in good):
        raise InvalidDSNError(f"{path!r} is not a file of known hosts: none of its lines names a host and its key")
    return "\n".join(good)
