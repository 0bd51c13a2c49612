"""Progress bars, on standard error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
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


def _bytes_progress(output: Output) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=output.console,
        disable=not output.shows_progress,
        transient=True,
        # Else Rich would send the results, on standard output, to standard error.
        redirect_stdout=False,
        redirect_stderr=False,
    )


@asynccontextmanager
async def tally_bar(output: Output, tally: Tally) -> AsyncIterator[None]:
    """Show how far a `Transfer` is: objects and bytes, the rate, and the time that is left."""
    with _bytes_progress(output) as bar:
        if bar.disable:
            yield
            return
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
    """Show how far one object is; yields the callback that is told so."""
    with _bytes_progress(output) as bar:
        task = bar.add_task(description, total=None)

        def on_progress(done: int, size: int | None) -> None:
            bar.update(task, completed=done, total=size)

        yield on_progress


class CountBar:
    """A count that grows, of things whose number is not known."""

    def __init__(self, bar: Progress, description: str) -> None:
        self._bar = bar
        self._task = bar.add_task(description, total=None)

    def advance(self) -> None:
        """Count one more."""
        self._bar.advance(self._task)


@asynccontextmanager
async def count_bar(output: Output, description: str, *, hidden: bool = False) -> AsyncIterator[CountBar]:
    """Show how many things are done, at which rate and for how long."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description} {task.completed:,}"),
        _RateColumn(),
        TimeElapsedColumn(),
        console=output.console,
        disable=hidden or not output.shows_progress,
        transient=True,
        # Else Rich would send the results, on standard output, to standard error.
        redirect_stdout=False,
        redirect_stderr=False,
    ) as bar:
        yield CountBar(bar, description)
