"""``mb``, ``rb`` and ``ping``."""

from __future__ import annotations

import time
from typing import Annotated

import click

from trove_async.cli.command import Names, command
from trove_async.cli.parameters import argument, option
from trove_async.cli.session import Session
from trove_async.driver.probing import ProbeReport, find_prober
from trove_async.dsn import parse_dsn
from trove_async.errors import BucketNotEmptyError, TroveError, UnsupportedError

__all__ = ["mb", "ping", "rb", "register"]

ExistOk = Annotated[bool, option("--exist-ok", "-p", help="Succeed if the bucket already exists.")]
Region = Annotated[str | None, option(help="The bucket's region, on services that have regions.")]
StoreDSN = Annotated[str | None, argument("DSN", help="The store; default that of --store.")]
Count = Annotated[int, option("--count", "-c", metavar="N", type=click.IntRange(1), help="The number of measurements.")]
Probing = Annotated[bool, option("--probe", help="Find out what the service supports; writes to the DSN's bucket.")]


def register(app: click.Group) -> None:
    """Add the commands."""
    command(app, "mb")(mb)
    command(app, "rb")(rb)
    command(app, "ping")(ping)


async def mb(session: Session, names: Names, exist_ok: ExistOk = False, region: Region = None) -> None:
    """Create buckets."""
    for name in names:
        try:
            store, bucket = await session.bucket(name)
            await store.create_bucket(bucket, region=region, exist_ok=exist_ok)
            session.output.record({"type": "bucket", "name": bucket})
        except TroveError as error:
            session.fail(error)


async def rb(session: Session, names: Names) -> None:
    """Remove empty buckets."""
    for name in names:
        try:
            store, bucket = await session.bucket(name)
            await store.delete_bucket(bucket)
            session.output.record({"type": "bucket", "name": bucket})
        except BucketNotEmptyError as error:
            session.fail(error, hint="; trove rm -r empties it, with --versions of versions too")
        except TroveError as error:
            session.fail(error)


async def ping(session: Session, dsn: StoreDSN = None, count: Count = 1, probe: Probing = False) -> None:
    """Measure how fast a store answers.

    This proves that the store can be reached and accepts the credentials. With --probe it then finds out which
    conditions and features the service supports, which profile fits it, and which parameters the DSN should have.
    """
    chosen = session.store_dsn(dsn)
    store = await session.open(chosen)
    prober = find_prober(store.driver) if probe else None
    if probe and prober is None:
        raise UnsupportedError(f"{store.driver.name} has nothing to probe: its features are known; leave out --probe")
    shown = str(parse_dsn(chosen))  # without its secrets
    for _ in range(count):
        begin = time.perf_counter()
        await store.ping()
        milliseconds = (time.perf_counter() - begin) * 1000
        values = {"type": "ping", "store": shown, "driver": store.driver.name, "rtt_ms": round(milliseconds, 3)}
        session.output.record(values, f"{shown}: {milliseconds:.1f} ms")
    if prober is not None:
        _print_report(session, await prober.probe(), shown)


def _print_report(session: Session, report: ProbeReport, shown: str) -> None:
    words = {True: "yes", False: "no", None: "?"}
    width = max(len(finding.name) for finding in report.findings)
    lines = [f"{it.name:{width}}  {words[it.works]:3}  {it.detail}".rstrip() for it in report.findings]
    lines.append(f"{'profile':{width}}  {report.profile}")
    if report.differences:
        lines.append(f"{'other than it':{width}}  {', '.join(report.differences)}")
    parameters = "&".join(f"{name}={value}" for name, value in report.parameters.items())
    lines.append(f"{'for the DSN':{width}}  {parameters or 'nothing'}")
    values = {
        "type": "probe",
        "store": shown,
        "findings": {it.name: {"works": it.works, "detail": it.detail} for it in report.findings},
        "conditions": sorted(report.conditions),
        "profile": report.profile,
        "differences": report.differences,
        "parameters": report.parameters,
    }
    session.output.record(values, *lines)
