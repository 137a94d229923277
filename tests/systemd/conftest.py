"""One box a test process; in it a fresh installation for each test."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.systemd.box import Box, boxes, why_not
from tests.systemd.installation import Installation, binds

if TYPE_CHECKING:
    from collections.abc import Iterator


def cannot(reason: str) -> None:
    """Skip, or fail where it has been said that this group is required."""
    text = f"the systemd group cannot run here: {reason}"
    if os.environ.get("FLOWSCHED_SYSTEMD_REQUIRED") == "1":
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


@pytest.fixture(scope="session")
def box() -> Iterator[Box]:
    if (reason := why_not()) is not None:
        cannot(reason)
    yield from boxes(binds())


@pytest.fixture(scope="session")
def laid_out(box: Box) -> Installation:
    installation = Installation(box)
    installation.lay_out()
    return installation


@pytest.fixture
def installed(laid_out: Installation) -> Iterator[Installation]:
    """flowsched with the unit as it ships, not started yet."""
    laid_out.begin()
    try:
        yield laid_out
    finally:
        laid_out.end()
