"""The multipart uploads that are open in a bucket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from trove_async.driver.options import PutOptions
from trove_async.errors import InvalidPartError
from trove_async.sources import Chunk
from trove_async.types import PartInfo, UploadInfo

__all__ = ["Part", "Upload"]


@dataclass(frozen=True, slots=True)
class Part:
    """A part that was uploaded: bytes that never change, or those of a part to which is appended."""

    info: PartInfo
    data: bytes | bytearray


@dataclass(frozen=True, slots=True)
class Upload:
    """An open upload: the options of the object, and the parts so far."""

    id: str
    key: str
    options: PutOptions
    initiated_at: datetime
    parts: dict[int, Part] = field(default_factory=dict)

    @property
    def info(self) -> UploadInfo:
        """Describe the upload."""
        return UploadInfo(self.id, self.key, self.initiated_at)

    def part_infos(self) -> list[PartInfo]:
        """Describe the parts, sorted by number."""
        return [self.parts[number].info for number in sorted(self.parts)]

    def grown(self, number: int, offset: int, data: Chunk) -> bytearray:
        """Return the bytes of a part, changed in place: cut off at an offset, with more bytes behind it.

        Raises:
            InvalidPartError: the part is smaller than the offset.
        """
        part = self.parts.get(number)
        grown = bytearray() if part is None else part.data
        if offset > len(grown):
            raise InvalidPartError(f"part {number} has {len(grown)} bytes, fewer than the offset {offset}")
        if not isinstance(grown, bytearray):
            grown = bytearray(grown)
        grown[offset:] = data
        return grown

    def chosen(self, wanted: Sequence[PartInfo], min_part_size: int) -> list[Part]:
        """Return the parts that make up the object.

        Raises:
            InvalidPartError: one is missing, has another ETag, or is too small and not the last.
        """
        found = [self._part(info) for info in wanted]
        for part in found[:-1]:
            if part.info.size < min_part_size:
                raise InvalidPartError(
                    f"part {part.info.number} has {part.info.size} bytes; "
                    f"every part but the last needs {min_part_size} or more"
                )
        return found

    def check_unchanged(self, parts: Sequence[Part]) -> None:
        """Check that parts that were chosen are still those that are stored.

        Raises:
            InvalidPartError: one was stored again, or has grown.
        """
        for part in parts:
            self._part(part.info)

    def _part(self, wanted: PartInfo) -> Part:
        part = self.parts.get(wanted.number)
        if part is None:
            raise InvalidPartError(f"part {wanted.number} was not uploaded")
        if part.info.etag != wanted.etag:
            raise InvalidPartError(
                f"part {wanted.number} has the ETag {part.info.etag!r}, not {wanted.etag!r}: it was uploaded again"
            )
        return part
