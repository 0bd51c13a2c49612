"""Storing attributes with a file: in its extended attribute, or in a sidecar if they do not fit."""

from __future__ import annotations

import errno
import re
from typing import Final

from trove_async.errors import BackendError
from trove_async.tree.attributes import NONE, STUB, Attributes
from trove_async.tree.filesystem import FileSystem, Stat
from trove_async.tree.layout import Layout

__all__ = ["Records"]

_TOKEN: Final = re.compile(r"[0-9a-f-]+")


class Records:
    """Reads and writes attributes.

    A sidecar is named for the generation of its file and is written before the file is renamed into place, so a file
    always finds its own. The name has the size and time of the file. Where these are not unique
    (`FileSystem.uses_tokens`) it has the file's token instead, which the extended attribute repeats; where there are no
    extended attributes either, `is_taken` helps to find a time that no other generation has. A sidecar without a file
    is removed by the sweeper.
    """

    def __init__(self, fs: FileSystem, layout: Layout) -> None:
        self._fs = fs
        self._layout = layout

    def token(self, attributes: Attributes) -> str | None:
        """Return the token of an object's ETag; None if it needs none, or was placed by hand."""
        return attributes.token if self._fs.uses_tokens else None

    @property
    def may_be_replaced(self) -> bool:
        """Whether a sidecar may belong to another file than the one that was opened, unless that is still in place."""
        return self._fs.uses_tokens and not self._fs.has_attributes

    async def attach(self, handle: int, status: Stat, attributes: Attributes) -> bool:
        """Store attributes in a file that is not in place yet; return False if they need a sidecar."""
        if attributes is NONE:
            return True
        if not self._fs.has_attributes:
            return False
        if await self._fs.set_attribute(handle, attributes.encode(status)):
            return True
        await self._point_to_sidecar(handle, attributes)
        return False

    async def _point_to_sidecar(self, handle: int, attributes: Attributes) -> None:
        token = self.token(attributes)
        stub = STUB if token is None else STUB + b" " + token.encode()
        if not await self._fs.set_attribute(handle, stub):
            raise OSError(errno.ENOSPC, "the file system cannot store an extended attribute of even a few bytes")

    async def is_taken(self, bucket: str, key: str, status: Stat, attributes: Attributes) -> bool:
        """Return whether another generation of the key has this sidecar; the file then needs another time."""
        return self.may_be_replaced and await self._fs.lstat(self._sidecar(bucket, key, status, attributes)) is not None

    async def write_sidecar(self, bucket: str, key: str, status: Stat, attributes: Attributes) -> None:
        """Store attributes that do not fit into the file; under the key's lock, before the file is renamed."""
        await self._fs.write_file(self._sidecar(bucket, key, status, attributes), attributes.encode(status, key))

    async def read(self, bucket: str, key: str, handle: int, status: Stat) -> Attributes | None:
        """Return the attributes of an open file; `NONE` if it was made or edited by hand.

        Returns None if a sidecar is expected and missing: the file was replaced after it was opened and its sidecar
        removed, or it never had one.

        Raises:
            BackendError: the sidecar is damaged.
        """
        raw = await self._fs.get_attribute(handle) if self._fs.has_attributes else STUB
        if raw is None:
            return NONE
        if not raw.startswith(STUB):
            return Attributes.decode(raw, status)
        path = self._pointed(bucket, key, status, raw)
        sidecar = await self._fs.read_file(path)
        if sidecar is not None:
            return _parsed(sidecar, status, path, key)
        if self._fs.has_attributes:
            # `rewrite` may have moved them into the file.
            raw = await self._fs.get_attribute(handle)
            if raw is not None and not raw.startswith(STUB):
                return Attributes.decode(raw, status)
        return None

    async def rewrite(self, bucket: str, key: str, handle: int, status: Stat, attributes: Attributes) -> None:
        """Replace the attributes of a file that is in place, atomically; its ETag stays."""
        if self._fs.has_attributes and await self._fs.set_attribute(handle, attributes.encode(status)):
            await self._fs.sync(handle)
            await self.drop(bucket, key, status, attributes)
            return
        await self.write_sidecar(bucket, key, status, attributes)
        if self._fs.has_attributes:
            await self._point_to_sidecar(handle, attributes)
            await self._fs.sync(handle)

    async def drop(self, bucket: str, key: str, status: Stat, attributes: Attributes) -> None:
        """Remove the sidecar of a removed file, if it has one.

        Args:
            bucket, key, status: of the file.
            attributes: of the file; `NONE` is enough if the file system needs no tokens.
        """
        # With extended attributes, few buckets have sidecars, and checking that is cheaper than hashing a key.
        if not self._fs.has_attributes or await self._fs.exists(self._layout.metadata(bucket)):
            await self._fs.unlink(self._sidecar(bucket, key, status, attributes))

    async def sidecar_of(self, bucket: str, key: str, path: str) -> str | None:
        """Return the sidecar that a file reads its attributes from; None if it reads none."""
        opened = await self._fs.open(path)
        if opened is None:
            return None
        handle, status = opened
        try:
            stub = await self._fs.get_attribute(handle) if self._fs.has_attributes else STUB
        finally:
            await self._fs.close(handle)
        if stub is None or not stub.startswith(STUB):
            return None
        sidecar = self._pointed(bucket, key, status, stub)
        raw = await self._fs.read_file(sidecar)
        # The token of a file that was edited by hand leads to a sidecar of another size or time.
        return None if raw is None or _parsed(raw, status, sidecar, key) is NONE else sidecar

    def _sidecar(self, bucket: str, key: str, status: Stat, attributes: Attributes) -> str:
        token = self.token(attributes) if self._fs.has_attributes else None
        return self._named(bucket, key, status, token)

    def _pointed(self, bucket: str, key: str, status: Stat, stub: bytes) -> str:
        token = stub[len(STUB) + 1 :].decode(errors="replace")
        return self._named(bucket, key, status, token if _TOKEN.fullmatch(token) else None)

    def _named(self, bucket: str, key: str, status: Stat, token: str | None) -> str:
        if token is None:
            return self._layout.sidecar(bucket, key, status.st_size, status.st_mtime_ns)
        return self._layout.token_sidecar(bucket, key, token)


def _parsed(raw: bytes, status: Stat, path: str, key: str) -> Attributes:
    try:
        return Attributes.parse(raw, status)
    except ValueError as error:
        raise BackendError(
            f"{path!r}, which stores the object's metadata, is damaged; restore it, or remove it to lose the metadata",
            key=key,
        ) from error
