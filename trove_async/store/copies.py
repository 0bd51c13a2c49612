"""The methods that copy and move objects."""

from __future__ import annotations

from typing import Unpack

from trove_async.body import Progress
from trove_async.driver.capabilities import TaggingDriver, VersioningDriver
from trove_async.driver.copy_errors import CopyEnd, raise_failure
from trove_async.driver.copying import copy_object
from trove_async.driver.memory import spending
from trove_async.driver.options import CopyOptions, DeleteOptions, HeadOptions
from trove_async.errors import CopyPhase, PreconditionFailedError, TroveError
from trove_async.store.arguments import COPY_ARGUMENTS, CopyArguments, check_keywords, copy_options
from trove_async.store.deletes import DeleteVerbs
from trove_async.types import ObjectInfo

__all__ = ["CopyVerbs", "copy_between"]

_HEAD = HeadOptions()
_DELETE = DeleteOptions()
_COPY = CopyOptions()


class CopyVerbs(DeleteVerbs):
    """Copy and move within the store."""

    async def copy(
        self,
        src_bucket: str,
        src_key: str,
        dst_bucket: str,
        dst_key: str,
        **arguments: Unpack[CopyArguments],
    ) -> ObjectInfo:
        """Copy an object within the store, as atomically as a put; also onto itself.

        What the backend cannot copy by itself is read and written, in bounded memory.

        Args:
            src_bucket, src_key: the source.
            dst_bucket, dst_key: the destination.
            replace: False copies content type, metadata, tags and everything else that describes the source.
                True takes all of it from the arguments, as `put` does.
            content_type, metadata, tags, storage_class, cache_control, content_disposition, content_encoding,
            content_language: as for `put`; only with ``replace=True``.
            source_version_id: copy this version.
            source_if_match: copy only the source that has this ETag.
            if_match, if_none_match: conditions on the destination, as for `put`.

        Raises:
            ObjectNotFoundError: the source does not exist; it is named.
            PreconditionFailedError, ObjectAlreadyExistsError: a condition does not hold.
            ObjectChangedError: the source was replaced meanwhile.
            CopyError: what no other class describes; ``copy_phase`` of each error says which end failed.
        """
        self._check("copy", src_bucket, src_key)
        self._check_names("copy", dst_bucket, dst_key)
        options = _COPY
        if arguments:
            check_keywords("copy", arguments, COPY_ARGUMENTS)
            with self._locating("copy", dst_bucket, dst_key):
                options = copy_options(dst_key, arguments, self._features.limits)
                for value in (options.source_if_match, options.if_match, options.if_none_match):
                    self._require_condition("copy", "copy", value)
                self._require_for(options.source_version_id, VersioningDriver, "copy")
                if options.replace is not None:
                    self._require_for(options.replace.tags, TaggingDriver, "copy")
        return await self._copy("copy", (src_bucket, src_key), (dst_bucket, dst_key), options)

    async def _copy(
        self, operation: str, source: tuple[str, str], target: tuple[str, str], options: CopyOptions
    ) -> ObjectInfo:
        with spending(self._memory):
            return await copy_object(
                CopyEnd(self._driver, *source),
                CopyEnd(self._driver, *target),
                options,
                operation=operation,
                on_open=lambda reader: self._adopt(reader, operation, *source, options.source_version_id),
                cleanup_timeout=self._cleanup_timeout,
            )

    async def move(self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str) -> ObjectInfo:
        """Copy an object and delete the source; a move onto itself changes nothing.

        The destination is written atomically; only then is the source deleted, and only if it is
        still the object that was copied. If anything fails, the source is still there.

        Raises:
            ObjectNotFoundError: the source does not exist.
            PreconditionFailedError: the source was replaced meanwhile; both objects exist.
            TroveError: as for `copy`; ``copy_phase`` is None if only the deletion failed.
        """
        self._check("move", src_bucket, src_key)
        self._check_names("move", dst_bucket, dst_key)
        try:
            source = await self._driver.head(src_bucket, src_key, _HEAD)
        except TroveError as error:
            raise_failure(error, CopyPhase.READ, CopyEnd(self._driver, src_bucket, src_key), "move")
        if (src_bucket, src_key) == (dst_bucket, dst_key):
            return source
        copy = CopyOptions(source_if_match=source.etag) if "copy" in self._features.conditions else _COPY
        info = await self._copy("move", (src_bucket, src_key), (dst_bucket, dst_key), copy)
        await self._delete_copied("move", src_bucket, src_key, source)
        return info

    async def _delete_copied(self, operation: str, bucket: str, key: str, copied: ObjectInfo) -> None:
        """Delete the source of a move if it is still the object that was copied."""
        self._check_usable()
        if "delete" in self._features.conditions:
            options = DeleteOptions(if_match=copied.etag)
        else:
            options = _DELETE
            found = await self._run(operation, bucket, key, self._driver.head(bucket, key, _HEAD))
            if found.etag != copied.etag:
                message = "the source was replaced while it was moved; it was copied but not removed"
                raise PreconditionFailedError(message, operation=operation, bucket=bucket, key=key, driver=self._name)
        await self._run(operation, bucket, key, self._driver.delete(bucket, key, options))


async def copy_between(
    source: CopyVerbs,
    src_bucket: str,
    src_key: str,
    target: CopyVerbs,
    dst_bucket: str,
    dst_key: str,
    options: CopyOptions,
    *,
    checksum: str | None = None,
    on_progress: Progress | None = None,
) -> ObjectInfo:
    """Copy an object from one store to another; arguments and errors are those of `copy_object`.

    Both stores have to be open, in the running loop, and able to hold the names.
    """
    source._check("copy", src_bucket, src_key)
    target._check("copy", dst_bucket, dst_key)
    with spending(target._memory):
        return await copy_object(
            CopyEnd(source._driver, src_bucket, src_key),
            CopyEnd(target._driver, dst_bucket, dst_key),
            options,
            checksum=checksum,
            on_progress=on_progress,
            on_open=lambda reader: source._adopt(reader, "copy", src_bucket, src_key, options.source_version_id),
            cleanup_timeout=target._cleanup_timeout,
        )
