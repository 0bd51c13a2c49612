"""Groups of commands, and which module has which command, so that one command does not import the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Final

import click

__all__ = ["Commands", "Group"]

_COMMANDS: Final = {
    "ls": ("listing", "List buckets, objects and folders."),
    "cp": ("trees", "Copy objects and files, between stores too."),
    "mv": ("trees", "Move objects and files, between stores too."),
    "rm": ("removal", "Remove objects."),
    "cat": ("objects", "Write objects to standard output."),
    "put": ("objects", "Store a file, or standard input, as an object."),
    "stat": ("objects", "Show the description of objects."),
    "mb": ("buckets", "Create buckets."),
    "rb": ("buckets", "Remove empty buckets."),
    "ping": ("buckets", "Measure how fast a store answers."),
    "presign": ("presign", "Sign a URL for an object."),
    "watch": ("watching", "Print changes as they happen."),
    "upload": ("upload", "Upload files to a server of resumable uploads."),
    "conformance": ("conformance", "Test a store against the contract."),
    "tag": ("tags", "Tags of an object."),
    "versions": ("versions", "Versions of objects, and whether a bucket keeps them."),
    "lifecycle": ("lifecycle", "Rules that expire or move the objects of a bucket by age."),
    "config": ("configuration", "The stores that trove.toml names."),
    "quota": ("quota", "How much the buckets and prefixes with a quota hold."),
    "mirror": ("mirror", "The copies of a mirror, and of a Failover with a queue."),
    "managed": ("managed", "Content of managed storage and content-addressed stores."),
    "uploads": ("uploads", "Resumable uploads that a server keeps in a bucket."),
}
"""The module of each command, and a summary for the list of all."""


class Group(click.Group):
    """Commands, in the order in which they were added; a call that names none of them is an error of one line."""

    def __init__(self, name: str | None = None, **attributes: Any) -> None:
        super().__init__(name, no_args_is_help=False, **attributes)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return [*self.commands]


class Commands(Mapping[str, click.Command]):
    """The commands by their names; looking one up imports its module."""

    def __init__(self) -> None:
        self._found = Group()

    @staticmethod
    def summaries() -> dict[str, str]:
        """Return a summary of each command."""
        return {name: summary for name, (_, summary) in _COMMANDS.items()}

    def __getitem__(self, name: str) -> click.Command:
        module, _ = _COMMANDS[name]
        if name not in self._found.commands:
            import_module(f"trove_async.cli.{module}").register(self._found)
        return self._found.commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMANDS)

    def __len__(self) -> int:
        return len(_COMMANDS)
