"""A server of resumable uploads, with a page that uses it.

::

    python -m examples.tus_server                                     # files go to ./uploads
    python -m examples.tus_server --dsn 's3://…/bucket' --port 8080 --max-size 10000000000 --token SECRET
    python -m examples.tus_server --workers 4 --locks ./locks         # processes of one machine
    python -m examples.tus_server --workers 4 --database postgresql://…  # or of several machines

Uploads are created at ``/files/``; the page is at ``/``. It needs ``pip install 'trove-async[starlette,web]'``, or
``'trove-async[aiohttp]'`` for ``--server aiohttp``.
"""

from __future__ import annotations

import argparse
import hmac
import json
import mimetypes
import os
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import asdict, dataclass
from http.cookies import SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import trove_async as trove
from trove_async.uploads import Changes, Destination, FileLocker, Hooks, Request, TusApp, TusOptions, UploadEvent

if TYPE_CHECKING:
    from aiohttp import web
    from starlette.applications import Starlette

HOST: Final = "127.0.0.1"
BUCKET: Final = "uploads"  # unless the DSN names one
PAGE: Final = Path(__file__).with_name("tus_page")
SHUTDOWN_SECONDS: Final = 5  # for requests that are running; clients resume those that are cut off


class UploadHooks(Hooks):
    """What this application decides.

    Args:
        bucket: for the files.
        token: what clients must show; empty if everybody may upload.
    """

    def __init__(self, bucket: str, token: str) -> None:
        self._bucket = bucket
        self._token = token

    async def authorize(self, event: UploadEvent) -> None:
        """Check each request. An application with users also compares ``event.info.owner``."""
        if self._token and not hmac.compare_digest(token_of(event.request).encode(), self._token.encode()):
            raise trove.UploadRejectedError("open the page at the address that the server prints", status_code=401)

    async def before_create(self, event: UploadEvent) -> Changes:
        """Choose where the file goes, and with which content type."""
        name = file_name(event.info.metadata.text("filename", ""))
        content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        destination = Destination.of(self._bucket, f"{event.info.id}/{name}", content_type=content_type)
        # An application with quotas also gives max_size: what is left for this user.
        return Changes(destination=destination)


def token_of(request: Request) -> str:
    """Return the token in the Authorization header of a client, or in the cookie of the page."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token
    cookie = SimpleCookie(request.headers.get("cookie", "")).get("token")
    return "" if cookie is None else cookie.value


def file_name(said: str) -> str:
    """Return a client's name of a file without folders and control characters, at most 100 characters long."""
    name = re.split(r"[/\\]", said)[-1]
    return re.sub(r"[\x00-\x1f\x7f]", "_", name).strip(". ")[-100:] or "file"


@dataclass(frozen=True)
class Options:
    """Options of the server; see ``--help``."""

    dsn: str
    max_size: int | None = None
    token: str = ""
    locks: str | None = None
    database: str | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[trove.Trove, TusOptions]]:
        """Open the store, which belongs to the running loop, and return it with the options of the uploads."""
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(trove.open(self.dsn))
            bucket = store.driver.default_bucket or BUCKET
            await store.create_bucket(bucket, exist_ok=True)
            locker = await stack.enter_async_context(aclosing(FileLocker(self.locks))) if self.locks else None
            yield (
                store,
                TusOptions(
                    bucket=bucket,
                    max_size=self.max_size,
                    hooks=UploadHooks(bucket, self.token),
                    locker=locker,
                    database=self.database,
                ),
            )


def create_asgi_app(options: Options) -> Starlette:
    """Return the application for ASGI servers. With FastAPI it is the same."""
    from starlette.applications import Starlette
    from starlette.staticfiles import StaticFiles

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with options.opened() as (store, chosen), TusApp(store, **chosen) as uploads:
            app.mount("/files", uploads)
            app.mount("/", StaticFiles(directory=PAGE, html=True))
            yield

    return Starlette(lifespan=lifespan)


async def create_aiohttp_app(options: Options) -> web.Application:
    """Return the application for aiohttp; it belongs to the running loop."""
    from aiohttp import web

    from trove_async.uploads.aiohttp import tus_application

    async def index(_: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGE / "index.html")

    async def close(_: web.Application) -> None:
        await stack.aclose()

    stack = AsyncExitStack()
    store, chosen = await stack.enter_async_context(options.opened())
    app = web.Application()
    app.on_cleanup.append(close)
    app.add_subapp("/files", tus_application(store, **chosen))
    app.router.add_get("/", index)
    app.router.add_static("/", PAGE)
    return app


ENVIRONMENT: Final = "TUS_SERVER_OPTIONS"
"""Hands the options to the workers of a server."""


def worker_app() -> Starlette:
    """Return the application of a worker."""
    return create_asgi_app(Options(**json.loads(os.environ[ENVIRONMENT])))


def serve(server: str, port: int, workers: int, options: Options) -> None:
    """Serve until the process is stopped."""
    os.environ[ENVIRONMENT] = json.dumps(asdict(options))
    app = "examples.tus_server:worker_app"
    if server == "uvicorn":
        import uvicorn

        uvicorn.run(
            app, factory=True, host=HOST, port=port, workers=workers, timeout_graceful_shutdown=SHUTDOWN_SECONDS
        )
    elif server == "hypercorn":
        from hypercorn.config import Config
        from hypercorn.run import run

        config = Config()
        config.application_path = f"{app}()"
        config.bind = [f"{HOST}:{port}"]
        config.workers = workers if workers > 1 else 0  # 0: in this process
        config.graceful_timeout = SHUTDOWN_SECONDS
        run(config)
    elif server == "granian":
        from granian import Granian
        from granian.constants import Interfaces

        Granian(
            app,
            factory=True,
            interface=Interfaces.ASGI,
            address=HOST,
            port=port,
            workers=workers,
            workers_kill_timeout=SHUTDOWN_SECONDS,
        ).serve()
    else:
        from aiohttp import web

        web.run_app(create_aiohttp_app(options), host=HOST, port=port, shutdown_timeout=SHUTDOWN_SECONDS)


def main() -> None:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser(prog="python -m examples.tus_server", description="Serve resumable uploads.")
    here = f"local://{quote(str(Path('uploads').absolute()))}?create=1"
    parser.add_argument("--dsn", default=here, help="the store; default: ./uploads")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--max-size", type=int, metavar="BYTES", help="of an upload; default: no limit")
    parser.add_argument("--token", default="", help="what clients must show; default: everybody may upload")
    parser.add_argument("--server", choices=["uvicorn", "hypercorn", "granian", "aiohttp"], default="uvicorn")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--locks", metavar="FOLDER", help="for the locks of several processes of one machine")
    parser.add_argument("--database", metavar="URL", help="of PostgreSQL, for the locks of several machines")
    given = parser.parse_args()
    parsed = trove.parse_dsn(given.dsn) if "://" in given.dsn else None
    if parsed and parsed.scheme in ("local", "file") and Path(parsed.path or "/").resolve() == Path("/"):
        parser.error("this store is the root of the file system; name a folder, as in local:///srv/uploads")
    if not re.fullmatch(r"[A-Za-z0-9_-]*", given.token):
        parser.error("the token has letters, digits, '-' and '_' only")
    if given.locks and given.database:
        parser.error("give --locks or --database")
    if given.workers > 1 and not (given.locks or given.database):
        parser.error("several workers need --locks or --database")
    if given.workers > 1 and given.server == "aiohttp":
        parser.error("aiohttp's server has no workers: start it several times, on different ports")
    print(f"http://{HOST}:{given.port}/{'#' if given.token else ''}{given.token}", flush=True)
    options = Options(given.dsn, given.max_size, given.token, given.locks, given.database)
    serve(given.server, given.port, given.workers, options)


if __name__ == "__main__":
    main()
