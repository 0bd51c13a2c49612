"""Many concurrent copies, which may be interrupted at any moment and run again."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Final

import anyio.to_thread

from trove_async.cancellation import CLEANUP_TIMEOUT, finish
from trove_async.errors import InvalidArgumentError, TroveError
from trove_async.store.download import Hop
from trove_async.transfers.copying import check_target, copy, remove
from trove_async.transfers.ends import Description, End, LocalFile, StoredObject, describe, is_directory_marker
from trove_async.transfers.listed import Listed, Listings
from trove_async.transfers.looking import SMALL, Look, look_at, may_be_md5
from trove_async.transfers.parallel import for_each
from trove_async.transfers.unchanged import is_unchanged
from trove_async.types import ObjectInfo

__all__ = ["Job", "Outcome", "Result", "Tally", "Transfer"]

_AT_ONCE: Final = 16
"""Jobs whose files are looked at in one hop to a thread."""
_BYTES_AT_ONCE: Final = 1024 * 1024
"""The most bytes of files that are read in one hop; they are in memory until they are copied."""


@dataclass(frozen=True, slots=True)
class Job:
    """One copy.

    Attributes:
        source, target: its ends.
        size: the expected number of bytes.
        info: what a listing says of a source that is an object; None if none was asked.
        listed: what a listing says of the target; None if none was asked.
    """

    source: End
    target: End
    size: int
    info: ObjectInfo | None = None
    listed: Listed | None = None


class Outcome(StrEnum):
    """The outcome of a job; ``directory`` means that the source only marks a directory, and was skipped."""

    COPIED = "copied"
    UNCHANGED = "unchanged"
    DIRECTORY = "directory"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Result:
    """A finished job; ``error`` says why it failed."""

    job: Job
    outcome: Outcome
    error: TroveError | OSError | None = None


@dataclass(slots=True)
class Tally:
    """The progress of a transfer; read it at any time.

    Attributes:
        jobs, size: the jobs found so far, and the bytes of those that are not skipped; both grow until all are found.
        moved: the number of bytes copied, including copies in progress.
        copied, unchanged, directories, failed: finished jobs, by `Outcome`.
    """

    jobs: int = 0
    size: int = 0
    moved: int = 0
    copied: int = 0
    unchanged: int = 0
    directories: int = 0
    failed: int = 0

    @property
    def done(self) -> int:
        """Return the number of finished jobs."""
        return self.copied + self.unchanged + self.directories + self.failed


@dataclass
class Transfer:
    """Runs copies.

    Attributes:
        workers: the maximum number of concurrent copies.
        skip_unchanged: skip sources that were copied before and have not changed; see `is_unchanged`. A small file that
            has the bytes of the object, by its listed ETag, needs no copy either, unless ``by_checksum``, ``move`` or
            ``preserve`` is set.
        skip_directories: skip objects that only mark a directory; see `is_directory_marker`.
        by_checksum: compare by SHA-256, and store it with objects that are written.
        record: for copies between objects, store the source's time with the target.
        move: remove each source after its copy was made, or already existed.
        preserve: keep modes and owners of files; see `copy`.
        tally: the progress.
    """

    workers: int = 8
    skip_unchanged: bool = True
    skip_directories: bool = True
    by_checksum: bool = False
    record: bool = True
    move: bool = False
    preserve: bool = False
    tally: Tally = field(default_factory=Tally)
    _previewed: Listings = field(default_factory=Listings, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise InvalidArgumentError(f"workers must be 1 or more, not {self.workers}")

    async def run(self, jobs: AsyncIterable[Job], on_result: Callable[[Result], object]) -> None:
        """Run all jobs; after a failure, the others are still tried.

        When this is cancelled, copies in progress leave their targets unchanged, and no further copy is begun.

        Args:
            jobs: read while earlier jobs are running.
            on_result: called with each finished job.

        Raises:
            Exception: the exception of ``jobs``, after the jobs before it are done.
        """
        # Only transfers that run need threads.
        from trove_async.drivers.local.pool_size import PoolSize
        from trove_async.drivers.local.workers import Workers

        listings = Listings()
        files = Workers("trove-files", size=PoolSize(1), maximum=64, cleanup_timeout=CLEANUP_TIMEOUT)

        async def counted() -> AsyncIterator[Job]:
            async for job in jobs:
                self.tally.jobs += 1
                self.tally.size += job.size
                yield await self._listed(job, listings)

        async def work(several: Sequence[Job]) -> None:
            for some in _divided(several):
                looks = await files.run(lambda _, some=some: [self._look(job) for job in some])  # type: ignore[misc]
                for job, look in zip(some, looks, strict=True):
                    try:
                        if isinstance(look, OSError):
                            raise look
                        result = Result(job, await self._carry_out(job, look, files.run))
                    except (TroveError, OSError) as error:
                        result = Result(job, Outcome.FAILED, error)
                    self._count(result)
                    on_result(result)

        try:
            await for_each(counted(), work, workers=self.workers, at_once=_AT_ONCE)
        finally:
            await finish(files.aclose(), timeout=CLEANUP_TIMEOUT, leftover="the threads of a transfer")

    async def preview(self, job: Job) -> Outcome:
        """Return the expected outcome of a job, without running it; raise what is known to make it fail.

        It takes fewer requests if jobs are previewed in the order of their targets' keys.
        """
        job = await self._listed(job, self._previewed)
        look = await anyio.to_thread.run_sync(partial(self._look, job, copies=False))
        if isinstance(look, OSError):
            raise look
        outcome = await self._skipped(job, look, await self._describe(job, look))
        if outcome is None:
            await check_target(job.target)
            outcome = Outcome.COPIED
        return outcome

    async def _listed(self, job: Job, listings: Listings) -> Job:
        """Return a job with what a listing says of its target, if that matters."""
        if not self.skip_unchanged or not isinstance(job.target, StoredObject):
            return job
        return Job(job.source, job.target, job.size, job.info, await listings.find(job.target))

    def _look(self, job: Job, *, copies: bool = True) -> Look | OSError | None:
        """Look at the file of a job, in a thread; None if it has none that matters.

        Args:
            job: with what a listing says.
            copies: whether the job is carried out, so that the bytes of a new file are needed.
        """
        try:
            if isinstance(job.source, LocalFile):
                read = (copies and self._is_new(job)) or self._is_proof(job, job.listed and job.listed.info)
                return look_at(job.source.path, read=read)
            if isinstance(job.target, LocalFile) and self.skip_unchanged:
                return look_at(job.target.path, read=self._is_proof(job, job.info))
        except OSError as error:
            return error
        return None

    async def _carry_out(self, job: Job, look: Look | None, hop: Hop) -> Outcome:
        described = await self._describe(job, look)
        outcome = await self._skipped(job, look, described)
        if outcome is None:
            await self._copy(job, look, described, hop)
            outcome = Outcome.COPIED
        if self.move and described is not None and outcome is not Outcome.DIRECTORY:
            await remove(job.source, described)
        return outcome

    async def _describe(self, job: Job, look: Look | None) -> Description | None:
        """Describe the source, if the job needs that."""
        if isinstance(job.source, LocalFile):
            if look is None or look.described is None:
                raise FileNotFoundError(f"{job.source.path!r} does not exist")
            return look.described
        if self.move:
            return await _described(job.source)
        # Listings do not have the metadata that marks a directory; only empty objects can have it.
        if self.skip_directories and job.size == 0 and isinstance(job.source, StoredObject):
            return await describe(job.source)
        return None

    async def _skipped(self, job: Job, look: Look | None, described: Description | None) -> Outcome | None:
        """Return the outcome of a job that needs no copy; None if it needs one."""
        info = None if described is None else described.info
        if self.skip_directories and info is not None and is_directory_marker(info):
            return Outcome.DIRECTORY
        if not self.skip_unchanged:
            return None
        there: Description | None = None
        if isinstance(job.target, LocalFile):
            there, listed = look and look.described, job.info
            if there is None or there.size != job.size:
                return None
        else:
            listed = job.listed and job.listed.info
            if self._is_new(job):
                return None
        if look is not None and listed is not None and look.is_content_of(listed):
            return Outcome.UNCHANGED
        same = await is_unchanged(
            job.source, job.target, by_checksum=self.by_checksum, described=described, there=there
        )
        return Outcome.UNCHANGED if same else None

    def _is_new(self, job: Job) -> bool:
        """Tell whether a copy into a store is certainly made: a listing shows no object of the source's size."""
        if not self.skip_unchanged:
            return True
        return job.listed is not None and (job.listed.info is None or job.listed.info.size != job.size)

    def _is_proof(self, job: Job, listed: ObjectInfo | None) -> bool:
        """Tell whether the ETag of a listed object can prove that it has the bytes of the job's file.

        Not where the attributes of the file matter, and not where the source would be removed after a listing has
        shown a target that may be gone.
        """
        if listed is None or listed.size != job.size or self.by_checksum or self.preserve or self.move:
            return False
        return may_be_md5(listed.etag)

    async def _copy(self, job: Job, look: Look | None, described: Description | None, hop: Hop) -> None:
        moved = 0

        def on_progress(done: int, _size: int | None = None) -> None:
            nonlocal moved
            self.tally.moved += done - moved  # a body that is sent again starts at 0 again
            moved = done

        try:
            await copy(
                job.source,
                job.target,
                described=described,
                record=self.record,
                preserve=self.preserve,
                checksum="sha256" if self.by_checksum else None,
                on_progress=on_progress if job.size > SMALL else None,
                look=look if look is not None and (look.content is not None or job.size > SMALL) else None,
                hop=hop,
            )
        except BaseException:
            on_progress(0)
            raise
        on_progress(job.size)

    def _count(self, result: Result) -> None:
        match result.outcome:
            case Outcome.COPIED:
                self.tally.copied += 1
            case Outcome.UNCHANGED:
                self.tally.unchanged += 1
                self.tally.size -= result.job.size
            case Outcome.DIRECTORY:
                self.tally.directories += 1
            case Outcome.FAILED:
                self.tally.failed += 1
                self.tally.size -= result.job.size


def _divided(jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
    """Divide jobs, so that the files that are read in one hop have few bytes."""
    some: list[Job] = []
    size = 0
    for job in jobs:
        read = job.size if job.size <= SMALL else 0
        if some and size + read > _BYTES_AT_ONCE:
            yield some
            some, size = [], 0
        some.append(job)
        size += read
    yield some


async def _described(source: End) -> Description:
    described = await describe(source)
    if described is None:
        raise FileNotFoundError(f"{str(source)!r} does not exist")
    return described
