"""The errors of the services, and their form in each API.

Codes, reasons and shapes are those of https://cloud.google.com/storage/docs/json_api/v1/status-codes and
https://cloud.google.com/storage/docs/xml-api/reference-status.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from xml.sax.saxutils import escape

__all__ = [
    "ServiceError",
    "already_owned",
    "condition_failed",
    "gone",
    "held",
    "invalid",
    "login_required",
    "no_bucket",
    "no_object",
    "not_found",
    "not_modified",
    "required",
]

_XML_CODES: Final[Mapping[int, str]] = {
    400: "InvalidArgument",
    401: "AuthenticationRequired",
    403: "AccessDenied",
    404: "NoSuchKey",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Gone",
    411: "MissingContentLength",
    412: "PreconditionFailed",
    413: "EntityTooLarge",
    416: "InvalidRange",
    501: "NotImplemented",
}
_STATUSES: Final[Mapping[int, str]] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
}


class ServiceError(Exception):
    """A request is refused.

    Attributes:
        status: the HTTP status code.
        reason: the reason of the JSON API.
        message: a human-readable description.
        location: the part of the request at fault, as kind (``header``, ``parameter``) and name.
        xml_code: the code of the XML API; by default the usual one for the status.
        details: the element ``Details`` of an error of the XML API.
        headers: headers of the response.
        plain: True for an error in plain text, as the upload servers in front of the JSON API send it.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        location: tuple[str, str] | None = None,
        xml_code: str | None = None,
        details: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.location = location
        self.xml_code = xml_code or _XML_CODES.get(status, "InvalidArgument")
        self.details = details
        self.headers = dict(headers or {})
        self.plain = False

    def as_json(self) -> bytes:
        """Return the body of the storage JSON API."""
        item: dict[str, Any] = {"message": self.message, "domain": "global", "reason": self.reason}
        if self.location is not None:
            item["locationType"], item["location"] = self.location
        return json.dumps({"error": {"code": self.status, "message": self.message, "errors": [item]}}).encode()

    def as_rpc_json(self) -> bytes:
        """Return the body of the Pub/Sub API (https://cloud.google.com/apis/design/errors)."""
        status = _STATUSES.get(self.status, "UNKNOWN")
        return json.dumps({"error": {"code": self.status, "message": self.message, "status": status}}).encode()

    def as_xml(self) -> bytes:
        """Return the body of the XML API."""
        message, details = self.message, self.details
        if self.xml_code == "NoSuchKey":
            message, details = "The specified key does not exist.", message
        element = "" if details is None else f"<Details>{escape(details)}</Details>"
        return (
            "<?xml version='1.0' encoding='UTF-8'?><Error>"
            f"<Code>{self.xml_code}</Code><Message>{escape(message)}</Message>{element}</Error>"
        ).encode()


def invalid(message: str, *, reason: str = "invalid", xml_code: str | None = None) -> ServiceError:
    """Return a 400: the service does not accept the request."""
    return ServiceError(400, reason, message, xml_code=xml_code)


def required(parameter: str) -> ServiceError:
    """Return a 400: a parameter is missing."""
    return ServiceError(400, "required", f"Required parameter: {parameter}", location=("parameter", parameter))


def login_required(token: str | None) -> ServiceError:
    """Return a 401: there is no token, or it is unknown, expired or revoked."""
    reason, message, challenge = "required", "Login Required", 'Bearer realm="https://accounts.google.com/"'
    if token is not None:
        reason, message, challenge = "authError", "Invalid Credentials", f'{challenge}, error="invalid_token"'
    return ServiceError(
        401, reason, message, location=("header", "Authorization"), headers={"WWW-Authenticate": challenge}
    )


def not_found(message: str = "Not Found") -> ServiceError:
    """Return a 404 for something that is neither a bucket nor an object."""
    return ServiceError(404, "notFound", message)


def no_bucket() -> ServiceError:
    """Return a 404 for a bucket."""
    return ServiceError(404, "notFound", "The specified bucket does not exist.", xml_code="NoSuchBucket")


def no_object(bucket: str, name: str) -> ServiceError:
    """Return a 404 for an object or one of its generations."""
    return ServiceError(404, "notFound", f"No such object: {bucket}/{name}", xml_code="NoSuchKey")


def already_owned() -> ServiceError:
    """Return a 409: the bucket exists."""
    message = "Your previous request to create the named bucket succeeded and you already own it."
    return ServiceError(409, "conflict", message, xml_code="BucketAlreadyOwnedByYou")


def condition_failed() -> ServiceError:
    """Return a 412."""
    message = "At least one of the pre-conditions you specified did not hold."
    return ServiceError(412, "conditionNotMet", message, location=("header", "If-Match"))


def not_modified() -> ServiceError:
    """Return a 304, which is sent without a body."""
    return ServiceError(304, "notModified", "Not Modified")


def gone(message: str) -> ServiceError:
    """Return a 410."""
    return ServiceError(410, "gone", message)


def held(bucket: str, name: str, kind: str) -> ServiceError:
    """Return a 403: the object is under a hold; ``kind`` is ``Temporary`` or ``Event-Based``."""
    message = (
        f"Object '{bucket}/{name}' is under active {kind} hold and cannot be deleted, overwritten or archived "
        "until hold is removed."
    )
    return ServiceError(403, "forbidden", message)
