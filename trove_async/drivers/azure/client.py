"""Requests to Azure: signed, and sent again where that may help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from trove_async.body import Piece
from trove_async.driver.put_settling import Settling
from trove_async.driver.retry import Retries
from trove_async.drivers.azure.account import Account
from trove_async.drivers.azure.errors import RULES, UNAUTHENTICATED, read_error
from trove_async.drivers.azure.shared_key import date_header
from trove_async.drivers.azure.tokens import Tokens
from trove_async.errors import (
    BucketNotFoundError,
    NotFoundError,
    ObjectNotFoundError,
    PreconditionFailedError,
    TroveError,
    VersionNotFoundError,
)
from trove_async.wire.client import Call, Headers, ServiceClient
from trove_async.wire.clock import ServiceClock
from trove_async.wire.fields import write_conditions
from trove_async.wire.sigv4 import encode_path, encode_query
from trove_async.wire.transport import Origin, Response, Transport

__all__ = ["API_VERSION", "Client", "Headers", "Params"]

Params = Sequence[tuple[str, str]]
"""The parameters of a query, not encoded."""

API_VERSION: Final = "2023-11-03"
"""The version of the REST API: https://learn.microsoft.com/rest/api/storageservices/version-2023-11-03"""

_MOST_SKEW: Final = 10 * 60
"""Seconds by which a clock may be wrong; the service refuses requests that are off by 15 minutes."""

_UNSIGNED: Final[Mapping[str, Headers]] = {
    # Without it some proxies compress, and then leave Content-Length out of the answer to a HEAD.
    method: [("accept-encoding", "identity")]
    for method in ("GET", "HEAD")
}
_NOTHING: Final[Headers] = []


@dataclass(slots=True)
class _AzureCall(Call):
    params: Params = ()
    path: str = ""
    size: int = 0
    token: str | None = None


class Client(ServiceClient[_AzureCall]):
    """Sends the requests of one store. Every body is in memory or in a file, so that every request can be sent again.

    Args:
        account: signs the requests.
        tokens: gives tokens if the account uses them.
        transport: carries the requests.
        retries: of the store.
        endpoint: the URL of the service, of blobs or of queues.
    """

    rules = RULES

    def __init__(self, account: Account, tokens: Tokens, transport: Transport, retries: Retries, endpoint: str) -> None:
        super().__init__(transport, retries)
        self._account = account
        self._tokens = tokens
        url = urlsplit(endpoint)
        self._origin = Origin(url.scheme, url.hostname or "", url.port or (443 if url.scheme == "https" else 80))
        self._prefix = url.path.rstrip("/")
        self._clock = ServiceClock()

    async def request(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        params: Params = (),
        headers: Headers | None = None,
        body: Sequence[Piece] = (),
    ) -> Response:
        """Send a request and return the answer, whose status is below 300.

        Args:
            method, bucket, key: of the request; no key for requests about the container, no bucket for those about
                the account.
            params: of the query.
            headers: in lower case.
            body: buffers.

        Raises:
            TroveError: what the service answered, in its class of the tree.
            TransientError: after as many attempts as the settings allow.
        """
        return await self.send(self._call(method, bucket, key, params, headers, body, False))

    async def write(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        params: Params = (),
        headers: Headers | None = None,
        body: Sequence[Piece] = (),
        once: bool = False,
        settling: Settling | None = None,
    ) -> Mapping[str, str]:
        """Send a request that changes something and return the headers of the answer.

        As `request`; ``once`` and ``settling`` say what happens after an answer was lost, as in `Call`.
        """
        call = self._call(method, bucket, key, params, headers, body, True)
        call.once, call.settling = once, settling
        return await self.send_for_headers(call)

    async def document(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        params: Params = (),
        headers: Headers | None = None,
        body: Sequence[Piece] = (),
    ) -> tuple[Mapping[str, str], bytes]:
        """Send a request and return the headers and the body of the answer, a document; as `request`.

        An answer that is lost is asked for again.
        """
        response, content = await self.fetch(self._call(method, bucket, key, params, headers, body, False))
        return response.headers, content.removeprefix(b"\xef\xbb\xbf")

    async def delete(self, bucket: str, key: str, if_match: str | None = None, params: Params = ()) -> None:
        """Delete a blob, or the version or snapshot that ``params`` name; a missing one is success.

        Raises:
            PreconditionFailedError: ``if_match`` does not hold.
        """
        try:
            await self.write("DELETE", bucket, key, params=params, headers=write_conditions(if_match, None))
        except (ObjectNotFoundError, VersionNotFoundError) as error:
            if if_match is not None:
                raise PreconditionFailedError(
                    f"if_match is {if_match!r}, and the object does not exist", ambiguous=error.ambiguous
                ) from None

    async def require_bucket(self, bucket: str) -> None:
        """Check that a container exists.

        Raises:
            BucketNotFoundError: it does not.
        """
        try:
            await self.request("HEAD", bucket, params=[("restype", "container")])
        except NotFoundError as error:
            raise BucketNotFoundError(
                f"the container {bucket!r} does not exist",
                bucket=bucket,
                status=error.status,
                request_id=error.request_id,
            ) from error

    def _call(
        self,
        method: str,
        bucket: str,
        key: str,
        params: Params,
        headers: Headers | None,
        body: Sequence[Piece],
        writes: bool,
    ) -> _AzureCall:
        sent = (*params, *self._account.sas)
        call = _AzureCall(method, bucket, key, encode_query(sent) if sent else "", headers or [], body, writes)
        call.params = params
        call.path = self.path(bucket, key)
        for chunk in body:
            call.size += len(chunk)
        return call

    def path(self, bucket: str, key: str = "") -> str:
        """Return the path of a URL, percent-encoded."""
        if key:
            return f"{self._prefix}/{bucket}/{encode_path(key)}"
        return f"{self._prefix}/{bucket}"

    def url(self, bucket: str, key: str, params: Params = ()) -> str:
        """Return the URL of a blob, with the permissions that its parameters give and no others."""
        query = f"?{encode_query(params)}" if params else ""
        return f"{self._origin.scheme}://{self._origin.authority}{self.path(bucket, key)}{query}"

    @property
    def now(self) -> float:
        """The time in seconds of the epoch, by the service's clock as far as it is known."""
        return self._clock.now

    async def token(self) -> str:
        """Return a token of Microsoft Entra ID, for accounts that use them."""
        return self._tokens.known or await self._tokens.get()

    async def _attempt(self, call: _AzureCall) -> Response:
        headers = [("x-ms-date", date_header(self._clock.now)), ("x-ms-version", API_VERSION), *call.headers]
        account = self._account
        if account.key is not None:
            signature = account.key.sign(call.method, call.path, call.params, headers, call.size)
            headers.append(("authorization", signature))
        elif account.uses_tokens:
            call.token = await self.token()
            headers.append(("authorization", f"Bearer {call.token}"))
        headers += _UNSIGNED.get(call.method, _NOTHING)
        target = f"{call.path}?{call.query}" if call.query else call.path
        return await self._transport.send(self._origin, call.method, target, headers, call.body)

    async def _error_of(self, call: _AzureCall, response: Response) -> TroveError | None:
        content = await self._error_body(call, response)
        error, code = read_error(call.bucket, call.key, response.status, response.headers, content)
        if code not in UNAUTHENTICATED or code in call.corrected or not await self._correct(call, response):
            return error
        call.corrected |= {code}
        return None

    async def _correct(self, call: _AzureCall, response: Response) -> bool:
        """Remove the cause of a refused signature or token, if it is one that can be removed."""
        if self._account.key is not None:
            return self._clock.correct(response.headers, _MOST_SKEW)
        return call.token is not None and await self._tokens.renew(call.token)
