"""``python -m trove_async.testing.gcs``: the server as a separate process."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys

from trove_async.testing.gcs.server import GCSServer


async def _serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server = GCSServer(options.port, host=options.host, project=options.project, anonymous=options.anonymous)
    async with server:
        ready: dict[str, object] = {"endpoint": server.url, "project": server.project}
        if not options.anonymous:
            ready["service_account"] = server.service_account_info
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        await stop.wait()


def main() -> None:
    """Print the endpoint and, without ``--anonymous``, the service account as a line of JSON; serve until a signal."""
    parser = argparse.ArgumentParser(prog="python -m trove_async.testing.gcs", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="the port to listen on (default: any free one)")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--project", default="trove-project", help="the name of the project (default: %(default)s)")
    parser.add_argument("--anonymous", action="store_true", help="require no credentials")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
