"""Signed URLs, and forms that browsers may post."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from trove_async.driver import PresignMethod, PresignOptions, PresignPostOptions
from trove_async.drivers.gcs.addressing import encode_bucket
from trove_async.drivers.gcs.client import Client
from trove_async.drivers.gcs.credentials import Credentials
from trove_async.drivers.gcs.signing import Signer
from trove_async.errors import UnauthenticatedError
from trove_async.types import PresignedPost
from trove_async.wire.sigv4 import encode_path, escape_dots

__all__ = ["Presigner"]

_NO_KEY: Final = (
    "URLs are signed with a service account's key, and these credentials have none: "
    "open the store with the path of its key file as credentials"
)


class Presigner:
    """Signs URLs with the store's credentials.

    Args:
        client: knows where the service is.
        credentials: have the key.
        user_project: the project that pays for the requests; None for the bucket's own.
    """

    def __init__(self, client: Client, credentials: Credentials, user_project: str | None) -> None:
        self._client = client
        self._credentials = credentials
        self._user_project = user_project

    async def url(self, method: PresignMethod, bucket: str, key: str, options: PresignOptions) -> str:
        """Return a signed URL of the XML API."""
        query: list[tuple[str, str]] = []
        headers: list[tuple[str, str]] = []
        if options.version_id is not None:
            query.append(("generation", options.version_id))
        if options.response_content_type is not None:
            query.append(("response-content-type", options.response_content_type))
        if options.response_content_disposition is not None:
            query.append(("response-content-disposition", options.response_content_disposition))
        if self._user_project is not None:
            query.append(("userProject", self._user_project))
        if options.content_type is not None:
            headers.append(("content-type", options.content_type))
        if options.content_length is not None:
            headers.append(("content-length", str(options.content_length)))
        path = f"{self._client.prefix}/{encode_bucket(bucket)}/{encode_path(key)}"
        url = self._signer().url(
            method,
            str(self._client.origin),
            path,
            query=query,
            headers=headers,
            expires=options.expires,
            now=datetime.now(UTC),
        )
        return url.replace(path, escape_dots(path), 1)

    async def post(self, bucket: str, key: str, options: PresignPostOptions) -> PresignedPost:
        """Return a form with which a browser may store an object of a size within bounds."""
        fields = {"key": key}
        conditions: list[Any] = [{"bucket": bucket}, ["content-length-range", options.min_size, options.max_size]]
        if options.content_type is not None:
            fields["Content-Type"] = options.content_type
        signed = self._signer().form(fields, conditions, expires=options.expires, now=datetime.now(UTC))
        return PresignedPost(f"{self._client.origin}{self._client.prefix}/{encode_bucket(bucket)}/", signed)

    def _signer(self) -> Signer:
        if self._credentials.signer is None:
            raise UnauthenticatedError(_NO_KEY)
        return self._credentials.signer
