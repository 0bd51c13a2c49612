"""Two writers create an object with the same bytes: only one of them succeeds."""

from __future__ import annotations

import pytest

import trove_async as trove
from tests.s3.stores import PART, address, opened, pattern, scratch
from trove_async.testing.answers import AnsweringProxy, s3_error

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]


async def test_a_lost_create_race_is_not_mistaken_for_success() -> None:
    """The first completion conflicts, which removes the upload, and its answer is lost."""
    data = pattern(3 * PART)
    async with scratch("moto") as bucket, AnsweringProxy(*address("moto")) as service:
        conditions = "put_if_none_match,complete"
        async with opened("moto") as winner, opened("moto", service.url(), conditions=conditions) as loser:
            won = await winner.put(bucket, "key", data)
            service.answer(s3_error(500, "InternalError"), method="POST", path="uploadId=")
            service.answer(s3_error(404, "NoSuchUpload"), method="POST", path="uploadId=")
            service.answer(s3_error(404, "NoSuchUpload"), method="GET", path="uploadId=")
            with pytest.raises(trove.TroveError) as caught:
                await loser.put(bucket, "key", data, if_none_match="*")
            assert caught.value.ambiguous
            assert (await winner.head(bucket, "key")).etag == won.etag
