"""Where a key's file is, found in one round trip where nothing but the key's own names lies on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trove_async.drivers.sftp.channel import Channel
from trove_async.drivers.sftp.protocol import FileStatus, Kind
from trove_async.drivers.sftp.requests import path_bytes, statuses_of
from trove_async.errors import BucketNotFoundError
from trove_async.tree.filesystem import is_dir, is_file
from trove_async.tree.layout import Layout
from trove_async.tree.names import CONTINUED, DIRECTORY, FILE, path_of

__all__ = ["Look", "Place"]


@dataclass(slots=True)
class Place:
    """Where a key's file is, or is to be.

    Attributes:
        path: without any of the marks that a conflict makes necessary.
        status: of the file; None if there is none, or if ``odd``.
        missing: the directories on the way that have to be made.
        odd: something stands in the way, so that a name with a mark is the right one, or may be.
    """

    path: str
    status: FileStatus | None = None
    missing: list[str] = field(default_factory=list)
    odd: bool = False


class Look:
    """The question where a key's file is: all that can lie on its way is asked for at once.

    No symbolic link on the way is followed, as in `trove_async.tree.lookup`, which goes a step at a time.
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
        self._answers: list[Any] = []

    def ask(self, channel: Channel) -> None:
        """Send the questions."""
        # Many look at their bucket at once, and few at the same file.
        self._answers = [channel.lstat(path_bytes(self._asked[0]))]
        self._answers += [channel.request(Kind.LSTAT, path_bytes(path)) for path in self._asked[1:]]

    async def place(self) -> Place:
        """Wait for the answers.

        Raises:
            BucketNotFoundError: there is no such bucket.
        """
        found = dict(zip(self._asked, await statuses_of(self._answers), strict=True))
        if not is_dir(found[self._base]):
            raise BucketNotFoundError(f"the bucket {self.bucket!r} does not exist", bucket=self.bucket)
        place = Place(self.path)
        for directory in self._directories:
            status = found[directory]
            if status is None:
                place.missing.append(directory)
            place.odd |= (status is not None and not is_dir(status)) or found.get(directory + DIRECTORY) is not None
        status = found[self.path]
        if is_file(status):
            place.status = status
        elif status is not None or found[self.path + FILE] is not None:
            place.odd = True
        if place.odd:
            place.status = None
        return place
