"""The methods that write and list objects."""

from __future__ import annotations

from typing import Unpack, overload

from trove_async.body import Body, BodyLike, Progress
from trove_async.cancellation import finish
from trove_async.checksums import Checksum
from trove_async.driver.capabilities import TaggingDriver
from trove_async.driver.memory import spending
from trove_async.driver.options import ListOptions, PutOptions
from trove_async.errors import InvalidArgumentError, TroveError
from trove_async.keys import check_key, check_prefix, content_type_of
from trove_async.listing import Item, ListPage, ObjectIterator
from trove_async.store.arguments import (
    PUT_ARGUMENTS,
    PutArguments,
    check_keywords,
    check_page_size,
    check_progress,
    default_put_options,
    put_options,
)
from trove_async.store.copies import CopyVerbs
from trove_async.types import ObjectInfo
from trove_async.writer import ObjectWriter

__all__ = ["ObjectVerbs"]


class ObjectVerbs(CopyVerbs):
    """Put and list."""

    def _require_write_support(self, operation: str, options: PutOptions) -> None:
        """Refuse options that the store cannot honour; none is dropped silently."""
        self._require_for(options.attributes.tags, TaggingDriver, operation)
        self._require_condition("put_if_match", operation, options.if_match)
        self._require_condition("put_if_none_match", operation, options.if_none_match)

    async def put(
        self,
        bucket: str,
        key: str,
        data: BodyLike,
        **arguments: Unpack[PutArguments],
    ) -> ObjectInfo:
        """Store an object, atomically: readers see the old one or the new one, whole.

        Args:
            bucket: an existing bucket.
            key: 1 to 1,024 bytes of UTF-8 without NUL.
            data: bytes-like, a path, a binary file, an (async) iterable of bytes-like, or an object
                with an async ``read`` or ``read_chunk``, such as Starlette's ``UploadFile`` and aiohttp's
                ``BodyPartReader``. What is not in memory is read in chunks; sync sources are read off the
                loop. A file that you pass stays open.
            content_type: default: what the key's extension stands for, else ``application/octet-stream``.
            metadata: names are case-insensitive and become lower case.
            tags: at most 10.
            storage_class: one of the backend's; default: the store's, else the backend's.
            cache_control, content_disposition, content_encoding, content_language: stored as given.
            if_match: replace only the object that has this ETag.
            if_none_match: ``"*"`` creates an object and never replaces one; an ETag replaces any object but that one.
            checksum: ``"sha256"`` computes and stores one; ``"sha256:HEX"`` compares it too.
            size: the number of bytes; a body of another length is an error.
            on_progress: called with the bytes taken so far and the size (None if unknown).

        Raises:
            BucketNotFoundError: the bucket does not exist.
            ObjectAlreadyExistsError: ``if_none_match="*"`` and the object exists.
            PreconditionFailedError: another condition does not hold.
            BodySizeError, ChecksumError: the body is not what was declared.
            UnsupportedError: the store cannot honour a condition; nothing was read or sent.
            Exception: an exception of the body's source passes unchanged.

        Whatever is raised, the old object stays, unless the error has ``ambiguous=True``.
        """
        self._check("put", bucket, key)
        if not arguments:
            options, size, on_progress = default_put_options(content_type_of(key)), None, None
        else:
            check_keywords("put", arguments, PUT_ARGUMENTS)
            size, on_progress = arguments.get("size"), arguments.get("on_progress")
            with self._locating("put", bucket, key):
                options = put_options(key, arguments, self._features.limits)
                self._require_write_support("put", options)
        try:
            body = self._body(data, options.checksum, size, on_progress)
            if body.buffer is not None:
                return await self._driver.put(bucket, key, body, options)
            try:
                await body.prepare()
                with spending(self._memory):
                    return await self._driver.put(bucket, key, body, options)
            finally:
                await self._close_body(body)
        except TroveError as error:
            error.locate("put", bucket, key, self._name)
            raise

    def _body(self, data: BodyLike, checksum: Checksum | None, size: int | None, on_progress: Progress | None) -> Body:
        if size is not None and (not isinstance(size, int) or size < 0):
            raise InvalidArgumentError(f"size must be a whole number of 0 or more, not {size!r}")
        check_progress(on_progress)
        return Body(data, size=size, checksum=checksum, on_progress=on_progress, cleanup_timeout=self._cleanup_timeout)

    async def _close_body(self, body: Body) -> None:
        await finish(body.aclose(), timeout=self._cleanup_timeout, leftover="the source of a body")

    @overload
    def list(
        self,
        bucket: str,
        prefix: str = "",
        *,
        delimiter: None = None,
        max_keys: int | None = None,
        page_size: int = 1000,
        cursor: str | None = None,
        start_after: str | None = None,
    ) -> ObjectIterator[ObjectInfo]: ...

    @overload
    def list(
        self,
        bucket: str,
        prefix: str = "",
        *,
        delimiter: str,
        max_keys: int | None = None,
        page_size: int = 1000,
        cursor: str | None = None,
        start_after: str | None = None,
    ) -> ObjectIterator[Item]: ...

    def list(
        self,
        bucket: str,
        prefix: str = "",
        *,
        delimiter: str | None = None,
        max_keys: int | None = None,
        page_size: int = 1000,
        cursor: str | None = None,
        start_after: str | None = None,
    ) -> ObjectIterator[ObjectInfo] | ObjectIterator[Item]:
        """List a bucket: ``async for item in t.list(…)``, in the order of the keys' UTF-8 bytes.

        Args:
            bucket: an existing bucket.
            prefix: only keys that begin with it; a string, not a path: ``foo`` matches ``foobar``.
            delimiter: group the keys that have it behind the prefix; the groups come as `Prefix` among the objects.
            max_keys: the maximum number of items to yield.
            page_size: the number of items per request, 1 to 1,000; a hint.
            cursor: continue at an `ObjectIterator.cursor`, for the same bucket, prefix and delimiter.
            start_after: only keys that sort after it.

        Raises:
            InvalidCursorError: at once; the cursor is malformed or of another listing.
            BucketNotFoundError: at the first step.
        """
        self._check("list", bucket)
        with self._locating("list", bucket):
            check_prefix(prefix)
            if start_after is not None:
                check_prefix(start_after)
            if delimiter is not None:
                check_key(delimiter)
            if max_keys is not None and (not isinstance(max_keys, int) or max_keys < 0):
                raise InvalidArgumentError(f"max_keys must be a whole number of 0 or more, not {max_keys!r}")
            check_page_size(page_size)

        async def fetch(page: str | None) -> ListPage:
            self._check_usable()
            options = ListOptions(
                prefix=prefix,
                delimiter=delimiter,
                start_after=iterator.start_after,
                page_size=page_size if max_keys is None else max(1, min(page_size, max_keys)),
                cursor=page,
            )
            return await self._run("list", bucket, None, self._driver.list_page(bucket, options))

        with self._locating("list", bucket):
            iterator: ObjectIterator[Item] = ObjectIterator(
                fetch,
                bucket=bucket,
                prefix=prefix,
                delimiter=delimiter,
                max_keys=max_keys,
                cursor=cursor,
                start_after=start_after,
            )
        return iterator

    def writer(self, bucket: str, key: str, **arguments: Unpack[PutArguments]) -> ObjectWriter:
        """Write an object bit by bit: ``async with t.writer(…) as w: await w.write(…)``.

        A clean exit commits, any other aborts and leaves the old object. Keyword arguments and errors
        are those of `put`.
        """
        self._check("writer", bucket, key)
        check_keywords("writer", arguments, PUT_ARGUMENTS)
        writer = ObjectWriter(
            lambda chunks: self.put(bucket, key, chunks, **arguments),
            cleanup_timeout=self._cleanup_timeout,
            what=f"the writer of {bucket}/{key}",
        )
        self._writers.add(writer)
        return writer
