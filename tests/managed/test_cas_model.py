"""`cas` against a model: references, pins, and what a collection leaves."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import trove_async
from tests.managed.state import BUCKET
from trove_async.database import connect
from trove_async.errors import ChecksumError, NotFoundError
from trove_async.managed import cas

CONTENTS = [b"", b"a", b"bb", b"c" * 9000]
contents = st.sampled_from(CONTENTS)


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def _chunks(data: bytes) -> Any:
    yield data


class Contents(RuleBasedStateMachine):
    """A content-addressed store, and what it should have."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self.references: Counter[bytes] = Counter()
        self.pinned: set[bytes] = set()
        self.do(self._open())

    async def _open(self) -> None:
        self.store = await trove_async.open("memory://")
        await self.store.create_bucket(BUCKET)
        self.db = await connect(self.url)
        self.c = await cas(self.store, BUCKET, database=self.db, space=uuid.uuid4().hex)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)

    def teardown(self) -> None:
        self.do(self.db.aclose())
        self.do(self.store.aclose())
        self._loop.close()

    @property
    def kept(self) -> set[bytes]:
        return {*(+self.references), *self.pinned}

    @rule(wanted=st.lists(st.tuples(contents, st.booleans()), min_size=1, max_size=5))
    def put(self, wanted: list[tuple[bytes, bool]]) -> None:
        """At the same time, from memory and as streams."""

        async def together() -> list[str]:
            bodies = [data if in_memory else _chunks(data) for data, in_memory in wanted]
            return await asyncio.gather(*(self.c.store(body) for body in bodies))

        assert self.do(together()) == [digest_of(data) for data, _ in wanted]
        self.references.update(data for data, _ in wanted)

    @rule(data=contents)
    def release(self, data: bytes) -> None:
        try:
            self.do(self.c.release(digest_of(data)))
        except NotFoundError:
            assert self.references[data] == 0
        else:
            self.references[data] -= 1
            assert self.references[data] >= 0

    @rule(data=contents, on=st.booleans())
    def pin(self, data: bytes, on: bool) -> None:
        change = self.c.pin if on else self.c.unpin
        try:
            self.do(change(digest_of(data)))
        except NotFoundError:
            assert data not in self.kept
        else:
            assert data in self.kept
            (self.pinned.add if on else self.pinned.discard)(data)

    @rule()
    def collect(self) -> None:
        self.do(self.c.gc(grace=0, dry_run=False, force=True))
        found = self.do(self._bytes())
        assert sorted(found) == sorted(self.kept)

    @rule(data=contents)
    def corrupt(self, data: bytes) -> None:
        """Change the bytes of a content; it is found when they are read, and repaired when they are stored again."""
        if data not in self.kept or not data:
            return
        self.do(self._corrupt(data))
        with pytest.raises(ChecksumError):
            self.do(self._read(data))
        report = self.do(self.c.fsck(depth="bytes", repair=True))
        assert [problem.digest for problem in report.problems] == [f"sha256:{digest_of(data)}"]
        assert not self.do(self.c.exists(digest_of(data)))
        self.put([(data, True)])

    async def _corrupt(self, data: bytes) -> None:
        async for info in self.store.list(BUCKET):
            if await self.store.read(BUCKET, info.key) == data:
                await self.store.put(BUCKET, info.key, b"x" + data[1:])

    async def _bytes(self) -> list[bytes]:
        return [await self.store.read(BUCKET, info.key) async for info in self.store.list(BUCKET)]

    async def _read(self, data: bytes) -> bytes:
        async with self.c.retrieve(digest_of(data)) as reader:
            return await reader.read()

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        for data in CONTENTS:
            assert self.do(self.c.exists(digest_of(data))) == (data in self.kept)
            if data in self.kept:
                assert self.do(self._read(data)) == data
        found = self.do(self.c.stats())
        assert (found.blobs, found.references) == (len(self.kept), self.references.total())
        assert (found.bytes, found.pinned) == (sum(map(len, self.kept)), len(self.pinned))
        assert self.do(self.c.fsck(depth="heads")).problems == ()


@pytest.mark.parametrize("examples", [6, pytest.param(100, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_model_holds(request: pytest.FixtureRequest, kind: str, examples: int) -> None:
    Contents.url = request.getfixturevalue("sqlite_url" if kind == "sqlite" else "migrated_postgres")
    chosen = settings(max_examples=examples, stateful_step_count=15, deadline=None)
    run_state_machine_as_test(Contents, settings=chosen)
