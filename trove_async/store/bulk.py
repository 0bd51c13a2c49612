"""Deleting many objects or versions."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable, Sequence

from trove_async.errors import BulkError
from trove_async.types import DeleteResult, VersionInfo

__all__ = ["BulkDelete", "Target"]

Target = str | VersionInfo
"""What is deleted: the object of a key, or a version."""

DeleteChunk = Callable[[Sequence[Target]], Awaitable[Sequence[DeleteResult]]]


class BulkDelete:
    """What ``delete_many`` and ``empty_bucket`` return: await it for the number of deletions, or iterate over results.

    Every key is tried, in chunks, whatever becomes of the others. Nothing happens before it is
    awaited or iterated over.
    """

    def __init__(
        self,
        delete: DeleteChunk,
        keys: Iterable[Target] | AsyncIterable[Target],
        *,
        chunk_size: int,
        raise_errors: bool,
        operation: str,
        bucket: str,
        driver: str,
    ) -> None:
        self._delete = delete
        self._keys = keys
        self._chunk_size = chunk_size
        self._raise_errors = raise_errors
        self._operation = operation
        self._bucket = bucket
        self._driver = driver

    def __await__(self) -> Generator[object, None, int]:
        return self._run().__await__()

    async def _run(self) -> int:
        deleted = 0
        async for results in self._results():
            deleted += sum(result.error is None for result in results)
        return deleted

    async def __aiter__(self) -> AsyncIterator[DeleteResult]:
        async for results in self._results():
            for result in results:
                yield result

    async def _results(self) -> AsyncIterator[Sequence[DeleteResult]]:
        """Yield the results in lists, each of one request or a few."""
        failed: list[DeleteResult] = []
        tried = 0
        async for chunk in self._chunks_of_keys():
            results = await self._delete(chunk)
            failed += [result for result in results if result.error is not None]
            tried += len(results)
            yield results
        if failed and self._raise_errors:
            raise BulkError(
                f"{len(failed)} of {tried} objects were not deleted; the first: {failed[0].key!r}: {failed[0].error}",
                failed=failed,
                deleted_count=tried - len(failed),
                operation=self._operation,
                bucket=self._bucket,
                driver=self._driver,
            ) from failed[0].error

    async def _chunks_of_keys(self) -> AsyncIterator[list[Target]]:
        chunk: list[Target] = []
        async for key in _each(self._keys):
            chunk.append(key)
            if len(chunk) >= self._chunk_size:
                yield chunk
                chunk = []
        if chunk:
            yield chunk


async def _each(keys: Iterable[Target] | AsyncIterable[Target]) -> AsyncIterator[Target]:
    if isinstance(keys, AsyncIterable):
        async for key in keys:
            yield key
    else:
        for key in keys:
            yield key
