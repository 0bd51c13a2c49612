"""The driver and a broken or malicious service."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import pytest

from tests.evil_services import EvilAnswers
from tests.network_faults import Target
from tests.s3.stores import PART, opened

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]


@pytest.fixture
def server() -> str:
    return "moto"


@pytest.fixture
def target() -> Target:
    return Target(open_store=partial(opened, "moto"), part_size=PART)


class TestEvilAnswers(EvilAnswers):
    """The tests that all HTTP drivers share."""

    own: ClassVar = {"x-amz-request-id": "1"}
