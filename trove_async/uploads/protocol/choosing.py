"""Which protocol a request speaks."""

from __future__ import annotations

from trove_async.uploads.protocol.ietf import IETF, speaks_ietf
from trove_async.uploads.protocol.messages import Request, Settings, UploadProtocol
from trove_async.uploads.protocol.tus import Tus
from trove_async.web.objects import Answer

__all__ = ["choose", "discovered"]


def choose(request: Request, settings: Settings) -> UploadProtocol:
    """Return the protocol of a request.

    A request of tus has its version. A request that only reads need not have it. A POST or PATCH of neither protocol is
    taken for one of tus, whose answer names what is missing.
    """
    if "tus-resumable" in request.headers:
        return Tus(request, settings)
    if speaks_ietf(request.headers) or request.method in ("HEAD", "DELETE"):
        return IETF(request, settings)
    return Tus(request, settings)


def discovered(request: Request, settings: Settings) -> Answer:
    """Answer with what the server offers in both protocols."""
    answer = Tus(request, settings).discovered()
    names = {name.lower() for name, _ in answer.headers}
    others = IETF(request, settings).discovered().headers
    return Answer(answer.status, [*answer.headers, *(pair for pair in others if pair[0].lower() not in names)])
