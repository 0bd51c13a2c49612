"""Operations on objects with one request: get, head, put, delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from trove_async.body import Body, Chunk
from trove_async.checksums import Checksum, digest
from trove_async.driver import (
    DeleteOptions,
    GetOptions,
    HeadOptions,
    ObjectAttributes,
    PutOptions,
    check_read,
)
from trove_async.driver.put_settling import sha256_of
from trove_async.drivers.s3.client import Client, Headers
from trove_async.drivers.s3.errors import RULES
from trove_async.drivers.s3.headers import attribute_headers, etag_in, info_of, version_of
from trove_async.drivers.s3.integrity import checksum_headers, document_headers
from trove_async.drivers.s3.profiles import Profile
from trove_async.drivers.s3.settings import S3Settings
from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    BucketNotFoundError,
    InvalidMetadataError,
    NotFoundError,
    ObjectNotFoundError,
    PreconditionFailedError,
    TroveError,
    UnsupportedError,
    VersionNotFoundError,
)
from trove_async.ranges import ByteRange
from trove_async.types import DeleteResult, ObjectInfo
from trove_async.wire.client import same_object, settle
from trove_async.wire.errors import condition_error
from trove_async.wire.fields import condition_headers, content_length, write_conditions
from trove_async.wire.reading import ObjectReads
from trove_async.wire.sigv4 import encode_query
from trove_async.wire.transport import Response
from trove_async.wire.xml import can_hold, document, parse, text

__all__ = ["NAMESPACE", "Objects"]

NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"


class Objects(ObjectReads):
    """Requests about one or several objects.

    Args:
        client: sends them.
        settings, profile: of the store.

    Attributes:
        encryption: the headers of a write that request encryption.
        customer_key: the headers that a read of an object encrypted with a customer's key needs.
    """

    service = "an S3 service"

    def __init__(self, client: Client, settings: S3Settings, profile: Profile) -> None:
        self._client = client
        self.retries = client.retries
        self.parallel = settings.network.parallel
        self._settings = settings
        self._profile = profile
        self.encryption = settings.encryption_headers()
        self.customer_key = settings.customer_key_headers()

    # Reading; `get` is that of `ObjectReads`

    async def ask(
        self, bucket: str, key: str, options: GetOptions, wanted: ByteRange | None
    ) -> tuple[Response, ObjectInfo | None]:
        """Send a GET."""
        headers = [*self.customer_key, *condition_headers(options)]
        if wanted is not None:
            headers.append(("range", wanted.header()))
        try:
            response = await self._client.request("GET", bucket, key, query=_version_query(options), headers=headers)
        except ObjectNotFoundError as error:
            raise _missing(error, options.version_id) from error
        return response, None

    def described(self, key: str, size: int, response: Response) -> ObjectInfo:
        """Return the object that the headers of an answer describe."""
        return info_of(key, size, response.headers)

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        """Describe an object."""
        headers = [*self.customer_key, *condition_headers(options)]
        try:
            response = await self._client.request("HEAD", bucket, key, query=_version_query(options), headers=headers)
        except NotFoundError as error:
            # The answer to a HEAD has no body, and a missing bucket looks like a missing object.
            with suppress(AccessDeniedError):  # the credentials may allow requests about objects only
                await self.require_bucket(bucket)
            raise _missing(error, options.version_id) from error
        info = info_of(key, content_length(response.headers, self.service), response.headers)
        check_read(info, options)
        return info

    async def require_bucket(self, bucket: str) -> None:
        """Check that a bucket exists.

        Raises:
            BucketNotFoundError: it does not exist.
        """
        try:
            await self._client.request("HEAD", bucket)
        except NotFoundError as error:
            raise BucketNotFoundError(
                f"the bucket {bucket!r} does not exist", bucket=bucket, status=error.status, request_id=error.request_id
            ) from error

    # Writing

    async def put(self, bucket: str, key: str, chunks: Sequence[Chunk], options: PutOptions, body: Body) -> ObjectInfo:
        """Store an object whose bytes are all in memory."""
        checksum = None if body.checksum is None else body.computed
        headers = self.attribute_headers(options.attributes, checksum) + self.encryption
        if options.if_match is not None or options.if_none_match is not None:
            headers += self.write_conditions(options.if_match, options.if_none_match)
            await self._require_conditions(bucket)
        headers += await checksum_headers(self._profile.checksum, chunks)
        size = sum(map(len, chunks))
        find = partial(self._stored, bucket, key, chunks, options, checksum)
        settling = self.settling(bucket, key, options.attributes.tags, find, options.if_match, options.if_none_match)
        try:
            answer = await self._client.write("PUT", bucket, key, headers=headers, body=chunks, settling=settling)
        except PreconditionFailedError as error:
            raise condition_error(error, options.if_none_match) from error
        except ObjectNotFoundError as error:
            # The object to replace does not exist.
            raise PreconditionFailedError(
                error.message, status=error.status, request_id=error.request_id, ambiguous=error.ambiguous
            ) from error
        except TroveError:
            if settling is None or settling.made is None:
                raise
            return settling.made
        if "etag" not in answer and not RULES.is_own(answer):
            return await self._looked_for(bucket, key, chunks, options, checksum)
        etag = etag_in(answer) if "etag" in answer else await self._etag(bucket, key, chunks)
        return self.written(key, size, answer, etag, options.attributes, checksum)

    async def _stored(
        self, bucket: str, key: str, chunks: Sequence[Chunk], options: PutOptions, checksum: Checksum | None
    ) -> ObjectInfo | None:
        """Return the object if it has the content of the put. Without a condition, it does not matter who wrote it.

        Errors are those of a get.
        """
        if options.if_match is not None or options.if_none_match is not None:
            return None
        found = await self.head(bucket, key, HeadOptions())
        wanted = self.written(key, sum(map(len, chunks)), {}, found.etag, options.attributes, checksum)
        if not same_object(found, wanted):
            return None
        if found.etag == (await digest("md5", chunks)).hex():
            return found
        # The object is another one, or encrypted with a key: its ETag does not tell.
        async with await self.get(bucket, key, GetOptions()) as reader:
            same = await sha256_of(reader, found) == (await digest("sha256", chunks)).hex()
        return found if same else None

    async def _looked_for(
        self, bucket: str, key: str, chunks: Sequence[Chunk], options: PutOptions, checksum: Checksum | None
    ) -> ObjectInfo:
        """Return the object that was put, after an answer that nothing shows to be the service's.

        Raises:
            TroveError: there is no such object; the error is ambiguous.
        """
        error = BackendError(
            "the answer to a put has no ETag and no header of S3, and the object is not there: is the endpoint an S3 "
            "service?",
            ambiguous=True,
        )
        made = await settle(error, lambda: self._stored(bucket, key, chunks, options, checksum))
        if made is None:
            raise error
        return made

    async def _etag(self, bucket: str, key: str, chunks: Sequence[Chunk]) -> str:
        """Return the ETag of an object that was stored, from a service that leaves it out of the answer."""
        try:
            return (await self.head(bucket, key, HeadOptions())).etag
        except TroveError:
            # The service said that it is stored; the credentials may be good for writing alone.
            return (await digest("md5", chunks)).hex()

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
        checksums = {checksum.algorithm: checksum.value} if checksum is not None and checksum.value else {}
        if self._settings.storage_class is not None:
            attributes = attributes.with_storage_class(self._settings.storage_class)
        return attributes.info(key, size, etag, None, version_of(headers), checksums)

    def attribute_headers(self, attributes: ObjectAttributes, checksum: Checksum | None = None) -> Headers:
        """Return the headers that describe a new object; the default of the storage class is the store's.

        Raises:
            InvalidMetadataError: the service cannot store the metadata.
        """
        if not self._profile.metadata_underscores and any("_" in name for name in attributes.metadata):
            raise InvalidMetadataError(
                f"services of profile {self._profile.name!r} replace underscores in names of metadata by hyphens"
            )
        if self._settings.storage_class is not None:
            attributes = attributes.with_storage_class(self._settings.storage_class)
        return attribute_headers(attributes, checksum)

    async def _require_conditions(self, bucket: str) -> None:
        """Raise if the bucket would ignore a condition. The bucket is queried each time, since it may have changed."""
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
            UnsupportedError: S3 has only ``If-Match`` with an ETag and ``If-None-Match: *``
                (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html).
        """
        if if_match == "*":
            raise UnsupportedError("S3 cannot require that any object exists: give the ETag in if_match")
        if if_none_match not in (None, "*"):
            raise UnsupportedError("S3 cannot exclude one ETag from a write: only if_none_match='*' is possible")
        return write_conditions(if_match, if_none_match, quoted=self._profile.quotes_etags)

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Delete an object, or a version."""
        headers = self.write_conditions(options.if_match, None)
        try:
            await self._client.write("DELETE", bucket, key, query=_version_query(options), headers=headers)
        except (ObjectNotFoundError, VersionNotFoundError) as error:
            if options.if_match is not None:
                raise PreconditionFailedError(
                    f"if_match is {options.if_match!r}, and the object does not exist", ambiguous=error.ambiguous
                ) from None

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> Sequence[DeleteResult]:
        """Delete up to 1,000 objects in one request; retry those with a transient error one by one."""
        distinct = list(dict.fromkeys(keys))
        results: dict[str, DeleteResult] = {}
        listed = [key for key in distinct if can_hold(key)]
        if listed:
            results = await self._delete_listed(bucket, listed)
        for key in distinct:
            # XML cannot contain every key; a URL can.
            found = results.get(key)
            if found is None or (found.error is not None and found.error.retryable):
                results[key] = await self._delete_one(bucket, key)
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
        root = parse(answer)
        if root.tag != "DeleteResult":
            raise BackendError(f"the answer to a bulk deletion is a <{root.tag[:40]}>: is the endpoint an S3 service?")
        for failed in root.iter("Error"):
            key = text(failed, "Key", "") or ""
            if key not in results:
                raise BackendError("the answer to a bulk deletion names a key that was not in the request")
            error = RULES.error(None, text(failed, "Code", "") or "", text(failed, "Message", "") or "")
            if not isinstance(error, ObjectNotFoundError):
                results[key] = DeleteResult(key, error)
        return results


def _missing(error: NotFoundError, version_id: str | None) -> NotFoundError:
    kind = ObjectNotFoundError if version_id is None else VersionNotFoundError
    return kind(status=error.status, request_id=error.request_id)


def _version_query(options: HeadOptions | DeleteOptions) -> str:
    return "" if options.version_id is None else encode_query([("versionId", options.version_id)])
