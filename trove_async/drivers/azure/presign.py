"""Signed URLs: shared access signatures for one blob and one thing to do with it."""

from __future__ import annotations

from typing import Any, Final

from trove_async.driver import PresignMethod, PresignOptions, PresignPostOptions
from trove_async.drivers.azure.client import Client, Params
from trove_async.drivers.azure.sas import Signatures
from trove_async.drivers.azure.versions import Versions
from trove_async.errors import UnsupportedError
from trove_async.types import ObjectRef, PresignedPost

__all__ = ["Presigner"]

_PERMISSIONS: Final[dict[PresignMethod, str]] = {"GET": "r", "HEAD": "r", "PUT": "cw", "DELETE": "d"}


class Presigner:
    """Signs URLs.

    Args:
        client: knows the URLs of blobs.
        signatures: signs.
        versions: find versions.
    """

    def __init__(self, client: Client, signatures: Signatures, versions: Versions) -> None:
        self._client = client
        self._signatures = signatures
        self._versions = versions

    async def url(self, method: PresignMethod, bucket: str, key: str, options: PresignOptions) -> str:
        """Return a signed URL; who puts to it sends the header ``x-ms-blob-type: BlockBlob``.

        Raises:
            UnsupportedError: a signature of Azure's binds neither the type nor the length of a body.
        """
        if options.content_type is not None or options.content_length is not None:
            raise UnsupportedError("a shared access signature binds neither the type nor the length of what is put")
        params: Params = ()
        if options.version_id is not None:
            params = await self._versions.pin(bucket, key, options.version_id)
        more: dict[str, Any] = {"version_id" if name == "versionid" else name: value for name, value in params}
        if options.response_content_type is not None:
            more["content_type"] = options.response_content_type
        if options.response_content_disposition is not None:
            more["content_disposition"] = options.response_content_disposition
        signature = await self._signatures.sign(ObjectRef(bucket, key), _PERMISSIONS[method], options.expires, **more)
        return f"{self._client.url(bucket, key, params)}{'&' if params else '?'}{signature}"

    async def post(self, bucket: str, key: str, options: PresignPostOptions) -> PresignedPost:
        """Refuse: Azure has no signed forms."""
        raise UnsupportedError("Azure has no signed forms; presign a PUT", driver="azure")
