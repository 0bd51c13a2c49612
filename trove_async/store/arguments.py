"""From keyword arguments to options: checked, normalised, with the defaults filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Final, NotRequired, TypedDict, cast

from trove_async.body import Progress
from trove_async.checksums import Checksum
from trove_async.driver.capabilities import Limits
from trove_async.driver.options import (
    CONTENT_HEADERS,
    CopyOptions,
    GetOptions,
    HeadOptions,
    ObjectAttributes,
    PresignOptions,
    PresignPostOptions,
    PutOptions,
)
from trove_async.errors import InvalidArgumentError, InvalidLifecycleError, InvalidPartError
from trove_async.keys import (
    check_content_type,
    check_header,
    check_metadata,
    check_prefix,
    check_tags,
    content_type_of,
)
from trove_async.ranges import ByteRange, RangeLike
from trove_async.types import LifecycleRule, ObjectInfo, PartInfo
from trove_async.values import check_function

__all__ = [
    "CopyArguments",
    "ObjectArguments",
    "PresignArguments",
    "PutArguments",
    "check_lifecycle",
    "check_page_size",
    "check_parts",
    "get_options",
    "head_options",
    "plain_etag",
    "presign_options",
    "put_options",
]


class ContentArguments(TypedDict, total=False):
    """The content type and the content headers of an object: see `ObjectAttributes`."""

    content_type: str | None
    cache_control: str | None
    content_disposition: str | None
    content_encoding: str | None
    content_language: str | None


class ObjectArguments(ContentArguments, total=False):
    """What is stored with an object: see `ObjectAttributes`."""

    metadata: Mapping[str, str] | None
    tags: Mapping[str, str] | None
    storage_class: str | None


class ConditionArguments(TypedDict, total=False):
    """The conditions of a write: see `PutOptions`."""

    if_match: str | None
    if_none_match: str | None


class UploadArguments(ObjectArguments, total=False):
    """Keyword arguments of ``initiate_multipart``."""

    checksum: Checksum | str | None


class PutArguments(UploadArguments, ConditionArguments, total=False):
    """Keyword arguments of ``put`` and ``writer``."""

    size: int | None
    on_progress: Progress | None


class CopyArguments(ObjectArguments, ConditionArguments, total=False):
    """Keyword arguments of ``copy``."""

    replace: bool
    source_version_id: str | None
    source_if_match: str | None


PUT_ARGUMENTS: Final = frozenset(PutArguments.__optional_keys__)
COPY_ARGUMENTS: Final = frozenset(CopyArguments.__optional_keys__)
UPLOAD_ARGUMENTS: Final = frozenset(UploadArguments.__optional_keys__)

_DESCRIBED: Final = tuple(ObjectArguments.__optional_keys__)
_CONTENT_FIELDS: Final = tuple(field for _, field in CONTENT_HEADERS)
_HEADER_FIELDS: Final = ("storage_class", *_CONTENT_FIELDS)


class PresignArguments(TypedDict, total=False):
    """Keyword arguments of the ``presign_…`` methods: see `PresignOptions`."""

    expires: float | timedelta
    version_id: str | None
    content_type: str | None
    content_length: int | None
    response_content_type: str | None
    response_content_disposition: str | None


class PresignPostArguments(TypedDict):
    """Keyword arguments of ``presign_post``: see `PresignPostOptions`."""

    max_size: int
    min_size: NotRequired[int]
    expires: NotRequired[float | timedelta]
    content_type: NotRequired[str | None]


PRESIGN_ARGUMENTS: Final = frozenset(PresignArguments.__annotations__)
PRESIGN_POST_ARGUMENTS: Final = frozenset(PresignPostArguments.__annotations__)


_HEAD = HeadOptions()
_GET = GetOptions()


def plain_etag(etag: str | None) -> str | None:
    """Return an ETag as we write them, without the quotes and the weakness that headers give it."""
    if etag is None:
        return None
    if not isinstance(etag, str):
        raise InvalidArgumentError(f"an ETag is a str, not {type(etag).__name__}")
    plain = etag.strip().removeprefix("W/").strip('"')
    if not plain or "," in plain or '"' in plain:
        raise InvalidArgumentError(f"{etag!r} is no single ETag")
    return plain


@lru_cache(256)
def default_put_options(content_type: str) -> PutOptions:
    """Return the options of a put without keyword arguments; shared."""
    return PutOptions(attributes=ObjectAttributes(content_type=content_type))


def put_options(key: str, arguments: PutArguments, limits: Limits) -> PutOptions:
    """Return the options of a put."""
    if_match, if_none_match = write_conditions(arguments)
    checksum = arguments.get("checksum")
    return PutOptions(
        attributes=object_attributes(key, arguments, limits),
        if_match=if_match,
        if_none_match=if_none_match,
        checksum=None if checksum is None else Checksum.of(checksum),
    )


def copy_options(key: str, arguments: CopyArguments, limits: Limits) -> CopyOptions:
    """Return the options of a copy to a key."""
    described = object_arguments(arguments)
    replaces = arguments.get("replace", False)
    if not replaces and any(described.values()):
        raise InvalidArgumentError(
            f"{', '.join(sorted(name for name, value in described.items() if value))} would replace all that "
            "describes the source; pass replace=True"
        )
    if_match, if_none_match = write_conditions(arguments)
    return CopyOptions(
        replace=object_attributes(key, described, limits) if replaces else None,
        source_version_id=arguments.get("source_version_id"),
        source_if_match=plain_etag(arguments.get("source_if_match")),
        if_match=if_match,
        if_none_match=if_none_match,
    )


def object_arguments(arguments: PutArguments | CopyArguments) -> ObjectArguments:
    """Return those of the arguments that describe an object."""
    return cast(ObjectArguments, {name: arguments[name] for name in _DESCRIBED if name in arguments})  # type: ignore[literal-required]


def content_arguments(info: ObjectInfo) -> ContentArguments:
    """Return the content type and content headers of an object, as arguments that store another like it."""
    return cast(ContentArguments, {name: getattr(info, name) for name in ("content_type", *_CONTENT_FIELDS)})


def object_attributes(key: str, arguments: ObjectArguments, limits: Limits) -> ObjectAttributes:
    """Return the attributes of an object, checked."""
    values = cast(dict[str, str | None], arguments)
    headers: dict[str, str] = {}
    for name in _HEADER_FIELDS:
        if (value := values.get(name)) is not None:
            check_header(name, value)
            headers[name] = value
    content_type = arguments.get("content_type")
    if content_type is None:
        content_type = content_type_of(key)
    else:
        check_content_type(content_type)
    metadata = check_metadata(arguments.get("metadata"))
    limits.check_metadata(metadata)
    tags = check_tags(arguments.get("tags"))
    return ObjectAttributes(content_type=content_type, metadata=metadata, tags=tags, **headers)


def write_conditions(arguments: ConditionArguments) -> tuple[str | None, str | None]:
    """Return ``if_match`` and ``if_none_match``, of which one may be given."""
    if_match, if_none_match = arguments.get("if_match"), arguments.get("if_none_match")
    if if_match is not None and if_none_match is not None:
        raise InvalidArgumentError("give if_match or if_none_match, not both")
    return plain_etag(if_match), plain_etag(if_none_match)


def check_keywords(method: str, arguments: Mapping[str, object], known: frozenset[str]) -> None:
    """Refuse keyword arguments that a method does not have, as Python does.

    Raises:
        TypeError: names the argument.
    """
    for name in arguments:
        if name not in known:
            raise TypeError(f"{method}() got an unexpected keyword argument {name!r}")


def _aware(name: str, value: datetime | None) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise InvalidArgumentError(f"{name} is a datetime, not {type(value).__name__}")
    if value.tzinfo is None:
        raise InvalidArgumentError(f"{name} has no time zone; give an aware datetime, such as datetime.now(UTC)")
    return value.astimezone(UTC)


def head_options(
    *,
    version_id: str | None = None,
    if_match: str | None = None,
    if_none_match: str | None = None,
    if_modified_since: datetime | None = None,
    if_unmodified_since: datetime | None = None,
) -> HeadOptions:
    """Return the options of a head."""
    return HeadOptions(
        version_id=version_id,
        if_match=plain_etag(if_match),
        if_none_match=plain_etag(if_none_match),
        if_modified_since=_aware("if_modified_since", if_modified_since),
        if_unmodified_since=_aware("if_unmodified_since", if_unmodified_since),
    )


def get_options(
    *,
    range: RangeLike | None = None,
    version_id: str | None = None,
    if_match: str | None = None,
    if_none_match: str | None = None,
    if_modified_since: datetime | None = None,
    if_unmodified_since: datetime | None = None,
) -> GetOptions:
    """Return the options of a get."""
    return GetOptions(
        range=None if range is None else ByteRange.of(range),
        version_id=version_id,
        if_match=plain_etag(if_match),
        if_none_match=plain_etag(if_none_match),
        if_modified_since=_aware("if_modified_since", if_modified_since),
        if_unmodified_since=_aware("if_unmodified_since", if_unmodified_since),
    )


def presign_options(
    limits: Limits,
    *,
    expires: float | timedelta = 3600,
    version_id: str | None = None,
    content_type: str | None = None,
    content_length: int | None = None,
    response_content_type: str | None = None,
    response_content_disposition: str | None = None,
) -> PresignOptions:
    """Return the options of a signed URL."""
    if content_type is not None:
        check_content_type(content_type)
    if content_length is not None and (not isinstance(content_length, int) or content_length < 0):
        raise InvalidArgumentError(f"content_length must be a whole number of 0 or more, not {content_length!r}")
    if response_content_type is not None:
        check_content_type(response_content_type)
    if response_content_disposition is not None:
        check_header("response_content_disposition", response_content_disposition)
    return PresignOptions(
        expires=_expires(expires, limits),
        version_id=version_id,
        content_type=content_type,
        content_length=content_length,
        response_content_type=response_content_type,
        response_content_disposition=response_content_disposition,
    )


def presign_post_options(
    limits: Limits,
    *,
    max_size: int,
    min_size: int = 0,
    expires: float | timedelta = 3600,
    content_type: str | None = None,
) -> PresignPostOptions:
    """Return the options of a signed form."""
    if type(max_size) is not int or type(min_size) is not int or not 0 <= min_size <= max_size:
        raise InvalidArgumentError(f"0 <= min_size <= max_size must hold, not {min_size!r} and {max_size!r}")
    if content_type is not None:
        check_content_type(content_type)
    return PresignPostOptions(
        max_size=max_size, min_size=min_size, expires=_expires(expires, limits), content_type=content_type
    )


def _expires(expires: float | timedelta, limits: Limits) -> int:
    if isinstance(expires, timedelta):
        expires = expires.total_seconds()
    if not isinstance(expires, int | float) or not 1 <= expires <= limits.max_presign_seconds:
        raise InvalidArgumentError(f"expires must be 1 to {limits.max_presign_seconds} seconds, not {expires!r}")
    return int(expires)


def check_progress(on_progress: object) -> None:
    """Check a function that is called with the progress of a transfer; None is no function."""
    if on_progress is not None:
        check_function("on_progress", "the bytes so far and the size", on_progress)


def check_page_size(page_size: int) -> None:
    """Check the number of items that one request of a listing asks for."""
    if not isinstance(page_size, int) or not 1 <= page_size <= 1000:
        raise InvalidArgumentError(f"page_size must be a whole number from 1 to 1000, not {page_size!r}")


def check_parts(parts: Sequence[PartInfo]) -> tuple[PartInfo, ...]:
    """Return the parts of an upload, which must be there and ascend."""
    checked = tuple(parts)
    if not checked:
        raise InvalidPartError("an upload cannot be completed with no parts; put an empty object instead")
    for before, after in pairwise(checked):
        if after.number <= before.number:
            raise InvalidPartError(f"the parts must ascend: {after.number} comes after {before.number}")
    return checked


def check_lifecycle(rules: Sequence[LifecycleRule]) -> tuple[LifecycleRule, ...]:
    """Return lifecycle rules, each of which must say what to do, and none twice.

    Raises:
        InvalidLifecycleError: names the rule and what is wrong with it.
    """
    if isinstance(rules, LifecycleRule):
        raise InvalidLifecycleError("the rules are a list of LifecycleRule, not one rule")
    checked = tuple(rules)
    ids: set[str] = set()
    for rule in checked:
        if not isinstance(rule, LifecycleRule):
            raise InvalidLifecycleError(f"a rule is a LifecycleRule, not {type(rule).__name__}")
        if not isinstance(rule.id, str) or not 0 < len(rule.id) <= 255 or not rule.id.isprintable():
            raise InvalidLifecycleError(f"the id of a rule has 1 to 255 printable characters, not {rule.id!r}")
        if rule.id in ids:
            raise InvalidLifecycleError(f"two rules have the id {rule.id!r}")
        ids.add(rule.id)
        if not isinstance(rule.enabled, bool):
            raise InvalidLifecycleError(f"rule {rule.id!r}: enabled must be true or false, not {rule.enabled!r}")
        check_prefix(rule.prefix)
        days = {
            "expiration_days": rule.expiration_days,
            "transition_days": rule.transition_days,
            "noncurrent_expiration_days": rule.noncurrent_expiration_days,
            "abort_incomplete_days": rule.abort_incomplete_days,
        }
        for name, value in days.items():
            if value is not None and (type(value) is not int or value < 1):
                raise InvalidLifecycleError(
                    f"rule {rule.id!r}: {name} must be a whole number, 1 or more, not {value!r}"
                )
        if all(value is None for value in days.values()):
            raise InvalidLifecycleError(f"rule {rule.id!r} says nothing to do; set one of {', '.join(days)}")
        if (rule.transition_days is None) != (rule.transition_storage is None):
            raise InvalidLifecycleError(f"rule {rule.id!r}: give both transition_days and transition_storage")
        if rule.transition_storage is not None:
            check_header("transition_storage", rule.transition_storage)
        if (
            rule.expiration_days is not None
            and rule.transition_days is not None
            and rule.expiration_days <= rule.transition_days
        ):
            raise InvalidLifecycleError(f"rule {rule.id!r} expires objects before it moves them")
    return checked
