"""Random writes, failures, restarts and repairs: in the end all members are equal, and as the model allows."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import trove_async
from tests.mirror.stores import Members, driver_of
from trove_async import Trove
from trove_async.errors import ObjectNotFoundError, PreconditionFailedError, TroveError, UnavailableError
from trove_async.testing.faults import Fault

KEYS = ["a", "a/b"]
NAMES = ["0", "1", "2"]

keys = st.sampled_from(KEYS)
names = st.sampled_from(NAMES)
steps = st.one_of(
    st.tuples(st.sampled_from(["put", "stream", "create", "delete", "delete_if_match"]), keys),
    st.tuples(st.sampled_from(["stop", "start", "lose", "refuse", "break"]), names),
    st.tuples(st.sampled_from(["restart", "repair", "scrub", "list", "read"]), keys),
)


class Model:
    """What each key may hold: one value, or several after a write whose outcome is unknown; None for no object."""

    def __init__(self) -> None:
        self.possible: dict[str, set[bytes | None]] = {key: {None} for key in KEYS}

    def wrote(self, key: str, value: bytes | None) -> None:
        self.possible[key] = {value}

    def may_have_written(self, key: str, value: bytes | None) -> None:
        self.possible[key].add(value)


class Run:
    """One history, on three members."""

    def __init__(self, folder: Path) -> None:
        self.members = Members(folder)
        self.model = Model()
        self.count = 0
        self.t: Trove

    async def open(self) -> None:
        self.t = await trove_async.open(self.members.mirror(test_every=0.001))

    async def write(self, name: str, key: str) -> None:
        self.count += 1
        data = b"%d" % self.count
        value = None if name.startswith("delete") else data
        try:
            if name == "put":
                await self.t.put("b", key, data)
            elif name == "stream":
                await self.t.put("b", key, iter([b"", data]))
            elif name == "create":
                await self.t.put("b", key, data, if_none_match="*")
            else:
                etag = (await self.t.head("b", key)).etag if name == "delete_if_match" else None
                await self.t.delete("b", key, if_match=etag)
        except PreconditionFailedError:
            assert self.model.possible[key] != {None}
        except ObjectNotFoundError:
            assert None in self.model.possible[key]
        except TroveError as error:
            if error.ambiguous:
                self.model.may_have_written(key, value)
        else:
            self.model.wrote(key, value)

    async def read(self, key: str) -> None:
        try:
            assert await self.t.read("b", key) in self.model.possible[key]
        except ObjectNotFoundError:
            assert None in self.model.possible[key]
        except UnavailableError:
            pass

    async def list(self) -> None:
        try:
            found = {item.key async for item in self.t.list("b")}
        except UnavailableError:
            return
        for key, possible in self.model.possible.items():
            assert None in possible if key not in found else possible != {None}

    def fail(self, name: str, member: str) -> None:
        faults = self.members.faults[member]
        if name == "stop":
            self.members.stop(member)
        elif name == "start":
            self.members.start(member)
        elif name == "lose":  # the next write is carried out, and its answer is lost
            faults.add(*(Fault(op, error=UnavailableError(), when="after") for op in ("put", "delete")))
        elif name == "refuse":
            faults.add(*(Fault(op, error=UnavailableError()) for op in ("put", "delete", "head", "get")))
        else:
            faults.add(Fault("put", reset_after=0))

    async def step(self, name: str, argument: str) -> None:
        if name in ("put", "stream", "create", "delete", "delete_if_match"):
            await self.write(name, argument)
        elif name == "read":
            await self.read(argument)
        elif name == "list":
            await self.list()
        elif name == "repair":
            await driver_of(self.t).repair()
        elif name == "scrub":
            with suppress(UnavailableError):
                await driver_of(self.t).scrub("b")
        elif name == "restart":
            await self.t.aclose()
            await self.open()
        else:
            self.fail(name, argument)

    async def settle(self) -> None:
        """Let all members work, and repair until nothing is left."""
        self.members.start(*self.members.names)
        await self.t.aclose()
        await self.open()
        driver = driver_of(self.t)
        for _ in range(3):
            await driver.repair()
        assert await driver.status() == {}
        for key, possible in self.model.possible.items():
            copies = await self.members.copies(key)
            assert copies == copies[:1] * 3
            assert copies[0] in possible
            await self.read(key)
        assert (await driver.scrub("b")).queued == 0


async def history(plan: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder))
        await run.open()
        try:
            await run.t.create_bucket("b")
            for name, argument in plan:
                await run.step(name, argument)
            await run.settle()
        finally:
            await run.t.aclose()


@pytest.mark.parametrize("examples", [15, pytest.param(500, marks=pytest.mark.long)])
def test_all_members_are_equal_in_the_end(examples: int) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=[*HealthCheck], print_blob=True)
    @given(st.lists(steps, min_size=5, max_size=25))
    def run(plan: list[tuple[str, str]]) -> None:
        asyncio.run(history(plan))

    run()
