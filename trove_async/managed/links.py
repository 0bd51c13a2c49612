"""The names of contents, as changes within a transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, bindparam, column, delete, select, text, true, tuple_

from trove_async.database import insert_into, now
from trove_async.database.schema import ORDERED_TEXT, begins_with
from trove_async.managed.resources import ManagedInfo, ManagedResource
from trove_async.managed.schema import BLOBS, LINKS, READABLE
from trove_async.managed.transitions import COLUMNS, Blob, Blobs, Content
from trove_async.types import FrozenDict

__all__ = ["Given", "Link", "Linked", "Put", "find", "give", "link", "listed", "unlink"]


class Link(NamedTuple):
    """A name for content.

    Attributes:
        resource: the name.
        content_type: media type; None if none was given.
        metadata: the user's own.
    """

    resource: ManagedResource
    content_type: str | None = None
    metadata: Mapping[str, str] = FrozenDict()


class Put(NamedTuple):
    """A wish for a name.

    Attributes:
        link: the name; None for a reference without a name.
        content: for it, whose bytes were stored just now.
        verified: a key of the same content whose bytes are known to be there; empty for none.
    """

    link: Link | None
    content: Content
    verified: str = ""


class Given(NamedTuple):
    """What a wish has come to.

    Attributes:
        blob: of the content.
        done: False if its bytes must be verified first.
    """

    blob: Blob
    done: bool


class Linked(NamedTuple):
    """A name, and where the bytes of its content are.

    Attributes:
        info: of the name.
        key: of the bytes; empty if they were lost.
    """

    info: ManagedInfo
    key: str


_NAME: Final = ("bucket", "user", "path")
_PLACE: Final = [LINKS.c[name] for name in _NAME]


def _held_on_sqlite() -> Any:
    # An index on several columns serves no list of rows in SQLite, but it does serve a subquery.
    places = text(
        "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') "
        "FROM json_each(:places)"
    )
    return (
        select(*_PLACE, *COLUMNS)
        .join(BLOBS, BLOBS.c.id == LINKS.c.blob)
        .where(LINKS.c.space == bindparam("space"), tuple_(*_PLACE).in_(places.columns(*_PLACE)))
    )


def _held_on_postgres() -> Any:
    # With statistics that are out of date PostgreSQL would read all names of the space, but for LATERAL and LIMIT.
    listed = text(
        'SELECT value->>0 AS bucket, value->>1 AS "user", value->>2 AS path '
        "FROM jsonb_array_elements(CAST(:places AS jsonb))"
    )
    places = listed.columns(*(column(name, ORDERED_TEXT) for name in _NAME)).subquery("places")
    found = (
        select(*_PLACE, *COLUMNS)
        .join(BLOBS, BLOBS.c.id == LINKS.c.blob)
        .where(LINKS.c.space == bindparam("space"), *(LINKS.c[name] == places.c[name] for name in _NAME))
        .limit(1)
        .lateral("found")
    )
    return select(found).select_from(places.join(found, true()))


_HELD: Final = {"sqlite": _held_on_sqlite(), "postgresql": _held_on_postgres()}
"""The blobs of the names in ``places``, a JSON array of arrays."""

_LINKED: Final = select(
    *_PLACE,
    LINKS.c.content_type,
    LINKS.c.metadata,
    LINKS.c.created_at,
    READABLE,
    BLOBS.c.length,
    BLOBS.c.digest,
).join(BLOBS, BLOBS.c.id == LINKS.c.blob)
_FIND: Final = _LINKED.where(
    LINKS.c.space == bindparam("space"), *(LINKS.c[name] == bindparam(f"its_{name}") for name in _NAME)
)
_UNLINK: Final = delete(LINKS).where(
    LINKS.c.space == bindparam("its_space"), *(LINKS.c[name] == bindparam(f"its_{name}") for name in _NAME)
)
_upserts: Final[dict[str, Any]] = {}


def _upsert(connection: Connection) -> Any:
    name = connection.dialect.name
    if name not in _upserts:
        new: dict[str, Any] = {
            column: bindparam(f"new_{column}") for column in ("space", *_NAME, "blob", "content_type", "metadata")
        }
        insert = insert_into(connection, LINKS).values(**new, created_at=now())
        changed = {column: insert.excluded[column] for column in ("blob", "content_type", "metadata", "created_at")}
        _upserts[name] = insert.on_conflict_do_update(index_elements=[*LINKS.primary_key], set_=changed)
    return _upserts[name]


def link(connection: Connection, space: str, wanted: Sequence[Put]) -> list[Given]:
    """Give names to contents that were stored, one after another, with as few statements as one takes.

    What a name had before loses a reference. If others have stored the same content before, and it is not known that
    their bytes are there, nothing changes for that name.
    """
    blobs = Blobs(connection, space)
    for algorithm in {one.content.algorithm for one in wanted}:
        blobs.load(algorithm, (one.content.digest for one in wanted if one.content.algorithm == algorithm))
    names = _Names(connection, space, blobs, [one.link.resource for one in wanted if one.link is not None])
    known = {key for one in wanted for key in (one.content.key, one.verified)}
    given = []
    for one in wanted:
        blob = blobs.store(one.content)
        done = blob.key in known
        if done and one.link is not None:
            names.point(one.link, blob)
        elif done:
            blobs.retain(blob, held=True)
        given.append(Given(blob, done))
    names.flush()
    return given


def give(connection: Connection, space: str, blobs: Blobs, one: Link, blob: Blob) -> None:
    """Give a name to a blob that is stored, and flush ``blobs``, which has it."""
    names = _Names(connection, space, blobs, [one.resource])
    names.point(one, blob)
    names.flush()


class _Names:
    """The blobs of names, and their changes."""

    def __init__(self, connection: Connection, space: str, blobs: Blobs, resources: Sequence[ManagedResource]) -> None:
        self._connection = connection
        self._space = space
        self._blobs = blobs
        self._links: dict[ManagedResource, tuple[Link, Blob]] = {}
        self._now = _held(connection, space, blobs, resources) if resources else {}

    def point(self, one: Link, blob: Blob) -> None:
        """Let a name refer to a blob."""
        self._blobs.retain(blob)
        before = self._now.get(one.resource)
        if before is not None:
            self._blobs.release(before)
        self._now[one.resource] = blob
        self._links[one.resource] = one, blob

    def flush(self) -> None:
        """Write the changes: the blobs first, since names refer to them."""
        self._blobs.flush()
        rows = [
            {
                "new_space": self._space,
                "new_bucket": resource.bucket,
                "new_user": resource.user,
                "new_path": resource.path,
                "new_blob": blob.id,
                "new_content_type": one.content_type,
                "new_metadata": json.dumps(dict(one.metadata)),
            }
            for resource, (one, blob) in self._links.items()
        ]
        if rows:
            self._connection.execute(_upsert(self._connection), rows)


def unlink(connection: Connection, space: str, resource: ManagedResource) -> Blob | None:
    """Remove a name, whose content loses a reference; return its blob, or None if there is no such name."""
    blobs = Blobs(connection, space)
    blob = _held(connection, space, blobs, [resource]).get(resource)
    if blob is None:
        return None
    connection.execute(_UNLINK, {"its_space": space, **_its(resource)})
    blobs.release(blob)
    blobs.flush()
    return blob


def find(connection: Connection, space: str, resource: ManagedResource) -> Linked | None:
    """Return what a name refers to; None if there is no such name."""
    row = connection.execute(_FIND, {"space": space, **_its(resource)}).first()
    return None if row is None else _linked(row)


def listed(
    connection: Connection, space: str, bucket: str, user: str, *, prefix: str, after: str, limit: int
) -> list[ManagedInfo]:
    """Return the names of a bucket, a user, or all, in the order of their UTF-8 bytes.

    Args:
        connection: of the transaction.
        space: of the store.
        bucket, user: whose names.
        prefix: only paths that begin with it.
        after: only paths that sort after it.
        limit: the maximum number.
    """
    wanted = (
        _LINKED.where(LINKS.c.space == space, LINKS.c.bucket == bucket, LINKS.c.user == user)
        .where(begins_with(LINKS.c.path, prefix), LINKS.c.path > after)
        .order_by(LINKS.c.path)
        .limit(limit)
    )
    return [_linked(row).info for row in connection.execute(wanted).all()]


def _held(
    connection: Connection, space: str, blobs: Blobs, resources: Sequence[ManagedResource]
) -> dict[ManagedResource, Blob]:
    """Return the blobs of those names that exist."""
    places = json.dumps([(one.bucket, one.user, one.path) for one in dict.fromkeys(resources)])
    rows = connection.execute(_HELD[connection.dialect.name], {"space": space, "places": places}).all()
    return {ManagedResource(row.bucket, row.user, row.path): blobs.adopt(row) for row in rows}


def _its(resource: ManagedResource) -> dict[str, str]:
    return {"its_bucket": resource.bucket, "its_user": resource.user, "its_path": resource.path}


def _linked(row: Row[*tuple[Any, ...]]) -> Linked:
    info = ManagedInfo(
        ManagedResource(row.bucket, row.user, row.path),
        row.length,
        row.digest,
        row.content_type,
        FrozenDict(json.loads(row.metadata)),
        row.created_at,
    )
    return Linked(info, row.readable)
