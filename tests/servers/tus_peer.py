"""The command that serves uploads at ``/files/`` on 127.0.0.1 with tuspyserver or aiohttp-tus.

``python tus_peer.py PEER PORT FOLDER LOOP`` by the Python of `tests.servers.tus_peers`, whose environment has no other
module of this project. The servers have the defaults of uvicorn and of aiohttp, without a log of requests;
LOOP is uvicorn's.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

_HOST: Final = "127.0.0.1"


def _tuspyserver(port: int, folder: str, loop: str) -> None:
    import fastapi
    import tuspyserver
    import uvicorn

    app = fastapi.FastAPI()
    app.include_router(tuspyserver.create_tus_router(prefix="files", files_dir=folder))
    uvicorn.run(app, host=_HOST, port=port, loop=loop, access_log=False)


def _aiohttp_tus(port: int, folder: str, loop: str) -> None:
    import aiohttp_tus
    from aiohttp import web

    # It reads a whole PATCH into memory, and 0 is no limit for that.
    app = aiohttp_tus.setup_tus(web.Application(client_max_size=0), upload_path=Path(folder), upload_url="/files/")
    web.run_app(app, host=_HOST, port=port, access_log=None)


_PEERS: Final[Mapping[str, Callable[[int, str, str], None]]] = {
    "tuspyserver": _tuspyserver,
    "aiohttp-tus": _aiohttp_tus,
}


if __name__ == "__main__":
    _PEERS[sys.argv[1]](int(sys.argv[2]), sys.argv[3], sys.argv[4])
