"""Tags, which Azure calls blob index tags."""

from __future__ import annotations

from collections.abc import Mapping

from trove_async.drivers.azure.client import Client, Params
from trove_async.drivers.azure.headers import check_tags
from trove_async.wire.xml import document, parse

__all__ = ["Tags"]


class Tags:
    """Reads and writes tags.

    Args:
        client: sends the requests.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def get(self, bucket: str, key: str, params: Params = ()) -> dict[str, str]:
        """Return the tags of a blob, or of the version or snapshot that ``params`` name."""
        _, content = await self._client.document("GET", bucket, key, params=[("comp", "tags"), *params])
        found = parse(content).iter("Tag")
        return {item.findtext("Key") or "": item.findtext("Value") or "" for item in found}

    async def set(self, bucket: str, key: str, tags: Mapping[str, str]) -> None:
        """Replace the tags; none removes them.

        Raises:
            InvalidTagsError: Azure does not take them.
        """
        check_tags(tags)
        pairs = [("Tag", [("Key", name), ("Value", value)]) for name, value in tags.items()]
        body = document("Tags", [("TagSet", pairs)])
        headers = [("content-type", "application/xml; charset=utf-8")]
        await self._client.request(
            "PUT", bucket, key, params=[("comp", "tags")], headers=headers, body=[body], writes=True
        )
