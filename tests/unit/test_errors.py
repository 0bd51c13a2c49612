from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import pytest

from trove_async import errors
from trove_async.errors import BulkError, ObjectNotFoundError, TroveError, UnavailableError
from trove_async.types import DeleteResult

ALL: list[type[TroveError]] = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]
CONTEXT: dict[str, Any] = {
    "operation": "put",
    "bucket": "assets",
    "key": "a/b.txt",
    "driver": "memory",
    "status": 503,
    "request_id": "req-1",
    "retry_after": 1.5,
    "ambiguous": True,
    "retryable": True,
}


def drawn_tree() -> dict[str, tuple[str, set[str]]]:
    """Parse the tree in the module's docstring: name to (parent, built-in mix-ins)."""
    assert errors.__doc__ is not None
    tree: dict[str, tuple[str, set[str]]] = {}
    ancestors: list[str] = []
    for line in errors.__doc__.splitlines():
        found = re.match(
            r"    (?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+Error)(?: \((?P<mixins>[\w, ]+)\))?(?:\s{2,}|$)", line
        )
        if not found:
            continue
        depth = len(found["indent"]) // 4
        del ancestors[depth:]
        tree[found["name"]] = (ancestors[-1] if ancestors else "", set(re.findall(r"\w+", found["mixins"] or "")))
        ancestors.append(found["name"])
    return tree


def real_tree() -> dict[str, tuple[str, set[str]]]:
    tree = {}
    for cls in ALL:
        parents = [base.__name__ for base in cls.__bases__ if issubclass(base, TroveError)]
        builtin = {base.__name__ for base in cls.__bases__ if not issubclass(base, TroveError)}
        tree[cls.__name__] = (parents[0] if parents else "", builtin - {"Exception"})
        assert len(parents) <= 1
    return tree


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    assert drawn_tree() == real_tree()


def test_every_error_class_of_the_module_is_public() -> None:
    defined = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, TroveError)}
    assert defined == {cls.__name__ for cls in ALL}
    assert errors.__all__ == sorted(errors.__all__)


@pytest.mark.parametrize("cls", [cls for cls in ALL if cls is not BulkError], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_a_copy_keeps_class_message_and_context(cls: type[TroveError], duplicate: object) -> None:
    assert callable(duplicate)
    error = cls("it went wrong", **CONTEXT)
    same = duplicate(error)
    assert type(same) is cls
    assert str(same) == str(error)
    assert same.args == error.args == ("it went wrong",)
    for name, value in CONTEXT.items():
        assert getattr(same, name) == value


@pytest.mark.parametrize("duplicate", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])
def test_a_copy_of_a_bulk_error_keeps_the_failures(duplicate: object) -> None:
    assert callable(duplicate)
    failed = DeleteResult("k", UnavailableError("gone", bucket="b", key="k"))
    error = BulkError("1 of 3", failed=[failed], deleted_count=2, operation="delete_many", bucket="b", driver="memory")
    same = duplicate(error)
    assert same.deleted_count == 2
    assert str(same) == str(error)
    assert [str(result.error) for result in same.failed] == [str(failed.error)]


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_each_class_has_a_message_and_a_docstring_of_its_own(cls: type[TroveError]) -> None:
    assert cls.__doc__
    assert cls.__doc__ not in {base.__doc__ for base in cls.__mro__[1:]}
    assert str(cls()) == cls.default_message


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r", "\u2028"])
def test_the_text_is_one_line_for_any_message(newline: str) -> None:
    error = TroveError(f"first{newline}second", operation="put", bucket=f"b{newline}c", key=f"k{newline}l")
    assert str(error).splitlines() == [str(error)]
    assert "first second" in str(error)


def test_the_text_names_operation_target_driver_status_and_request() -> None:
    error = ObjectNotFoundError("no", operation="get", bucket="b", key="k", driver="s3", status=404, request_id="r")
    assert str(error) == "get 'b/k': no (driver s3, status 404, request r)"
    assert str(ObjectNotFoundError("no")) == "no"
    assert str(TroveError("no", operation="create_bucket", bucket="b")) == "create_bucket 'b': no"


def test_locate_sets_only_unknown_fields() -> None:
    error = ObjectNotFoundError("no", key="")
    error.locate("get", "b", "k", "memory")
    assert (error.operation, error.bucket, error.key, error.driver) == ("get", "b", "", "memory")
    error.locate("put", "c", "l", "local")
    assert (error.operation, error.bucket, error.key, error.driver) == ("get", "b", "", "memory")


def test_only_transient_errors_are_retryable_by_default() -> None:
    for cls in ALL:
        assert cls().retryable is issubclass(cls, errors.TransientError)
    assert UnavailableError(retryable=False).retryable is False
    assert TroveError(retryable=True).retryable is True


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (errors.ObjectNotFoundError, FileNotFoundError),
        (errors.BucketNotFoundError, FileNotFoundError),
        (errors.ObjectAlreadyExistsError, FileExistsError),
        (errors.BucketAlreadyExistsError, FileExistsError),
        (errors.UnauthenticatedError, PermissionError),
        (errors.OperationTimeoutError, TimeoutError),
        (errors.UnavailableError, ConnectionError),
        (errors.InvalidKeyError, ValueError),
        (errors.BodyTypeError, TypeError),
        (errors.UnsupportedError, NotImplementedError),
        (errors.MissingDependencyError, ImportError),
        (errors.ClosedError, RuntimeError),
        (errors.StorageFullError, OSError),
    ],
)
def test_the_built_in_class_catches_it_too(cls: type[TroveError], builtin: type[Exception]) -> None:
    with pytest.raises(builtin) as caught:
        raise cls("no", operation="get", bucket="b", key="k")
    assert str(caught.value) == "get 'b/k': no"


class _OtherError(Exception):
    def __init__(self, **attributes: object) -> None:
        vars(self).update(attributes)


def caused(error: BaseException, *causes: BaseException) -> BaseException:
    """Return the error with a chain of causes."""
    at = error
    for cause in causes:
        at.__cause__ = cause
        at = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, False),
        (TroveError("odd"), False),
        (errors.UnavailableError(status=503), False),
        (ObjectNotFoundError(), True),
        (errors.BucketNotFoundError(), True),
        (errors.UploadNotFoundError(), True),
        (errors.BackendError(status=404), True),
        (FileNotFoundError(), False),  # a local file
        (caused(errors.BackendError(), ValueError(), ObjectNotFoundError()), True),
        (caused(TroveError(), _OtherError(status=404)), True),
        (caused(TroveError(), _OtherError(status_code=404)), True),
        (caused(TroveError(), _OtherError(response={"ResponseMetadata": {"HTTPStatusCode": 404}})), True),
        (_OtherError(status=500), False),
        (_OtherError(status="404"), False),
        (_OtherError(response={}), False),
        (_OtherError(response=object()), False),
    ],
    ids=repr,
)
def test_is_not_found(error: BaseException | None, expected: bool) -> None:
    assert errors.is_not_found(error) is expected


def test_what_was_handled_meanwhile_is_no_cause() -> None:
    error = UnavailableError()
    error.__context__ = ObjectNotFoundError(copy_phase=errors.CopyPhase.READ)
    assert not errors.is_not_found(error)
    assert not errors.is_copy_phase(error, errors.CopyPhase.READ)


def test_is_copy_phase() -> None:
    read, write = errors.CopyPhase.READ, errors.CopyPhase.WRITE
    marked = UnavailableError(copy_phase=read)
    assert errors.is_copy_phase(marked, read)
    assert not errors.is_copy_phase(marked, write)
    assert errors.is_copy_phase(caused(ValueError(), TroveError(), marked), read)
    assert errors.is_copy_phase(caused(errors.CopyError(copy_phase=write), marked), write)
    assert not errors.is_copy_phase(caused(errors.CopyError(copy_phase=write), marked), read)
    for nothing in (None, TroveError(), ValueError()):
        assert not errors.is_copy_phase(nothing, read)
        assert not errors.is_copy_phase(nothing, write)


def test_a_chain_that_is_a_circle_ends() -> None:
    one, two = TroveError(), TroveError()
    one.__cause__, two.__cause__ = two, one
    assert not errors.is_not_found(one)
    assert not errors.is_copy_phase(one, errors.CopyPhase.READ)


def test_the_text_of_a_copy_error_is_the_phase_and_the_cause() -> None:
    cause = errors.BackendError("odd", operation="copy", bucket="b", key="k", driver="s3", status=400)
    error = errors.CopyError(
        "odd", operation="copy", bucket="b", key="k", driver="s3", status=400, copy_phase=errors.CopyPhase.WRITE
    )
    assert str(error) == f"write: {cause}" == "write: copy 'b/k': odd (driver s3, status 400)"
    assert errors.CopyPhase("read") is errors.CopyPhase.READ
    for duplicate in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert str(duplicate) == str(error)
        assert duplicate.copy_phase is errors.CopyPhase.WRITE
