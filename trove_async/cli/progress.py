"""Progress bars, on standard error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from trove_async.body import Progress as OnProgress
from trove_async.cli.output import Output
from trove_async.transfers import Tally

__all__ = ["bytes_bar", "count_bar", "tally_bar"]

_REFRESH: Final = 0.1
"""Seconds between two looks at how far the work is."""


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f}/s")


def _bar(output: Output, *columns: ProgressColumn) -> Progress:
    return Progress(
        *columns,
        console=output.console,
        transient=True,
        # Else Rich would send the results, on standard output, to standard error.
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _bytes_columns() -> Iterable[ProgressColumn]:
    yield TextColumn("{task.description}")
    yield BarColumn()
    yield DownloadColumn(binary_units=True)
    yield TransferSpeedColumn()
    yield TimeRemainingColumn()


@asynccontextmanager
async def tally_bar(output: Output, tally: Tally) -> AsyncIterator[None]:
    """Show how far a `Transfer` is: objects and bytes, the rate, and the time that is left."""
    if not output.shows_progress:
        yield
        return
    with _bar(output, *_bytes_columns()) as bar:
        task = bar.add_task("", total=None)

        def show() -> None:
            text = f"{tally.done:,} of {tally.jobs:,}"
            bar.update(task, description=text, completed=tally.moved, total=tally.size)

        async def follow() -> None:
            while True:
                show()
                await asyncio.sleep(_REFRESH)

        following = asyncio.create_task(follow())
        try:
            yield
        finally:
            following.cancel()
            await asyncio.wait({following})
            show()


@asynccontextmanager
async def bytes_bar(output: Output, description: str) -> AsyncIterator[OnProgress | None]:
    """Show how far one object is; yields the callback that has to be told so, None if nobody would see it."""
    if not output.shows_progress:
        yield None
        return
    with _bar(output, *_bytes_columns()) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, size: bar.update(task, completed=done, total=size)


@asynccontextmanager
async def count_bar(output: Output, description: str) -> AsyncIterator[Callable[[], object]]:
    """Show how many things are done, at which rate and for how long; yields what has to be called for each."""
    if not output.shows_progress:
        yield lambda: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description} {task.completed:,}"), _RateColumn(), TimeElapsedColumn())
    with _bar(output, *columns) as bar:
        task = bar.add_task(description, total=None)
        yield lambda: bar.advance(task)
