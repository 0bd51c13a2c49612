"""``upload``: files to a server of resumable uploads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import click

from trove_async.body import BodyLike
from trove_async.cli.command import command
from trove_async.cli.errors import UsageError
from trove_async.cli.parameters import argument, option
from trove_async.cli.progress import bytes_bar
from trove_async.cli.session import Session
from trove_async.cli.streams import StandardInput
from trove_async.cli.values import parse_pairs
from trove_async.errors import TroveError

if TYPE_CHECKING:
    from trove_async.uploads.client import Client

__all__ = ["HEADERS_VARIABLE", "register", "upload"]

HEADERS_VARIABLE: Final = "TROVE_UPLOAD_HEADERS"
"""The environment variable with headers, one on each line."""

Files = Annotated[tuple[str, ...], argument("FILE", required=False, help="The files to upload.")]
URL = Annotated[str, argument("URL", help="The URL at which uploads are created.")]
Headers = Annotated[
    tuple[str, ...],
    option(
        metavar="'NAME: VALUE'",
        help=f"Send a header; @FILE reads them from a file, one on each line, and {HEADERS_VARIABLE} may hold more.",
    ),
]
Parallel = Annotated[
    int,
    option(metavar="N", type=click.IntRange(1, 100), help="The number of parts to send at once, if the server joins."),
]
ChunkSize = Annotated[
    int | None, option(type=click.IntRange(1), metavar="BYTES", help="The largest body of a request.")
]
Protocol = Annotated[str, option(metavar="auto|tus|ietf", help="auto asks the server.")]
Pairs = Annotated[tuple[str, ...], option(metavar="NAME=VALUE", help="May be repeated.")]
Algorithm = Annotated[str | None, option(metavar="sha256", help="Let the server compare each request.")]
NoResume = Annotated[bool, option("--no-resume", help="Begin anew, and note nothing for a later run.")]
ContentType = Annotated[str | None, option(help="The media type; default: that of the file's extension.")]


def register(app: click.Group) -> None:
    """Add the command."""
    command(app, "upload", store=False)(upload)


async def upload(
    session: Session,
    files: Files,
    url: URL,
    header: Headers = (),
    parallel: Parallel = 1,
    chunk_size: ChunkSize = None,
    protocol: Protocol = "auto",
    metadata: Pairs = (),
    content_type: ContentType = None,
    checksum: Algorithm = None,
    no_resume: NoResume = False,
) -> None:
    """Upload files to a server of resumable uploads; - is standard input.

    The same command continues what was interrupted, whatever interrupted it.
    """
    if not files or not url.lower().startswith(("http://", "https://")):
        raise UsageError("give files, and at the end the URL at which uploads are created, which begins with https://")
    from trove_async.uploads.client import Client  # its package may be missing, and few commands need it

    client = Client(
        url,
        headers=_headers(header),
        protocol=cast(Any, protocol),
        chunk_size=chunk_size,
        parallel=parallel,
        fingerprints=None if no_resume else True,
    )
    described = {
        "metadata": parse_pairs(metadata, "metadata"),
        "content_type": content_type,
        "checksum": checksum,
    }
    async with client:
        for file in files:
            try:
                await _upload(session, client, file, described, resumes=not no_resume)
            except (TroveError, OSError) as error:
                is_named = isinstance(error, OSError) and error.filename == str(_source(file))
                hint = "; name the files in it" if isinstance(error, IsADirectoryError) else ""
                session.fail(error, None if is_named else file, hint=hint)


async def _upload(session: Session, client: Client, file: str, described: dict[str, Any], *, resumes: bool) -> None:
    try:
        async with bytes_bar(session.output, os.path.basename(file)) as on_progress:
            found = await client.upload(_source(file), on_progress=on_progress, **described)
    except asyncio.CancelledError:
        if resumes and file != "-":
            session.output.note(f"{file}: the same command continues the upload")
        raise
    values = {"type": "upload", "file": file, "url": found.url, "size": found.size, "resumed_at": found.resumed_at}
    session.output.record(values, found.url)


def _source(file: str) -> BodyLike:
    return StandardInput() if file == "-" else Path(os.path.expanduser(file))


def _headers(given: Iterable[str]) -> dict[str, str]:
    """Parse headers: ``Name: value``, or ``@FILE`` with one on each line; and those of the environment.

    Raises:
        UsageError: one is no header. It is not shown, since it may be a secret.
    """
    lines = os.environ.get(HEADERS_VARIABLE, "").splitlines()
    for each in given:
        lines += Path(os.path.expanduser(each[1:])).read_text().splitlines() if each.startswith("@") else [each]
    found = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if line.strip() and not (colon and name.strip() and value.strip()):
            raise UsageError("a header is 'Name: value', as in 'Authorization: Bearer TOKEN'")
        if colon:
            found[name.strip()] = value.strip()
    return found
