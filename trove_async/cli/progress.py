"""Progress bars, on standard error; nothing if they would not be visible."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from trove_async.cli.output import Output
from trove_async.errors import MissingDependencyError

if TYPE_CHECKING:
    from trove_async.body import Progress
    from trove_async.transfers import Tally

__all__ = ["bytes_bar", "count_bar", "tally_bar"]


def tally_bar(output: Output, tally: Tally) -> AbstractAsyncContextManager[None]:
    """Show the progress of a `Transfer`: objects and bytes, the rate, and the remaining time."""
    return _bars().tally_bar(output, tally) if output.shows_progress else nullcontext()


def bytes_bar(output: Output, description: str) -> AbstractAsyncContextManager[Progress | None]:
    """Show the progress of one object; yields the callback for it, None if the bar would not be visible."""
    return _bars().bytes_bar(output, description) if output.shows_progress else nullcontext()


def count_bar(output: Output, description: str) -> AbstractAsyncContextManager[Callable[[], object]]:
    """Show a counter, its rate and the elapsed time; yields the function to call for each item."""
    return _bars().count_bar(output, description) if output.shows_progress else nullcontext(lambda: None)


def _bars() -> Any:
    try:
        from trove_async.cli import bars
    except ImportError as error:
        raise MissingDependencyError("a progress bar needs: pip install 'trove-async[cli]', or give --quiet") from error
    return bars
