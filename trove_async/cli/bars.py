"""The progress bars of `trove_async.cli.progress`; Rich draws them."""

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
"""Seconds between two updates of the bar."""


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f}/s")


def _bar(output: Output, *columns: ProgressColumn) -> Progress:
    return Progress(
        *columns,
        console=output.share(),
        transient=True,
        # Otherwise Rich would redirect the results from standard output to standard error.
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
    """Show the progress of a `Transfer`: objects and bytes, the rate, and the remaining time."""
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
async def bytes_bar(output: Output, description: str) -> AsyncIterator[OnProgress]:
    """Show the progress of one object; yields the callback for it."""
    with _bar(output, *_bytes_columns()) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, size: bar.update(task, completed=done, total=size)


@asynccontextmanager
async def count_bar(output: Output, description: str) -> AsyncIterator[Callable[[], object]]:
    """Show a counter, its rate and the elapsed time; yields the function to call for each item."""
    columns = (SpinnerColumn(), TextColumn("{task.description} {task.completed:,}"), _RateColumn(), TimeElapsedColumn())
    with _bar(output, *columns) as bar:
        task = bar.add_task(description, total=None)
        yield lambda: bar.advance(task)
