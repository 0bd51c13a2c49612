"""The verbs for objects that take one request: get, head, put, delete; and the pages of a listing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from trove_async.body import Body, Chunk
from trove_async.checksums import Checksum
from trove_async.driver import (
    CompleteOptions,
    DeleteOptions,
    GetOptions,
    HeadOptions,
    ListOptions,
    ObjectAttributes,
    PutOptions,
    check_read,
)
from trove_async.drivers.s3.client import Client, Headers
from trove_async.drivers.s3.errors import error_of
from trove_async.drivers.s3.headers import (
    description_headers,
    info_of,
    object_headers,
    version_of,
)
from trove_async.drivers.s3.integrity import checksum_headers, document_headers
from trove_async.drivers.s3.pages import parse_page
from trove_async.drivers.s3.profiles import Profile
from trove_async.drivers.s3.settings import S3Settings
from trove_async.errors import (
    BackendError,
    BucketNotFoundError,
    InvalidMetadataError,
    NotFoundError,
    ObjectAlreadyExistsError,
    ObjectNotFoundError,
    PreconditionFailedError,
    TroveError,
    UnsupportedError,
    VersionNotFoundError,
)
from trove_async.listing import ListPage
from trove_async.ranges import ByteRange
from trove_async.reader import ObjectReader
from trove_async.types import EMPTY, DeleteResult, ObjectInfo
from trove_async.wire.fields import condition_headers, content_range, etag_of, write_conditions
from trove_async.wire.sigv4 import encode_query
from trove_async.wire.stream import ResponseStream, skip
from trove_async.wire.transport import Response
from trove_async.wire.xml import can_hold, document, parse, text

__all__ = ["NAMESPACE", "Objects", "condition_error"]

NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"
_PAGE: Final = 1000


class Objects:
    """Single requests about objects.

    Args:
        client: sends them.
        settings, profile: of the store.

    Attributes:
        encryption: the headers of a write that ask for encryption.
        customer_key: those of them that every read of such an object needs too.
    """

    def __init__(self, client: Client, settings: S3Settings, profile: Profile) -> None:
        self._client = client
        self._settings = settings
        self._profile = profile
        self.encryption = settings.encryption_headers()
        self.customer_key = settings.customer_key_headers()

    # Reading

    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        """Open an object."""
        response = await self._get(bucket, key, options, options.range)
        try:
            info, start, stop = self._describe(key, options.range, response)
            check_read(info, options)
            if (response.content is not None and response.status == 206) or (start == 0 and stop == info.size):
                if response.content is not None:
                    return ObjectReader(info, response.content, start=start, stop=stop)
            elif response.status == 200:
                await skip(response, start)
        except BaseException:
            response.abort()
            raise

        async def reopen(offset: int) -> Response:
            again = replace(options, if_match=info.etag, if_none_match=None, if_modified_since=None)
            if info.version_id is not None:
                again = replace(again, version_id=info.version_id)
            wanted = ByteRange(offset, stop - offset)
            response = await self._get(bucket, key, again, wanted)
            try:
                await self._check_resumed(info, wanted, response)
            except BaseException:
                response.abort()
                raise
            return response

        stream = ResponseStream(response, start, stop, reopen=reopen)
        return ObjectReader(info, stream, start=start, stop=stop)

    async def _check_resumed(self, info: ObjectInfo, wanted: ByteRange, response: Response) -> None:
        """See that what follows is the same object from the offset on: not every server honours both headers."""
        found, start, _ = self._describe(info.key, wanted, response)
        if found.etag != info.etag:
            raise PreconditionFailedError("the object was replaced meanwhile", status=response.status)
        if start != wanted.offset:
            raise BackendError(f"the answer begins at {start}, asked for were the bytes from {wanted.offset} on")
        if response.status == 200:
            await skip(response, start)

    async def _get(self, bucket: str, key: str, options: GetOptions, wanted: ByteRange | None) -> Response:
        headers = [("accept-encoding", "identity"), *self.customer_key]
        if wanted is not None:
            headers.append(("range", wanted.header()))
        headers += condition_headers(options)
        try:
            return await self._client.request("GET", bucket, key, query=_version_query(options), headers=headers)
        except ObjectNotFoundError as error:
            raise self._missing(error, options.version_id) from error

    def _describe(self, key: str, wanted: ByteRange | None, response: Response) -> tuple[ObjectInfo, int, int]:
        """Return what was got: the object, and the offsets between which its bytes follow."""
        if response.status == 206:
            start, stop, size = content_range(object_headers(response.headers, "content-range"))
            return info_of(key, size, response.headers), start, stop
        length = response.length if response.content is None else len(response.content)
        if length is None:
            raise BackendError("the answer does not say how long the object is")
        info = info_of(key, length, response.headers)
        return (info, 0, length) if wanted is None else (info, *wanted.resolve(length))

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        """Describe an object."""
        headers = [*self.customer_key, *condition_headers(options)]
        try:
            response = await self._client.request("HEAD", bucket, key, query=_version_query(options), headers=headers)
        except NotFoundError as error:
            # An answer to HEAD has no body, and a missing bucket looks like a missing object.
            await self.require_bucket(bucket)
            raise self._missing(error, options.version_id) from error
        size = int(object_headers(response.headers, "content-length"))
        info = info_of(key, size, response.headers)
        check_read(info, options)
        return info

    @staticmethod
    def _missing(error: NotFoundError, version_id: str | None) -> NotFoundError:
        kind = ObjectNotFoundError if version_id is None else VersionNotFoundError
        return kind(status=error.status, request_id=error.request_id)

    async def require_bucket(self, bucket: str) -> None:
        """Check that a bucket exists.

        Raises:
            BucketNotFoundError: it does not.
        """
        try:
            await self._client.request("HEAD", bucket)
        except NotFoundError as error:
            raise BucketNotFoundError(
                f"the bucket {bucket!r} does not exist", bucket=bucket, status=error.status, request_id=error.request_id
            ) from error

    # Writing

    async def put(self, bucket: str, key: str, chunks: Sequence[Chunk], options: PutOptions, body: Body) -> ObjectInfo:
        """Store an object whose bytes are all here."""
        checksum = None
        if body.checksum is not None:
            checksum = Checksum(body.checksum.algorithm, body.digest)
        headers = self.description(options.attributes, checksum) + self.encryption
        if options.if_match is not None or options.if_none_match is not None:
            headers += self.write_conditions(options.if_match, options.if_none_match)
            await self._require_conditions(bucket)
        headers += await checksum_headers(self._profile.checksum, chunks)
        try:
            response = await self._client.request("PUT", bucket, key, headers=headers, body=chunks, writes=True)
        except PreconditionFailedError as error:
            raise condition_error(error, options) from error
        except ObjectNotFoundError as error:
            # What was to be replaced is not there.
            raise PreconditionFailedError(error.message, status=error.status, request_id=error.request_id) from error
        if response.content is None:
            await response.aclose()
        size = sum(map(len, chunks))
        return self.written(
            key, size, response.headers, etag_of(object_headers(response.headers, "etag")), options.attributes, checksum
        )

    def written(
        self,
        key: str,
        size: int,
        headers: Mapping[str, str],
        etag: str,
        attributes: ObjectAttributes,
        checksum: Checksum | None,
    ) -> ObjectInfo:
        """Return the description of an object that was just written."""
        checksums = {checksum.algorithm: checksum.value} if checksum is not None and checksum.value else EMPTY
        if self._settings.storage_class is not None:
            attributes = self._stored(attributes)
        return attributes.info(key, size, etag, None, version_of(headers), checksums)

    def description(self, attributes: ObjectAttributes, checksum: Checksum | None = None) -> Headers:
        """Return the headers that describe an object, which goes into the store's own class where none is named.

        Raises:
            InvalidMetadataError: the service cannot hold the metadata.
        """
        if not self._profile.metadata_underscores and any("_" in name for name in attributes.metadata):
            raise InvalidMetadataError(
                f"services of profile {self._profile.name!r} make hyphens of underscores in names of metadata"
            )
        if self._settings.storage_class is not None:
            attributes = self._stored(attributes)
        return description_headers(attributes, checksum)

    def _stored(self, attributes: ObjectAttributes) -> ObjectAttributes:
        """Return the attributes with the store's own storage class, where they name none."""
        return replace(attributes, storage_class=attributes.storage_class or self._settings.storage_class)

    async def _require_conditions(self, bucket: str) -> None:
        """Refuse a condition that the bucket would ignore, which is asked each time: it may have changed."""
        if self._profile.versioned_conditions:
            return
        _, content = await self._client.document("GET", bucket, query="versioning=")
        if text(parse(content), "Status") is not None:
            raise UnsupportedError(
                f"services of profile {self._profile.name!r} do not honour conditions in buckets that keep versions"
            )

    def write_conditions(self, if_match: str | None, if_none_match: str | None) -> Headers:
        """Return the headers of the conditions of a write.

        Raises:
            UnsupportedError: S3 knows ``If-Match`` with an ETag and ``If-None-Match: *``, and no other
                (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html).
        """
        if if_match == "*":
            raise UnsupportedError("S3 has no condition 'any object there is': give the ETag in if_match")
        if if_none_match not in (None, "*"):
            raise UnsupportedError("S3 has no condition 'any object but this' for writes: only if_none_match='*'")
        return write_conditions(if_match, if_none_match, quoted=self._profile.quotes_etags)

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Delete an object, or a version."""
        headers = self.write_conditions(options.if_match, None)
        try:
            response = await self._client.request(
                "DELETE", bucket, key, query=_version_query(options), headers=headers, writes=True
            )
        except (ObjectNotFoundError, VersionNotFoundError):
            if options.if_match is not None:
                raise PreconditionFailedError(f"if_match is {options.if_match!r} and there is no object") from None
            return
        await response.aclose()

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> Sequence[DeleteResult]:
        """Delete up to a thousand objects in one request."""
        results: dict[str, DeleteResult] = {}
        holdable: list[str] = []
        for key in dict.fromkeys(keys):
            if can_hold(key):
                holdable.append(key)
            else:  # XML cannot name it, a URL can
                results[key] = await self._delete_one(bucket, key)
        if holdable:
            results.update(await self._delete_listed(bucket, holdable))
        return [results[key] for key in keys]

    async def _delete_one(self, bucket: str, key: str) -> DeleteResult:
        try:
            await self.delete(bucket, key, DeleteOptions())
        except BucketNotFoundError:
            raise
        except TroveError as error:
            return DeleteResult(key, error)
        return DeleteResult(key)

    async def _delete_listed(self, bucket: str, keys: Sequence[str]) -> dict[str, DeleteResult]:
        listed = [("Object", [("Key", key)]) for key in keys]
        content = document("Delete", [*listed, ("Quiet", "true")], NAMESPACE)
        _, answer = await self._client.document(
            "POST", bucket, query="delete=", headers=document_headers(content), body=[content], writes=True
        )
        results = {key: DeleteResult(key) for key in keys}
        for failed in parse(answer).iter("Error"):
            key = text(failed, "Key", "") or ""
            error = error_of(200, text(failed, "Code", "") or "", text(failed, "Message", "") or "")
            if not isinstance(error, ObjectNotFoundError):
                results[key] = DeleteResult(key, error)
        return results

    # Listing

    async def list_page(self, bucket: str, options: ListOptions) -> ListPage:
        """Return a page of a listing."""
        params = [("list-type", "2"), ("encoding-type", "url"), ("max-keys", str(min(options.page_size, _PAGE)))]
        if options.prefix:
            params.append(("prefix", options.prefix))
        if options.delimiter is not None:
            params.append(("delimiter", options.delimiter))
        if options.cursor is not None:
            params.append(("continuation-token", options.cursor))
        if options.start_after is not None:
            params.append(("start-after", options.start_after))
        _, content = await self._client.document("GET", bucket, query=encode_query(params))
        page = await parse_page(content)
        if page.cursor is not None and page.cursor == options.cursor:
            raise BackendError("the service answers with the same page again and again")
        return page


def condition_error(error: PreconditionFailedError, options: PutOptions | CompleteOptions) -> PreconditionFailedError:
    """Return the error of a write whose condition did not hold, in the class that says which."""
    kind = ObjectAlreadyExistsError if options.if_none_match == "*" else PreconditionFailedError
    return kind(error.message, status=error.status, request_id=error.request_id, ambiguous=error.ambiguous)


def _version_query(options: HeadOptions | DeleteOptions) -> str:
    return "" if options.version_id is None else encode_query([("versionId", options.version_id)])
