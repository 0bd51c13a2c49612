"""V4 signatures compared byte for byte with those that Google publishes for its own libraries.

The vectors are those of https://github.com/googleapis/conformance-tests, ``storage/v1/v4_signatures.json`` (Apache
License 2.0), with the key of an account that does not exist. RSA signatures are deterministic.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from trove_async.drivers.gcs.signing import Signer
from trove_async.wire.sigv4 import encode_path

VECTORS = Path(__file__).parent / "vectors"
CASES: list[dict[str, Any]] = json.loads((VECTORS / "urls.json").read_text(encoding="utf-8"))
FORMS: list[dict[str, Any]] = json.loads((VECTORS / "forms.json").read_text(encoding="utf-8"))
ACCOUNT = json.loads((VECTORS / "account.json").read_text(encoding="utf-8"))
SIGNER = Signer(ACCOUNT["client_email"], ACCOUNT["private_key"])


@pytest.mark.parametrize("case", CASES, ids=[case["description"] for case in CASES])
def test_a_url(case: dict[str, Any]) -> None:
    origin, path = case.get("origin", "https://storage.googleapis.com"), f"/{case['bucket']}"
    if "path" in case:
        path = case["path"]
    elif "object" in case:
        path += f"/{encode_path(case['object'])}"
    url = SIGNER.url(
        case["method"],
        origin,
        path,
        query=case.get("query", {}).items(),
        headers=case.get("headers", {}).items(),
        expires=case["expiration"],
        now=datetime.fromisoformat(case["timestamp"]),
    )
    base, _, rest = url.partition("?")
    query, _, signature = rest.partition("&X-Goog-Signature=")
    assert base == f"{origin}{path}"
    assert signature == case["signature"]
    assert f"X-Goog-SignedHeaders={quote(case['signed'], safe='')}" in query
    stamp = case["timestamp"].replace("-", "").replace(":", "")
    credential = quote(f"{ACCOUNT['client_email']}/{stamp[:8]}/auto/storage/goog4_request", safe="")
    assert f"X-Goog-Credential={credential}&X-Goog-Date={stamp}&X-Goog-Expires={case['expiration']}" in query


@pytest.mark.parametrize("case", FORMS, ids=[case["description"] for case in FORMS])
def test_a_form(case: dict[str, Any]) -> None:
    fields = SIGNER.form(
        case["fields"], case["conditions"], expires=case["expiration"], now=datetime.fromisoformat(case["timestamp"])
    )
    assert base64.b64decode(fields["policy"]).decode() == case["policy"]
    assert fields["x-goog-signature"] == case["signature"]
    assert {name: fields[name] for name in case["fields"]} == case["fields"]


def test_an_invalid_key() -> None:
    for key in ("", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        with pytest.raises(ValueError):
            Signer("me@example.com", key)


def test_a_signer_reveals_no_key() -> None:
    assert "PRIVATE" not in repr(SIGNER)
    assert ACCOUNT["client_email"] in repr(SIGNER)


def test_the_time_is_in_utc() -> None:
    moment = datetime.fromisoformat("2019-02-01T11:00:00+02:00")
    there = SIGNER.url("GET", "https://h", "/b/k", expires=10, now=moment)
    assert there == SIGNER.url("GET", "https://h", "/b/k", expires=10, now=moment.astimezone(UTC))
