from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.s3.queues import record
from trove_async.driver.queues import LastChanges
from trove_async.drivers.s3.notifications import S3Notification, read_notifications
from trove_async.types import EventType

CREATED, UPDATED, DELETED = EventType.CREATED, EventType.UPDATED, EventType.DELETED


def of_s3(key: str = "k", change: str = "ObjectCreated:Put", **more: Any) -> str:
    return json.dumps({"Records": [record("b", key, change, **more)]})


def of_bridge(key: str = "k", kind: str = "Object Created", deletion: str | None = None, **more: Any) -> str:
    detail = {"bucket": {"name": "b"}, "object": {"key": key, **more}}
    if deletion is not None:
        detail["deletion-type"] = deletion  # type: ignore[assignment]
    message = {"source": "aws.s3", "detail-type": kind, "time": "2026-01-02T03:04:05Z", "detail": detail}
    return json.dumps(message)


def in_topic(body: str) -> str:
    return json.dumps({"Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:r:1:t", "Message": body})


def only(body: str) -> S3Notification:
    (notification,) = read_notifications(body)
    return notification


def test_messages_of_s3() -> None:
    notification = only(of_s3("k", size=3, eTag="abc", versionId="v1", sequencer="0055aed6dcd90281e500"))
    assert notification == S3Notification(
        "b", "k", CREATED, 3, "abc", "v1", datetime(2026, 1, 2, 3, 4, 5, 678000, UTC), "0055AED6DCD90281E5"
    )
    event = notification.event(UPDATED)
    assert (event.type, event.bucket, event.key) == (UPDATED, "b", "k")
    assert (event.size, event.etag, event.version_id, event.time) == (3, "abc", "v1", notification.time)


def test_messages_of_eventbridge() -> None:
    more: Any = {"size": 3, "etag": "abc", "version-id": "v1", "sequencer": "617f08299329d189"}
    notification = only(of_bridge("k", **more))
    assert notification == S3Notification(
        "b", "k", CREATED, 3, "abc", "v1", datetime(2026, 1, 2, 3, 4, 5, 0, UTC), "617F08299329D189"
    )


@pytest.mark.parametrize("body", [of_s3("k"), of_bridge("k")])
def test_a_message_may_be_wrapped_by_a_topic(body: str) -> None:
    assert read_notifications(in_topic(body)) == read_notifications(body)


def test_encoded_keys_are_decoded() -> None:
    encoded = "a+b%2F%C3%BC%2B%252F/%F0%9F%98%80.txt"
    assert only(of_s3(encoded)).key == "a b/ü+%2F/😀.txt"
    assert only(of_bridge(encoded)).key == encoded


@pytest.mark.parametrize(
    ("body", "change"),
    [
        (of_s3(change="ObjectCreated:Copy"), CREATED),
        (of_s3(change="s3:ObjectCreated:CompleteMultipartUpload"), CREATED),
        (of_s3(change="ObjectRemoved:Delete"), DELETED),
        (of_s3(change="ObjectRemoved:Delete", versionId=""), DELETED),
        (of_s3(change="ObjectRemoved:Delete", versionId="v1"), None),
        (of_s3(change="ObjectRemoved:DeleteMarkerCreated", versionId="v1"), DELETED),
        (of_s3(change="LifecycleExpiration:Delete"), DELETED),
        (of_s3(change="LifecycleExpiration:Delete", versionId="v1"), None),
        (of_s3(change="LifecycleExpiration:DeleteMarkerCreated", versionId="v1"), DELETED),
        (of_s3(change="ObjectTagging:Put"), None),
        (of_s3(change="ObjectRestore:Completed"), None),
        (of_bridge(kind="Object Deleted", deletion="Permanently Deleted"), DELETED),
        (of_bridge(kind="Object Deleted", deletion="Permanently Deleted", **{"version-id": "v1"}), None),
        (of_bridge(kind="Object Deleted", deletion="Delete Marker Created", **{"version-id": "v1"}), DELETED),
        (of_bridge(kind="Object Tags Added"), None),
    ],
)
def test_the_meaning_of_each_kind(body: str, change: EventType | None) -> None:
    assert only(body).change is change


def test_after_a_deletion_there_is_no_description() -> None:
    event = only(of_s3(change="ObjectRemoved:Delete", size=3, eTag="abc")).event(DELETED)
    assert (event.size, event.etag, event.version_id) == (None, None, None)


def test_the_test_message_has_no_notifications() -> None:
    assert read_notifications(json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"})) == []


@pytest.mark.parametrize(
    "body",
    [
        "",
        "nonsense",
        "[]",
        "1",
        "{}",
        '{"Records": 1}',
        '{"Records": [{}]}',
        '{"Records": [{"eventName": 1}]}',
        '{"source": "aws.s3"}',
        '{"source": "aws.ec2", "detail-type": "Object Created"}',
        '{"Type": "Notification"}',
        '{"Type": "Notification", "Message": "nonsense"}',
        of_s3(""),
        of_s3("%FF"),
        of_s3().replace("2026-01-02T03:04:05.678Z", "yesterday"),
        of_s3().replace("05.678Z", "05.678"),
        of_bridge().replace('"k"', "null"),
        "[" * 100_000,
    ],
)
def test_an_unreadable_message_is_refused(body: str) -> None:
    with pytest.raises(ValueError, match="not a notification of S3"):
        read_notifications(body)


class Story:
    """Sends the changes of a key to one watch, and returns the resulting events."""

    def __init__(self, capacity: int = 10) -> None:
        self.seen = LastChanges(capacity)

    def put(self, etag: str, sequencer: str | None = None, key: str = "k") -> EventType | None:
        more = {} if sequencer is None else {"sequencer": sequencer}
        return self.seen.classify(only(of_s3(key, eTag=etag, **more)))

    def delete(self, sequencer: str | None = None) -> EventType | None:
        more = {} if sequencer is None else {"sequencer": sequencer}
        return self.seen.classify(only(of_s3("k", "ObjectRemoved:Delete", **more)))


def test_repeated_and_late_notifications_are_no_events() -> None:
    story = Story()
    assert story.put("1", "0055A1") is CREATED
    assert story.put("1", "0055A1") is None
    assert story.put("1", "0055A100") is None, "the shorter one is padded on its right"
    assert story.put("3", "0055B") is UPDATED
    assert story.put("2", "0055A2FFFF") is None
    assert story.put("3", "0055b00000000001") is UPDATED, "the same bytes again, later"
    assert story.delete("0055C") is DELETED
    assert story.put("3", "0055B") is None
    assert story.delete("0055C") is None
    assert story.put("3", "0055D") is CREATED


def test_without_sequencers_identical_notifications_are_no_events() -> None:
    story = Story()
    assert story.put("1") is CREATED
    assert story.put("1") is None
    assert story.put("2") is UPDATED
    assert story.put("1") is UPDATED
    assert story.delete() is DELETED
    assert story.delete() is None
    assert story.put("1") is CREATED


def test_a_change_without_a_sequencer_keeps_the_known_order() -> None:
    story = Story()
    assert story.put("1", "A") is CREATED
    assert story.delete() is DELETED
    assert story.put("1", "A") is None, "it came before the deletion"
    assert story.put("1", "B") is CREATED


def test_the_number_of_remembered_keys_is_bounded_and_the_oldest_is_forgotten() -> None:
    story = Story(capacity=2)
    story.put("1", key="a")
    story.put("1", key="b")
    assert story.put("2", key="a") is UPDATED
    story.put("1", key="c")
    assert story.put("3", key="a") is UPDATED
    assert story.put("2", key="b") is CREATED


def test_an_event_that_does_not_change_the_object_changes_nothing() -> None:
    story = Story()
    story.put("1")
    assert story.seen.classify(only(of_s3("k", "ObjectRemoved:Delete", versionId="old"))) is None
    assert story.put("2") is UPDATED
