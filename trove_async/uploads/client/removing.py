"""Removing uploads from a server."""

from __future__ import annotations

from contextlib import suppress

from trove_async.errors import TroveError, UploadNotFoundError
from trove_async.uploads.client.channel import tried
from trove_async.uploads.client.fingerprints import Urls
from trove_async.uploads.client.sending import Terms

__all__ = ["abandon", "terminate"]


async def terminate(terms: Terms, url: str) -> None:
    """Remove an upload from the server; one that is gone is no error.

    Raises:
        UnsupportedError: the server removes no uploads.
        TroveError: it refuses to.
    """
    channel = terms.channel
    place = channel.places.find(channel.places.endpoint, url)

    async def remove() -> None:
        (await channel.exchange("DELETE", place, terms.dialect.plain())).check()

    with suppress(UploadNotFoundError):
        await tried(terms.policy, remove)


async def abandon(terms: Terms, urls: Urls) -> None:
    """Remove partial uploads that nobody will continue, where the server does that."""
    for url in urls:
        if url is not None:
            try:
                await terminate(terms, url)
            except TroveError:
                return  # they expire
