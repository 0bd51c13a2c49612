"""The verbs for objects that take one request: get, head, put, delete."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from trove_async.body import Body, Chunk
from trove_async.checksums import Checksum, digest
from trove_async.driver import (
    CompleteOptions,
    CopyOptions,
    DeleteOptions,
    GetOptions,
    HeadOptions,
    ObjectAttributes,
    PutOptions,
    check_read,
)
from trove_async.drivers.azure.client import Client, Headers, Params
from trove_async.drivers.azure.gate import Gate
from trove_async.drivers.azure.headers import DELETED, VERSION, description_headers, info_of, named, object_headers
from trove_async.drivers.azure.names import OWN
from trove_async.drivers.azure.settings import AzureSettings
from trove_async.errors import (
    BackendError,
    BucketNotFoundError,
    NotFoundError,
    ObjectAlreadyExistsError,
    ObjectNotFoundError,
    PreconditionFailedError,
    VersionNotFoundError,
)
from trove_async.ranges import ByteRange
from trove_async.reader import ObjectReader
from trove_async.types import EMPTY, ObjectInfo
from trove_async.wire.fields import condition_headers, content_range, etag_of, write_conditions
from trove_async.wire.stream import ResponseStream, skip
from trove_async.wire.transport import Response

__all__ = ["Objects", "condition_error"]

_ATTEMPTS: Final = 5
"""How often the end of an object is asked for that is replaced each time between two requests."""

_BLOCK_BLOB: Final = ("x-ms-blob-type", "BlockBlob")
_MARKER: Final = f"x-ms-meta-{DELETED}"


class Objects:
    """Single requests about objects.

    Args:
        client: sends them.
        settings: of the store.

    Attributes:
        gate: stands before every write; None for nothing.
    """

    def __init__(self, client: Client, settings: AzureSettings) -> None:
        self.gate: Gate | None = None
        self._client = client
        self._settings = settings

    # Reading

    async def get(self, bucket: str, key: str, options: GetOptions, params: Params = ()) -> ObjectReader:
        """Open an object.

        Args:
            bucket, key, options: of the get; the version is in ``params``.
            params: what names a version or snapshot.
        """
        wanted = options.range
        if wanted is not None and wanted.offset < 0:
            return await self._get_end(bucket, key, options, wanted, params)
        response = await self._get(bucket, key, options, wanted, params)
        try:
            info, start, stop = self._describe(key, wanted, response)
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
            rest = ByteRange(offset, stop - offset)
            response = await self._get(bucket, key, again, rest, params)
            try:
                await self._check_resumed(info, rest, response)
            except BaseException:
                response.abort()
                raise
            return response

        stream = ResponseStream(response, start, stop, reopen=reopen)
        return ObjectReader(info, stream, start=start, stop=stop)

    async def _get_end(
        self, bucket: str, key: str, options: GetOptions, wanted: ByteRange, params: Params
    ) -> ObjectReader:
        """Open the last bytes: the service has no ranges from the end, so that the size is asked for first."""
        for attempt in range(1, _ATTEMPTS + 1):
            info = await self.head(bucket, key, options, params)
            start, stop = wanted.resolve(info.size)
            found = replace(options, if_match=info.etag, range=ByteRange(start, stop - start))
            try:
                return await self.get(bucket, key, found, params)
            except PreconditionFailedError:
                # It was replaced between the requests; what the caller asked for has to hold of the new one too.
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError  # the loop returns or raises

    async def _check_resumed(self, info: ObjectInfo, wanted: ByteRange, response: Response) -> None:
        """See that what follows is the same object from the offset on."""
        found, start, _ = self._describe(info.key, wanted, response)
        if found.etag != info.etag:
            raise PreconditionFailedError("the object was replaced meanwhile", status=response.status)
        if start != wanted.offset:
            raise BackendError(f"the answer begins at {start}, asked for were the bytes from {wanted.offset} on")
        if response.status == 200:
            await skip(response, start)

    async def _get(
        self, bucket: str, key: str, options: GetOptions, wanted: ByteRange | None, params: Params
    ) -> Response:
        headers = _read_conditions(options)
        if wanted is not None:
            headers.append(("x-ms-range", wanted.header()))
        try:
            response = await self._client.request("GET", bucket, key, params=params, headers=headers)
        except ObjectNotFoundError as error:
            raise _missing(error, params) from error
        except PreconditionFailedError:
            await self._require(bucket, key, params)
            raise
        if _MARKER in response.headers:
            response.abort()
            raise _missing(ObjectNotFoundError(status=404), params)
        return response

    def _describe(self, key: str, wanted: ByteRange | None, response: Response) -> tuple[ObjectInfo, int, int]:
        """Return what was got: the object, and the offsets between which its bytes follow."""
        if response.status == 206:
            start, stop, size = content_range(object_headers(response.headers, "content-range"))
            info = info_of(key, size, response.headers)
            if wanted is not None:
                wanted.resolve(size)  # the emulator answers a range that starts at the end with nothing
            return info, start, stop
        length = response.length if response.content is None else len(response.content)
        if length is None:
            raise BackendError("the answer does not say how long the object is")
        info = info_of(key, length, response.headers)
        return (info, 0, length) if wanted is None else (info, *wanted.resolve(length))

    async def head(self, bucket: str, key: str, options: HeadOptions, params: Params = ()) -> ObjectInfo:
        """Describe an object; the version is in ``params``."""
        info, _ = await self.describe(bucket, key, options, params)
        return info

    async def describe(
        self, bucket: str, key: str, options: HeadOptions, params: Params = ()
    ) -> tuple[ObjectInfo, bool]:
        """Describe an object, and tell whether it has tags; as `head`."""
        try:
            response = await self._client.request("HEAD", bucket, key, params=params, headers=_read_conditions(options))
        except ObjectNotFoundError as error:
            raise _missing(error, params) from error
        except PreconditionFailedError:
            await self._require(bucket, key, params)
            raise
        if _MARKER in response.headers:
            raise _missing(ObjectNotFoundError(status=404), params)
        info = info_of(key, int(object_headers(response.headers, "content-length")), response.headers)
        check_read(info, options)
        return info, response.headers.get("x-ms-tag-count", "0") != "0"

    async def _require(self, bucket: str, key: str, params: Params) -> None:
        """Raise if there is no such object, of which no condition holds either."""
        await self.describe(bucket, key, HeadOptions(), params)

    async def require_bucket(self, bucket: str) -> None:
        """Check that a container exists.

        Raises:
            BucketNotFoundError: it does not.
        """
        try:
            await self._client.request("HEAD", bucket, params=[("restype", "container")])
        except NotFoundError as error:
            raise BucketNotFoundError(
                f"the container {bucket!r} does not exist",
                bucket=bucket,
                status=error.status,
                request_id=error.request_id,
            ) from error

    # Writing

    async def put(
        self, bucket: str, key: str, chunks: Sequence[Chunk], options: PutOptions, body: Body | None
    ) -> ObjectInfo:
        """Store an object whose bytes are all here.

        Args:
            bucket, key, options: of the put.
            chunks: the bytes.
            body: what they are of, for its checksum; None for what has none.
        """
        checksum = None
        if body is not None and body.checksum is not None:
            checksum = Checksum(body.checksum.algorithm, body.digest)
        verified = await self.checksum_headers(chunks)
        send = partial(self._put, bucket, key, chunks, options, checksum, verified)
        if self.gate is None or key[0] == OWN:
            return await send(options.if_match, options.if_none_match, EMPTY)
        return await self.gate.write(bucket, key, options, send)

    async def _put(
        self,
        bucket: str,
        key: str,
        chunks: Sequence[Chunk],
        options: PutOptions,
        checksum: Checksum | None,
        verified: Headers,
        if_match: str | None,
        if_none_match: str | None,
        own: Mapping[str, str],
    ) -> ObjectInfo:
        headers = [_BLOCK_BLOB, *self.description(key, options.attributes, checksum, own), *verified]
        if if_match is not None or if_none_match is not None:
            headers += write_conditions(if_match, if_none_match)
        try:
            response = await self._client.request("PUT", bucket, key, headers=headers, body=chunks, writes=True)
        except PreconditionFailedError as error:
            raise condition_error(error, options) from error
        if response.content is None:
            await response.aclose()
        return self.written(key, sum(map(len, chunks)), response.headers, options.attributes, checksum, own)

    async def checksum_headers(self, chunks: Sequence[Chunk]) -> Headers:
        """Return the header with which the service verifies a body."""
        if self._settings.checksum == "none":
            return []
        return [("content-md5", base64.b64encode(await digest("md5", chunks)).decode())]

    def description(
        self,
        key: str,
        attributes: ObjectAttributes,
        checksum: Checksum | None = None,
        own: Mapping[str, str] = EMPTY,
    ) -> Headers:
        """Return the headers that describe an object, which goes into the store's own tier where none is named.

        The library's own blobs are in no tier that is chosen: those of some cannot be read or copied.
        """
        if key[0] == OWN:
            attributes = replace(attributes, storage_class=None)
        elif attributes.storage_class is None and self._settings.storage_class is not None:
            attributes = replace(attributes, storage_class=self._settings.storage_class)
        return description_headers(attributes, checksum, own)

    def written(
        self,
        key: str,
        size: int,
        headers: Mapping[str, str],
        attributes: ObjectAttributes,
        checksum: Checksum | None,
        own: Mapping[str, str] = EMPTY,
    ) -> ObjectInfo:
        """Return the description of an object that was just written, from the headers of the answer."""
        storage_class = attributes.storage_class or self._settings.storage_class
        if storage_class is not None:
            attributes = replace(attributes, storage_class=storage_class.upper())
        version_id = named(own.get(VERSION)) or headers.get("x-ms-version-id")
        checksums = {checksum.algorithm: checksum.value} if checksum is not None and checksum.value else EMPTY
        return attributes.info(key, size, etag_of(object_headers(headers, "etag")), None, version_id, checksums)

    async def delete(self, bucket: str, key: str, options: DeleteOptions, params: Params = ()) -> None:
        """Delete an object, or the version that ``params`` name."""
        try:
            response = await self._client.request(
                "DELETE", bucket, key, params=params, headers=write_conditions(options.if_match, None), writes=True
            )
        except (ObjectNotFoundError, VersionNotFoundError):
            if options.if_match is not None:
                raise PreconditionFailedError(f"if_match is {options.if_match!r} and there is no object") from None
            return
        await response.aclose()


def condition_error(
    error: PreconditionFailedError, options: PutOptions | CompleteOptions | CopyOptions
) -> PreconditionFailedError:
    """Return the error of a write whose condition did not hold, in the class that says which."""
    kind = ObjectAlreadyExistsError if options.if_none_match == "*" else PreconditionFailedError
    return kind(error.message, status=error.status, request_id=error.request_id, ambiguous=error.ambiguous)


def _read_conditions(options: HeadOptions) -> Headers:
    # The emulator compares with fractions of a second, which no header has; `check_read` decides about that date.
    if options.if_unmodified_since is not None:
        options = replace(options, if_unmodified_since=None)
    return condition_headers(options)


def _missing(error: NotFoundError, params: Params) -> NotFoundError:
    kind = VersionNotFoundError if params else ObjectNotFoundError
    return kind(status=error.status, request_id=error.request_id)
