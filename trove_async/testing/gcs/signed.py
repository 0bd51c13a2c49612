"""Signed URLs of version 4.

https://cloud.google.com/storage/docs/access-control/signed-urls,
https://cloud.google.com/storage/docs/authentication/canonical-requests and ``…/authentication/signatures``.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from calendar import timegm
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote

from trove_async.testing.gcs.auth import Authority
from trove_async.testing.gcs.errors import ServiceError
from trove_async.testing.gcs.http import Request, decoded

__all__ = ["Credential", "Signatures", "check_length", "check_length_range", "is_signed"]

_RSA: Final = "GOOG4-RSA-SHA256"
_HMAC: Final = "GOOG4-HMAC-SHA256"
_LONGEST: Final = 604_800
_SKEW: Final = 900
_SPACES: Final = re.compile(r"\s+")
_REQUIRED: Final = (
    "x-goog-algorithm",
    "x-goog-credential",
    "x-goog-date",
    "x-goog-expires",
    "x-goog-signedheaders",
    "x-goog-signature",
)
_UNRESERVED: Final = "-_.~"
_UNSIGNED: Final = frozenset(("x-goog-content-sha256",))  # it belongs to the payload, not to the signed headers


@dataclass(frozen=True, slots=True)
class Credential:
    """The account and the scope of a signature: ``account/date/location/storage/goog4_request``."""

    account: str
    scope: str

    @classmethod
    def of(cls, text: str) -> Credential:
        """Read the parameter ``X-Goog-Credential``.

        Raises:
            ServiceError: 400.
        """
        account, _, scope = text.partition("/")
        parts = scope.split("/")
        if not account or len(parts) != 4 or parts[2:] != ["storage", "goog4_request"]:
            raise _malformed("Invalid credential: it is not of the form account/date/location/storage/goog4_request.")
        return cls(account, scope)

    @property
    def date(self) -> str:
        """The day of the scope."""
        return self.scope.partition("/")[0]


class Signatures:
    """Verifies signatures of the service account's RSA key and of one HMAC key.

    Attributes:
        access_id, secret: the HMAC key.
    """

    def __init__(self, authority: Authority, access_id: str, secret: str) -> None:
        self.authority = authority
        self.access_id = access_id
        self.secret = secret

    def check_url(self, request: Request) -> None:
        """Refuse a request to a signed URL that differs from what was signed.

        Raises:
            ServiceError: 400 or 403.
        """
        given = {name.lower(): value for name, value in request.query.items() if name.lower().startswith("x-goog-")}
        missing = [name for name in _REQUIRED if not given.get(name)]
        if missing:
            raise _malformed(f"Missing query parameters: {', '.join(missing)}.")
        credential = Credential.of(given["x-goog-credential"])
        _check_time(given["x-goog-date"], given["x-goog-expires"], credential)
        signed = given["x-goog-signedheaders"].split(";")
        _check_headers(request.headers, signed)
        canonical = _canonical(request, signed)
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        message = "\n".join((given["x-goog-algorithm"], given["x-goog-date"], credential.scope, digest))
        if not self.verifies(given["x-goog-algorithm"], credential, given["x-goog-signature"], message):
            raise _mismatch(f"{message}\n\n{canonical}")

    def verifies(self, algorithm: str, credential: Credential, signature: str, message: str) -> bool:
        """Return True if a hexadecimal signature is that of a message.

        Raises:
            ServiceError: 400 if the algorithm is unknown, 403 if the account is.
        """
        try:
            raw = bytes.fromhex(signature)
        except ValueError:
            return False
        if algorithm == _RSA:
            if credential.account != self.authority.email:
                raise _unknown(credential.account)
            return self.authority.verifies(raw, message.encode())
        if algorithm == _HMAC:
            if credential.account != self.access_id:
                raise _unknown(credential.account)
            key = f"GOOG4{self.secret}".encode()
            for part in (*credential.scope.split("/"), message):
                key = hmac.digest(key, part.encode(), "sha256")
            return hmac.compare_digest(key, raw)
        raise _malformed(f"Invalid algorithm: {algorithm}.")


def is_signed(request: Request) -> bool:
    """Return True if a request has a signed URL."""
    return "x-goog-signature=" in request.raw_query.lower()


def check_length_range(header: str | None, size: int) -> None:
    """Refuse a body with a size outside ``X-Goog-Content-Length-Range``; None allows any size.

    Raises:
        ServiceError: 400.
    """
    if header is None:
        return
    least, _, most = header.partition(",")
    try:
        bounds = int(least), int(most)
    except ValueError as error:
        raise ServiceError(400, "invalid", "Invalid argument: X-Goog-Content-Length-Range") from error
    check_length(size, *bounds)


def check_length(size: int, least: int, most: int) -> None:
    """Refuse a body that is too short or too long.

    Raises:
        ServiceError: 400.
    """
    if size < least:
        message = "Your proposed upload is smaller than the minimum allowed size."
        raise ServiceError(400, "invalid", message, xml_code="EntityTooSmall")
    if size > most:
        message = "Your proposed upload exceeds the maximum allowed object size."
        raise ServiceError(400, "invalid", message, xml_code="EntityTooLarge")


def _moment(text: str) -> float:
    """Return the time of a date such as ``20190201T090000Z``.

    Raises:
        ServiceError: 400.
    """
    try:
        return timegm(time.strptime(text, "%Y%m%dT%H%M%SZ"))
    except ValueError as error:
        raise _malformed(f"Invalid date: {text}.") from error


def _check_time(date: str, expires: str, credential: Credential) -> None:
    begin, now = _moment(date), time.time()
    if not date.startswith(credential.date):
        raise _malformed("The date of the credential is not that of X-Goog-Date.")
    if not expires.isdigit() or not 1 <= int(expires) <= _LONGEST:
        raise _malformed(f"X-Goog-Expires must be between 1 and {_LONGEST} seconds.")
    if begin > now + _SKEW:
        raise ServiceError(403, "forbidden", "The signature is not valid yet.", xml_code="RequestTimeTooSkewed")
    end = begin + int(expires)
    if end <= now:
        ended = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end))
        details = f"Request signature expired at: {ended}"
        message = "The provided token has expired."
        raise ServiceError(400, "invalid", message, xml_code="ExpiredToken", details=details)


def _check_headers(headers: Mapping[str, str], signed: list[str]) -> None:
    if "host" not in signed or signed != sorted(signed) or any(name != name.lower() for name in signed):
        raise _malformed("X-Goog-SignedHeaders must be sorted names in lower case with host among them.")
    absent = [name for name in signed if name not in headers]
    if absent:
        raise _header(f"Header was included in signedheaders, but not in the request: {absent[0]}")
    # "You must include all extension headers that begin with x-goog- that are in the request."
    loose = [name for name in headers if name.startswith("x-goog-") and name not in signed and name not in _UNSIGNED]
    if loose:
        raise _header(f"Header was included in the request, but not in signedheaders: {loose[0]}")


def _canonical(request: Request, signed: list[str]) -> str:
    # The path is encoded again, since a client may encode more or fewer characters than Google documents.
    path = quote(decoded(request.raw_path), safe=f"/{_UNRESERVED}")
    parameters = sorted(
        (quote(name, safe=_UNRESERVED), quote(value, safe=_UNRESERVED))
        for name, value in parse_qsl(request.raw_query, keep_blank_values=True)
        if name.lower() != "x-goog-signature"
    )
    query = "&".join(f"{name}={value}" for name, value in parameters)
    headers = "".join(f"{name}:{_SPACES.sub(' ', request.headers[name]).strip()}\n" for name in signed)
    payload = request.headers.get("x-goog-content-sha256", "UNSIGNED-PAYLOAD")
    return "\n".join((request.method, path, query, headers, ";".join(signed), payload))


def _malformed(details: str) -> ServiceError:
    message = "Error parsing the X-Goog query parameters."
    code = "AuthorizationQueryParametersError"
    return ServiceError(400, "invalid", message, xml_code=code, details=details)


def _header(details: str) -> ServiceError:
    message = "Your request has a malformed header."
    return ServiceError(400, "invalid", message, xml_code="MalformedSecurityHeader", details=details)


def _unknown(account: str) -> ServiceError:
    message = "The provided security credentials are not valid."
    details = f"Incorrect Authorization: unknown account {account}"
    return ServiceError(403, "forbidden", message, xml_code="InvalidSecurity", details=details)


def _mismatch(details: str) -> ServiceError:
    message = (
        "The request signature we calculated does not match the signature you provided. "
        "Check your Google secret key and signing method."
    )
    return ServiceError(403, "forbidden", message, xml_code="SignatureDoesNotMatch", details=details)
