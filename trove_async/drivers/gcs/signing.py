"""V4 signatures with a service account's key: of URLs, and of the policies of forms; no I/O.

https://cloud.google.com/storage/docs/authentication/canonical-requests,
https://cloud.google.com/storage/docs/xml-api/post-object-forms.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

__all__ = ["Signer"]

_ALGORITHM: Final = "GOOG4-RSA-SHA256"
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"
_PAYLOAD_HEADER: Final = "x-goog-content-sha256"


@lru_cache(8)  # to read and check one takes 50 ms
def _read_key(text: str) -> RSAPrivateKey:
    try:
        key = load_pem_private_key(text.encode(), None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from error
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("the key is not an RSA key")
    return key


class Signer:
    """Signs with the key of a service account.

    Args:
        email: names the account.
        private_key: an RSA key, in PEM.

    Attributes:
        email: of the account.
        key: the parsed key.

    Raises:
        ValueError: the key is not an RSA key in PEM.
    """

    def __init__(self, email: str, private_key: str) -> None:
        self.email = email
        self.key = _read_key(private_key)

    def __repr__(self) -> str:
        return f"<Signer {self.email}>"

    def url(
        self,
        method: str,
        origin: str,
        path: str,
        *,
        query: Iterable[tuple[str, str]] = (),
        headers: Iterable[tuple[str, str]] = (),
        expires: int,
        now: datetime,
    ) -> str:
        """Return a signed URL.

        Args:
            method: of the request.
            origin: scheme and authority, such as ``https://storage.googleapis.com``.
            path: percent-encoded.
            query: names and values of further parameters.
            headers: that the request must carry, beside ``Host``.
            expires: seconds from ``now``.
            now: aware.
        """
        stamp, scope = _stamp(now), _scope(now)
        signed = sorted(
            [*((name.lower(), " ".join(value.split())) for name, value in headers), ("host", _host(origin))]
        )
        names = ";".join(name for name, _ in signed)
        payload = next((value for name, value in signed if name == _PAYLOAD_HEADER), _UNSIGNED)
        params = [
            *query,
            ("X-Goog-Algorithm", _ALGORITHM),
            ("X-Goog-Credential", f"{self.email}/{scope}"),
            ("X-Goog-Date", stamp),
            ("X-Goog-Expires", str(expires)),
            ("X-Goog-SignedHeaders", names),
        ]
        encoded = "&".join(sorted(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in params))
        lines = [method, path, encoded, *(f"{name}:{value}" for name, value in signed), "", names, payload]
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        signature = self._sign("\n".join((_ALGORITHM, stamp, scope, digest)))
        return f"{origin}{path}?{encoded}&X-Goog-Signature={signature}"

    def form(
        self,
        fields: Mapping[str, str],
        conditions: Sequence[Any],
        *,
        expires: int,
        now: datetime,
    ) -> dict[str, str]:
        """Return the fields of a form, with the policy that allows them and its signature.

        Args:
            fields: of the form; the policy requires each of them.
            conditions: further conditions of the policy.
            expires: seconds from ``now``.
            now: aware.
        """
        signed = {
            **fields,
            "x-goog-date": _stamp(now),
            "x-goog-credential": f"{self.email}/{_scope(now)}",
            "x-goog-algorithm": _ALGORITHM,
        }
        expiration = (now.astimezone(UTC) + timedelta(seconds=expires)).strftime("%Y-%m-%dT%H:%M:%SZ")
        policy = {
            "conditions": [*conditions, *({name: value} for name, value in signed.items())],
            "expiration": expiration,
        }
        encoded = base64.b64encode(json.dumps(policy, separators=(",", ":")).encode()).decode()
        return {**signed, "policy": encoded, "x-goog-signature": self._sign(encoded)}

    def _sign(self, text: str) -> str:
        return self.key.sign(text.encode(), PKCS1v15(), SHA256()).hex()


def _host(origin: str) -> str:
    return origin.partition("://")[2]


def _stamp(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def _scope(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y%m%d/auto/storage/goog4_request")
