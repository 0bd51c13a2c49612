"""Checks of what users give to the client of uploads, before a request is sent."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from trove_async.driver.retry import RetryPolicy
from trove_async.errors import InvalidArgumentError
from trove_async.keys import check_content_type
from trove_async.store.arguments import check_progress
from trove_async.uploads.arguments import check_bytes, check_seconds
from trove_async.uploads.client.places import Places
from trove_async.uploads.metadata import MetaData
from trove_async.values import is_whole
from trove_async.web.http import check_headers

__all__ = ["check_client", "check_upload", "check_url", "checked_headers"]


def check_client(
    *,
    headers: object,
    chunk_size: object,
    parallel: object,
    retries: object,
    fingerprints: object,
    allow_origins: object,
    connections: object,
    connect_timeout: object,
    idle_timeout: object,
    texts: Mapping[str, object],
) -> None:
    """Check the arguments of a client; ``texts`` are those that are text or None.

    Raises:
        InvalidArgumentError: one is invalid.
    """
    if headers is not None and not callable(headers):
        checked_headers(headers)
    check_bytes("chunk_size", chunk_size)
    for name, value in (("parallel", parallel), ("connections", connections)):
        if not is_whole(value) or value < 1:
            raise InvalidArgumentError(f"{name} is 1 or more, not {value!r}")
    check_seconds("connect_timeout", connect_timeout, optional=False)
    check_seconds("idle_timeout", idle_timeout, optional=False)
    if retries is not None and not isinstance(retries, RetryPolicy):
        raise InvalidArgumentError(f"retries is a RetryPolicy, not {retries!r}")
    if not (fingerprints is None or fingerprints is True or isinstance(fingerprints, str | os.PathLike)):
        raise InvalidArgumentError(f"fingerprints is the path of a folder, True or None, not {fingerprints!r}")
    if isinstance(allow_origins, str) or not isinstance(allow_origins, Iterable):
        raise InvalidArgumentError("allow_origins is a sequence of origins, such as ('https://uploads.example.com',)")
    for name, value in texts.items():
        if value is not None and not isinstance(value, str):
            raise InvalidArgumentError(f"{name} is text, not {value!r}")
    if isinstance(agent := texts.get("user_agent"), str):
        checked_headers({"User-Agent": agent})


def checked_headers(headers: object) -> list[tuple[str, str]]:
    """Return the names and values of headers.

    Raises:
        InvalidArgumentError: they are no mapping of text, or one would be invalid in a request. No value is shown.
    """
    if not isinstance(headers, Mapping):
        raise InvalidArgumentError(f"headers is a mapping of names and values, not {type(headers).__name__}")
    pairs = list(headers.items())
    for name, value in pairs:
        try:
            check_headers([(name, value)])
        except (ValueError, TypeError):
            raise InvalidArgumentError(
                f"the header {name!r} cannot be sent: it is no text, or invalid in HTTP"
            ) from None
    return pairs


def check_upload(
    filename: object, content_type: object, size: object, metadata: object, on_progress: object
) -> MetaData:
    """Check the arguments of an upload, and return its metadata.

    Raises:
        InvalidArgumentError: one is invalid.
    """
    if filename is not None and not isinstance(filename, str):
        raise InvalidArgumentError(f"filename is text, not {filename!r}")
    if content_type is not None:
        if not isinstance(content_type, str):
            raise InvalidArgumentError(f"content_type is text, not {content_type!r}")
        check_content_type(content_type)
    if size is not None and not (is_whole(size) and size >= 0):
        raise InvalidArgumentError(f"size is a number of bytes, not {size!r}")
    check_progress(on_progress)
    return MetaData(metadata or {})  # type: ignore[arg-type]  # it refuses what is none


def check_url(places: Places, url: object) -> str:
    """Return the URL of an upload, as the application gives it.

    Raises:
        InvalidArgumentError: it is no text, or empty.
        UnavailableError: it is at an origin to which nothing is sent.
    """
    if not isinstance(url, str) or not url:
        raise InvalidArgumentError(f"the URL of an upload is text, not {url!r}")
    places.find(places.endpoint, url)
    return url
