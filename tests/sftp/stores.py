"""Stores on the two servers, as the tests of the driver open them; nothing may be left over."""

from __future__ import annotations

import asyncio
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

import trove_async as trove
from tests.payload import pattern
from tests.servers import AsyncSSH, Sshd, running
from tests.sftp.residue import residue_of
from trove_async.drivers.sftp import SFTPDriver
from trove_async.drivers.sftp.abilities import Abilities
from trove_async.drivers.sftp.filesystem import SFTPFileSystem
from trove_async.drivers.sftp.probe import probe

__all__ = [
    "ServerName",
    "dsn_of",
    "fs_of",
    "handle_of",
    "opened",
    "pattern",
    "remote",
    "scratch_root",
    "without_links",
]

TRIES = 1000
ServerName = Literal["sshd", "asyncssh"]


def handle_of(server: ServerName) -> Sshd | AsyncSSH:
    """Return the handle of a server."""
    return running("sshd") if server == "sshd" else running("asyncssh")


def dsn_of(server: ServerName, root: Path | str, *, port: int | None = None) -> str:
    """Return a DSN without parameters."""
    handle = handle_of(server)
    return f"sftp://{handle.user}@{handle.host}:{port or handle.port}{root}"


@contextmanager
def scratch_root(server: ServerName) -> Iterator[Path]:
    """Create a root for the test; both servers run on this machine."""
    root = Path(handle_of(server).folder) / f"root-{uuid.uuid4().hex[:12]}"
    root.mkdir()
    try:
        yield root
    finally:
        shutil.rmtree(root)


def remote(store: trove.Trove) -> SFTPDriver:
    """Return the driver below the layers of a store."""
    return trove.unwrap(store.driver, SFTPDriver)


def fs_of(store: trove.Trove) -> SFTPFileSystem:
    """Return the file system of a store."""
    return remote(store)._store.fs


def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let stores that are opened from now on detect a server without links."""

    async def probe_without(*arguments: Any, **named: Any) -> Abilities:
        return replace(await probe(*arguments, **named), links=False)

    monkeypatch.setattr("trove_async.drivers.sftp.opening.probe", probe_without)


@asynccontextmanager
async def opened(
    server: ServerName, root: Path | str, *, port: int | None = None, clean: bool = True, **settings: Any
) -> AsyncIterator[trove.Trove]:
    """Open a store, and assert at its end that no handle is open and nothing is left on the disk.

    Args:
        server, root: the server and the root on it.
        port: of a proxy in front of it, or another port of the server; None for its own.
        clean: whether to check the disk.
        settings: parameters; None removes one of the default parameters.
    """
    handle = handle_of(server)
    chosen: dict[str, Any] = {
        # A proxy has another port, which is not in known_hosts.
        "known_hosts": handle.known_hosts if port is None or port in vars(handle).values() else None,
        "verify": None if port is None or port in vars(handle).values() else False,
        "key": handle.client_key,
        "fsync": False,
        **settings,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    async with trove.open(dsn_of(server, root, port=port), **given) as store:
        yield store
        if clean:
            assert remote(store).held_handles == 0
            for _ in range(TRIES):
                if not remote(store).connection.open_handles:
                    break
                await asyncio.sleep(0.01)  # the lease may just be renewed in the background
            else:
                pytest.fail("a handle is still open")
    if clean:
        assert residue_of(root) == []
        assert os.listdir(f"{root}/.trove/tmp") == []
