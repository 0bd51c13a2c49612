"""``mb``, ``rb`` and ``ping``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from trove_async.cli.command import Names, command
from trove_async.cli.session import Session
from trove_async.dsn import parse_dsn
from trove_async.errors import TroveError

__all__ = ["mb", "ping", "rb", "register"]

ExistOk = Annotated[bool, typer.Option("--exist-ok", "-p", help="A bucket that exists is as good.")]
Region = Annotated[str | None, typer.Option(show_default=False, help="Where, on services that have regions.")]
StoreDSN = Annotated[str | None, typer.Argument(metavar="DSN", show_default=False)]
Count = Annotated[int, typer.Option("--count", "-c", min=1, help="How many times.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "mb")(mb)
    command(app, "rb")(rb)
    command(app, "ping")(ping)


async def mb(session: Session, names: Names, exist_ok: ExistOk = False, region: Region = None) -> None:
    """Make buckets."""
    for name in names:
        try:
            store, bucket = await session.bucket(name)
            await store.create_bucket(bucket, region=region, exist_ok=exist_ok)
            session.output.record({"type": "bucket", "name": bucket})
        except TroveError as error:
            session.fail(error)


async def rb(session: Session, names: Names) -> None:
    """Remove buckets that are empty."""
    for name in names:
        try:
            store, bucket = await session.bucket(name)
            await store.delete_bucket(bucket)
            session.output.record({"type": "bucket", "name": bucket})
        except TroveError as error:
            session.fail(error)


async def ping(session: Session, dsn: StoreDSN = None, count: Count = 1) -> None:
    """Time the answer of a store.

    It proves that the store can be reached, and accepts the credentials.
    """
    chosen = session.store_dsn(dsn)
    store = await session.open(chosen)
    shown = str(parse_dsn(chosen))  # without its secrets
    for _ in range(count):
        begin = time.perf_counter()
        await store.ping()
        milliseconds = (time.perf_counter() - begin) * 1000
        values = {"type": "ping", "store": shown, "driver": store.driver.name, "rtt_ms": round(milliseconds, 3)}
        session.output.record(values, f"{shown}: {milliseconds:.1f} ms")
