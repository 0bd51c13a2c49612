"""Any sequence of faults: the upload is whole in the end, and there is one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.uploads.client.serving import AT_ONCE, client_of, peer_serving
from trove_async.testing.answers import Answer

DATA = Random(3).randbytes(900_000)
PASSING = [408, 423, 429, 500, 502, 503]

Fault = tuple[str, int, Literal["before", "after"]]

faults = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["POST", "HEAD", "PATCH"]), st.sampled_from(PASSING), st.just("before")),
        st.tuples(st.sampled_from(["POST", "HEAD", "PATCH"]), st.sampled_from(PASSING), st.just("after")),
        st.tuples(st.just("PATCH"), st.sampled_from([404, 409, 410, 460]), st.just("before")),
    ),
    max_size=10,
)


@settings(max_examples=25, deadline=None)
@given(
    faults=faults,
    protocol=st.sampled_from(["tus", "ietf"]),
    chunk_size=st.sampled_from([None, 200_000, 300_000]),
    refusals=st.integers(0, 2),
)
def test_faults_in_any_order(faults: list[Fault], protocol: str, chunk_size: int | None, refusals: int) -> None:
    async def run() -> None:
        policy = replace(AT_ONCE, attempts=30)
        async with (
            peer_serving() as peer,
            client_of(peer, protocol=protocol, chunk_size=chunk_size, retries=policy) as client,
        ):
            for method, status, when in faults:
                peer.proxy.answer(Answer(status), method=method, when=when)
            if chunk_size is None:
                peer.proxy.answer(Answer(413), method="PATCH", times=refusals)
            seen: list[int] = []
            found = await client.upload(DATA, on_progress=lambda done, size: seen.append(done))
            assert peer.data(found.url) == DATA
            assert [upload.info.is_finished for upload in peer.store.uploads.values()].count(True) >= 1
            gone = any(status in (404, 410) for _, status, _ in faults)
            if not gone:
                assert all(before <= after for before, after in pairwise(seen))
                assert [upload.info.is_finished for upload in peer.store.uploads.values()].count(True) == 1
            lost = sum((method, when) == ("POST", "after") for method, _, when in faults)
            anew = sum(status in (404, 410) for _, status, _ in faults)
            assert len(peer.store.uploads) <= 1 + lost + anew

    asyncio.run(run())
