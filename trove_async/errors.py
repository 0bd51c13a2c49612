"""Every error that the library raises, in one tree.

::

    TroveError
    ├── InvalidArgumentError (ValueError)     the call is wrong; nothing was sent
    │   ├── InvalidKeyError
    │   ├── InvalidBucketNameError
    │   ├── InvalidDSNError
    │   ├── InvalidMetadataError
    │   ├── InvalidTagsError
    │   ├── InvalidRangeError
    │   ├── InvalidCursorError
    │   ├── InvalidPartError
    │   ├── InvalidLifecycleError
    │   ├── UploadLengthError                 the length of a resumable upload is said again, and differs
    │   ├── ConfigError                       trove.toml is wrong, or has no store of that name
    │   └── UnpicklableError (TypeError)      what is open, or holds a secret, stays in its process
    ├── BodyTypeError (TypeError)             the body is of a type that cannot be stored
    ├── NotFoundError (FileNotFoundError)
    │   ├── BucketNotFoundError
    │   ├── ObjectNotFoundError
    │   ├── VersionNotFoundError
    │   ├── UploadNotFoundError
    │   │   └── UploadExpiredError            the resumable upload was not continued in time, and is gone
    │   ├── RootNotFoundError
    │   └── ResourceDeletedError              managed storage: the content was removed before it could be used
    ├── BucketAlreadyExistsError (FileExistsError)
    ├── ResourceAlreadyExistsError (FileExistsError)  managed storage: another writer has stored the content already
    ├── BucketNotEmptyError
    ├── PreconditionFailedError
    │   ├── ObjectAlreadyExistsError (FileExistsError)
    │   ├── ObjectChangedError                the object was replaced while it was read
    │   ├── UploadOffsetError                 a resumable upload continues at another offset
    │   └── LeaseLostError                    another holder has taken the lease over
    ├── NotModifiedError
    ├── RangeNotSatisfiableError
    ├── BodySizeError                         the body is longer or shorter than declared
    │   └── ContentTooLargeError              the body is longer than the server accepts
    ├── BodySourceError (RuntimeError)        the body's source broke off in a way that looks like its end
    ├── ChecksumError
    ├── AccessDeniedError (PermissionError)
    │   ├── UnauthenticatedError
    │   │   ├── HostKeyUnknownError           the SSH server is not in the file of known hosts
    │   │   └── HostKeyChangedError           the SSH server's key is not the one in the file of known hosts
    │   └── ResponseMismatchError             managed storage: a proof of access is wrong
    ├── StorageFullError (OSError)
    │   └── QuotaExceededError                the layer `Quota` refused the write
    ├── UnsupportedError (NotImplementedError)
    │   └── CopyNotSupportedError             the backend cannot copy this object by itself; copies then stream it
    ├── MissingDependencyError (ImportError)
    ├── LifetimeError (RuntimeError)
    │   ├── ClosedError (ValueError)
    │   ├── WrongLoopError
    │   └── ForkedError
    ├── TransientError                        the same call may succeed later
    │   ├── ConflictError                     another operation on the same object or bucket is under way
    │   ├── ThrottledError
    │   ├── UploadPendingError                managed storage: the content is not stored completely yet
    │   ├── UploadLockedError                 another request writes to the resumable upload
    │   ├── UnavailableError (ConnectionError)
    │   │   └── BackendUnavailableError       a circuit breaker refused the call; nothing was sent
    │   └── OperationTimeoutError (TimeoutError)
    ├── WatchOverflowError
    ├── CollectionRefusedError                managed storage: gc, or a repair, has stopped, since something looks wrong
    ├── RequestExpiredError                   managed storage: the request for a proof has expired, or there is none
    ├── UploadRejectedError                   a hook, or the server of a resumable upload, refused it
    ├── SchemaVersionError                    a newer version of the library has migrated the database
    ├── DriverRegistrationError (ValueError)
    ├── BackendError                          any other failure of the backend
    ├── CopyError                             a copy failed in a way that no other class describes
    └── BulkError                             some items of a bulk operation failed
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, ClassVar, Protocol, Self

from trove_async.causes import chain_of, status_of

__all__ = [
    "AccessDeniedError",
    "BackendError",
    "BackendUnavailableError",
    "BodySizeError",
    "BodySourceError",
    "BodyTypeError",
    "BucketAlreadyExistsError",
    "BucketNotEmptyError",
    "BucketNotFoundError",
    "BulkError",
    "ChecksumError",
    "ClosedError",
    "CollectionRefusedError",
    "ConfigError",
    "ConflictError",
    "ContentTooLargeError",
    "CopyError",
    "CopyNotSupportedError",
    "CopyPhase",
    "DriverRegistrationError",
    "ForkedError",
    "HostKeyChangedError",
    "HostKeyUnknownError",
    "InvalidArgumentError",
    "InvalidBucketNameError",
    "InvalidCursorError",
    "InvalidDSNError",
    "InvalidKeyError",
    "InvalidLifecycleError",
    "InvalidMetadataError",
    "InvalidPartError",
    "InvalidRangeError",
    "InvalidTagsError",
    "LeaseLostError",
    "LifetimeError",
    "MissingDependencyError",
    "NotFoundError",
    "NotModifiedError",
    "ObjectAlreadyExistsError",
    "ObjectChangedError",
    "ObjectNotFoundError",
    "OperationTimeoutError",
    "PreconditionFailedError",
    "QuotaExceededError",
    "RangeNotSatisfiableError",
    "RequestExpiredError",
    "ResourceAlreadyExistsError",
    "ResourceDeletedError",
    "ResponseMismatchError",
    "RootNotFoundError",
    "SchemaVersionError",
    "StorageFullError",
    "ThrottledError",
    "TransientError",
    "TroveError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnpicklableError",
    "UnsupportedError",
    "UploadExpiredError",
    "UploadLengthError",
    "UploadLockedError",
    "UploadNotFoundError",
    "UploadOffsetError",
    "UploadPendingError",
    "UploadRejectedError",
    "VersionNotFoundError",
    "WatchOverflowError",
    "WrongLoopError",
    "is_copy_phase",
    "is_not_found",
]


class CopyPhase(StrEnum):
    """The end of a copy at which it failed."""

    READ = "read"
    """The source: another copy of it may be readable."""
    WRITE = "write"
    """The destination: it refuses the object, whichever source it comes from."""


class TroveError(Exception):
    """The base class of every error that the library raises.

    Attributes:
        message: what went wrong and what to do, on one line, without secrets.
        operation: the name of the call, such as ``put``.
        bucket, key: the bucket and key of the call; None if it had none.
        driver: the driver's name, such as ``local``; of a store over several with the member, such as ``route/cold``.
        status: the status code of the service; None if there is none.
        request_id: the service's id of the request, for its support; None if there is none.
        retryable: True if the same call may succeed later.
        retry_after: seconds to wait before the retry; None if the service sent none.
        ambiguous: True if the write may or may not have taken place. The object is then the old one or the new
            one, and complete.
        copy_phase: the end at which a copy failed; None outside of copies, and if the copy was refused before it began.
        exhausted: True if nothing in the library tries the call again, although it is ``retryable``.
    """

    retryable: bool = False
    exhausted: bool = False
    default_message: ClassVar[str] = "the operation failed"

    def __init__(
        self,
        message: str | None = None,
        *,
        operation: str | None = None,
        bucket: str | None = None,
        key: str | None = None,
        driver: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        ambiguous: bool = False,
        copy_phase: CopyPhase | None = None,
    ) -> None:
        self.message = " ".join((message or self.default_message).splitlines())
        super().__init__(self.message)
        self.operation = operation
        self.bucket = bucket
        self.key = key
        self.driver = driver
        self.status = status
        self.request_id = request_id
        self.retry_after = retry_after
        self.ambiguous = ambiguous
        self.copy_phase = copy_phase
        if retryable is not None:
            self.retryable = retryable

    def locate(
        self, operation: str | None, bucket: str | None = None, key: str | None = None, driver: str | None = None
    ) -> None:
        """Fill in where the error happened; values that are already set stay."""
        self.operation = self.operation or operation
        # Bucket and key belong together: an error about another bucket is not about this key.
        if self.bucket in (None, bucket):
            self.bucket = bucket
            self.key = key if self.key is None else self.key
        self.driver = self.driver or driver

    def __str__(self) -> str:
        where = self.operation or ""
        if self.bucket is not None:
            target = self.bucket if self.key is None else f"{self.bucket}/{self.key}"
            where = f"{where} {target!r}".lstrip()
        text = f"{where}: {self.message}" if where else self.message
        notes = [
            f"{name} {value}"
            for name, value in (("driver", self.driver), ("status", self.status), ("request", self.request_id))
            if value is not None
        ]
        return f"{text} ({', '.join(notes)})" if notes else text


class InvalidArgumentError(TroveError, ValueError):
    """An argument of the call is invalid; nothing was sent and nothing changed."""

    default_message = "an argument is invalid"


class InvalidKeyError(InvalidArgumentError):
    """The key is empty, too long, not text, or not supported by the backend."""

    default_message = "the key is invalid"


class InvalidBucketNameError(InvalidArgumentError):
    """The bucket's name is empty, or not supported by the backend."""

    default_message = "the bucket name is invalid"


class InvalidDSNError(InvalidArgumentError):
    """The DSN cannot be understood; the message names the part, never a secret."""

    default_message = "the DSN is invalid"


class InvalidMetadataError(InvalidArgumentError):
    """Metadata or a content header is malformed or too large."""

    default_message = "the metadata is invalid"


class InvalidTagsError(InvalidArgumentError):
    """Tags are malformed, too long, or too many."""

    default_message = "the tags are invalid"


class InvalidRangeError(InvalidArgumentError):
    """A range has a negative offset or length."""

    default_message = "the range is invalid"


class InvalidCursorError(InvalidArgumentError):
    """A listing cursor is malformed, or belongs to another listing."""

    default_message = "the cursor is invalid"


class InvalidPartError(InvalidArgumentError):
    """A part is missing, too small, out of order, or not the one that was uploaded."""

    default_message = "a part of the upload is invalid"


class InvalidLifecycleError(InvalidArgumentError):
    """A lifecycle rule contradicts itself or another rule."""

    default_message = "the lifecycle rules are invalid"


class ConfigError(InvalidArgumentError):
    """The configuration is wrong, or has no store of the name that was given; no store was asked anything.

    The message begins with file, line and key, as in ``trove.toml:4: stores.media.layers[1].treshold: …``.

    Attributes:
        file: the path of the file; None if there is none.
        line: counted from 1; None if the error concerns no line, or the configuration is no file.
        config_key: what is wrong, such as ``stores.media.dsn``; None if it is no key.
    """

    default_message = "the configuration is invalid"
    file: str | None = None
    line: int | None = None
    config_key: str | None = None

    @classmethod
    def at(cls, message: str, *, file: str, line: int | None = None, config_key: str | None = None) -> Self:
        """Return the error for a place in a file."""
        where = [file if line is None else f"{file}:{line}", *([config_key] if config_key else [])]
        error = cls(": ".join([*where, message]))
        error.file, error.line, error.config_key = file, line, config_key
        return error


class UploadLengthError(InvalidArgumentError):
    """What is said about the length of a resumable upload contradicts itself, or what was said before."""

    default_message = "the length of the upload contradicts what was said before"


class UnpicklableError(InvalidArgumentError, TypeError):
    """Something was to be pickled or stored that is open, or holds a secret; the message says what to store instead."""

    default_message = "this cannot be pickled"


class BodyTypeError(TroveError, TypeError):
    """The body, or a chunk of it, is of a type that cannot be stored."""

    default_message = "the body is of a type that cannot be stored"


class NotFoundError(TroveError, FileNotFoundError):
    """Something that the call names does not exist."""

    default_message = "not found"


class BucketNotFoundError(NotFoundError):
    """The bucket does not exist."""

    default_message = "the bucket does not exist"


class ObjectNotFoundError(NotFoundError):
    """The bucket exists, but the object does not."""

    default_message = "the object does not exist"


class VersionNotFoundError(NotFoundError):
    """The object does not have this version."""

    default_message = "the object has no such version"


class UploadNotFoundError(NotFoundError):
    """No multipart upload with this id is open: it is unknown, completed, aborted or expired."""

    default_message = "no such multipart upload is open"


class UploadExpiredError(UploadNotFoundError):
    """The resumable upload was not continued before it expired; its bytes are gone. Begin a new one."""

    default_message = "the upload has expired"


class RootNotFoundError(NotFoundError):
    """The folder that a file-system DSN names is missing or not a folder."""

    default_message = "the root folder does not exist"


class ResourceDeletedError(NotFoundError):
    """Content of managed storage was removed before a reference to it could be made; store it again."""

    default_message = "the content was removed"


class BucketAlreadyExistsError(TroveError, FileExistsError):
    """A bucket with this name already exists."""

    default_message = "the bucket already exists"


class ResourceAlreadyExistsError(TroveError, FileExistsError):
    """Another writer has stored the same content already; what this one has stored is not needed."""

    default_message = "the content is stored already"


class BucketNotEmptyError(TroveError):
    """The bucket still holds objects or versions; nothing was deleted."""

    default_message = "the bucket is not empty; empty_bucket deletes its objects, with versions=True its versions too"


class PreconditionFailedError(TroveError):
    """A condition of the call, such as ``if_match``, did not hold; nothing changed."""

    default_message = "a condition did not hold"


class ObjectAlreadyExistsError(PreconditionFailedError, FileExistsError):
    """A create-only write (``if_none_match="*"``) found an object; it is unchanged."""

    default_message = "the object already exists"


class ObjectChangedError(PreconditionFailedError):
    """The object was replaced or deleted while it was being read; read it again from the start."""

    default_message = "the object changed while it was being read; read it again from the start"


class LeaseLostError(PreconditionFailedError):
    """Another holder has taken a lease over, or it was released; nothing changed. Stop what the lease was for."""

    default_message = "the lease was taken over or released"


class UploadOffsetError(PreconditionFailedError):
    """A resumable upload was to continue at an offset that is not its own; nothing changed.

    Attributes:
        offset: the upload's own, in bytes; None if it is not known.
    """

    default_message = "the upload continues at another offset"

    def __init__(self, message: str | None = None, *, offset: int | None = None, **context: Any) -> None:
        super().__init__(message, **context)
        self.offset = offset


class NotModifiedError(TroveError):
    """The caller already has the object (``if_none_match``, ``if_modified_since``)."""

    default_message = "the object was not modified"


class RangeNotSatisfiableError(TroveError):
    """The range starts at or past the end of the object."""

    default_message = "the range starts at or past the end of the object"


class BodySizeError(TroveError):
    """The body is longer or shorter than its declared size; nothing was stored."""

    default_message = "the body does not have its declared size"


class ContentTooLargeError(BodySizeError):
    """The body of a request is longer than the server accepts; nothing was stored."""

    default_message = "the body is longer than the server accepts"


class BodySourceError(TroveError, RuntimeError):
    """The body's source broke off or had no data yet; nothing was stored.

    It breaks off by ``StopIteration`` or ``StopAsyncIteration``, which is then the ``__cause__``, or if a form ends
    within the part that is read. An ``await anext(rows)`` without a default in a ``read`` is an example. It must
    not end the body, which could be at any byte. For the same reason Python raises a `RuntimeError` when a
    ``StopIteration`` leaves a generator or coroutine (PEP 479); that one passes unchanged.
    """

    default_message = "the source of the body broke off"


class ChecksumError(TroveError):
    """The bytes do not match their checksum."""

    default_message = "the checksum does not match"


class AccessDeniedError(TroveError, PermissionError):
    """The credentials do not allow the operation, or the layer `ReadOnly` refuses it."""

    default_message = "access denied"


class UnauthenticatedError(AccessDeniedError):
    """The credentials are missing, unknown, wrong or expired."""

    default_message = "the credentials are missing or wrong"


class HostKeyUnknownError(UnauthenticatedError):
    """The server's host key is not in the file of known hosts; no credentials were sent."""

    default_message = "the server's host key is not known"


class HostKeyChangedError(UnauthenticatedError):
    """The server's host key is not the one in the file of known hosts: another server may be impersonating it."""

    default_message = "the server's host key has changed"


class ResponseMismatchError(AccessDeniedError):
    """A proof of access to content is wrong, or belongs to another caller or path; nothing changed."""

    default_message = "the proof of access is wrong"


class StorageFullError(TroveError, OSError):
    """The storage is full; nothing was stored."""

    default_message = "the storage is full"


class QuotaExceededError(StorageFullError):
    """The write would exceed a limit of the layer `Quota`; nothing was stored.

    Attributes:
        quota: the name of the limit: a bucket, ``bucket/prefix``, or empty for the limit of the whole store.
        resource: what the limit is about: ``bytes`` or ``objects``.
        limit: how many there may be.
        used: how many are stored or reserved.
        asked: how many more the write needs.
    """

    default_message = "the write would exceed a quota"

    def __init__(
        self,
        message: str | None = None,
        *,
        quota: str = "",
        resource: str = "bytes",
        limit: int = 0,
        used: int = 0,
        asked: int = 0,
        **context: Any,
    ) -> None:
        super().__init__(message, **context)
        self.quota = quota
        self.resource = resource
        self.limit = limit
        self.used = used
        self.asked = asked


class UnsupportedError(TroveError, NotImplementedError):
    """The driver or this server does not support the operation; nothing was sent."""

    default_message = "this driver does not support the operation"


class CopyNotSupportedError(UnsupportedError):
    """The backend cannot copy this object by itself; nothing was sent.

    A driver or layer raises it, for example for two accounts or an object that is encrypted here. `Trove.copy` then
    reads the object and writes it; only ``server_copy`` and ``restore_version`` pass the error on.
    """

    default_message = "the backend cannot copy this object by itself"


class MissingDependencyError(TroveError, ImportError):
    """A package that an optional feature needs is not installed; the message names the extra."""

    default_message = "a package is missing"


class LifetimeError(TroveError, RuntimeError):
    """An object of the library is used after it was closed, on another event loop or in another process."""

    default_message = "the store cannot be used here"


class ClosedError(LifetimeError, ValueError):
    """The store, reader, writer or file was closed."""

    default_message = "it is closed"


class WrongLoopError(LifetimeError):
    """The store belongs to another event loop; open one for each loop."""

    default_message = "the store was opened on another event loop; open one store for each loop"


class ForkedError(LifetimeError):
    """The process was forked after the store was opened; open the store in the child."""

    default_message = "the process was forked after the store was opened; open a store in the child process"


class TransientError(TroveError):
    """The backend failed temporarily: the same call may succeed later."""

    retryable = True
    default_message = "the backend failed temporarily; try again"


class ConflictError(TransientError):
    """Another operation on the same object or bucket is under way; nothing changed."""

    default_message = "another operation on the same object or bucket is under way; try again"


class ThrottledError(TransientError):
    """The backend asks for fewer requests."""

    default_message = "the backend asks for fewer requests; try again later"


class UploadLockedError(TransientError):
    """Another request writes to the resumable upload, and did not stop in time; nothing changed."""

    default_message = "another request writes to the upload; try again"


class UploadPendingError(TransientError):
    """The content is known, and not stored completely yet: its writer is still at work. Try again."""

    default_message = "the content is not stored completely yet"


class UnavailableError(TransientError, ConnectionError):
    """The backend cannot be reached, or the connection broke."""

    default_message = "the backend cannot be reached"


class BackendUnavailableError(UnavailableError):
    """The call was refused, because the backend is known to be down; nothing was sent.

    ``__cause__`` is the error by which that was found out.
    """

    default_message = "the backend is known to be down"


class OperationTimeoutError(TransientError, TimeoutError):
    """No data arrived or could be sent within the timeout."""

    default_message = "the backend did not answer in time"


class WatchOverflowError(TroveError):
    """Events came faster than they were taken and some are lost; list the bucket again."""

    default_message = "events came faster than they were taken and some are lost; list the bucket again"


class CollectionRefusedError(TroveError):
    """The collector or `fsck` of managed storage stopped: too much would be lost, or the sense of time is wrong."""

    default_message = "the collection was refused"


class RequestExpiredError(TroveError):
    """A request for a proof of access has expired, was answered too often, or never existed; make a new one."""

    default_message = "the request has expired"


class UploadRejectedError(TroveError):
    """A hook, or the server of a resumable upload, refused a request of the upload.

    Attributes:
        status_code: of the answer, 400 to 599.
        headers: further headers of the answer.
    """

    default_message = "the upload was rejected"

    def __init__(
        self,
        message: str | None = None,
        *,
        status_code: int = 400,
        headers: Sequence[tuple[str, str]] = (),
        **context: Any,
    ) -> None:
        super().__init__(message, **context)
        if not 400 <= status_code <= 599:
            raise ValueError(f"a rejection has a status from 400 to 599, not {status_code}")
        self.status_code = status_code
        self.headers = tuple(headers)


class SchemaVersionError(TroveError):
    """A newer version of the library has migrated the database; upgrade the library here, too."""

    default_message = "a newer version of the library has migrated the database; upgrade the library here, too"


class DriverRegistrationError(TroveError, ValueError):
    """A scheme is registered twice, or no driver is registered for it."""

    default_message = "the driver cannot be registered"


class BackendError(TroveError):
    """The backend failed in a way that no other class describes; see ``__cause__``."""

    default_message = "the backend failed"


class CopyError(TroveError):
    """A copy failed in a way that no other class describes; the text is the phase and the cause.

    The ``__cause__`` is a `BackendError` or bare `TroveError`, or the `OSError` of a driver that did not translate it.
    Every other error of a copy keeps its class, and has a ``copy_phase`` too.
    """

    default_message = "the copy failed"

    def __str__(self) -> str:
        text = super().__str__()
        return text if self.copy_phase is None else f"{self.copy_phase}: {text}"


class _Result(Protocol):
    """The attributes of a `DeleteResult` that `BulkError` uses; its module imports this one."""

    @property
    def key(self) -> str: ...

    @property
    def error(self) -> TroveError | None: ...

    @property
    def version_id(self) -> str | None: ...


class BulkError(TroveError):
    """Some items of a bulk operation failed; all items were tried.

    Attributes:
        failed: a ``DeleteResult`` with its error for each item that failed.
        deleted_count: the number of items that were deleted.
    """

    default_message = "some items failed"

    def __init__(
        self,
        message: str | None = None,
        *,
        failed: Sequence[_Result] = (),
        deleted_count: int = 0,
        operation: str | None = None,
        bucket: str | None = None,
        driver: str | None = None,
    ) -> None:
        super().__init__(message, operation=operation, bucket=bucket, driver=driver)
        self.failed = tuple(failed)
        self.deleted_count = deleted_count


def is_copy_phase(error: BaseException | None, phase: CopyPhase) -> bool:
    """Tell whether a copy failed at one of its ends.

    Args:
        error: what the copy raised. If it has no phase itself, the first error in the chain of its causes
            (``__cause__``) that has one decides.
        phase: the end.
    """
    return copy_phase_of(error) == phase


def copy_phase_of(error: BaseException | None) -> CopyPhase | None:
    """Return the phase of the first error in a chain that has one; None if none has."""
    phases = (getattr(each, "copy_phase", None) for each in chain_of(error))
    return next((phase for phase in phases if isinstance(phase, CopyPhase)), None)


def is_not_found(error: BaseException | None) -> bool:
    """Tell whether an error says that something does not exist.

    True if the error, or one in the chain of its causes (``__cause__``), is a `NotFoundError`, or the error of another
    library with the HTTP status 404 in ``status``, ``status_code`` or botocore's ``response``. False for None.
    """
    return any(isinstance(each, NotFoundError) or status_of(each) == 404 for each in chain_of(error))
