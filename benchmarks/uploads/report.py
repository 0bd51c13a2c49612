"""The results as a table."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.uploads.rows import ROWS
from benchmarks.uploads.servers import SERVERS, Server

__all__ = ["Measurements", "UploadResult", "table"]

_GIB: Final = 1024**3


@dataclass(frozen=True, slots=True)
class UploadResult:
    """The result of one measurement.

    Attributes:
        cpu: seconds of the server's processes.
        size: bytes that were uploaded.
        elapsed: seconds.
        p50, p99: seconds of a request, or of a take-over; None if all have failed.
        memory: bytes by which the server has grown at its peak.
        uploads: so many at once.
        wait: the longest time in seconds that another request waited for its answer.
        failures: uploads that failed, or that are not stored as they were sent.
    """

    cpu: float
    size: int
    elapsed: float
    p50: float | None
    p99: float | None
    memory: int
    uploads: int
    wait: float
    failures: int


Measurements = dict[tuple[str, str], list[UploadResult]]
"""By row and server: one result for each round."""


def table(measurements: Measurements) -> str:
    """Return the results as Markdown: medians, the longest wait of all rounds, and the sum of the failures.

    The CPU times of two servers are compared round by round: they were measured one after the other, on a machine that
    may also do other work.
    """
    lines = [
        "| row | server | CPU s/GiB | trove's CPU is | MB/s | p50 ms | p99 ms | peak MiB | KiB an upload | wait ms "
        "| failures |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in ROWS:
        found = {server: results for (of, server), results in measurements.items() if of == row}
        lines += [_line(row, SERVERS[name], found) for name in SERVERS if found.get(name)]
    return "\n".join(lines)


def _line(row: str, server: Server, found: dict[str, list[UploadResult]]) -> str:
    results = found[server.name]
    cpu, ratio = "", ""
    if ROWS[row].kind == "bulk":
        cpu = f"{median(_cpu(results)):.3f}"
        ours = found.get(f"trove, {'uvicorn' if server.http == 'node' else server.http}")
        if ours and server.kind != "trove":
            ratio = f"{median(mine / other for mine, other in zip(_cpu(ours), _cpu(results), strict=True)):.2f} x"
    memory = median(each.memory for each in results)
    return (
        f"| {row} | {server.name} | {cpu} | {ratio} "
        f"| {median(each.size / each.elapsed for each in results) / 1e6:,.0f} "
        f"| {_ms([each.p50 for each in results])} | {_ms([each.p99 for each in results])} "
        f"| {memory / 2**20:.1f} | {memory / 1024 / results[0].uploads:,.0f} "
        f"| {max(each.wait for each in results) * 1e3:,.0f} | {sum(each.failures for each in results)} |"
    )


def _cpu(results: list[UploadResult]) -> list[float]:
    """Return the seconds for a GiB in each round."""
    return [each.cpu / each.size * _GIB for each in results]


def _ms(seconds: list[float | None]) -> str:
    """Return the median in milliseconds; nothing if no request was answered."""
    known = [each for each in seconds if each is not None]
    return f"{median(known) * 1e3:,.1f}" if known else ""
