"""Run a function in a forked child."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Callable


async def in_child(function: Callable[[], int]) -> int:
    """Return the status with which a child ends that calls a function; 99 if the function raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads, since Python 3.12
        child = os.fork()
    if not child:
        try:
            status = function()
        except BaseException:  # noqa: BLE001 - the child must end here
            status = 99
        os._exit(status)
    return os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, child, 0))[1])
