"""`Flights`: requests that several callers share. Nobody gets the error or the cancellation of another caller."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from enum import Enum
from typing import Final, Generic, TypeVar

__all__ = ["GIVE_UP", "Flight", "Flights", "Missed", "Place"]

R = TypeVar("R")

Place = tuple[str, str]
"""The bucket and the key of an object."""

GIVE_UP: Final = 2
"""After this number of requests of others that failed, a caller sends its own at once: it waits for no more of them."""


class Missed(Enum):
    """Why a flight has no answer for those who wait for it."""

    FAILED = "its request failed"
    CANCELLED = "whoever sent its request was cancelled"
    UNSHARED = "its answer cannot be shared"


class Flight(Generic[R]):
    """A request that is under way, or its answer as long as it can be shared.

    Attributes:
        answer: None before it has come.
        current: whether it can be joined, so that its answer is that of a request that would begin now.
    """

    __slots__ = ("_hold", "_waiters", "answer", "current")

    def __init__(self, hold: Callable[[R], object] | None) -> None:
        self.answer: R | None = None
        self.current = True
        self._hold = hold
        self._waiters: list[asyncio.Future[R | Missed]] = []

    async def wait(self, let_go: Callable[[R], object] | None = None) -> R | Missed:
        """Wait for the answer, which is held for the caller: ``let_go`` is called if it is cancelled meanwhile."""
        waiter: asyncio.Future[R | Missed] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and let_go is not None and not isinstance(answer := waiter.result(), Missed):
                let_go(answer)
            raise

    def land(self, answer: R) -> None:
        """Give the answer to those who wait."""
        self.answer = answer
        for waiter in self._take():
            if self._hold is not None:
                self._hold(answer)
            waiter.set_result(answer)

    def miss(self, why: Missed) -> None:
        """Wake those who wait."""
        for waiter in self._take():
            waiter.set_result(why)

    def _take(self) -> list[asyncio.Future[R | Missed]]:
        if not self._waiters:
            return []
        # One that is done was cancelled, and its task has not resumed yet.
        waiters = [waiter for waiter in self._waiters if not waiter.done()]
        self._waiters.clear()
        return waiters


class Flights(Generic[R]):
    """The requests that are under way, by the object and by what is asked about it.

    Args:
        hold: called with an answer for each caller that it is given to.
    """

    def __init__(self, hold: Callable[[R], object] | None = None) -> None:
        self._hold = hold
        self._by_object: dict[Place, dict[Hashable, Flight[R]]] = {}

    def find(self, place: Place, question: Hashable) -> Flight[R] | None:
        """Return the request that can be joined."""
        flights = self._by_object.get(place)
        return None if flights is None else flights.get(question)

    def begin(self, place: Place, question: Hashable) -> Flight[R]:
        """Return a new request, which others can join; another one that is under way can be joined no longer."""
        flights = self._by_object.get(place)
        if flights is None:
            flights = self._by_object[place] = {}
        elif question in flights:
            flights[question].current = False
        flight = flights[question] = Flight(self._hold)
        return flight

    def end(self, place: Place, question: Hashable, flight: Flight[R]) -> None:
        """Let nobody join a request any more."""
        if flight.current:
            flight.current = False
            flights = self._by_object[place]
            del flights[question]
            if not flights:
                del self._by_object[place]

    def forget(self, place: Place) -> None:
        """Let nobody join the requests for an object any more, since it has changed."""
        for flight in self._by_object.pop(place, {}).values():
            flight.current = False

    def forget_where(self, chosen: Callable[[Place], bool]) -> None:
        """Let nobody join the requests for some objects any more."""
        for place in [place for place in self._by_object if chosen(place)]:
            self.forget(place)

    async def share(self, place: Place, question: Hashable, call: Callable[[], Awaitable[R]]) -> R:
        """Return the answer to a question; callers that ask at the same time share one request."""
        failures = 0
        while failures < GIVE_UP and (flight := self.find(place, question)) is not None:
            answer = await flight.wait()
            if not isinstance(answer, Missed):
                return answer
            failures += answer is Missed.FAILED
        if failures == GIVE_UP:
            return await call()
        flight = self.begin(place, question)
        try:
            answer = await call()
        except BaseException as error:
            self.end(place, question, flight)
            flight.miss(Missed.FAILED if isinstance(error, Exception) else Missed.CANCELLED)
            raise
        self.end(place, question, flight)
        flight.land(answer)
        return answer
