"""Requests to Cloud Storage: with a token, sent, and sent again where that mends what went wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, urlsplit

from trove_async.body import Chunk
from trove_async.drivers.gcs.credentials import Credentials
from trove_async.drivers.gcs.errors import refusal
from trove_async.drivers.gcs.settings import GCSSettings
from trove_async.errors import BackendError, BucketNotFoundError, NotFoundError, ObjectNotFoundError, TroveError
from trove_async.wire.client import Call, Headers, RetryingClient
from trove_async.wire.sigv4 import encode_path
from trove_async.wire.transport import Origin, Response, Transport

__all__ = [
    "Attempts",
    "Client",
    "Headers",
    "Query",
    "bucket_path",
    "decode",
    "encode_bucket",
    "object_path",
    "resource_path",
]

Query = list[tuple[str, str]]

_PORTS: Final = {"http": 80, "https": 443}
_UNSETTLED: Final = (500, 502, 504)
"""Statuses upon which the request may have taken effect all the same."""


@dataclass(slots=True)
class _GCSCall(Call):
    path: str = ""
    once: bool = False
    authorization: str | None = None


@lru_cache(1024)
def encode_bucket(bucket: str) -> str:
    """Return a bucket's name as it stands in a path; valid ones stay as they are."""
    return quote(bucket, safe="")


def bucket_path(bucket: str) -> str:
    """Return the path of a bucket in the JSON API, behind ``/storage/v1``."""
    return f"/b/{encode_bucket(bucket)}"


def object_path(bucket: str, key: str) -> str:
    """Return the path of an object in the XML API.

    Components that are dots are hidden in escapes, slashes and all: what stands between here and the service may
    else resolve them.
    """
    if "." in key and any(part in (".", "..") for part in key.split("/")):
        return f"/{encode_bucket(bucket)}/{quote(key, safe='')}"
    return f"/{encode_bucket(bucket)}/{encode_path(key)}"


def resource_path(bucket: str, key: str) -> str:
    """Return the path of an object in the JSON API, behind ``/storage/v1``."""
    return f"{bucket_path(bucket)}/o/{quote(key, safe='')}"


class Client(RetryingClient[_GCSCall]):
    """Sends the requests of one store. Every body is in memory, so that every request can be sent again.

    Args:
        settings: of the store.
        credentials: give tokens.
        transport: carries the requests.

    Attributes:
        origin: of the service.
        prefix: the path of the endpoint's URL, without a slash at its end.
    """

    def __init__(self, settings: GCSSettings, credentials: Credentials, transport: Transport) -> None:
        super().__init__(transport, settings.network.attempts)
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
    ) -> Any:
        """Send a request to the JSON API and return what it answers, decoded; None for an empty answer.

        Args:
            method: of the request.
            path: behind ``/storage/v1``, encoded.
            bucket, key: what it is about, for errors.
            query: parameters.
            content: what is sent as JSON.
            writes: whether an attempt whose answer was lost may have changed something.

        Raises:
            TroveError: what the service said, in its class of the tree.
            TransientError: after as many attempts as the settings allow.
        """
        headers: Headers = []
        body: Sequence[Chunk] = ()
        if content is not None:
            headers = [("content-type", "application/json; charset=utf-8")]
            body = [json.dumps(content).encode()]
        call = self._json_call(method, f"/storage/v1{path}", bucket, key, query, headers, body, writes)
        _, answer = await self.fetch(call)
        return decode(answer)

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
        body: Sequence[Chunk],
        *,
        accepts: tuple[int, ...] = (),
        target: str | None = None,
        once: bool = False,
    ) -> tuple[Response, bytes]:
        """Send a request of an upload and return the answer with its body.

        Args:
            method, query, headers, body: of the request.
            bucket, key: of the object.
            accepts: statuses that are no errors, beside those below 300.
            target: path and query of an open session; None for a new upload.
            once: whether a failure in passing is raised at once, and the caller decides how to go on.
        """
        if target is None:
            call = self._json_call(
                method, f"/upload/storage/v1{bucket_path(bucket)}/o", bucket, key, query, headers, body, True
            )
        else:
            path, _, encoded = target.partition("?")
            call = _GCSCall(method, bucket, key, encoded, headers, body, True, path=path)
        call.accepts = accepts
        call.once = once
        return await self.fetch(call)

    def attempts(self, bucket: str, key: str) -> Attempts:
        """Return the attempts that there are for something of more than one request."""
        return Attempts(self, _GCSCall("", bucket, key, "", [], (), True))

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
        body: Sequence[Chunk],
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
        body: Sequence[Chunk] = (),
        writes: bool = False,
    ) -> Response:
        """Send a request to the XML API and return the answer, whose status is below 300; as `json`.

        Args:
            method, bucket, key: of the request; no key for requests about the bucket.
            query: encoded, without ``?``.
            headers: in lower case.
            body: buffers.
            writes: as of `json`.
        """
        return await self.send(self._xml_call(method, bucket, key, query, headers, body, writes))

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
        """Send a request to the XML API and return the answer with its body; as `xml`."""
        return await self.fetch(self._xml_call(method, bucket, key, query, headers, body, writes))

    def _xml_call(
        self,
        method: str,
        bucket: str,
        key: str,
        query: str,
        headers: Headers | None,
        body: Sequence[Chunk],
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

    # As of `RetryingClient`

    def _delay(self, call: _GCSCall, failure: TroveError) -> float | None:
        return None if call.once else super()._delay(call, failure)

    async def _attempt(self, call: _GCSCall) -> Response:
        authorization = self._credentials.known or await self._credentials.authorization()
        call.authorization = authorization
        headers = call.headers
        if authorization is not None:
            headers = [("authorization", authorization), *headers]
        target = f"{call.path}?{call.query}" if call.query else call.path
        return await self._transport.send(self.origin, call.method, target, headers, call.body)

    async def _refused(self, call: _GCSCall, response: Response) -> TroveError | None:
        error = refusal(
            call.bucket,
            call.key,
            response.status,
            response.headers,
            await self._error_body(call, response),
            ambiguous=call.writes and response.status in _UNSETTLED,
            plain=call.query.startswith("alt=media"),
        )
        if response.status == 401 and "401" not in call.corrected and await self._credentials.renew(call.authorization):
            call.corrected |= {"401"}
            return None
        if type(error) is NotFoundError and call.key:
            return await self._located(call, error)
        return error

    async def _located(self, call: _GCSCall, error: NotFoundError) -> TroveError:
        """Find out what it is that is missing, where the answer does not tell."""
        try:
            await self.require_bucket(call.bucket)
        except BucketNotFoundError as missing:
            return missing
        return ObjectNotFoundError(error.message, status=error.status, request_id=error.request_id)


class Attempts:
    """Counts what failed in passing, and waits between attempts as a single request does."""

    def __init__(self, client: Client, call: _GCSCall) -> None:
        self._client = client
        self._call = call

    async def failed(self, failure: TroveError) -> None:
        """Wait for the next attempt.

        Raises:
            TroveError: the failure, where there is to be none.
        """
        self._call.attempts += 1
        await self._client._wait(self._call, failure)

    def succeeded(self) -> None:
        """Begin to count anew."""
        self._call.attempts = 0


def decode(answer: bytes) -> Any:
    """Return the JSON that an answer is; None for an empty one.

    Raises:
        BackendError: it is none.
    """
    if not answer:
        return None
    try:
        return json.loads(answer)
    except ValueError as error:
        raise BackendError("the answer is no JSON: is the endpoint Cloud Storage?") from error
