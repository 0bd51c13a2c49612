"""Random operations: after each, references equal names, and a blob exists exactly while it should."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

import trove_async
from tests.managed.state import BUCKET, age, check, live, rows, sha384
from trove_async import managed
from trove_async.database import connect
from trove_async.errors import (
    BodySizeError,
    ObjectNotFoundError,
    RequestExpiredError,
    ResourceAlreadyExistsError,
    ResourceDeletedError,
    ResponseMismatchError,
    UploadPendingError,
)
from trove_async.managed import ManagedResource, ManagedStorage, RequestResponse, new_put_response
from trove_async.managed.names import for_all, for_bucket, for_user
from trove_async.managed.schema import State
from trove_async.managed.transitions import doom, erase

CONTENTS = [b"", b"a", b"bb", b"c" * 9000]
contents = st.sampled_from(CONTENTS)
paths = st.sampled_from(["p", "q"])
owners = st.sampled_from(["bucket", "user", "all"])
requested = st.lists(st.tuples(owners, paths, contents), min_size=1, max_size=8)


class Operations(RuleBasedStateMachine):
    """Managed storage in two processes, and what its names should have."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self.names: dict[ManagedResource, bytes] = {}
        self.held: Counter[bytes] = Counter()
        self.pending: dict[bytes, tuple[str, int]] = {}
        self.requests: list[tuple[ManagedResource, bytes, str, RequestResponse]] = []
        self.count = 0
        self.do(self._open())

    async def _open(self) -> None:
        self.store = await trove_async.open("memory://")
        await self.store.create_bucket(BUCKET)
        self.db = await connect(self.url)
        space = uuid.uuid4().hex
        self.both = [
            ManagedStorage(managed.ResourceCatalog(self.db, space), managed.StoreResourceStorage(self.store, BUCKET))
            for _ in range(2)
        ]

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)

    def teardown(self) -> None:
        self.do(self.db.aclose())
        self.do(self.store.aclose())
        self._loop.close()

    @property
    def m(self) -> ManagedStorage:
        """One of the processes, in turn."""
        self.count += 1
        return self.both[self.count % 2]

    def call(self, verb: str, owner: str, *args: Any, **kwargs: Any) -> Any:
        first = () if owner == "all" else ("x",)
        return getattr(self.m, verb.replace("OWNER", owner))(*first, *args, **kwargs)

    @staticmethod
    def name(owner: str, path: str) -> ManagedResource:
        return {"bucket": for_bucket("x", path), "user": for_user("x", path), "all": for_all(path)}[owner]

    def stored(self, content: bytes) -> None:
        """Content that was pending is stored now, with the references of its writers."""
        if content in self.pending:
            self.held[content] += self.pending.pop(content)[1]

    @rule(wanted=requested)
    def put(self, wanted: list[tuple[str, str, bytes]]) -> None:
        """At the same time; names and contents repeat."""
        last = {self.name(owner, path): data for owner, path, data in wanted}
        distinct = [(owner, path, data) for owner, path, data in wanted if last[self.name(owner, path)] is data]

        async def together() -> None:
            await asyncio.gather(*(self.call("put_for_OWNER", owner, path, data) for owner, path, data in distinct))

        self.do(together())
        for _, _, data in distinct:
            self.stored(data)
        self.names.update(last)

    @rule(owner=owners, path=paths, data=contents)
    def put_with_a_wrong_length(self, owner: str, path: str, data: bytes) -> None:
        with pytest.raises(BodySizeError):
            self.do(self.call("put_for_OWNER", owner, path, data, len(data) + 1))

    @rule(owner=owners, path=paths)
    def remove(self, owner: str, path: str) -> None:
        there = self.names.pop(self.name(owner, path), None) is not None
        try:
            self.do(self.call("remove_for_OWNER", owner, path))
        except ObjectNotFoundError:
            assert not there
        else:
            assert there

    @rule(data=contents)
    def announce(self, data: bytes) -> None:
        id, path = self.do(self.m.catalogue.put(sha384(data), len(data)))
        if path:
            assert data in self.live()
            self.held[data] += 1
        else:
            _, references = self.pending.get(data, (id, 0))
            self.pending[data] = id, references + 1

    @rule(data=contents)
    def complete(self, data: bytes) -> None:
        id, references = self.pending.get(data, ("", 0))
        if not references:
            return
        m = self.m
        path = f"mine/{self.count}"
        self.do(m.storage.put(path, data))
        self.do(m.catalogue.upload_complete(id, path))
        self.stored(data)
        with pytest.raises(ResourceAlreadyExistsError):
            self.do(m.catalogue.upload_complete(self.do(m.catalogue.find(sha384(data))), "again"))

    @rule(data=contents)
    def withdraw(self, data: bytes) -> None:
        if data in self.pending:
            id, references = self.pending[data]
            if not references:  # its writers are dead
                return
            del self.pending[data]
            if references > 1:
                self.pending[data] = id, references - 1
        elif self.held[data]:
            id = self.do(self.m.catalogue.find(sha384(data)))
            self.held[data] -= 1
        else:
            return
        deleted, _ = self.do(self.m.catalogue.remove(id))
        assert deleted == (data not in self.live() and data not in self.pending)

    @rule(owner=owners, path=paths, data=contents)
    def ask(self, owner: str, path: str, data: bytes) -> None:
        caller = f"caller {self.count}"
        request = self.call("put_for_OWNER_request", owner, path, sha384(data), caller=caller)
        try:
            self.requests.append((self.name(owner, path), data, caller, self.do(request)))
        except trove_async.NotFoundError:
            assert data not in self.live()
        except UploadPendingError:
            assert data in self.pending

    @precondition(lambda self: self.requests)
    @rule(right=st.booleans())
    def answer(self, right: bool) -> None:
        name, data, caller, request = self.requests.pop()
        response = self.do(new_put_response(request, data))
        if not right:
            with pytest.raises(ResponseMismatchError):
                self.do(self.m.proof_of_access_response(managed.PutResponse(response.request_id, "0"), caller=caller))
        try:
            self.do(self.m.proof_of_access_response(response, caller=caller))
        except ResourceDeletedError:
            assert data not in self.live()
        except UploadPendingError:
            assert data in self.pending
        else:
            self.names[name] = data

    @rule()
    def time_passes(self) -> None:
        """The writers of pending content are dead, and requests have ended."""
        self.do(age(self.m, 1000))
        for _, data, caller, request in self.requests:
            with pytest.raises(RequestExpiredError):
                self.do(self.m.proof_of_access_response(self.do(new_put_response(request, data)), caller=caller))
        self.requests.clear()
        self.pending = {data: (id, 0) for data, (id, _) in self.pending.items()}

    @rule()
    def sweep(self) -> None:
        async def run() -> None:
            m = self.m
            database, space = m.catalogue.database, m.catalogue.space
            ids = [blob.id for blob in (await rows(m)).blobs if blob.state == State.CONDEMNED]
            for doomed in await database.write(lambda connection: doom(connection, space, ids, grace=0)):
                await m.storage.remove(doomed.key)
            await database.write(lambda connection: erase(connection, space, ids))
            assert len((await rows(m)).blobs) == len(await live(m))

        self.do(run())

    def live(self) -> set[bytes]:
        """Return the content that must be stored."""
        return {*self.names.values(), *(+self.held)}

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        async def run() -> None:
            m = self.both[0]
            await check(m)
            found = await live(m)
            is_stored = {blob.digest for blob in found if blob.state == State.STORED}
            assert is_stored == {sha384(data) for data in self.live()}
            assert {blob.digest for blob in found} - is_stored == {sha384(data) for data in self.pending}
            links = (await rows(m)).links
            digests = {blob.id: blob.digest for blob in found}
            names = {ManagedResource(link.bucket, link.user, link.path): digests[link.blob] for link in links}
            assert names == {name: sha384(data) for name, data in self.names.items()}

        self.do(run())


@pytest.mark.parametrize("examples", [10, pytest.param(300, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_model_holds(request: pytest.FixtureRequest, kind: str, examples: int) -> None:
    Operations.url = request.getfixturevalue("sqlite_url" if kind == "sqlite" else "migrated_postgres")
    chosen = settings(max_examples=examples, stateful_step_count=25, deadline=None)
    run_state_machine_as_test(Operations, settings=chosen)
