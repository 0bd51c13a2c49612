"""Random operations: after each the books are what a count of everything finds."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

import trove_async as trove
from tests.quota.truth import held, layers, quota_of, used

KEYS = st.sampled_from(["t/a", "t/b", "u"])
SIZES = st.integers(0, 60)
LIMITS = {"b": trove.QuotaLimit(bytes=200, objects=6), "b/t/": trove.QuotaLimit(bytes=120)}


class Operations(RuleBasedStateMachine):
    """A store with a quota, and the same store without one."""

    uploads: Bundle[tuple[str, str]] = Bundle("uploads")

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self.store = self.do(self._open())

    async def _open(self) -> trove.Trove:
        store = await trove.open("memory://?min_part_size=1", layers=layers(LIMITS, None))
        await store.create_bucket("b")
        return store

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)

    def tried(self, *work: Coroutine[Any, Any, Any]) -> None:
        """Carry out operations at the same time, which may be refused."""

        async def each(one: Coroutine[Any, Any, Any]) -> None:
            with suppress(trove.QuotaExceededError, trove.NotFoundError, trove.InvalidPartError, trove.ConflictError):
                await one

        async def together() -> None:
            await asyncio.gather(*map(each, work))

        self.do(together())

    def teardown(self) -> None:
        self.do(self.store.aclose())
        self._loop.close()

    @initialize(versions=st.booleans())
    def begin(self, versions: bool) -> None:
        if versions:
            self.do(self.store.set_versioning("b", True))

    @rule(key=KEYS, size=SIZES)
    def put(self, key: str, size: int) -> None:
        self.tried(self.store.put("b", key, bytes(size)))

    @rule(key=KEYS, size=SIZES)
    def put_stream(self, key: str, size: int) -> None:
        self.tried(self.store.put("b", key, iter([b"x"] * size)))

    @rule(key=KEYS, sizes=st.lists(SIZES, max_size=4), deleted=st.booleans())
    def put_at_once(self, key: str, sizes: list[int], deleted: bool) -> None:
        deletion = [self.store.delete("b", key)] if deleted else []
        self.tried(*(self.store.put("b", key, bytes(size)) for size in sizes), *deletion)

    @rule(keys=st.lists(KEYS, min_size=1))
    def delete(self, keys: list[str]) -> None:
        self.tried(*(self.store.delete("b", key) for key in keys))

    @rule(keys=st.lists(KEYS, min_size=1, max_size=5))
    def delete_many(self, keys: list[str]) -> None:
        async def delete() -> None:
            await self.store.delete_many("b", keys)

        self.do(delete())

    @rule(source=KEYS, destination=KEYS)
    def copy(self, source: str, destination: str) -> None:
        self.tried(self.store.copy("b", source, "b", destination))

    @rule(enabled=st.booleans())
    def set_versioning(self, enabled: bool) -> None:
        self.do(self.store.set_versioning("b", enabled))

    @rule(key=KEYS, n=st.integers(0, 5), restored=st.booleans())
    def use_version(self, key: str, n: int, restored: bool) -> None:
        versions = self.do(self.store.list_versions("b", key))
        if n < len(versions):
            version = versions[n].version_id
            use = self.store.restore_version if restored else self.store.delete_version
            self.tried(use("b", key, version))

    @rule(target=uploads, key=KEYS)
    def initiate(self, key: str) -> tuple[str, str]:
        return key, self.do(self.store.initiate_multipart("b", key))

    @rule(upload=uploads, number=st.integers(1, 3), size=SIZES)
    def upload(self, upload: tuple[str, str], number: int, size: int) -> None:
        self.tried(self.store.upload_part("b", *upload, number, bytes(size)))

    @rule(upload=consumes(uploads), number=st.integers(0, 3))
    def complete(self, upload: tuple[str, str], number: int) -> None:
        parts = self.do(self.store.list_parts("b", *upload))
        if parts:
            self.tried(self.store.complete_multipart("b", *upload, parts[: number + 1]))
        else:
            self.tried(self.store.abort_multipart("b", *upload))

    @invariant()
    def the_books_are_right(self) -> None:
        for name, prefix in (("b", ""), ("b/t/", "t/")):
            found = self.do(used(self.store, name))
            assert found == self.do(held(self.store, prefix=prefix))
            limit = LIMITS[name]
            assert limit.bytes is None or found[0] <= limit.bytes
            assert limit.objects is None or found[1] <= limit.objects

    @rule()
    def recount(self) -> None:
        before = self.do(quota_of(self.store).usage())
        assert self.do(quota_of(self.store).recount()) == before


TestOperations = Operations.TestCase
TestOperations.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
