"""Keys that do not change, and the region: from the environment and the files of the AWS SDKs, without an SDK.

https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html

The SDK takes a third of a second to import. Only what is certain is read here: the answer is None if a variable or a
setting may mean something else, and the SDK is asked.
"""

from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Mapping
from typing import Final

from trove_async.types import EMPTY
from trove_async.wire.sigv4 import Credentials

__all__ = ["AWS_FILES", "path_of", "read_profile", "static_credentials"]

AWS_FILES: Final = {"AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials", "AWS_CONFIG_FILE": "~/.aws/config"}
"""The variables that name the files, with the default names."""

_KEYS: Final = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
_READ: Final = frozenset({*_KEYS, "region"})

_PLAIN: Final = frozenset({*_READ, "output", "cli_pager", "s3"})
"""The settings of a profile with keys that do not change; others may name a role, a program or another source."""

_OTHER_SOURCES: Final = ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE")
"""Variables of a source that precedes the files."""

_Sections = Mapping[str, Mapping[str, str]]


def static_credentials(aws_profile: str | None) -> Credentials | None:
    """Return the keys of the environment or of a profile, in the SDK's order; not on the event loop.

    Args:
        aws_profile: the section of the files, without the environment's keys; None for the environment's keys, or else
            the section of ``AWS_PROFILE`` or the default one.

    Returns:
        The keys; None if there are none, or if they expire, or if only the SDK can tell.
    """
    profile = read_profile(aws_profile)
    if profile is None:
        return None
    environ = os.environ
    if aws_profile is None and environ.get("AWS_ACCESS_KEY_ID"):
        if environ.get("AWS_CREDENTIAL_EXPIRATION") or environ.get("AWS_SECURITY_TOKEN"):
            return None
        return _credentials({name: environ.get(name.upper(), "") for name in _KEYS})
    if not _PLAIN.issuperset(profile) or any(name in environ for name in _OTHER_SOURCES):
        return None
    return _credentials(next((section for section in profile.maps if _KEYS[0] in section), EMPTY))


def _credentials(settings: Mapping[str, str]) -> Credentials | None:
    access_key, secret_key, token = (settings.get(name) for name in _KEYS)
    return Credentials(access_key, secret_key, token or None) if access_key and secret_key else None


def read_profile(aws_profile: str | None) -> ChainMap[str, str] | None:
    """Return the settings of a profile; not on the event loop.

    Args:
        aws_profile: the section of the files; None for that of ``AWS_PROFILE``, or the default one.

    Returns:
        The settings of both files, of which the credentials file takes precedence; empty if there is no default
        section. None if a file cannot be read with certainty, or if both lack the section.
    """
    environ = os.environ
    name = environ.get("AWS_DEFAULT_PROFILE", environ.get("AWS_PROFILE")) if aws_profile is None else aws_profile
    credentials, config = map(_sections, AWS_FILES)
    if credentials is None or config is None:
        return None
    section = name or "default"
    found = [dict(sections[section]) for sections in (credentials, _profiles(config)) if section in sections]
    return None if name and not found else ChainMap(*found)


def path_of(variable: str) -> str:
    """Return the path of a file of the SDKs."""
    return os.path.expanduser(os.path.expandvars(os.environ.get(variable, AWS_FILES[variable])))


def _sections(variable: str) -> _Sections | None:
    """Return the sections of a file, empty if there is no file; None if the SDK may refuse it or read another thing."""
    path = path_of(variable)
    if not os.path.isfile(path):
        return {}
    from configparser import Error, RawConfigParser

    parser = RawConfigParser()
    try:
        parser.read([path])
    except (Error, UnicodeDecodeError):
        return None
    sections = {name: dict(parser.items(name)) for name in parser.sections()}
    settings = [setting for section in sections.values() for setting in section.items()]
    return sections if all(_is_certain(name, value) for name, value in settings) else None


def _is_certain(name: str, value: str) -> bool:
    """Tell whether a setting is a plain text, or several settings of which none is read here."""
    if not value.startswith("\n"):
        return True
    return name not in _READ and all("=" in line for line in value.splitlines() if line.strip())


def _profiles(config: _Sections) -> _Sections:
    """Return the sections of the config file that are profiles, by their names."""
    found: dict[str, Mapping[str, str]] = {}
    for title, section in config.items():
        if title == "default":
            found[title] = section
        elif title.startswith("profile") and len(words := _words(title)) == 2:
            found[words[1]] = section
    return found


def _words(title: str) -> list[str]:
    import shlex

    try:
        return shlex.split(title)
    except ValueError:
        return []  # the SDK ignores the section, too
