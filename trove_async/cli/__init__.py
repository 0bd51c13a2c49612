"""The command ``trove``: objects in any store, from the shell. ``docs/cli.md`` is its manual.

It needs the extra ``cli``.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command with the arguments of the process, and exit."""
    try:
        from trove_async.cli.app import run
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "click":
            raise
        sys.exit("trove: the command needs: pip install 'trove-async[cli]'")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run(sys.argv[1:]))
