"""Deleting many objects."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable, Sequence

from trove_async.errors import BulkError
from trove_async.types import DeleteResult

__all__ = ["BulkDelete"]

DeleteChunk = Callable[[Sequence[str]], Awaitable[Sequence[DeleteResult]]]


class BulkDelete:
    """What ``delete_many`` returns: await it for the number of deletions, or iterate over the results.

    Every key is tried, in chunks, whatever becomes of the others. Nothing happens before it is
    awaited or iterated over.
    """

    def __init__(
        self,
        delete: DeleteChunk,
        keys: Iterable[str] | AsyncIterable[str],
        *,
        chunk_size: int,
        raise_errors: bool,
        bucket: str,
        driver: str,
    ) -> None:
        self._delete = delete
        self._keys = keys
        self._chunk_size = chunk_size
        self._raise_errors = raise_errors
        self._bucket = bucket
        self._driver = driver

    def __await__(self) -> Generator[object, None, int]:
        return self._run().__await__()

    async def _run(self) -> int:
        deleted = 0
        async for result in self:
            deleted += result.error is None
        return deleted

    async def __aiter__(self) -> AsyncIterator[DeleteResult]:
        failed: list[DeleteResult] = []
        deleted = 0
        async for chunk in self._chunks():
            for result in await self._delete(chunk):
                if result.error is None:
                    deleted += 1
                else:
                    failed.append(result)
                yield result
        if failed and self._raise_errors:
            raise BulkError(
                f"{len(failed)} of {len(failed) + deleted} objects were not deleted; the first: "
                f"{failed[0].key!r}: {failed[0].error}",
                failed=failed,
                deleted_count=deleted,
                operation="delete_many",
                bucket=self._bucket,
                driver=self._driver,
            ) from failed[0].error

    async def _chunks(self) -> AsyncIterator[list[str]]:
        chunk: list[str] = []
        async for key in _each(self._keys):
            chunk.append(key)
            if len(chunk) >= self._chunk_size:
                yield chunk
                chunk = []
        if chunk:
            yield chunk


async def _each(keys: Iterable[str] | AsyncIterable[str]) -> AsyncIterator[str]:
    if isinstance(keys, AsyncIterable):
        async for key in keys:
            yield key
    else:
        for key in keys:
            yield key
