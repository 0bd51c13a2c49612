"""The verbs for objects that take one request: get, head, delete; and the pages of a listing.

Objects are read through the XML API: its one answer has the bytes and all that describes them, of one generation. The
JSON API leaves custom metadata out of a download, so that it would take two requests, which may see two objects
(https://pkg.go.dev/cloud.google.com/go/storage#Reader.Metadata says the same of Google's own library).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from trove_async.driver import DeleteOptions, GetOptions, HeadOptions, ListOptions, check_read
from trove_async.drivers.gcs.batch import Batch
from trove_async.drivers.gcs.checksums import VerifiedStream, crc32c_in, extend, mismatch
from trove_async.drivers.gcs.client import Client, Query, bucket_path, resource_path
from trove_async.drivers.gcs.conditions import write_query
from trove_async.drivers.gcs.resources import (
    FIELDS,
    LISTED,
    info_of_headers,
    info_of_resource,
    is_generation,
)
from trove_async.drivers.gcs.settings import GCSSettings
from trove_async.errors import (
    BackendError,
    NotModifiedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    TransientError,
    VersionNotFoundError,
)
from trove_async.listing import ListPage
from trove_async.ranges import ByteRange
from trove_async.reader import ObjectReader
from trove_async.types import DeleteResult, ObjectInfo, Prefix
from trove_async.wire.client import Headers
from trove_async.wire.fields import content_range, http_date, required
from trove_async.wire.stream import ResponseStream, skip
from trove_async.wire.transport import Response

__all__ = ["Objects"]

_PAGE: Final = 1000
_BATCH: Final = 100
"""Calls in one request of the batch endpoint: https://cloud.google.com/storage/docs/batch."""
_LONGEST_NAME: Final = 1024
_ATTEMPTS: Final = 10
_DESCRIBED: Final = ("fields", FIELDS)
_PAGED: Final = ("fields", f"nextPageToken,prefixes,items({LISTED})")


class Objects:
    """Single requests about objects.

    Args:
        client: sends them.
        settings: of the store.
    """

    def __init__(self, client: Client, settings: GCSSettings) -> None:
        self._client = client
        self._settings = settings

    # Reading

    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        """Open an object."""
        self._check_version(options.version_id, key)
        if options.if_none_match is not None or not _plain_match(options.if_match):
            # The XML API knows no such condition on a generation. What is got afterwards is decided about anew.
            await self.head(bucket, key, options)
        response, known = await self._get(bucket, key, options, options.range)
        try:
            info, start, stop = self._describe(key, options.range, response, known)
            check_read(info, options)
            content = response.content
            whole = start == 0 and stop == info.size
            expected = crc32c_in(response.headers.get("x-goog-hash")) if whole and self._settings.verify_reads else None
            if content is not None and (whole or response.status == 206):
                if expected is not None and (actual := extend(0, (content,))) != expected:
                    raise mismatch(key, expected, actual)
                return ObjectReader(info, content, start=start, stop=stop)
            if response.status == 200:
                await skip(response, start)
        except BaseException:
            response.abort()
            raise

        async def reopen(offset: int) -> Response:
            return await self._resume(bucket, info, offset, stop)

        if expected is not None:
            stream: ResponseStream = VerifiedStream(response, stop, reopen=reopen, key=key, expected=expected)
        else:
            stream = ResponseStream(response, start, stop, reopen=reopen)
        return ObjectReader(info, stream, start=start, stop=stop)

    async def _resume(self, bucket: str, info: ObjectInfo, offset: int, stop: int) -> Response:
        """Ask for the same generation from an offset on, which may be noncurrent by now."""
        wanted = ByteRange(offset, stop - offset)
        try:
            response, known = await self._get(bucket, info.key, GetOptions(version_id=info.etag), wanted)
        except VersionNotFoundError as error:
            raise PreconditionFailedError("the object was replaced or deleted meanwhile") from error
        try:
            found, start, _ = self._describe(info.key, wanted, response, known)
            if found.etag != info.etag:
                raise PreconditionFailedError("the object was replaced meanwhile", status=response.status)
            if start != wanted.offset:
                raise BackendError(f"the answer begins at {start}, asked for were the bytes from {wanted.offset} on")
            if response.status == 200:
                await skip(response, start)
        except BaseException:
            response.abort()
            raise
        return response

    async def _get(
        self, bucket: str, key: str, options: GetOptions, wanted: ByteRange | None
    ) -> tuple[Response, ObjectInfo | None]:
        """Ask for an object; return the answer, and what is known of the object where its headers do not tell."""
        # Who takes gzip gets what is stored, as it is stored: https://cloud.google.com/storage/docs/transcoding.
        headers: Headers = [("accept-encoding", "gzip")]
        if wanted is not None:
            headers.append(("range", wanted.header()))
        if self._settings.api == "json":
            return await self._get_media(bucket, key, options, headers)
        if options.if_match is not None and options.if_match != "*":
            headers.append(("x-goog-if-generation-match", options.if_match))
        if options.if_modified_since is not None and options.if_none_match is None:
            headers.append(("if-modified-since", http_date(options.if_modified_since)))
        if options.if_unmodified_since is not None and options.if_match is None:
            headers.append(("if-unmodified-since", http_date(options.if_unmodified_since)))
        query = "" if options.version_id is None else f"generation={options.version_id}"
        try:
            return await self._client.xml("GET", bucket, key, query=query, headers=headers), None
        except ObjectNotFoundError as error:
            raise _missing(error, options.version_id) from error

    async def _get_media(
        self, bucket: str, key: str, options: GetOptions, headers: Headers
    ) -> tuple[Response, ObjectInfo]:
        """Ask the JSON API for the description, and then for the bytes of that very generation.

        If it is gone by then, another one is described.
        """
        attempts = _ATTEMPTS
        while True:
            info = await self.head(bucket, key, options)
            if options.range is not None:
                options.range.resolve(info.size)
            try:
                return await self._client.media(bucket, key, [("generation", info.etag)], headers), info
            except ObjectNotFoundError as error:
                attempts -= 1
                if not attempts:
                    raise TransientError("the object is replaced faster than it can be read", key=key) from error

    def _describe(
        self, key: str, wanted: ByteRange | None, response: Response, known: ObjectInfo | None
    ) -> tuple[ObjectInfo, int, int]:
        """Return what was got: the object, and the offsets between which its bytes follow."""
        headers = response.headers
        if response.status == 206:
            start, stop, size = content_range(required(headers, "content-range", "Cloud Storage"))
            return known or info_of_headers(key, size, headers), start, stop
        length = response.length if response.content is None else len(response.content)
        stored = headers.get("x-goog-stored-content-length")
        if length is None or (stored is not None and stored != str(length)):
            raise BackendError(
                f"the object has {stored} bytes, and what came is of {'unknown' if length is None else length}: "
                "something on the way changes what is stored"
            )
        info = known or info_of_headers(key, length, headers)
        return (info, 0, length) if wanted is None else (info, *wanted.resolve(length))

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        """Describe an object."""
        info = info_of_resource(key, await self.resource(bucket, key, options.version_id, _DESCRIBED))
        check_read(info, options)
        return info

    async def resource(
        self, bucket: str, key: str, version_id: str | None = None, fields: tuple[str, str] | None = None
    ) -> Mapping[str, Any]:
        """Return the resource of an object, as the JSON API describes it.

        Raises:
            ObjectNotFoundError, VersionNotFoundError: it does not exist.
        """
        self._check_version(version_id, key)
        query: Query = [] if fields is None else [fields]
        if version_id is not None:
            query.append(("generation", version_id))
        try:
            found = await self._client.json("GET", resource_path(bucket, key), bucket, key, query=query)
        except ObjectNotFoundError as error:
            raise _missing(error, version_id) from error
        return _resource(found)

    async def etag(self, bucket: str, key: str) -> str | None:
        """Return the ETag of an object; None if there is none."""
        try:
            found = await self.resource(bucket, key, None, ("fields", "generation"))
        except ObjectNotFoundError:
            return None
        return str(found.get("generation"))

    @staticmethod
    def _check_version(version_id: str | None, key: str) -> None:
        if version_id is not None and not is_generation(version_id):
            raise VersionNotFoundError(f"no object has the version {version_id!r}: it is the number of a generation")

    # Deleting

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Delete an object, or a version."""
        if options.version_id is not None and not is_generation(options.version_id):
            return  # there can be none
        query = write_query(options.if_match, None)
        if options.version_id is not None:
            query.append(("generation", options.version_id))
        try:
            await self._client.json("DELETE", resource_path(bucket, key), bucket, key, query=query, writes=True)
        except ObjectNotFoundError:
            if options.if_match is not None:
                raise PreconditionFailedError(f"if_match is {options.if_match!r} and there is no object") from None
        except NotModifiedError as error:
            raise PreconditionFailedError(error.message, status=error.status) from error

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> Sequence[DeleteResult]:
        """Delete objects, a hundred in each request."""
        results: dict[str, DeleteResult] = {}
        distinct = list(dict.fromkeys(keys))
        batch = Batch(self._client, bucket, lambda key: self.delete(bucket, key, DeleteOptions()))
        for start in range(0, len(distinct), _BATCH):
            results.update(await batch.delete(distinct[start : start + _BATCH]))
        return [results[key] for key in keys]

    # Listing

    async def list_page(self, bucket: str, options: ListOptions) -> ListPage:
        """Return a page of a listing."""
        query: Query = [_PAGED, ("maxResults", str(min(options.page_size, _PAGE)))]
        if options.prefix:
            query.append(("prefix", options.prefix))
        if options.delimiter is not None:
            query.append(("delimiter", options.delimiter))
        if options.cursor is not None:
            query.append(("pageToken", options.cursor))
        if options.start_after is not None:
            query.append(("startOffset", _following(options.start_after)))
        found = _resource(await self._client.json("GET", f"{bucket_path(bucket)}/o", bucket, query=query))
        try:
            objects = [info_of_resource(item["name"], item) for item in found.get("items", ())]
            prefixes = [Prefix(prefix) for prefix in found.get("prefixes", ())]
        except (LookupError, TypeError) as error:
            raise BackendError(f"the answer to a listing has an object without a name: {error!r}") from error
        cursor = found.get("nextPageToken") or None
        if cursor is not None and cursor == options.cursor:
            raise BackendError("the service answers with the same page again and again")
        return ListPage(objects, prefixes, cursor)


def _plain_match(if_match: str | None) -> bool:
    return if_match in (None, "*") or is_generation(str(if_match))


def _missing(error: ObjectNotFoundError, version_id: str | None) -> ObjectNotFoundError | VersionNotFoundError:
    if version_id is None:
        return error
    return VersionNotFoundError(status=error.status, request_id=error.request_id)


def _resource(found: Any) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise BackendError("the answer is not what Cloud Storage would say: is the endpoint Cloud Storage?")
    return found


def _following(key: str) -> str:
    """Return the least name of an object that sorts after a key; names hold no NUL."""
    if len(key.encode()) < _LONGEST_NAME:
        return f"{key}\x01"
    # No name is longer, so that none that sorts after it begins with it.
    last = ord(key[-1])
    if last == 0x10FFFF:
        return f"{key}\x01"
    return key[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)
