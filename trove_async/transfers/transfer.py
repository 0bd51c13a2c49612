"""Many concurrent copies, which may be interrupted at any moment and run again."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from trove_async.errors import InvalidArgumentError, TroveError
from trove_async.transfers.copying import check_target, copy, remove
from trove_async.transfers.ends import Description, End, StoredObject, describe, is_directory_marker
from trove_async.transfers.listed import Listed, Listings
from trove_async.transfers.parallel import for_each
from trove_async.transfers.unchanged import is_unchanged

__all__ = ["Job", "Outcome", "Result", "Tally", "Transfer"]


@dataclass(frozen=True, slots=True)
class Job:
    """One copy.

    Attributes:
        source, target: its ends.
        size: the expected number of bytes.
        listed: what a listing says of the target; None if none was asked.
    """

    source: End
    target: End
    size: int
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
        skip_unchanged: skip sources that were copied before and have not changed; see `is_unchanged`.
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
        listings = Listings()

        async def counted() -> AsyncIterator[Job]:
            async for job in jobs:
                self.tally.jobs += 1
                self.tally.size += job.size
                if self.skip_unchanged and isinstance(job.target, StoredObject):
                    job = replace(job, listed=await listings.find(job.target))
                yield job

        async def work(job: Job) -> None:
            try:
                result = Result(job, await self._carry_out(job))
            except (TroveError, OSError) as error:
                result = Result(job, Outcome.FAILED, error)
            self._count(result)
            on_result(result)

        await for_each(counted(), work, workers=self.workers)

    async def preview(self, job: Job) -> Outcome:
        """Return the expected outcome of a job, without running it; raise what is known to make it fail."""
        outcome = await self._skipped(job, await self._describe(job))
        if outcome is None:
            await check_target(job.target)
            outcome = Outcome.COPIED
        return outcome

    async def _carry_out(self, job: Job) -> Outcome:
        described = await self._describe(job)
        outcome = await self._skipped(job, described)
        if outcome is None:
            await self._copy(job, described)
            outcome = Outcome.COPIED
        if self.move and described is not None and outcome is not Outcome.DIRECTORY:
            await remove(job.source, described)
        return outcome

    async def _describe(self, job: Job) -> Description | None:
        """Describe the source, if the job needs that."""
        if self.move:
            return await _described(job.source)
        # Listings do not have the metadata that marks a directory; only empty objects can have it.
        if self.skip_directories and job.size == 0 and isinstance(job.source, StoredObject):
            return await describe(job.source)
        return None

    async def _skipped(self, job: Job, described: Description | None) -> Outcome | None:
        """Return the outcome of a job that needs no copy; None if it needs one."""
        info = None if described is None else described.info
        if self.skip_directories and info is not None and is_directory_marker(info):
            return Outcome.DIRECTORY
        if not self.skip_unchanged or self._is_new(job):
            return None
        same = await is_unchanged(job.source, job.target, by_checksum=self.by_checksum, described=described)
        return Outcome.UNCHANGED if same else None

    def _is_new(self, job: Job) -> bool:
        """Tell whether a listing shows that the target is no copy of the source: it is missing, or of another size."""
        return job.listed is not None and (job.listed.info is None or job.listed.info.size != job.size)

    async def _copy(self, job: Job, described: Description | None) -> None:
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
                on_progress=on_progress,
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


async def _described(source: End) -> Description:
    described = await describe(source)
    if described is None:
        raise FileNotFoundError(f"{str(source)!r} does not exist")
    return described
