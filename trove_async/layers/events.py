"""Events as observers show them: a name and plain values."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

from trove_async.driver.events import Event
from trove_async.layers.instrumentation import error_type

__all__ = ["describe"]


def describe(event: Event) -> tuple[str, dict[str, str | int | float | bool]]:
    """Return the name of an event, such as ``trove.request_retried``, and its fields; of an error its class."""
    name = "trove." + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(event).__name__.removesuffix("Event")).lower()
    found: dict[str, str | int | float | bool] = {}
    for field in fields(event):  # type: ignore[arg-type] # events are dataclasses
        value: Any = getattr(event, field.name)
        if isinstance(value, BaseException):
            found["error.type"] = error_type(value)
        elif isinstance(value, (str, int, float, bool)):
            found[f"{name}.{field.name}"] = value
    return name, found
