"""Two servers of the same uploads, each with its own store and locker, as in two processes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import trove_async as trove
from tests.database.conftest import postgres, postgres_url  # noqa: F401 - fixtures
from tests.uploads.serving import serving
from tests.uploads.web.talking import BYTES, TUS, peer
from trove_async.uploads import FileLocker, Hooks, TusApp, TusOptions, UploadEvent

pytestmark = pytest.mark.asyncio


class Watching(Hooks):
    """Learns that bytes have arrived."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()

    async def on_progress(self, event: UploadEvent) -> None:
        if event.info.offset >= 4:
            self.arrived.set()


@pytest.mark.parametrize("kind", ["files", "postgresql"])
async def test_a_request_to_one_server_takes_over_from_a_stalled_one_of_the_other(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "root").mkdir()
    dsn = f"local://{tmp_path}/root?fsync=0"

    lockers: list[FileLocker] = []

    def options() -> TusOptions:
        if kind == "files":
            lockers.append(FileLocker(tmp_path / "locks"))
            return {"bucket": "uploads", "locker": lockers[-1]}
        return {"bucket": "uploads", "database": request.getfixturevalue("postgres_url")}

    hooks = Watching()
    async with trove.open(dsn) as store, trove.open(dsn) as same:
        await store.create_bucket("uploads")
        watched: TusOptions = {**options(), "hooks": hooks, "progress_seconds": 0.001}
        first, second = TusApp(store, **watched), TusApp(same, **options())
        async with (
            serving("uvicorn", first) as port,
            serving("uvicorn", second) as other_port,
            peer(port) as stalled,
            peer(other_port) as client,
        ):
            created = await client.ask("POST", "/", {**TUS, "Upload-Length": "10"}, b"")
            path = created.headers["location"]
            await stalled.send("PATCH", path, {**BYTES, "Upload-Offset": "0", "Content-Length": "10"}, b"0123")
            await hooks.arrived.wait()
            said = await client.ask("PATCH", path, {**BYTES, "Upload-Offset": "4"}, b"456789")
            assert (said.status, said.headers["upload-offset"]) == (204, "10")
            assert (await stalled.answer()).status == 423
            assert (await client.ask("GET", path)).body == b"0123456789"
    for locker in lockers:
        await locker.aclose()
