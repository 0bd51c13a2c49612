"""The head of a request, as the bytes that are sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from trove_async.errors import InvalidArgumentError
from trove_async.version import __version__

__all__ = ["encode_head", "full_user_agent"]

_ALWAYS_SIZED: Final = frozenset({"PUT", "POST", "PATCH"})


def encode_head(
    method: str, target: str, authority: str, headers: Iterable[tuple[str, str]], size: int, fixed: str = ""
) -> bytes:
    """Return the request line and the headers.

    Args:
        method: such as ``GET``.
        target: the target of the request line, sent as it is.
        authority: for the ``Host`` header, unless ``headers`` has one.
        headers: names and values; they are sent as they are, in UTF-8.
        size: the bytes of the body, for ``Content-Length``, unless ``headers`` has it; 0 is sent only with methods
            that usually have a body.
        fixed: lines of headers that are sent with every request, each with its line end.

    Raises:
        InvalidArgumentError: the target or a header holds a line break or NUL, the target holds a space, or the
            ``Content-Length`` in ``headers`` is not the size of the body.
    """
    text = ""
    lines = 2 + fixed.count("\n")
    hosted = False
    sized = not (size or method in _ALWAYS_SIZED)
    for name, value in headers:
        lines += 1
        text += f"{name}: {value}\r\n"
        lowered = name.lower()
        if lowered == "host":
            hosted = True
        elif lowered == "content-length":
            sized = True
            if value != str(size):
                raise InvalidArgumentError(f"the Content-Length is {value}, but the body has {size} bytes")
    if not hosted:
        lines += 1
        text = f"Host: {authority}\r\n{text}"
    if not sized:
        lines += 1
        text = f"{text}Content-Length: {size}\r\n"
    text = f"{method} {target} HTTP/1.1\r\n{text}{fixed}\r\n"
    # Counting is cheaper than checking each part: a surplus line was injected.
    if text.count("\r") != lines or text.count("\n") != lines or "\0" in text or " " in target:
        raise InvalidArgumentError("the request target holds a space, or it or a header holds a line break or NUL")
    return text.encode()


def full_user_agent(application: str | None) -> str:
    """Return the value of ``User-Agent``: the application's, if it names itself, before this library's.

    Raises:
        InvalidArgumentError: it is not printable ASCII.
    """
    if application is None:
        return f"trove-async/{__version__}"
    if not (application.isascii() and application.isprintable()):
        raise InvalidArgumentError("the user agent must be printable ASCII, such as my-service/1.2")
    return f"{application} trove-async/{__version__}"
