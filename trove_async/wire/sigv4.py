"""AWS Signature Version 4, as S3 wants it: in headers, in a presigned URL, and in the fields of a POST form.

The scheme is that of https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html; unlike
other AWS services, S3 takes the path as it is sent, neither normalised nor encoded a second time.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import digest as hmac_digest
from operator import itemgetter
from typing import Any, Final
from urllib.parse import quote

from trove_async.errors import InvalidArgumentError

__all__ = [
    "EMPTY_SHA256",
    "MAX_EXPIRES",
    "UNSIGNED_PAYLOAD",
    "Credentials",
    "SigV4",
    "encode_path",
    "encode_query",
    "escape_dots",
    "timestamp",
]

UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
"""The payload hash that leaves the body out of the signature."""

EMPTY_SHA256: Final = sha256().hexdigest()
"""The payload hash of an empty body."""

MAX_EXPIRES: Final = 7 * 24 * 3600
"""The longest time in seconds that a presigned URL can hold: seven days."""

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_DATE_LENGTH: Final = len("YYYYMMDD")
_BLOCK_SIZE: Final = sha256().block_size
_INNER_PAD: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD: Final = bytes(byte ^ 0x5C for byte in range(256))
# A process uses few secrets, each for a day at most; temporary credentials are replaced every hour or so.
_MAX_KEYS: Final = 16
_PLAIN_PATH: Final = re.compile("[A-Za-z0-9._~/-]*")

_name_of = itemgetter(0)


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key and its secret, with a session token where they are temporary.

    The repr shows neither secret nor token.
    """

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


def encode_path(key: str) -> str:
    """Percent-encode a path: RFC 3986's unreserved characters and ``/`` stay, all else is UTF-8 in upper-case hex.

    ``.`` and ``..`` stay as they are, for they are parts of a key like any other.
    """
    # Nearly every key is made of these alone, and matching costs a fraction of quoting.
    return key if _PLAIN_PATH.fullmatch(key) else quote(key, safe="/")


def escape_dots(path: str) -> str:
    """Return an encoded path whose ``.`` and ``..`` are escaped too.

    Most clients remove these components from the URLs that they are given, and fewer do so when they are escaped.
    """
    return "/".join(part.replace(".", "%2E") if part in (".", "..") else part for part in path.split("/"))


def encode_query(params: Iterable[tuple[str, str]]) -> str:
    """Percent-encode parameters as RFC 3986 says and sort them by encoded name, then value; a space is ``%20``."""
    return _join_query(sorted((quote(name, safe=""), quote(value, safe="")) for name, value in params))


def _join_query(pairs: Iterable[tuple[str, str]]) -> str:
    return "&".join([f"{name}={value}" for name, value in pairs])


def _canonical_query(query: str) -> str:
    """Sort an encoded query; a parameter without ``=`` has an empty value."""
    if not query:
        return ""
    # Not the joined texts: "=" sorts after "-", "." and the digits, which names contain.
    return _join_query(sorted([pair.partition("=")[::2] for pair in query.split("&")]))


def _canonical_headers(headers: list[tuple[str, str]]) -> tuple[str, str]:
    """Give the canonical lines and the names signed; sort `headers` in place."""
    headers.sort(key=_name_of)
    names = [name for name, _ in headers]
    if len(set(names)) != len(names):
        headers = _merge_repeated(headers)
        names = [name for name, _ in headers]
    return "".join([f"{name}:{' '.join(value.split())}\n" for name, value in headers]), ";".join(names)


def _merge_repeated(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    merged: dict[str, list[str]] = {}
    for name, value in headers:
        merged.setdefault(name, []).append(" ".join(value.split()))
    return [(name, ",".join(values)) for name, values in merged.items()]


def timestamp(at: float) -> str:
    """Return a time, in seconds since 1970, as signatures hold it."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))


class _SigningKey:
    """The key of one secret, day, region and service, ready to make HMACs: two hashes that have taken its pads."""

    __slots__ = ("_inner", "_outer", "scope")

    def __init__(self, secret: str, date: str, region: str, service: str) -> None:
        self.scope = f"{date}/{region}/{service}/aws4_request"
        key = f"AWS4{secret}".encode()
        for part in self.scope.split("/"):
            key = hmac_digest(key, part.encode(), "sha256")
        block = key.ljust(_BLOCK_SIZE, b"\0")
        self._inner = sha256(block.translate(_INNER_PAD))
        self._outer = sha256(block.translate(_OUTER_PAD))

    def sign(self, text: str) -> str:
        """HMAC-SHA256 of the text in lower-case hex; copying the prepared hashes is cheaper than `hmac` by half."""
        inner = self._inner.copy()
        inner.update(text.encode())
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.hexdigest()


class SigV4:
    """Sign requests for one region and service.

    Every request is signed for itself; only the key that is derived from the secret and the day is kept. Times
    are seconds since 1970, in UTC; a service refuses those that differ from its own by more than about 15 minutes.
    """

    __slots__ = ("_keys", "_second", "_stamp", "region", "service")

    def __init__(self, region: str, service: str = "s3") -> None:
        self.region = region
        self.service = service
        self._keys: dict[tuple[str, str], _SigningKey] = {}
        self._second = -1
        self._stamp = ""

    def sign(
        self,
        credentials: Credentials,
        method: str,
        authority: str,
        path: str,
        query: str,
        headers: Iterable[tuple[str, str]],
        payload_hash: str,
        at: float,
    ) -> list[tuple[str, str]]:
        """Sign a request and return the headers to add to it.

        Args:
            method: in upper case.
            authority: the Host header, exactly as it is sent.
            path, query: of the request's target, encoded, exactly as sent; the query in any order.
            headers: those to sign, names in lower case, without ``host`` and those that are returned. Values
                are signed as they read without outer white space and with its runs made one space; repeated names
                are joined with a comma. What a proxy may change, such as ``user-agent``, is not to be among them.
            payload_hash: the SHA-256 of the body in lower-case hex, or `UNSIGNED_PAYLOAD`.
            at: the time of the request.

        Returns:
            ``x-amz-content-sha256``, ``x-amz-date``, ``x-amz-security-token`` if there is a token, ``authorization``.
        """
        stamp = self._timestamp(at)
        added = [("x-amz-content-sha256", payload_hash), ("x-amz-date", stamp)]
        if credentials.token:
            added.append(("x-amz-security-token", credentials.token))
        lines, names = _canonical_headers([*headers, ("host", authority), *added])
        request = f"{method}\n{path}\n{_canonical_query(query)}\n{lines}\n{names}\n{payload_hash}"
        key = self._key(credentials.secret_key, stamp[:_DATE_LENGTH])
        signature = _sign_request(key, stamp, request)
        added.append(
            (
                "authorization",
                f"{_ALGORITHM} Credential={credentials.access_key}/{key.scope}, "
                f"SignedHeaders={names}, Signature={signature}",
            )
        )
        return added

    def presign(
        self,
        credentials: Credentials,
        method: str,
        scheme: str,
        authority: str,
        path: str,
        query: Sequence[tuple[str, str]],
        headers: Iterable[tuple[str, str]],
        expires: int,
        at: float,
    ) -> str:
        """Return a URL that allows one request until it expires, whoever sends it.

        Args:
            method, authority, path: as in `sign`; the path is encoded.
            query: further parameters, not encoded; they come first in the URL, in this order.
            headers: those that the request must carry, and with these values; names in lower case, without ``host``.
                The body is not signed, unless they have ``x-amz-content-sha256``.
            expires: seconds from `at`, 1 to `MAX_EXPIRES`.

        Raises:
            InvalidArgumentError: `expires` is out of its bounds.
        """
        if not 1 <= expires <= MAX_EXPIRES:
            raise InvalidArgumentError(f"a presigned URL expires after 1 to {MAX_EXPIRES} seconds, not {expires}")
        stamp = self._timestamp(at)
        key = self._key(credentials.secret_key, stamp[:_DATE_LENGTH])
        signed = [*headers, ("host", authority)]
        payload_hash = dict(signed).get("x-amz-content-sha256", UNSIGNED_PAYLOAD)
        lines, names = _canonical_headers(signed)
        params = [
            *query,
            ("X-Amz-Algorithm", _ALGORITHM),
            ("X-Amz-Credential", f"{credentials.access_key}/{key.scope}"),
            ("X-Amz-Date", stamp),
            ("X-Amz-Expires", str(expires)),
            ("X-Amz-SignedHeaders", names),
        ]
        if credentials.token:
            params.append(("X-Amz-Security-Token", credentials.token))
        encoded = [(quote(name, safe=""), quote(value, safe="")) for name, value in params]
        request = f"{method}\n{path}\n{_join_query(sorted(encoded))}\n{lines}\n{names}\n{payload_hash}"
        signature = _sign_request(key, stamp, request)
        return f"{scheme}://{authority}{path}?{_join_query(encoded)}&X-Amz-Signature={signature}"

    def sign_policy(self, credentials: Credentials, policy: Mapping[str, Any], at: float) -> dict[str, str]:
        """Return the fields that a POST form needs beside those of its own to be allowed what the policy allows.

        Args:
            policy: ``expiration`` and ``conditions``, as JSON has them, without the ``x-amz-`` conditions of the
                signature: those are added. The mapping itself is not changed.

        Returns:
            ``x-amz-algorithm``, ``x-amz-credential``, ``x-amz-date``, ``x-amz-security-token`` if there is a token,
            ``policy`` (base64) and ``x-amz-signature``.
        """
        stamp = self._timestamp(at)
        key = self._key(credentials.secret_key, stamp[:_DATE_LENGTH])
        fields = {
            "x-amz-algorithm": _ALGORITHM,
            "x-amz-credential": f"{credentials.access_key}/{key.scope}",
            "x-amz-date": stamp,
        }
        if credentials.token:
            fields["x-amz-security-token"] = credentials.token
        conditions = [*policy.get("conditions", ()), *({name: value} for name, value in fields.items())]
        document = json.dumps({**policy, "conditions": conditions}).encode()
        fields["policy"] = base64.b64encode(document).decode()
        fields["x-amz-signature"] = key.sign(fields["policy"])
        return fields

    def signature(self, credentials: Credentials, text: str, at: float) -> str:
        """Return the signature of a text, in lower-case hex, under the key of the day: the scheme's last step alone."""
        return self._key(credentials.secret_key, self._timestamp(at)[:_DATE_LENGTH]).sign(text)

    def _timestamp(self, at: float) -> str:
        second = int(at)
        if second != self._second:
            self._stamp = timestamp(second)
            self._second = second
        return self._stamp

    def _key(self, secret: str, date: str) -> _SigningKey:
        key = self._keys.get((secret, date))
        if key is None:
            if len(self._keys) >= _MAX_KEYS:
                self._keys.clear()
            key = self._keys[secret, date] = _SigningKey(secret, date, self.region, self.service)
        return key


def _sign_request(key: _SigningKey, stamp: str, request: str) -> str:
    return key.sign(f"{_ALGORITHM}\n{stamp}\n{key.scope}\n{sha256(request.encode()).hexdigest()}")
