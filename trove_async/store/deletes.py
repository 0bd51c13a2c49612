"""The methods that delete objects and versions."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Sequence
from functools import partial
from typing import Any, cast

import anyio

from trove_async.driver.capabilities import BulkDeleteDriver, VersioningDriver
from trove_async.driver.options import DeleteOptions
from trove_async.errors import BucketNotFoundError, InvalidArgumentError, TroveError
from trove_async.store.arguments import plain_etag
from trove_async.store.bulk import BulkDelete, Target
from trove_async.store.reads import ReadVerbs
from trove_async.types import DeleteResult, VersionInfo

__all__ = ["DeleteVerbs"]

_DELETE = DeleteOptions()
_REQUESTS = 16
"""How many deletions of one `BulkDelete` run at once, where the backend deletes one by one."""


class DeleteVerbs(ReadVerbs):
    """Delete objects and versions, one or many."""

    async def delete(
        self, bucket: str, key: str, *, version_id: str | None = None, if_match: str | None = None
    ) -> None:
        """Delete an object; success if it does not exist.

        In a bucket that keeps versions this leaves a delete marker; with ``version_id`` it deletes that
        version permanently.

        Raises:
            BucketNotFoundError: the bucket does not exist.
            PreconditionFailedError: the object has another ETag than ``if_match``, or does not exist.
        """
        self._check("delete", bucket, key)
        options = _DELETE
        if version_id is not None or if_match is not None:
            with self._locating("delete", bucket, key):
                options = DeleteOptions(version_id=version_id, if_match=plain_etag(if_match))
        self._require_condition("delete", "delete", if_match)
        self._require_for(version_id, VersioningDriver, "delete")
        await self._run("delete", bucket, key, self._driver.delete(bucket, key, options))

    def delete_many(
        self, bucket: str, keys: Iterable[Target] | AsyncIterable[Target], *, raise_errors: bool = True
    ) -> BulkDelete:
        """Delete many objects: await it for their number, or ``async for`` over a `DeleteResult` for each.

        Every key is tried; missing objects count as deleted.

        Args:
            bucket: an existing bucket.
            keys: any number, also from an async generator. A `VersionInfo` among them is a version or delete marker,
                which is deleted permanently.
            raise_errors: raise at the end if a key failed; False to look at the results alone.

        Raises (at the end):
            BulkError: with ``failed`` and ``deleted_count``.
        """
        self._check("delete_many", bucket)
        if isinstance(keys, str):
            raise InvalidArgumentError(
                "keys is one str; give a list of keys", operation="delete_many", bucket=bucket, driver=self._name
            )
        return self._bulk_delete("delete_many", bucket, keys, raise_errors)

    def _bulk_delete(
        self, operation: str, bucket: str, targets: Iterable[Target] | AsyncIterable[Target], raise_errors: bool
    ) -> BulkDelete:
        return BulkDelete(
            partial(self._delete_chunk, operation, bucket),
            targets,
            chunk_size=self._features.limits.max_bulk_delete,
            raise_errors=raise_errors,
            operation=operation,
            bucket=bucket,
            driver=self._name,
        )

    async def _delete_chunk(self, operation: str, bucket: str, targets: Sequence[Target]) -> Sequence[DeleteResult]:
        self._check_usable()
        results: dict[int, DeleteResult] = {}
        keys: dict[int, Target] = {}
        older: dict[int, Target] = {}
        latest: dict[int, Target] = {}
        for position, target in enumerate(targets):
            try:
                self._check_names(operation, bucket, _key_of(target))
            except TroveError as error:
                results[position] = _result(target, error)
                continue
            if isinstance(target, VersionInfo):
                self._require(VersioningDriver, operation)
                (latest if target.is_latest else older)[position] = target
            else:
                keys[position] = target
        # The latest version of a key is deleted last: otherwise an older one would become the object for a moment.
        for delete, chosen in ((self._delete_keys, keys), (self._delete_each, older), (self._delete_each, latest)):
            if chosen:
                results.update(
                    zip(
                        chosen,
                        await self._run(operation, bucket, None, delete(bucket, [*chosen.values()])),
                        strict=True,
                    )
                )
        for result in results.values():
            if result.error is not None:
                result.error.locate(operation, bucket, result.key, self._name)
        return [results[position] for position in range(len(targets))]

    async def _delete_keys(self, bucket: str, keys: Sequence[Target]) -> Sequence[DeleteResult]:
        if self.supports(BulkDeleteDriver):
            driver: Any = self._driver
            return cast("Sequence[DeleteResult]", await driver.delete_many(bucket, keys))
        return await self._delete_each(bucket, keys)

    async def _delete_each(self, bucket: str, targets: Sequence[Target]) -> Sequence[DeleteResult]:
        results: dict[int, DeleteResult] = {}
        limiter = anyio.CapacityLimiter(_REQUESTS)

        async def delete(position: int, target: Target) -> None:
            options = DeleteOptions(version_id=target.version_id) if isinstance(target, VersionInfo) else _DELETE
            async with limiter:
                try:
                    await self._driver.delete(bucket, _key_of(target), options)
                    results[position] = _result(target)
                except TroveError as error:
                    results[position] = _result(target, error)

        async with anyio.create_task_group() as group:
            for position, target in enumerate(targets):
                group.start_soon(delete, position, target)
        missing = results[0].error
        if isinstance(missing, BucketNotFoundError):
            raise missing
        return [results[position] for position in range(len(targets))]


def _key_of(target: Target) -> str:
    return target.key if isinstance(target, VersionInfo) else target


def _result(target: Target, error: TroveError | None = None) -> DeleteResult:
    return DeleteResult(_key_of(target), error, target.version_id if isinstance(target, VersionInfo) else None)
