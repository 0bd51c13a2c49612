"""Signatures of version 4, as in https://cloud.google.com/storage/docs/access-control/signing-urls-manually."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from trove_async.testing.gcs import GCSServer


def _rsa(server: GCSServer, message: str) -> str:
    key = load_pem_private_key(server.service_account_info["private_key"].encode(), None)
    assert isinstance(key, RSAPrivateKey)
    return key.sign(message.encode(), PKCS1v15(), SHA256()).hex()


def _hmac(server: GCSServer, scope: str, message: str) -> str:
    key = f"GOOG4{server.hmac_key[1]}".encode()
    for part in (*scope.split("/"), message):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()


def signed_url(
    server: GCSServer,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    expires: int = 600,
    began: float | None = None,
    with_hmac: bool = False,
) -> str:
    """Return a signed URL for a request to ``/bucket/object`` with these headers."""
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(began))
    scope = f"{date[:8]}/auto/storage/goog4_request"
    account = server.hmac_key[0] if with_hmac else server.service_account_info["client_email"]
    host = server.url.removeprefix("http://")
    lines = {name.lower(): " ".join(value.split()) for name, value in {"host": host, **(headers or {})}.items()}
    names = ";".join(sorted(lines))
    algorithm = "GOOG4-HMAC-SHA256" if with_hmac else "GOOG4-RSA-SHA256"
    parameters = {
        "X-Goog-Algorithm": algorithm,
        "X-Goog-Credential": f"{account}/{scope}",
        "X-Goog-Date": date,
        "X-Goog-Expires": str(expires),
        "X-Goog-SignedHeaders": names,
        **(query or {}),
    }
    encoded = sorted((quote(name, safe=""), quote(value, safe="")) for name, value in parameters.items())
    asked = "&".join(f"{name}={value}" for name, value in encoded)
    canonical_path = quote(path, safe="/")
    canonical_headers = "".join(f"{name}:{lines[name]}\n" for name in sorted(lines))
    canonical = "\n".join((method, canonical_path, asked, canonical_headers, names, "UNSIGNED-PAYLOAD"))
    message = "\n".join((algorithm, date, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    signature = _hmac(server, scope, message) if with_hmac else _rsa(server, message)
    return f"{server.url}{canonical_path}?{asked}&X-Goog-Signature={signature}"


def signed_form(server: GCSServer, key: str, conditions: list[Any], expires: int = 600) -> dict[str, str]:
    """Return the fields of a form, with a policy that has these conditions besides the required ones."""
    now = time.time()
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    scope = f"{date[:8]}/auto/storage/goog4_request"
    fields = {
        "x-goog-algorithm": "GOOG4-RSA-SHA256",
        "x-goog-credential": f"{server.service_account_info['client_email']}/{scope}",
        "x-goog-date": date,
    }
    expiration = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + expires))
    own = [{name: value} for name, value in fields.items()]
    document = {"conditions": [{"bucket": "my-bucket"}, *own, *conditions], "expiration": expiration}
    policy = base64.b64encode(json.dumps(document).encode()).decode()
    return {"key": key, **fields, "policy": policy, "x-goog-signature": _rsa(server, policy)}
