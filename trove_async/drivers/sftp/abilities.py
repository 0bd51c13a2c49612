"""What a server can do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from trove_async.drivers.sftp.protocol import POSIX_RENAME

__all__ = ["ASSUMED", "Abilities", "Times"]


class Times(Enum):
    """What a server does with the times that it is asked to give a file."""

    CARRIED = "both are kept, also when the file is read, so that the access time can carry the nanoseconds"
    SET = "the modification time is kept, in whole seconds or less exactly"
    OBSERVED = "the request fails or has no effect: a file has the server's time of its last write"


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a server was seen to support.

    Attributes:
        times: what it does with the times of files.
        rename: the extension that renames files; None for SFTP's own request.
        replaces: that request renames a file over another.
        links: a file can be given a second name that does not exist yet.
        copies: the server copies files by itself.
        syncs: a file can be flushed to the server's disk.
        reads_written: a file can be open for reading and writing at once.
        makes_once: creating a directory that exists fails.
    """

    times: Times
    rename: bytes | None
    replaces: bool
    links: bool
    copies: bool
    syncs: bool
    reads_written: bool
    makes_once: bool


ASSUMED: Final = Abilities(
    times=Times.CARRIED,
    rename=POSIX_RENAME,
    replaces=True,
    links=True,
    copies=True,
    syncs=True,
    reads_written=True,
    makes_once=True,
)
"""What is assumed until it is known."""
