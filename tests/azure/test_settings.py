"""The DSN, and its defaults from the environment."""

from __future__ import annotations

import pytest

import trove_async as trove
from trove_async.driver import OpenOptions
from trove_async.drivers.azure.settings import AzureSettings
from trove_async.dsn import parse_dsn

KEY = "c2VjcmV0"
CONNECTION = f"DefaultEndpointsProtocol=https;AccountName=acct;AccountKey={KEY};EndpointSuffix=core.windows.net"


def read(dsn: str, **settings: object) -> AzureSettings:
    return AzureSettings.of(parse_dsn(dsn), OpenOptions(settings=settings))


def test_account_key_and_container() -> None:
    settings = read("azure://acct:c2VjcmV0@photos")
    account = settings.account
    assert (account.name, settings.bucket) == ("acct", "photos")
    assert account.endpoint == "https://acct.blob.core.windows.net"
    assert account.queue_endpoint == "https://acct.queue.core.windows.net"
    assert account.key is not None
    assert not account.uses_tokens


def test_container_and_prefix() -> None:
    for dsn, prefix in {"photos": "", "photos/": "", "photos/2024": "2024/", "photos/2024/": "2024/"}.items():
        settings = read(f"azure://acct:c2VjcmV0@{dsn}")
        assert (settings.bucket, settings.prefix) == ("photos", prefix)


def test_a_key_with_special_characters_is_percent_encoded() -> None:
    assert read("azure://acct:%2B%2F%2B%2F@").account.key_text == "+/+/"


def test_without_credentials_tokens_are_used() -> None:
    assert read("azure://acct@photos").account.uses_tokens


def test_connection_string() -> None:
    account = read("azure://", connection_string=CONNECTION).account
    assert (account.name, account.endpoint) == ("acct", "https://acct.blob.core.windows.net")
    assert account.key is not None
    emulator = read("azure://?connection_string=UseDevelopmentStorage%3Dtrue").account
    assert (emulator.name, emulator.endpoint) == ("devstoreaccount1", "http://127.0.0.1:10000/devstoreaccount1")
    signed = read(
        "azure://",
        connection_string="BlobEndpoint=https://a.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=x%3D",
    )
    assert signed.account.name == "a"
    assert dict(signed.account.sas) == {"sv": "1", "sig": "x="}


def test_a_signature_may_be_encoded_or_not() -> None:
    for sas in ("sv=1&sig=a%2Bb%2F%3D", "?sv=1&sig=a+b/=", "sv=1&sig=a%2Bb/="):
        assert dict(read("azure://acct@", sas=sas).account.sas)["sig"] == "a+b/="


def test_white_space_around_secrets_is_stripped(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read("azure://acct@", account_key=f"{KEY}\n").account.key_text == KEY
    assert read(f"azure://acct:{KEY}%0A@").account.key_text == KEY
    assert dict(read("azure://acct@", sas="?sv=1&sig=x\n").account.sas)["sig"] == "x"
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "?sv=1&sig=x\r\n")
    assert dict(read("azure://acct@").account.sas)["sig"] == "x"
    monkeypatch.setenv("AZURE_STORAGE_KEY", f" {KEY}\n")
    assert read("azure://acct@").account.key_text == KEY


def test_the_connection_string_of_a_container_is_refused() -> None:
    signed = "SharedAccessSignature=sv=1&sig=x;BlobEndpoint="
    with pytest.raises(trove.InvalidDSNError, match=r"names the container 'photos'.*azure://account@photos"):
        read("azure://", connection_string=f"{signed}https://acct.blob.core.windows.net/photos;")
    behind = read("azure://", connection_string=f"{signed}https://gateway.example/acct").account
    assert (behind.name, behind.endpoint) == ("acct", "https://gateway.example/acct")


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "acct")
    assert read("azure://photos").account.uses_tokens
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "?sv=1&sig=x")
    assert dict(read("azure://photos").account.sas)["sig"] == "x"
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    account = read("azure://photos").account
    assert account.key is not None
    assert account.sas == ()


def test_the_environment_s_credentials_are_used_only_for_its_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", CONNECTION)
    assert read("azure://photos").account.key is not None
    assert read("azure://acct@photos").account.key is not None
    assert read("azure://other@photos").account.uses_tokens
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "acct")
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    assert read("azure://other@photos").account.uses_tokens


def test_given_settings_take_precedence_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", CONNECTION)
    account = read("azure://acct@photos?anonymous=1").account
    assert account.anonymous
    assert account.key is None


@pytest.mark.parametrize(
    ("dsn", "words"),
    [
        ("azure://photos", "AZURE_STORAGE_ACCOUNT"),
        ("azure://acct:not*base64@photos", "base64"),
        ("azure://acct@Photos", "lower-case"),
        ("azure://acct@/folder", "the container stands before the path"),
        ("azure://acct@photos:80", "port"),
        ("azure://acct@acct.blob.core.windows.net", "where the container does"),
        ("azure://acct:c2VjcmV0@photos?sas=sv%3D1%26sig%3Dx", "more than once"),
        ("azure://acct@photos?sas=abc", "signature"),
        ("azure://acct@photos?account=other", "twice"),
        ("azure://acct:c2VjcmV0@photos?account_key=c2VjcmV0", "twice"),
        ("azure://acct@photos?connection_string=abc", "malformed"),
        ("azure://other@photos?connection_string=AccountName%3Dacct%3BAccountKey%3Dc2VjcmV0", "of the account"),
        ("azure://acct@photos?credential=default", "get_token"),
        ("azure://acct@photos?endpoint=ftp://x", "http"),
        ("azure://acct@photos?endpoint=http://user:secret@x", "user"),
        ("azure://acct@photos?versions=all", "none, native, snapshots"),
        ("azure://acct@photos?checksum=sha256", "md5, none"),
        ("azure://acct@photos?watch=queue", "queue="),
        ("azure://acct@photos?queue=name", "watch=queue"),
        ("azure://acct@photos?watch=queue&queue=name&versions=snapshots", "contradict"),
        ("azure://acct@photos?part_size=0", "part_size"),
        ("azure://acct@photos?storage_class=GLACIER", "HOT"),
        ("azure://acct@photos?unheard=of", "unheard"),
    ],
)
def test_invalid_settings(dsn: str, words: str) -> None:
    with pytest.raises(trove.InvalidDSNError, match=words) as caught:
        read(dsn)
    assert "c2VjcmV0" not in str(caught.value)


def test_secrets_do_not_appear_in_repr() -> None:
    settings = read("azure://acct:c2VjcmV0@photos")
    signed = read("azure://acct@photos", sas="sv=1&sig=hidden")
    assert "c2VjcmV0" not in repr(settings)
    assert "hidden" not in repr(signed)
