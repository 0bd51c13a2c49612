"""Messages between the processes of a machine that share a folder: one datagram socket for each."""

from __future__ import annotations

import os
import secrets
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from trove_async.errors import InvalidArgumentError

__all__ = ["Mailbox"]

_LONGEST: Final = 100
"""Bytes of a path that a socket takes on every system: 108 on Linux (unix(7)), 104 on others, with a final NUL."""
_ALIAS: Final = "/proc/self/fd/{}"
"""A short path of a directory that is open, on Linux."""
_PATIENCE: Final = struct.pack("ll", 0, 250_000)
"""A ``struct timeval``: how long to wait for a process that does not read its messages."""
_SIZE: Final = 256
"""Bytes of a message, at most."""


class Mailbox:
    """A socket in a folder, which receives what others send to all.

    A message may be lost: the receiver did not read for some time. Sockets of processes that have ended are removed.

    Args:
        folder: it exists.
        receive: called with each message that `hear` reads.

    Raises:
        OSError: the socket cannot be made.
        InvalidArgumentError: the path is too long for this system.
    """

    def __init__(self, folder: Path, receive: Callable[[bytes], object]) -> None:
        self._receive = receive
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}.socket"
        self._directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._base = self._short(folder)
            # Not by `settimeout`, which would spin: such a socket is always ready to send to somebody.
            self._sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _PATIENCE)
            self._receiver.setblocking(False)
            # Nobody may find it before it receives: it would be taken for one that is left over.
            self._receiver.bind(f"{self._base}/new-{self._name}")
            os.rename(f"new-{self._name}", self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except BaseException:
            self.forget()
            raise

    def _short(self, folder: Path) -> str:
        path = str(folder.absolute())
        if len(os.fsencode(path)) + len(self._name) + len("/new-") <= _LONGEST:
            return path
        alias = _ALIAS.format(self._directory)
        if not os.path.isdir(alias):
            longest = _LONGEST - len(self._name) - len("/new-")
            raise InvalidArgumentError(f"the path of the folder of locks has more than {longest} bytes: {path}")
        return alias

    def fileno(self) -> int:
        """Return the descriptor that can be read when a message has arrived."""
        return self._receiver.fileno()

    def hear(self) -> None:
        """Take in all messages that have arrived; it does not block."""
        while self._receiver.fileno() >= 0:
            try:
                message = self._receiver.recv(_SIZE)
            except OSError:  # there is none; a datagram socket reports no other error for long
                return
            self._receive(message)

    def send(self, message: bytes) -> None:
        """Send a message to all others. It may block for a while, so it runs in a thread."""
        for name in os.listdir(self._directory):
            if name == self._name or not name.endswith(".socket") or name.startswith("new-"):
                continue
            try:
                self._sender.sendto(message, f"{self._base}/{name}")
            except ConnectionRefusedError:  # its process has ended; no other one ever has the name
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=self._directory)
            except OSError:  # it has just ended, or does not read
                continue

    def close(self) -> None:
        """Remove the socket."""
        with suppress(OSError):
            os.unlink(self._name, dir_fd=self._directory)
        self.forget()

    def forget(self) -> None:
        """Close the socket without removing it."""
        self._sender.close()
        self._receiver.close()
        os.close(self._directory)
