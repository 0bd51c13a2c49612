"""URLs signed with HMAC, for drivers whose backend signs none; the app of `trove_async.web` serves them.

A URL is ``BASE/BUCKET/KEY?…``, with the object's key in base64url (RFC 4648, section 5): clients and proxies normalise
``..``, ``//`` and escapes in paths, which would change the key. The signature is the HMAC-SHA256 of the method and of
everything in the URL. A client that has the URL can make this one request until it expires.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
from dataclasses import dataclass, fields, replace
from typing import Final, Protocol, runtime_checkable
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from trove_async.driver.capabilities import Features, PresignDriver, PresignMethod
from trove_async.driver.options import PresignOptions
from trove_async.driver.synonyms import PresignByMethod
from trove_async.dsn import SettingsParser
from trove_async.errors import AccessDeniedError, InvalidArgumentError, InvalidDSNError, UnsupportedError

__all__ = ["PresignByHMAC", "SignedRequest", "SigningDriver", "SigningSettings", "URLSigner", "find_signer"]

_FORMAT: Final = "trove-signed-url-1"
_MIN_KEY_BYTES: Final = 16
_EXPIRES: Final = "expires"
_SIGNATURE: Final = "signature"
_NO_URL: Final = "open it with presign_url=, the URL of the app of trove_async.web that serves the signed URLs"
"""Why a store signs no URLs."""

_METHODS: Final[frozenset[PresignMethod]] = frozenset(("GET", "PUT", "HEAD", "DELETE"))

# The names of the query parameters, and the fields of `SignedRequest` that they set.
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
        method: the only method that the URL is signed for; a URL for GET does not allow HEAD.
        bucket, key: the object.
        expires_at: when it expires, in seconds since 1970 (UTC); text with three decimals, as signed.
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
        """Return the bytes to sign: JSON, so that no two requests have the same bytes."""
        values = [getattr(self, field.name) for field in fields(self)]
        return json.dumps([_FORMAT, *values], separators=(",", ":")).encode("ascii")


class URLSigner:
    """Signs URLs and verifies them.

    Args:
        key: the secret, 16 bytes or more. A URL is valid for every store with the same key, so give each its own.
        base_url: where the app is mounted, such as ``https://files.example.com/objects``.
        prefix: added to the keys that are signed, and removed from those that are verified. URLs for other keys are
            refused.

    Raises:
        InvalidArgumentError: the key is too short, or the URL is no plain ``http`` or ``https`` URL.
    """

    __slots__ = ("_base_url", "_key", "_prefix")

    def __init__(self, key: bytes, base_url: str, prefix: str = "") -> None:
        if len(key) < _MIN_KEY_BYTES:
            raise InvalidArgumentError(
                f"the key that signs URLs has {len(key)} bytes; it needs at least {_MIN_KEY_BYTES}"
            )
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise InvalidArgumentError("the base of signed URLs must begin with http:// or https:// and a host")
        if "?" in base_url or "#" in base_url or not base_url.isascii() or not base_url.isprintable():
            raise InvalidArgumentError("the base of signed URLs must be printable ASCII without query and fragment")
        self._key = key
        self._base_url = base_url.rstrip("/")
        self._prefix = prefix

    def below(self, prefix: str) -> URLSigner:
        """Return a signer for a store whose keys all begin with a prefix that it does not show."""
        return URLSigner(self._key, self._base_url, self._prefix + prefix)

    def __repr__(self) -> str:
        return f"<URLSigner {self._base_url}>"

    def sign(self, method: str, bucket: str, key: str, options: PresignOptions, now: float | None = None) -> str:
        """Return a URL that allows one method on one object for ``options.expires`` seconds.

        Args:
            method: such as ``GET``.
            bucket, key: the object; it need not exist.
            options: what the URL allows; all of it is signed.
            now: the time in seconds since 1970; default the current time.
        """
        request = SignedRequest(
            method=method,
            bucket=bucket,
            key=self._prefix + key,
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
        path = f"{quote(bucket, safe='')}/{_base64url(request.key.encode())}"
        return f"{self._base_url}/{path}?{urlencode(query, quote_via=quote, safe='')}"

    def verify(self, method: str, url: str, now: float | None = None) -> SignedRequest:
        """Return what a URL allows, if this key signed it for this method and it has not expired.

        Args:
            method: of the request.
            url: the whole URL, or its path and query, escaped. Only the last two components of the path
                count, so it does not matter where the app is mounted.
            now: the time in seconds since 1970; default the current time.

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
            raise AccessDeniedError("the signed URL has expired; request a new one")
        if not request.key.startswith(self._prefix):
            raise AccessDeniedError("the signed URL is for an object that is not in this store")
        return replace(request, key=request.key[len(self._prefix) :])

    def _signature(self, request: SignedRequest) -> str:
        return _base64url(hmac.digest(self._key, request.canonical(), "sha256"))


@dataclass(frozen=True, slots=True)
class SigningSettings:
    """The settings ``presign_url`` and ``presign_key`` of a driver.

    Attributes:
        base_url: where the app that serves signed URLs can be reached; None if there are no signed URLs.
        key: signs them; None for the store's own key.
    """

    base_url: str | None
    key: bytes | None = None

    @classmethod
    def of(cls, settings: SettingsParser) -> SigningSettings:
        """Take the settings out of those of a driver.

        Raises:
            InvalidDSNError: there is a key without a URL, or one of them cannot be used.
        """
        base_url, key = settings.text("presign_url"), settings.text("presign_key")
        if base_url is None and key is not None:
            raise InvalidDSNError("presign_key signs nothing without presign_url; give both")
        found = cls(base_url, None if key is None else key.encode())
        try:
            found.signer(bytes(_MIN_KEY_BYTES))
        except InvalidArgumentError as error:
            raise InvalidDSNError(error.message) from None
        return found

    def signer(self, own_key: bytes) -> URLSigner | None:
        """Return the signer; None if there are no signed URLs.

        Args:
            own_key: the store's own key, for settings that give none.
        """
        return None if self.base_url is None else URLSigner(self.key or own_key, self.base_url)


class _Signing(Protocol):
    url_signer: URLSigner | None

    @property
    def name(self) -> str: ...


class PresignByHMAC(PresignByMethod):
    """`PresignDriver` by URLs that the library signs and serves.

    Attributes:
        url_signer: signs them; None, which refuses, without a base URL.
    """

    url_signer: URLSigner | None = None

    async def presign(self: _Signing, method: PresignMethod, bucket: str, key: str, options: PresignOptions) -> str:
        """Return a URL for one request.

        Raises:
            UnsupportedError: there is no base URL.
        """
        if self.url_signer is None:
            raise UnsupportedError("URLs are signed only if the store is opened with presign_url", driver=self.name)
        return self.url_signer.sign(method, bucket, key, options)

    def with_presign(self, features: Features) -> Features:
        """Return features that declare presigning only if URLs are signed."""
        if self.url_signer is None:
            return replace(features.without({PresignDriver: _NO_URL}), presign_methods=frozenset())
        return replace(features, presign_methods=_METHODS)


@runtime_checkable
class SigningDriver(Protocol):
    """A driver whose URLs the library signs and serves."""

    @property
    def url_signer(self) -> URLSigner | None:
        """Signs the URLs; None without a base URL."""


class _Wrapped(Protocol):
    def unwrap(self) -> _Wrapped | None: ...


def find_signer(driver: _Wrapped) -> URLSigner | None:
    """Return the signer of a driver, looking beneath layers; None if there is none."""
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
    return AccessDeniedError("the URL is not a signed URL of this store")


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
