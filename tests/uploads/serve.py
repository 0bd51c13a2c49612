"""The command that serves an app in a process of its own.

``python -m tests.uploads.serve SERVER MODULE:NAME PORT [ARGUMENTS]``: the app is the named object, or with ARGUMENTS (a
JSON array) what it returns when it is called with them. It is an ASGI app, or for the server aiohttp a
``web.Application``. Each server has its defaults: uvicorn and granian run on uvloop, the others on asyncio.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

HOST: Final = "127.0.0.1"

_GRANIAN_APP: Final = "TROVE_TEST_APP"
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def load(name: str, arguments: str | None) -> Any:
    """Return the app ``MODULE:NAME``, or what it returns if it is called with a JSON array of arguments."""
    module, _, attribute = name.partition(":")
    found = getattr(import_module(module), attribute)
    return found if arguments is None else found(*json.loads(arguments))


def granian_app() -> Any:
    """Return the app in a worker of granian, which ends with the process that started it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return load(*json.loads(os.environ[_GRANIAN_APP]))


def _uvicorn(name: str, port: int, arguments: str | None) -> None:
    import uvicorn

    uvicorn.run(load(name, arguments), host=HOST, port=port, http="httptools", ws="none", lifespan="on")


def _uvicorn_h11(name: str, port: int, arguments: str | None) -> None:
    import uvicorn

    uvicorn.run(load(name, arguments), host=HOST, port=port, http="h11", ws="none", lifespan="on", loop="asyncio")


def _hypercorn(name: str, port: int, arguments: str | None) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"{HOST}:{port}"]
    asyncio.run(serve(load(name, arguments), config))


def _granian(name: str, port: int, arguments: str | None) -> None:
    from granian import Granian
    from granian.constants import Interfaces

    os.environ[_GRANIAN_APP] = json.dumps([name, arguments])
    Granian(
        f"{__spec__.name}:{granian_app.__name__}",
        address=HOST,
        port=port,
        interface=Interfaces.ASGI,
        websockets=False,
        factory=True,
    ).serve()


def _aiohttp(name: str, port: int, arguments: str | None) -> None:
    from aiohttp import web

    web.run_app(load(name, arguments), host=HOST, port=port)


SERVERS: Final[Mapping[str, Callable[[str, int, str | None], None]]] = {
    "uvicorn": _uvicorn,
    "uvicorn-h11": _uvicorn_h11,
    "hypercorn": _hypercorn,
    "granian": _granian,
    "aiohttp": _aiohttp,
}


if __name__ == "__main__":
    SERVERS[sys.argv[1]](sys.argv[2], int(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else None)
