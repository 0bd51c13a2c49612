"""``watch``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import click

from trove_async.cli.command import Name, command
from trove_async.cli.errors import UsageError
from trove_async.cli.output import plain
from trove_async.cli.parameters import option
from trove_async.cli.session import Session
from trove_async.types import EventType, ObjectEvent

__all__ = ["register", "watch"]

Events = Annotated[
    tuple[str, ...],
    option("--event", metavar="TYPE", help="Only created, updated or deleted; repeatable."),
]
Count = Annotated[
    int | None, option("--count", "-c", metavar="N", type=click.IntRange(1), help="End after this number of events.")
]
Poll = Annotated[
    float,
    option(
        "--poll-interval",
        metavar="SECONDS",
        type=click.FloatRange(0.01),
        help="Seconds between listings, for stores that are polled.",
    ),
]
Resume = Annotated[str | None, option("--resume-token", help="Continue after the event with this token.")]


def register(app: click.Group) -> None:
    """Add the command."""
    command(app, "watch")(watch)


async def watch(
    session: Session,
    name: Name,
    event: Events = (),
    count: Count = None,
    poll_interval: Poll = 5.0,
    resume_token: Resume = None,
) -> None:
    """Print changes as they happen.

    NAME is a bucket, or goes on to what keys begin with. Ctrl-C ends it.
    """
    store, bucket, prefix = await session.resolve(name)
    if not bucket:
        raise UsageError(f"{name!r} does not name a bucket")
    watching = store.watch(
        bucket,
        prefix=prefix,
        events=[_type(text) for text in event] if event else None,
        poll_interval=poll_interval,
        resume_token=resume_token,
    )
    seen = 0
    async with watching as events:
        session.output.note(f"watching {bucket}/{prefix}")
        async for found in events:
            session.output.record(_values(found), _line(found))
            session.output.flush()
            seen += 1
            if seen == count:
                return


def _type(text: str) -> EventType:
    try:
        return EventType(text if "." in text else f"object.{text}")
    except ValueError:
        raise UsageError(f"{text!r} is not a type of event; the types are created, updated and deleted") from None


def _values(event: ObjectEvent) -> dict[str, Any]:
    return asdict(event) | {"type": event.type.value}


def _line(event: ObjectEvent) -> str:
    size = "" if event.size is None else f"  {event.size}"
    return f"{plain(event.time) or '-'}  {event.type.value.removeprefix('object.')}  {event.bucket}/{event.key}{size}"
