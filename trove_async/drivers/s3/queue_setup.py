"""Set up the notifications of a bucket: send its events to a queue."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from trove_async.drivers.s3.errors import sdk_error
from trove_async.errors import InvalidArgumentError, TroveError

__all__ = ["MISSING_QUEUE", "setup_queue"]

MISSING_QUEUE: Final = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})
"""The error codes for a queue that does not exist, in the two protocols of SQS."""

_EVENTS: Final = ("s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*")
_ATTRIBUTES: Final = {
    "MessageRetentionPeriod": str(14 * 24 * 3600),  # the maximum of SQS
    "ReceiveMessageWaitTimeSeconds": "20",
    "VisibilityTimeout": "60",
}
_DELAYS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Seconds between attempts until the queue's policy takes effect, which takes SQS up to a minute."""

_Sleep = Callable[[float], Awaitable[object]]


async def setup_queue(s3: Any, sqs: Any, bucket: str, queue: str, *, sleep: _Sleep = asyncio.sleep) -> str:
    """Send a bucket's events to a queue, and return the queue's URL; idempotent.

    The queue is created if it does not exist; it keeps messages for 14 days. A statement that allows S3 to send events
    of this bucket and account is added to its policy; other statements stay. A configuration for the queue is added
    to the bucket's notifications; other configurations stay, also EventBridge's. Nothing is ever removed, neither
    here nor when a watch ends: events without a consumer wait in the queue.

    Two callers that change the notifications of one bucket at the same time may undo each other's change, because S3
    replaces the whole configuration. Events arrive after S3 has applied the change, on Amazon within minutes.

    Args:
        s3, sqs: clients of aiobotocore, for the bucket's region and account.
        bucket: the bucket.
        queue: the queue's name, or its URL if it exists.
        sleep: waits for some seconds.

    Raises:
        BucketNotFoundError: the bucket does not exist; no queue was created.
        InvalidArgumentError: S3 refuses the configuration, for example because it overlaps with another one.
    """
    try:
        notifications = await s3.get_bucket_notification_configuration(Bucket=bucket)
        notifications.pop("ResponseMetadata", None)
        url = await _ensure_queue(sqs, queue)
        arn = await _allow(sqs, url, bucket)
        await _notify(s3, bucket, arn, notifications, sleep)
    except TroveError:
        raise
    except Exception as error:
        raise sdk_error(error, about="bucket") from error
    return url


async def _ensure_queue(sqs: Any, queue: str) -> str:
    if "://" in queue:
        return queue
    try:
        found = await sqs.get_queue_url(QueueName=queue)
    except sqs.exceptions.ClientError as error:
        if error.response["Error"].get("Code") not in MISSING_QUEUE:
            raise
        found = await sqs.create_queue(QueueName=queue, Attributes=_ATTRIBUTES)
    return str(found["QueueUrl"])


async def _allow(sqs: Any, url: str, bucket: str) -> str:
    """Allow S3 to send the bucket's events to the queue, and return the queue's ARN."""
    answer = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn", "Policy"])
    attributes = answer["Attributes"]
    arn = str(attributes["QueueArn"])
    _, partition, _, _, account, _ = arn.split(":", 5)
    statement = {
        "Sid": _id(bucket),
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        # With the account, since any account may recreate a deleted bucket.
        "Condition": {
            "ArnEquals": {"aws:SourceArn": f"arn:{partition}:s3:::{bucket}"},
            "StringEquals": {"aws:SourceAccount": account},
        },
    }
    policy = json.loads(attributes.get("Policy") or "{}")
    statements = policy.get("Statement", [])
    if isinstance(statements, dict):
        statements = [statements]
    if statement not in statements:
        policy = {"Version": "2012-10-17", **policy}
        policy["Statement"] = [*(kept for kept in statements if kept.get("Sid") != statement["Sid"]), statement]
        await sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    return arn


async def _notify(s3: Any, bucket: str, arn: str, notifications: dict[str, Any], sleep: _Sleep) -> None:
    """Add a configuration for the queue to the bucket's, unless it has one."""
    queues = notifications.get("QueueConfigurations", [])
    for found in queues:
        if found["QueueArn"] == arn and not found.get("Filter") and set(_EVENTS) <= set(found["Events"]):
            return
    ours = {"Id": _id(bucket), "QueueArn": arn, "Events": list(_EVENTS)}
    notifications["QueueConfigurations"] = [*(kept for kept in queues if kept.get("Id") != ours["Id"]), ours]
    for delay in (*_DELAYS, None):
        try:
            await s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=notifications)
        except s3.exceptions.ClientError as error:
            failure = sdk_error(error, about="bucket")
            if delay is None or not _is_early(failure):
                raise failure from error
            await sleep(delay)
        else:
            return


def _is_early(error: TroveError) -> bool:
    """Whether S3 could not send its test message to the queue."""
    return isinstance(error, InvalidArgumentError) and "destination configurations" in error.message


def _id(bucket: str) -> str:
    """Return the id of the statement and the configuration; policies allow only letters and digits."""
    return "troveEvents" + hashlib.sha256(bucket.encode()).hexdigest()[:16]
