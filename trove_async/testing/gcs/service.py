"""The routes of the services, and the form of their errors."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from trove_async.testing.gcs.auth import Authority
from trove_async.testing.gcs.batch import batch
from trove_async.testing.gcs.buckets import Buckets
from trove_async.testing.gcs.copies import Copies
from trove_async.testing.gcs.errors import ServiceError, invalid, not_found
from trove_async.testing.gcs.http import Request, Response, decoded
from trove_async.testing.gcs.methods import find
from trove_async.testing.gcs.notifications import Notifications
from trove_async.testing.gcs.objects import Objects
from trove_async.testing.gcs.policies import Policies
from trove_async.testing.gcs.pubsub import PubSub
from trove_async.testing.gcs.requests import LoggedRequest, RequestLog
from trove_async.testing.gcs.sessions import Sessions, is_resumed
from trove_async.testing.gcs.signed import Signatures, is_signed
from trove_async.testing.gcs.state import Storage
from trove_async.testing.gcs.unsupported import check_headers, check_path, check_xml_parameters, unsupported
from trove_async.testing.gcs.uploads import Uploads
from trove_async.testing.gcs.xml_api import XMLObjects
from trove_async.testing.gcs.xml_listing import list_objects
from trove_async.testing.gcs.xml_multipart import MultipartUploads

__all__ = ["Service"]

Result = Response | Awaitable[Response]

_OWN: Final = ("/storage/v1/", "/upload/", "/download/", "/token", "/computeMetadata/", "/batch/", "/v1/")
_LOGGER: Final = logging.getLogger(__name__)
_DOCUMENT: Final = 10 << 20  # the maximum size of a request that is not an upload
_JSON: Final = {"Content-Type": "application/json; charset=UTF-8"}
_XML: Final = {"Content-Type": "application/xml; charset=UTF-8"}
_PLAIN: Final = {"Content-Type": "text/plain; charset=utf-8"}
_TEXT: Final = {"Content-Type": "text/html; charset=UTF-8"}


class Service:
    """Answers all requests: routes them to the APIs, checks their credentials, and renders errors."""

    def __init__(
        self,
        storage: Storage,
        authority: Authority,
        signatures: Signatures,
        pubsub: PubSub,
        log: RequestLog,
        *,
        chunk_granularity: int,
        minimum_part: int,
        rewrite_bytes_per_call: int | None,
    ) -> None:
        self.storage = storage
        self.authority = authority
        self.signatures = signatures
        self.pubsub = pubsub
        self.log = log
        self.sessions = Sessions(storage, chunk_granularity)
        self.uploads = Uploads(storage, self.sessions)
        self.multipart = MultipartUploads(storage, minimum_part)
        self.copies = Copies(storage, rewrite_bytes_per_call)
        self.buckets = Buckets(storage)
        self.objects = Objects(storage)
        self.xml = XMLObjects(storage, self.sessions, self.multipart, self.copies)
        self.policies = Policies(storage, signatures)
        self.notifications = Notifications(storage, pubsub)
        self._methods: Mapping[str, Callable[..., Result]] = {
            "objects.get": self.objects.get,
            "objects.list": self.objects.list,
            "objects.insert": self._misplaced_upload,
            "objects.patch": self.objects.patch,
            "objects.update": self.objects.update,
            "objects.delete": self.objects.delete,
            "objects.compose": self.copies.compose,
            "objects.rewrite": self.copies.rewrite,
            "objects.copy": self.copies.copy,
            "objects.move": self.copies.move,
            "buckets.list": self.buckets.list,
            "buckets.insert": self.buckets.insert,
            "buckets.get": self.buckets.get,
            "buckets.patch": self.buckets.patch,
            "buckets.update": self.buckets.update,
            "buckets.delete": self.buckets.delete,
            "buckets.testIamPermissions": self.buckets.test_permissions,
            "notifications.list": self.notifications.list,
            "notifications.insert": self.notifications.insert,
            "notifications.get": self.notifications.get,
            "notifications.delete": self.notifications.delete,
            "projects.serviceAccount.get": self.buckets.service_account,
        }

    def refuse(self, request: Request) -> Response | None:
        """Refuse a request by its head if its credentials are not valid."""
        try:
            if self._is_xml(request):
                self._check_xml(request)
            elif request.raw_path != "/token" and not is_resumed(request):
                self.authority.check(request)
        except ServiceError as error:
            return self._logged(request, self._error_response(request, error))
        return None

    def limit(self, request: Request) -> int | None:
        """Return the maximum size of a body."""
        return None if request.raw_path.startswith("/upload/") or self._is_xml(request) else _DOCUMENT

    def abandoned(self, request: Request) -> None:
        """Persist what a broken request to a resumable session delivered."""
        try:
            if is_resumed(request):
                self.sessions.abandoned(request)
        except ServiceError:
            return

    def handle(self, request: Request) -> Result:
        """Answer a request."""
        try:
            result = self._route(request)
        except ServiceError as error:
            return self._logged(request, self._error_response(request, error))
        except Exception:  # noqa: BLE001 - a bug of the server becomes a 500, as at Google
            return self._failed(request)
        if isinstance(result, Response):
            return self._logged(request, result)
        return self._later(request, result)

    async def _later(self, request: Request, result: Awaitable[Response]) -> Response:
        try:
            return self._logged(request, await result)
        except ServiceError as error:
            return self._logged(request, self._error_response(request, error))
        except Exception:  # noqa: BLE001 - as above
            return self._failed(request)

    def _failed(self, request: Request) -> Response:
        _LOGGER.exception("%s %s", request.method, request.target)
        error = ServiceError(500, "backendError", "Backend Error", xml_code="InternalError")
        return self._logged(request, self._error_response(request, error))

    def _logged(self, request: Request, response: Response) -> Response:
        self.log.add(LoggedRequest(request.method, request.target, response.status, request.size))
        return response

    def _route(self, request: Request) -> Result:
        path = request.raw_path
        check_headers(request)
        if path.startswith("/storage/v1/"):
            self.authority.check(request)
            return self._storage(request, request.segments[2:])
        if path.startswith("/upload/storage/v1/"):
            return self._upload(request)
        if path.startswith("/download/storage/v1/"):
            self.authority.check(request)
            return self._download(request)
        if path.startswith("/v1/projects/"):
            self.authority.check(request)
            return self.pubsub.handle(request)
        if path == "/batch/storage/v1" and request.method == "POST":
            self.authority.check(request)
            return batch(request, self.handle)
        if path == "/token" and request.method == "POST":
            return self.authority.grant(request)
        if path.startswith("/computeMetadata/v1/"):
            return self.authority.metadata(request)
        return self._xml(request)

    def _storage(self, request: Request, path: list[str]) -> Result:
        method = find(request.method, path)
        if method is None:
            check_path(path)
            raise not_found()
        method.check(request)
        return self._methods[method.name](request, *[path[position] for position in method.variables])

    def _misplaced_upload(self, request: Request, bucket: str) -> Response:
        self.storage.bucket(bucket)
        message = "Upload requests must have a URL path beginning with /upload/"
        raise invalid(message, reason="wrongUrlForUpload")

    def _upload(self, request: Request) -> Result:
        if is_resumed(request):
            return self.sessions.resume(request)
        self.authority.check(request)
        path = request.segments[3:]
        method = find("POST", path)  # an upload may be a PUT as well
        if method is None or method.name != "objects.insert" or request.method not in ("POST", "PUT"):
            raise not_found()
        method.check(request)
        return self.uploads.insert(request, path[1])

    def _download(self, request: Request) -> Result:
        path = request.segments[3:]
        method = find(request.method, path)
        if method is None or method.name != "objects.get":
            raise not_found()
        method.check(request)
        return self.objects.get(request, path[1], path[3])

    def _xml(self, request: Request) -> Result:
        bucket, _, name = request.raw_path[1:].partition("/")
        bucket = decoded(bucket)
        if self._is_form(request):
            return self.policies.post(request, bucket)
        self._check_xml(request)
        check_xml_parameters(request.query, of_object=bool(name))
        if name:
            return self.xml.handle(request, bucket, decoded(name))
        if request.method == "GET" and bucket:
            if "uploads" in request.query:
                return self.multipart.list_uploads(request, bucket)
            return list_objects(request, self.storage.bucket(bucket))
        raise unsupported("buckets in the XML API")

    def _check_xml(self, request: Request) -> None:
        if is_signed(request):
            self.signatures.check_url(request)
        elif not is_resumed(request) and not self._is_form(request):
            self.authority.check(request)

    def _is_form(self, request: Request) -> bool:
        to_bucket = "/" not in request.raw_path[1:].rstrip("/")
        form = request.header("content-type").lower().startswith("multipart/form-data")
        return request.method == "POST" and to_bucket and form

    def _is_xml(self, request: Request) -> bool:
        return not request.raw_path.startswith(_OWN)

    def _error_response(self, request: Request, error: ServiceError) -> Response:
        if error.status == 304:
            return Response(304, error.headers)
        if self._is_xml(request):
            return Response(error.status, {**_XML, **error.headers}, error.as_xml())
        if request.raw_path.startswith("/v1/"):
            return Response(error.status, {**_JSON, **error.headers}, error.as_rpc_json())
        if error.plain:
            return Response(error.status, {**_PLAIN, **error.headers}, error.message.encode())
        if "alt=media" in request.raw_query:
            return Response(error.status, {**_TEXT, **error.headers}, error.message.encode())
        return Response(error.status, {**_JSON, **error.headers}, error.as_json())
