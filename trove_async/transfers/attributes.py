"""The mode and owner of a file, in the metadata of its object."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from typing import Final

__all__ = ["attributes_of", "restore_attributes"]

# The names and values of rclone's --metadata: https://rclone.org/local/#metadata
_MODE: Final = "mode"
_OWNER: Final = "uid"
_GROUP: Final = "gid"

_OCTAL: Final = re.compile(r"[0-7]{1,7}", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,9}", re.ASCII)


def attributes_of(path: str) -> dict[str, str]:
    """Return the metadata for a file: ``mode`` in octal, ``uid`` and ``gid`` in decimal."""
    status = os.stat(path)
    return {_MODE: f"{status.st_mode:o}", _OWNER: str(status.st_uid), _GROUP: str(status.st_gid)}


def restore_attributes(path: str, metadata: Mapping[str, str]) -> None:
    """Give a file the mode and owner in the metadata of its object; what is missing or malformed is left out.

    Only root gives files to other owners. Of the mode the permissions are restored, never the bits that run a program
    as its owner: whoever can write to the store could otherwise make one.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        return
    owner, group, mode = (metadata.get(name, "") for name in (_OWNER, _GROUP, _MODE))
    if os.geteuid() == 0 and _NUMBER.fullmatch(owner) and _NUMBER.fullmatch(group):
        os.chown(path, int(owner), int(group))
    if _OCTAL.fullmatch(mode):
        os.chmod(path, int(mode, 8) & 0o777)
