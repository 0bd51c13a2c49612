"""Tables and a chart of the results."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from statistics import median

from benchmarks.measure import Result
from benchmarks.registry import PEERS

__all__ = ["Measurements", "chart", "medians", "table", "write_json"]

Measurements = dict[tuple[str, str, str], list[Result]]
"""By backend, workload and client: one result for each round."""


def medians(results: list[Result]) -> Result:
    """Return the median of each figure, the sum of the failures, and the longest stall."""
    values = {field.name: median(getattr(r, field.name) for r in results) for field in fields(Result)}
    values["stall"] = max(r.stall for r in results)
    values["failures"] = sum(r.failures for r in results)
    return Result(**values)


def table(measurements: Measurements) -> str:
    """Return the results as Markdown, a table for each backend, with the ratio of this library to each client."""
    lines: list[str] = []
    for backend in dict.fromkeys(key[0] for key in measurements):
        lines += [
            f"## {backend}",
            "",
            "| workload | client | operations/s | MB/s | p50 ms | p99 ms | CPU µs/op | peak MiB | stall ms | failures "
            "| trove is |",
            "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for workload in dict.fromkeys(key[1] for key in measurements if key[0] == backend):
            ours = measurements.get((backend, workload, "trove"))
            for (b, w, client), results in measurements.items():
                if (b, w) == (backend, workload):
                    lines.append(_row(workload, client, medians(results), medians(ours) if ours else None))
        lines.append("")
    return "\n".join(lines)


def _row(workload: str, client: str, result: Result, ours: Result | None) -> str:
    ratio = ""
    if ours is not None and client != "trove":
        ratio = f"{ours.operations_per_second / result.operations_per_second:.1f} x"
    return (
        f"| {workload} | {client} | {result.operations_per_second:,.5g} | {result.bytes_per_second / 1e6:,.0f} "
        f"| {result.p50 * 1e3:.2f} | {result.p99 * 1e3:.2f} | {result.cpu * 1e6:,.4g} "
        f"| {result.memory / 2**20:.0f} | {result.stall * 1e3:.1f} | {result.failures} | {ratio} |"
    )


def write_json(measurements: Measurements, path: Path, conditions: dict[str, object]) -> None:
    """Write every round of every measurement."""
    rows = [
        {"backend": backend, "workload": workload, "client": client, "rounds": [asdict(r) for r in results]}
        for (backend, workload, client), results in measurements.items()
    ]
    path.write_text(json.dumps({"conditions": conditions, "measurements": rows}, indent=1))


def chart(measurements: Measurements, path: Path) -> None:
    """Draw the operations per second of each client, relative to the fastest of each workload."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    backends = list(dict.fromkeys(key[0] for key in measurements))
    figure, axes = plt.subplots(len(backends), 1, figsize=(12, 4 * len(backends)), squeeze=False)
    colours = {name: f"C{number}" for number, name in enumerate(("trove", *PEERS))}
    for axis, backend in zip(axes[:, 0], backends, strict=True):
        workloads = list(dict.fromkeys(key[1] for key in measurements if key[0] == backend))
        clients = list(dict.fromkeys(key[2] for key in measurements if key[0] == backend))
        for number, client in enumerate(clients):
            heights, places = [], []
            for place, workload in enumerate(workloads):
                found = measurements.get((backend, workload, client))
                if found:
                    best = max(
                        medians(results).operations_per_second
                        for (b, w, _), results in measurements.items()
                        if (b, w) == (backend, workload)
                    )
                    heights.append(medians(found).operations_per_second / best)
                    places.append(place + 0.8 * number / len(clients))
            axis.bar(places, heights, 0.8 / len(clients), label=client, color=colours.get(client), align="edge")
        axis.set_xticks([place + 0.4 for place in range(len(workloads))], workloads, rotation=20, ha="right")
        axis.set_title(f"{backend}: operations a second, as a share of the fastest")
        axis.legend(ncols=len(clients))
        axis.set_ylim(0, 1.15)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
