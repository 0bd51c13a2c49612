"""``config``: what ``trove.toml`` says."""

from __future__ import annotations

from typing import Annotated

import click

from trove_async.cli.command import command
from trove_async.cli.commands import Group
from trove_async.cli.parameters import argument
from trove_async.cli.session import Session
from trove_async.config import Config
from trove_async.dsn import redact
from trove_async.paths import local_path

__all__ = ["check", "list_stores", "register"]

File = Annotated[str | None, argument("FILE", help="Default: the file that all commands use.")]


def register(app: click.Group) -> None:
    """Add the commands."""
    group = Group("config", help="The stores that trove.toml names.")
    command(group, "check", store=False)(check)
    command(group, "list", store=False)(list_stores)
    app.add_command(group)


async def check(session: Session, file: File = None) -> None:
    """Check all stores of the configuration, and that their secrets are there, without asking a store anything."""
    config = _load(file)
    errors = config.check()
    for error in errors:
        session.fail(error)
    if not errors:
        count = len(config.names)
        values = {"type": "config", "file": config.file, "stores": config.names}
        session.output.record(values, f"{config.file}: {count} store{'' if count == 1 else 's'}, no errors")


async def list_stores(session: Session, file: File = None) -> None:
    """List the stores of the configuration, with their DSNs as they stand in the file, and without secrets."""
    config = _load(file)
    width = max(map(len, config.names), default=0)
    for name in config.names:
        shown = redact(f"'{config.description(name)}")[1:]  # behind a quote a password may contain spaces
        session.output.record({"type": "store", "name": name, "dsn": shown}, f"{name:{width}}  {shown}")


def _load(file: str | None) -> Config:
    return Config.load(None if file is None else local_path(file))
