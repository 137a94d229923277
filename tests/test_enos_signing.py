from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flowsched.enos.signing import call_signature, token_encryption
from flowsched.enos.stamps import Stamps, stamps_of

VECTORS = json.loads((Path(__file__).parent / "data" / "enos-signature-vectors.json").read_text("utf-8"))
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOON_MS = 1_767_268_800_000


@pytest.mark.parametrize("vector", VECTORS["signature_vectors"], ids=lambda vector: vector["id"])
def test_every_signature_vector_reproduces(vector: dict[str, Any]) -> None:
    query = [(name, value) for name, value in vector["query_pairs_decoded"]]
    body = (vector["body"] or "").encode()

    signature = call_signature(
        vector["accessToken"], query, body, int(vector["timestamp"]), vector["secretKey"]
    )

    assert signature == vector["apim_signature"]


@pytest.mark.parametrize("vector", VECTORS["token_encryption_vectors"], ids=lambda vector: vector["id"])
def test_every_token_encryption_vector_reproduces(vector: dict[str, Any]) -> None:
    encryption = token_encryption(vector["appKey"], vector["timestamp"], vector["appSecret"])

    assert encryption == vector["encryption"]


def test_names_are_sorted_and_not_the_pairs() -> None:
    one_way = call_signature("t", [("a1", "0"), ("a", "9")], b"", 1, "s")

    assert one_way == call_signature("t", [("a", "9a10")], b"", 1, "s")


def test_a_stamp_is_the_millisecond_of_the_call() -> None:
    assert Stamps().next(NOON + timedelta(microseconds=1999)) == NOON_MS + 1


def test_stamps_of_one_millisecond_differ_and_increase() -> None:
    stamps = Stamps()

    drawn = [stamps.next(NOON) for _ in range(3)] + [stamps.next(NOON + timedelta(milliseconds=1))]

    assert drawn == [NOON_MS, NOON_MS + 1, NOON_MS + 2, NOON_MS + 3]


def test_stamps_follow_a_clock_that_was_an_hour_ahead_and_is_set_right() -> None:
    stamps = Stamps()
    stamps.next(NOON + timedelta(hours=1))

    assert stamps.next(NOON) == NOON_MS


def test_gateways_with_one_key_share_their_stamps() -> None:
    assert stamps_of("key-a") is stamps_of("key-a")
    assert stamps_of("key-a") is not stamps_of("key-b")
