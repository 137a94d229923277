"""Which host is this machine."""

from __future__ import annotations

import pytest

from flowsched.hosts import is_loopback


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"])
def test_this_machine_is_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["", "enos.example", "localhost.example", "127.0.0.1.example", "127.1", "::", "10.0.0.1"],
)
def test_no_other_host_is_taken_for_this_machine(host: str) -> None:
    assert not is_loopback(host)
