"""The objects that keep the states of uploads."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime

import pytest

from trove_async.checksums import Checksum
from trove_async.driver.options import ObjectAttributes, PutOptions
from trove_async.errors import BackendError
from trove_async.types import FrozenDict
from trove_async.uploads.info import Destination, FileInfo, FinalAnswer
from trove_async.uploads.metadata import MetaData
from trove_async.uploads.store.state import FOOTER_SIZE, Finishing, Part, State, decode, encode, manifest_size

TO = Destination(
    "bücket",
    "k\ud7ff/ü",
    PutOptions(
        attributes=ObjectAttributes(content_type="a/b", metadata=FrozenDict({"a": "ü"}), tags=FrozenDict({"t": "1"})),
        if_match="etag",
        if_none_match="*",
        checksum=Checksum("crc32c"),
    ),
)
STATE = State(
    info=FileInfo(
        id="id",
        size=10,
        offset=5,
        metadata=MetaData.parse("filename d29ybGQ=,  b /w=="),
        is_partial=True,
        is_final=True,
        partial_ids=("a", "b"),
        max_size=20,
        destination=TO,
        owner="ann\ud800",
        digests=FrozenDict({"md5": "0" * 32}),
        created_at=datetime(2030, 1, 2, 3, 4, 5, 6, UTC),
        expires_at=datetime(2031, 1, 1, tzinfo=UTC),
        is_finished=True,
        etag='"x',
        answer=FinalAnswer(201, (("A", "b"), ("A", "c")), bytes(range(256))),
    ),
    bucket="b",
    key="k",
    backend_id="upload",
    appends=True,
    part_size=7,
    parts=(Part(1, "e1", 3), Part(2, "e2", 1, 2**32 - 1)),
    running=True,
    recoverable=False,
    stale=((3, "e3"), (4, None)),
    tail_size=1,
    finishing=Finishing(None),
)


def test_a_state_is_read_as_it_was_written() -> None:
    plain = State(info=FileInfo(id="x"), bucket="c", key="l", backend_id="", appends=False)
    for state in (STATE, plain):
        written = encode(state)
        assert manifest_size(written) == len(written) - FOOTER_SIZE
        assert decode(written[:-FOOTER_SIZE]) == state
    # Every field has a value here that is not its default.
    for value, default in ((STATE, plain), (STATE.info, FileInfo())):
        for field in fields(value):
            assert getattr(value, field.name) != getattr(default, field.name), field.name


def test_damage_is_noticed() -> None:
    written = encode(STATE)
    for end in (b"", b"x", written[:-1], b"\0" * FOOTER_SIZE):
        with pytest.raises(BackendError):
            manifest_size(end)
    with pytest.raises(BackendError, match="format 2"):
        manifest_size(written[:-8] + (2).to_bytes(4, "big") + written[-4:])
    for manifest in (b"", b"{}", b"[]", b"\xff", written[1:-FOOTER_SIZE], written[: -FOOTER_SIZE - 1]):
        with pytest.raises(BackendError):
            decode(manifest)
