"""What a look at an instance shows: enos-api sections 3.2, 3.3, 4, 6, 8 and 9, row by row."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsched.enos.meaning import TokenRefused
from flowsched.enos.replies import Reply
from flowsched.enos.sightings import sighting_of
from flowsched.model import FlowState, Seen, Sighting

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ID = "2809-20190808093200"
OTHER = "2809-20190808093300"
STRUCT = {
    "instanceId": ID,
    "flowId": 2809,
    "status": 1,
    "statusDesc": "SUCCESS",
    "triggerTime": "2019-08-08 09:32:12",
    "startTime": "2019-08-08 09:32:12",
    "endTime": "2019-08-08 09:35:40",
}
FOUND, ABSENT, UNCLEAR = Seen.FOUND, Seen.ABSENT, Seen.UNCLEAR
GOING, SUCCEEDED, FAILED = FlowState.GOING, FlowState.SUCCEEDED, FlowState.FAILED


def look(http_status: int, body: Any, version: str = "v2.1", **more: Any) -> Sighting | TokenRefused:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return sighting_of(ID, Reply(http_status, content, **more), version, NOW)


def seen(http_status: int, body: Any, version: str = "v2.1", **more: Any) -> Seen | None:
    """What was seen; None: the token was refused."""
    found = look(http_status, body, version, **more)
    return None if isinstance(found, TokenRefused) else found.seen


def shown(data: Any, http_status: int = 200) -> Sighting:
    found = look(http_status, {"code": 0, "msg": "OK", "data": data})
    assert isinstance(found, Sighting)
    return found


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (STRUCT, FOUND),  # section 3.2, English pages
        ([STRUCT], FOUND),  # section 3.2, Chinese pages
        ({"instanceId": ID}, FOUND),
        ({"flowInstanceId": ID}, FOUND),  # the name in a trigger's reply
        ({"id": ID}, FOUND),  # the name in the graph
        ({"id": 17, "instanceId": ID}, FOUND),
        ({"instanceId": None, "id": ID}, FOUND),
        (None, ABSENT),  # section 1: other services send null
        ([], ABSENT),
        ({}, ABSENT),
        ({**STRUCT, "instanceId": OTHER}, UNCLEAR),
        ({"instanceId": OTHER, "id": ID}, UNCLEAR),
        ([{**STRUCT, "instanceId": OTHER}], UNCLEAR),
        ({"instanceId": f" {ID}"}, UNCLEAR),
        ({"instanceId": [ID]}, UNCLEAR),
        ({"flowId": 2809, "status": 1}, UNCLEAR),
        ([STRUCT, STRUCT], UNCLEAR),
        ([{}], UNCLEAR),
        ([None], UNCLEAR),
        ([[]], UNCLEAR),
        ([ID], UNCLEAR),
        ("", UNCLEAR),
        (ID, UNCLEAR),
        (0, UNCLEAR),
        (False, UNCLEAR),
        (json.dumps(STRUCT), UNCLEAR),
    ],
)
def test_what_the_data_of_a_success_shows(data: Any, expected: Seen) -> None:
    assert shown(data).seen is expected


def test_a_success_without_data_shows_that_there_is_none() -> None:
    assert seen(200, {"code": 0, "msg": "OK"}) is ABSENT


@pytest.mark.parametrize("data", [STRUCT, None, [], {}])
@pytest.mark.parametrize("http_status", [302, 400, 404, 429, 500, 503])
def test_a_success_in_a_failure_is_unclear(data: Any, http_status: int) -> None:
    assert shown(data, http_status).seen is UNCLEAR


@pytest.mark.parametrize(
    ("status", "flow"),
    [
        (-1, FAILED),
        (0, GOING),
        (1, SUCCEEDED),
        (2, GOING),
        (3, GOING),
        (4, FAILED),
        (5, GOING),
        (6, GOING),
        (7, FAILED),
        (8, FAILED),
        (9, GOING),
        (10, FAILED),
        (11, GOING),
        (42, GOING),
        (-2, GOING),
    ],
)
@pytest.mark.parametrize("kind", [int, str])
def test_a_status_is_an_end_as_section_4_reads_it(status: int, flow: FlowState, kind: type) -> None:
    found = shown({**STRUCT, "status": kind(status)})

    assert (found.seen, found.flow, found.status) == (FOUND, flow, status)


@pytest.mark.parametrize("status", [None, True, 1.0, "", "SUCCESS", "1.0", [1], 10**19])
def test_a_status_that_cannot_be_read_has_not_ended(status: object) -> None:
    found = shown({**STRUCT, "status": status})

    assert (found.seen, found.flow, found.status) == (FOUND, GOING, None)
    assert found.detail == f"instance {ID} is there, without a status that can be read"


@pytest.mark.parametrize(
    ("status", "words"),
    [(2, "is RUNNING"), (-1, "is FAIL"), (10, "is SKIP"), (42, "has status 42, which is not documented")],
)
def test_a_sighting_says_how_the_instance_stands(status: int, words: str) -> None:
    assert shown({**STRUCT, "status": status}).detail == f"instance {ID} {words}"


def test_times_are_passed_on_as_they_are_written() -> None:
    assert shown(STRUCT) == Sighting(
        seen=FOUND,
        detail=f"instance {ID} is SUCCESS",
        flow=SUCCEEDED,
        status=1,
        started="2019-08-08 09:32:12",
        ended="2019-08-08 09:35:40",
    )


@pytest.mark.parametrize("time", [None, "", 1565256732000, "x" * 41, "2019-08-08\n09:32:12", "\u202e", ["x"]])
def test_a_time_that_is_no_short_line_is_left_out(time: object) -> None:
    found = shown({**STRUCT, "startTime": time, "endTime": time})

    assert (found.seen, found.started, found.ended) == (FOUND, None, None)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (62102, ABSENT),  # section 6: the only documented "not found", though for another call
        (62101, UNCLEAR),  # section 6, common
        (62103, UNCLEAR),  # section 6, common
        (62104, UNCLEAR),
        (62105, UNCLEAR),
        (62109, UNCLEAR),  # section 6, common
        (62100, UNCLEAR),
        (62999, UNCLEAR),
        ("62102", ABSENT),
    ],
)
@pytest.mark.parametrize("http_status", [200, 400, 401, 404, 500, 503])
def test_a_code_of_the_service_decides_whatever_the_http_status(
    code: object, expected: Seen, http_status: int
) -> None:
    assert seen(http_status, {"code": code, "msg": "words", "data": None}) is expected


@pytest.mark.parametrize(
    ("http_status", "body"),
    [
        *[
            (status, {"message": "words"})
            for status in (302, 400, 403, 404, 405, 408, 413, 429, 500, 502, 503, 504)
        ],
        *[(status, b"") for status in (200, 204, 404, 500)],  # section 8: 404 is no word of the service
        (200, b"<html>"),
        (200, b'{"code": 0, "data": nul'),
        (200, b"null"),
        (200, b"[]"),
        (200, {}),
        (200, {"data": STRUCT}),
        (200, {"code": None, "data": None}),
        (200, {"code": False, "data": None}),
        (200, {"code": 1, "data": None}),
        (200, {"code": 404, "data": None}),  # section 8, codes of the v1 gateway
        (200, {"code": 99404, "data": None}),
        (200, {"status": 0, "data": None}),  # section 9
        (200, {"status": 0, "data": STRUCT}),
        (200, {"status": 62102}),
    ],
)
def test_whatever_else_comes_is_unclear(http_status: int, body: Any) -> None:
    assert seen(http_status, body) is UNCLEAR


@pytest.mark.parametrize("body", [{"code": 0, "data": None}, {"code": 0, "data": STRUCT}, {"code": 62102}])
def test_a_body_that_is_not_whole_is_unclear(body: Any) -> None:
    assert seen(200, body, flaw="longer than 4096 KiB") is UNCLEAR


@pytest.mark.parametrize(
    ("http_status", "body"),
    [
        (401, {"message": "Invalid authentication credentials"}),
        (200, {"code": 1203}),
        (200, {"status": 1203}),
        (200, {"apim_status": 4011, "apim_refreshtoken": "r"}),
    ],
)
def test_a_refused_token_is_no_sighting(http_status: int, body: Any) -> None:
    assert seen(http_status, body) is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"status": 0, "msg": " Success", "data": STRUCT}, FOUND),
        ({"status": 0, "data": None}, ABSENT),
        ({"status": 62102}, ABSENT),
        ({"status": 62109}, UNCLEAR),
        ({"code": 0, "data": None}, UNCLEAR),
        ({"code": 62102}, UNCLEAR),
    ],
)
def test_v2_0_reads_status(body: Any, expected: Seen) -> None:
    assert seen(200, body, "v2.0") is expected


@pytest.mark.parametrize(
    ("http_status", "body", "detail"),
    [
        (
            200,
            {"code": 0, "msg": "OK", "data": None},
            f"HTTP 200, code 0: EnOS shows no instance {ID}; it says: OK",
        ),
        (
            200,
            {"code": 62102, "msg": "Instance not found"},
            "HTTP 200, code 62102: EnOS has no such instance; it says: Instance not found",
        ),
        (
            200,
            {"code": 0, "data": {"instanceId": OTHER}},
            "HTTP 200, code 0: EnOS shows something else than was asked for; it carries no message",
        ),
        (
            200,
            {"code": 0, "data": 7},
            "HTTP 200, code 0: EnOS shows something that is no instance; it carries no message",
        ),
        (
            500,
            {"code": 0, "data": None},
            "HTTP 500, code 0: EnOS says success, but not with a 2xx status; it carries no message",
        ),
        (
            404,
            {"message": "no Route"},
            "HTTP 404: no such service there: check url and api_version; it says: no Route",
        ),
        (200, {"code": 62109, "msg": "m"}, "HTTP 200, code 62109: EnOS failed inside; it says: m"),
    ],
)
def test_a_sighting_says_why(http_status: int, body: Any, detail: str) -> None:
    found = look(http_status, body)

    assert isinstance(found, Sighting)
    assert found.detail == detail
    assert (found.flow, found.status, found.started, found.ended) == (None, None, None, None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just(ID),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*STRUCT, "id", "x"]), inner),
    max_leaves=8,
)


@given(JSON)
def test_nothing_is_found_that_is_not_named_and_nothing_absent_that_shows_something(data: object) -> None:
    found = shown(data)

    assert (found.seen is ABSENT) == (data is None or data in ([], {}))
    assert found.seen is not FOUND or ID in json.dumps(data)
    assert (found.flow is None) == (found.seen is not FOUND)
