"""The methods of the JSON API: their paths, the parameters they take, and what they answer with.

https://cloud.google.com/storage/docs/json_api/v1, and for the parameters of all methods
https://cloud.google.com/storage/docs/json_api/v1/parameters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from trove_async.testing.gcs.errors import ServiceError
from trove_async.testing.gcs.http import Request
from trove_async.testing.gcs.partial import parsed
from trove_async.testing.gcs.unsupported import check_parameters

__all__ = ["Method", "find"]

_VARIABLE: Final = "{}"
_STANDARD: Final = frozenset(("alt", "fields", "key", "prettyPrint", "quotaUser", "userIp", "userProject", "$.xgafv"))
_PROJECTIONS: Final = ("full", "noAcl")
_META: Final = "ifMetagenerationMatch ifMetagenerationNotMatch"
_MATCH: Final = f"ifGenerationMatch ifGenerationNotMatch {_META}"
_SOURCE: Final = (
    "ifSourceGenerationMatch ifSourceGenerationNotMatch ifSourceMetagenerationMatch ifSourceMetagenerationNotMatch"
)
_LIST: Final = (
    "delimiter endOffset includeTrailingDelimiter matchGlob maxResults pageToken prefix projection startOffset versions"
)
_UPLOAD: Final = "contentEncoding name uploadType upload_id upload_protocol"


@dataclass(frozen=True, slots=True)
class Method:
    """A method of the API.

    Attributes:
        name: as Google names it, without ``storage.``.
        kind: of the resource in the response; empty if there is none.
        parameters: the parameters of the query that it takes.
        literals: the fixed segments of its path, by position.
        variables: the positions of the others.
    """

    name: str
    kind: str
    parameters: frozenset[str]
    literals: tuple[tuple[int, str], ...]
    variables: tuple[int, ...]

    def check(self, request: Request) -> None:
        """Refuse a query that the method does not take.

        Raises:
            ServiceError: 400, or 501 if a parameter belongs to a feature that the server does not have.
        """
        if not request.raw_query:
            return
        query = request.query
        check_parameters(query)
        for name in query.keys() - self.parameters:
            if query[name].lower() != "false":
                raise _invalid(name, f"Unknown parameter: {name}")
        if query.get("projection", "noAcl") not in _PROJECTIONS:
            raise _invalid("projection", f"Invalid value for parameter projection: {query['projection']}")
        if query.get("alt", "json") not in (("json", "media") if self.name == "objects.get" else ("json",)):
            raise _invalid("alt", f"Invalid value for parameter alt: {query['alt']}")
        if self.kind and query.get("fields"):
            parsed(query["fields"], self.kind)


def find(verb: str, path: Sequence[str]) -> Method | None:
    """Return the method of a path below ``/storage/v1``; None if there is none."""
    for method in _METHODS.get((verb, len(path)), ()):
        if all(path[position] == word for position, word in method.literals):
            return method
    return None


def _invalid(name: str, message: str) -> ServiceError:
    return ServiceError(400, "invalidParameter", message, location=("parameter", name))


def _method(path: str, name: str, kind: str = "", parameters: str = "") -> Method:
    segments = list(enumerate(path.split("/")))
    return Method(
        name,
        f"storage#{kind}" if kind else "",
        _STANDARD.union(parameters.split()),
        tuple((position, word) for position, word in segments if word != _VARIABLE),
        tuple(position for position, word in segments if word == _VARIABLE),
    )


_TABLE: Final = (
    ("GET", "b/{}/o/{}", "objects.get", "object", f"generation projection {_MATCH}"),
    ("GET", "b/{}/o", "objects.list", "objects", _LIST),
    ("POST", "b/{}/o", "objects.insert", "object", f"kmsKeyName projection {_UPLOAD} {_MATCH}"),
    ("PATCH", "b/{}/o/{}", "objects.patch", "object", f"generation projection {_MATCH}"),
    ("PUT", "b/{}/o/{}", "objects.update", "object", f"generation projection {_MATCH}"),
    ("DELETE", "b/{}/o/{}", "objects.delete", "", f"generation {_MATCH}"),
    ("POST", "b/{}/o/{}/compose", "objects.compose", "object", "ifGenerationMatch ifMetagenerationMatch kmsKeyName"),
    (
        "POST",
        "b/{}/o/{}/rewriteTo/b/{}/o/{}",
        "objects.rewrite",
        "rewriteResponse",
        f"destinationKmsKeyName maxBytesRewrittenPerCall projection rewriteToken sourceGeneration {_MATCH} {_SOURCE}",
    ),
    (
        "POST",
        "b/{}/o/{}/copyTo/b/{}/o/{}",
        "objects.copy",
        "object",
        f"destinationKmsKeyName projection sourceGeneration {_MATCH} {_SOURCE}",
    ),
    ("POST", "b/{}/o/{}/moveTo/o/{}", "objects.move", "object", f"projection {_MATCH} {_SOURCE}"),
    ("GET", "b", "buckets.list", "buckets", "maxResults pageToken prefix project projection"),
    ("POST", "b", "buckets.insert", "bucket", "project projection"),
    ("GET", "b/{}", "buckets.get", "bucket", f"projection {_META}"),
    ("PATCH", "b/{}", "buckets.patch", "bucket", f"projection {_META}"),
    ("PUT", "b/{}", "buckets.update", "bucket", f"projection {_META}"),
    ("DELETE", "b/{}", "buckets.delete", "", _META),
    (
        "GET",
        "b/{}/iam/testPermissions",
        "buckets.testIamPermissions",
        "testIamPermissionsResponse",
        "permissions",
    ),
    ("GET", "b/{}/notificationConfigs", "notifications.list", "notifications", ""),
    ("POST", "b/{}/notificationConfigs", "notifications.insert", "notification", ""),
    ("GET", "b/{}/notificationConfigs/{}", "notifications.get", "notification", ""),
    ("DELETE", "b/{}/notificationConfigs/{}", "notifications.delete", "", ""),
    ("GET", "projects/{}/serviceAccount", "projects.serviceAccount.get", "serviceAccount", ""),
)
_METHODS: Final[dict[tuple[str, int], list[Method]]] = defaultdict(list)
for _verb, _path, *_rest in _TABLE:
    _METHODS[_verb, _path.count("/") + 1].append(_method(_path, *_rest))
