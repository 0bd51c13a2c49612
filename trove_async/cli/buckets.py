"""``mb``, ``rb`` and ``ping``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from trove_async.cli.command import Names, command
from trove_async.cli.session import Session
from trove_async.driver import unwrap
from trove_async.dsn import parse_dsn
from trove_async.errors import TroveError, UnsupportedError
from trove_async.store import Trove

__all__ = ["mb", "ping", "rb", "register"]

ExistOk = Annotated[bool, typer.Option("--exist-ok", "-p", help="A bucket that exists is as good.")]
Region = Annotated[str | None, typer.Option(show_default=False, help="Where, on services that have regions.")]
StoreDSN = Annotated[str | None, typer.Argument(metavar="DSN", show_default=False)]
Count = Annotated[int, typer.Option("--count", "-c", min=1, help="How many times.")]
Probing = Annotated[
    bool, typer.Option("--probe", help="Find out what an S3 service honours; writes to the DSN's bucket.")
]


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


async def ping(session: Session, dsn: StoreDSN = None, count: Count = 1, probe: Probing = False) -> None:
    """Time the answer of a store.

    It proves that the store can be reached, and accepts the credentials. With --probe it goes on to find out which
    conditions and features an S3 service has, which profile fits it, and what to write into the DSN.
    """
    chosen = session.store_dsn(dsn)
    store = await session.open(chosen)
    if probe and store.driver.name != "s3":
        raise UnsupportedError(f"--probe looks at S3 services; what {store.driver.name} has is known")
    shown = str(parse_dsn(chosen))  # without its secrets
    for _ in range(count):
        begin = time.perf_counter()
        await store.ping()
        milliseconds = (time.perf_counter() - begin) * 1000
        values = {"type": "ping", "store": shown, "driver": store.driver.name, "rtt_ms": round(milliseconds, 3)}
        session.output.record(values, f"{shown}: {milliseconds:.1f} ms")
    if probe:
        await _probe(session, store, shown)


async def _probe(session: Session, store: Trove, shown: str) -> None:
    from trove_async.drivers.s3.driver import S3Driver

    seen = await unwrap(store.driver, S3Driver).probe()
    words = {True: "yes", False: "no", None: "?"}
    width = max(len(finding.name) for finding in seen.findings)
    lines = [f"{it.name:{width}}  {words[it.works]:3}  {it.detail}".rstrip() for it in seen.findings]
    lines.append(f"{'profile':{width}}  {seen.profile}")
    if seen.differences:
        lines.append(f"{'other than it':{width}}  {', '.join(seen.differences)}")
    parameters = "&".join(f"{name}={value}" for name, value in seen.parameters.items())
    lines.append(f"{'for the DSN':{width}}  {parameters or 'nothing'}")
    values = {
        "type": "probe",
        "store": shown,
        "findings": {it.name: {"works": it.works, "detail": it.detail} for it in seen.findings},
        "conditions": sorted(seen.conditions),
        "profile": seen.profile,
        "differences": seen.differences,
        "parameters": seen.parameters,
    }
    session.output.record(values, *lines)
