"""AWS Signature Version 4 in its shortest form: what an application with only an HTTP client would write.

It belongs to the benchmark, so that the client on plain aiohttp uses no code of the compared library.
Paths and queries here consist of characters that need no encoding, except if the caller has encoded them.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from functools import lru_cache

from benchmarks.client import Bucket

__all__ = ["EMPTY", "signed_headers"]

EMPTY = hashlib.sha256().hexdigest()
"""The payload hash of an empty body."""


@lru_cache(maxsize=4)
def _key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def signed_headers(bucket: Bucket, method: str, path: str, query: str, payload: str) -> dict[str, str]:
    """Return the headers of a signed request; ``query`` is sorted, ``payload`` is the hash of the body."""
    host = bucket.endpoint.partition("://")[2]
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    scope = f"{stamp[:8]}/{bucket.region}/s3/aws4_request"
    names = "host;x-amz-content-sha256;x-amz-date"
    lines = f"host:{host}\nx-amz-content-sha256:{payload}\nx-amz-date:{stamp}\n"
    request = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{payload}"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = hmac.digest(_key(bucket.secret_key, stamp[:8], bucket.region), text.encode(), "sha256").hex()
    credential = f"Credential={bucket.access_key}/{scope}"
    return {
        "x-amz-content-sha256": payload,
        "x-amz-date": stamp,
        "authorization": f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}",
    }
