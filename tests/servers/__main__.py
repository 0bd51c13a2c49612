"""The command: `python -m tests.servers up ceph moto`."""

import argparse
import dataclasses
import json
import shlex
import sys
from collections.abc import Sequence

from tests.servers import control
from tests.servers.errors import ServerError
from tests.servers.registry import SERVERS, SOFTWARE, find, find_software


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    names = options.names or list(SERVERS)
    try:
        look_up = find_software if options.command == "install" else find
        for name in names:
            look_up(name)
        if options.command == "up":
            _up(names, as_json=options.json)
        for name in names:
            if options.command == "install":
                find_software(name).install()
            elif options.command == "down":
                control.down(name)
            elif options.command == "status":
                print(f"{name}: {control.status(name)}")
    except ServerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _up(names: Sequence[str], *, as_json: bool) -> None:
    handles = {name: dataclasses.asdict(control.up(name)) for name in names}
    if as_json:
        print(json.dumps(handles, indent=2))
        return
    for name, handle in handles.items():
        for field, value in handle.items():
            print(f"{name.upper()}_{field.upper()}={shlex.quote(str(value))}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description="Real servers for the tests.")
    commands = parser.add_subparsers(dest="command", required=True)
    known = ", ".join(SERVERS)
    install = commands.add_parser("install", help="install what servers need and is missing, or other software")
    install.add_argument("names", nargs="+", metavar="NAME", help=", ".join(SOFTWARE))
    up = commands.add_parser("up", help="start servers that stay until `down`, and print how to reach them")
    up.add_argument("names", nargs="+", metavar="NAME", help=known)
    up.add_argument("--json", action="store_true", help="print JSON, not KEY=VALUE lines")
    down = commands.add_parser("down", help="stop these servers, or all")
    down.add_argument("names", nargs="*", metavar="NAME", help=known)
    status = commands.add_parser("status", help="show what runs and what is not installed")
    status.add_argument("names", nargs="*", metavar="NAME", help=known)
    return parser


if __name__ == "__main__":
    sys.exit(main())
