"""The chain of an error and its causes, of this library and of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

__all__ = ["chain_of", "status_of"]


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes (``__cause__``). What was merely being handled meanwhile is no cause."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def status_of(error: BaseException) -> object:
    """Return the HTTP status of an error of any library; None if it has none in a known place."""
    for name in ("status", "status_code"):
        if (found := getattr(error, name, None)) is not None:
            return found
    # https://docs.aws.amazon.com/boto3/latest/guide/error-handling.html
    response = getattr(error, "response", None)
    metadata = response.get("ResponseMetadata") if isinstance(response, Mapping) else None
    return metadata.get("HTTPStatusCode") if isinstance(metadata, Mapping) else None
