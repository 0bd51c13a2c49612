from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from trove_async import types
from trove_async.errors import ObjectNotFoundError
from trove_async.types import (
    EMPTY,
    BucketInfo,
    DeleteResult,
    EventType,
    FrozenDict,
    LifecycleReport,
    LifecycleRule,
    ObjectEvent,
    ObjectInfo,
    ObjectRef,
    PartInfo,
    Prefix,
    PresignedPost,
    UploadInfo,
    VersionInfo,
)

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
VALUES = [
    ObjectInfo("k", 1, "e", NOW, "text/plain", FrozenDict({"a": "1"}), "v", checksums=FrozenDict({"md5": "00"})),
    Prefix("a/"),
    BucketInfo("b", NOW),
    PartInfo(1, "e", 2),
    UploadInfo("u", "k", NOW),
    VersionInfo("v", "k", 1, NOW, True, etag="e"),
    ObjectEvent(EventType.CREATED, "b", "k", 1, "e", "v", NOW, "token"),
    LifecycleRule("r", expiration_days=1),
    LifecycleReport(1, 2, 3, 4),
    ObjectRef("b", "k", "v"),
    DeleteResult("k"),
    PresignedPost("http://example.com", FrozenDict({"policy": "x"})),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_results_are_frozen_slotted_hashable_and_picklable(value: object) -> None:
    assert dataclasses.is_dataclass(value)
    name = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, "other")
    assert not hasattr(value, "__dict__")
    for same in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value)):
        assert same == value
        assert hash(same) == hash(value)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_a_maker_makes_is_like_what_the_constructor_makes(value: Any) -> None:
    made = types.maker_of(type(value))(*(getattr(value, field.name) for field in dataclasses.fields(value)))
    assert type(made) is type(value)
    assert made == value
    assert (hash(made), repr(made)) == (hash(value), repr(value))
    assert pickle.loads(pickle.dumps(made)) == copy.copy(made) == value
    field = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, field, None)


def test_every_result_type_is_covered() -> None:
    public = {getattr(types, name) for name in types.__all__}
    dataclass_types = {cls for cls in public if isinstance(cls, type) and dataclasses.is_dataclass(cls)}
    assert dataclass_types == {type(value) for value in VALUES}


MUTATIONS: list[Callable[[FrozenDict], object]] = [
    lambda d: d.__setitem__("x", "1"),
    lambda d: d.__delitem__("a"),
    lambda d: d.update(x="1"),
    lambda d: d.pop("a"),
    lambda d: d.popitem(),
    lambda d: d.clear(),
    lambda d: d.setdefault("x", "1"),
    lambda d: d.__ior__({"x": "1"}),
]


@pytest.mark.parametrize("mutate", MUTATIONS)
def test_a_frozen_dict_refuses_every_change(mutate: Callable[[FrozenDict], object]) -> None:
    frozen = FrozenDict({"a": "1"})
    with pytest.raises(TypeError, match="immutable"):
        mutate(frozen)
    assert frozen == {"a": "1"}


def test_a_frozen_dict_reads_like_a_dict() -> None:
    frozen = FrozenDict({"a": "1", "b": "ü"})
    assert json.loads(json.dumps(frozen)) == {"a": "1", "b": "ü"}
    assert frozen == {"b": "ü", "a": "1"}
    assert hash(frozen) == hash(FrozenDict({"b": "ü", "a": "1"}))
    assert frozen | {"c": "2"} == {"a": "1", "b": "ü", "c": "2"}
    same = pickle.loads(pickle.dumps(frozen))
    assert type(same) is FrozenDict
    assert same == frozen
    assert dict(frozen).pop("a") == "1"


def test_empty_metadata_is_shared() -> None:
    assert ObjectInfo("a", 0, "e").metadata is ObjectInfo("b", 0, "e").checksums is EMPTY


def test_items_of_a_mixed_listing_have_a_key() -> None:
    assert [item.key for item in (ObjectInfo("a", 0, "e"), Prefix("b/"))] == ["a", "b/"]


def test_a_reference_unpacks_into_bucket_and_key() -> None:
    bucket, key = ObjectRef("b", "k", "v")
    assert (bucket, key) == ("b", "k")


def test_reports_add_up() -> None:
    assert LifecycleReport(1, 2, 3, 4) + LifecycleReport(10, 20, 30, 40) == LifecycleReport(11, 22, 33, 44)


def test_event_types_are_their_names() -> None:
    assert EventType("object.created") is EventType.CREATED
    assert f"{EventType.DELETED}" == "object.deleted"


def test_a_failed_deletion_is_picklable_with_its_error() -> None:
    result = DeleteResult("k", ObjectNotFoundError("no", bucket="b", key="k"))
    same = pickle.loads(pickle.dumps(result))
    assert str(same.error) == str(result.error)
