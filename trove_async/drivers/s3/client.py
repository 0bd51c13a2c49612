"""Requests to S3: signed, sent, and sent again where that mends what went wrong."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from trove_async.body import Chunk
from trove_async.checksums import digest
from trove_async.drivers.s3.errors import ELSEWHERE, EXPIRED, SKEWED, refusal
from trove_async.drivers.s3.session import Place, Session
from trove_async.drivers.s3.settings import S3Settings
from trove_async.errors import TroveError
from trove_async.wire.client import Call, Headers, RetryingClient
from trove_async.wire.sigv4 import EMPTY_SHA256, UNSIGNED_PAYLOAD, Credentials, SigV4, encode_path
from trove_async.wire.transport import Response, Transport

__all__ = ["Client", "Headers"]

_MOST_SKEW: Final = 15 * 60
"""Seconds by which a clock may be wrong before S3 refuses what it has signed."""
_ERROR_DOCUMENT: Final = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?<Error[\s>]")
"""What begins a document that tells an error; blanks before it have kept the connection alive."""


@dataclass(slots=True)
class _S3Call(Call):
    payload: str = EMPTY_SHA256
    credentials: Credentials | None = None


class Client(RetryingClient[_S3Call]):
    """Sends the hot verbs of one store. Every body is in memory, so that every request can be sent again.

    Args:
        settings: of the store.
        session: knows the credentials and where buckets are.
        transport: carries the requests.
    """

    def __init__(self, settings: S3Settings, session: Session, transport: Transport) -> None:
        super().__init__(transport, settings.network.attempts)
        self._settings = settings
        self._session = session
        self._places: dict[str, Place] = {}
        self._signers: dict[str, SigV4] = {}
        self._skew = 0.0
        self._extra: Headers = [("x-amz-request-payer", "requester")] if settings.requester_pays else []

    async def request(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        query: str = "",
        headers: Headers | None = None,
        body: Sequence[Chunk] = (),
        writes: bool = False,
    ) -> Response:
        """Send a request and return the answer, whose status is below 300.

        Args:
            method, bucket, key: of the request; no key for requests about the bucket.
            query: encoded, without ``?``.
            headers: in lower case; all of them are signed.
            body: buffers.
            writes: whether an attempt whose answer was lost may have changed something. An error that is raised
                after such an attempt is ``ambiguous``.

        Raises:
            TroveError: what the service said, in its class of the tree.
            TransientError: after as many attempts as the settings allow.
        """
        call = _S3Call(method, bucket, key, query, [*self._extra, *(headers or ())], body, writes)
        call.payload = await self._payload(body, bucket)
        return await self.send(call)

    async def document(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        query: str = "",
        headers: Headers | None = None,
        body: Sequence[Chunk] = (),
        writes: bool = False,
    ) -> tuple[Response, bytes]:
        """Send a request and return the answer with its body, which is a document; as `request`.

        An answer that was lost on its way is asked for again. A document that tells an error is raised as one,
        whatever the status says: S3 begins some answers before it knows how they end
        (https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html).
        """
        call = _S3Call(method, bucket, key, query, [*self._extra, *(headers or ())], body, writes)
        call.payload = await self._payload(body, bucket)
        return await self.fetch(call)

    def _told(self, call: _S3Call, response: Response, content: bytes) -> TroveError | None:
        if _ERROR_DOCUMENT.match(content):
            return refusal(call.method, call.bucket, call.key, 500, response.headers, content).error
        return None

    def place(self, bucket: str) -> Place:
        """Return where a bucket is, as far as is known."""
        found = self._places.get(bucket)
        if found is None:
            found = self._places[bucket] = self._session.place(bucket)
        return found

    def signer(self, region: str) -> SigV4:
        """Return the signer for a region."""
        found = self._signers.get(region)
        if found is None:
            found = self._signers[region] = SigV4(region)
        return found

    @property
    def now(self) -> float:
        """The time in seconds of the epoch, by the service's clock as far as it is known."""
        return time.time() + self._skew

    async def credentials(self) -> Credentials | None:
        """Return what to sign with, None for anonymous access."""
        return self._session.known_credentials or await self._session.credentials()

    async def _payload(self, body: Sequence[Chunk], bucket: str) -> str:
        if not body:
            return EMPTY_SHA256
        if not self._settings.signs_payload(self.place(bucket).origin.scheme):
            return UNSIGNED_PAYLOAD
        return (await digest("sha256", body)).hex()

    async def _attempt(self, call: _S3Call) -> Response:
        place = self.place(call.bucket)
        path = f"{place.prefix}/{encode_path(call.key)}" if call.key else place.prefix or "/"
        headers = call.headers
        credentials = call.credentials = await self.credentials()
        if credentials is not None:
            headers = headers + self.signer(place.region).sign(
                credentials,
                call.method,
                place.origin.authority,
                path,
                call.query,
                headers,
                call.payload,
                self.now,
            )
        target = f"{path}?{call.query}" if call.query else path
        return await self._transport.send(place.origin, call.method, target, headers, call.body)

    async def _refused(self, call: _S3Call, response: Response) -> TroveError | None:
        failure = refusal(
            call.method,
            call.bucket,
            call.key,
            response.status,
            response.headers,
            await self._error_body(call, response),
            ambiguous=call.writes and response.status in (500, 502, 504),
        )
        code = failure.code
        # An answer to HEAD has no code; what else it says has to do.
        bare = call.method == "HEAD"
        if code in call.corrected:
            return failure.error
        if code in SKEWED or (bare and response.status == 403):
            corrected = self._set_clock(response, least=_MOST_SKEW if bare else 0)
        elif code in EXPIRED:
            corrected = await self._renew(call)
        elif code in ELSEWHERE or response.status in (301, 307):
            corrected = self._move(call.bucket, failure.region)
        elif bare and response.status == 400:
            corrected = self._move(call.bucket, failure.region) or await self._renew(call)
        else:
            corrected = False
        if not corrected:
            return failure.error
        call.corrected |= {code}
        return None

    async def _renew(self, call: _S3Call) -> bool:
        return call.credentials is not None and await self._session.renew(call.credentials)

    def _set_clock(self, response: Response, *, least: float) -> bool:
        """Take over the service's time, if it differs by so many seconds at least from what is taken for it."""
        date = response.headers.get("date")
        if date is None:
            return False
        try:
            skew = parsedate_to_datetime(date).timestamp() - time.time()
        except ValueError:
            return False
        if abs(skew - self._skew) < least:
            return False
        self._skew = skew
        return True

    def _move(self, bucket: str, region: str | None) -> bool:
        if region is None or region == self.place(bucket).region:
            return False
        self._places[bucket] = self._session.place(bucket, region)
        return True
