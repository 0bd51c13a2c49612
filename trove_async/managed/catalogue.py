"""`ResourceCatalog`: which contents are stored, where, and how often they are referred to."""

from __future__ import annotations

import secrets
from typing import Final, Self

from sqlalchemy import Connection, select

from trove_async.checksums import Checksum
from trove_async.database import Database, connect, insert_into
from trove_async.errors import (
    BodySizeError,
    InvalidArgumentError,
    NotFoundError,
    PreconditionFailedError,
    ResourceAlreadyExistsError,
    ResourceDeletedError,
    UploadPendingError,
)
from trove_async.keys import check_key
from trove_async.managed.names import check_space
from trove_async.managed.resources import Resource
from trove_async.managed.schema import BLOBS, COMPONENT, MIGRATIONS, SPACES, State
from trove_async.managed.transitions import Blob, Blobs, Content
from trove_async.values import check_text, is_number, is_whole

__all__ = ["ResourceCatalog", "check_sha384", "new_id"]

LEASE: Final = 600.0
"""Seconds after which the writers of content that is pending are taken for dead."""


def new_id() -> str:
    """Return a random id for a blob."""
    return secrets.token_hex(16)


def check_sha384(value: object) -> str:
    """Return a SHA-384 in lower case.

    Raises:
        InvalidArgumentError: it is not 96 hex digits.
    """
    if not isinstance(value, str):
        raise InvalidArgumentError(f"a sha384 checksum is a str of 96 hex digits, not {type(value).__name__}")
    found = Checksum("sha384", value).value
    assert found is not None
    return found


class ResourceCatalog:
    """The contents of one store, in a database that any number of processes share.

    Content is announced by `put`, stored by the caller, and completed by `upload_complete`. Every `put` is a reference,
    which `remove` ends. `ManagedStorage` keeps its names in the same catalogue, each of which is a reference too.

    Args:
        database: open and migrated, as `open` does it; it stays open.
        space: separates several stores in one database.
        lease: seconds after which the writers of content that is pending are taken for dead, if none of them has
            called `put` or `renew`. Whoever puts the content next begins anew, and their references end.

    Attributes:
        database, space: as given.
    """

    def __init__(self, database: Database, space: str = "managed", *, lease: float = LEASE) -> None:
        check_space(space)
        if not is_number(lease) or not 0 < lease < 1e9:
            raise InvalidArgumentError(f"the lease is a number of seconds above 0, not {lease!r}")
        self.database = database
        self.space = space
        self._lease = lease
        self._owned = False
        self._folder: str | None = None

    @classmethod
    async def open(cls, database: str | Database, space: str = "managed", *, lease: float = LEASE) -> Self:
        """Open a catalogue, and bring its tables up to date.

        Args:
            database: a URL, as for `trove_async.database.connect`, or a database that is open and stays open.
            space, lease: see `ResourceCatalog`.

        Raises:
            InvalidArgumentError, InvalidDSNError: the database is neither, or the URL is wrong; before any I/O.
            UnavailableError, SchemaVersionError: the database cannot be used.
        """
        if not isinstance(database, str | Database):
            raise InvalidArgumentError(f"the database is a URL or a Database, not {type(database).__name__}")
        owned = isinstance(database, str)
        opened = await connect(database) if isinstance(database, str) else database
        try:
            catalogue = cls(opened, space, lease=lease)
            catalogue._owned = owned
            await opened.migrate(COMPONENT, MIGRATIONS)
        except BaseException:
            if owned:
                await opened.aclose()
            raise
        return catalogue

    async def folder(self) -> str:
        """Return where the bytes of this space are, with a slash at the end; another space or database has another one.

        So several of them can share a bucket: what is in its folder and is unknown to a catalogue is nobody's.
        """
        if self._folder is None:
            known = select(SPACES.c.folder).where(SPACES.c.space == self.space)
            found: str | None = await self.database.read(lambda connection: connection.scalar(known))
            self._folder = await self.database.write(self._make_folder) if found is None else found
        return self._folder

    def _make_folder(self, connection: Connection) -> str:
        new = insert_into(connection, SPACES).values(
            space=self.space, folder=f"blobs/{secrets.token_hex(4)}/", seen_at=None, reached=""
        )
        connection.execute(new.on_conflict_do_nothing())
        found = select(SPACES.c.folder).where(SPACES.c.space == self.space)
        return str(connection.execute(found).scalar_one())

    async def aclose(self) -> None:
        """Close the database if `open` has opened it; idempotent."""
        if self._owned:
            await self.database.aclose()

    async def get(self, id: str) -> Resource:
        """Return the resource with an id.

        Raises:
            NotFoundError: there is none.
            ResourceDeletedError: its bytes were lost, as ``fsck`` has found; store them again.
            UploadPendingError: it is not stored completely yet.
        """
        return await self.database.read(lambda connection: _resource(_stored(self._live(connection, id)[1])))

    async def find(self, sha384: str) -> str:
        """Return the id of the resource with a SHA-384; the errors are those of `get`.

        Raises:
            InvalidArgumentError: it is no SHA-384.
        """
        digest = check_sha384(sha384)

        def unit(connection: Connection) -> str:
            blob = Blobs(connection, self.space).live("sha384", digest)
            if blob is None:
                raise NotFoundError("no content has this SHA-384")
            return _stored(blob).id

        return await self.database.read(unit)

    async def put(self, sha384: str, length: int) -> tuple[str, str]:
        """Make sure that there is a resource for content, and add a reference to it.

        Args:
            sha384: of the content.
            length: bytes.

        Returns:
            Its id and its path. If the path is empty nobody has completed the upload, or the bytes were lost: store
            them at a new path, and call `upload_complete`.

        Raises:
            InvalidArgumentError: an argument is malformed.
            BodySizeError: the resource has another length; nothing changed.
        """
        digest = check_sha384(sha384)
        if not is_whole(length) or not 0 <= length < 2**63:
            raise InvalidArgumentError(f"a length is a whole number of 0 or more, not {length!r}")
        content = Content(new_id(), "sha384", digest, "", length)

        def unit(connection: Connection) -> tuple[str, str]:
            blobs = Blobs(connection, self.space)
            blob = blobs.announce(content, seconds=self._lease)
            if blob.length != length:
                raise BodySizeError(f"the content with this SHA-384 has {blob.length} bytes, not {length}")
            blobs.retain(blob, held=True)
            blobs.flush()
            return blob.id, "" if blob.state is State.LOST else blob.key

        return await self.database.write(unit)

    async def renew(self, id: str) -> None:
        """Make the lease of content that is pending last longer; for uploads that take long.

        Raises:
            NotFoundError: there is no such resource: others have taken the writer for dead.
        """

        def unit(connection: Connection) -> None:
            blobs, blob = self._live(connection, id)
            if blob.state is State.PENDING:
                blobs.renew(blob, seconds=self._lease)
                blobs.flush()

        await self.database.write(unit)

    async def upload_complete(self, id: str, path: str) -> None:
        """Record that the bytes of a resource are stored at a path.

        Raises:
            NotFoundError: there is no such resource; delete what was stored.
            ResourceAlreadyExistsError: another writer was faster; delete what was stored.
            PreconditionFailedError: the bytes at the path are, or were, those of another resource, or the collector has
                found them without one; nothing changed. Store them at a new path.
            InvalidKeyError: the path is malformed.
        """
        check_key(path)

        def unit(connection: Connection) -> None:
            blobs, blob = self._live(connection, id)
            if blob.state is State.STORED:
                raise ResourceAlreadyExistsError
            taken = select(BLOBS.c.id).where(BLOBS.c.space == self.space, BLOBS.c.key == path, BLOBS.c.id != id)
            if connection.scalar(taken) is not None:
                raise PreconditionFailedError(f"the path {path!r} is taken; store the bytes at a new path")
            blobs.complete(blob, path, blob.length)
            blobs.flush()

        await self.database.write(unit)

    async def remove(self, id: str) -> tuple[bool, str]:
        """End a reference of `put`.

        Returns:
            Whether it was the last one, and the path, which is empty if nothing was stored. Without references the
            resource is condemned: it cannot be found any more, and the sweep deletes its bytes after the grace.

        Raises:
            NotFoundError: there is no such resource.
            PreconditionFailedError: all references to it are names of `ManagedStorage`; remove those.
        """

        def unit(connection: Connection) -> tuple[bool, str]:
            blobs, blob = self._live(connection, id)
            if not blob.held:
                raise PreconditionFailedError("all references to the content are names; remove those")
            blobs.release(blob, held=True)
            blobs.flush()
            return blob.refs == 0, blob.key

        return await self.database.write(unit)

    def _live(self, connection: Connection, id: str) -> tuple[Blobs, Blob]:
        check_text("the id of a resource", id)
        blobs = Blobs(connection, self.space)
        for blob in blobs.named([id]):
            if blob.algorithm == "sha384" and blob.state in (State.PENDING, State.STORED, State.LOST):
                return blobs, blob
        raise NotFoundError("there is no resource with this id")


def _stored(blob: Blob) -> Blob:
    if blob.state is State.PENDING:
        raise UploadPendingError
    if blob.state is State.LOST:
        raise ResourceDeletedError("the bytes of the content were lost; store it again")
    return blob


def _resource(blob: Blob) -> Resource:
    return Resource(blob.id, blob.digest, blob.key, blob.length)
