"""`ConformanceSuite`: every check, as one class of pytest tests.

A driver's author runs it without writing a test::

    pytest --trove-driver=mypackage.tests:harness
    pytest --trove-driver=mypackage.tests:harness --trove-stack=plain -k "test_p01 or test_c02"  # while at work on it

or includes it in other tests, with ids such as ``TestMine::test_p01_…[mine-plain]``::

    class TestMine(ConformanceSuite):
        harness = harness

**How a check is written.** A module of checks holds one class without a base, such as `PutGetChecks`;
each check is a coroutine whose name carries its id and which takes `Context` as ``ctx``::

    from trove_async.testing.conformance.context import Context, heavy, requires

    class ConditionChecks:
        @requires("put_if_none_match")  # conditions by name, capabilities as Protocols: requires(MultipartDriver)
        @heavy  # runs plainly and through one stack of all layers; `plainly` leaves that one to long runs
        async def test_c01_create_only(self, ctx: Context) -> None:
            await ctx.store.put(ctx.bucket, "key", b"1", if_none_match="*")

- ``ctx.store`` is an open `Trove` (with layers, if the run is through layers), ``ctx.bucket`` the name of a new bucket,
  ``ctx.missing_bucket`` the name of a missing one, ``ctx.harness`` the `Harness`, ``ctx.part_size`` its part size.
- ``await ctx.new_bucket()`` creates another bucket; ``await ctx.reopen()`` opens a second store over a second driver;
  ``await ctx.reopen(layer)`` adds a layer, and ``await ctx.wrap(driver)`` opens a store over the check's own driver.
  All of these are emptied, deleted and closed after the check.
- After each check the suite asserts that ``harness.residue()`` is empty and that no task is left;
  ``await ctx.assert_clean()`` asserts the first in between.
- Call ``pytest.skip(reason)`` if a check does not apply to a backend, for example because it has no DSN.
- Objects and bodies: `trove_async.testing.helpers`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from typing import ClassVar, NamedTuple

import pytest
import pytest_asyncio

from trove_async.driver import capabilities_of
from trove_async.testing.conformance.buckets import BucketChecks
from trove_async.testing.conformance.bulk_listing import BulkListChecks
from trove_async.testing.conformance.cancellation import CancellationChecks
from trove_async.testing.conformance.capabilities import CapabilityChecks
from trove_async.testing.conformance.conditions import ConditionChecks
from trove_async.testing.conformance.context import Context, leftover_tasks
from trove_async.testing.conformance.copies import CopyChecks
from trove_async.testing.conformance.deletes import DeleteChecks
from trove_async.testing.conformance.events import EventChecks
from trove_async.testing.conformance.faults import FaultChecks
from trove_async.testing.conformance.harness import Harness
from trove_async.testing.conformance.keys import KeyChecks
from trove_async.testing.conformance.lifecycle_rules import LifecycleRuleChecks
from trove_async.testing.conformance.lifetime import LifetimeChecks
from trove_async.testing.conformance.listing import ListChecks
from trove_async.testing.conformance.metadata import MetadataChecks
from trove_async.testing.conformance.multipart import MultipartChecks
from trove_async.testing.conformance.parts import PartChecks
from trove_async.testing.conformance.presign import PresignChecks
from trove_async.testing.conformance.putget import PutGetChecks
from trove_async.testing.conformance.ranges import RangeChecks
from trove_async.testing.conformance.session import Harnesses, load_harness
from trove_async.testing.conformance.stacks import ALL_LAYERS, PLAIN, STACKS
from trove_async.testing.conformance.table import check_id, declared_cells
from trove_async.testing.conformance.versions import VersionChecks

__all__ = ["ConformanceSuite"]


class Variant(NamedTuple):
    """The target of a check: a backend, and the name of a stack of layers."""

    harness: Harness
    stack: str


@pytest.mark.asyncio
class ConformanceSuite(
    LifetimeChecks,
    BucketChecks,
    PutGetChecks,
    MetadataChecks,
    RangeChecks,
    ConditionChecks,
    DeleteChecks,
    KeyChecks,
    ListChecks,
    BulkListChecks,
    CopyChecks,
    MultipartChecks,
    PartChecks,
    CancellationChecks,
    FaultChecks,
    PresignChecks,
    VersionChecks,
    EventChecks,
    LifecycleRuleChecks,
    CapabilityChecks,
):
    """All checks. Subclass it as ``TestSomething`` and set `harness`.

    Attributes:
        harness: the backend under test; None for the harnesses of ``--trove-driver``.
    """

    harness: ClassVar[Harness | None] = None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each check without layers and through stacks of layers."""
        name = metafunc.function.__name__
        chosen = metafunc.config.getoption("trove_stack") or STACKS
        long = bool(metafunc.config.getoption("trove_long"))
        harnesses = [self.harness] if self.harness else map(load_harness, metafunc.config.getoption("trove_driver"))
        variants = [
            pytest.param(Variant(harness, stack), id=f"{harness.name}-{stack}", marks=_expected(harness, name))
            for harness in harnesses
            for stack in _stacks(metafunc.definition, harness, long=long)
            if stack in chosen
        ]
        metafunc.parametrize("ctx", variants, indirect=True)

    @pytest_asyncio.fixture(loop_scope="function")
    async def ctx(self, request: pytest.FixtureRequest, trove_harnesses: Harnesses) -> AsyncIterator[Context]:
        """Provide the context of a check, and assert that nothing is left behind afterwards."""
        harness, stack = request.param
        name = request.node.function.__name__
        case = request.node.callspec.id.removeprefix(f"{harness.name}-{stack}").removeprefix("-")
        reason = harness.xfails.get(f"{name}[{case}]")
        if reason is not None:
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
        _record(request.node, request.param, reason or _reason(harness, name))
        await trove_harnesses.start(harness)
        before = asyncio.all_tasks()
        context = await Context.open(harness, STACKS[stack], long=request.config.getoption("trove_long"))
        try:
            if stack == PLAIN:
                _record_cells(request.node, context)
            _skip_undeclared(request.node, context)
            yield context
            await context.assert_clean()
        finally:
            await context.aclose()
        left = await leftover_tasks(before)
        assert not left, f"tasks that are left running: {left}"


class TestConformance(ConformanceSuite):
    """The suite on each harness that ``--trove-driver`` names."""


def _stacks(node: pytest.Item, harness: Harness, *, long: bool) -> list[str]:
    """Return the names of the stacks for a check, in an ordinary run or in a long one."""
    stacks: Collection[str] = STACKS if long else harness.stacks
    if node.get_closest_marker("trove_plainly") is not None and not long:
        stacks = {PLAIN}.intersection(stacks)
    elif node.get_closest_marker("trove_plainly") or node.get_closest_marker("trove_heavy"):
        stacks = {PLAIN, ALL_LAYERS}.intersection(stacks)
    return [stack for stack in STACKS if stack in stacks]


def _reason(harness: Harness, name: str) -> str | None:
    return harness.xfails.get(check_id(name)) or harness.xfails.get(name)


def _expected(harness: Harness, name: str) -> list[pytest.MarkDecorator]:
    reason = _reason(harness, name)
    return [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True)]


def _record(node: pytest.Item, variant: Variant, reason: str | None) -> None:
    """Store the data for the reports in the test's properties, which xdist passes on."""
    name = node.function.__name__  # type: ignore[attr-defined]
    driver, stack = variant.harness.name, variant.stack
    node.user_properties += [("trove_driver", driver), ("trove_stack", stack), ("trove_check", check_id(name))]
    if reason is not None:
        node.user_properties.append(("trove_xfail", reason))


def _record_cells(node: pytest.Item, context: Context) -> None:
    cells = declared_cells(context.store.features, capabilities_of(context.store.driver))
    node.user_properties.append(("trove_cells", json.dumps(cells)))


def _skip_undeclared(node: pytest.Item, context: Context) -> None:
    for mark in node.iter_markers("trove_requires"):
        for what in mark.args:
            if not context.store.supports(what):
                name = what if isinstance(what, str) else what.__name__
                pytest.skip(f"{context.harness.name} does not declare {name}")
