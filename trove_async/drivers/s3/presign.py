"""Signed URLs, and signed forms for browsers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from trove_async.driver import PresignMethod, PresignOptions, PresignPostOptions
from trove_async.drivers.s3.client import Client
from trove_async.drivers.s3.settings import S3Settings
from trove_async.errors import UnauthenticatedError
from trove_async.types import PresignedPost
from trove_async.wire.sigv4 import Credentials, encode_path, escape_dots

__all__ = ["Presigner"]


class Presigner:
    """Signs URLs with the store's credentials; a URL expires with them at the latest.

    Args:
        client: has the credentials and the addresses.
        settings: of the store.
    """

    def __init__(self, client: Client, settings: S3Settings) -> None:
        self._client = client
        self._settings = settings

    async def url(self, method: PresignMethod, bucket: str, key: str, options: PresignOptions) -> str:
        """Return a signed URL."""
        credentials = await self._credentials()
        address = self._client.address(bucket)
        query: list[tuple[str, str]] = []
        headers: list[tuple[str, str]] = []
        if options.version_id is not None:
            query.append(("versionId", options.version_id))
        if options.response_content_type is not None:
            query.append(("response-content-type", options.response_content_type))
        if options.response_content_disposition is not None:
            query.append(("response-content-disposition", options.response_content_disposition))
        if options.content_type is not None:
            headers.append(("content-type", options.content_type))
        if options.content_length is not None:
            headers.append(("content-length", str(options.content_length)))
        path = f"{address.prefix}/{encode_path(key)}"
        url = self._client.signer(address.region).presign(
            credentials,
            method,
            address.origin.scheme,
            address.origin.authority,
            path,
            query,
            headers,
            options.expires,
            self._client.now,
        )
        return url.replace(path, escape_dots(path), 1)

    async def post(self, bucket: str, key: str, options: PresignPostOptions) -> PresignedPost:
        """Return a form with which a browser can store an object, with limits on its size.

        https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html
        """
        credentials = await self._credentials()
        address = self._client.address(bucket)
        fields = {"key": key}
        sizes = ["content-length-range", options.min_size, options.max_size]
        conditions: list[Any] = [{"bucket": bucket}, {"key": key}, sizes]
        if options.content_type is not None:
            fields["Content-Type"] = options.content_type
            conditions.append({"Content-Type": options.content_type})
        expiration = datetime.fromtimestamp(self._client.now, UTC) + timedelta(seconds=options.expires)
        policy = {"expiration": expiration.strftime("%Y-%m-%dT%H:%M:%SZ"), "conditions": conditions}
        fields |= self._client.signer(address.region).sign_policy(credentials, policy, self._client.now)
        return PresignedPost(f"{address.origin.scheme}://{address.origin.authority}{address.prefix}/", fields)

    async def _credentials(self) -> Credentials:
        credentials = await self._client.credentials()
        if credentials is None:
            raise UnauthenticatedError(
                "anonymous access has nothing to sign a URL with; open the store with credentials"
            )
        return credentials
