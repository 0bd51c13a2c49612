"""Requests to Azure: signed, sent, and sent again where that mends what went wrong."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

from trove_async.body import Chunk
from trove_async.drivers.azure.account import Account
from trove_async.drivers.azure.errors import UNAUTHENTICATED, refusal
from trove_async.drivers.azure.tokens import Tokens
from trove_async.errors import TroveError
from trove_async.wire.client import Call, Headers, RetryingClient
from trove_async.wire.shared_key import date_header
from trove_async.wire.sigv4 import encode_path, encode_query
from trove_async.wire.transport import Origin, Response, Transport

__all__ = ["API_VERSION", "Client", "Headers", "Params"]

Params = Sequence[tuple[str, str]]
"""Of a query, not encoded."""

API_VERSION: Final = "2023-11-03"
"""The version of the REST API that is spoken: https://learn.microsoft.com/rest/api/storageservices/version-2023-11-03"""

_MOST_SKEW: Final = 10 * 60
"""Seconds by which a clock may be wrong; the service refuses what is off by a quarter of an hour."""


@dataclass(slots=True)
class _AzureCall(Call):
    params: Params = ()
    path: str = ""
    target: str = ""
    size: int = 0
    token: str | None = None
    code: str | None = None


class Client(RetryingClient[_AzureCall]):
    """Sends the requests of one store. Every body is in memory, so that every request can be sent again.

    Args:
        account: whose, and what signs them.
        tokens: gives tokens where the account uses them.
        transport: carries the requests.
        attempts: of each request, the first one included.
        endpoint: the URL of the service; that of blobs or of queues.
    """

    def __init__(self, account: Account, tokens: Tokens, transport: Transport, attempts: int, endpoint: str) -> None:
        super().__init__(transport, attempts)
        self._account = account
        self._tokens = tokens
        url = urlsplit(endpoint)
        self._origin = Origin(url.scheme, url.hostname or "", url.port or (443 if url.scheme == "https" else 80))
        self.endpoint = endpoint
        self._prefix = url.path.rstrip("/")
        self._skew = 0.0

    async def request(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        params: Params = (),
        headers: Headers | None = None,
        body: Sequence[Chunk] = (),
        writes: bool = False,
        accepts: tuple[int, ...] = (),
    ) -> Response:
        """Send a request and return the answer, whose status is below 300.

        Args:
            method, bucket, key: of the request; no key for requests about the container, neither for those about
                the account.
            params: of the query.
            headers: in lower case.
            body: buffers.
            writes: whether an attempt whose answer was lost may have changed something. An error that is raised
                after such an attempt is ``ambiguous``.
            accepts: statuses that are no errors, beside those below 300.

        Raises:
            TroveError: what the service said, in its class of the tree.
            TransientError: after as many attempts as the settings allow.
        """
        return await self.send(self._call(method, bucket, key, params, headers, body, writes, accepts))

    async def document(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        params: Params = (),
        headers: Headers | None = None,
        body: Sequence[Chunk] = (),
        writes: bool = False,
    ) -> tuple[Response, bytes]:
        """Send a request and return the answer with its body, which is a document; as `request`.

        An answer that was lost on its way is asked for again.
        """
        response, content = await self.fetch(self._call(method, bucket, key, params, headers, body, writes, ()))
        return response, content.removeprefix(b"\xef\xbb\xbf")

    def _call(
        self,
        method: str,
        bucket: str,
        key: str,
        params: Params,
        headers: Headers | None,
        body: Sequence[Chunk],
        writes: bool,
        accepts: tuple[int, ...],
    ) -> _AzureCall:
        call = _AzureCall(method, bucket, key, "", headers or [], body, writes, accepts, params=params)
        call.path = self.path(bucket, key)
        sent = (*params, *self._account.sas)
        call.target = f"{call.path}?{encode_query(sent)}" if sent else call.path
        for chunk in body:
            call.size += len(chunk)
        return call

    def path(self, bucket: str, key: str = "") -> str:
        """Return the path of a URL, percent-encoded."""
        if key:
            return f"{self._prefix}/{bucket}/{encode_path(key)}"
        return f"{self._prefix}/{bucket}"

    def url(self, bucket: str, key: str, params: Params = ()) -> str:
        """Return the URL of a blob, with no more permission than its parameters give."""
        query = f"?{encode_query(params)}" if params else ""
        return f"{self._origin.scheme}://{self._origin.authority}{self.path(bucket, key)}{query}"

    @property
    def now(self) -> float:
        """The time in seconds of the epoch, by the service's clock as far as it is known."""
        return time.time() + self._skew

    async def token(self) -> str:
        """Return a token of Microsoft Entra ID, where the account uses them."""
        return self._tokens.known or await self._tokens.get()

    async def _attempt(self, call: _AzureCall) -> Response:
        headers = [("x-ms-date", date_header(self.now)), ("x-ms-version", API_VERSION), *call.headers]
        account = self._account
        if account.key is not None:
            signature = account.key.sign(call.method, call.path, call.params, headers, call.size)
            headers.append(("authorization", signature))
        elif account.uses_tokens:
            call.token = await self.token()
            headers.append(("authorization", f"Bearer {call.token}"))
        return await self._transport.send(self._origin, call.method, call.target, headers, call.body)

    async def _refused(self, call: _AzureCall, response: Response) -> TroveError | None:
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
        if code in UNAUTHENTICATED and code not in call.corrected:
            call.corrected |= {code}
            if await self._mend(call, response):
                return None
        return failure.error

    async def _mend(self, call: _AzureCall, response: Response) -> bool:
        if self._account.key is not None:
            return self._set_clock(response)
        if call.token is not None:
            return await self._tokens.renew(call.token)
        return False

    def _set_clock(self, response: Response) -> bool:
        """Take over the service's time, if it differs by much from what is taken for it."""
        date = response.headers.get("date")
        if date is None:
            return False
        try:
            skew = parsedate_to_datetime(date).timestamp() - time.time()
        except ValueError:
            return False
        if abs(skew - self._skew) < _MOST_SKEW:
            return False
        self._skew = skew
        return True
