"""How far an upload is: how often that is told, and that it never goes back by itself."""

from __future__ import annotations

import subprocess
import sys

from trove_async.uploads.client.progress import Progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_is_told_ten_times_a_second_and_at_the_end() -> None:
    seen: list[tuple[int, int | None]] = []
    clock = Clock()
    progress = Progress(lambda done, size: seen.append((done, size)), lambda: 100, clock)
    meter = progress.meter()
    for position in range(1, 101):
        meter.reached(position)
        clock.now += 0.03
    assert len(seen) == 25
    progress.tell(now=True)
    progress.tell(now=True)
    assert seen[-1] == (100, 100)
    assert len(seen) == 26


def test_it_goes_back_only_if_the_server_loses_bytes() -> None:
    seen: list[int] = []
    progress = Progress(lambda done, size: seen.append(done), lambda: None, Clock())
    first, second = progress.meter(), progress.meter()
    first.reached(10)
    second.reached(5)
    first.reached(3)
    progress.tell(now=True)
    first.lost(2)
    assert seen == [10, 15, 7]


def test_without_its_package_the_client_names_the_extra() -> None:
    script = (
        "import sys; sys.modules['httptools'] = None\n"
        "import trove_async.uploads\n"
        "try: trove_async.uploads.Client\n"
        "except trove_async.MissingDependencyError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "pip install 'trove-async[client]'" in done.stdout


def test_the_client_needs_no_other_package() -> None:
    others = ["aiohttp", "alembic", "asyncpg", "google_crc32c", "sqlalchemy", "starlette", "click", "uvicorn"]
    script = f"import sys; sys.modules.update(dict.fromkeys({others})); from trove_async.uploads import Client"
    subprocess.run([sys.executable, "-c", script], timeout=60, check=True)
