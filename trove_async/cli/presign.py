"""``presign``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import click

from trove_async.cli.command import Name, VersionID, command
from trove_async.cli.errors import UsageError
from trove_async.cli.parameters import argument, option
from trove_async.cli.session import Session
from trove_async.cli.values import parse_duration

__all__ = ["Method", "presign", "register"]


class Method(StrEnum):
    """The request that a signed URL allows."""

    GET = "get"
    PUT = "put"
    HEAD = "head"
    DELETE = "delete"


MethodArgument = Annotated[
    Method, argument("METHOD", type=click.Choice(Method, case_sensitive=False), help="get, put, head or delete.")
]
Expires = Annotated[str, option(metavar="TIME", help="How long the URL is valid: seconds, or 15m, 2h, 7d.")]
ContentType = Annotated[str | None, option(help="The content type that a put must have.")]


def register(app: click.Group) -> None:
    """Add the command."""
    command(app, "presign")(presign)


async def presign(
    session: Session,
    method: MethodArgument,
    name: Name,
    expires: Expires = "1h",
    content_type: ContentType = None,
    version_id: VersionID = None,
) -> None:
    """Sign a URL for an object.

    Until it expires, anyone who has the URL can do this one operation with the object.
    """
    if content_type is not None and method is not Method.PUT:
        raise UsageError("--content-type is what a put must have; it needs the method put")
    if version_id is not None and method is Method.PUT:
        raise UsageError("--version-id names a version that exists; a put makes a new one")
    store, bucket, key = await session.object(name)
    sign = {
        Method.GET: store.presign_get,
        Method.PUT: store.presign_put,
        Method.HEAD: store.presign_head,
        Method.DELETE: store.presign_delete,
    }[method]
    url = await sign(bucket, key, expires=parse_duration(expires), content_type=content_type, version_id=version_id)
    session.output.record({"type": "url", "method": method.value.upper(), "url": url}, url)
