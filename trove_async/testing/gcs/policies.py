"""Uploads of HTML forms with a signed policy document, version 4.

https://cloud.google.com/storage/docs/xml-api/post-object-forms and
https://cloud.google.com/storage/docs/authentication/signatures#policy-document.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Awaitable, Mapping
from datetime import datetime
from typing import Any, Final
from xml.sax.saxutils import escape

from trove_async.testing.gcs.conditions import Preconditions
from trove_async.testing.gcs.creation import Expected, create, hashed
from trove_async.testing.gcs.errors import ServiceError, invalid
from trove_async.testing.gcs.http import Request, Response
from trove_async.testing.gcs.multipart import split
from trove_async.testing.gcs.resources import check_metadata, check_name
from trove_async.testing.gcs.sessions import client_url
from trove_async.testing.gcs.signed import Credential, Signatures, check_length
from trove_async.testing.gcs.state import Content, Storage, StoredObject
from trove_async.testing.gcs.xml_api import fields_of
from trove_async.testing.gcs.xml_multipart import xml_response

__all__ = ["Policies"]

_UNLISTED: Final = frozenset(("x-goog-signature", "file", "policy"))
_IGNORED: Final = "x-ignore-"
_STATUSES: Final = (200, 201, 204)


class Policies:
    """Uploads of forms by ``POST /{bucket}``."""

    def __init__(self, storage: Storage, signatures: Signatures) -> None:
        self.storage = storage
        self.signatures = signatures

    def post(self, request: Request, bucket: str) -> Response | Awaitable[Response]:
        """Answer ``POST /{bucket}``.

        Raises:
            ServiceError: the request is refused.
        """
        self.storage.bucket(bucket)
        form, data = _form(request)
        self._check(form, bucket, len(data))
        name = form.get("key", "")
        check_name(name)
        fields = fields_of(form)
        check_metadata(fields)

        def store(content: Content) -> Response:
            made = create(self.storage, bucket, name, content, fields, Preconditions(), Expected.of(form))
            return _answer(request, form, made)

        return hashed(data, store)

    def _check(self, form: Mapping[str, str], bucket: str, size: int) -> None:
        missing = [name for name in ("key", "policy", "x-goog-credential", "x-goog-signature") if not form.get(name)]
        if missing:
            raise invalid(f"The form has no field {missing[0]}.", xml_code="InvalidArgument")
        credential = Credential.of(form["x-goog-credential"])
        algorithm = form.get("x-goog-algorithm", "")
        if not self.signatures.verifies(algorithm, credential, form["x-goog-signature"], form["policy"]):
            message = "The request signature we calculated does not match the signature you provided."
            raise ServiceError(403, "forbidden", message, xml_code="SignatureDoesNotMatch")
        expiration, conditions = _policy(form["policy"])
        if expiration <= time.time():
            raise _denied("Policy expired.")
        values = {**form, "bucket": bucket}
        named = {_satisfied(condition, values, size) for condition in conditions}
        for field in form:
            if field not in named and field not in _UNLISTED and not field.startswith(_IGNORED):
                raise _denied(f"Policy did not reference these fields: {field}")


def _form(request: Request) -> tuple[dict[str, str], bytes]:
    form: dict[str, str] = {}
    for part in split(request.body, request.header("content-type")):
        name = (part.parameter("content-disposition", "name") or "").lower()
        if name == "file":
            filename = part.parameter("content-disposition", "filename") or ""
            form["key"] = form.get("key", "").replace("${filename}", filename)
            return form, bytes(part.body)  # fields after the file are not read
        form[name] = bytes(part.body).decode("utf-8", "replace")
    raise invalid("The form has no field file.", xml_code="InvalidArgument")


def _policy(encoded: str) -> tuple[float, list[Any]]:
    try:
        policy = json.loads(base64.b64decode(encoded))
        expiration = datetime.fromisoformat(policy["expiration"]).timestamp()
        conditions = policy["conditions"]
    except (ValueError, KeyError, TypeError) as error:
        message = "The content of the form does not meet the conditions specified in the policy document."
        raise ServiceError(400, "invalid", message, xml_code="InvalidPolicyDocument") from error
    return expiration, conditions


def _satisfied(condition: Any, values: Mapping[str, str], size: int) -> str:
    """Check a condition, and return the name of its field."""
    match condition:
        case ["content-length-range", least, most]:
            check_length(size, int(least), int(most))
            return ""
        case ["eq", str(name), value]:
            holds = values.get(name.removeprefix("$").lower()) == str(value)
        case ["starts-with", str(name), str(value)]:
            holds = values.get(name.removeprefix("$").lower(), "").startswith(value)
        case dict() if len(condition) == 1:
            name, value = next(iter(condition.items()))
            holds = values.get(name.lower()) == str(value)
        case _:
            raise ServiceError(400, "invalid", "Invalid policy condition.", xml_code="InvalidPolicyDocument")
    if not holds:
        raise _denied(f"Policy Condition failed: {json.dumps(condition)}")
    return name.removeprefix("$").lower()


def _answer(request: Request, form: Mapping[str, str], made: StoredObject) -> Response:
    headers = {"ETag": made.xml_etag, "X-Goog-Generation": str(made.generation)}
    redirect = form.get("success_action_redirect")
    if redirect:
        return Response(303, {**headers, "Location": redirect})
    wanted = form.get("success_action_status", "")
    status = int(wanted) if wanted.isdigit() and int(wanted) in _STATUSES else 204
    if status != 201:
        return Response(status, headers)
    location = f"{client_url(request, '')}/{made.bucket}/{made.name}"
    response = xml_response(
        f"<PostResponse><Location>{escape(location)}</Location><Bucket>{made.bucket}</Bucket>"
        f"<Key>{escape(made.name)}</Key><ETag>{escape(made.xml_etag)}</ETag></PostResponse>"
    )
    return Response(201, {**response.headers, **headers}, response.body)


def _denied(reason: str) -> ServiceError:
    return ServiceError(403, "forbidden", f"Invalid according to Policy: {reason}")
