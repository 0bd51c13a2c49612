"""A photo service for tenants, on FastAPI: each photo is stored once, and one that is known is not sent again.

::

    python -m examples.photo_service serve 'local:///srv/photos?create=1' sqlite:////srv/photos.db
    python -m examples.photo_service send http://127.0.0.1:8000 token-of-anna holiday.jpg
    python -m examples.photo_service send http://127.0.0.1:8000 token-of-bert holiday.jpg   # sends no photo

Before it sends a photo, a client asks for it by its SHA-384. If the service has it, the client proves that it has the
photo too, by a digest of random parts: whoever knows only the SHA-384 gets nothing.

It needs ``pip install 'trove-async[fastapi,managed,web]'``; the client needs httpx.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import httpx
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Request, Response
from pydantic import BaseModel

import trove_async as trove
from trove_async.managed import ManagedInfo, ManagedStorage, PutResponse, RequestResponse, new_put_response
from trove_async.managed import open as open_managed
from trove_async.web.starlette import ReaderResponse, exception_handlers, receive_into

BUCKET = "photos"
MAX_SIZE = 100_000_000
"""Bytes of a photo; a longer one is answered with 413, and not stored."""

TENANTS = {"token-of-anna": "anna", "token-of-bert": "bert"}
"""Stands for the authentication of a real service."""

routes = APIRouter()


class Wanted(BaseModel):
    """What a client asks for, instead of sending it."""

    sha384: str


class Proof(BaseModel):
    """That a client has a photo."""

    request_id: str
    proof: str


def storage_of(request: Request) -> ManagedStorage:
    storage: ManagedStorage = request.app.state.storage
    return storage


def tenant_of(authorization: Annotated[str, Header()] = "") -> str:
    tenant = TENANTS.get(authorization.removeprefix("Bearer "))
    if tenant is None:
        raise HTTPException(401, "who are you?", headers={"WWW-Authenticate": "Bearer"})
    return tenant


Storage = Annotated[ManagedStorage, Depends(storage_of)]
Tenant = Annotated[str, Depends(tenant_of)]


@routes.post("/requests/{name:path}")
async def request_photo(name: str, wanted: Wanted, storage: Storage, tenant: Tenant) -> dict[str, Any]:
    """Ask for a photo that the service may have; 404 if it has not, and the client sends it."""
    # The tenant is the caller: nobody else can answer, and nobody else's wrong answers count.
    found = await storage.put_for_bucket_request(tenant, name, wanted.sha384, caller=tenant)
    return {
        "request_id": found.request_id,
        "nonce": base64.b64encode(found.nonce).decode(),
        "ranges": found.ranges,
        "expires": found.expires,
    }


@routes.post("/proofs", status_code=204)
async def prove(proof: Proof, storage: Storage, tenant: Tenant) -> None:
    """Give the name of the request its photo, if the proof is right."""
    await storage.proof_of_access_response(PutResponse(proof.request_id, proof.proof), caller=tenant)


@routes.put("/photos/{name:path}", status_code=201)
async def upload(name: str, request: Request, storage: Storage, tenant: Tenant) -> dict[str, Any]:
    """Stream a photo into the store: if the client disconnects before the end, nothing is stored."""
    put = partial(storage.put_for_bucket, tenant, name)
    return described(await receive_into(request, put, max_size=MAX_SIZE))


@routes.api_route("/photos/{name:path}", methods=["GET", "HEAD"])
async def download(name: str, storage: Storage, tenant: Tenant) -> Response:
    """Send a photo as a download: its content is not trusted, so browsers must not show it as a page."""
    return ReaderResponse(partial(storage.get_for_bucket, tenant, name), name, disposition="attachment")


@routes.delete("/photos/{name:path}", status_code=204)
async def delete(name: str, storage: Storage, tenant: Tenant) -> None:
    """Forget a name. The photo goes when nobody has it any more, with the next `trove managed gc`."""
    await storage.remove_for_bucket(tenant, name)


@routes.get("/photos")
async def list_photos(
    storage: Storage,
    tenant: Tenant,
    prefix: str = "",
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[dict[str, Any]]:
    """List a page of photos; the next one is after the last name."""
    page: list[dict[str, Any]] = []
    async for info in storage.list_for_bucket(tenant, prefix, start_after=after, page_size=limit):
        page.append(described(info))
        if len(page) == limit:
            break
    return page


def described(info: ManagedInfo) -> dict[str, Any]:
    return {"name": info.resource.path, "size": info.length, "sha384": info.sha384, "type": info.content_type}


def create_app(dsn: str, database: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # A store belongs to the loop on which it is opened: here the server's.
        async with trove.open(dsn) as store:
            await store.create_bucket(BUCKET, exist_ok=True)
            async with open_managed(store, database=database, bucket=BUCKET) as storage:
                app.state.storage = storage
                yield

    app = FastAPI(title="Photos", lifespan=lifespan, exception_handlers=exception_handlers)
    app.include_router(routes)
    return app


async def send(client: httpx.AsyncClient, path: Path) -> bool:
    """Store a photo under the name of its file.

    Args:
        client: has the URL of the service and the authorization.
        path: of the photo.

    Returns:
        Whether the photo was sent; False if the service had it already.
    """
    size, sha384 = await asyncio.to_thread(measured, path)
    answer = await client.post(f"/requests/{path.name}", json={"sha384": sha384})
    if answer.is_success:
        asked = answer.json()
        request = RequestResponse(
            asked["request_id"],
            base64.b64decode(asked["nonce"]),
            tuple((start, length) for start, length in asked["ranges"]),
            datetime.fromisoformat(asked["expires"]),
        )
        response = await new_put_response(request, path)
        proof = {"request_id": response.request_id, "proof": response.proof}
        if (await client.post("/proofs", json=proof)).is_success:
            return False
    # The service does not know the photo, or has lost it meanwhile, or is asked too often.
    headers = {"Content-Length": str(size)}
    (await client.put(f"/photos/{path.name}", content=chunks_of(path), headers=headers)).raise_for_status()
    return True


async def chunks_of(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, 256 * 1024):
            yield chunk


def measured(path: Path) -> tuple[int, str]:
    """Return the size of a file in bytes, and its SHA-384."""
    with path.open("rb") as file:
        sha384 = hashlib.file_digest(file, "sha384").hexdigest()
        return file.tell(), sha384


async def main(url: str, token: str, path: str) -> None:
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}) as client:
        print("sent" if await send(client, Path(path)) else "known already; nothing was sent")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        uvicorn.run(create_app(*sys.argv[2:]))
    else:
        asyncio.run(main(*sys.argv[2:]))
