"""`Dedup`: a store whose objects are references to contents, each of which is stored once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from trove_async.database import Database
from trove_async.database.url import parse_url
from trove_async.driver.base import Driver
from trove_async.driver.order import Placed
from trove_async.errors import InvalidArgumentError
from trove_async.keys import check_bucket, check_prefix
from trove_async.managed.algorithms import check_algorithm
from trove_async.managed.dedup.chunking import Chunking
from trove_async.managed.dedup.driver import DedupDriver, Settings
from trove_async.managed.names import check_space

__all__ = ["Dedup"]


class Dedup(Placed):
    """Store each content once, however many objects have it, whatever they are called.

    Buckets and objects are rows of a database; the bytes are blobs in one bucket of the driver that the layer is
    around. Objects that were in that store before are not seen. All processes that use the store share the database.

    Args:
        database: a URL, as for `trove_async.database.connect`, or a database that is open and stays open.
        bucket: of the blobs; created if it is missing. None for that of the DSN, or ``trove-dedup`` if it names none.
        namespace: separates the blobs of several stores in one bucket: their keys begin with it and a slash.
        space: separates several stores in one database.
        algorithm: of the digests by which contents are the same: ``sha256``, ``blake3`` with its extra, ``sha384`` or
            ``sha512``.
        chunking: how bodies are cut into chunks, each of which is content of its own; None to store each as one.

    Raises:
        InvalidArgumentError: a value is malformed.
        InvalidDSNError: the URL of the database is malformed.
        MissingDependencyError: the package of the algorithm is not installed.
    """

    layer_name: ClassVar[str | None] = DedupDriver.layer_name
    never_around: ClassVar[Mapping[str, str]] = DedupDriver.never_around

    def __init__(
        self,
        database: str | Database,
        *,
        bucket: str | None = None,
        namespace: str = "",
        space: str = "dedup",
        algorithm: str = "sha256",
        chunking: Chunking | None = None,
    ) -> None:
        if isinstance(database, str):
            parse_url(database)
        elif not isinstance(database, Database):
            raise InvalidArgumentError(
                f"database is the URL of a database, such as 'sqlite:///dedup.db', not {database!r}"
            )
        if bucket is not None:
            check_bucket(bucket)
        check_prefix(namespace)
        check_space(space)
        check_algorithm(algorithm)
        if chunking is not None and not isinstance(chunking, Chunking):
            raise InvalidArgumentError(f"chunking is a Chunking, such as Chunking(), not {chunking!r}")
        self._settings: Final = Settings(database, bucket, namespace, space, algorithm, chunking)

    def __call__(self, driver: Driver) -> Driver:
        """Put the layer around a driver."""
        return DedupDriver(driver, self._settings)

    def __repr__(self) -> str:
        return f"<Dedup of {self._settings.space!r}>"
