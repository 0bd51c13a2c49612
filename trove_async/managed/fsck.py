"""`fsck`: find damage of catalogue and storage, and repair it if asked.

What is found is looked at again in the transaction that repairs it, so that others may store, read, remove and collect
meanwhile. Nothing is deleted: bytes that are wrong stay until the collector takes them, after the grace.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Select, not_

from trove_async.concurrency import several
from trove_async.database import Unit
from trove_async.database.schema import begins_with
from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    BucketNotFoundError,
    ChecksumError,
    InvalidArgumentError,
    NotFoundError,
    TroveError,
    UnauthenticatedError,
)
from trove_async.managed import repairs
from trove_async.managed.catalogue import ResourceCatalog
from trove_async.managed.collecting import GRACE, check_grace
from trove_async.managed.findings import Depth, FsckReport, Problem, ProblemKind
from trove_async.managed.names import owner_of
from trove_async.managed.orphans import claim_orphans, orphans_of
from trove_async.managed.refusals import MAX_SHARE, check_layers, check_share
from trove_async.managed.resources import ManagedResource
from trove_async.managed.schema import BLOBS, State
from trove_async.managed.storage import ListableStorage, StoredBytes, pages
from trove_async.ranges import RangeLike
from trove_async.reader import ObjectReader

__all__ = ["fsck"]

_BATCH: Final = 500
_READS: Final = 8
"""Blobs that are read at once."""
_REFUSED: Final = (AccessDeniedError, BackendError)
"""Errors that may be about one object, and come again however often it is tried."""


async def fsck(
    catalogue: ResourceCatalog,
    storage: ListableStorage,
    *,
    depth: Depth | str = Depth.ROWS,
    repair: bool = False,
    grace: float = GRACE,
    force: bool = False,
) -> FsckReport:
    """Look for damage; others may work meanwhile.

    Args:
        catalogue: says what should be there.
        storage: has the bytes.
        depth: ``rows``, ``heads`` or ``bytes``; see `Depth`.
        repair: correct what can be corrected; see `ProblemKind`.
        grace: seconds, for orphans: younger ones may be of a writer that is at work, and are no problem.
        force: mark content as lost also if that is more than one blob, and more than a tenth of all.

    Raises:
        CollectionRefusedError: it is more, and ``force`` is not given. No content was marked as lost; other damage was
            repaired.
        InvalidArgumentError: an argument is out of range, or the storage is over a store with the `Dedup` whose blobs
            these are; it must be over the store beneath.
        MissingDependencyError: the package of an algorithm is not installed.
    """
    check_grace(grace)
    check_layers(storage, catalogue.space)
    try:
        depth = Depth(depth)
    except ValueError:
        raise InvalidArgumentError(f"the depth is one of {', '.join(Depth)}, not {depth!r}") from None
    check = _Check(catalogue, storage, repair, grace, force)
    await check.tables()
    if depth is not Depth.ROWS:
        folder = await catalogue.folder()
        await check.listing(folder)
        await check.elsewhere(folder)
        await check.unfinished(folder)
    if depth is Depth.BYTES:
        await check.contents()
    await check.lose()
    return FsckReport(depth, check.blobs, check.bytes, tuple(check.problems))


class _Check:
    """One look at a space.

    Attributes:
        problems, blobs, bytes: see `FsckReport`.
    """

    def __init__(
        self, catalogue: ResourceCatalog, storage: ListableStorage, repair: bool, grace: float, force: bool
    ) -> None:
        self._database = catalogue.database
        self._space = catalogue.space
        self._storage = storage
        self._repair = repair
        self._grace = timedelta(seconds=grace)
        self._force = force
        self._losses: list[tuple[Problem, Unit[bool]]] = []  # what is to be marked as lost, at the end
        self._reported: set[str] = set()  # the ids of blobs whose bytes are missing, wrong or refused
        self.problems: list[Problem] = []
        self.blobs = 0
        self.bytes = 0

    async def tables(self) -> None:
        """Compare the tables with each other: names first, since to repair them changes counts."""
        name: ManagedResource | None = None
        while True:
            names = await self._database.read(partial(repairs.dangling, space=self._space, after=name, limit=_BATCH))
            for name in names:
                problem = Problem(ProblemKind.DANGLING, f"{owner_of(name)}/{name.path}", "its content is not stored")
                await self._report(problem, partial(repairs.reattach, space=self._space, resource=name))
            if len(names) < _BATCH:
                break
        last = ""
        while True:
            found = await self._database.read(partial(repairs.counted, space=self._space, after=last, limit=_BATCH))
            self.blobs += len(found)
            for one in found:
                if one.fault:
                    problem = Problem(ProblemKind.COUNT, one.id, one.fault, one.digest)
                    await self._report(problem, partial(repairs.recount, space=self._space, id=one.id))
            if len(found) < _BATCH:
                break
            last = found[-1].id

    async def listing(self, folder: str) -> None:
        """Compare the listing of the storage with the tables, both in the order of keys."""
        after, where = "", begins_with(BLOBS.c.key, folder)
        async with aclosing(pages(self._storage, folder, after, _BATCH)) as found:
            async for page in found:
                upto = page[-1].path
                await self._compare(page, where & (BLOBS.c.key > after) & (BLOBS.c.key <= upto))
                await self._orphans(page)
                after = upto
        await self._compare([], where & (BLOBS.c.key > after))

    async def elsewhere(self, folder: str) -> None:
        """Look at each blob whose path the users of `ResourceCatalog` have chosen."""
        await self._each(not_(begins_with(BLOBS.c.key, folder)), self._look)

    async def unfinished(self, folder: str) -> None:
        """Look for multipart uploads that writers have left."""
        before = await self._database.now() - self._grace
        for upload in await self._storage.unfinished(folder):
            if upload.began <= before:
                detail = f"an upload was begun at {upload.began.isoformat()} and not completed"
                problem = Problem(ProblemKind.UNFINISHED, upload.path, detail, repaired=self._repair)
                if self._repair:
                    try:
                        await self._storage.abort(upload)
                    except _REFUSED as error:
                        problem = replace(problem, detail=f"{detail}: {error.message}", repaired=False)
                self.problems.append(problem)

    async def contents(self) -> None:
        """Read all blobs, several at once."""
        await self._each(BLOBS.c.state == State.STORED, self._read, at_once=_READS)

    async def lose(self) -> None:
        """Mark content whose bytes are missing or wrong as lost, unless that is too much.

        One may always be marked, or a store of few could not be repaired without force.
        """
        count = len(self._losses)
        if count > 1 and self._repair and not self._force:
            total = await self._database.read(partial(repairs.live, space=self._space))
            check_share(count, total, MAX_SHARE, "marked as lost")
        for problem, repair in self._losses:
            await self._report(problem, repair)

    async def _compare(self, page: Sequence[StoredBytes], part: ColumnElement[bool]) -> None:
        """Compare what is listed with the blobs whose keys are in the same part of all keys."""
        lengths = {one.path: one.length for one in page}

        async def compare(row: Row[Any]) -> None:
            if row.state != State.STORED or lengths.get(row.key) != row.length:
                await self._look(row)  # it may have been stored after it was listed

        await self._each(part, compare)

    async def _orphans(self, page: Sequence[StoredBytes]) -> None:
        time = await self._database.now()
        old = [one for one in page if one.modified <= time - self._grace]
        for orphan in await self._database.read(partial(orphans_of, space=self._space, page=old)):
            problem = Problem(ProblemKind.ORPHAN, orphan.path, f"no content has these {orphan.length} bytes")
            await self._report(problem, partial(_claim, space=self._space, orphan=orphan))

    async def _look(self, row: Row[Any]) -> None:
        """Find out whether the bytes of a blob are there."""
        reader = await self._open(row, (0, 0))
        if reader is None:
            return
        await reader.aclose()
        if row.state == State.LOST:
            await self._read(row)

    async def _read(self, row: Row[Any]) -> None:
        """Compare the bytes of a blob with its digest."""
        reader = await self._open(row)
        if reader is None:
            return
        async with reader:
            reader.expect(row.algorithm, row.digest)
            try:
                async for chunk in reader:
                    self.bytes += len(chunk)
            except ChecksumError as error:
                await self._lost(row, ProblemKind.BYTES, error.message)
                return
            except _REFUSED as error:
                self._unreadable(row, error)
                return
        if row.state == State.LOST:
            problem = Problem(ProblemKind.RECOVERED, row.id, "its bytes, which were lost, are there", _digest(row))
            await self._report(problem, partial(repairs.recover, space=self._space, id=row.id, key=row.key))

    async def _open(self, row: Row[Any], range: RangeLike | None = None) -> ObjectReader | None:
        """Open the bytes of a blob; if they are missing or of another length, report it and return None."""
        try:
            reader = await self._storage.get(row.key, range=range)
        except BucketNotFoundError:  # that tells nothing about the bytes
            raise
        except NotFoundError:
            await self._lost(row, ProblemKind.MISSING, f"its {row.length} bytes are missing")
            return None
        except _REFUSED as error:
            self._unreadable(row, error)
            return None
        length = reader.info.size
        if length == row.length:
            return reader
        await reader.aclose()
        await self._lost(row, ProblemKind.LENGTH, f"it has {length} bytes; {row.length} were stored")
        return None

    def _unreadable(self, row: Row[Any], error: TroveError) -> None:
        """Report that the store does not return the bytes of a blob; the others may be all right.

        Raises:
            UnauthenticatedError: the store returns none.
        """
        if isinstance(error, UnauthenticatedError):
            raise error
        if row.id not in self._reported:
            self._reported.add(row.id)
            self.problems.append(Problem(ProblemKind.UNREADABLE, row.id, error.message, _digest(row)))

    async def _lost(self, row: Row[Any], kind: ProblemKind, detail: str) -> None:
        """Report that the bytes of a blob are missing or wrong, unless it was removed or stored again meanwhile."""
        if row.id in self._reported:
            return
        self._reported.add(row.id)
        same = repairs.kept(self._space).where(BLOBS.c.id == row.id, BLOBS.c.key == row.key)
        if await self._database.read(lambda connection: connection.execute(same).first()) is None:
            return
        problem = Problem(kind, row.id, detail, _digest(row))
        if row.state == State.LOST:
            self.problems.append(problem)
        else:
            self._losses.append((problem, partial(repairs.lose, space=self._space, id=row.id, key=row.key)))

    async def _report(self, problem: Problem, repair: Unit[bool]) -> None:
        """Report a problem; repair it first if asked, unless it is gone."""
        if not self._repair:
            self.problems.append(problem)
        elif await self._database.write(repair):
            self.problems.append(replace(problem, repaired=True))

    async def _each(
        self, where: ColumnElement[bool], work: Callable[[Row[Any]], Awaitable[None]], *, at_once: int = 1
    ) -> None:
        """Await work on each of the blobs that must have their bytes, in the order of their keys."""
        after = ""
        while True:
            page = repairs.kept(self._space).where(where, BLOBS.c.key > after).order_by(BLOBS.c.key).limit(_BATCH)
            rows = await self._database.read(partial(_execute, statement=page))
            await several([partial(work, row) for row in rows], limit=at_once)
            if len(rows) < _BATCH:
                return
            after = rows[-1].key


def _execute(connection: Connection, statement: Select[Any]) -> Sequence[Row[Any]]:
    return connection.execute(statement).all()


def _claim(connection: Connection, space: str, orphan: StoredBytes) -> bool:
    return claim_orphans(connection, space, [orphan]) > 0


def _digest(row: Row[Any]) -> str:
    return f"{row.algorithm}:{row.digest}"
