"""``conformance``."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import anyio
import click

from trove_async.cancellation import finish
from trove_async.cli.command import command
from trove_async.cli.harness import DSN_VARIABLE, PREFIX_VARIABLE
from trove_async.cli.parameters import argument, option
from trove_async.cli.session import Session
from trove_async.config import VARIABLE, find
from trove_async.driver import MultipartDriver
from trove_async.errors import MissingDependencyError, TroveError
from trove_async.store import Trove

__all__ = ["conformance", "register"]

_NEEDED: Final = ("pytest", "pytest_asyncio", "hypothesis", "httpx")
_PATIENCE: Final = 30.0
_REQUESTS: Final = 10

StoreDSN = Annotated[str | None, argument("DSN", help="The store; default that of --store.")]
Keyword = Annotated[str | None, option("-k", metavar="EXPRESSION", help="Only checks that match, as in pytest.")]
Stack = Annotated[tuple[str, ...], option("--stack", help="Only this stack of layers, such as plain.")]


def register(app: click.Group) -> None:
    """Add the command."""
    command(app, "conformance")(conformance)


async def conformance(session: Session, dsn: StoreDSN = None, k: Keyword = None, stack: Stack = ()) -> None:
    """Test a store against the contract.

    Runs the conformance suite, and prints the table of capabilities. It creates its own buckets, and removes them.
    """
    chosen = session.store_dsn(dsn)
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise MissingDependencyError("the conformance suite needs: pip install 'trove-async[testing]'")
    store = await session.open(chosen)  # reports a wrong DSN on one line
    prefix = f"trove-conformance-{token_hex(4)}-"
    chosen_checks = [*(["-k", k] if k is not None else []), *(f"--trove-stack={name}" for name in stack)]
    with TemporaryDirectory(prefix="trove-conformance-") as folder:
        try:
            code = await _run(session, Path(folder), chosen, prefix, chosen_checks)
        finally:
            await finish(_remove_buckets(session, store, prefix), timeout=_PATIENCE, leftover=f"buckets {prefix}…")
        await _print_table(session, anyio.Path(folder))
    if code != 0:
        raise NotConformingError("some checks failed, or no check was run; see above")


class NotConformingError(Exception):
    """The suite did not pass."""


async def _run(session: Session, folder: Path, dsn: str, prefix: str, chosen: Sequence[str]) -> int:
    """Run pytest in a new process, without the configuration of the current directory."""
    settings = anyio.Path(folder, "pytest.ini")
    await settings.write_text("[pytest]\nasyncio_mode = strict\nasyncio_default_fixture_loop_scope = function\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", "-q", "-c", str(settings), f"--rootdir={folder}", "-p", "no:cacheprovider",
        "--trove-driver=trove_async.cli.harness:DSNHarness", f"--trove-capabilities={folder}", *chosen,
        cwd=folder,
        env={**os.environ, **_configuration(), DSN_VARIABLE: dsn, PREFIX_VARIABLE: prefix},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=sys.stderr.fileno() if session.output.json else None,
        start_new_session=True,  # Ctrl-C reaches only this process, which then ends the other one
    )  # fmt: skip
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            await finish(_end(process), timeout=2 * _PATIENCE, leftover="pytest")


def _configuration() -> dict[str, str]:
    """Return the variable that names the configuration, which the other process would look for in its own folder."""
    path = find()
    return {} if path is None else {VARIABLE: str(path.absolute())}


async def _end(process: asyncio.subprocess.Process) -> None:
    """Make pytest end its run and clean up after the current check."""
    for _ in range(_REQUESTS):
        with suppress(
            TimeoutError, ProcessLookupError
        ):  # a check of cancellation may mistake the first signal for its own
            process.send_signal(signal.SIGINT)
            await asyncio.wait_for(process.wait(), _PATIENCE / _REQUESTS)
            return
    process.kill()
    await process.wait()


async def _remove_buckets(session: Session, store: Trove, prefix: str) -> None:
    """Remove the buckets that an interrupted run has left."""
    for bucket in [found.name for found in await store.list_buckets() if found.name.startswith(prefix)]:
        try:
            if store.supports(MultipartDriver):
                for upload in await store.list_multipart_uploads(bucket):
                    await store.abort_multipart(bucket, upload.key, upload.upload_id)
            await store.delete_many(bucket, (found.key async for found in store.list(bucket)))
            await store.delete_bucket(bucket)
        except TroveError as error:
            session.fail(error, about=f"the bucket {bucket} is left")


async def _print_table(session: Session, folder: anyio.Path) -> None:
    """Print the results of the checks as JSON; as text, pytest has printed them."""
    table = folder / "capabilities.json"
    if session.output.json and await table.exists():
        for driver, seen in json.loads(await table.read_text()).items():
            session.output.record({"type": "conformance", "driver": driver} | seen)
