"""Where a key's file is, found in one round trip unless names of other keys are in the way."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from typing import Any

from trove_async.drivers.sftp.channel import Channel
from trove_async.drivers.sftp.protocol import FileStatus, Kind
from trove_async.drivers.sftp.statuses import path_bytes, statuses_of
from trove_async.errors import BucketNotFoundError
from trove_async.tree.filesystem import is_dir, is_file
from trove_async.tree.layout import Layout
from trove_async.tree.names import CONTINUED, DIRECTORY, FILE, may_be_placed_by_hand, path_of

__all__ = ["Location", "LocationQuery"]


@dataclass(slots=True)
class Location:
    """Where a key's file is, or will be.

    Attributes:
        path: without the marks that a conflict makes necessary.
        status: of the file; None if there is none, or if there is a ``conflict``.
        missing: the directories on the way that must be created.
        conflict: another key uses one of the names, so the right path has, or may have, a mark; or the file may have
            been placed by hand, with a name that is longer than those that this library writes.
        blocks: the path is a FIFO: a server that opens it waits for a writer, and answers nothing else meanwhile.
    """

    path: str
    status: FileStatus | None = None
    missing: list[str] = field(default_factory=list)
    conflict: bool = False
    blocks: bool = False


class LocationQuery:
    """Asks where a key's file is: for the status of every possible name on its path at once.

    Symbolic links are not followed, as in `trove_async.tree.lookup`, which goes step by step.
    """

    def __init__(self, layout: Layout, bucket: str, key: str) -> None:
        names = path_of(key)
        self.bucket = bucket
        self._base = at = layout.bucket(bucket)
        self._directories: list[str] = []
        self._asked: list[str] = [at]
        for name in names[:-1]:
            at = f"{at}/{name}"
            self._directories.append(at)
            self._asked.append(at)
            if not name.endswith(CONTINUED):
                self._asked.append(at + DIRECTORY)
        self.path = f"{at}/{names[-1]}"
        self._asked += [self.path, self.path + FILE]
        self._by_hand = may_be_placed_by_hand(names)
        self._answers: list[Any] = []
        self._channel: Channel

    def ask(self, channel: Channel) -> None:
        """Send the requests."""
        # Many operations ask about the same bucket at once, and few about the same file.
        self._channel = channel
        self._answers = [channel.lstat(path_bytes(self._asked[0]))]
        self._answers += [channel.request(Kind.LSTAT, path_bytes(path)) for path in self._asked[1:]]

    async def location(self) -> Location:
        """Wait for the answers and return the location.

        Raises:
            BucketNotFoundError: the bucket does not exist.
        """
        asked = list(zip(self._asked, self._answers, strict=True))
        statuses = dict(zip(self._asked, await statuses_of(self._channel, asked), strict=True))
        if not is_dir(statuses[self._base]):
            raise BucketNotFoundError(f"the bucket {self.bucket!r} does not exist", bucket=self.bucket)
        found = Location(self.path)
        for directory in self._directories:
            status = statuses[directory]
            if status is None:
                found.missing.append(directory)
            found.conflict |= (status is not None and not is_dir(status)) or (
                statuses.get(directory + DIRECTORY) is not None
            )
        status = statuses[self.path]
        if is_file(status):
            found.status = status
        elif status is not None and stat.S_ISFIFO(status.st_mode):
            found.conflict = found.blocks = True
        elif status is not None or statuses[self.path + FILE] is not None:
            found.conflict = True
        if found.status is None and self._by_hand:
            found.conflict = True
        if found.conflict:
            found.status = None
        return found
