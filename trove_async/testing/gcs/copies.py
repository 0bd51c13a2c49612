"""Objects made from other objects: copy, rewrite, move and compose.

https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite, ``…/copy``, ``…/move`` and ``…/compose``, and
https://cloud.google.com/storage/docs/composite-objects.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from trove_async.testing.gcs.conditions import Preconditions
from trove_async.testing.gcs.creation import hashed
from trove_async.testing.gcs.errors import invalid, required
from trove_async.testing.gcs.http import Request, Response, mapping
from trove_async.testing.gcs.resources import (
    answer,
    answer_object,
    check_metadata,
    check_name,
    object_resource,
    set_kms_key,
    writable,
)
from trove_async.testing.gcs.state import Content, Storage, StoredObject

__all__ = ["Copies", "inherited"]

_SOURCES: Final = 32
_UNIT: Final = 1 << 20
_NOT_INHERITED: Final = frozenset(("storageClass", "temporaryHold", "eventBasedHold", "kmsKeyName"))


@dataclass(slots=True)
class _Rewrite:
    """An incomplete rewrite; its token is valid for the same request only."""

    source: StoredObject
    bucket: str
    name: str
    body: bytes
    written: int = 0


class Copies:
    """Copies within the server.

    Attributes:
        bytes_per_call: the number of bytes that a call of rewrite copies; None for any number.
        rewrites: the incomplete rewrites, by token.
    """

    def __init__(self, storage: Storage, bytes_per_call: int | None) -> None:
        self.storage = storage
        self.bytes_per_call = bytes_per_call
        self.rewrites: dict[str, _Rewrite] = {}

    def copy(self, request: Request, bucket: str, name: str, other: str, new_name: str) -> Response:
        """Answer ``POST …/copyTo/…``.

        Raises:
            ServiceError: the request is refused.
        """
        made = self._make(request, self._source(request, bucket, name), (other, new_name))
        return answer_object(request, self.storage, made)

    def rewrite(self, request: Request, bucket: str, name: str, other: str, new_name: str) -> Response:
        """Answer ``POST …/rewriteTo/…``: with the object, or with a token for the next call.

        Raises:
            ServiceError: the request is refused.
        """
        found, target = self._source(request, bucket, name), (other, new_name)
        step = self._step(request, found, target)
        token = request.query.get("rewriteToken")
        incomplete = self._continued(request, token, found, target) if token else None
        written = (incomplete.written if incomplete else 0) + (step or len(found.data))
        document: dict[str, Any] = {"kind": "storage#rewriteResponse", "objectSize": str(len(found.data))}
        if written < len(found.data):
            if incomplete is None:
                self._check_target(request, target)
                token, incomplete = secrets.token_urlsafe(32), _Rewrite(found, *target, request.body)
                self.rewrites[token] = incomplete
            incomplete.written = written
            document |= {"totalBytesRewritten": str(written), "done": False, "rewriteToken": token}
            return answer(request, document)
        made = self._make(request, found, target)
        if token:
            self.rewrites.pop(token, None)
        document |= {
            "totalBytesRewritten": str(len(made.data)),
            "done": True,
            "resource": object_resource(self.storage, made),
        }
        return answer(request, document)

    def compose(self, request: Request, bucket_name: str, name: str) -> Response | Awaitable[Response]:
        """Answer ``POST …/compose``.

        Raises:
            ServiceError: the request is refused.
        """
        check_name(name)
        body = request.json()
        sources = self._sources(body, bucket_name)
        fields = writable(mapping(body, "destination"))
        fields.setdefault("storageClass", sources[0].fields["storageClass"])
        set_kms_key(fields, request.query.get("kmsKeyName"))
        check_metadata(fields)
        conditions = Preconditions.of(request)
        conditions.check(self.storage.bucket(bucket_name).live(name))
        components = sum(source.content.components or 1 for source in sources)

        def store(content: Content) -> Response:
            bucket = self.storage.bucket(bucket_name)
            conditions.check(bucket.live(name))
            made = self.storage.store(bucket, name, content, fields)
            return answer_object(request, self.storage, made)

        data = b"".join(source.data for source in sources)
        return hashed(data, store, lambda joined: Content.joined(joined, components))

    def move(self, request: Request, bucket_name: str, name: str, new_name: str) -> Response:
        """Answer ``POST …/moveTo/…``: the object gets another name, in one step.

        Raises:
            ServiceError: the request is refused.
        """
        found = self._source(request, bucket_name, name)
        if new_name == name:
            raise invalid("The source and destination object names must be different.")
        self.storage.check_held(found)
        made = self.make(found, bucket_name, new_name, Preconditions.of(request), dict(found.fields))
        bucket = self.storage.bucket(bucket_name)
        self.storage.delete(bucket, found, permanently=not bucket.versioned)
        return answer_object(request, self.storage, made)

    def make(
        self, found: StoredObject, bucket_name: str, name: str, conditions: Preconditions, fields: dict[str, Any]
    ) -> StoredObject:
        """Store the content of an object under another name.

        Args:
            found: the source.
            bucket_name, name: of the new object.
            conditions: on the object that is replaced.
            fields: the properties of the new object.

        Raises:
            ServiceError: 400, 403, 404 or 412.
        """
        check_name(name)
        bucket = self.storage.bucket(bucket_name)
        conditions.check(bucket.live(name))
        check_metadata(fields)
        content = found.content
        if content.xml_etag is not None:
            content = Content(content.data, content.crc32c, content.md5, content.components)
        return self.storage.store(bucket, name, content, fields)

    def _source(self, request: Request, bucket: str, name: str) -> StoredObject:
        found = self.storage.find(self.storage.bucket(bucket), name, request.integer("sourceGeneration"))
        Preconditions.of(request, source=True).check(found)
        return found

    def _step(self, request: Request, found: StoredObject, target: tuple[str, str]) -> int | None:
        asked = request.integer("maxBytesRewrittenPerCall")
        if asked is not None and (asked <= 0 or asked % _UNIT):
            raise invalid("maxBytesRewrittenPerCall must be a multiple of 1 MiB.", reason="invalidParameter")
        if self.bytes_per_call is not None:
            return min(asked or self.bytes_per_call, self.bytes_per_call)
        # "If the source and destination are the same location and storage class …, returns in a single RPC."
        source, into = self.storage.bucket(found.bucket), self.storage.bucket(target[0])
        storage_class = request.json().get("storageClass") or into.storage_class
        moves = source.fields.get("location") != into.fields.get("location")
        return asked if moves or storage_class != found.fields["storageClass"] else None

    def _continued(self, request: Request, token: str, found: StoredObject, target: tuple[str, str]) -> _Rewrite:
        incomplete = self.rewrites.get(token)
        if incomplete is None or incomplete != _Rewrite(found, *target, request.body, incomplete.written):
            raise invalid("Invalid rewrite token.", reason="invalidParameter")
        return incomplete

    def _check_target(self, request: Request, target: tuple[str, str]) -> None:
        bucket, name = target
        check_name(name)
        Preconditions.of(request).check(self.storage.bucket(bucket).live(name))

    def _make(self, request: Request, found: StoredObject, target: tuple[str, str]) -> StoredObject:
        fields = writable(request.json()) or inherited(found)
        set_kms_key(fields, request.query.get("destinationKmsKeyName"))
        return self.make(found, *target, Preconditions.of(request), fields)

    def _sources(self, body: Mapping[str, Any], bucket_name: str) -> list[StoredObject]:
        bucket = self.storage.bucket(bucket_name)
        listed = body.get("sourceObjects")
        if not isinstance(listed, list) or not listed:
            raise invalid("You must provide at least one source component.", reason="required")
        if len(listed) > _SOURCES:
            raise invalid(f"The number of source components provided ({len(listed)}) exceeds the maximum ({_SOURCES}).")
        found = []
        for item in listed:
            if not isinstance(item, dict) or not isinstance(item.get("name"), str):
                raise required("sourceObjects.name")
            generation = _integer(item.get("generation"))
            source = self.storage.find(bucket, item["name"], generation)
            wanted = _integer(mapping(item, "objectPreconditions").get("ifGenerationMatch"))
            Preconditions(generation=wanted).check(source)
            found.append(source)
        if len({source.fields["storageClass"] for source in found}) > 1:
            raise invalid("All source objects must have the same storage class.")
        return found


def inherited(found: StoredObject) -> dict[str, Any]:
    """Return the properties that a copy has from its source, if the request gives none.

    Source: https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite, "Request body".
    """
    return {key: value for key, value in found.fields.items() if key not in _NOT_INHERITED}


def _integer(value: object) -> int | None:
    try:
        return None if value is None else int(str(value))
    except ValueError as error:
        raise invalid(f"Invalid value for: {value}") from error
