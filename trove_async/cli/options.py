"""The options of every command."""

from __future__ import annotations

from typing import Final

import click

__all__ = ["COMMON", "STORE_VARIABLE"]

STORE_VARIABLE: Final = "TROVE_DSN"
"""The environment variable that names the store of ``bucket/key``."""

COMMON: Final = (
    click.Option(["--store"], default="", metavar="DSN", help=f"The store of bucket/key; default {STORE_VARIABLE}."),
    click.Option(["--json"], is_flag=True, help="Print one JSON object per line."),
    click.Option(["--quiet", "-q"], is_flag=True, help="Print no notes and no progress."),
    click.Option(["--debug"], is_flag=True, help="Show the traceback of an error."),
)
"""The options of every command, ``--store`` only of those that ask one; they may also stand before its name."""
