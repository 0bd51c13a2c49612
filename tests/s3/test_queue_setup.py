"""Setting up a queue, with moto's S3 and SQS."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from botocore.exceptions import ClientError

from tests.s3.queues import QueuedBucket, client, name, queued_bucket
from trove_async.drivers.s3.queue_setup import setup_queue
from trove_async.errors import AccessDeniedError, BucketNotFoundError, InvalidArgumentError
from trove_async.types import EventType

pytestmark = pytest.mark.asyncio

EVENTS = {"s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*"}


@pytest_asyncio.fixture
async def queued() -> AsyncIterator[QueuedBucket]:
    """Yield a bucket and a queue that are not connected yet."""
    async with AsyncExitStack() as stack:
        s3, sqs = [await stack.enter_async_context(client(service)) for service in ("s3", "sqs")]
        found = QueuedBucket(s3, sqs)
        await s3.create_bucket(Bucket=found.bucket)
        yield found
        await s3.delete_bucket(Bucket=found.bucket)
        for url in (await sqs.list_queues(QueueNamePrefix=found.queue)).get("QueueUrls", ()):
            await sqs.delete_queue(QueueUrl=url)


async def notifications(queued: QueuedBucket) -> dict[str, Any]:
    answer = await queued.s3.get_bucket_notification_configuration(Bucket=queued.bucket)
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


async def attributes(queued: QueuedBucket, url: str) -> dict[str, str]:
    answer = await queued.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    found: dict[str, str] = answer["Attributes"]
    return found


class Refusing:
    """A client of S3 that refuses notifications, as S3 does before it has seen the queue's policy.

    Attributes:
        times: the number of refusals to come.
        more: configurations of the bucket of kinds that moto does not store.
        sent: the configuration that it was asked to store.
    """

    def __init__(self, inner: Any, times: int, code: str = "InvalidArgument", **more: Any) -> None:
        self.exceptions = inner.exceptions
        self.times = times
        self.more = more
        self.sent: dict[str, Any] = {}
        self._inner = inner
        self._code = code

    async def get_bucket_notification_configuration(self, **parameters: Any) -> Any:
        return {**await self._inner.get_bucket_notification_configuration(**parameters), **self.more}

    async def put_bucket_notification_configuration(self, **parameters: Any) -> Any:
        self.sent = parameters["NotificationConfiguration"]
        if self.times:
            self.times -= 1
            text = "Unable to validate the following destination configurations"
            answer = {"Error": {"Code": self._code, "Message": text}, "ResponseMetadata": {"HTTPStatusCode": 400}}
            raise ClientError(answer, "PutBucketNotificationConfiguration")
        return await self._inner.put_bucket_notification_configuration(**parameters)


async def test_a_queue_is_created_with_permission_for_s3(queued: QueuedBucket) -> None:
    url = await setup_queue(queued.s3, queued.sqs, queued.bucket, queued.queue)
    found = await attributes(queued, url)
    assert found["VisibilityTimeout"] == "60"
    assert found["MessageRetentionPeriod"] == str(14 * 24 * 3600)
    (statement,) = json.loads(found["Policy"])["Statement"]
    assert statement["Principal"] == {"Service": "s3.amazonaws.com"}
    assert statement["Action"] == "sqs:SendMessage"
    assert statement["Resource"] == found["QueueArn"]
    assert statement["Condition"]["ArnEquals"] == {"aws:SourceArn": f"arn:aws:s3:::{queued.bucket}"}
    assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": found["QueueArn"].split(":")[4]}
    (configuration,) = (await notifications(queued))["QueueConfigurations"]
    assert configuration["QueueArn"] == found["QueueArn"]
    assert set(configuration["Events"]) == EVENTS


async def test_an_existing_set_up_is_not_changed(queued: QueuedBucket) -> None:
    url = await setup_queue(queued.s3, queued.sqs, queued.bucket, queued.queue)
    before = await notifications(queued), (await attributes(queued, url))["Policy"]
    refusing = Refusing(queued.s3, times=1)
    assert await setup_queue(refusing, queued.sqs, queued.bucket, queued.queue) == url
    assert await setup_queue(refusing, queued.sqs, queued.bucket, url) == url
    assert refusing.times == 1, "nothing was sent"
    assert (await notifications(queued), (await attributes(queued, url))["Policy"]) == before


async def test_configurations_of_others_stay(queued: QueuedBucket) -> None:
    created = await queued.sqs.create_queue(QueueName=queued.queue, Attributes={"VisibilityTimeout": "7"})
    url = created["QueueUrl"]
    arn = (await attributes(queued, url))["QueueArn"]
    theirs = {"Sid": "theirs", "Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": arn}
    policy = {"Version": "2012-10-17", "Id": "mine", "Statement": theirs}
    await queued.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    other = await queued.sqs.create_queue(QueueName=f"{queued.queue}-other")
    kept = {
        "Id": "kept",
        "QueueArn": (await attributes(queued, other["QueueUrl"]))["QueueArn"],
        "Events": ["s3:ObjectTagging:*"],
        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "a/"}]}},
    }
    await queued.s3.put_bucket_notification_configuration(
        Bucket=queued.bucket, NotificationConfiguration={"QueueConfigurations": [kept]}
    )
    before = await notifications(queued)
    assert await setup_queue(queued.s3, queued.sqs, queued.bucket, queued.queue) == url
    after = await notifications(queued)
    assert before["QueueConfigurations"] == after["QueueConfigurations"][:1]
    assert len(after["QueueConfigurations"]) == 2
    found = await attributes(queued, url)
    assert found["VisibilityTimeout"] == "7"
    changed = json.loads(found["Policy"])
    assert (changed["Id"], changed["Statement"][0]) == ("mine", theirs)
    assert len(changed["Statement"]) == 2


async def test_notifications_of_other_kinds_stay(queued: QueuedBucket) -> None:
    topics = [{"Id": "t", "TopicArn": "arn:aws:sns:us-east-1:1:t", "Events": ["s3:ObjectRestore:*"]}]
    more: dict[str, Any] = {"EventBridgeConfiguration": {}, "TopicConfigurations": topics}
    client = Refusing(queued.s3, 0, **more)
    await setup_queue(client, queued.sqs, queued.bucket, queued.queue)
    assert {name: client.sent[name] for name in more} == more
    assert set(client.sent) == {*more, "QueueConfigurations"}


async def test_a_second_bucket_may_share_the_queue(queued: QueuedBucket) -> None:
    url = await setup_queue(queued.s3, queued.sqs, queued.bucket, queued.queue)
    second = name()
    await queued.s3.create_bucket(Bucket=second)
    await setup_queue(queued.s3, queued.sqs, second, queued.queue)
    statements = json.loads((await attributes(queued, url))["Policy"])["Statement"]
    arns = [statement["Condition"]["ArnEquals"]["aws:SourceArn"] for statement in statements]
    assert arns == [f"arn:aws:s3:::{queued.bucket}", f"arn:aws:s3:::{second}"]
    assert statements[0]["Sid"] != statements[1]["Sid"]
    await queued.s3.delete_bucket(Bucket=second)


async def test_a_missing_bucket_creates_no_queue(queued: QueuedBucket) -> None:
    queue = name()
    with pytest.raises(BucketNotFoundError):
        await setup_queue(queued.s3, queued.sqs, name(), queue)
    assert "QueueUrls" not in await queued.sqs.list_queues(QueueNamePrefix=queue)


async def test_it_waits_until_s3_has_seen_the_policy(queued: QueuedBucket) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    await setup_queue(Refusing(queued.s3, times=3), queued.sqs, queued.bucket, queued.queue, sleep=sleep)
    assert slept == [1, 2, 4]
    assert "QueueConfigurations" in await notifications(queued)


async def test_it_waits_no_longer_than_a_minute(queued: QueuedBucket) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    with pytest.raises(InvalidArgumentError, match="Unable to validate"):
        await setup_queue(Refusing(queued.s3, times=100), queued.sqs, queued.bucket, queued.queue, sleep=sleep)
    assert sum(slept) >= 60
    assert len(slept) < 10


async def test_other_refusals_are_raised_immediately(queued: QueuedBucket) -> None:
    refusing = Refusing(queued.s3, times=1, code="AccessDenied")
    with pytest.raises(AccessDeniedError):
        await setup_queue(refusing, queued.sqs, queued.bucket, queued.queue)
    assert await notifications(queued) == {}


async def test_events_arrive() -> None:
    async with queued_bucket() as queued, queued.watch() as watch:
        await queued.put("k")
        await watch.next_of(EventType.CREATED, "k")
