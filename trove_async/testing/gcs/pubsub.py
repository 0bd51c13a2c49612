"""Topics, subscriptions and their messages: the REST API of Pub/Sub.

https://cloud.google.com/pubsub/docs/reference/rest, https://cloud.google.com/pubsub/docs/pull and ``…/docs/push``.
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections import deque
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final

from trove_async.testing.gcs.errors import ServiceError
from trove_async.testing.gcs.http import Request, Response, json_response, mapping
from trove_async.testing.gcs.push import Pusher
from trove_async.testing.gcs.unsupported import PUSH_FIELDS, SUBSCRIPTION_FIELDS, TOPIC_FIELDS, check_fields

__all__ = ["PubSub", "Subscription"]

_NAME: Final = re.compile(r"(?!goog)[A-Za-z][A-Za-z0-9._~+%-]{2,254}")
_DELETED: Final = "_deleted-topic_"
_DEADLINE: Final = 10
_LONGEST: Final = 600
_PAGE: Final = 100
_MESSAGES: Final = 1000


@dataclass(slots=True)
class _Leased:
    message: dict[str, Any]
    until: float


@dataclass(slots=True)
class Subscription:
    """A subscription, with its undelivered and its unacknowledged messages.

    Attributes:
        resource: its resource in the API.
        waiting: the messages to deliver.
        leased: the delivered and unacknowledged messages, by ack ID.
    """

    resource: dict[str, Any]
    waiting: deque[dict[str, Any]] = field(default_factory=deque)
    leased: dict[str, _Leased] = field(default_factory=dict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    pusher: Pusher | None = None

    def add(self, message: dict[str, Any]) -> None:
        """Add a message."""
        self.waiting.append(message)
        self.arrived.set()

    def reclaim(self, now: float) -> None:
        """Return messages that were not acknowledged in time to the waiting ones."""
        for identity in [identity for identity, leased in self.leased.items() if leased.until <= now]:
            self.add(self.leased.pop(identity).message)


class PubSub:
    """All topics and subscriptions.

    Attributes:
        topics: the resources of topics, by full name.
        policies: the IAM policies of topics, by full name.
        subscriptions: by full name.
        pull_wait: the maximum time in seconds that a pull waits for a message.
    """

    def __init__(self, pull_wait: float) -> None:
        self.pull_wait = pull_wait
        self.topics: dict[str, dict[str, Any]] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.policies: dict[str, dict[str, Any]] = {}
        self._ids = count(1)

    def handle(self, request: Request) -> Response | Awaitable[Response]:
        """Answer ``/v1/projects/…``.

        Raises:
            ServiceError: the request is refused.
        """
        match request.segments[1:]:
            case ["projects", project, "topics", *rest]:
                return self._topics(request, f"projects/{project}/topics", rest)
            case ["projects", project, "subscriptions", *rest]:
                return self._subscriptions(request, f"projects/{project}/subscriptions", rest)
        raise _missing(request.raw_path)

    def publish(self, topic: str, message: Mapping[str, Any]) -> str | None:
        """Add a message to all subscriptions of a topic, and return its ID; None if the topic does not exist."""
        if topic not in self.topics:
            return None
        identity = str(next(self._ids))
        now = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        sent = {**message, "messageId": identity, "publishTime": now}
        for subscription in self.subscriptions.values():
            if subscription.resource["topic"] == topic:
                subscription.add(sent)
        return identity

    def expire(self) -> None:
        """Expire the deadlines of all delivered messages."""
        for subscription in self.subscriptions.values():
            subscription.reclaim(float("inf"))

    def close(self) -> None:
        """Stop all pushes."""
        for subscription in self.subscriptions.values():
            if subscription.pusher is not None:
                subscription.pusher.close()

    def _topics(self, request: Request, parent: str, path: list[str]) -> Response:
        if not path:
            return _page(request, "topics", list(self.topics.values()))
        if path[1:] == ["subscriptions"]:
            topic = self._topic(f"{parent}/{path[0]}")["name"]
            names = [name for name, it in self.subscriptions.items() if it.resource["topic"] == topic]
            return _page(request, "subscriptions", names)
        if len(path) > 1:
            raise _missing(request.raw_path)
        identity, _, verb = path[0].partition(":")
        name = f"{parent}/{identity}"
        match request.method, verb:
            case "PUT", "":
                check_fields(request.json(), TOPIC_FIELDS)
                _check_new(name, self.topics)
                self.topics[name] = {**request.json(), "name": name}
                return json_response(self.topics[name])
            case "GET", "":
                return json_response(self._topic(name))
            case "DELETE", "":
                self._topic(name)
                del self.topics[name]
                for subscription in self.subscriptions.values():
                    if subscription.resource["topic"] == name:
                        subscription.resource["topic"] = _DELETED
                return json_response({})
            case "POST", "publish":
                return self._publish(request, name)
            case (("GET" | "POST"), ("getIamPolicy" | "setIamPolicy" | "testIamPermissions")):
                return self._policy(request, self._topic(name)["name"], verb)
        raise _missing(request.raw_path)

    def _policy(self, request: Request, topic: str, verb: str) -> Response:
        """Answer requests about a topic's policy, which is stored and not enforced."""
        if verb == "testIamPermissions":
            return json_response({"permissions": request.json().get("permissions", [])})
        if verb == "setIamPolicy":
            self.policies[topic] = mapping(request.json(), "policy")
        return json_response({"version": 1, "etag": "ACAB", **self.policies.get(topic, {})})

    def _publish(self, request: Request, topic: str) -> Response:
        self._topic(topic)
        messages = request.json().get("messages")
        if not isinstance(messages, list) or not 1 <= len(messages) <= _MESSAGES:
            raise _argument(f"The value for message_count is out of range: 1 to {_MESSAGES}.")
        for message in messages:
            _check_message(message)
        return json_response({"messageIds": [self.publish(topic, message) for message in messages]})

    def _subscriptions(self, request: Request, parent: str, path: list[str]) -> Response | Awaitable[Response]:
        if not path:
            return _page(request, "subscriptions", [it.resource for it in self.subscriptions.values()])
        if len(path) > 1:
            raise _missing(request.raw_path)
        identity, _, verb = path[0].partition(":")
        name = f"{parent}/{identity}"
        if request.method == "PUT" and not verb:
            return self._subscribe(request, name)
        subscription = self._subscription(name)
        match request.method, verb:
            case "GET", "":
                return json_response(subscription.resource)
            case "DELETE", "":
                if subscription.pusher is not None:
                    subscription.pusher.close()
                del self.subscriptions[name]
                subscription.arrived.set()
                return json_response({})
            case "POST", "pull":
                return self._pull(request, name, subscription)
            case "POST", "acknowledge":
                for identity in _ack_ids(request):
                    subscription.leased.pop(identity, None)
                return json_response({})
            case "POST", "modifyAckDeadline":
                return _modify(request, subscription)
            case "POST", "modifyPushConfig":
                settings = mapping(request.json(), "pushConfig")
                check_fields(settings, PUSH_FIELDS)
                self._set_push(name, subscription, settings)
                return json_response({})
        raise _missing(request.raw_path)

    def _subscribe(self, request: Request, name: str) -> Response:
        given = request.json()
        check_fields(given, SUBSCRIPTION_FIELDS)
        check_fields(mapping(given, "pushConfig"), PUSH_FIELDS)
        _check_new(name, self.subscriptions)
        topic = self._topic(str(given.get("topic")))["name"]
        deadline = given.get("ackDeadlineSeconds") or _DEADLINE
        if not isinstance(deadline, int) or not _DEADLINE <= deadline <= _LONGEST:
            raise _argument(f"Invalid ack deadline given: {deadline}; it is {_DEADLINE} to {_LONGEST} seconds.")
        resource = {**given, "name": name, "topic": topic, "ackDeadlineSeconds": deadline, "state": "ACTIVE"}
        subscription = self.subscriptions[name] = Subscription(resource)
        self._set_push(name, subscription, mapping(given, "pushConfig"))
        return json_response(subscription.resource)

    def _set_push(self, name: str, subscription: Subscription, settings: dict[str, Any]) -> None:
        if subscription.pusher is not None:
            subscription.pusher.close()
            subscription.pusher = None
        subscription.resource["pushConfig"] = settings
        endpoint = settings.get("pushEndpoint")
        if endpoint:
            subscription.pusher = Pusher(name, endpoint, subscription.waiting, subscription.arrived)

    async def _pull(self, request: Request, name: str, subscription: Subscription) -> Response:
        given = request.json()
        most = given.get("maxMessages", 0)
        if not isinstance(most, int) or most < 1:
            raise _argument("You have passed an invalid argument to the service (argument=max_messages).")
        if subscription.pusher is not None:
            raise ServiceError(400, "failedPrecondition", "This method is not supported for this subscription type.")
        end = time.monotonic() + (0.0 if given.get("returnImmediately") else self.pull_wait)
        while True:
            now = time.monotonic()
            subscription.reclaim(now)
            if request.abandoned or subscription.waiting or now >= end or name not in self.subscriptions:
                break
            await _wait(subscription, min([end, *(leased.until for leased in subscription.leased.values())]) - now)
        received: list[dict[str, Any]] = []
        while subscription.waiting and len(received) < most and not request.abandoned:
            message = subscription.waiting.popleft()
            identity = f"{message['messageId']}-{next(self._ids)}"
            deadline = time.monotonic() + subscription.resource["ackDeadlineSeconds"]
            subscription.leased[identity] = _Leased(message, deadline)
            received.append({"ackId": identity, "message": message})
        return json_response({"receivedMessages": received} if received else {})

    def _topic(self, name: str) -> dict[str, Any]:
        topic = self.topics.get(name)
        if topic is None:
            raise _missing(name.rpartition("/")[2])
        return topic

    def _subscription(self, name: str) -> Subscription:
        subscription = self.subscriptions.get(name)
        if subscription is None:
            raise _missing(name.rpartition("/")[2])
        return subscription


async def _wait(subscription: Subscription, seconds: float) -> None:
    subscription.arrived.clear()
    try:
        async with asyncio.timeout(max(seconds, 0)):
            await subscription.arrived.wait()
    except TimeoutError:
        return


def _modify(request: Request, subscription: Subscription) -> Response:
    seconds = request.json().get("ackDeadlineSeconds", 0)
    if not isinstance(seconds, int) or not 0 <= seconds <= _LONGEST:
        raise _argument(f"Invalid ack deadline given: {seconds}; it is 0 to {_LONGEST} seconds.")
    now = time.monotonic()
    for identity in _ack_ids(request):
        if identity in subscription.leased:
            subscription.leased[identity].until = now + seconds
    subscription.reclaim(now)
    return json_response({})


def _ack_ids(request: Request) -> list[str]:
    identities = request.json().get("ackIds")
    if not isinstance(identities, list) or not identities:
        raise _argument("No ack ids specified.")
    return [str(identity) for identity in identities]


def _check_new(name: str, there: Mapping[str, object]) -> None:
    identity = name.rpartition("/")[2]
    if _NAME.fullmatch(identity) is None:
        raise _argument(f"Invalid resource name given (name={name}).")
    if name in there:
        message = f"Resource already exists in the project (resource={identity})."
        raise ServiceError(409, "alreadyExists", message)


def _check_message(message: object) -> None:
    if not isinstance(message, dict) or not (message.get("data") or message.get("attributes")):
        raise _argument("One or more messages in the publish request is empty. Each must have data or attributes.")
    try:
        base64.b64decode(message.get("data", ""), validate=True)
    except (ValueError, TypeError) as error:
        raise _argument("Invalid value at 'messages.data': Base64 decoding failed.") from error


def _page(request: Request, name: str, items: list[Any]) -> Response:
    size = request.integer("pageSize") or _PAGE
    token = request.query.get("pageToken", "0")
    if not token.isdigit():
        raise _argument("Invalid page token.")
    start = int(token)
    document: dict[str, Any] = {name: items[start : start + size]} if items[start:] else {}
    if len(items) > start + size:
        document["nextPageToken"] = str(start + size)
    return json_response(document)


def _missing(resource: str) -> ServiceError:
    return ServiceError(404, "notFound", f"Resource not found (resource={resource}).")


def _argument(message: str) -> ServiceError:
    return ServiceError(400, "badRequest", message)
