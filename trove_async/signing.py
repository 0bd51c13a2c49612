"""URLs signed with HMAC, for the drivers whose backend signs none; the app of `trove_async.web` serves them.

A URL is ``BASE/BUCKET/KEY?…``, the object's key in base64url (RFC 4648, section 5): clients and
proxies normalise ``..``, ``//`` and escapes in paths, and would name another object. The signature is the
HMAC-SHA256 of all that the URL says and of the method; whoever has the URL can do that one thing until it expires.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
from dataclasses import dataclass, fields
from typing import Final, Protocol, runtime_checkable
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from trove_async.driver.options import PresignOptions
from trove_async.errors import AccessDeniedError, InvalidArgumentError

__all__ = ["SignedRequest", "SigningDriver", "URLSigner", "find_signer"]

_FORMAT: Final = "trove-signed-url-1"
_MIN_KEY_BYTES: Final = 16
_EXPIRES: Final = "expires"
_SIGNATURE: Final = "signature"

# The query's names, and the fields of `SignedRequest` that they stand for.
_PARAMETERS: Final = {
    "version": "version_id",
    "content-type": "content_type",
    "content-length": "content_length",
    "response-content-type": "response_content_type",
    "response-content-disposition": "response_content_disposition",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequest:
    """What a signed URL allows.

    Attributes:
        method: the one method that the URL is signed for; a URL for GET is none for HEAD.
        bucket, key: the object.
        expires_at: seconds since 1970, in UTC, until which it holds; a text with three decimals, as signed.
        version_id, content_type, content_length, response_content_type, response_content_disposition:
            as in `PresignOptions`.
    """

    method: str
    bucket: str
    key: str
    expires_at: str
    version_id: str | None = None
    content_type: str | None = None
    content_length: int | None = None
    response_content_type: str | None = None
    response_content_disposition: str | None = None

    def canonical(self) -> bytes:
        """Return what is signed: JSON, in which no value can pass for two or for another."""
        values = [getattr(self, field.name) for field in fields(self)]
        return json.dumps([_FORMAT, *values], separators=(",", ":")).encode("ascii")


class URLSigner:
    """Signs URLs and verifies them.

    Args:
        key: the secret, 16 bytes or more. URLs hold at every store that has the same key: give each its own.
        base_url: where the app is mounted, such as ``https://files.example.com/objects``.

    Raises:
        InvalidArgumentError: the key is too short, or the URL is no plain ``http`` or ``https`` URL.
    """

    __slots__ = ("_base_url", "_key")

    def __init__(self, key: bytes, base_url: str) -> None:
        if len(key) < _MIN_KEY_BYTES:
            raise InvalidArgumentError(f"the key that signs URLs has {len(key)} bytes, at least {_MIN_KEY_BYTES} do")
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise InvalidArgumentError("the base of signed URLs begins with http:// or https:// and a host")
        if "?" in base_url or "#" in base_url or not base_url.isascii() or not base_url.isprintable():
            raise InvalidArgumentError("the base of signed URLs is printable ASCII without query and fragment")
        self._key = key
        self._base_url = base_url.rstrip("/")

    def __repr__(self) -> str:
        return f"<URLSigner {self._base_url}>"

    def sign(self, method: str, bucket: str, key: str, options: PresignOptions, now: float | None = None) -> str:
        """Return a URL that allows one method on one object for ``options.expires`` seconds.

        Args:
            method: such as ``GET``.
            bucket, key: the object; it need not exist.
            options: what is allowed; all of it is signed.
            now: seconds since 1970, default the present.
        """
        request = SignedRequest(
            method=method,
            bucket=bucket,
            key=key,
            expires_at=f"{(time.time() if now is None else now) + options.expires:.3f}",
            version_id=options.version_id,
            content_type=options.content_type,
            content_length=options.content_length,
            response_content_type=options.response_content_type,
            response_content_disposition=options.response_content_disposition,
        )
        query = {_EXPIRES: request.expires_at}
        for parameter, field in _PARAMETERS.items():
            value = getattr(request, field)
            if value is not None:
                query[parameter] = str(value)
        query[_SIGNATURE] = self._signature(request)
        path = f"{quote(bucket, safe='')}/{_base64url(key.encode())}"
        return f"{self._base_url}/{path}?{urlencode(query, quote_via=quote, safe='')}"

    def verify(self, method: str, url: str, now: float | None = None) -> SignedRequest:
        """Return what a URL allows, if it is ours, holds still and is for this method.

        Args:
            method: of the request.
            url: the whole of it or its path and query, escaped; only the path's last two components
                count, so that it does not matter where the app is mounted.
            now: seconds since 1970, default the present.

        Raises:
            AccessDeniedError: the URL is malformed, expired, changed, or signed for another method.
        """
        parts = urlsplit(url)
        query = _query(parts.query)
        signature = query.pop(_SIGNATURE, "")
        request = _request(method, parts.path, query)
        if not hmac.compare_digest(self._signature(request).encode(), signature.encode()):
            raise AccessDeniedError("the URL's signature does not match: it was changed, or signed for another method")
        if (time.time() if now is None else now) >= float(request.expires_at):
            raise AccessDeniedError("the signed URL has expired; ask for another")
        return request

    def _signature(self, request: SignedRequest) -> str:
        return _base64url(hmac.digest(self._key, request.canonical(), "sha256"))


@runtime_checkable
class SigningDriver(Protocol):
    """A driver whose URLs the library signs and serves."""

    @property
    def url_signer(self) -> URLSigner | None:
        """What signs; None where no base URL was given."""


class _Wrapped(Protocol):
    def unwrap(self) -> _Wrapped | None: ...


def find_signer(driver: _Wrapped) -> URLSigner | None:
    """Return the signer of a driver, beneath any layers; None if it has none."""
    at: _Wrapped | None = driver
    while at is not None:
        if isinstance(at, SigningDriver) and at.url_signer is not None:
            return at.url_signer
        at = at.unwrap()
    return None


def _query(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=16)
    except ValueError:
        raise _malformed() from None
    found = dict(pairs)
    if len(found) != len(pairs) or found.keys() - {*_PARAMETERS, _EXPIRES, _SIGNATURE}:
        raise _malformed()
    return found


def _request(method: str, path: str, query: dict[str, str]) -> SignedRequest:
    _, _, last = path.rpartition("/")
    bucket = unquote(path[: -len(last) - 1].rpartition("/")[2]) if last else ""
    try:
        key = base64.b64decode(last + "=" * (-len(last) % 4), altchars=b"-_", validate=True).decode()
        float(query[_EXPIRES])
        length = query.get("content-length")
        return SignedRequest(
            method=method,
            bucket=bucket,
            key=key,
            expires_at=query[_EXPIRES],
            version_id=query.get("version"),
            content_type=query.get("content-type"),
            content_length=None if length is None else int(length),
            response_content_type=query.get("response-content-type"),
            response_content_disposition=query.get("response-content-disposition"),
        )
    except (ValueError, KeyError, binascii.Error):
        raise _malformed() from None


def _malformed() -> AccessDeniedError:
    return AccessDeniedError("this is no URL that was signed here")


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
