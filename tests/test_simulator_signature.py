"""The simulator's own reading of enos-api sections 5 and 7, against the known-answer vectors."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flowsched.simulator import instance_id
from flowsched.simulator.signature import decoded, expected_encryption, expected_signature, same

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "data" / "enos-signature-vectors.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("vector", VECTORS["signature_vectors"], ids=lambda vector: vector["id"])
def test_every_signature_vector_reproduces(vector: dict[str, Any]) -> None:
    parameters = decoded(vector["query_on_wire"])
    body = (vector["body"] or "").encode()

    signature = expected_signature(
        vector["accessToken"], parameters, body, vector["timestamp"], vector["secretKey"]
    )

    assert parameters == dict(vector["query_pairs_decoded"])
    assert signature == vector["apim_signature"]


@pytest.mark.parametrize("vector", VECTORS["token_encryption_vectors"], ids=lambda vector: vector["id"])
def test_every_encryption_vector_reproduces(vector: dict[str, Any]) -> None:
    encryption = expected_encryption(vector["appKey"], str(vector["timestamp"]), vector["appSecret"])

    assert encryption == vector["encryption"]


@pytest.mark.parametrize("vector", VECTORS["flow_instance_id_vectors"], ids=lambda vector: vector["id"])
def test_every_instance_id_vector_reproduces(vector: dict[str, Any]) -> None:
    trigger_time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=vector["triggerTime"])

    assert instance_id(vector["flowId"], trigger_time) == vector["id"]


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("", {}),
        ("a=1&b=", {"a": "1", "b": ""}),
        ("a=x+y&b=x%20y", {"a": "x y", "b": "x y"}),
        ("a=1&a=2", {"a": "1"}),
        ("a&b=2", {"a": "null", "b": "2"}),
        ("a=1=2", {"a": "1=2"}),
    ],
)
def test_a_query_is_read_as_the_vendor_sample_reads_it(query: str, parameters: dict[str, str]) -> None:
    assert decoded(query) == parameters


def test_upper_case_is_not_the_same_and_strange_text_is_no_error() -> None:
    assert same("ab12", "ab12")
    assert not same("AB12", "ab12")
    assert not same("\ud800\xff", "ab12")
