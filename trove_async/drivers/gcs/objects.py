"""The operations on objects that take one request: get, head, put, delete.

Objects are read through the XML API: its one answer has the bytes and all that describes them, of one generation. The
JSON API leaves custom metadata out of a download, so that it would take two requests, which may see two objects
(https://pkg.go.dev/cloud.google.com/go/storage#Reader.Metadata says the same of Google's own library).

They are written through the XML API too, with the description in headers: that costs both sides half of what the JSON
API does, which wants description and bytes in one document. What headers cannot express goes through the JSON API.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from trove_async.body import Body, Chunk
from trove_async.checksums import Checksum
from trove_async.driver import DeleteOptions, GetOptions, HeadOptions, ObjectAttributes, PutOptions, check_read
from trove_async.driver.put_settling import Settling
from trove_async.driver.retry import until_uncontended
from trove_async.drivers.gcs.addressing import resource_path
from trove_async.drivers.gcs.batch import Batch
from trove_async.drivers.gcs.checksums import CRC32CVerifier, crc32c_in, encode, extend
from trove_async.drivers.gcs.client import Client, Headers, Query
from trove_async.drivers.gcs.conditions import under_condition, write_query
from trove_async.drivers.gcs.documents import MALFORMED, ambiguous_if_malformed, decode, resource
from trove_async.drivers.gcs.resources import (
    FIELDS,
    attribute_headers,
    info_of_headers,
    info_of_resource,
    is_generation,
    parse_time,
    resource_of,
)
from trove_async.drivers.gcs.settings import GCSSettings
from trove_async.errors import (
    BackendError,
    NotModifiedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    TroveError,
    VersionNotFoundError,
)
from trove_async.ranges import ByteRange
from trove_async.types import EMPTY, DeleteResult, ObjectInfo
from trove_async.wire.client import same_object
from trove_async.wire.fields import http_date, required
from trove_async.wire.reading import ObjectReads
from trove_async.wire.transport import Response

__all__ = ["CHECKED", "Made", "Objects"]

_BATCH: Final = 100
"""Calls in one request of the batch endpoint: https://cloud.google.com/storage/docs/batch."""

CHECKED: Final = ("fields", f"{FIELDS},crc32c,timeCreated")
"""The members of a resource that tell whether it is what was written."""

_DESCRIBED: Final = ("fields", FIELDS)
_WRITTEN: Final = ("fields", "generation,updated,storageClass,crc32c")
_MATCH: Final = "ifGenerationMatch"

Made = Mapping[str, Any]
"""What the service says of an object that was stored: its resource, or the generation alone."""


class Objects(ObjectReads):
    """Requests about one object, or a few.

    Args:
        client: sends them.
        settings: of the store.
    """

    service = "Cloud Storage"

    def __init__(self, client: Client, settings: GCSSettings) -> None:
        self._client = client
        self.retries = client.retries
        self.parallel = settings.network.parallel
        self._settings = settings
        self._boundary = secrets.token_hex(16)

    # Reading; `get` is that of `ObjectReads`

    async def ask(
        self, bucket: str, key: str, options: GetOptions, wanted: ByteRange | None
    ) -> tuple[Response, ObjectInfo | None]:
        """Send a GET; through the JSON API, describe the object first."""
        # Without it the service decompresses: https://cloud.google.com/storage/docs/transcoding.
        headers: Headers = [("accept-encoding", "gzip")]
        if wanted is not None:
            headers.append(("range", wanted.header()))
        if self._settings.api == "json":
            return await self._ask_json(bucket, key, options, wanted, headers)
        if options.if_none_match is not None:
            # The XML API has no such condition on a generation; the answer to the GET is checked once more.
            await self.head(bucket, key, options)
        if options.if_match is not None and options.if_match != "*":
            headers += await self._match(bucket, key, options, options.if_match)
        if options.if_modified_since is not None and options.if_none_match is None:
            headers.append(("if-modified-since", http_date(options.if_modified_since)))
        if options.if_unmodified_since is not None and options.if_match is None:
            headers.append(("if-unmodified-since", http_date(options.if_unmodified_since)))
        query = ""
        if options.version_id is not None:
            _check_version(options.version_id)
            query = f"generation={options.version_id}"
        try:
            return await self._client.xml("GET", bucket, key, query=query, headers=headers), None
        except ObjectNotFoundError as error:
            raise _missing(error, options.version_id) from error

    async def _match(self, bucket: str, key: str, options: GetOptions, if_match: str) -> Headers:
        """Return the condition that an object has an ETag."""
        if not is_generation(if_match):
            await self.head(bucket, key, options)  # it raises what fits: no object has the ETag
        return [("x-goog-if-generation-match", if_match)]

    async def _ask_json(
        self, bucket: str, key: str, options: GetOptions, wanted: ByteRange | None, headers: Headers
    ) -> tuple[Response, ObjectInfo | None]:
        """Ask for the description, and then for the bytes of that generation.

        If it was replaced meanwhile, the new one is described.
        """

        async def attempt() -> tuple[Response, ObjectInfo | None]:
            info = await self.head(bucket, key, options)
            if wanted is not None:
                wanted.resolve(info.size)
            try:
                return await self._client.media(bucket, key, [("generation", info.etag)], headers), info
            except ObjectNotFoundError as error:
                raise _missing(error, info.etag) from error

        lost = VersionNotFoundError if options.version_id is None else ()
        return await until_uncontended(attempt, lost=lost, message="the object is replaced too often to be read")

    def described(self, key: str, size: int, response: Response) -> ObjectInfo:
        """Return the object that the headers of an answer describe."""
        stored = response.headers.get("x-goog-stored-content-length")
        if stored is not None and stored != str(size):
            raise BackendError(
                f"the object has {stored[:20]} bytes, and the answer is about {size}: "
                "something between here and the service changes what is stored"
            )
        return info_of_headers(key, size, response.headers)

    async def size_of(self, bucket: str, key: str, response: Response) -> int:
        """Return the size of the object that an answer brings without a length: of that generation."""
        generation = required(response.headers, "x-goog-generation", self.service)
        return (await self.head(bucket, key, HeadOptions(version_id=generation))).size

    def pinned(self, options: GetOptions, info: ObjectInfo) -> GetOptions:
        """Return the options that read on from the same generation, which need not be the live one any more."""
        return GetOptions(version_id=info.etag)

    def verifier(self, key: str, response: Response) -> CRC32CVerifier | None:
        """Return what compares the bytes of a whole object with the service's checksum."""
        if not self._settings.verify_reads:
            return None
        expected = crc32c_in(response.headers.get("x-goog-hash"))
        return None if expected is None else CRC32CVerifier(key, expected)

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        """Describe an object."""
        info = info_of_resource(key, await self.resource(bucket, key, options.version_id, _DESCRIBED))
        check_read(info, options)
        return info

    async def resource(
        self, bucket: str, key: str, version_id: str | None, fields: tuple[str, str]
    ) -> Mapping[str, Any]:
        """Return the resource of an object, as the JSON API describes it.

        Raises:
            ObjectNotFoundError, VersionNotFoundError: it does not exist.
        """
        query: Query = [fields]
        if version_id is not None:
            _check_version(version_id)
            query.append(("generation", version_id))
        try:
            found = await self._client.json("GET", resource_path(bucket, key), bucket, key, query=query)
        except ObjectNotFoundError as error:
            raise _missing(error, version_id) from error
        return resource(found)

    async def etag(self, bucket: str, key: str) -> str | None:
        """Return the ETag of an object; None if there is none."""
        try:
            return (await self.head(bucket, key, HeadOptions())).etag
        except ObjectNotFoundError:
            return None

    async def require_bucket(self, bucket: str) -> None:
        """Check that a bucket exists.

        Raises:
            BucketNotFoundError: it does not.
        """
        await self._client.require_bucket(bucket)

    # Writing

    async def put(self, bucket: str, key: str, chunks: Sequence[Chunk], options: PutOptions, body: Body) -> ObjectInfo:
        """Store an object whose bytes are all in memory, in one request with its description and its checksum."""
        checksum = body.computed
        crc32c = encode(extend(0, chunks))
        size = sum(map(len, chunks))
        # Headers have no holds, and no condition that the object exists.
        through_json = self._settings.api == "json" or self._settings.hold is not None or options.if_match == "*"
        store = self._put_json if through_json else self._put_xml
        find = partial(self._stored, bucket, key, size, options, checksum, crc32c)
        settling = self.settling(bucket, key, options.attributes.tags, find, options.if_match, options.if_none_match)
        try:
            made = await store(bucket, key, chunks, options, checksum, crc32c, settling)
        except TroveError:
            if settling is None or settling.made is None:
                raise
            return settling.made
        try:
            return self.written(key, size, made, options.attributes, checksum)
        except BackendError as error:
            if settling is None or not await settling.look(error) or settling.made is None:
                raise
            return settling.made

    async def _put_xml(
        self,
        bucket: str,
        key: str,
        chunks: Sequence[Chunk],
        options: PutOptions,
        checksum: Checksum | None,
        crc32c: str,
        settling: Settling | None,
    ) -> Made:
        headers = self.attribute_headers(options.attributes, checksum)
        headers.append(("x-goog-hash", f"crc32c={crc32c}"))

        async def write(conditions: Query) -> Made:
            more = [("x-goog-if-generation-match", value) for name, value in conditions if name == _MATCH]
            answer = await self._client.write(
                "PUT", bucket, key, headers=headers + more, body=chunks, settling=settling
            )
            return {"generation": answer.get("x-goog-generation")}

        if options.if_match is None and options.if_none_match is None:
            return await write([])
        return await under_condition(options, write, lambda: self.etag(bucket, key))

    async def _put_json(
        self,
        bucket: str,
        key: str,
        chunks: Sequence[Chunk],
        options: PutOptions,
        checksum: Checksum | None,
        crc32c: str,
        settling: Settling | None,
    ) -> Made:
        described = {**self.resource_of(key, options.attributes, checksum), "crc32c": crc32c}
        boundary = self._boundary
        head = (
            f"--{boundary}\r\ncontent-type: application/json; charset=utf-8\r\n\r\n{json.dumps(described)}\r\n"
            # The service refuses a type of the part that is not the type of the object.
            f"--{boundary}\r\ncontent-type: {options.attributes.content_type}\r\n\r\n"
        )
        content = [head.encode(), *chunks, f"\r\n--{boundary}--\r\n".encode()]
        headers = [("content-type", f"multipart/related; boundary={boundary}")]

        async def write(conditions: Query) -> Made:
            query = self.upload_query("multipart") + conditions
            _, answer = await self._client.upload("POST", bucket, key, query, headers, content, settling=settling)
            with ambiguous_if_malformed():
                return resource(decode(answer))

        return await under_condition(options, write, lambda: self.etag(bucket, key))

    async def _stored(
        self, bucket: str, key: str, size: int, options: PutOptions, checksum: Checksum | None, crc32c: str
    ) -> ObjectInfo | None:
        """Return the object if it is what was put; who wrote it does not matter, since there was no condition."""
        found = await self.resource(bucket, key, None, CHECKED)
        info = info_of_resource(key, found)
        wanted = self.written(key, size, found, options.attributes, checksum)
        return info if found.get("crc32c") == crc32c and same_object(info, wanted) else None

    def upload_query(self, kind: str) -> Query:
        """Return the parameters of an upload of the JSON API."""
        query: Query = [("uploadType", kind), _WRITTEN]
        if self._settings.kms_key is not None:
            query.append(("kmsKeyName", self._settings.kms_key))
        return query

    def attribute_headers(self, attributes: ObjectAttributes, checksum: Checksum | None) -> Headers:
        """Return the headers of the XML API that describe an object that is written, with the store's settings.

        Raises:
            InvalidMetadataError: the service cannot hold the metadata.
        """
        headers = attribute_headers(attributes.with_storage_class(self._settings.storage_class), checksum)
        if self._settings.kms_key is not None:
            headers.append(("x-goog-encryption-kms-key-name", self._settings.kms_key))
        return headers

    def resource_of(self, key: str, attributes: ObjectAttributes, checksum: Checksum | None = None) -> dict[str, Any]:
        """Return what `attribute_headers` does as a resource of the JSON API, with the store's hold."""
        stored = attributes.with_storage_class(self._settings.storage_class)
        return {**self.held(resource_of(stored, checksum)), "name": key}

    def held(self, described: dict[str, Any]) -> dict[str, Any]:
        """Return a resource with the hold that the store puts on objects."""
        if self._settings.hold is None:
            return described
        return {**described, "temporaryHold" if self._settings.hold == "temporary" else "eventBasedHold": True}

    def written(
        self, key: str, size: int, made: Made, attributes: ObjectAttributes, checksum: Checksum | None
    ) -> ObjectInfo:
        """Return the description of an object that was just written.

        Args:
            key, size, attributes: of the object.
            made: what the service said of it.
            checksum: the caller's, with its value.

        Raises:
            BackendError: the service said nothing of the object; it is ambiguous.
        """
        generation = str(made.get("generation"))
        try:
            if not generation.isdecimal():
                raise ValueError(generation)
            updated = parse_time(made.get("updated"))
        except MALFORMED:
            message = "the answer to a write does not describe an object: is the endpoint Cloud Storage?"
            raise BackendError(message, ambiguous=True) from None
        storage_class = made.get("storageClass") or attributes.storage_class or self._settings.storage_class
        if storage_class == "STANDARD":
            storage_class = None
        if storage_class != attributes.storage_class:
            attributes = replace(attributes, storage_class=storage_class)
        checksums = {checksum.algorithm: checksum.value} if checksum is not None and checksum.value else EMPTY
        return attributes.info(key, size, generation, updated, generation, checksums)

    # Deleting

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Delete an object, or a version."""
        if options.version_id is not None and not is_generation(options.version_id):
            return  # no object has it
        query = write_query(options.if_match, None)
        if options.version_id is not None:
            query.append(("generation", options.version_id))
        try:
            await self._client.json("DELETE", resource_path(bucket, key), bucket, key, query=query, writes=True)
        except ObjectNotFoundError as error:
            if options.if_match is not None:
                raise PreconditionFailedError(
                    f"if_match is {options.if_match!r}, and the object does not exist", ambiguous=error.ambiguous
                ) from None
        except NotModifiedError as error:
            raise PreconditionFailedError(error.message, status=error.status, ambiguous=error.ambiguous) from error

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> Sequence[DeleteResult]:
        """Delete objects, a hundred in each request."""
        results: dict[str, DeleteResult] = {}
        distinct = list(dict.fromkeys(keys))
        batch = Batch(self._client, bucket, lambda key: self.delete(bucket, key, DeleteOptions()))
        for start in range(0, len(distinct), _BATCH):
            results.update(await batch.delete(distinct[start : start + _BATCH]))
        return [results[key] for key in keys]


def _check_version(version_id: str) -> None:
    if not is_generation(version_id):
        raise VersionNotFoundError(f"no object has the version {version_id!r}: versions are numbers of generations")


def _missing(error: ObjectNotFoundError, version_id: str | None) -> ObjectNotFoundError | VersionNotFoundError:
    if version_id is None:
        return error
    return VersionNotFoundError(status=error.status, request_id=error.request_id)
