"""`MockDriver`: a driver with configured answers, for tests of code that uses a store.

::

    mock = MockDriver(put=ObjectInfo("a.txt", 5, "1"), head=ObjectNotFoundError())
    async with trove_async.open(mock) as t:
        await code_under_test(t)
    assert mock.calls_to("put")[0].body == b"hello"

For code that needs a working store, ``memory://`` is the better test double; a mock is for answers that a
working store does not give.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Self, TypeVar, cast, get_args

from trove_async.body import Body
from trove_async.driver import (
    CAPABILITIES,
    METHODS,
    Condition,
    Driver,
    Features,
    GetOptions,
    OpenOptions,
    PresignMethod,
    WatchOptions,
    capabilities_of,
    methods_of,
)
from trove_async.dsn import DSN
from trove_async.ranges import ByteRange
from trove_async.reader import ObjectReader
from trove_async.types import ObjectEvent, ObjectInfo

__all__ = ["Call", "MockDriver", "UnexpectedCallError"]

F = TypeVar("F", bound=Callable[..., Any])

_ANSWERABLE: Final = METHODS.keys() | {"check_bucket", "check_key"}


class UnexpectedCallError(AssertionError):
    """A method without a configured answer was called.

    It is not a `TroveError`, so that the code under test does not handle it as a failure of the backend.
    """


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a driver's method.

    Attributes:
        name: of the method.
        arguments: by their names in the contract, such as ``bucket``, ``key`` and ``options``.
        body: the body of a put, if the mock has read it: for answers that are neither callable nor an error.
    """

    name: str
    arguments: Mapping[str, Any]
    body: bytes | None = None


def _answering(method: F) -> F:
    """Return a method of the contract that gives the configured answer."""
    described = METHODS[method.__name__]

    async def answering(self: MockDriver, *args: Any, **kwargs: Any) -> Any:
        arguments = dict(zip(described.parameters, described.bind(args, kwargs), strict=True))
        return await self._answer(described.name, **arguments)

    made: Any = answering
    made.__name__, made.__qualname__ = described.name, f"MockDriver.{described.name}"
    made.__doc__, made.__signature__ = "Give the configured answer.", described.signature
    return cast(F, made)


class MockDriver(Driver):
    """A driver that gives configured answers and records its calls.

    Give an answer for each method that may be called, as a keyword argument with the method's name:
    - a function is called with the method's arguments, and awaited if it is async;
    - an exception, or a class of exceptions, is raised;
    - any other value is returned. The body of a put or part is first read to its end, so that its size
      and checksum are checked, and stored in `Call.body`. ``bytes`` for ``get``, ``get_range`` and ``get_version``
      are served as an object, in the requested range; for ``watch`` an iterable of events is yielded, and then
      no more events come.

    A method without an answer raises `UnexpectedCallError`; only ``open`` and ``close`` need none. The driver is open
    from the start: pass it to `trove_async.open`, or register ``lambda: mock`` for a scheme.

    Attributes:
        calls: all calls so far, in order, except ``check_key`` and ``check_bucket``.
    """

    def __new__(cls, *, capabilities: Iterable[type] = (), **answers: Any) -> Self:
        """Make an instance of the class with exactly the requested capabilities."""
        complete = {capability for capability in CAPABILITIES if methods_of(capability) <= answers.keys()}
        return cast(Self, object.__new__(_composed(cls, frozenset(capabilities) | complete)))

    def __init__(
        self,
        *,
        name: str = "mock",
        capabilities: Iterable[type] = (),
        features: Features | None = None,
        default_bucket: str | None = None,
        **answers: Any,
    ) -> None:
        """Make a driver.

        Args:
            name: the driver's name, as in errors.
            capabilities: additional capabilities; those of which every method has an answer are included.
            features: default: these capabilities, every condition, and every presign method.
            default_bucket: the bucket that a DSN would name.
            **answers: by the names of the methods of `Driver` and the capabilities.

        Raises:
            TypeError: a name is not a method's, or belongs to a capability that the driver does not have.
        """
        for unknown in answers.keys() - _ANSWERABLE:
            raise TypeError(f"{unknown!r} is not a method of Driver or a capability; list uses list_page")
        for missing in sorted(name for name in answers if not hasattr(self, name)):
            raise TypeError(
                f"{missing!r} belongs to a capability that the mock does not have: name it in capabilities=, "
                "or give an answer for each of its methods"
            )
        self.calls: list[Call] = []
        self.default_bucket = default_bucket
        self._name = name
        self._answers = {"open": None, "close": None, "check_key": None, "check_bucket": None, **answers}
        self._features = features or Features(
            protocols=capabilities_of(self),
            conditions=frozenset(get_args(Condition)),
            presign_methods=frozenset(get_args(PresignMethod)),
        )

    def calls_to(self, name: str) -> list[Call]:
        """Return the calls of one method, in order."""
        return [call for call in self.calls if call.name == name]

    @property
    def name(self) -> str:
        """The configured name."""
        return self._name

    @property
    def features(self) -> Features:
        """The configured features, or all features of the mock."""
        return self._features

    def check_key(self, key: str) -> None:
        """Give the configured answer; by default every key is valid."""
        self._produce("check_key", key)

    def check_bucket(self, bucket: str) -> None:
        """Give the configured answer; by default every name is valid."""
        self._produce("check_bucket", bucket)

    async def open(self, dsn: DSN, options: OpenOptions) -> None:
        """Give the configured answer; by default it succeeds."""
        await self._answer("open", dsn=dsn, options=options)

    async def close(self) -> None:
        """Give the configured answer; by default it succeeds."""
        await self._answer("close")

    ping = _answering(Driver.ping)
    put = _answering(Driver.put)
    get = _answering(Driver.get)
    head = _answering(Driver.head)
    delete = _answering(Driver.delete)
    copy = _answering(Driver.copy)
    list_page = _answering(Driver.list_page)
    create_bucket = _answering(Driver.create_bucket)
    delete_bucket = _answering(Driver.delete_bucket)
    list_buckets = _answering(Driver.list_buckets)

    async def _answer(self, method: str, /, **arguments: Any) -> Any:
        at = len(self.calls)
        self.calls.append(Call(method, arguments))
        answer = self._answers.get(method)
        body = arguments.get("body")
        if isinstance(body, Body) and method in self._answers and not callable(answer) and not _is_error(answer):
            self.calls[at] = Call(method, arguments, await body.read_all())
        result = self._produce(method, *arguments.values())
        if inspect.isawaitable(result):
            result = await result
        if isinstance(result, bytes):
            return _serve(result, arguments)
        return result

    def _produce(self, method: str, *arguments: Any) -> Any:
        if method not in self._answers:
            shown = ", ".join(repr(argument) for argument in arguments if isinstance(argument, str))
            raise UnexpectedCallError(f"{method}({shown}) has no answer; give one with MockDriver({method}=…)")
        answer = self._answers[method]
        if _is_error(answer):
            raise answer
        return answer(*arguments) if callable(answer) else answer

    async def _watch(self, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        self.calls.append(Call("watch", {"bucket": bucket, "options": options}))
        events = self._produce("watch", bucket, options)
        if hasattr(events, "__aiter__"):
            async with aclosing(events) if hasattr(events, "aclose") else nullcontext():
                async for event in events:
                    yield event
            return
        options.on_ready()
        for event in events:
            yield event
        await asyncio.Event().wait()


def _is_error(answer: object) -> bool:
    return isinstance(answer, BaseException) or (isinstance(answer, type) and issubclass(answer, BaseException))


def _serve(data: bytes, arguments: Mapping[str, Any]) -> ObjectReader:
    wanted = ByteRange()
    if "offset" in arguments:
        length = arguments["length"]
        wanted = ByteRange(arguments["offset"], None if length < 0 else length)
    elif isinstance(options := arguments.get("options"), GetOptions) and options.range is not None:
        wanted = options.range
    # An empty object is read without a range: no range starts within it.
    start, stop = wanted.resolve(len(data)) if wanted != ByteRange() else (0, len(data))
    info = ObjectInfo(arguments["key"], len(data), etag="mock")
    return ObjectReader(info, data[start:stop], start=start, stop=stop)


@cache
def _composed(mock: type[MockDriver], capabilities: frozenset[type]) -> type[MockDriver]:
    methods = {
        name: mock._watch if name == "watch" else _answering(getattr(capability, name))
        for capability in capabilities
        for name in methods_of(capability)
    }
    return type(mock.__name__, (mock,), {"__module__": mock.__module__, "__doc__": mock.__doc__, **methods})
