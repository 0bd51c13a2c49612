"""Copies under every fault at every step: the phase, the class, the number of attempts, and what is stored after it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
import pytest_asyncio

import trove_async as trove
from tests.drivers.local_residue import residue_of
from trove_async import CopyPhase, is_copy_phase
from trove_async.driver import CopyOptions, Driver, Features, Limits, ObjectAttributes
from trove_async.layers import Call, LayerDriver, Operation
from trove_async.reader import ByteStream, ObjectReader
from trove_async.store.copies import copy_between
from trove_async.testing.faults import Fault, Faults
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere
from trove_async.testing.mock import MockDriver
from trove_async.transfers import Job, LocalFile, Result, StoredObject, Transfer
from trove_async.transfers import copy as transfer

pytestmark = pytest.mark.asyncio

R = TypeVar("R")
OLD, NEW = b"o" * 70_000, bytes(range(256)) * 274  # not the same size
MIDDLE = 30_000
READ, WRITE = CopyPhase.READ, CopyPhase.WRITE
DESCRIBED: dict[str, Any] = {
    "content_type": "text/x-source",
    "metadata": {"colour": "blå"},
    "tags": {"state": "done"},
    "cache_control": "max-age=60",
    "content_disposition": "inline",
    "content_encoding": "identity",
    "content_language": "nb",
}


class CopyWatch:
    """A layer that counts operations, calls a function before each, and has the backend copy nothing if told so."""

    def __init__(self, *, copies: bool) -> None:
        self.copies = copies
        self.counts: Counter[str] = Counter()
        self.before: Callable[[Operation], Awaitable[None]] | None = None

    def __call__(self, driver: Driver) -> Driver:
        return _Watched(driver, self)


class _Watched(LayerDriver):
    def __init__(self, inner: Driver, watch: CopyWatch) -> None:
        super().__init__(inner)
        self._watch = watch

    async def around(self, operation: Operation, call: Call[R]) -> R:
        self._watch.counts[operation.name] += 1
        if self._watch.before is not None:
            await self._watch.before(operation)
        if operation.name in ("copy", "server_copy") and not self._watch.copies:
            raise trove.CopyNotSupportedError
        return await call()


@dataclass
class Store:
    """A store with faults, and a second way to it that has none."""

    faulty: trove.Trove
    clean: trove.Trove
    faults: Faults
    watch: CopyWatch
    root: Path | None

    async def fill(self, source: bytes = NEW, **more: Any) -> None:
        await self.clean.put("b", "source", source, **DESCRIBED, **more)
        await self.clean.put("b", "target", OLD, content_type="text/x-old")

    async def target(self) -> bytes:
        return await self.clean.read("b", "target")

    async def copy(self, **arguments: Any) -> trove.ObjectInfo:
        return await self.faulty.copy("b", "source", "b", "target", **arguments)

    def residue(self) -> list[str]:
        return [] if self.root is None else residue_of(self.root)


@pytest_asyncio.fixture(params=["memory", "local"])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Store]]]:
    opened: list[trove.Trove] = []

    async def make(*, copies: bool) -> Store:
        root = tmp_path / "store" if request.param == "local" else None
        if root is not None:
            root.mkdir()
        dsn = f"memory://{tmp_path.name}-{id(tmp_path)}" if root is None else f"local://{root}?fsync=0"
        faults, watch = Faults(), CopyWatch(copies=copies)
        clean = await trove.open(dsn)
        opened.append(clean)
        faulty = await trove.open(dsn, layers=[watch, faults])
        opened.append(faulty)
        await clean.create_bucket("b")
        return Store(faulty, clean, faults, watch, root)

    yield make
    for store in opened:
        await store.aclose()


class Case:
    """A fault, and what the copy raises; None for a copy that succeeds."""

    def __init__(
        self,
        operation: str,
        raised: type[trove.TroveError] | None,
        phase: CopyPhase | None,
        *,
        is_new: bool = False,
        ambiguous: bool = False,
        **fault: Any,
    ) -> None:
        self.fault = Fault(operation, **fault)
        self.raised = raised
        self.phase = phase
        self.is_new = is_new
        self.ambiguous = ambiguous

    def __str__(self) -> str:
        shown = {
            name: value
            for name in ("key", "when", "reset_after", "truncate_after", "corrupt_at")
            if (value := getattr(self.fault, name)) is not None
        }
        return f"{self.fault.operation}-{'-'.join(map(str, shown.values()))}-{type(self.fault.error).__name__}"


def _at(operation: str, phase: CopyPhase, **place: Any) -> list[Case]:
    """Return a case for errors that keep their class, and for those that become `CopyError`."""
    kept = [
        trove.AccessDeniedError("denied"),
        trove.UnavailableError("gone"),
        trove.ThrottledError("slow down"),
        trove.StorageFullError("full"),
    ]
    other = [trove.BackendError("odd", status=400), trove.TroveError("bare"), OSError(5, "Input/output error")]
    return [
        *(Case(operation, type(error), phase, error=error, times=None, **place) for error in kept),
        *(Case(operation, trove.CopyError, phase, error=error, times=None, **place) for error in other),
    ]


STREAMED = [
    *_at("head", READ, key="source"),
    *_at("get_tags", READ, key="source"),
    *_at("get", READ, key="source"),
    *_at("get", READ, key="source", reset_after=0),
    *_at("get", READ, key="source", reset_after=MIDDLE),
    Case("get", trove.TransientError, READ, key="source", truncate_after=MIDDLE, times=None),
    Case("get", trove.ChecksumError, READ, key="source", corrupt_at=MIDDLE),
    Case("get", trove.ObjectNotFoundError, READ, key="source", error=trove.ObjectNotFoundError()),
    Case("get", trove.UnavailableError, READ, key="source", when="after", error=trove.UnavailableError()),
    *_at("put", WRITE, key="target"),
    *_at("put", WRITE, key="target", reset_after=0),
    *_at("put", WRITE, key="target", reset_after=MIDDLE),
    Case("put", trove.BucketNotFoundError, WRITE, key="target", error=trove.BucketNotFoundError()),
    # One connection that breaks is resumed, and one answer that is lost is settled.
    Case("get", None, None, is_new=True, key="source", reset_after=MIDDLE),
    Case("put", None, None, is_new=True, key="target", when="after", error=trove.UnavailableError()),
]
ON_SERVER = [
    *_at("copy", WRITE),
    Case("copy", trove.ObjectNotFoundError, READ, error=trove.ObjectNotFoundError()),
    Case("copy", trove.VersionNotFoundError, READ, error=trove.VersionNotFoundError()),
    Case("copy", trove.ObjectChangedError, READ, error=trove.ObjectChangedError()),
    Case("copy", trove.AccessDeniedError, READ, error=trove.AccessDeniedError(bucket="b", key="source")),
    Case("copy", trove.AccessDeniedError, WRITE, error=trove.AccessDeniedError(bucket="b", key="target")),
    Case("copy", trove.UnavailableError, WRITE, ambiguous=True, error=trove.UnavailableError(ambiguous=True)),
    Case("copy", None, None, is_new=True, when="after", error=trove.UnavailableError()),
    # It is no lost answer: the driver says that it cannot promise what is stored.
    Case("copy", trove.CopyError, WRITE, is_new=True, ambiguous=True, when="after", error=trove.BackendError()),
]


def _check_error(case: Case, error: trove.TroveError) -> None:
    assert case.phase is not None
    assert type(error) is case.raised
    assert error.copy_phase is case.phase
    assert is_copy_phase(error, case.phase)
    assert error.ambiguous is case.ambiguous
    assert (error.operation, error.bucket) == ("copy", "b")
    assert error.key == ("source" if case.phase is READ else "target")
    if type(error) is trove.CopyError:
        cause = error.__cause__
        assert type(cause) is type(case.fault.error)
        assert str(error).startswith(f"{case.phase}: copy 'b/")
        assert not isinstance(cause, trove.TroveError) or str(error) == f"{case.phase}: {cause}"
        assert error.status == getattr(cause, "status", None)


@pytest.mark.parametrize("case", STREAMED, ids=str)
async def test_a_streamed_copy_under_a_fault(open_store: Callable[..., Awaitable[Store]], case: Case) -> None:
    store = await open_store(copies=False)
    await store.fill(checksum="sha256")
    store.faults.add(case.fault)
    if case.raised is None:
        await store.copy()
    else:
        with pytest.raises(case.raised) as caught:
            await store.copy()
        _check_error(case, caught.value)
    assert store.faults.injected
    assert await store.target() == (NEW if case.is_new else OLD)
    assert store.watch.counts["put"] <= 1
    assert store.residue() == []


@pytest.mark.parametrize("case", ON_SERVER, ids=str)
async def test_a_copy_by_the_backend_under_a_fault(open_store: Callable[..., Awaitable[Store]], case: Case) -> None:
    store = await open_store(copies=True)
    await store.fill()
    store.faults.add(case.fault)
    if case.raised is None:
        info = await store.copy()
        assert info == await store.clean.head("b", "target")
    else:
        with pytest.raises(case.raised) as caught:
            await store.copy()
        _check_error(case, caught.value)
    assert store.faults.injected
    assert await store.target() == (NEW if case.is_new else OLD)
    assert store.watch.counts["copy"] <= 1
    assert store.watch.counts["put"] == 0


@pytest.mark.parametrize("copies", [True, False], ids=["by the backend", "streamed"])
@pytest.mark.parametrize(
    ("places", "arguments", "raised", "phase"),
    [
        (("b", "missing", "b", "target"), {}, trove.ObjectNotFoundError, READ),
        (("missing", "source", "b", "target"), {}, trove.BucketNotFoundError, READ),
        (("missing", "source", "missing", "target"), {}, trove.BucketNotFoundError, READ),
        (("b", "source", "missing", "target"), {}, trove.BucketNotFoundError, WRITE),
        (("b", "source", "b", "target"), {"source_if_match": "x"}, trove.PreconditionFailedError, READ),
        (("b", "source", "b", "source"), {"source_if_match": "x"}, trove.PreconditionFailedError, READ),
        (("b", "source", "b", "target"), {"if_match": "x"}, trove.PreconditionFailedError, WRITE),
        (("b", "source", "b", "source"), {"if_match": "x"}, trove.PreconditionFailedError, WRITE),
        (("b", "source", "b", "target"), {"if_none_match": "*"}, trove.ObjectAlreadyExistsError, WRITE),
        (("b", "source", "b", "target"), {"source_version_id": "x"}, trove.VersionNotFoundError, READ),
    ],
)
async def test_what_is_missing_or_does_not_match(
    open_store: Callable[..., Awaitable[Store]],
    copies: bool,
    places: tuple[str, str, str, str],
    arguments: dict[str, str],
    raised: type[trove.TroveError],
    phase: CopyPhase,
) -> None:
    store = await open_store(copies=copies)
    await store.fill()
    with pytest.raises(raised) as caught:
        await store.faulty.copy(*places, **arguments)  # type: ignore[arg-type]
    assert (type(caught.value), caught.value.copy_phase) == (raised, phase)
    assert (caught.value.bucket, caught.value.key) == (places[:2] if phase is READ else places[2:])
    assert await store.target() == OLD


async def test_arguments_that_are_refused_have_no_phase(open_store: Callable[..., Awaitable[Store]]) -> None:
    store = await open_store(copies=True)
    for arguments in ({"metadata": {"a": "b"}}, {"if_match": "a", "if_none_match": "b"}):
        with pytest.raises(trove.InvalidArgumentError) as caught:
            await store.copy(**arguments)
        assert caught.value.copy_phase is None
    assert store.watch.counts["copy"] == 0


async def test_errors_of_other_operations_have_no_phase(open_store: Callable[..., Awaitable[Store]]) -> None:
    store = await open_store(copies=True)
    for call in (store.clean.head("b", "k"), store.clean.put("x", "k", b""), store.clean.read("b", "k")):
        with pytest.raises(trove.NotFoundError) as caught:
            await call
        assert caught.value.copy_phase is None


# What a streamed copy keeps


@pytest.mark.parametrize(
    "arguments",
    [{}, {"replace": True, "content_type": "a/b", "tags": {"x": "y"}}, {"if_none_match": "other"}],
    ids=["kept", "replaced", "conditional"],
)
async def test_both_kinds_of_copy_make_the_same_object(
    open_store: Callable[..., Awaitable[Store]], arguments: dict[str, Any]
) -> None:
    store = await open_store(copies=False)
    await store.fill(checksum="sha256", storage_class="COLD")
    assert await store.copy(**arguments) == await store.clean.head("b", "target")
    await store.clean.copy("b", "source", "b", "other", **arguments)
    assert store.watch.counts["put"] == 1
    here, there = [await store.clean.head("b", key) for key in ("target", "other")]
    for name in ("size", "metadata", "storage_class", *DESCRIBED.keys() - {"tags"}):
        assert getattr(here, name) == getattr(there, name), name
    assert await store.clean.get_tags("b", "target") == await store.clean.get_tags("b", "other") != {}
    assert await store.target() == NEW
    assert "replace" in arguments or here.checksums == there.checksums != {}


async def test_an_explicit_server_copy_is_never_streamed(open_store: Callable[..., Awaitable[Store]]) -> None:
    store = await open_store(copies=False)
    await store.fill()
    with pytest.raises(trove.CopyNotSupportedError):
        await store.faulty.server_copy(trove.ObjectRef("b", "source"), trove.ObjectRef("b", "target"))
    assert store.watch.counts["put"] == 0
    store.watch.copies = True
    with pytest.raises(trove.ObjectNotFoundError) as caught:
        await store.faulty.server_copy(trove.ObjectRef("b", "none"), trove.ObjectRef("b", "target"))
    assert (caught.value.copy_phase, caught.value.operation) == (READ, "server_copy")


async def test_versions(open_store: Callable[..., Awaitable[Store]]) -> None:
    """The tags of an old version cannot be read, and are not lost silently."""
    store = await open_store(copies=False)
    await store.clean.set_versioning("b", True)
    await store.fill()
    first = (await store.clean.head("b", "source")).version_id
    await store.copy(source_version_id=first)
    assert await store.clean.get_tags("b", "target") == DESCRIBED["tags"]
    await store.clean.put("b", "source", b"second")
    with pytest.raises(trove.UnsupportedError, match="replace=True") as caught:
        await store.copy(source_version_id=first)
    assert caught.value.copy_phase is READ
    await store.copy(source_version_id=first, replace=True)
    assert await store.target() == NEW


async def test_the_version_that_cannot_be_restored(open_store: Callable[..., Awaitable[Store]]) -> None:
    store = await open_store(copies=True)
    await store.clean.set_versioning("b", True)
    await store.fill()
    with pytest.raises(trove.VersionNotFoundError) as caught:
        await store.faulty.restore_version("b", "source", "none")
    assert (caught.value.copy_phase, caught.value.operation) == (READ, "restore_version")
    version = (await store.clean.head("b", "source")).version_id
    assert version is not None
    store.faults.add(Fault("restore_version", error=trove.BackendError("odd")))
    with pytest.raises(trove.CopyError, match=r"^write: restore_version 'b/source': odd"):
        await store.faulty.restore_version("b", "source", version)


# A source that changes


@pytest.mark.parametrize("at", ["get_tags", "get"])
async def test_a_source_that_changes_before_it_is_read(open_store: Callable[..., Awaitable[Store]], at: str) -> None:
    store = await open_store(copies=False)
    await store.fill()

    async def change(operation: Operation) -> None:
        if operation.name == at:
            await store.clean.put("b", "source", b"changed")

    store.watch.before = change
    with pytest.raises(trove.ObjectChangedError) as caught:
        await store.copy()
    assert (caught.value.copy_phase, caught.value.key) == (READ, "source")
    assert await store.target() == OLD


async def test_a_source_that_changes_while_it_is_read_is_not_spliced() -> None:
    """The connection breaks after the change, and finds another object when the reader resumes."""

    class Broken(ByteStream):
        at = 0

        async def read(self, size: int) -> bytes:
            if self.at:
                raise trove.UnavailableError("the connection broke")
            self.at = MIDDLE
            return NEW[:MIDDLE]

        async def seek(self, offset: int) -> None:
            raise trove.PreconditionFailedError("another ETag")

        def abort(self) -> None:
            self.at = 0

    info = trove.ObjectInfo("source", len(NEW), "etag")
    source = MockDriver(get=lambda bucket, key, options: ObjectReader(info, Broken()))
    async with trove.open(source) as one, trove.open("memory://") as two:
        await two.create_bucket("b")
        await two.put("b", "target", OLD)
        with pytest.raises(trove.ObjectChangedError) as caught:
            await copy_between(one, "b", "source", two, "b", "target", CopyOptions(source_if_match="etag"))
        assert caught.value.copy_phase is READ
        assert await two.read("b", "target") == OLD
    assert source.calls_to("get")[0].arguments["options"].if_match == "etag"


@pytest.mark.parametrize("etag", ["etag", "other"])
async def test_a_source_without_conditions_is_compared_by_its_etag(etag: str) -> None:
    info = trove.ObjectInfo("source", len(NEW), etag)
    source = MockDriver(features=Features(), get=lambda bucket, key, options: ObjectReader(info, NEW))
    async with trove.open(source) as one, trove.open("memory://") as two:
        await two.create_bucket("b")
        copying = copy_between(one, "b", "source", two, "b", "target", CopyOptions(source_if_match="etag"))
        if etag == "etag":
            await copying
            assert await two.read("b", "target") == NEW
        else:
            with pytest.raises(trove.PreconditionFailedError) as caught:
                await copying
            assert caught.value.copy_phase is READ
    assert source.calls_to("get")[0].arguments["options"].if_match is None


@pytest.mark.parametrize(
    ("features", "options", "raised"),
    [
        (Features(), CopyOptions(if_none_match="*"), trove.UnsupportedError),
        (Features(), CopyOptions(replace=ObjectAttributes(tags={"a": "b"})), trove.UnsupportedError),
        (
            Features(limits=Limits(max_metadata_size=1)),
            CopyOptions(replace=ObjectAttributes(metadata={"a": "b"})),
            trove.InvalidMetadataError,
        ),
    ],
    ids=["condition", "tags", "metadata"],
)
async def test_what_the_destination_cannot_keep_is_refused(
    features: Features, options: CopyOptions, raised: type[trove.TroveError]
) -> None:
    target = MockDriver(features=features)
    async with trove.open("memory://") as one, trove.open(target) as two:
        await one.create_bucket("b")
        await one.put("b", "source", NEW)
        with pytest.raises(raised) as caught:
            await copy_between(one, "b", "source", two, "b", "target", options)
        assert (caught.value.copy_phase, caught.value.key) == (WRITE, "target")
    assert target.calls_to("put") == []


# Answers that were lost


async def lost(store: Store, **arguments: Any) -> trove.TroveError:
    store.faults.add(Fault("copy", when="after", error=trove.UnavailableError()))
    with pytest.raises(trove.UnavailableError) as caught:
        await store.copy(**arguments)
    assert caught.value.ambiguous
    assert caught.value.copy_phase is WRITE
    assert store.watch.counts["copy"] == 1
    assert store.watch.counts["put"] == 0
    return caught.value


@pytest.mark.parametrize("condition", [{"if_none_match": "other"}, {"if_match": None}])
async def test_under_a_condition_it_matters_who_wrote(
    open_store: Callable[..., Awaitable[Store]], condition: dict[str, str | None]
) -> None:
    store = await open_store(copies=True)
    await store.fill()
    if "if_match" in condition:
        condition = {"if_match": (await store.clean.head("b", "target")).etag}
    await lost(store, **condition)
    assert await store.target() == NEW


@pytest.mark.parametrize("differs", ["bytes", "metadata", "tags", "absent"])
async def test_equal_size_is_no_proof(open_store: Callable[..., Awaitable[Store]], differs: str) -> None:
    """Another writer replaces the destination before it is looked at."""
    store = await open_store(copies=True)
    await store.fill()

    async def replace(operation: Operation) -> None:
        if operation.name == "head" and operation.key == "target":
            described = dict(DESCRIBED)
            data = NEW[::-1] if differs == "bytes" else NEW
            if differs in ("metadata", "tags"):
                described[differs] = {"other": "one"}
            await store.clean.put("b", "target", data, **described)
            if differs == "absent":
                await store.clean.delete("b", "target")

    store.watch.before = replace
    await lost(store)


async def test_a_settled_copy_needs_no_reading_if_there_is_a_checksum(
    open_store: Callable[..., Awaitable[Store]],
) -> None:
    store = await open_store(copies=True)
    await store.fill(checksum="sha256")
    store.faults.add(Fault("copy", when="after", error=trove.UnavailableError()))
    assert await store.copy() == await store.clean.head("b", "target")
    assert store.watch.counts["get"] == 0


async def test_large_objects_without_checksum_are_not_read_to_settle_a_copy(
    open_store: Callable[..., Awaitable[Store]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trove_async.driver.copy_settling.COMPARED", len(NEW) - 1)
    store = await open_store(copies=True)
    await store.fill()
    await lost(store)
    assert store.watch.counts["get"] == 0


async def test_the_error_of_the_copy_survives_if_the_destination_cannot_be_looked_at(
    open_store: Callable[..., Awaitable[Store]],
) -> None:
    store = await open_store(copies=True)
    await store.fill()
    store.faults.add(Fault("head", error=trove.AccessDeniedError(), times=None))
    await lost(store)


async def test_an_ambiguous_refusal_is_not_streamed(open_store: Callable[..., Awaitable[Store]]) -> None:
    store = await open_store(copies=True)
    await store.fill()
    store.faults.add(Fault("copy", error=trove.CopyNotSupportedError(ambiguous=True)))
    with pytest.raises(trove.CopyNotSupportedError):
        await store.copy()
    assert store.watch.counts["put"] == 0
    assert await store.target() == OLD


# Moves


@pytest.mark.parametrize("copies", [True, False], ids=["by the backend", "streamed"])
@pytest.mark.parametrize(
    ("fault", "phase"),
    [
        (Fault("head", key="source", error=trove.BackendError()), READ),
        (Fault("copy", error=trove.UnavailableError()), WRITE),
        (Fault("copy", error=trove.UnavailableError(ambiguous=True)), WRITE),
        (Fault("delete", error=trove.UnavailableError()), None),
    ],
    ids=["head", "copy", "ambiguous", "delete"],
)
async def test_a_move_that_fails_keeps_its_source(
    open_store: Callable[..., Awaitable[Store]], copies: bool, fault: Fault, phase: CopyPhase | None
) -> None:
    store = await open_store(copies=copies)
    await store.fill()
    store.faults.add(fault)
    with pytest.raises((trove.UnavailableError, trove.CopyError)) as caught:
        await store.faulty.move("b", "source", "b", "target")
    assert caught.value.copy_phase is phase
    assert caught.value.operation == "move"
    assert await store.clean.read("b", "source") == NEW
    assert await store.target() == (OLD if phase else NEW)


async def test_a_move_whose_answer_was_lost_is_finished_if_the_copy_is_certain(
    open_store: Callable[..., Awaitable[Store]],
) -> None:
    store = await open_store(copies=True)
    await store.fill()
    store.faults.add(Fault("copy", when="after", error=trove.UnavailableError()))
    await store.faulty.move("b", "source", "b", "target")
    assert not await store.clean.exists("b", "source")
    assert await store.target() == NEW


async def test_without_conditions_a_move_looks_again_before_it_deletes(
    open_store: Callable[..., Awaitable[Store]],
) -> None:
    class Unconditional(LayerDriver):
        drops: ClassVar = {"copy": "for the test", "delete": "for the test"}

    store = await open_store(copies=True)
    await store.fill()

    async def change(operation: Operation) -> None:
        if operation.name == "copy":
            await store.clean.put("b", "source", b"changed")

    store.watch.before = change
    async with trove.open(store.clean.driver, layers=[store.watch, Unconditional]) as t:
        with pytest.raises(trove.PreconditionFailedError):
            await t.move("b", "source", "b", "target")
        assert await t.read("b", "source") == b"changed"


# Between stores


async def test_copies_between_stores_have_phases_too(open_store: Callable[..., Awaitable[Store]]) -> None:
    store = await open_store(copies=True)
    await store.fill()
    async with trove.open("memory://") as other:
        await other.create_bucket("b")
        here, there = StoredObject(store.faulty, "b", "source"), StoredObject(other, "b", "target")
        for place, error, raised in (
            ("head", trove.BackendError(), trove.CopyError),
            ("get_tags", trove.AccessDeniedError(), trove.AccessDeniedError),
            ("get", OSError(5, "broken"), trove.CopyError),
        ):
            store.faults.add(Fault(place, error=error))
            with pytest.raises(raised) as caught:
                await transfer(here, there)
            assert caught.value.copy_phase is READ
        store.faults.add(Fault("put", error=trove.BackendError()))
        await transfer(here, there)
        with pytest.raises(trove.CopyError) as caught:
            await transfer(there, here)
        assert caught.value.copy_phase is WRITE
        assert await other.get_tags("b", "target") == DESCRIBED["tags"]


@pytest.mark.parametrize("error", [RuntimeError("mine"), OSError("mine"), trove.UnavailableError("mine")])
async def test_what_the_user_raises_passes_unchanged(error: Exception) -> None:
    def refuse(taken: int, size: int | None) -> None:
        raise error

    async with trove.open("memory://") as one, trove.open("memory://") as two:
        await one.create_bucket("b")
        await two.create_bucket("b")
        await one.put("b", "k", NEW)
        with pytest.raises(type(error)) as caught:
            await transfer(StoredObject(one, "b", "k"), StoredObject(two, "b", "k"), on_progress=refuse)
        assert caught.value is error
        assert getattr(error, "copy_phase", None) is None
        assert not await two.exists("b", "k")


async def test_a_failure_of_the_source_is_none_of_the_destination(tmp_path: Path) -> None:
    """A layer of the destination, such as one that tries again or counts failures, does not see it as one."""
    seen: list[BaseException] = []

    class Seeing(LayerDriver):
        async def around(self, operation: Operation, call: Call[R]) -> R:
            try:
                return await call()
            except Exception as error:
                seen.append(error)
                raise

    faults = Faults([Fault("get", reset_after=MIDDLE, error=trove.ThrottledError(), times=None)])
    async with trove.open("memory://", layers=[faults]) as one, trove.open("memory://", layers=[Seeing]) as two:
        await one.create_bucket("b")
        await two.create_bucket("b")
        await one.put("b", "k", NEW)
        with pytest.raises(trove.ThrottledError) as caught:
            await transfer(StoredObject(one, "b", "k"), StoredObject(two, "b", "k"))
        assert caught.value.copy_phase is READ
    assert not any(isinstance(error, trove.TroveError) for error in seen)


async def test_two_stores_on_one_backend_copy_by_it(open_store: Callable[..., Awaitable[Store]]) -> None:
    store = await open_store(copies=True)
    await store.fill()
    assert store.root is not None or store.clean.driver.name == "memory"
    dsn = f"local://{store.root}?fsync=0" if store.root else None
    async with trove.open(dsn) if dsn else trove.open(store.clean.driver) as again:
        assert again.driver.shares_backend(store.clean.driver)
        assert not store.faulty.driver.shares_backend(again.driver)  # its layers could change what is copied
        info = await copy_between(store.clean, "b", "source", again, "b", "copy", CopyOptions())
        assert info == await again.head("b", "copy")
        async with trove.open("memory://") as other:
            assert not other.driver.shares_backend(again.driver)


async def test_local_files_keep_the_errors_of_the_system(
    open_store: Callable[..., Awaitable[Store]], tmp_path: Path
) -> None:
    store = await open_store(copies=True)
    await store.fill()
    there = StoredObject(store.faulty, "b", "target")
    with pytest.raises(FileNotFoundError) as caught:
        await transfer(LocalFile(str(tmp_path / "none")), there)
    assert not isinstance(caught.value, trove.TroveError)
    (tmp_path / "file").write_bytes(NEW)
    store.faults.add(Fault("put", error=trove.BackendError()), Fault("get", error=trove.BackendError()))
    with pytest.raises(trove.CopyError, match=r"^write: "):
        await transfer(LocalFile(str(tmp_path / "file")), there)
    with pytest.raises(trove.CopyError, match=r"^read: "):
        await transfer(there, LocalFile(str(tmp_path / "file")))
    assert (tmp_path / "file").read_bytes() == NEW


# Cancellation


async def a_turn(operation: Operation) -> None:
    """Let every operation have an await point of its own; those of memory have few."""
    await asyncio.sleep(0)


@pytest.mark.parametrize("delivery", list(Delivery), ids=lambda delivery: delivery.name)
async def test_a_streamed_copy_that_is_cancelled_at_any_point(
    open_store: Callable[..., Awaitable[Store]], delivery: Delivery
) -> None:
    store = await open_store(copies=False)
    store.watch.before = a_turn

    async def check(outcome: Outcome[trove.ObjectInfo]) -> None:
        assert outcome.cancelled or outcome.error is None
        assert outcome.left_running == frozenset()
        assert await store.target() in ((OLD, NEW) if outcome.cancelled else (NEW,))
        assert store.residue() == []

    points = await cancel_everywhere(store.copy, delivery, prepare=store.fill, check=check)
    assert points > 3


async def test_a_lost_answer_that_is_settled_while_the_caller_is_cancelled(
    open_store: Callable[..., Awaitable[Store]],
) -> None:
    store = await open_store(copies=True)
    store.watch.before = a_turn

    async def prepare() -> None:
        store.faults.clear()
        store.faults.add(Fault("copy", when="after", error=trove.UnavailableError()))
        await store.fill()

    async def check(outcome: Outcome[trove.ObjectInfo]) -> None:
        assert outcome.cancelled or outcome.result is not None
        assert outcome.left_running == frozenset()
        assert await store.target() in (OLD, NEW)

    assert await cancel_everywhere(store.copy, Delivery.PENDING, prepare=prepare, check=check) > 3


async def test_a_transfer_reports_the_phase(open_store: Callable[..., Awaitable[Store]]) -> None:
    store = await open_store(copies=True)
    await store.fill()
    store.faults.add(Fault("copy", error=trove.BackendError("odd")))
    results: list[Result] = []

    async def jobs() -> AsyncIterator[Job]:
        yield Job(StoredObject(store.faulty, "b", "source"), StoredObject(store.faulty, "b", "target"), len(NEW))

    await Transfer(move=True).run(jobs(), results.append)
    assert is_copy_phase(results[0].error, WRITE)
    assert await store.clean.exists("b", "source")
