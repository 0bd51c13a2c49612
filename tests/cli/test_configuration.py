"""Stores of ``trove.toml`` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.shell import Shell
from trove_async.cli.completion import complete_name


@pytest.fixture
def config(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration in a place of its own, with the store of the shell under two names."""
    path = shell.folder / "etc/trove.toml"
    path.parent.mkdir()
    path.write_text(
        f'[stores.media]\ndsn = "{shell.dsn}"\nlayers = ["Retry"]\n'
        f'[stores.photos]\ndsn = "trove://media/photos"\n'
        f'[stores.kept]\ndsn = "media"\nlayers = ["ReadOnly"]\n'
    )
    monkeypatch.setenv("TROVE_CONFIG", str(path))
    return path


@pytest.fixture
def filled(trove: Run, config: Path) -> Run:
    """Runs the command without ``TROVE_DSN``, with objects in the bucket ``photos``."""
    assert trove("mb", "media:photos").code == 0
    assert trove("put", "-", "media:photos/2024/a.jpg", stdin=b"a").code == 0
    assert trove("put", "-", "media:photos/b.jpg", stdin=b"b").code == 0
    return trove


def test_a_name_of_the_configuration_is_followed_by_bucket_and_key(
    filled: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TROVE_DSN")
    assert filled("ls", "media:").lines == ["photos"]
    assert filled("ls", "media:photos/2024/").lines == ["photos/2024/a.jpg"]
    assert filled("ls", "media:photos/*.jpg").lines == ["photos/b.jpg"]
    assert filled("cat", "trove://media/photos/2024/a.jpg").out == b"a"
    assert filled("cp", "media:photos/b.jpg", "media:photos/2024/").code == 0
    assert filled("cp", "media:photos/2024/b.jpg", "./here.jpg").code == 0
    assert Path("here.jpg").read_bytes() == b"b"


def test_behind_a_store_with_a_bucket_stands_the_key(filled: Run) -> None:
    assert filled("cat", "photos:2024/a.jpg").out == b"a"
    assert filled("ls", "photos:2024/").lines == ["photos/2024/a.jpg"]
    assert filled("ls", "photos:").lines == ["photos/2024/", "photos/b.jpg"]


def test_the_hint_about_local_files_is_not_for_names_of_stores(filled: Run) -> None:
    assert filled("cp", "media:photos/b.jpg", "media:none/x").err.endswith("does not exist (driver local)\n")
    assert "write ./none/x" in filled("cp", "media:photos/b.jpg", "none/x").err


def test_the_layers_of_the_configuration_hold(filled: Run) -> None:
    done = filled("rm", "kept:photos/b.jpg")
    assert (done.code, "the store is read-only" in done.err) == (5, True)


@pytest.mark.parametrize("store", ["media", "media:", "trove://media"])
def test_the_store_may_be_a_name(store: str, filled: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROVE_DSN", "memory://")
    assert filled("ls", "photos/", "--store", store).lines == ["photos/2024/", "photos/b.jpg"]
    assert filled("ping", store).code == 0
    monkeypatch.setenv("TROVE_DSN", store)
    assert filled("cat", "photos/b.jpg").out == b"b"


def test_a_name_that_the_configuration_does_not_have_is_bucket_and_key(filled: Run) -> None:
    assert filled("put", "-", "photos/other:key", stdin=b"c").code == 0
    assert filled("cat", "photos/other:key").out == b"c"
    done = filled("ls", "medai:photos")
    assert (done.code, "medai:photos" in done.err) == (3, True)


@pytest.mark.parametrize("name", ["media:/photos/b.jpg", "trove://media//photos/b.jpg"])
@pytest.mark.parametrize("command", ["ls", "cat", "rm"])
def test_a_slash_before_the_bucket_is_an_error(name: str, command: str, filled: Run) -> None:
    done = filled(command, name)
    assert (done.code, done.lines) == (2, [])
    assert "is empty: write media:photos/b.jpg, with the bucket first" in done.err


def test_without_a_store_an_unknown_name_is_explained(filled: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TROVE_DSN")
    done = filled("ls", "medai:photos")
    assert done.code == 2
    assert "there is no store 'medai' (is it 'media'?); there are: media, photos, kept" in done.err


def test_a_malformed_configuration_matters_only_to_names_with_a_colon(filled: Run, config: Path) -> None:
    config.write_text("[stores")
    assert filled("cat", "photos/b.jpg").out == b"b"
    done = filled("ls", "media:photos/")
    assert (done.code, done.err) == (
        2,
        f"trove: {config}:1: this is not TOML: Expected ']' at the end of a table declaration\n",
    )


def test_check_says_that_all_is_well(trove: Run, config: Path) -> None:
    done = trove("config", "check")
    assert (done.code, done.lines) == (0, [f"{config}: 3 stores, no errors"])
    [record] = trove("config", "check", str(config), "--json").records
    assert record == {"type": "config", "file": str(config), "stores": ["media", "photos", "kept"]}


def test_check_shows_the_errors_of_all_stores(trove: Run, config: Path) -> None:
    config.write_text('[stores.a]\ndsn = "memory://${NONE}"\n[stores.b]\ndsn = "memory://"\nlayers = ["Limt"]\n')
    done = trove("config", "check")
    first, second = done.err.splitlines()
    assert done.code == 2
    assert first == f"trove: {config}:2: stores.a.dsn: the environment variable 'NONE' is not set"
    assert second.startswith(f"trove: {config}:5: stores.b.layers[0]: no layer is registered for 'Limt'")


def test_check_without_a_configuration(trove: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    done = trove("config", "check")
    assert (done.code, done.err) == (2, "trove: there is no trove.toml, and TROVE_CONFIG names none\n")


def test_list_hides_secrets(trove: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S", "hidden")
    config.write_text(
        '[stores.a]\ndsn = "s3://key:hidden hidden@eu-west-1/b"\n[stores.long]\ndsn = "s3://key:${S}@eu-west-1"\n'
        '[stores.c]\ndsn = { env = "S" }\n'
    )
    config.chmod(0o600)
    assert trove("config", "list").lines == [
        "a     s3://key:***@eu-west-1/b",
        "long  s3://key:***@eu-west-1",
        "c     { env = 'S' }",
    ]
    assert trove("config", "list", "--json").records[0] == {
        "type": "store", "name": "a", "dsn": "s3://key:***@eu-west-1/b",
    }  # fmt: skip


def test_names_are_completed(filled: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert complete_name("") == ["media:", "photos:", "kept:", "photos/"]
    assert complete_name("me") == ["media:"]
    assert complete_name("media:ph") == ["media:photos/"]
    assert complete_name("media:photos/2") == ["media:photos/2024/"]
    assert complete_name("photos:b") == ["photos:b.jpg"]
    monkeypatch.delenv("TROVE_DSN")
    assert complete_name("photos") == ["photos:"]


def test_an_error_of_a_store_over_several_names_the_member(trove: Run, config: Path) -> None:
    config.write_text(
        '[stores.twice.mirror]\nmembers = { here = "memory://here", there = "local:///does/not/exist" }\n'
        'queue = "sqlite:///repair.db"\n'
        '[stores.cached]\ndsn = "memory://"\nlayers = [{ use = "Cache", on = "locl:///x", namespace = "n" }]\n'
    )
    assert trove("ping", "twice").err.endswith("; while the member 'there' was opened\n")
    assert trove("ping", "cached").err.endswith("; while the member 'cache' was opened\n")
