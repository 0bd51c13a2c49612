"""What OpenTelemetry sees of operations on a real service."""

from __future__ import annotations

import pytest
from opentelemetry import trace

from tests.s3.stores import PART, ServerName, opened, pattern
from tests.unit.telemetry import Telemetry, attributes, named
from trove_async.testing.answers import AnsweringProxy, s3_error

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]


async def test_requests_that_are_sent_again_and_bodies_that_stream_are_seen(
    server: ServerName, bucket: str, service: AnsweringProxy
) -> None:
    telemetry = Telemetry()
    data = pattern(3 * PART)
    async with opened(server, service.url(), layers=[telemetry.layer()]) as t:
        await t.put(bucket, "large", data)
        service.answer(s3_error(503, "SlowDown"), method="GET", times=1)
        async with t.get(bucket, "large") as reader:
            assert b"".join([chunk async for chunk in reader]) == data
            assert trace.get_current_span() is trace.INVALID_SPAN
    assert telemetry.points()["trove.client.active_operations"][0][1] == 0
    put, get = (attributes(named(telemetry.spans, name)) for name in ("put", "get"))
    assert (put["trove.bytes"], get["trove.bytes"]) == (len(data), len(data))
    assert isinstance(get["trove.time_to_first_byte"], float)
    assert get["trove.requests.resent"] == 1
    [event] = named(telemetry.spans, "get").events
    assert dict(event.attributes or {})["error.type"] == "ThrottledError"
