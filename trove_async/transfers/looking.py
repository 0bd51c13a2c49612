"""What one look, in a thread, learns of the file of a copy: its state, and the bytes of a small one."""

from __future__ import annotations

import hashlib
import re
from typing import Final, NamedTuple

from trove_async.transfers.ends import Description, describe_file
from trove_async.types import ObjectInfo

__all__ = ["SMALL", "Look", "look_at", "may_be_md5"]

SMALL: Final = 256 * 1024
"""Bytes up to which a file is read when it is looked at; a request takes longer."""

_MD5: Final = re.compile(r"[0-9a-f]{32}")


class Look(NamedTuple):
    """What was seen of a file.

    Attributes:
        described: its state, before it was read; None if it does not exist.
        content: all its bytes, if they were read and are few.
    """

    described: Description | None
    content: bytes | None = None

    def is_content_of(self, info: ObjectInfo) -> bool:
        """Return whether the bytes are certainly those of an object: its ETag is their MD5.

        Args:
            info: of the object; that of a listing is enough.
        """
        if self.content is None or len(self.content) != info.size:
            return False
        return hashlib.md5(self.content, usedforsecurity=False).hexdigest() == info.etag


def may_be_md5(etag: str) -> bool:
    """Return whether an ETag can be the MD5 of an object's bytes.

    It is that of most objects that were stored in S3 with one request. Other ETags are not equal to it by chance.
    """
    return _MD5.fullmatch(etag) is not None


def look_at(path: str, *, read: bool) -> Look:
    """Look at a file.

    Args:
        path: of the file.
        read: read a small one, if that is possible: a copy that needs the bytes raises why it is not.

    Raises:
        OSError: it is a directory or another kind of non-file, or its state cannot be read.
    """
    # Described before it is read: a file that changes meanwhile has another time, and is copied again next time.
    described = describe_file(path)
    if described is None or described.size > SMALL or not read:
        return Look(described)
    try:
        with open(path, "rb", buffering=0) as file:
            content = file.read(described.size + 1) or b""
    except OSError:
        return Look(described)
    return Look(described, content if len(content) == described.size else None)
