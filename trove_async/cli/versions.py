"""``versions``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import click

from trove_async.cli.command import Name, command
from trove_async.cli.commands import Group
from trove_async.cli.errors import UsageError
from trove_async.cli.objects import write_object
from trove_async.cli.output import object_fields, time_text
from trove_async.cli.parameters import argument, option
from trove_async.cli.session import Session
from trove_async.errors import VersionNotFoundError
from trove_async.types import VersionInfo, VersioningStatus

__all__ = ["get", "ls", "off", "on", "register", "restore", "rm", "status"]

Version = Annotated[str, argument("VERSION", help="The id of the version.")]
OutputFile = Annotated[str | None, option("--output", "-o", metavar="FILE", help="Save the version as this file.")]


def register(app: click.Group) -> None:
    """Add the commands."""
    group = Group("versions", help="Versions of objects, and whether a bucket keeps them.")
    for name, function in (("ls", ls), ("get", get), ("rm", rm), ("restore", restore)):
        command(group, name)(function)
    for name, switch in (("on", on), ("off", off), ("status", status)):
        command(group, name)(switch)
    app.add_command(group)


async def ls(session: Session, name: Name) -> None:
    """List the versions and delete markers of an object, newest first.

    For a bucket, or a name that ends in a slash: those of all keys in it, those of deleted objects too.
    """
    store, bucket, key = await session.resolve(name)
    if not bucket:
        raise UsageError(f"{name!r} names neither an object nor a bucket")
    if not key or key.endswith("/"):
        async for version in store.list_all_versions(bucket, key):
            _show(session, bucket, version, f"  {bucket}/{version.key}")
        return
    versions = await store.list_versions(bucket, key)
    if not versions:
        raise VersionNotFoundError("the object has no versions", operation="list_versions", bucket=bucket, key=key)
    for version in versions:
        _show(session, bucket, version, "")


def _show(session: Session, bucket: str, version: VersionInfo, name: str) -> None:
    time = time_text(version.last_modified)
    marks = " latest" * version.is_latest + " deleted" * version.is_delete_marker
    line = f"{version.version_id}  {time:20}  {version.size:>14}{name}{' ' + marks if marks else ''}"
    session.output.record({"type": "version", "bucket": bucket} | asdict(version), line)


async def get(session: Session, name: Name, version: Version, output: OutputFile = None) -> None:
    """Write a version to standard output, or save it as a file."""
    store, bucket, key = await session.object(name)
    if output is not None:
        await store.download(bucket, key, output, version_id=version)
        return
    async with await store.get_version(bucket, key, version) as reader:
        await write_object(reader)


async def rm(session: Session, name: Name, version: Version) -> None:
    """Remove a version permanently."""
    store, bucket, key = await session.object(name)
    if all(found.version_id != version for found in await store.list_versions(bucket, key)):
        raise VersionNotFoundError(operation="delete_version", bucket=bucket, key=key)
    await store.delete_version(bucket, key, version)


async def restore(session: Session, name: Name, version: Version) -> None:
    """Make a copy of a version the latest."""
    store, bucket, key = await session.object(name)
    info = await store.restore_version(bucket, key, version)
    session.output.record(object_fields(bucket, info))


async def on(session: Session, name: Name) -> None:
    """Start keeping versions in a bucket."""
    await _switch(session, name, True)


async def off(session: Session, name: Name) -> None:
    """Stop keeping versions in a bucket; existing ones stay."""
    await _switch(session, name, False)


async def _switch(session: Session, name: str, enabled: bool) -> None:
    store, bucket = await session.bucket(name)
    await store.set_versioning(bucket, enabled)


async def status(session: Session, name: Name) -> None:
    """Print whether a bucket keeps versions: unversioned, enabled or suspended."""
    store, bucket = await session.bucket(name)
    found: VersioningStatus = await store.get_versioning(bucket)
    session.output.record({"type": "versioning", "bucket": bucket, "status": found.value}, found.value)
