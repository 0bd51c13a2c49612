from __future__ import annotations

import string
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trove_async.drivers.memory import MemoryDriver
from trove_async.dsn import DSN, SettingsParser, parse_dsn, redact
from trove_async.errors import InvalidDSNError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("memory://", DSN("memory")),
        ("memory://name", DSN("memory", host="name")),
        ("LOCAL:///srv/data", DSN("local", path="/srv/data")),
        ("local:///a%20b?fsync=0", DSN("local", path="/a b", params={"fsync": "0"})),
        ("s3://k:s@eu-1/b", DSN("s3", "k", "s", "eu-1", None, "/b")),
        ("s3://k:@eu-1", DSN("s3", "k", "", "eu-1")),
        ("sftp://u@h:2222/root/", DSN("sftp", "u", None, "h", 2222, "/root/")),
        ("sftp://[::1]:22/x", DSN("sftp", host="::1", port=22, path="/x")),
        ("sftp://[::1]/x", DSN("sftp", host="::1", path="/x")),
        ("x://u%40d:p%2F%3A%3F%23@h/", DSN("x", "u@d", "p/:?#", "h", None, "/")),
        ("x://?a=b%26c&d=1%3D2&e=", DSN("x", params={"a": "b&c", "d": "1=2", "e": ""})),
        ("x://?k=ab+c/d==", DSN("x", params={"k": "ab+c/d=="})),
    ],
)
def test_parts_are_decoded(text: str, expected: DSN) -> None:
    assert parse_dsn(text) == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "scheme"),
        ("/srv/data", "scheme"),
        ("local:/srv/data", "scheme"),
        ("://x", "scheme"),
        ("1x://", "scheme"),
        ("a b://", "scheme"),
        ("x://h:port", "port"),
        ("x://h:0", "port"),
        ("x://h:65536", "port"),
        ("x://h:١", "port"),
        ("x://u:p:q", "port"),
        ("x://[::1/p", "bracket"),
        ("x://[::1]p", "bracket"),
        ("x://h#f", "#"),
        ("x://h/a\nb", "control"),
        ("x://h/\0", "control"),
        ("x://%zz@h", "user"),
        ("x://u:%z@h", "password"),
        ("x://%f/", "host"),
        ("x://h/%", "path"),
        ("x://h/%ff", "path"),
        ("x://h?a", "'a'"),
        ("x://h?=1", "parameter"),
        ("x://h?a=1&a=2", "'a'"),
        ("x://h?name=%", "name"),
        ("x://h?a=1&", "parameter"),
    ],
)
def test_the_error_names_the_wrong_part(text: str, part: str) -> None:
    with pytest.raises(InvalidDSNError) as caught:
        parse_dsn(text)
    assert part in str(caught.value)


@pytest.mark.parametrize("value", [None, b"memory://", 1])
def test_a_dsn_is_text(value: object) -> None:
    with pytest.raises(InvalidDSNError, match=type(value).__name__):
        parse_dsn(value)  # type: ignore[arg-type]


secrets = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=6, max_size=30).filter(
    lambda text: len(set(text)) > 4
)
secret_names = st.sampled_from(
    (
        "secret",
        "secret_key",
        "password",
        "token",
        "session_token",
        "key",
        "account_key",
        "sas",
        "sig",
        "passphrase",
        "connection_string",
        "AccountKey",
    )
)


def assert_hidden(secret: str, *texts: str) -> None:
    for text in texts:
        assert secret not in text
        assert quote(secret, safe="") not in text
        assert quote(secret, safe="/:*") not in text


@given(secrets, secrets, secret_names)
def test_secrets_appear_neither_in_str_nor_in_repr(password: str, token: str, name: str) -> None:
    dsn = parse_dsn(f"s3://user:{quote(password, safe='')}@host:99/bucket?region=x&{name}={quote(token, safe='')}")
    assert (dsn.password, dsn.params[name]) == (password, token)
    assert_hidden(password, str(dsn), repr(dsn))
    assert_hidden(token, str(dsn), repr(dsn))
    assert "user" in str(dsn)
    assert "region=x" in str(dsn)


@given(secrets, secret_names, st.sampled_from(["x", "%zz", "a=1&a=2", "=", "b=%"]))
def test_secrets_do_not_appear_in_errors(secret: str, name: str, broken: str) -> None:
    quoted = quote(secret, safe="")
    for text in (f"s3://user:{quoted}@host/?{name}={quoted}&{broken}", f"s3://user:{quoted}@host:port/"):
        with pytest.raises(InvalidDSNError) as caught:
            parse_dsn(text)
        assert_hidden(secret, str(caught.value), repr(caught.value))


@given(secrets, secret_names)
def test_redact_hides_the_secrets_of_urls_in_any_text(secret: str, name: str) -> None:
    quoted = quote(secret, safe="")
    text = redact(f"failed: https://user:{quoted}@host/path?x=1&{name}={quoted}&y=2 (again)")
    assert_hidden(secret, text)
    assert text.startswith("failed: https://user:***@host/path?x=1&")
    assert text.endswith("&y=2 (again)")


@given(st.text(string.ascii_letters + string.digits + " .,/", max_size=60))
def test_redact_does_not_change_text_without_secrets(text: str) -> None:
    assert redact(text) == text


def test_a_secret_within_a_parameter_is_hidden_too() -> None:
    dsn = parse_dsn("s3://?endpoint=https%3A%2F%2Fme%3Asesame%40host%2F")
    assert "sesame" not in str(dsn) + repr(dsn)


def settings(query: str = "", **overrides: object) -> SettingsParser:
    return SettingsParser(parse_dsn(f"x://?{query}"), overrides)


def test_settings_come_from_the_dsn_or_from_arguments() -> None:
    both = settings("fsync=0&root=/srv&n=3&idle=1.5", cache=True, ratio=2)
    assert both.flag("fsync", True) is False
    assert both.flag("cache", False) is True
    assert both.flag("absent", True) is True
    assert both.text("root") == "/srv"
    assert both.text("none") is None
    assert both.integer("n", 1) == 3
    assert both.integer("absent_number", 7) == 7
    assert both.seconds("idle", 1) == 1.5
    assert both.take("ratio") == 2
    both.finish()


@pytest.mark.parametrize("word", ["1", "true", "YES", "on"])
def test_true_words(word: str) -> None:
    assert settings(f"x={word}").flag("x", False) is True


@pytest.mark.parametrize("word", ["0", "False", "no", "OFF"])
def test_false_words(word: str) -> None:
    assert settings(f"x={word}").flag("x", True) is False


WRONG: list[tuple[str, Callable[[SettingsParser], object]]] = [
    ("x=2", lambda s: s.flag("x", True)),
    ("x=", lambda s: s.text("x")),
    ("x=a", lambda s: s.integer("x", 1)),
    ("x=-1", lambda s: s.integer("x", 1)),
    ("x=11", lambda s: s.integer("x", 1, maximum=10)),
    ("x=a", lambda s: s.seconds("x", 1)),
    ("x=0", lambda s: s.seconds("x", 1)),
    ("x=inf", lambda s: s.seconds("x", 1)),
    ("x=nan", lambda s: s.seconds("x", 1)),
]


@pytest.mark.parametrize(("query", "take"), WRONG)
def test_an_invalid_setting_is_named(query: str, take: Callable[[SettingsParser], object]) -> None:
    with pytest.raises(InvalidDSNError, match=r"^x must"):
        take(settings(query))


def test_the_error_for_an_unknown_setting_lists_the_known_ones() -> None:
    left = settings("unknown=1&root=/")
    left.text("root")
    left.flag("fsync", True)
    with pytest.raises(InvalidDSNError, match=r"x has no parameter 'unknown'; it has: fsync, root"):
        left.finish()


def test_a_setting_is_given_only_once() -> None:
    with pytest.raises(InvalidDSNError, match="'root' is given in the DSN and as an argument"):
        settings("root=/a", root="/b")


@pytest.mark.parametrize(
    "text",
    [
        "memory://",
        "x://u:p%2F%3A%40@h%2Fi:1/a%20b/%3F?secret=a%26b&e=&plus=a+b/c==",
        "sftp://[::1]:22/x",
        "s3://k:@eu-1/b",
    ],
)
def test_revealed_text_is_parsed_to_the_same_dsn(text: str) -> None:
    dsn = parse_dsn(text)
    assert parse_dsn(dsn.reveal()) == dsn


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("memory://", ("memory://", None, "")),
        ("memory://name", ("memory://name", None, "")),
        ("memory://name/", ("memory://name", None, "")),
        ("memory://name/b", ("memory://name", "b", "")),
        ("memory://name/b/", ("memory://name", "b", "")),
        ("memory://name/b/a%20key/of//it/", ("memory://name", "b", "a key/of//it/")),
        ("memory://u:p@h:1/b/k?secret=s", ("memory://u:p@h:1?secret=s", "b", "k")),
    ],
)
async def test_a_path_is_bucket_and_key_unless_the_driver_splits_it_otherwise(
    text: str, expected: tuple[str, str | None, str]
) -> None:
    assert await MemoryDriver.split(parse_dsn(text)) == expected


def test_white_space_around_a_secret_is_stripped() -> None:
    settings = SettingsParser(parse_dsn("s3://?a=%20key%0D%0A"), {"b": "token\n", "c": "s"})
    assert [settings.secret(name) for name in "abcd"] == ["key", "token", "s", None]


@pytest.mark.parametrize("text", ["hid\nden", "hid\0den", " \n"])
def test_a_secret_has_no_control_characters(text: str) -> None:
    with pytest.raises(InvalidDSNError, match="token must not") as caught:
        SettingsParser(parse_dsn("s3://"), {"token": text}).secret("token")
    assert "hid" not in str(caught.value)


@pytest.mark.parametrize("word", ["9", "a", "a.", "a://", "=", "a=", "://:", "a:", "'", "'a", "'a://b:", "'a:// "])
def test_redact_takes_linear_time(word: str) -> None:
    """A text that takes quadratic time would stop the test at its time limit."""
    text = word * (500_000 // len(word))
    assert redact(text).startswith(word[:1])


@pytest.mark.parametrize(
    "dsn", ["s3://k:se same@eu/b?x=1", "x://u@corp:sesame@h/d", "x://my user:se@same:@h", "x://:sesame @"]
)
def test_redact_hides_every_password_that_a_dsn_may_have(dsn: str) -> None:
    assert parse_dsn(dsn).password
    text = redact(f"the name {dsn!r} is wrong (see the manual)")
    assert "same" not in text
    assert text.startswith("the name '")
    assert text.endswith(" is wrong (see the manual)")


@pytest.mark.parametrize(
    "text",
    [
        "the server http://h:9000 refused it, ask me@corp.test",
        "cannot connect to 'http://h:9000' of 'me@corp.test'",
        'no answer from "sftp://h:22": user a@b is unknown',
    ],
)
def test_redact_does_not_take_a_port_for_a_password(text: str) -> None:
    assert redact(text) == text


def test_redact_finds_a_url_behind_other_characters() -> None:
    assert redact("1s3://a:pw@h, \u00e4s3://a:pw@h ('s3://a:pw@h')").count("pw") == 0
