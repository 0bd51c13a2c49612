"""The portal: coroutines for threads that have no event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest

import trove_async as trove
from tests.sync.processes import run
from trove_async.portal import current


def _interrupt() -> None:
    """Send Ctrl-C to the main thread, which waits."""
    ident = threading.main_thread().ident
    assert ident is not None
    signal.pthread_kill(ident, signal.SIGINT)


def test_a_call_returns_the_result() -> None:
    async def add(left: int, *, right: int) -> int:
        await asyncio.sleep(0)
        return left + right

    assert current().call(add, 1, right=2) == 3


def test_an_error_is_raised_with_the_frames_of_both_threads() -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no") as raised:
        current().call(fail)
    names = [entry.name for entry in raised.traceback]
    assert names[0] == "test_an_error_is_raised_with_the_frames_of_both_threads"
    assert names[-1] == "fail"


def test_there_is_one_thread_a_process() -> None:
    def idents() -> set[int]:
        return {current().run(threading.get_ident) for _ in range(20)}

    with ThreadPoolExecutor(8) as pool:
        found = [future.result() for future in [pool.submit(idents) for _ in range(8)]]
    assert len(set[int]().union(*found)) == 1
    assert threading.get_ident() not in found[0]


def test_calls_of_several_threads_run_at_the_same_time() -> None:
    async def gate() -> asyncio.Event:
        return asyncio.Event()

    event = current().call(gate)

    async def meet(last: bool) -> None:
        if last:
            event.set()
        await event.wait()

    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(current().call, meet, False) for _ in range(4)]
        pool.submit(current().call, meet, True).result()
        for future in waiting:
            future.result()


def test_the_callers_context_variables_are_seen_and_not_changed() -> None:
    user: ContextVar[str] = ContextVar("user")

    async def seen() -> str:
        found = user.get()
        user.set("changed")
        return found

    user.set("ann")
    assert current().call(seen) == "ann"
    assert user.get() == "ann"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_any_exception_of_the_task_is_raised_and_the_portal_lives(error: type[BaseException]) -> None:
    async def fail() -> None:
        raise error

    with pytest.raises(error):
        current().call(fail)
    assert current().run(int) == 0


def test_a_task_that_exits_does_not_end_the_portal() -> None:
    async def leave() -> None:
        raise SystemExit

    async def spawn() -> None:
        task = asyncio.ensure_future(leave())
        await asyncio.wait({task})
        assert isinstance(task.exception(), SystemExit)

    current().call(spawn)
    assert current().run(int) == 0


def test_ctrl_c_cancels_and_waits_for_the_clean_up() -> None:
    steps: list[str] = []

    async def work() -> None:
        try:
            _interrupt()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            steps.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        current().call(work)
    assert steps == ["cleaned up"]


def test_a_second_ctrl_c_gives_up_waiting() -> None:
    release: list[asyncio.Event] = []

    async def work() -> None:
        release.append(asyncio.Event())
        try:
            _interrupt()
            await asyncio.Event().wait()
        finally:
            _interrupt()
            await release[0].wait()

    with pytest.raises(KeyboardInterrupt):
        current().call(work)
    current().run(release[0].set)


def test_an_interruption_at_any_moment() -> None:
    """A signal arrives after a random time, also before the task has begun and after it has ended."""
    code = """
    import asyncio, faulthandler, random, signal
    from trove_async.portal import current

    class Stopped(Exception):
        pass

    def stop(number, frame):
        if armed:
            raise Stopped

    async def work():
        began.append(None)
        try:
            await asyncio.sleep(0)
        finally:
            ended.append(None)
        return 7

    faulthandler.dump_traceback_later(100, exit=True)
    armed, began, ended, stopped = False, [], [], 0
    signal.signal(signal.SIGALRM, stop)
    delays = random.Random(0)
    portal = current()
    for _ in range(3000):
        try:
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, delays.uniform(1e-6, 2e-4))
                assert portal.call(work) == 7
            finally:
                armed = False
        except Stopped:
            stopped += 1
        assert len(began) == len(ended)
    print(stopped > 0, portal.run(lambda: len(asyncio.all_tasks())))
    """
    ended = run(code)
    assert (ended.stdout, ended.returncode) == ("True 2\n", 0)  # the tasks are the portal's own, and that of the call


def test_the_exception_of_another_signal_handler_cancels_too() -> None:
    class TimeLimitError(Exception):
        pass

    cancelled: list[bool] = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    def handler(number: int, frame: object) -> None:
        raise TimeLimitError

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(TimeLimitError):
            current().call(work)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert cancelled == [True]


def test_a_result_that_comes_too_late_is_closed() -> None:
    class Opened:
        closed = False

        async def aclose(self) -> None:
            self.closed = True

    opened = Opened()

    async def work() -> Opened:
        try:
            _interrupt()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        return opened

    with pytest.raises(KeyboardInterrupt):
        current().call(work)
    assert opened.closed


def test_a_call_in_the_thread_of_the_loop_is_refused() -> None:
    async def outer() -> int:
        return current().run(int)

    with pytest.raises(trove.LifetimeError, match="would wait for"):
        current().call(outer)


@pytest.mark.asyncio
async def test_a_call_within_another_loop() -> None:
    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert current().call(loop) is not asyncio.get_running_loop()


def test_post_does_not_wait() -> None:
    done = threading.Event()
    current().post(done.set)
    assert done.wait(60)


def _in_child(work: Callable[[], bool]) -> bool:
    """Fork, do the work in the child, and return whether it returned True."""
    child = os.fork()
    if not child:
        status = 1
        try:
            status = 0 if work() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_forked_child_gets_a_portal_of_its_own() -> None:
    parents = current()
    parents.run(int)
    loops = parents.run(asyncio.get_running_loop)

    def work() -> bool:
        with pytest.raises(trove.ForkedError):
            parents.run(int)
        parents.post(lambda: os._exit(3))
        return current().run(asyncio.get_running_loop) is not loops and current() is not parents

    assert _in_child(work)
    assert current() is parents
    assert parents.run(int) == 0


def test_a_fork_while_another_thread_starts_the_portal() -> None:
    code = """
    import os, threading
    from trove_async import portal

    locked, end = threading.Event(), threading.Event()

    def hold():
        with portal._lock:
            locked.set()
            end.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    locked.wait()
    child = os.fork()
    if not child:
        print(portal.current().run(int), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    end.set()
    thread.join()
    """
    ended = run(code)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("0\n", "", 0)


def test_a_child_that_ends_like_any_program() -> None:
    code = """
    import os, sys
    from trove_async import portal

    print(portal.current().run(int), flush=True)
    child = os.fork()
    if not child:
        print(portal.current().run(lambda: 1), flush=True)
        sys.exit()
    print(os.waitpid(child, 0)[1], portal.current().run(lambda: 2))
    """
    ended = run(code)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("0\n1\n0 2\n", "", 0)


def test_the_interpreter_ends_while_tasks_run() -> None:
    code = """
    import asyncio, threading
    from trove_async.portal import current

    running = threading.Event()

    async def work():
        try:
            running.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            print("cleaned up", flush=True)

    threading.Thread(target=current().call, args=(work,), daemon=True).start()
    running.wait()
    """
    ended = run(code)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("cleaned up\n", "", 0)
