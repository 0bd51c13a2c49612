"""The less frequent requests: buckets, versions, lifecycle, tags, open uploads, notifications.

The SDK makes those about versioning, lifecycle, tags and notifications.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, Final
from xml.etree.ElementTree import Element

from trove_async.driver.retry import Attempts
from trove_async.drivers.s3.client import Client
from trove_async.drivers.s3.errors import EXPIRED, MOST_SKEW, RULES, SKEWED, read_error, sdk_error
from trove_async.drivers.s3.integrity import document_headers
from trove_async.drivers.s3.lifecycle import from_s3, to_s3
from trove_async.drivers.s3.names import check_new_bucket
from trove_async.drivers.s3.objects import NAMESPACE
from trove_async.drivers.s3.pages import is_truncated, unmarked_end
from trove_async.drivers.s3.profiles import Profile
from trove_async.drivers.s3.session import Session
from trove_async.drivers.s3.versions import decoder, key_marker, newest_first, version_elements, version_of
from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    BucketAlreadyExistsError,
    BucketNotFoundError,
    NotFoundError,
    ObjectNotFoundError,
    TroveError,
    UnsupportedError,
    UploadNotFoundError,
)
from trove_async.types import (
    BucketInfo,
    LifecycleRule,
    PartInfo,
    UploadInfo,
    VersionInfo,
    VersioningStatus,
)
from trove_async.wire.errors import clean
from trove_async.wire.fields import etag_of
from trove_async.wire.paging import pages
from trove_async.wire.sigv4 import encode_query
from trove_async.wire.xml import document, number, parse, parse_time, required, text

__all__ = ["Control"]

_PAGE: Final = 1000
_NOTHING_SET: Final = frozenset(
    {"NoSuchConfiguration", "NoSuchLifecycleConfiguration", "NoSuchTagSet", "NoSuchTagSetError"}
)
"""Codes that say that a bucket has no rules, or an object no tags."""

_REDIRECTIONS: Final = 4
"""The most redirections of one call. The SDK looks for the region of a bucket by another request, and follows the
redirection of that one in the same way, until Python's stack ends. A bucket in another region takes three."""

_STATUSES: Final = {
    "Enabled": VersioningStatus.ENABLED,
    "Suspended": VersioningStatus.SUSPENDED,
}

_redirections: ContextVar[list[int] | None] = ContextVar("_redirections", default=None)
"""The statuses of the redirections of one call of `Control`; None outside of its calls."""

Decode = Callable[[str], str]
_Params = tuple[tuple[str, str], ...]
"""The parameters that request a page of a listing."""


class Control:
    """The control plane of one store.

    Args:
        client: sends the requests that the SDK does not make, and has the retries of the others.
        session: has the SDK's client.
        profile: the properties of the service.
        requester_pays: whether this account pays for requests to other accounts' buckets.
        page_size: the number of items in one request, at most 1,000.
    """

    def __init__(
        self,
        client: Client,
        session: Session,
        profile: Profile,
        *,
        requester_pays: bool = False,
        page_size: int = _PAGE,
    ) -> None:
        self._client = client
        self._session = session
        self._profile = profile
        self._retries = client.retries
        self._payer = {"RequestPayer": "requester"} if requester_pays else {}
        self._page_size = str(page_size)
        self._sdk: Any = None

    # Buckets

    async def create_bucket(self, name: str, region: str | None = None) -> None:
        """Make a bucket.

        Args:
            name: of the bucket.
            region: of the bucket; None for the store's region on Amazon, and for the server's default elsewhere.

        Raises:
            BucketAlreadyExistsError: some account has a bucket with this name. This is queried first, since Ceph, MinIO
                and Amazon in us-east-1 report success if the caller already owns the bucket.
            InvalidBucketNameError: a new bucket cannot have the name.
        """
        check_new_bucket(name, self._profile)
        if await self._is_taken(name):
            raise BucketAlreadyExistsError(f"the bucket {name!r} already exists", bucket=name)
        if region is None and self._profile.name == "aws":
            region = self._session.region
        # A bucket without a location constraint goes to us-east-1, which is not a valid location constraint.
        if region in (None, "us-east-1", "auto"):
            await self._client.write("PUT", name)
            return
        content = document("CreateBucketConfiguration", [("LocationConstraint", str(region))], NAMESPACE)
        await self._client.write("PUT", name, headers=document_headers(content), body=[content])

    async def _is_taken(self, name: str) -> bool:
        try:
            await self._client.request("HEAD", name)
        except BucketNotFoundError:
            return False
        except (AccessDeniedError, BackendError) as error:
            # It belongs to another account, or is in another region. Only S3 redirects with the id of a request.
            if error.status == 403 or (error.status == 301 and error.request_id is not None):
                return True
            raise
        return True

    async def delete_bucket(self, name: str) -> None:
        """Delete an empty bucket.

        Raises:
            BucketNotFoundError: it does not exist.
            BucketNotEmptyError: it has objects, versions or, on some services, open uploads.
        """
        await self._client.write("DELETE", name)

    async def list_buckets(self) -> Sequence[BucketInfo]:
        """Return the account's buckets, in the order of their names."""
        found: list[BucketInfo] = []
        size = [("max-buckets", self._page_size)] if self._profile.paged_buckets else []
        markers = {"ContinuationToken": "continuation-token"}
        async for page in self._pages("ListAllMyBuckets", "", "", size, markers):
            found += [_bucket(element) for element in page.iterfind("Buckets/Bucket")]
        return sorted(found, key=lambda bucket: bucket.name)

    # Versions

    async def set_versioning(self, bucket: str, enabled: bool) -> None:
        """Start or stop keeping versions; a bucket that never kept versions stays unversioned."""
        if not enabled and await self.get_versioning(bucket) is VersioningStatus.UNVERSIONED:
            return
        status = {"Status": "Enabled" if enabled else "Suspended"}
        await self._call("put_bucket_versioning", writes=True, Bucket=bucket, VersioningConfiguration=status)

    async def get_versioning(self, bucket: str) -> VersioningStatus:
        """Return whether the bucket keeps versions."""
        answer = await self._call("get_bucket_versioning", Bucket=bucket)
        return _STATUSES.get(answer.get("Status", ""), VersioningStatus.UNVERSIONED)

    async def list_versions(self, bucket: str, key: str) -> Sequence[VersionInfo]:
        """Return versions and delete markers of a key, newest first; empty if it never existed."""
        found: list[VersionInfo] = []
        markers = {"NextKeyMarker": "key-marker", "NextVersionIdMarker": "version-id-marker"}
        params = [("versions", ""), ("prefix", key), ("encoding-type", "url"), ("max-keys", self._page_size)]
        async for page in self._pages("ListVersions", bucket, "", params, markers):
            decode = decoder(page)
            listed = version_elements(page)
            keys = [decode(required(element, "Key")) for element in listed]
            found += [version_of(element, key) for element, of in zip(listed, keys, strict=True) if of == key]
            # Longer keys that begin with this one come after it.
            if any(of != key for of in keys):
                break
        return found if self._profile.ordered_versions else newest_first(found)

    # Lifecycle

    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        """Replace the bucket's rules; an empty sequence removes them.

        Raises:
            UnsupportedError: a rule moves objects, and the service has no storage classes to move them to.
        """
        if not rules:
            await self.delete_lifecycle(bucket)
            return
        moving = [rule.id for rule in rules if rule.transition_days is not None]
        if moving and not self._profile.transitions:
            raise UnsupportedError(f"the rule {moving[0]!r} moves objects, which these services do not support")
        configuration = {"Rules": [to_s3(rule) for rule in rules]}
        await self._call(
            "put_bucket_lifecycle_configuration", writes=True, Bucket=bucket, LifecycleConfiguration=configuration
        )

    async def get_lifecycle(self, bucket: str) -> Sequence[LifecycleRule]:
        """Return the rules; empty if there are none.

        Raises:
            UnsupportedError: a `LifecycleRule` cannot represent one of the rules.
        """
        try:
            answer = await self._call("get_bucket_lifecycle_configuration", about="service", Bucket=bucket)
        except NotFoundError as error:
            if _code_of(error.__cause__) not in _NOTHING_SET:
                raise
            return []
        return [from_s3(rule) for rule in answer.get("Rules", [])]

    async def delete_lifecycle(self, bucket: str) -> None:
        """Remove all rules."""
        await self._call("delete_bucket_lifecycle", writes=True, Bucket=bucket)

    # Tags

    async def get_tags(self, bucket: str, key: str, version_id: str | None = None) -> dict[str, str]:
        """Return an object's tags."""
        try:
            answer = await self._call("get_object_tagging", about="object", **self._object(bucket, key, version_id))
        except NotFoundError as error:
            if _code_of(error.__cause__) not in _NOTHING_SET:
                raise
            return {}
        try:
            return {tag["Key"]: tag["Value"] for tag in answer.get("TagSet") or ()}
        except KeyError as error:
            raise BackendError("the answer has a tag without a key or a value") from error

    async def set_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> None:
        """Replace an object's tags."""
        pairs = [{"Key": name, "Value": value} for name, value in tags.items()]
        await self._call(
            "put_object_tagging", about="object", writes=True, Tagging={"TagSet": pairs}, **self._object(bucket, key)
        )

    async def delete_tags(self, bucket: str, key: str) -> None:
        """Remove an object's tags."""
        await self._call("delete_object_tagging", about="object", writes=True, Bucket=bucket, Key=key)

    def _object(self, bucket: str, key: str, version_id: str | None = None) -> dict[str, Any]:
        version = {} if version_id is None else {"VersionId": version_id}
        return {"Bucket": bucket, "Key": key, **version, **self._payer}

    # Uploads

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> Sequence[PartInfo]:
        """Return the parts that are stored, in the order of their numbers.

        Raises:
            UploadNotFoundError: the upload is not open.
        """
        found: list[PartInfo] = []
        params = [("uploadId", upload_id), ("max-parts", self._page_size)]
        markers = {"NextPartNumberMarker": "part-number-marker"}
        try:
            async for page in self._pages("ListParts", bucket, key, params, markers):
                found += [_part(element) for element in page.iterfind("Part")]
        except ObjectNotFoundError as error:  # Ceph's answer
            raise UploadNotFoundError(status=error.status, request_id=error.request_id) from error
        return sorted(found, key=lambda part: part.number)

    async def list_multipart_uploads(self, bucket: str, prefix: str = "") -> Sequence[UploadInfo]:
        """Return the open uploads, in the order of their keys, then of their start."""
        found: list[UploadInfo] = []
        markers = {"NextKeyMarker": "key-marker", "NextUploadIdMarker": "upload-id-marker"}
        params = [("uploads", ""), ("prefix", prefix), ("max-uploads", self._page_size)]
        # Ceph encodes the keys without saying so; keys without control characters need no encoding in XML.
        if self._profile.control_characters:
            params.append(("encoding-type", "url"))
        async for page in self._pages("ListMultipartUploads", bucket, "", params, markers):
            decode = decoder(page)
            found += [_upload(element, decode) for element in page.iterfind("Upload")]
        # Times may have a resolution of one second; the service's order decides between equal ones.
        return sorted(found, key=lambda upload: (upload.key, str(upload.initiated_at or "")))

    # Notifications

    async def get_notifications(self, bucket: str) -> dict[str, Any]:
        """Return where the bucket sends its events, in the SDK's shape of a NotificationConfiguration."""
        answer = await self._call("get_bucket_notification_configuration", Bucket=bucket)
        return {name: value for name, value in answer.items() if name != "ResponseMetadata"}

    async def set_notifications(self, bucket: str, configuration: Mapping[str, Any]) -> None:
        """Replace the whole notification configuration, including the parts that others have set."""
        await self._call(
            "put_bucket_notification_configuration",
            writes=True,
            Bucket=bucket,
            NotificationConfiguration=dict(configuration),
        )

    # Requests

    async def _pages(
        self, listing: str, bucket: str, key: str, params: Iterable[tuple[str, str]], markers: Mapping[str, str]
    ) -> AsyncGenerator[Element, None]:
        """Yield the answers of a listing until its end.

        Args:
            listing: what the name of its documents begins with: ``Result`` or ``Response`` follows.
            bucket, key: of the listing; empty if it is about none.
            params: of the first page.
            markers: the elements with the position of the next page, and the parameters that request it.
        """

        async def fetch(marker: _Params | None) -> Element:
            query = encode_query([*params, *(marker or ())])
            _, content = await self._client.document("GET", bucket, key, query=query)
            page = parse(content)
            if not page.tag.startswith(listing):
                # It must not pass for an empty page.
                raise BackendError(f"the answer to {listing} is a <{page.tag[:40]}>: is the endpoint an S3 service?")
            return page

        def following(page: Element) -> _Params | None:
            truncated = is_truncated(page)
            if truncated is False:
                return None
            found = [
                (parameter, _marker(page, element, value))
                for element, parameter in markers.items()
                if (value := text(page, element))
            ]
            if truncated and not found:
                raise unmarked_end()
            return tuple(found) or None

        async with aclosing(pages(fetch, following, listing)) as found:
            async for page in found:
                yield page

    async def _call(self, operation: str, *, about: str = "bucket", writes: bool = False, **parameters: Any) -> Any:
        attempts: Attempts | None = None
        ambiguous = False
        while True:
            try:
                answer = await self._attempt(operation, about, writes, parameters)
            except TroveError as error:
                failure = error
            else:
                self._retries.budget.succeeded()
                return answer
            if failure.status is not None and not failure.retryable:
                self._retries.budget.succeeded()  # the service works: it says that the request is at fault
            ambiguous |= failure.ambiguous
            failure.ambiguous = ambiguous
            if attempts is None:
                attempts = self._retries.of_request()
            await attempts.failed(failure)

    async def _attempt(self, operation: str, about: str, writes: bool, parameters: Mapping[str, Any]) -> Any:
        from aiohttp import ClientError as TransportError
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        client = self._sdk or await self._open()
        renewed = corrected = False
        while True:
            used = await self._session.credentials()
            redirections = _redirections.set([])
            try:
                return await self._session.run(getattr(client, operation)(**parameters))
            except TroveError as error:  # of `_check_answer`, or the store was closed
                error.ambiguous = writes
                raise
            except (BotoCoreError, ClientError, ResponseParserError, TransportError, OSError) as error:
                code = _code_of(error)
                if code in EXPIRED and not renewed and used is not None and await self._session.renew(used):
                    renewed = True
                    continue
                if not corrected and self._correct_clock(code, error):
                    corrected = True
                    continue
                raise sdk_error(error, about=about, writes=writes) from error
            except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
                # The SDK's handlers assume the form of an answer, for example that a redirect names a bucket.
                message = f"the endpoint does not speak S3: the SDK cannot handle the answer: {clean(str(error))}"
                raise BackendError(message, ambiguous=writes) from error
            finally:
                _redirections.reset(redirections)

    def _correct_clock(self, code: str | None, error: Exception) -> bool:
        """Adopt the service's time if a wrong clock may be the cause of an error; return whether it was adopted."""
        if code not in SKEWED and code != "403":  # the answer to a HEAD has no code of the service
            return False
        headers = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return self._session.clock.correct(headers, 0 if code in SKEWED else MOST_SKEW)

    async def _open(self) -> Any:
        client = await self._session.client(attempts=1)
        client.meta.events.register_first("before-parse.s3", _before_parse, unique_id="trove")
        self._sdk = client
        return client


def _code_of(error: BaseException | None) -> str | None:
    """Return the service's code in an error of the SDK."""
    code: str | None = (getattr(error, "response", None) or {}).get("Error", {}).get("Code")
    return code


def _before_parse(response_dict: dict[str, Any], operation_model: Any, **_: Any) -> None:
    """Check an answer to a request of `Control`; users may make others with the same client."""
    if (redirections := _redirections.get()) is not None:
        _check_answer(response_dict, operation_model, redirections)


def _check_answer(response_dict: dict[str, Any], operation_model: Any, redirections: list[int]) -> None:
    """Raise the error of an answer that the SDK would mistake for another."""
    status, body = response_dict["status_code"], response_dict["body"]
    headers = {name.lower(): value for name, value in response_dict["headers"].items()}
    error: TroveError | None = None
    if status < 300:
        # The parser makes an empty answer of a page or of nothing.
        method = operation_model.http["method"]
        error = RULES.check_success(status, headers, None if method == "HEAD" else body, writes=False)
        if error is None and not body and method == "GET" and not RULES.is_own(headers):
            error = RULES.foreign(status, headers)
    elif status < 400 and "Bucket" not in operation_model.input_shape.members:
        # The SDK would look for the region of the bucket that the request is about.
        error = read_error("", "", status, headers, body).error
    elif status < 400:
        redirections.append(status)
        if len(redirections) > _REDIRECTIONS:
            error = BackendError("the endpoint does not speak S3: it redirects without end")
    if error is not None:
        raise error


def _marker(page: Element, name: str, value: str) -> str:
    """Return a marker as the next request needs it."""
    return key_marker(page, value) if name == "NextKeyMarker" else value


def _bucket(element: Element) -> BucketInfo:
    created = text(element, "CreationDate")
    return BucketInfo(required(element, "Name"), parse_time(created) if created else None)


def _part(element: Element) -> PartInfo:
    return PartInfo(number(element, "PartNumber"), etag_of(required(element, "ETag")), number(element, "Size"))


def _upload(element: Element, decode: Decode) -> UploadInfo:
    begun = text(element, "Initiated")
    key = decode(required(element, "Key"))
    return UploadInfo(required(element, "UploadId"), key, parse_time(begun) if begun else None)
