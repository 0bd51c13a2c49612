"""Google Cloud Storage names every object by a version id, also where a bucket keeps no versions."""

from __future__ import annotations

import pytest

import trove_async as trove
from tests.gcs.conftest import server  # noqa: F401 - a fixture
from tests.gcs.stores import opened
from tests.quota.truth import AMPLE, held, layers, quota_of, used
from trove_async.layers.quota.looking import Looker
from trove_async.testing.gcs import GCSServer

pytestmark = pytest.mark.asyncio


async def test_version_ids_without_versions(server: GCSServer, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    looks: list[str] = []
    look = Looker.object

    async def counted(self: Looker, bucket: str, key: str, *, versions: bool) -> tuple[int, int]:
        looks.append(key)
        return await look(self, bucket, key, versions=versions)

    monkeypatch.setattr(Looker, "object", counted)
    async with (
        opened(server) as plain,
        trove.open(plain.driver, layers=layers({"files": trove.QuotaLimit(bytes=100), "kept": AMPLE}, None)) as t,
    ):
        for bucket in ("files", "kept"):
            await t.create_bucket(bucket)
        await t.set_versioning("kept", True)
        for size in (10, 30, 20):
            await t.put("files", "a", b"x" * size)
            await t.put("kept", "a", b"x" * size)
        await t.copy("files", "a", "files", "c")
        with pytest.raises(trove.QuotaExceededError):
            await t.put("files", "c", b"x" * 81)
        await t.delete("files", "a")
        await t.delete("kept", "a")
        assert await used(t, "files") == (20, 1) == await held(plain, "files")
        assert await used(t, "kept") == (60, 3) == await held(plain, "kept")
        assert looks == ["a"]  # after the first object that was written
        before = await quota_of(t).usage()
        assert await quota_of(t).recount() == before
        first = (await t.list_versions("kept", "a"))[-1]
        await t.restore_version("kept", "a", first.version_id)
        await t.delete_version("kept", "a", first.version_id)
        assert await used(t, "kept") == await held(plain, "kept")
