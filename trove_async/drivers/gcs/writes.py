"""Objects that are stored in one request, and how any object that is stored is described.

A body goes to the XML API with its description in headers, which costs both sides half of what the JSON API does: that
wants description and bytes wrapped into one document. What no header can say goes there nevertheless.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from trove_async.body import Body, Chunk
from trove_async.checksums import Checksum
from trove_async.driver import ObjectAttributes, PutOptions
from trove_async.drivers.gcs.checksums import encode, extend
from trove_async.drivers.gcs.client import Client, Headers, Query, decode
from trove_async.drivers.gcs.conditions import under_condition
from trove_async.drivers.gcs.objects import Objects
from trove_async.drivers.gcs.resources import description, description_headers, parse_time
from trove_async.drivers.gcs.settings import GCSSettings
from trove_async.errors import BackendError
from trove_async.types import EMPTY, ObjectInfo
from trove_async.wire.fields import required

__all__ = ["Writes"]

_WRITTEN: Final = ("fields", "generation,updated,storageClass,crc32c")
_MATCH: Final = "ifGenerationMatch"

Made = Mapping[str, Any]
"""What the service says of an object that was stored: its resource, or the generation alone."""


class Writes:
    """Puts of one request.

    Args:
        client: sends them.
        objects: look at what there is.
        settings: of the store.
    """

    def __init__(self, client: Client, objects: Objects, settings: GCSSettings) -> None:
        self._client = client
        self._objects = objects
        self._settings = settings
        self._boundary = secrets.token_hex(16)
        self._wrapped: Headers = [("content-type", f"multipart/related; boundary={self._boundary}")]

    async def put(self, bucket: str, key: str, chunks: Sequence[Chunk], options: PutOptions, body: Body) -> ObjectInfo:
        """Store an object whose bytes are all here, in one request with its description and its checksum."""
        checksum = None if body.checksum is None else Checksum(body.checksum.algorithm, body.digest)
        crc32c = encode(extend(0, chunks))
        # Headers have neither holds, nor the condition that there be an object.
        if self._settings.api == "json" or self._settings.hold is not None or options.if_match == "*":
            made = await self._put_wrapped(bucket, key, chunks, options, checksum, crc32c)
        else:
            made = await self._put_plain(bucket, key, chunks, options, checksum, crc32c)
        return self.written(key, sum(map(len, chunks)), made, options.attributes, checksum)

    async def _put_plain(
        self,
        bucket: str,
        key: str,
        chunks: Sequence[Chunk],
        options: PutOptions,
        checksum: Checksum | None,
        crc32c: str,
    ) -> Made:
        headers = self.headers(options.attributes, checksum)
        headers.append(("x-goog-hash", f"crc32c={crc32c}"))

        async def write(conditions: Query) -> Made:
            more = [("x-goog-if-generation-match", value) for name, value in conditions if name == _MATCH]
            response = await self._client.xml("PUT", bucket, key, headers=headers + more, body=chunks, writes=True)
            if response.content is None:
                await response.aclose()
            return {"generation": required(response.headers, "x-goog-generation", "Cloud Storage")}

        if options.if_match is None and options.if_none_match is None:
            return await write([])
        return await under_condition(options, write, lambda: self._objects.etag(bucket, key))

    async def _put_wrapped(
        self,
        bucket: str,
        key: str,
        chunks: Sequence[Chunk],
        options: PutOptions,
        checksum: Checksum | None,
        crc32c: str,
    ) -> Made:
        resource = {**self.description(key, options.attributes, checksum), "crc32c": crc32c}
        boundary = self._boundary
        head = (
            f"--{boundary}\r\ncontent-type: application/json; charset=utf-8\r\n\r\n{json.dumps(resource)}\r\n"
            f"--{boundary}\r\ncontent-type: application/octet-stream\r\n\r\n"
        )
        content = [head.encode(), *chunks, f"\r\n--{boundary}--\r\n".encode()]

        async def write(conditions: Query) -> Made:
            query = self.upload_query("multipart") + conditions
            _, answer = await self._client.upload("POST", bucket, key, query, self._wrapped, content)
            made: Made = decode(answer) or {}
            return made

        return await under_condition(options, write, lambda: self._objects.etag(bucket, key))

    def upload_query(self, kind: str) -> Query:
        """Return the parameters of an upload of the JSON API."""
        query: Query = [("uploadType", kind), _WRITTEN]
        if self._settings.kms_key is not None:
            query.append(("kmsKeyName", self._settings.kms_key))
        return query

    def headers(self, attributes: ObjectAttributes, checksum: Checksum | None) -> Headers:
        """Return the headers of the XML API that describe an object that is written, with the store's own settings.

        Raises:
            InvalidMetadataError: the service cannot hold the metadata.
        """
        headers = description_headers(self._own(attributes), checksum)
        if self._settings.kms_key is not None:
            headers.append(("x-goog-encryption-kms-key-name", self._settings.kms_key))
        return headers

    def description(self, key: str, attributes: ObjectAttributes, checksum: Checksum | None = None) -> dict[str, Any]:
        """Return what `headers` does as a resource of the JSON API, with the store's own hold besides."""
        return {**self.held(description(self._own(attributes), checksum)), "name": key}

    def held(self, resource: dict[str, Any]) -> dict[str, Any]:
        """Return a resource with the store's own hold on the object."""
        if self._settings.hold is None:
            return resource
        return {**resource, "temporaryHold" if self._settings.hold == "temporary" else "eventBasedHold": True}

    def _own(self, attributes: ObjectAttributes) -> ObjectAttributes:
        """Return attributes with the store's own storage class, where they name none."""
        if attributes.storage_class is None and self._settings.storage_class is not None:
            return replace(attributes, storage_class=self._settings.storage_class)
        return attributes

    def written(
        self, key: str, size: int, made: Made, attributes: ObjectAttributes, checksum: Checksum | None
    ) -> ObjectInfo:
        """Return the description of an object that was just written.

        Args:
            key, size, attributes: of the object.
            made: what the service said of it.
            checksum: the user's, with its value.
        """
        generation = made.get("generation")
        if not generation:
            raise BackendError("the answer to a write has no generation: is the endpoint Cloud Storage?")
        storage_class = made.get("storageClass") or attributes.storage_class or self._settings.storage_class
        if storage_class == "STANDARD":
            storage_class = None
        if storage_class != attributes.storage_class:
            attributes = replace(attributes, storage_class=storage_class)
        checksums = {checksum.algorithm: checksum.value} if checksum is not None and checksum.value else EMPTY
        return attributes.info(key, size, str(generation), parse_time(made.get("updated")), str(generation), checksums)
