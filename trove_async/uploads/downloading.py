"""How a finished upload is read."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Final

from trove_async.errors import InvalidMetadataError, ObjectNotFoundError, UploadRejectedError
from trove_async.keys import DEFAULT_CONTENT_TYPE, check_content_type, content_type_of
from trove_async.uploads.datastore import ContentDataStore, DataStore
from trove_async.uploads.info import FileInfo
from trove_async.web.http import Disposition, Headers, content_disposition
from trove_async.web.objects import Answer, Overrides

__all__ = ["download"]

_MAX_FILENAME: Final = 255
_MAX_EXTENSION: Final = 16

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SIMPLE_TYPE: Final = re.compile(rf"({_TOKEN}/{_TOKEN})(?:[ \t]*;[ \t]*{_TOKEN}={_TOKEN})*\Z")


async def download(store: DataStore, info: FileInfo, headers: Headers, inline_types: Collection[str]) -> Answer:
    """Answer with the bytes of an upload; with ranges and conditions if the store has them.

    Args:
        store: of the upload.
        info: the upload.
        headers: of the request.
        inline_types: media types that browsers may show.

    Raises:
        UploadRejectedError: it is not finished, or is a part of another upload, or its object is gone.
        UnsupportedError: the store does not read uploads.
    """
    if info.is_partial:
        raise UploadRejectedError("a partial upload is read only as a part of a final one", status_code=403)
    if not info.is_finished:
        raise UploadRejectedError("the upload is not finished", status_code=400)
    content_type = _content_type(info)
    disposition: Disposition = "inline" if _essence(content_type) in inline_types else "attachment"
    overrides = Overrides(content_type, content_disposition(disposition, _filename(info)), metadata=False)
    try:
        if isinstance(store, ContentDataStore):
            return await store.serve_upload(info.id, headers, overrides)
        stream = await store.get_reader(info.id)
    except ObjectNotFoundError as error:  # a finished upload is an object like others, which the application may delete
        raise UploadRejectedError("the object that the upload became is gone", status_code=404) from error
    described = [
        ("Content-Type", content_type),
        ("Content-Disposition", overrides.content_disposition or disposition),
        ("X-Content-Type-Options", "nosniff"),
        ("Content-Length", str(info.size)),
    ]
    return Answer(200, described, stream)


def _essence(content_type: str) -> str | None:
    """Return the media type without parameters; None if it is not sure that every browser sees this one.

    Browsers take a comma for the end of a type, and the last type of several for the true one
    (https://fetch.spec.whatwg.org/#concept-header-extract-mime-type).
    """
    match = _SIMPLE_TYPE.match(content_type)
    return match and match[1].lower()


def _filename(info: FileInfo) -> str:
    """Return the name that the client says, as long as a file's name can be: proxies bound the headers of answers."""
    name = info.metadata.text("filename") or info.metadata.text("name") or info.id
    if len(name) <= _MAX_FILENAME:
        return name
    extension = PurePosixPath(name).suffix
    kept = len(extension) if len(extension) <= _MAX_EXTENSION else 0
    return name[: _MAX_FILENAME - kept] + name[len(name) - kept :]


def _content_type(info: FileInfo) -> str:
    """Return the type that the application chose, or that the client says, or that of the file's name."""
    if info.destination is not None:
        chosen = info.destination.options.attributes.content_type
        if chosen != DEFAULT_CONTENT_TYPE:
            return chosen
    said = info.metadata.text("filetype")
    try:
        if said:
            check_content_type(said)
            return said
    except InvalidMetadataError:
        pass  # the client may have sent anything
    return content_type_of(_filename(info))
