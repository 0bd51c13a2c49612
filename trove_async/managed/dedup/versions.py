"""The rows of objects, as a transaction reads and changes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, bindparam, column, delete, insert, select, text, true, update

from trove_async.database.schema import ORDERED_TEXT, among
from trove_async.managed.dedup.schema import OBJECTS

__all__ = ["NULL_VERSION", "Version", "Versions"]

NULL_VERSION: Final = "null"
"""The id of a version that was stored while the bucket kept no versions; its ``ObjectInfo.version_id`` is None."""


class Version(NamedTuple):
    """What the rules of versions look at in a row. The attributes are its columns."""

    id: str
    key: str
    number: int
    version: str
    marker: bool
    etag: str
    modified: datetime

    @classmethod
    def of(cls, row: Row[Any]) -> Version:
        """Return the version of a row, which may have other columns too."""
        return cls(*(getattr(row, name) for name in cls._fields))


_COLUMNS: Final = [OBJECTS.c[name] for name in Version._fields]
_OF_BUCKET: Final = OBJECTS.c.bucket == bindparam("its_bucket")


def _latest_on_sqlite() -> Any:
    keys = text("SELECT value FROM json_each(:keys)").columns(column("value", ORDERED_TEXT)).subquery("keys")
    newest = OBJECTS.alias("newest")
    wanted = select(newest.c.id).where(newest.c.bucket == bindparam("its_bucket"), newest.c.key == keys.c.value)
    newest_of_key = wanted.order_by(newest.c.number.desc()).limit(1).correlate(keys).scalar_subquery()
    return select(*_COLUMNS).where(OBJECTS.c.id.in_(select(newest_of_key).select_from(keys)))


def _latest_on_postgres() -> Any:
    # As for names of managed storage: only LATERAL and LIMIT make PostgreSQL look up each key, whatever its statistics.
    listed = text("SELECT value FROM jsonb_array_elements_text(CAST(:keys AS jsonb))")
    keys = listed.columns(column("value", ORDERED_TEXT)).subquery("keys")
    wanted = select(*_COLUMNS).where(_OF_BUCKET, OBJECTS.c.key == keys.c.value)
    newest = wanted.order_by(OBJECTS.c.number.desc()).limit(1).lateral("newest")
    return select(newest).select_from(keys.join(newest, true()))


_LATEST: Final = {"sqlite": _latest_on_sqlite(), "postgresql": _latest_on_postgres()}
"""The latest rows of ``keys``, a JSON array."""

_NULL: Final = select(*_COLUMNS).where(
    _OF_BUCKET, among(OBJECTS.c.key, bindparam("keys")), OBJECTS.c.version == NULL_VERSION
)
_INSERT: Final = insert(OBJECTS)
_SHOW: Final = (
    update(OBJECTS).where(OBJECTS.c.id == bindparam("its_id"), OBJECTS.c.current.is_(False)).values(current=True)
)
_HIDE: Final = update(OBJECTS).where(among(OBJECTS.c.id, bindparam("ids"))).values(current=False)
_DROP: Final = delete(OBJECTS).where(among(OBJECTS.c.id, bindparam("ids")))


class Versions:
    """The versions and delete markers of a bucket that a transaction reads and changes.

    It reads those of a key when they are asked for, with those of all keys that are expected, and changes them in
    memory until `flush`.

    Args:
        connection: of the transaction.
        bucket: the id of the bucket.
        expected: keys for which the transaction will ask.
    """

    def __init__(self, connection: Connection, bucket: str, expected: Iterable[str]) -> None:
        self._connection = connection
        self._bucket = bucket
        self._expected = [*expected]
        self._latest: dict[str, Version | None] = {}
        self._null: dict[str, Version | None] = {}
        self._added: dict[str, dict[str, Any]] = {}
        self._hidden: list[str] = []
        self._removed: list[str] = []

    def latest(self, key: str) -> Version | None:
        """Return the latest version of a key, which may be a delete marker; None if there is none."""
        if key not in self._latest:
            wanted = self._unknown(self._latest, key)
            found = _LATEST[self._connection.dialect.name]
            self._read(found, self._latest, wanted, json.dumps(wanted))
        return self._latest[key]

    def null(self, key: str) -> Version | None:
        """Return the version of a key that has the id `NULL_VERSION`; None if there is none."""
        latest = self.latest(key)
        if latest is None or latest.version == NULL_VERSION:
            return latest
        if key not in self._null:
            wanted = self._unknown(self._null, key)
            self._read(_NULL, self._null, wanted, wanted)
        return self._null[key]

    def add(self, version: Version, values: Mapping[str, Any]) -> None:
        """Add the latest version of its key.

        Args:
            version: is new.
            values: the other columns.
        """
        self._added[version.id] = {"bucket": self._bucket, **version._asdict(), **values}
        self._latest[version.key] = version
        if version.version == NULL_VERSION:
            self._null[version.key] = version

    def hide(self, version: Version) -> None:
        """Let a plain get not find a version any more."""
        if version.id in self._added:
            self._added[version.id]["current"] = False
        else:
            self._hidden.append(version.id)

    def show(self, key: str) -> None:
        """Let a plain get find the latest version of a key, unless that is a delete marker."""
        latest = self.latest(key)
        if latest is not None and not latest.marker:
            self._connection.execute(_SHOW, {"its_id": latest.id})

    def remove(self, version: Version) -> None:
        """Remove a version."""
        for known in (self._latest, self._null):
            if known.get(version.key) == version:
                del known[version.key]
        if self._added.pop(version.id, None) is None:
            self._removed.append(version.id)

    def flush(self) -> None:
        """Write the changes."""
        # In this order: a key has one current version at a time.
        if self._removed:
            self._connection.execute(_DROP, {"ids": self._removed})
        if self._hidden:
            self._connection.execute(_HIDE, {"ids": self._hidden})
        if self._added:
            self._connection.execute(_INSERT, [*self._added.values()])
        self._removed, self._hidden, self._added = [], [], {}

    def _unknown(self, known: Mapping[str, Version | None], key: str) -> list[str]:
        return [one for one in dict.fromkeys([key, *self._expected]) if one not in known]

    def _read(self, statement: Any, known: dict[str, Version | None], keys: Sequence[str], given: object) -> None:
        self.flush()
        known.update(dict.fromkeys(keys))
        rows = self._connection.execute(statement, {"its_bucket": self._bucket, "keys": given}).all()
        known.update({row.key: Version.of(row) for row in rows})
