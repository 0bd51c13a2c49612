"""The requests of a probe and the findings from their answers; see `trove_async.drivers.s3.probe`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Final
from urllib.parse import unquote_plus

from trove_async.body import Chunk
from trove_async.driver import ListOptions
from trove_async.drivers.s3.client import Client, Headers
from trove_async.drivers.s3.control import Control
from trove_async.drivers.s3.headers import etag_in
from trove_async.drivers.s3.integrity import checksum_headers, part_checksum
from trove_async.drivers.s3.listing import Listing
from trove_async.drivers.s3.objects import NAMESPACE, Objects
from trove_async.drivers.s3.profiles import Profile
from trove_async.drivers.s3.settings import S3Settings
from trove_async.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    NotModifiedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    StorageFullError,
    TransientError,
    TroveError,
    UnauthenticatedError,
    UploadNotFoundError,
)
from trove_async.wire.fields import content_length, http_date, required, write_conditions
from trove_async.wire.sigv4 import encode_path, encode_query
from trove_async.wire.xml import document, parse, text

__all__ = ["Finding", "Prober"]

_RACERS: Final = 10
_ROUNDS: Final = 3
"""The number of races per condition: a service that does not check atomically may pass one of them by chance."""

_PLAIN_ROUNDS: Final = 20
_PLAIN_RACERS: Final = 4
"""The number of races between a plain write and conditional ones; many, because the window for a fault is small."""

_STALE: Final = "0" * 32
"""An ETag of no object of a probe."""

_MIB: Final = 1024 * 1024
_PART_SIZE: Final = 5 * _MIB
_CLEANUP_ROUNDS: Final = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        name: see `Probe.findings`; for a condition its own name.
        works: None if the check was not possible.
        detail: an explanation; may be empty.
    """

    name: str
    works: bool | None
    detail: str = ""


class _FailedError(Exception):
    """The service behaved wrongly; the message says how."""


class _UnknownError(Exception):
    """The check is not possible; the message says why."""


Check = Callable[[], Awaitable[str]]
Write = Callable[[], Awaitable[object]]


class Prober:
    """Makes the requests of a probe.

    Args:
        client, control, listing, settings, profile: of the store.
        bucket: the bucket to write to.
        prefix: the prefix of all keys; every object with it is removed at the end.
    """

    def __init__(
        self,
        client: Client,
        control: Control,
        listing: Listing,
        settings: S3Settings,
        profile: Profile,
        bucket: str,
        prefix: str,
    ) -> None:
        self._client = client
        self._control = control
        self._listing = listing
        self._settings = settings
        self._profile = profile
        self._objects = Objects(client, settings, profile)
        self.bucket = bucket
        self.prefix = prefix
        self._count = 0
        self._quoted: bool | None = None
        self._keys: set[str] = set()
        self._open: dict[str, str] = {}
        self._unlistable: dict[str, str | None] = {}

    async def run(self) -> tuple[Finding, ...]:
        """Make all checks.

        Raises:
            TroveError: the bucket cannot be written and read, or a request failed for an unrelated reason.
        """
        key = self._key()
        await self._put(key, b"probe")
        await self._content(key)
        checks: Mapping[str, Check] = {
            "put_if_none_match": self._check_put_if_none_match,
            "put_if_match": self._check_put_if_match,
            "get": self._check_get,
            "delete": self._check_delete,
            "copy": self._check_copy,
            "complete": self._check_complete,
            "quotes_etags": self._check_quotes,
            "tags": self._check_tags,
            "versioning": self._check_versioning,
            "bulk_delete": self._check_bulk_delete,
            "multipart": partial(self._check_parts, _PART_SIZE, _PART_SIZE),
            "unequal_parts": partial(self._check_parts, _PART_SIZE, _PART_SIZE + _MIB),
            "control_characters": self._check_control_characters,
            "plain_writes": self._check_plain_writes,
        }
        return tuple([await self._find(name, check) for name, check in checks.items()])

    @staticmethod
    async def _find(name: str, check: Check) -> Finding:
        try:
            return Finding(name, True, await check())
        except _FailedError as failed:
            return Finding(name, False, str(failed))
        except _UnknownError as unknown:
            return Finding(name, None, str(unknown))
        except TroveError as error:
            if not _says_no(error):
                raise
            return Finding(name, None if isinstance(error, AccessDeniedError) else False, error.message)

    # Conditions

    async def _check_put_if_none_match(self) -> str:
        key = self._key()
        create = write_conditions(None, "*", quoted=True)
        await _accepts(self._put(key, b"old", create), "If-None-Match: * was refused although there is no object")
        await _refuses(self._put(key, b"new", create), "If-None-Match: * replaced an object")
        await self._holds(key, b"old")
        for _ in range(_ROUNDS):
            key = self._key()
            await self._race(key, {body: partial(self._put, key, body, create) for body in _bodies()})
        return ""

    async def _check_put_if_match(self) -> str:
        key = self._key()
        etag = await self._put(key, b"old")
        await _refuses(self._put(key, b"new", self._match(_STALE)), "a stale If-Match was ignored")
        await self._holds(key, b"old")
        for quoted in (True, False):
            current = write_conditions(etag, None, quoted=quoted)
            if await _is_accepted(self._put(key, b"new", current)):
                break
        else:
            raise _FailedError("If-Match with the object's own ETag was refused, with quotes and without")
        await self._holds(key, b"new")
        stale = write_conditions(etag, None, quoted=quoted)
        await _refuses(self._put(key, b"old", stale), "a stale If-Match was ignored")
        await self._holds(key, b"new")
        key = self._key()
        await _refuses(self._put(key, b"new", stale), "If-Match stored an object although there was none", missing=True)
        await self._holds(key, None)
        for _ in range(_ROUNDS):
            current = write_conditions(await self._put(key, b"first"), None, quoted=quoted)
            await self._race(key, {body: partial(self._put, key, body, current) for body in _bodies()})
        self._quoted = quoted
        return "" if quoted else "with the ETag without quotes"

    async def _check_get(self) -> str:
        key = self._key()
        etag = f'"{await self._put(key, b"here")}"'
        stored = required(await self._ask("HEAD", key), "last-modified", "an S3 service")
        before = http_date(parsedate_to_datetime(stored) - timedelta(days=1))
        stale = f'"{_STALE}"'
        for name, good, bad in (
            ("If-Match", etag, stale),
            ("If-None-Match", stale, etag),
            ("If-Modified-Since", before, stored),
            ("If-Unmodified-Since", stored, before),
        ):
            for method in ("GET", "HEAD"):
                ask = partial(self._ask, method, key)
                await _accepts(ask(name.lower(), good), f"{method} with {name} was refused where it holds")
                await _refuses(ask(name.lower(), bad), f"{name} of a {method} was ignored")
        return ""

    async def _check_delete(self) -> str:
        key = self._key()
        etag = await self._put(key, b"old")
        await _refuses(self._delete(key, headers=self._match(_STALE)), "a stale If-Match was ignored")
        await self._holds(key, b"old")
        await _accepts(self._delete(key, headers=self._match(etag)), "If-Match was refused where it holds")
        await self._holds(key, None)
        return ""

    async def _check_copy(self) -> str:
        source, target = self._key(), self._key()
        etag = await self._put(source, b"source")
        copy = partial(self._copy, source, target)
        named = [("x-amz-copy-source-if-match", f'"{_STALE}"')]
        await _refuses(copy(named), "a stale x-amz-copy-source-if-match was ignored")
        await self._holds(target, None)
        named = [("x-amz-copy-source-if-match", f'"{etag}"')]
        await _accepts(copy(named), "x-amz-copy-source-if-match was refused where it holds")
        await self._holds(target, b"source")
        current = await self._put(target, b"old")
        create = write_conditions(None, "*", quoted=True)
        await _refuses(copy(create), "If-None-Match: * replaced an object")
        await self._holds(target, b"old")
        await _refuses(copy(self._match(_STALE)), "a stale If-Match was ignored")
        await self._holds(target, b"old")
        await _accepts(copy(self._match(current)), "If-Match was refused where it holds")
        await self._holds(target, b"source")
        sources = {body: self._key() for body in _bodies()}
        for body, key in sources.items():
            await self._put(key, body)
        for _ in range(_ROUNDS):
            target = self._key()
            await self._race(target, {body: partial(self._copy, key, target, create) for body, key in sources.items()})
        return ""

    async def _check_complete(self) -> str:
        key = self._key()
        current = self._match(await self._put(key, b"old"))
        create, stale = write_conditions(None, "*", quoted=True), self._match(_STALE)
        await _refuses(await self._upload(key, create, b"new"), "If-None-Match: * replaced an object")
        await self._holds(key, b"old")
        await _refuses(await self._upload(key, stale, b"new"), "a stale If-Match was ignored")
        await self._holds(key, b"old")
        await _accepts(await self._upload(key, current, b"new"), "If-Match was refused where it holds")
        await self._holds(key, b"new")
        for _ in range(_ROUNDS):
            key = self._key()
            begun = {body: await self._begin(key, body) for body in _bodies()}
            await self._race(key, {body: partial(self._complete, key, *it, create) for body, it in begun.items()})
        return ""

    async def _race(self, key: str, writes: Mapping[bytes, Write]) -> None:
        """Make concurrent writes to one key: exactly one must succeed, and its bytes must be stored."""
        attempts = [_is_accepted(write()) for write in writes.values()]
        # All have ended when this returns, also if one fails.
        results = await asyncio.gather(*attempts, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        won = [body for body, result in zip(writes, results, strict=True) if result]
        if len(won) != 1:
            raise _FailedError(f"{len(won)} of {len(writes)} concurrent writers succeeded")
        await self._holds(key, won[0])

    def _match(self, etag: str) -> Headers:
        return write_conditions(etag, None, quoted=self._quoted is not False)

    async def _check_quotes(self) -> str:
        if self._quoted is None:
            raise _UnknownError("If-Match of a put is not honoured")
        if not self._quoted:
            raise _FailedError("If-Match of a put holds only for the ETag without quotes")
        return ""

    # Features

    async def _check_tags(self) -> str:
        key = self._key()
        await self._put(key, b"tagged", [("x-amz-tagging", "probe=put")])
        for value in ("put", "set"):
            if value == "set":
                await self._control.set_tags(self.bucket, key, {"probe": value})
            if await self._control.get_tags(self.bucket, key) != {"probe": value}:
                raise _FailedError(f"the tags of an object are not those that were {value}")
        return ""

    async def _check_versioning(self) -> str:
        key = self._key()
        await self._put(key, b"version")
        status = await self._control.get_versioning(self.bucket)
        if len(await self._control.list_versions(self.bucket, key)) != 1:
            raise _FailedError("an object that was put once does not have one version")
        return f"the bucket is {status.value}"

    async def _check_bulk_delete(self) -> str:
        keys = [self._key() for _ in range(3)]
        for key in keys:
            await self._put(key, b"one of many")
        for result in await self._objects.delete_many(self.bucket, keys):
            if result.error is not None:
                raise _FailedError(result.error.message)
        for key in keys:
            await self._holds(key, None)
        return ""

    async def _check_parts(self, *sizes: int) -> str:
        """Upload parts of the given sizes, and a smaller last one."""
        key = self._key()
        blank = memoryview(bytes(max(sizes)))
        await (await self._upload(key, [], *(blank[:size] for size in sizes), b"end"))
        length = content_length(await self._ask("HEAD", key), "an S3 service")
        if length != sum(sizes) + 3:
            raise _FailedError(f"the object has {length} bytes, not {sum(sizes) + 3}")
        return ""

    async def _check_control_characters(self) -> str:
        others = "".join(map(chr, range(1, 32))).replace("\n", "")
        keys = [f"{self.prefix}control/{characters}" for characters in ("\n", others)]
        try:
            for key in keys:
                self._unlistable[key] = None
                await self._put(key, b"odd")
                await self._holds(key, b"odd")
            page = await self._listing.list_page(self.bucket, ListOptions(prefix=f"{self.prefix}control/"))
            if sorted(info.key for info in page.objects) != sorted(keys):
                raise _FailedError("the keys are not listed as they were stored")
        except TroveError as error:
            await self._remove_unlistable()
            # If the failure was not due to these keys, this request fails as well, and the check is not possible.
            await self._listing.list_page(self.bucket, ListOptions(prefix=f"{self.prefix}control/"))
            raise _FailedError(error.message) from error
        return ""

    async def _check_plain_writes(self) -> str:
        """Race plain writes with conditional ones: the last acknowledged write must be stored.

        A conditional write that succeeds came before the plain one, which changes the ETag. Ceph loses some plain ones.
        """
        if self._quoted is None:
            raise _UnknownError("If-Match of a put is not honoured")
        for round_number in range(_PLAIN_ROUNDS):
            key = self._key()
            current = self._match(await self._put(key, b"first"))
            plain = self._put(key, b"plain") if round_number % 2 else self._delete(key)
            expected = b"plain" if round_number % 2 else None
            conditional = [_is_accepted(self._put(key, body, current)) for body in _bodies()[:_PLAIN_RACERS]]
            results = await asyncio.gather(plain, *conditional, return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException) and not isinstance(result, PreconditionFailedError):
                    raise result
            if await self._content(key) != expected:
                what = "put" if round_number % 2 else "deletion"
                raise _FailedError(f"a {what} without a condition was acknowledged, and lost to a conditional put")
        return ""

    # Requests

    def _key(self) -> str:
        self._count += 1
        key = f"{self.prefix}{self._count}"
        self._keys.add(key)
        return key

    async def _put(self, key: str, body: bytes, headers: Headers | None = None) -> str:
        """Store an object and return its ETag."""
        sent = [*(headers or ()), *self._objects.encryption, *await checksum_headers(self._profile.checksum, [body])]
        response = await self._client.request("PUT", self.bucket, key, headers=sent, body=[body], writes=True)
        if key in self._unlistable:
            self._unlistable[key] = response.headers.get("x-amz-version-id")
        return etag_in(response.headers)

    async def _ask(self, method: str, key: str, name: str = "", value: str = "") -> Mapping[str, str]:
        headers = [*self._objects.customer_key, *([(name, value)] if name else ())]
        response = await self._client.request(method, self.bucket, key, headers=headers)
        await response.aclose()
        return response.headers

    async def _content(self, key: str) -> bytes | None:
        try:
            response = await self._client.request("GET", self.bucket, key, headers=self._objects.customer_key)
        except ObjectNotFoundError:
            return None
        return await response.read_all(_MIB)

    async def _holds(self, key: str, content: bytes | None) -> None:
        """Check the content of an object; None if it must not exist."""
        found = await self._content(key)
        if found != content:
            raise _FailedError("the answer was correct, but the stored content is not")

    async def _delete(self, key: str, version_id: str | None = None, headers: Headers | None = None) -> None:
        query = encode_query([("versionId", version_id)]) if version_id is not None else ""
        response = await self._client.request("DELETE", self.bucket, key, query=query, headers=headers, writes=True)
        await response.aclose()

    async def _copy(self, source: str, target: str, headers: Headers) -> None:
        sent = [("x-amz-copy-source", f"/{self.bucket}/{encode_path(source)}"), *headers, *self._objects.encryption]
        sent += self._settings.customer_key_headers(source=True)
        await self._client.document("PUT", self.bucket, target, headers=sent, writes=True)

    async def _begin(self, key: str, *parts: Chunk) -> tuple[str, list[str]]:
        """Upload the parts; return the upload's id and the ETags of the parts."""
        _, content = await self._client.document(
            "POST", self.bucket, key, query="uploads=", headers=[*self._objects.encryption]
        )
        upload_id = text(parse(content), "UploadId") or ""
        self._open[upload_id] = key
        etags = []
        for number, part in enumerate(parts, start=1):
            query = encode_query([("partNumber", str(number)), ("uploadId", upload_id)])
            headers = [
                *self._objects.customer_key,
                *await checksum_headers(part_checksum(self._profile.checksum), [part]),
            ]
            response = await self._client.request("PUT", self.bucket, key, query=query, headers=headers, body=[part])
            etags.append(etag_in(response.headers))
        return upload_id, etags

    async def _upload(self, key: str, conditions: Headers, *parts: Chunk) -> Awaitable[object]:
        """Upload the parts, and return the completion, which the caller awaits."""
        return self._complete(key, *await self._begin(key, *parts), conditions)

    async def _complete(self, key: str, upload_id: str, etags: Sequence[str], conditions: Headers) -> None:
        listed = [
            ("Part", [("PartNumber", str(number)), ("ETag", f'"{etag}"')]) for number, etag in enumerate(etags, start=1)
        ]
        content = document("CompleteMultipartUpload", listed, NAMESPACE)
        headers = [("content-type", "application/xml"), *conditions]
        query = encode_query([("uploadId", upload_id)])
        await self._client.document("POST", self.bucket, key, query=query, headers=headers, body=[content], writes=True)
        self._open.pop(upload_id, None)

    async def _abort(self, key: str, upload_id: str) -> None:
        try:
            query = encode_query([("uploadId", upload_id)])
            response = await self._client.request("DELETE", self.bucket, key, query=query)
        except UploadNotFoundError:
            return  # a completion that was cancelled was carried out
        await response.aclose()

    # Clean-up

    async def clean(self) -> None:
        """Remove everything that was written; after a failure, go on with the others."""
        failures: list[TroveError] = []
        for step in (self._remove_unlistable, self._abort_uploads, self._remove_objects):
            try:
                await step()
            except TroveError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    async def _remove_unlistable(self) -> None:
        for key, version_id in list(self._unlistable.items()):
            try:
                await self._delete(key, version_id)
            except TroveError as error:
                if not _says_no(error):
                    raise
            del self._unlistable[key]

    async def _abort_uploads(self) -> None:
        try:
            listed = await self._control.list_multipart_uploads(self.bucket, self.prefix)
        except TroveError as error:
            if not _says_no(error):
                raise
            listed = []
        found = self._open | {upload.upload_id: upload.key for upload in listed}
        await _all(self._abort(key, upload_id) for upload_id, key in found.items())

    async def _remove_objects(self) -> None:
        # In a versioned bucket a delete without a version adds a marker, so it is tried second.
        keys = set() if await self._remove_versions() else self._keys
        page = await self._listing.list_page(self.bucket, ListOptions(prefix=self.prefix))
        await _all(self._delete(key) for key in {*keys, *(info.key for info in page.objects)})

    async def _remove_versions(self) -> bool:
        """Remove versions and delete markers until there are none; return whether the service lists them."""
        query = encode_query([("versions", ""), ("encoding-type", "url"), ("prefix", self.prefix)])
        for _ in range(_CLEANUP_ROUNDS):
            try:
                _, content = await self._client.document("GET", self.bucket, query=query)
            except TroveError as error:
                if not _says_no(error):
                    raise
                return False
            listed = [element for element in parse(content) if element.tag in ("Version", "DeleteMarker")]
            if not listed:
                return True
            # Encoding changes only characters in these keys that a service may or may not encode.
            named = [(unquote_plus(text(element, "Key") or ""), text(element, "VersionId")) for element in listed]
            await _all(self._delete(key, version_id) for key, version_id in named)
        return True


def _bodies() -> list[bytes]:
    """Return the bodies of the writers of a race."""
    return [f"writer {number}".encode() for number in range(_RACERS)]


async def _is_accepted(request: Awaitable[object], *, missing: bool = False) -> bool:
    """Make a conditional request and return whether it succeeded.

    Args:
        request: the request.
        missing: whether "the object does not exist" counts as a refusal too.
    """
    try:
        await request
    except (PreconditionFailedError, NotModifiedError):
        return False
    except ObjectNotFoundError:
        if missing:
            return False
        raise
    return True


async def _accepts(request: Awaitable[object], otherwise: str) -> None:
    if not await _is_accepted(request):
        raise _FailedError(otherwise)


async def _refuses(request: Awaitable[object], otherwise: str, *, missing: bool = False) -> None:
    if await _is_accepted(request, missing=missing):
        raise _FailedError(otherwise)


async def _all(requests: Iterable[Awaitable[object]]) -> None:
    """Make requests concurrently; after a failure, the others continue."""
    results = await asyncio.gather(*requests, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


def _says_no(error: TroveError) -> bool:
    """Whether an error is the service's answer to the request, and not a problem of the connection."""
    if isinstance(error, UnauthenticatedError | BucketNotFoundError | StorageFullError):
        return False
    # Services also answer 500 to requests that they do not expect.
    return not isinstance(error, TransientError) or error.status == 500
