"""Lists of objects in the XML API, versions 1 and 2 (https://cloud.google.com/storage/docs/xml-api/get-bucket-list)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import quote
from xml.sax.saxutils import escape

from trove_async.testing.gcs.errors import invalid
from trove_async.testing.gcs.http import Request, Response
from trove_async.testing.gcs.listing import Page, Position, Selection, page, position_of, token_of
from trove_async.testing.gcs.resources import stamp
from trove_async.testing.gcs.state import Bucket, StoredObject
from trove_async.testing.gcs.xml_multipart import xml_response

__all__ = ["list_objects"]

_XMLNS: Final = "http://doc.s3.amazonaws.com/2006-03-01"
_PAGE: Final = 1000
_NEWEST: Final = 1 << 63  # after all generations of a name

Text = Callable[[str], str]


def list_objects(request: Request, bucket: Bucket) -> Response:
    """Answer ``GET /{bucket}``.

    Raises:
        ServiceError: 400; a parameter is not valid.
    """
    query = request.query
    second, text = _is_second_version(request), _encoding(request)
    delimiter = query.get("delimiter", "")
    start = query.get("start-after" if second else "marker", "")
    token = query.get("continuation-token") if second else None
    size = _size(request)
    after: Position | None = (start, _NEWEST, bool(delimiter) and start.endswith(delimiter)) if start else None
    selection = Selection(
        prefix=query.get("prefix", ""), delimiter=delimiter, size=size, after=position_of(token) if token else after
    )
    found = page(bucket, selection) if size else Page()
    fields = [("Name", bucket.name), ("Prefix", text(selection.prefix))]
    if delimiter:
        fields.append(("Delimiter", text(delimiter)))
    if "encoding-type" in query:
        fields.append(("EncodingType", "url"))
    fields += [("MaxKeys", str(size)), ("IsTruncated", "false" if found.end is None else "true")]
    fields += _second_version(found, token, text(start)) if second else _first_version(found, text, start)
    head = "".join(_element(name, value) for name, value in fields)
    items = "".join(_contents(item, text) for item in found.items)
    prefixes = "".join(f"<CommonPrefixes>{_element('Prefix', text(name))}</CommonPrefixes>" for name in found.prefixes)
    return xml_response(f'<ListBucketResult xmlns="{_XMLNS}">{head}{items}{prefixes}</ListBucketResult>')


def _first_version(found: Page, text: Text, marker: str) -> list[tuple[str, str]]:
    following = [] if found.end is None else [("NextMarker", text(found.end[0]))]
    return [("Marker", text(marker)), *following]


def _second_version(found: Page, token: str | None, start_after: str) -> list[tuple[str, str]]:
    fields = [("KeyCount", str(len(found)))]
    if token:
        fields.append(("ContinuationToken", token))
    if start_after:
        fields.append(("StartAfter", start_after))
    if found.end is not None:
        fields.append(("NextContinuationToken", token_of(found.end)))
    return fields


def _contents(found: StoredObject, text: Text) -> str:
    fields = (
        ("Key", text(found.name)),
        ("Generation", str(found.generation)),
        ("MetaGeneration", str(found.metageneration)),
        ("LastModified", stamp(found.updated)),
        ("ETag", found.xml_etag),
        ("Size", str(len(found.data))),
    )
    return f"<Contents>{''.join(_element(name, value) for name, value in fields)}</Contents>"


def _element(name: str, value: str) -> str:
    return f"<{name}>{escape(value)}</{name}>"


def _is_second_version(request: Request) -> bool:
    version = request.query.get("list-type", "1")
    if version not in ("1", "2"):
        raise invalid(f"Invalid argument: list-type: {version}")
    return version == "2"


def _encoding(request: Request) -> Text:
    encoding = request.query.get("encoding-type")
    if encoding not in (None, "url"):
        raise invalid(f"Invalid argument: encoding-type: {encoding}")
    return quote if encoding else lambda value: value


def _size(request: Request) -> int:
    size = request.integer("max-keys")
    if size is None:
        return _PAGE
    if size < 0:
        raise invalid(f"Invalid argument: max-keys: {size}")
    return min(size, _PAGE)
