"""The head of a request, as the bytes that are sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from trove_async.errors import InvalidArgumentError

__all__ = ["encode_head"]

_ALWAYS_SIZED: Final = frozenset({"PUT", "POST", "PATCH"})


def encode_head(
    method: str, target: str, authority: str, headers: Iterable[tuple[str, str]], size: int, more: str = ""
) -> bytes:
    """Return request line and headers.

    Args:
        method: such as ``GET``.
        target: what stands in the request line, as it is.
        authority: for the ``Host`` header, unless ``headers`` has one.
        headers: names and values, in UTF-8 as they are.
        size: of the body, for ``Content-Length``, unless ``headers`` has it; 0 is said where a body is usual.
        more: a further header line with its line end.

    Raises:
        InvalidArgumentError: a line break or NUL stands in the target or a header, the target holds a space, or
            the ``Content-Length`` given is not the body's.
    """
    text = ""
    lines = 2 + (more != "")
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
                raise InvalidArgumentError(f"the Content-Length given is {value}, the body has {size} bytes")
    if not hosted:
        lines += 1
        text = f"Host: {authority}\r\n{text}"
    if not sized:
        lines += 1
        text = f"{text}Content-Length: {size}\r\n"
    text = f"{method} {target} HTTP/1.1\r\n{more}{text}\r\n"
    # Counting is cheaper than a look at each part: a line more than we made was smuggled in.
    if text.count("\r") != lines or text.count("\n") != lines or "\0" in text or " " in target:
        raise InvalidArgumentError("the request target or a header holds a line break, NUL, or a space in the target")
    return text.encode()
