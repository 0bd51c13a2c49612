"""A file service that stays useful while its backend is down: ``python -m examples.resilient_service``.

Without arguments it starts the service on memory, breaks the backend, repairs it, prints what a client gets meanwhile,
and ends. With a DSN it serves:

::

    python -m examples.resilient_service 'local:///srv/data?create=1' --outage 20
    curl -T photo.jpg http://127.0.0.1:8080/files/photo.jpg
    curl -i http://127.0.0.1:8080/files/photo.jpg
    curl -i http://127.0.0.1:8080/health
    curl http://127.0.0.1:8080/metrics

``--outage 20`` lets the backend fail for the last 20 seconds of each minute. The service needs ``pip install
'trove-async[aiohttp,prometheus]'``, and ``local`` for local files.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from math import ceil

import aiohttp
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

import trove_async as trove
from trove_async.driver import Driver, HeadOptions
from trove_async.testing.faults import Fault, Faults
from trove_async.web.aiohttp import ObjectResponse, error_middleware, receive

BUCKET = "files"
MAX_UPLOAD = 1024**3
STORE = web.AppKey("STORE", trove.Trove)
BREAKER = web.AppKey("BREAKER", trove.CircuitBreaker)
REGISTRY = web.AppKey("REGISTRY", CollectorRegistry)

# Nobody waits here for a backend that is down or throttles: the client does, as Retry-After says.
RETRY = trove.Retry(
    attempts=3,
    transport=trove.Backoff(0.05, 1, patience=0.2),
    throttled=trove.Backoff(0.2, 2, patience=0.2),
)

routes = web.RouteTableDef()


def layers(breaker: trove.CircuitBreaker, registry: CollectorRegistry) -> list[trove.Layer]:
    """Return the layers of the service, innermost first."""
    return [
        trove.Limit(64, adaptive=True),  # as many operations at once as the backend takes
        breaker,  # refuses at once while the backend is down
        trove.Timeout(attempt=5, idle=10),  # no attempt hangs
        trove.Hedge(),  # a read that is late is begun once more
        RETRY,  # what failed for a moment is tried again
        trove.Cache(64 * 1024**2, ttl=30),  # what was read lately needs no backend
        trove.Prometheus(registry),  # observes what the clients of the service get
    ]


@routes.put("/files/{key:.+}")
async def upload(request: web.Request) -> web.StreamResponse:
    info = await receive(request, request.app[STORE], BUCKET, request.match_info["key"], max_size=MAX_UPLOAD)
    return web.json_response({"key": info.key, "size": info.size, "etag": info.etag}, status=201)


@routes.get("/files/{key:.+}")
async def download(request: web.Request) -> web.StreamResponse:
    """Serve an object; `error_middleware` answers 503 with ``Retry-After`` while the breaker refuses."""
    return ObjectResponse(request.app[STORE], BUCKET, request.match_info["key"], disposition="attachment")


@routes.get("/health")
async def health(request: web.Request) -> web.StreamResponse:
    """Tell a load balancer whether to send requests here; it asks the breaker, and not the backend.

    The breaker needs a prober for this: a service that gets no requests makes no call that could find out that the
    backend works again. An open circuit is no reason to restart the process: that does not repair the backend, and
    empties the cache.
    """
    breaker = request.app[BREAKER]
    healthy = breaker.state == "closed"
    found = {
        "backend": breaker.state,
        "down_for": round(breaker.open_time),
        "error": breaker.error and str(breaker.error),
    }
    headers = {} if healthy else {"Retry-After": str(ceil(breaker.retry_after or 1))}
    return web.json_response(found, status=200 if healthy else 503, headers=headers)


@routes.get("/metrics")
async def metrics(request: web.Request) -> web.StreamResponse:
    return web.Response(body=generate_latest(request.app[REGISTRY]), content_type="text/plain")


def create_app(dsn: str, breaker: trove.CircuitBreaker, outage: Faults) -> web.Application:
    async def open_store(app: web.Application) -> AsyncIterator[None]:
        async with trove.open(dsn, layers=[outage, *layers(breaker, app[REGISTRY])]) as store:
            with suppress(trove.TransientError):  # an outage is no reason not to start
                await store.create_bucket(BUCKET, exist_ok=True)
            app[STORE] = store
            yield

    app = web.Application(middlewares=[error_middleware])
    app[BREAKER] = breaker
    app[REGISTRY] = CollectorRegistry()
    app.cleanup_ctx.append(open_store)
    app.add_routes(routes)
    return app


async def look(driver: Driver) -> None:
    """Test the backend while the breaker is open; that the object is missing is an answer too."""
    await driver.head(BUCKET, "health", HeadOptions())


def begin(outage: Faults) -> None:
    outage.add(Fault("*", error=trove.UnavailableError("the backend does not answer"), times=None))


class Clock:
    """The clock of the breaker, which the demonstration moves so that nobody has to wait."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def demonstrate() -> None:
    logging.getLogger("trove_async").setLevel(logging.CRITICAL)  # the answers are printed instead
    clock, outage = Clock(), Faults()
    breaker = trove.CircuitBreaker(BUCKET, clock=clock)  # without a prober, which would not see the clock move
    runner = web.AppRunner(create_app("memory://", breaker, outage), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession(f"http://{host}:{port}") as client:
            await show(client, outage, clock)
    finally:
        await runner.cleanup()


async def show(client: aiohttp.ClientSession, outage: Faults, clock: Clock) -> None:
    async def ask(method: str, path: str, data: bytes | None = None) -> float:
        """Print the answer to a request; return the seconds of its Retry-After."""
        async with client.request(method, path, data=data) as answer:
            text = (await answer.text()).strip()
            wait = answer.headers.get("Retry-After")
            after = f", Retry-After: {wait}" if wait else ""
            print(f"  {method} {path}: {answer.status}{after} {text}")
            return float(wait or 0)

    print("The backend works:")
    for name in ("read.txt", "unread.txt"):
        await ask("PUT", f"/files/{name}", b"content")
    await ask("GET", "/files/read.txt")
    await ask("GET", "/health")

    print("The backend is down. A few attempts fail, then the breaker opens, and calls send nothing:")
    begin(outage)
    for _ in range(3):
        await ask("GET", "/files/unread.txt")
    await ask("PUT", "/files/new.txt", b"content")
    print(f"  attempts that have reached the backend: {len(outage.injected)}")
    print("What was read lately is served from the cache, and the health says what is the matter:")
    await ask("GET", "/files/read.txt")
    wait = await ask("GET", "/health")

    print("The backend is repaired. After Retry-After the next call finds that out:")
    outage.clear()
    clock.now += wait
    await ask("GET", "/files/unread.txt")
    await ask("PUT", "/files/new.txt", b"content")
    await ask("GET", "/health")

    print("Prometheus counts:")
    async with client.get("/metrics") as answer:
        for line in (await answer.text()).splitlines():
            if line.startswith(("trove_circuit_transitions_total", "trove_retries_total")):
                print(f"  {line}")


async def fail_each_minute(outage: Faults, seconds: float) -> None:
    while True:
        await asyncio.sleep(60 - seconds)
        begin(outage)
        await asyncio.sleep(seconds)
        outage.clear()


def serve(dsn: str, seconds: float) -> None:
    outage = Faults()
    app = create_app(dsn, trove.CircuitBreaker(BUCKET, prober=look), outage)

    async def break_down(app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(fail_each_minute(outage, seconds))
        yield
        task.cancel()

    if seconds:
        app.cleanup_ctx.append(break_down)
    web.run_app(app, host="127.0.0.1")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m examples.resilient_service")
    parser.add_argument("dsn", nargs="?", help="the store to serve; without it, a demonstration on memory")
    parser.add_argument("--outage", type=float, default=0, metavar="SECONDS", help="of each minute (default: 0)")
    arguments = parser.parse_args()
    if arguments.dsn is None:
        asyncio.run(demonstrate())
    else:
        serve(arguments.dsn, arguments.outage)
