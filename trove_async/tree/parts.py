"""The files of an open upload: its parts, and two files that say something about them.

A part is the file ``NUMBER`` or ``NUMBER.TOKEN``. The ETag of a file without a token is its generation (`etag_of`), so
nothing about the file may change. A token takes the place of inode and time: then the file can grow, and be dated as
the object that it becomes. Parts have tokens where `FileSystem.uses_tokens`, and in an upload with the file ``tokens``.

The file ``taken`` names the file of a part that a completion makes the object. If that file is no longer there, it is
the object and the upload has ended: the rename that makes the object ends the upload too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from trove_async.driver.options import PutOptions
from trove_async.errors import InvalidPartError, UploadNotFoundError
from trove_async.tree.attributes import etag_of
from trove_async.tree.clock import WriteClock
from trove_async.tree.filesystem import FileSystem, Stat
from trove_async.tree.versions import new_version_id, order_of
from trove_async.types import PartInfo

__all__ = ["OpenUpload", "Part", "Parts", "not_open", "uploaded_again", "was_taken"]

_TOKENS: Final = "tokens"
_TAKEN: Final = "taken"
_PART: Final = re.compile(r"(\d+)(?:\.([0-9a-f-]+))?")


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """An upload: its directory, and what its manifest says."""

    bucket: str
    key: str
    id: str
    path: str
    initiated_at: datetime
    options: PutOptions


@dataclass(frozen=True, slots=True)
class Part:
    """A stored part."""

    number: int
    path: str
    status: Stat
    token: str | None

    @property
    def info(self) -> PartInfo:
        """What users get."""
        return PartInfo(self.number, etag_of(self.status, self.token), self.status.st_size)


class Parts:
    """The files of uploads."""

    def __init__(self, fs: FileSystem, clock: WriteClock) -> None:
        self._fs = fs
        self._now = clock

    def path(self, upload: OpenUpload, number: int, token: str | None) -> str:
        """Return where the file of a part is, or will be."""
        return f"{upload.path}/{number:05}" + ("" if token is None else f".{token}")

    def claim(self, upload: OpenUpload, number: int) -> str:
        """Return the name under which the file of a part is claimed; see `FileSystem.open_claimed`."""
        return self.path(upload, number, None)

    async def stored(self, upload: OpenUpload) -> dict[int, Part]:
        """Return the parts by number, sorted; the newest file of each if an interrupted operation left an older one.

        Raises:
            UploadNotFoundError: a part was taken as the object, so the upload has ended.
        """
        found = await self.files(upload)
        return {part.number: part for part in sorted(found, key=lambda part: (part.number, _order(part)))}

    async def files(self, upload: OpenUpload) -> list[Part]:
        """Return the files of all parts, in any order; otherwise as `stored`."""
        found: list[Part] = []
        taken = False
        async with aclosing(self._fs.scan(upload.path)) as scan:
            async for entry in scan:
                match = _PART.fullmatch(entry.name)
                if match is not None:
                    path = f"{upload.path}/{entry.name}"
                    status = entry.status or await self._fs.lstat(path)
                    if status is not None:
                        found.append(Part(int(match[1]), path, status, match[2]))
                taken = taken or entry.name == _TAKEN
        if taken and await was_taken(self._fs, upload.path):
            raise not_open(upload.bucket, upload.key, upload.id)
        return found

    async def replaced(self, upload: OpenUpload, number: int, time_ns: int) -> tuple[list[Part], str | None]:
        """Return the files of a part that a new one does not replace by its name, and the token for its name."""
        if not self._fs.uses_tokens and not await self._fs.exists(f"{upload.path}/{_TOKENS}"):
            return [], None
        before = [part for part in await self.files(upload) if part.number == number]
        return before, self.new_token(before, time_ns)

    def new_token(self, before: Iterable[Part], time_ns: int) -> str:
        """Return a token for a newer file of a part."""
        newest = max(map(_order, before), default=0)
        return new_version_id(time_ns if time_ns > newest else self._now(newest))

    # The other files, which are changed under the key's lock

    async def use_tokens(self, upload: OpenUpload) -> None:
        """Give new files of parts tokens from now on. The caller syncs the directory."""
        path = f"{upload.path}/{_TOKENS}"
        if not await self._fs.exists(path):
            with suppress(FileExistsError):
                await self._fs.close(await self._fs.create(path))

    async def take(self, part: Part, upload: OpenUpload) -> None:
        """Write down that the file of a part is about to become the object."""
        await self._fs.write_file(f"{upload.path}/{_TAKEN}", part.path.rpartition("/")[2].encode())

    async def leave(self, upload: OpenUpload) -> None:
        """Take back `take`, before a file of a part is renamed or removed."""
        if await self._fs.unlink(f"{upload.path}/{_TAKEN}"):
            await self._fs.sync_directory(upload.path)


async def was_taken(fs: FileSystem, path: str) -> bool:
    """Return whether a part of the upload with this directory has become the object; see `Parts.take`."""
    content = await fs.read_file(f"{path}/{_TAKEN}")
    name = "" if content is None else content.decode(errors="replace")
    # A power cut may have left an empty file, if the store is not durable.
    if not _PART.fullmatch(name) or await fs.lstat(f"{path}/{name}") is not None:
        return False
    # The file may have been renamed meanwhile, after `Parts.leave`: no file gets the same name twice.
    return await fs.read_file(f"{path}/{_TAKEN}") == content


def not_open(bucket: str, key: str, upload_id: str) -> UploadNotFoundError:
    """Return the error for an upload that has ended, or never existed."""
    return UploadNotFoundError(f"no upload {upload_id!r} of this key is open", bucket=bucket, key=key)


def uploaded_again(part: PartInfo) -> InvalidPartError:
    """Return the error for a part that has another ETag."""
    return InvalidPartError(f"part {part.number} was uploaded again: its ETag is now {part.etag!r}")


def _order(part: Part) -> int:
    return order_of(part.token or "") or 0
