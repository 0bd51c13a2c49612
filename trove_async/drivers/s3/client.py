"""Requests to S3: addressed, signed and retried."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from trove_async.body import Piece
from trove_async.checksums import digest
from trove_async.driver.put_settling import Settling
from trove_async.driver.retry import Retries
from trove_async.drivers.s3.addressing import BucketAddress
from trove_async.drivers.s3.errors import ELSEWHERE, EXPIRED, MOST_SKEW, RULES, SKEWED, read_error
from trove_async.drivers.s3.session import Session
from trove_async.drivers.s3.settings import S3Settings
from trove_async.errors import TroveError
from trove_async.wire.client import Call, Headers, ServiceClient
from trove_async.wire.sigv4 import EMPTY_SHA256, UNSIGNED_PAYLOAD, Credentials, SigV4, encode_path
from trove_async.wire.transport import Response, Transport

__all__ = ["Client", "Headers"]

_UNSIGNED: Final[Mapping[str, Headers]] = {
    # Proxies and Google's front end change the header, which would break a signature over it. Without it some front
    # ends compress, and then omit Content-Length from the answer to a HEAD.
    method: [("accept-encoding", "identity")]
    for method in ("GET", "HEAD")
}
_NOTHING: Final[Headers] = []

_ERROR_DOCUMENT: Final = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?<Error[\s>]")
"""The start of an error document, after white space that has kept the connection alive."""


@dataclass(slots=True)
class _S3Call(Call):
    payload: str | None = None
    credentials: Credentials | None = None


class Client(ServiceClient[_S3Call]):
    """Sends a store's requests without the SDK. Every body is in memory or in a file, so every request can be retried.

    Args:
        settings: of the store.
        session: has the credentials and the addresses of buckets.
        transport: sends the requests.
        retries: of the store.
        accelerate: whether requests may go to the accelerated endpoint, which neither creates nor deletes buckets
            (https://docs.aws.amazon.com/AmazonS3/latest/userguide/transfer-acceleration-getting-started.html).
    """

    rules = RULES

    def __init__(
        self,
        settings: S3Settings,
        session: Session,
        transport: Transport,
        retries: Retries,
        *,
        accelerate: bool = True,
    ) -> None:
        super().__init__(transport, retries)
        self._accelerate = accelerate
        self._settings = settings
        self._session = session
        self._addresses: dict[str, BucketAddress] = {}
        self._signers: dict[str, SigV4] = {}
        self._clock = session.clock
        self._extra: Headers = [("x-amz-request-payer", "requester")] if settings.requester_pays else []

    async def request(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        query: str = "",
        headers: Headers | None = None,
        body: Sequence[Piece] = (),
        writes: bool = False,
    ) -> Response:
        """Send a request and return the answer, whose status is below 300.

        Args:
            method, bucket, key: of the request; an empty key for requests about the bucket.
            query: encoded, without ``?``.
            headers: in lower case; all of them are signed.
            body: buffers.
            writes: whether the request changes something; see `Call`.

        Raises:
            TroveError: the service's error.
            TransientError: after the maximum number of attempts.
        """
        return await self.send(self._call(method, bucket, key, query, headers, body, writes))

    async def write(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        query: str = "",
        headers: Headers | None = None,
        body: Sequence[Piece] = (),
        settling: Settling | None = None,
    ) -> Mapping[str, str]:
        """Send a request that changes something and return the headers of the answer; see `request` and `Call`."""
        call = self._call(method, bucket, key, query, headers, body, True)
        call.settling = settling
        return await self.send_for_headers(call)

    async def document(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        query: str = "",
        headers: Headers | None = None,
        body: Sequence[Piece] = (),
        writes: bool = False,
        final: tuple[type[TroveError], ...] = (),
        once: bool = False,
        settling: Settling | None = None,
    ) -> tuple[Response, bytes]:
        """Send a request and return the answer with its document; see `request`.

        If the answer is lost, the request is sent again. An error document is raised as an error, whatever the status:
        S3 begins some answers before the operation has ended
        (https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html). ``final`` has the errors
        after which the request is not sent again; for ``once`` and ``settling`` see `Call`.
        """
        call = self._call(method, bucket, key, query, headers, body, writes)
        call.final, call.once, call.settling = final, once, settling
        return await self.fetch(call)

    def _call(
        self,
        method: str,
        bucket: str,
        key: str,
        query: str,
        headers: Headers | None,
        body: Sequence[Piece],
        writes: bool,
    ) -> _S3Call:
        return _S3Call(method, bucket, key, query, [*self._extra, *(headers or ())], body, writes)

    def _error_in(self, call: _S3Call, response: Response, content: bytes) -> TroveError | None:
        if _ERROR_DOCUMENT.match(content):
            return read_error(call.bucket, call.key, 500, response.headers, content).error
        return None

    def address(self, bucket: str) -> BucketAddress:
        """Return the address of a bucket, as far as it is known."""
        found = self._addresses.get(bucket)
        if found is None:
            found = self._addresses[bucket] = self._session.address(bucket, accelerate=self._accelerate)
        return found

    def signer(self, region: str) -> SigV4:
        """Return the signer for a region."""
        found = self._signers.get(region)
        if found is None:
            found = self._signers[region] = SigV4(region)
        return found

    @property
    def now(self) -> float:
        """The service's time in seconds since the epoch, as far as its clock is known."""
        return self._clock.now

    async def credentials(self) -> Credentials | None:
        """Return the credentials to sign with; None for anonymous access."""
        return self._session.known_credentials or await self._session.credentials()

    async def _payload(self, body: Sequence[Piece], bucket: str) -> str:
        if not body:
            return EMPTY_SHA256
        if not self._settings.signs_payload(self.address(bucket).origin.scheme):
            return UNSIGNED_PAYLOAD
        return (await digest("sha256", body)).hex()

    async def _attempt(self, call: _S3Call) -> Response:
        address = self.address(call.bucket)
        path = f"{address.prefix}/{encode_path(call.key)}" if call.key else address.prefix or "/"
        headers = call.headers + _UNSIGNED.get(call.method, _NOTHING)
        credentials = call.credentials = await self.credentials()
        if credentials is not None:
            if call.payload is None:
                call.payload = await self._payload(call.body, call.bucket)
            headers += self.signer(address.region).sign(
                credentials,
                call.method,
                address.origin.authority,
                path,
                call.query,
                call.headers,
                call.payload,
                self._clock.now,
            )
        target = f"{path}?{call.query}" if call.query else path
        return await self._transport.send(address.origin, call.method, target, headers, call.body)

    async def _error_of(self, call: _S3Call, response: Response) -> TroveError | None:
        content = await self._error_body(call, response)
        found = read_error(call.bucket, call.key, response.status, response.headers, content)
        code = found.code
        if code in call.corrected or not await self._correct(call, response, code, found.region):
            return found.error
        call.corrected |= {code}
        return None

    async def _correct(self, call: _S3Call, response: Response, code: str | None, region: str | None) -> bool:
        """Remove the cause of an error, if that is possible."""
        # The answer to a HEAD has no code, only a status and headers.
        bare = call.method == "HEAD"
        if code in SKEWED or (bare and response.status == 403):
            return self._clock.correct(response.headers, MOST_SKEW if bare else 0)
        if code in EXPIRED:
            return await self._renew(call)
        if code in ELSEWHERE or response.status in (301, 307):
            return self._move(call.bucket, region)
        if bare and response.status == 400:
            return self._move(call.bucket, region) or await self._renew(call)
        return False

    async def _renew(self, call: _S3Call) -> bool:
        return call.credentials is not None and await self._session.renew(call.credentials)

    def _move(self, bucket: str, region: str | None) -> bool:
        if region is None or region == self.address(bucket).region:
            return False
        self._addresses[bucket] = self._session.address(bucket, region, accelerate=self._accelerate)
        return True
