from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

import trove_async
from trove_async.driver import (
    CAPABILITIES,
    BulkDeleteDriver,
    Features,
    MultipartDriver,
    NotificationDriver,
    ObjectAttributes,
    PutOptions,
    TaggingDriver,
    WatchOptions,
    capabilities_of,
    methods_of,
)
from trove_async.errors import BodySizeError, ObjectNotFoundError, RangeNotSatisfiableError
from trove_async.testing.mock import Call, MockDriver, UnexpectedCallError
from trove_async.types import EventType, ObjectEvent, ObjectInfo

pytestmark = pytest.mark.asyncio

INFO = ObjectInfo("k", 5, "e")


async def test_a_value_is_returned_and_an_error_raised_and_a_function_called() -> None:
    def size_of(bucket: str, key: str, options: object) -> ObjectInfo:
        return ObjectInfo(key, len(bucket), "e")

    async def later(bucket: str, key: str, options: object) -> ObjectInfo:
        return ObjectInfo(key, 7, "e")

    for answer, size in ((INFO, 5), (size_of, 1), (later, 7)):
        async with trove_async.open(MockDriver(head=answer)) as t:
            assert (await t.head("b", "k")).size == size
    for error in (ObjectNotFoundError("gone"), ObjectNotFoundError):
        async with trove_async.open(MockDriver(head=error)) as t:
            with pytest.raises(ObjectNotFoundError):
                await t.head("b", "k")


async def test_a_method_without_an_answer_raises_an_error_that_handlers_of_trove_errors_do_not_catch() -> None:
    async with trove_async.open(MockDriver()) as t:
        with pytest.raises(
            UnexpectedCallError, match=r"head\('b', 'k'\) has no answer; give one with MockDriver\(head=…\)"
        ) as caught:
            await t.exists("b", "k")
    assert isinstance(caught.value, AssertionError)
    assert not isinstance(caught.value, trove_async.TroveError)


async def test_calls_are_recorded_in_order_with_their_arguments() -> None:
    mock = MockDriver(put=INFO, delete=None)
    async with trove_async.open(mock) as t:
        await t.put("b", "k", [b"hel", b"lo"], content_type="text/plain")
        await t.delete("b", "k")
        with pytest.raises(UnexpectedCallError):
            await t.head("b", "k")
    assert [call.name for call in mock.calls] == ["put", "delete", "head", "close"]
    [put] = mock.calls_to("put")
    assert (put.arguments["bucket"], put.arguments["key"], put.body) == ("b", "k", b"hello")
    assert put.arguments["options"] == PutOptions(attributes=ObjectAttributes(content_type="text/plain"))
    assert mock.calls_to("copy") == []
    assert mock.calls[-1] == Call("close", {})


async def test_the_size_and_checksum_of_a_body_are_checked() -> None:
    async with trove_async.open(MockDriver(put=INFO)) as t:
        with pytest.raises(BodySizeError):
            await t.put("b", "k", [b"hello"], size=4)


async def test_bytes_are_served_as_an_object() -> None:
    mock = MockDriver(capabilities=[trove_async.RangeDriver], get=b"hello", get_range=b"hello")
    async with trove_async.open(mock) as t:
        for _ in range(2):
            async with t.get("b", "k") as reader:
                assert (reader.info.key, reader.info.size, await reader.read()) == ("k", 5, b"hello")
        assert await t.read("b", "k", (1, 2)) == b"el"
        assert await (await t.get_range("b", "k", 2)).read() == b"llo"
        with pytest.raises(RangeNotSatisfiableError):
            await t.read("b", "k", (5, 1))
    async with trove_async.open(MockDriver(get=b"")) as t:
        assert await t.read("b", "k") == b""


async def test_an_iterable_of_events_is_sent_and_a_generator_is_called() -> None:
    events = [ObjectEvent(EventType.CREATED, "b", key) for key in "ab"]

    async def generate(bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        options.on_ready()
        for event in events:
            yield event

    for answer in (events, generate):
        mock = MockDriver(watch=answer)
        async with trove_async.open(mock) as t, t.watch("b", prefix="p") as watching:
            assert [await anext(watching), await anext(watching)] == events
        assert mock.calls_to("watch")[0].arguments["options"].prefix == "p"


async def test_it_has_no_capability_that_was_not_requested() -> None:
    assert capabilities_of(MockDriver()) == set()
    assert not isinstance(MockDriver(), TaggingDriver)


@pytest.mark.parametrize("capability", CAPABILITIES)
async def test_a_capability_is_present_if_it_is_named_or_has_all_its_answers(capability: type) -> None:
    answers: dict[str, Any] = dict.fromkeys(methods_of(capability))
    for mock in (MockDriver(capabilities=[capability]), MockDriver(**answers)):
        assert isinstance(mock, capability)
        assert isinstance(mock, MockDriver)
        assert capability in capabilities_of(mock) == mock.features.protocols


async def test_a_capability_with_some_answers_must_be_named() -> None:
    with pytest.raises(TypeError, match="get_tags"):
        MockDriver(get_tags={})
    mock = MockDriver(capabilities=[TaggingDriver], get_tags={"a": "1"})
    async with trove_async.open(mock) as t:
        assert await t.get_tags("b", "k") == {"a": "1"}
        with pytest.raises(UnexpectedCallError):
            await t.delete_tags("b", "k")


async def test_keyword_arguments_and_defaults_are_recorded_by_name() -> None:
    mock = MockDriver(capabilities=[MultipartDriver, BulkDeleteDriver], list_multipart_uploads=[], delete_many=[])
    assert isinstance(mock, MultipartDriver)
    assert isinstance(mock, BulkDeleteDriver)
    await mock.list_multipart_uploads("b")
    await mock.delete_many(keys=["k"], bucket="b")
    assert [dict(call.arguments) for call in mock.calls] == [
        {"bucket": "b", "prefix": ""},
        {"bucket": "b", "keys": ["k"]},
    ]


@pytest.mark.parametrize("unknown", ["get_object", "list", "name_", "answers"])
async def test_an_answer_for_an_unknown_method_is_refused(unknown: str) -> None:
    answers: dict[str, Any] = {unknown: None}
    with pytest.raises(TypeError, match=unknown):
        MockDriver(**answers)


async def test_it_declares_all_conditions_by_default() -> None:
    async with trove_async.open(MockDriver(put=INFO)) as t:
        await t.put("b", "k", b"", if_none_match="*")
    async with trove_async.open(MockDriver(put=INFO, features=Features())) as t:
        with pytest.raises(trove_async.UnsupportedError):
            await t.put("b", "k", b"", if_none_match="*")


async def test_name_and_default_bucket() -> None:
    mock = MockDriver(name="cloud", default_bucket="b", head=ObjectNotFoundError())
    async with trove_async.open(mock) as t:
        with pytest.raises(ObjectNotFoundError, match="driver cloud"):
            await t.bucket().head("k")


async def test_name_checks_can_be_answered_and_are_not_recorded() -> None:
    mock = MockDriver(check_key=trove_async.InvalidKeyError("no colons"), head=INFO)
    async with trove_async.open(mock) as t:
        with pytest.raises(trove_async.InvalidKeyError, match="no colons"):
            await t.head("b", "a:b")
        assert mock.calls == []


async def test_a_subclass_can_define_methods() -> None:
    class Counting(MockDriver):
        async def ping(self) -> None:
            self.pings = getattr(self, "pings", 0) + 1

    mock = Counting(capabilities=[NotificationDriver])
    async with trove_async.open(mock) as t:
        await t.ping()
    assert mock.pings == 1
    assert isinstance(mock, NotificationDriver)
