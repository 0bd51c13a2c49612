"""Requests to Cloud Storage, through both of its APIs: with a token, and sent again where that may help."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

from trove_async.body import Piece
from trove_async.driver.put_settling import Settling
from trove_async.driver.retry import Retries
from trove_async.drivers.gcs.addressing import bucket_path, encode_bucket, object_path, resource_path
from trove_async.drivers.gcs.credentials import Credentials
from trove_async.drivers.gcs.documents import ambiguous_if_malformed, decode, resource
from trove_async.drivers.gcs.errors import RULES, read_error
from trove_async.drivers.gcs.settings import GCSSettings
from trove_async.errors import AccessDeniedError, BucketNotFoundError, TroveError
from trove_async.wire.client import Call, Headers, ServiceClient
from trove_async.wire.transport import Origin, Response, Transport

__all__ = ["Client", "Headers", "Query"]

Query = list[tuple[str, str]]

_PORTS: Final = {"http": 80, "https": 443}
_ERROR_DOCUMENT: Final = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?<Error[\s>]")


@dataclass(slots=True)
class _GCSCall(Call):
    path: str = ""
    authorization: str | None = None


class Client(ServiceClient[_GCSCall]):
    """Sends the requests of one store. Every body is in memory or in a file, so that every request can be sent again.

    Args:
        settings: of the store.
        credentials: give tokens.
        transport: carries the requests.
        retries: of the store.

    Attributes:
        origin: of the service.
        prefix: the path of the endpoint's URL, without a slash at its end.
    """

    rules = RULES

    def __init__(self, settings: GCSSettings, credentials: Credentials, transport: Transport, retries: Retries) -> None:
        super().__init__(transport, retries)
        url = urlsplit(settings.endpoint)
        assert url.hostname is not None
        self.origin = Origin(url.scheme, url.hostname, url.port or _PORTS[url.scheme])
        self.prefix = url.path.rstrip("/")
        self._credentials = credentials
        payer = settings.user_project
        self._payer_query = "" if payer is None else f"userProject={quote(payer, safe='')}"
        self._payer_headers: Headers = [] if payer is None else [("x-goog-user-project", payer)]

    # The JSON API

    async def json(
        self,
        method: str,
        path: str,
        bucket: str = "",
        key: str = "",
        *,
        query: Query | None = None,
        content: Mapping[str, Any] | None = None,
        writes: bool = False,
        final: tuple[type[TroveError], ...] = (),
        limit: int | None = None,
        once: bool = False,
        settling: Settling | None = None,
    ) -> Any:
        """Send a request to the JSON API and return the answer, decoded; None for an empty one to a deletion.

        Args:
            method: of the request.
            path: behind ``/storage/v1``, encoded.
            bucket, key: what it is about, for errors.
            query: parameters.
            content: what is sent as JSON.
            writes: whether the request changes something; see `Call`.
            final: errors after which the request is not sent again, although they are transient.
            limit: of the attempts; None for the policy's.
            once, settling: what happens after an answer to a write was lost; see `Call`.

        Raises:
            TroveError: what the service answered, in its class of the tree.
            TransientError: after as many attempts as the settings allow.
        """
        headers: Headers = []
        body: Sequence[Piece] = ()
        if content is not None:
            headers = [("content-type", "application/json; charset=utf-8")]
            body = [json.dumps(content).encode()]
        call = self._json_call(method, f"/storage/v1{path}", bucket, key, query, headers, body, writes)
        call.final, call.limit = final, limit
        call.once, call.settling = once, settling
        _, answer = await self.fetch(call)
        if not writes:
            return resource(decode(answer))
        with ambiguous_if_malformed():
            found = decode(answer)
            return found if method == "DELETE" else resource(found)

    async def media(self, bucket: str, key: str, query: Query, headers: Headers) -> Response:
        """Ask the JSON API for the bytes of an object; as `json`."""
        path = f"/storage/v1{resource_path(bucket, key)}"
        return await self.send(
            self._json_call("GET", path, bucket, key, [("alt", "media"), *query], headers, (), False)
        )

    async def upload(
        self,
        method: str,
        bucket: str,
        key: str,
        query: Query,
        headers: Headers,
        body: Sequence[Piece],
        *,
        accepts: tuple[int, ...] = (),
        target: str | None = None,
        once: bool = False,
        settling: Settling | None = None,
    ) -> tuple[Response, bytes]:
        """Send a request of an upload and return the answer with its body.

        Args:
            method, query, headers, body: of the request.
            bucket, key: of the object.
            accepts: statuses that are no errors, beside those below 300.
            target: path and query of an open session; None for a new upload.
            once: whether the request is sent once, and the caller decides how to go on after a transient error.
            settling: settles a request whose answer is lost; see `Call`.
        """
        if target is None:
            call = self._json_call(
                method, f"/upload/storage/v1{bucket_path(bucket)}/o", bucket, key, query, headers, body, True
            )
        else:
            path, _, encoded = target.partition("?")
            call = _GCSCall(method, bucket, key, encoded, headers, body, True, path=path)
        call.accepts, call.settling = accepts, settling
        if once:
            call.limit = 1
        return await self.fetch(call)

    async def batch(self, content: bytes, content_type: str, bucket: str) -> tuple[Response, bytes]:
        """Send a request that holds several."""
        headers = [("content-type", content_type)]
        call = self._json_call("POST", "/batch/storage/v1", bucket, "", None, headers, [content], True)
        return await self.fetch(call)

    def target(self, path: str) -> str:
        """Return path and query of a request of the JSON API that stands within another."""
        query = f"?{self._payer_query}" if self._payer_query else ""
        return f"{self.prefix}{path}{query}"

    def _json_call(
        self,
        method: str,
        path: str,
        bucket: str,
        key: str,
        query: Query | None,
        headers: Headers,
        body: Sequence[Piece],
        writes: bool,
    ) -> _GCSCall:
        encoded = "&".join([f"{name}={quote(value, safe='')}" for name, value in query]) if query else ""
        if self._payer_query:
            encoded = f"{encoded}&{self._payer_query}" if encoded else self._payer_query
        return _GCSCall(method, bucket, key, encoded, headers, body, writes, path=self.prefix + path)

    # The XML API

    async def xml(
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
        """Send a request to the XML API and return the answer, whose status is below 300; as `json`.

        Args:
            method, bucket, key: of the request; no key for requests about the bucket.
            query: encoded, without ``?``.
            headers: in lower case.
            body: buffers.
            writes: as in `json`.
        """
        return await self.send(self._xml_call(method, bucket, key, query, headers, body, writes))

    async def write(
        self,
        method: str,
        bucket: str,
        key: str,
        *,
        query: str = "",
        headers: Headers | None = None,
        body: Sequence[Piece] = (),
        settling: Settling | None = None,
    ) -> Mapping[str, str]:
        """Send a request to the XML API that changes something and return the headers of the answer.

        As `xml`; ``settling`` settles a request whose answer is lost, as in `Call`.
        """
        call = self._xml_call(method, bucket, key, query, headers, body, True)
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
        settling: Settling | None = None,
    ) -> tuple[Response, bytes]:
        """Send a request to the XML API and return the answer with its body, a document; as `xml` and `write`."""
        call = self._xml_call(method, bucket, key, query, headers, body, writes)
        call.settling = settling
        return await self.fetch(call)

    def _xml_call(
        self,
        method: str,
        bucket: str,
        key: str,
        query: str,
        headers: Headers | None,
        body: Sequence[Piece],
        writes: bool,
    ) -> _GCSCall:
        path = self.prefix + (object_path(bucket, key) if key else f"/{encode_bucket(bucket)}")
        return _GCSCall(method, bucket, key, query, [*self._payer_headers, *(headers or ())], body, writes, path=path)

    async def require_bucket(self, bucket: str) -> None:
        """Check that a bucket exists.

        Raises:
            BucketNotFoundError: it does not.
        """
        await self.json("GET", bucket_path(bucket), bucket, query=[("fields", "name")])

    # What `ServiceClient` asks for

    async def _attempt(self, call: _GCSCall) -> Response:
        authorization = self._credentials.known or await self._credentials.authorization()
        call.authorization = authorization
        headers = call.headers
        if authorization is not None:
            headers = [("authorization", authorization), *headers]
        target = f"{call.path}?{call.query}" if call.query else call.path
        return await self._transport.send(self.origin, call.method, target, headers, call.body)

    async def _error_of(self, call: _GCSCall, response: Response) -> TroveError | None:
        content = await self._error_body(call, response)
        plain = call.query.startswith("alt=media")
        found = read_error(call.bucket, call.key, response.status, response.headers, content, plain=plain)
        if response.status == 401 and "401" not in call.corrected and await self._credentials.renew(call.authorization):
            call.corrected |= {"401"}
            return None
        if found.unclear:
            return await self._located(call.bucket, found.error)
        return found.error

    def _error_in(self, call: _GCSCall, response: Response, content: bytes) -> TroveError | None:
        if response.status < 300 and _ERROR_DOCUMENT.match(content):
            return read_error(call.bucket, call.key, 500, response.headers, content).error
        return None

    async def _located(self, bucket: str, error: TroveError) -> TroveError:
        """Return the error of an object or a bucket that does not exist, whichever it is."""
        try:
            await self.json("GET", bucket_path(bucket), bucket, query=[("fields", "name")], limit=1)
        except BucketNotFoundError as missing:
            return missing
        except AccessDeniedError:
            pass  # the credentials may be good for objects alone
        return error
