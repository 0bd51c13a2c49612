"""The spans and metrics of OpenTelemetry, seen by its SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

import trove_async
from tests.unit.doubles import ScriptedStream, info_of
from tests.unit.telemetry import FullDriver, Race, Telemetry, TwiceMore, attributes, in_turn, named
from trove_async import CircuitBreaker, InvalidArgumentError, ObjectNotFoundError, OpenTelemetry, UnavailableError
from trove_async.driver import Driver, HeadOptions, WatchOptions
from trove_async.driver.events import OBSERVER
from trove_async.driver.retry import Attempts, Backoff, RetryPolicy
from trove_async.layers.labels import BUCKETS
from trove_async.reader import ObjectReader
from trove_async.testing.mock import MockDriver
from trove_async.types import EventType, ObjectEvent, ObjectInfo

pytestmark = pytest.mark.asyncio

DATA = bytes(1000)
INFO = ObjectInfo("k", 1, "e")
NO_SPAN = trace.INVALID_SPAN


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


def streaming(*script: int | BaseException | asyncio.Event) -> MockDriver:
    return MockDriver(get=lambda *_: ObjectReader(info_of(DATA), ScriptedStream(DATA, list(script))))


async def test_an_operation_is_one_span(telemetry: Telemetry) -> None:
    async with trove_async.open(MockDriver(put=INFO), layers=[telemetry.layer()]) as t:
        await t.put("b", "a/k", b"hello")
    [span] = telemetry.spans
    assert (span.name, span.kind, span.status.status_code) == ("put", SpanKind.CLIENT, StatusCode.UNSET)
    assert attributes(span) == {
        "trove.driver": "mock",
        "trove.operation.name": "put",
        "trove.bucket": "b",
        "trove.key": "a/k",
        "trove.bytes": 5,
    }
    scope = span.instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.version) == ("trove_async", trove_async.__version__)
    assert scope.schema_url is not None
    assert scope.schema_url.startswith("https://opentelemetry.io/schemas/")


async def test_an_error_is_on_its_span_with_its_class_and_what_the_service_said(telemetry: Telemetry) -> None:
    error = UnavailableError("slow down", status=503, request_id="r1")
    async with trove_async.open(MockDriver(head=error), layers=[telemetry.layer()]) as t:
        with pytest.raises(UnavailableError) as raised:
            await t.head("b", "k")
    assert raised.value is error
    [span] = telemetry.spans
    assert span.status.status_code is StatusCode.ERROR
    assert "slow down" in (span.status.description or "")
    seen = attributes(span)
    assert seen["error.type"] == "UnavailableError"
    assert (seen["http.response.status_code"], seen["trove.request_id"]) == (503, "r1")


async def test_the_message_of_a_foreign_error_is_not_on_the_span(telemetry: Telemetry) -> None:
    async with trove_async.open(MockDriver(head=OSError("password=x")), layers=[telemetry.layer()]) as t:
        with pytest.raises(OSError, match="password"):
            await t.head("b", "k")
    [span] = telemetry.spans
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert attributes(span)["error.type"] == "OSError"
    assert not span.events


async def test_a_cancelled_operation_is_no_error(telemetry: Telemetry) -> None:
    began = asyncio.Event()

    async def hang(*_: object) -> ObjectInfo:
        began.set()
        await asyncio.Event().wait()
        return INFO

    async with trove_async.open(MockDriver(head=hang), layers=[telemetry.layer()]) as t:
        task = asyncio.create_task(t.head("b", "k"))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    [span] = telemetry.spans
    assert span.status.status_code is StatusCode.UNSET
    assert attributes(span)["trove.outcome"] == "cancelled"
    assert "error.type" not in attributes(span)
    [(labels, count)] = telemetry.points()["trove.client.operation.duration"]
    assert (labels["trove.outcome"], count) == ("cancelled", 1)


async def test_the_span_of_a_get_ends_when_its_reader_is_closed(telemetry: Telemetry) -> None:
    async with trove_async.open(streaming(), layers=[telemetry.layer()]) as t:
        async with t.get("b", "k") as reader:
            await reader.read(300)
            assert telemetry.spans == []
            assert dict(telemetry.points()["trove.client.active_operations"][0][0])["trove.operation.name"] == "get"
            assert telemetry.points()["trove.client.active_operations"][0][1] == 1
        [span] = telemetry.spans
    seen = attributes(span)
    assert seen["trove.bytes"] == 300
    assert isinstance(seen["trove.time_to_first_byte"], float)
    points = telemetry.points()
    assert points["trove.client.active_operations"][0][1] == 0
    assert points["trove.client.operation.time_to_first_byte"][0][1] == 1
    [(labels, count)] = points["trove.client.io"]
    assert (labels["network.io.direction"], count) == ("receive", 300)


async def test_the_span_is_current_while_the_driver_works_and_only_then(telemetry: Telemetry) -> None:
    inside: list[trace.Span] = []

    class Stream(ScriptedStream):
        async def read(self, size: int) -> bytes:
            inside.append(trace.get_current_span())
            return await super().read(size)

        async def aclose(self) -> None:
            inside.append(trace.get_current_span())
            await super().aclose()

    def get(*_: object) -> ObjectReader:
        inside.append(trace.get_current_span())
        return ObjectReader(info_of(DATA), Stream(DATA, [100]))

    async with trove_async.open(MockDriver(get=get), layers=[telemetry.layer()]) as t:
        async with t.get("b", "k") as reader:
            assert trace.get_current_span() is NO_SPAN
            async for _ in reader:
                assert trace.get_current_span() is NO_SPAN
        assert trace.get_current_span() is NO_SPAN
        assert OBSERVER.get() is None
    [span] = telemetry.spans
    assert len(inside) == 4
    assert {current.get_span_context().span_id for current in inside} == {span.context.span_id}


async def test_a_span_of_the_caller_is_the_parent_and_stays_current(telemetry: Telemetry) -> None:
    async with trove_async.open(MockDriver(head=INFO), layers=[telemetry.layer()]) as t:
        with telemetry.tracers.get_tracer("test").start_as_current_span("request") as outer:
            await t.head("b", "k")
            assert trace.get_current_span() is outer
    span = named(telemetry.spans, "head")
    assert span.parent is not None
    assert span.parent.span_id == outer.get_span_context().span_id


async def test_the_code_that_produces_a_body_runs_in_the_context_of_the_caller(telemetry: Telemetry) -> None:
    seen: list[object] = []

    async def source() -> AsyncIterator[bytes]:
        for chunk in (b"abc", b"de"):
            seen.extend((trace.get_current_span(), OBSERVER.get()))
            yield chunk

    async with trove_async.open(MockDriver(put=INFO), layers=[telemetry.layer()]) as t:
        await t.put("b", "k", source())
    assert seen == [NO_SPAN, None] * 2
    assert attributes(telemetry.spans[0])["trove.bytes"] == 5


async def test_every_attempt_of_a_retry_is_a_child_with_its_number(telemetry: Telemetry) -> None:
    answer = in_turn(UnavailableError("first"), UnavailableError("second"), INFO)
    current: list[int] = []

    def head(*_: object) -> ObjectInfo:
        current.append(trace.get_current_span().get_span_context().span_id)
        return answer()

    async with trove_async.open(MockDriver(head=head), layers=[TwiceMore, telemetry.layer()]) as t:
        await t.head("b", "k")
    operation = named(telemetry.spans, "head")
    attempts = [span for span in telemetry.spans if span.name == "head attempt"]
    assert [attributes(span)["trove.attempt.number"] for span in attempts] == [1, 2, 3]
    assert [attributes(span)["trove.attempt.kind"] for span in attempts] == ["first", "retry", "retry"]
    assert [attributes(span).get("error.type") for span in attempts] == ["UnavailableError"] * 2 + [None]
    assert [span.parent.span_id for span in attempts if span.parent] == [operation.context.span_id] * 3
    assert attributes(operation)["trove.attempts"] == 3
    assert operation.status.status_code is StatusCode.UNSET
    assert current == [operation.context.span_id, attempts[1].context.span_id, attempts[2].context.span_id]
    [(labels, count)] = telemetry.points()["trove.client.retries"]
    assert (labels["trove.retry.kind"], count) == ("retry", 2)


async def test_a_single_attempt_is_the_operation_itself(telemetry: Telemetry) -> None:
    async with trove_async.open(MockDriver(head=INFO), layers=[TwiceMore, telemetry.layer()]) as t:
        await t.head("b", "k")
    assert [span.name for span in telemetry.spans] == ["head"]


async def test_the_loser_of_a_hedge_is_linked_to_the_winner(telemetry: Telemetry) -> None:
    async with trove_async.open(MockDriver(head=INFO), layers=[Race, telemetry.layer()]) as t:
        await t.head("b", "k")
    loser, winner = (span for span in telemetry.spans if span.name == "head attempt")
    assert [attributes(span)["trove.attempt.kind"] for span in (loser, winner)] == ["first", "hedge"]
    assert attributes(loser)["trove.attempt.lost"] is True
    assert attributes(loser)["trove.outcome"] == "cancelled"
    assert [link.context.span_id for link in loser.links] == [winner.context.span_id]
    [(labels, count)] = telemetry.points()["trove.client.retries"]
    assert (labels["trove.retry.kind"], count) == ("hedge", 1)


async def test_a_hedge_within_the_first_try_of_a_retry_is_its_child(telemetry: Telemetry) -> None:
    head = in_turn(UnavailableError("first"), INFO)
    async with trove_async.open(MockDriver(head=head), layers=[Race, TwiceMore, telemetry.layer()]) as t:
        await t.head("b", "k")
    operation = named(telemetry.spans, "head")
    tries = [span for span in telemetry.spans if span.parent and span.parent.span_id == operation.context.span_id]
    assert [attributes(span)["trove.attempt.kind"] for span in tries] == ["first", "retry"]
    for attempt in tries:
        inside = [span for span in telemetry.spans if span.parent and span.parent.span_id == attempt.context.span_id]
        assert [attributes(span)["trove.attempt.kind"] for span in inside] == ["first", "hedge"]


async def test_a_request_that_the_driver_sends_again_is_an_event_of_the_span(telemetry: Telemetry) -> None:
    async def head(*_: object) -> ObjectInfo:
        await Attempts(RetryPolicy(attempts=3, transport=Backoff(first=0.0, longest=0.0))).failed(
            UnavailableError("busy")
        )
        return INFO

    async with trove_async.open(MockDriver(head=head), layers=[telemetry.layer()]) as t:
        await t.head("b", "k")
    [span] = telemetry.spans
    [event] = span.events
    assert event.name == "trove.request_retried"
    assert dict(event.attributes or {}) == {
        "trove.request_retried.number": 1,
        "trove.request_retried.delay": 0.0,
        "error.type": "UnavailableError",
    }
    assert attributes(span)["trove.requests.resent"] == 1


async def test_the_span_of_a_watch_is_its_subscription(telemetry: Telemetry) -> None:
    mock = MockDriver(watch=[ObjectEvent(EventType.CREATED, "b", "k")])
    async with trove_async.open(mock, layers=[telemetry.layer()]) as t:
        async with t.watch("b") as events:
            assert [span.name for span in telemetry.spans] == ["watch"]
            await anext(events)
            assert trace.get_current_span() is NO_SPAN
            points = telemetry.points()
            assert points["trove.client.watch.events"][0][1] == 1
            assert points["trove.client.active_operations"][0][1] == 1
        points = telemetry.points()
    assert [span.name for span in telemetry.spans] == ["watch"]
    assert points["trove.client.operation.duration"][0][1] == 1
    assert points["trove.client.watch.duration"][0][1] == 1
    assert points["trove.client.active_operations"][0][1] == 0


async def test_a_watch_that_breaks_is_a_span_linked_to_its_subscription(telemetry: Telemetry) -> None:
    async def breaking(bucket: str, options: WatchOptions) -> AsyncIterator[ObjectEvent]:
        options.on_ready()
        yield ObjectEvent(EventType.CREATED, "b", "k")
        raise UnavailableError("gone")

    mock = MockDriver(watch=breaking)
    async with trove_async.open(mock, layers=[telemetry.layer()]) as t, t.watch("b") as events:
        await anext(events)
        with pytest.raises(UnavailableError):
            await anext(events)
    subscription, end = telemetry.spans
    assert attributes(end)["error.type"] == "UnavailableError"
    assert [link.context.span_id for link in end.links] == [subscription.context.span_id]
    [(labels, _)] = telemetry.points()["trove.client.watch.duration"]
    assert labels["error.type"] == "UnavailableError"


@pytest.mark.parametrize("keys", [10_000, pytest.param(1_000_000, marks=pytest.mark.long)])
async def test_keys_make_no_new_series(telemetry: Telemetry, keys: int) -> None:
    layer = OpenTelemetry(None, telemetry.meters)  # a million spans would fill the memory
    driver, options = layer(FullDriver()), HeadOptions()

    async def run(first: int, last: int) -> int:
        for number in range(first, last):
            await driver.head(f"tenant-{number}", f"path/{number}", options)
        return sum(len(points) for points in telemetry.points().values())

    assert await run(0, 1) == await run(1, keys)
    assert telemetry.points()["trove.client.operation.duration"][0][1] == keys


async def test_the_bucket_is_a_label_only_if_it_is_wanted(telemetry: Telemetry) -> None:
    async with trove_async.open(MockDriver(head=INFO), layers=[telemetry.layer(bucket_label=True)]) as t:
        for number in range(BUCKETS + 10):
            await t.head(f"b{number}", "k")
    points = telemetry.points()["trove.client.operation.duration"]
    assert len(points) == BUCKETS + 1
    assert {labels["trove.bucket"]: count for labels, count in points}["_OTHER"] == 10
    assert telemetry.spans[0].name == "head b0"
    assert telemetry.spans[-1].name == "head _OTHER"
    assert attributes(telemetry.spans[-1])["trove.bucket"] == f"b{BUCKETS + 9}"


async def test_stores_with_one_provider_share_their_metrics(
    telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        async with trove_async.open(MockDriver(head=INFO), layers=[telemetry.layer()]) as t:
            await t.head("b", "k")
    assert telemetry.points()["trove.client.operation.duration"][0][1] == 2
    assert telemetry.points()["trove.client.active_operations"][0][1] == 0
    assert caplog.records == []  # the SDK would warn of a metric that is made twice


async def test_an_exemplar_of_a_duration_names_its_span(telemetry: Telemetry) -> None:
    async with trove_async.open(MockDriver(head=INFO), layers=[telemetry.layer()]) as t:
        await t.head("b", "k")
    [span] = telemetry.spans
    assert telemetry.exemplars("trove.client.operation.duration") == [span.context.span_id]


async def test_errors_are_counted_by_their_class(telemetry: Telemetry) -> None:
    async with trove_async.open(MockDriver(head=ObjectNotFoundError("no")), layers=[telemetry.layer()]) as t:
        for _ in range(3):
            with pytest.raises(ObjectNotFoundError):
                await t.head("b", "k")
    [(labels, count)] = telemetry.points()["trove.client.operation.duration"]
    assert count == 3
    assert labels == {
        "trove.driver": "mock",
        "trove.operation.name": "head",
        "trove.outcome": "error",
        "error.type": "ObjectNotFoundError",
    }


async def test_a_circuit_shows_its_state_and_its_transitions(telemetry: Telemetry) -> None:
    breaker = CircuitBreaker("assets", threshold=1)
    layers: list[Callable[[Driver], Driver]] = [breaker, telemetry.layer()]
    mock = MockDriver(head=UnavailableError("down"))
    async with trove_async.open(mock, layers=layers) as t, trove_async.open(MockDriver(), layers=layers):
        with pytest.raises(UnavailableError):
            await t.head("b", "k")
        breaker.isolate()
    [event] = telemetry.spans[0].events
    assert event.name == "trove.circuit"
    assert dict(event.attributes or {}) == {
        "trove.circuit.name": "assets",
        "trove.circuit.before": "closed",
        "trove.circuit.after": "open",
        "error.type": "UnavailableError",
    }
    states = {labels["trove.circuit.state"]: value for labels, value in telemetry.points()["trove.circuit.state"]}
    assert states == {"closed": 0, "open": 0, "half_open": 0, "isolated": 1}
    turned = {labels["trove.circuit.state"]: value for labels, value in telemetry.points()["trove.circuit.transitions"]}
    assert turned == {"open": 1, "isolated": 1}


async def test_a_signed_url_appears_nowhere(telemetry: Telemetry, caplog: pytest.LogCaptureFixture) -> None:
    layers: list[Callable[[Driver], Driver]] = [trove_async.log_operations(level=40), telemetry.layer()]
    async with trove_async.open("memory://?presign_url=https://example.com", layers=layers) as t:
        await t.create_bucket("b")
        url = await t.presign_get("b", "k")
    secret = url.rpartition("=")[2]
    [span] = [span for span in telemetry.spans if "presign" in span.name]
    assert secret not in span.to_json()
    assert all(secret not in repr(record.__dict__) for record in caplog.records)


async def test_without_an_sdk_nothing_is_made() -> None:
    seen: list[trace.Span] = []

    def head(*_: object) -> ObjectInfo:
        seen.append(trace.get_current_span())
        return INFO

    async with trove_async.open(MockDriver(head=head), layers=[OpenTelemetry()]) as t:
        assert await t.head("b", "k") == INFO
    assert seen == [NO_SPAN]


async def test_spans_inside_one_that_is_not_sampled_learn_so() -> None:
    tracers = TracerProvider(sampler=ALWAYS_OFF)
    seen: list[trace.Span] = []

    def head(*_: object) -> ObjectInfo:
        seen.append(trace.get_current_span())
        return INFO

    async with trove_async.open(MockDriver(head=head), layers=[OpenTelemetry(tracers, metrics=False)]) as t:
        await t.head("b", "k")
    context = seen[0].get_span_context()
    assert context.is_valid
    assert not context.trace_flags.sampled


@pytest.mark.parametrize("broken", ["on_start", "on_end"])
async def test_what_a_span_processor_raises_changes_nothing(
    telemetry: Telemetry, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(SpanProcessor):
        def on_start(self, span: Span, parent_context: object = None) -> None:
            if broken == "on_start":
                raise ZeroDivisionError

        def on_end(self, span: ReadableSpan) -> None:
            if broken == "on_end":
                raise ZeroDivisionError

    telemetry.tracers.add_span_processor(Broken())
    head = in_turn(UnavailableError("first"), INFO)
    async with trove_async.open(MockDriver(head=head), layers=[TwiceMore, telemetry.layer()]) as t:
        assert await t.head("b", "k") == INFO
    assert telemetry.points()["trove.client.active_operations"][0][1] == 0
    assert {record.name for record in caplog.records} == {"trove_async.operations"}


@pytest.mark.parametrize(
    "wrong", [{"traces": False, "metrics": False}, {"tracer_provider": TracerProvider(), "traces": False}]
)
async def test_contradictions_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidArgumentError):
        OpenTelemetry(**wrong)  # type: ignore[arg-type]
