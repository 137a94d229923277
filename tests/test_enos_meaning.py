"""The tables of enos-api sections 6 and 8, row by row."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flowsched.enos.meaning import TokenRefused, meaning_of, meaning_of_cancel
from flowsched.enos.replies import Reply
from flowsched.model import Answer, Outcome

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ACCEPTED, GOOD, LATER, UNKNOWN = (
    Outcome.ACCEPTED,
    Outcome.REFUSED_FOR_GOOD,
    Outcome.REFUSED_FOR_NOW,
    Outcome.UNKNOWN,
)
TOKEN = "token refused"
MADE = {"flowInstanceId": "3377-20200706062600"}


def meaning(http_status: int, body: Any, version: str = "v2.1", **more: Any) -> str:
    found = meaning_of(a_reply(http_status, body, **more), version, NOW)
    return TOKEN if isinstance(found, TokenRefused) else found.outcome


def a_reply(http_status: int, body: Any, **more: Any) -> Reply:
    return Reply(http_status, body if isinstance(body, bytes) else json.dumps(body).encode(), **more)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (62101, GOOD),
        (62102, Outcome.NOT_CREATED),
        (62103, GOOD),
        (62104, GOOD),
        (62105, GOOD),
        (62109, UNKNOWN),
        (62100, UNKNOWN),
        (62999, UNKNOWN),
    ],
)
@pytest.mark.parametrize("http_status", [200, 400, 401, 403, 404, 429, 500, 503])
def test_a_code_of_the_service_decides_whatever_the_http_status(
    code: int, expected: Outcome, http_status: int
) -> None:
    assert meaning(http_status, {"code": code, "msg": "words", "data": None}) == expected


@pytest.mark.parametrize(
    ("http_status", "body", "expected"),
    [
        (200, {"code": 0, "msg": "OK", "data": MADE}, ACCEPTED),
        (201, {"code": 0, "data": MADE}, ACCEPTED),
        (200, {"code": "0", "data": MADE}, ACCEPTED),
        (200, {"code": 0, "status": 1203, "data": MADE}, ACCEPTED),
        (500, {"code": 0, "data": MADE}, UNKNOWN),
        (503, {"code": 0, "data": MADE}, UNKNOWN),
        (404, {"code": 0, "data": MADE}, UNKNOWN),
        (302, {"code": 0, "data": MADE}, UNKNOWN),
        (200, {"code": 0, "data": None}, UNKNOWN),
        (200, {"code": 0}, UNKNOWN),
        (200, {"code": 0, "data": {}}, UNKNOWN),
        (200, {"code": 0, "data": {"flowInstanceId": ""}}, UNKNOWN),
        (200, {"code": 0, "data": {"flowInstanceId": 7}}, UNKNOWN),
        (200, {"code": 0, "data": {"flowInstanceId": "a\nb"}}, UNKNOWN),
        (200, {"code": 0, "data": {"flowInstanceId": "9" * 129}}, UNKNOWN),
        (200, {"code": 0, "data": [MADE]}, UNKNOWN),
        (200, {"code": 0, "data": {"flowInstanceId": "3377-2020070606"}}, ACCEPTED),  # section 5
        (200, {"code": False, "data": MADE}, UNKNOWN),
        (200, {"code": None, "data": MADE}, UNKNOWN),
        (200, {"data": MADE}, UNKNOWN),
    ],
)
def test_only_a_whole_success_is_accepted(http_status: int, body: Any, expected: Outcome) -> None:
    assert meaning(http_status, body) == expected


@pytest.mark.parametrize(
    "body", [b"", b"<html>welcome</html>", b'{"code": 0, "da', b"[]", b"\xff", b'"OK"', b"{}"]
)
@pytest.mark.parametrize("http_status", [200, 202, 204])
def test_a_success_that_cannot_be_read_is_unknown(http_status: int, body: bytes) -> None:
    assert meaning(http_status, body) == UNKNOWN


@pytest.mark.parametrize("flaw", ["cut off (Connection reset by peer)", "longer than 64 KiB"])
def test_a_success_whose_body_is_not_whole_is_unknown(flaw: str) -> None:
    assert meaning(200, {"code": 0, "data": MADE}, flaw=flaw) == UNKNOWN


@pytest.mark.parametrize("http_status", [302, 400, 401, 403, 404, 413, 429, 497, 498, 501, 503])
@pytest.mark.parametrize("number", [0, 62103, 62109])
@pytest.mark.parametrize("version", ["v2.1", "v2.0"])
def test_a_status_says_nothing_where_the_body_could_not_be_read(
    http_status: int, number: int, version: str
) -> None:
    body = json.dumps({"code": number, "status": number, "data": MADE}).encode()

    for reply in (
        Reply(http_status, body[:-20], flaw="cut off (peer closed connection)"),
        Reply(http_status, body, flaw="cut off (peer closed connection)"),
        Reply(http_status, b"", flaw="in an encoding that was not asked for"),
        Reply(http_status, body[:-20]),  # where it ends with the connection, nothing else shows it
        Reply(http_status, b"\xef\xbb\xbf\r\n {"),
    ):
        for meaning_of_it in (meaning_of, meaning_of_cancel):
            answer = meaning_of_it(reply, version, NOW)

            assert isinstance(answer, Answer)
            assert answer.outcome is UNKNOWN
            assert answer.retry_after is None
            assert answer.http_status == http_status
            assert f"HTTP {http_status}: what it says of the call could not be read; " in answer.detail
            assert f"the body is {reply.flaw or 'no whole JSON'}; " in answer.detail


GATEWAY = [
    (400, GOOD),
    (401, TOKEN),
    (403, GOOD),
    (404, GOOD),
    (405, GOOD),
    (408, UNKNOWN),
    (409, GOOD),
    (413, GOOD),
    (415, GOOD),
    (418, GOOD),
    (429, LATER),
    (430, GOOD),
    (497, GOOD),
    (498, GOOD),
    (499, GOOD),
    (500, UNKNOWN),
    (501, GOOD),
    (502, UNKNOWN),
    (503, UNKNOWN),
    (504, UNKNOWN),
    (599, UNKNOWN),
]


@pytest.mark.parametrize(("http_status", "expected"), GATEWAY)
@pytest.mark.parametrize("body", [{"message": "words"}, b"<html>", b"", {"status": 404, "error": "x"}])
def test_the_status_of_the_gateway_decides_where_there_is_no_code(
    http_status: int, expected: str, body: Any
) -> None:
    assert meaning(http_status, body) == expected


@pytest.mark.parametrize(("code", "expected"), GATEWAY)
def test_a_code_of_the_v1_gateway_in_a_success_counts_as_the_status(code: int, expected: str) -> None:
    assert meaning(200, {"code": code, "msg": "words"}) == expected


@pytest.mark.parametrize("http_status", [101, 600, 701, 999])
def test_a_status_that_is_none_is_unknown(http_status: int) -> None:
    assert meaning(http_status, b"") == UNKNOWN


@pytest.mark.parametrize("http_status", [300, 301, 302, 303, 304, 307, 308])
def test_a_redirect_is_refused_for_good(http_status: int) -> None:
    assert meaning(http_status, b"") == GOOD


@pytest.mark.parametrize("code", [1, 200, 601, 701, 702, 99400, 99403, 99404, 99500, -1])
def test_a_code_of_another_service_is_unknown(code: int) -> None:
    assert meaning(200, {"code": code}) == UNKNOWN


@pytest.mark.parametrize("key", ["code", "status"])
@pytest.mark.parametrize("number", [1001, 1002, 1003, 1004, 1202, 1203, 1204, "1203"])
@pytest.mark.parametrize("http_status", [200, 400, 401, 403])
@pytest.mark.parametrize("version", ["v2.1", "v2.0"])
def test_a_number_of_the_token_service_refuses_the_token(
    key: str, number: object, http_status: int, version: str
) -> None:
    assert meaning(http_status, {key: number, "msg": "words"}, version) == TOKEN


def test_a_failure_inside_the_token_service_is_unknown_on_a_call() -> None:
    assert meaning(200, {"status": 1005}) == UNKNOWN


@pytest.mark.parametrize("apim_status", [4011, 4012, "4011", 9])
def test_apim_status_in_a_success_refuses_the_token(apim_status: object) -> None:
    assert meaning(200, {"apim_status": apim_status, "apim_refreshtoken": "r"}) == TOKEN


def test_apim_status_beside_a_code_is_not_heeded() -> None:
    assert meaning(200, {"apim_status": 4011, "code": 0, "data": MADE}) == ACCEPTED


def test_apim_status_in_a_failure_is_not_heeded() -> None:
    assert meaning(502, {"apim_status": 4011}) == UNKNOWN


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"status": 0, "msg": " Success", "data": MADE}, ACCEPTED),
        ({"status": 62104}, GOOD),
        ({"status": 62109}, UNKNOWN),
        ({"code": 0, "data": MADE}, UNKNOWN),
        ({"code": 62104}, UNKNOWN),
        ({"status": 429}, LATER),
    ],
)
def test_v2_0_reads_status(body: Any, expected: Outcome) -> None:
    assert meaning(200, body, "v2.0") == expected


@pytest.mark.parametrize("status", [0, 62104, 429])
def test_v2_1_does_not_read_status(status: int) -> None:
    assert meaning(200, {"status": status, "data": MADE}) == UNKNOWN


@pytest.mark.parametrize(("version", "key"), [("v2.1", "status"), ("v2.0", "code")])
@pytest.mark.parametrize("number", [0, 62103, 62109, 62999, "62109"])
@pytest.mark.parametrize(
    ("http_status", "more"),
    [
        (200, {}),
        (200, {"apim_status": 4011}),
        (302, {}),
        (400, {}),
        (404, {}),
        (429, {}),
        (497, {}),
        (503, {}),
    ],
)
def test_a_number_of_the_service_in_the_other_versions_place_is_unknown(
    version: str, key: str, number: object, http_status: int, more: dict[str, Any]
) -> None:
    assert meaning(http_status, {key: number, **more}, version) == UNKNOWN


@pytest.mark.parametrize(
    ("version", "own", "other"), [("v2.1", "code", "status"), ("v2.0", "status", "code")]
)
@pytest.mark.parametrize("number", [429, 1203])
def test_a_number_of_the_service_in_the_other_versions_place_outweighs_the_gateway(
    version: str, own: str, other: str, number: int
) -> None:
    assert meaning(200, {own: number, other: 0}, version) == UNKNOWN


@pytest.mark.parametrize(("version", "key"), [("v2.1", "status"), ("v2.0", "code")])
@pytest.mark.parametrize("number", [0, 62109])
def test_a_401_refuses_the_token_whatever_stands_in_the_other_versions_place(
    version: str, key: str, number: int
) -> None:
    assert meaning(401, {key: number}, version) == TOKEN


def test_a_number_in_the_other_versions_place_says_what_to_check() -> None:
    answer = meaning_of(a_reply(429, {"status": 62109}), "v2.1", NOW)

    assert isinstance(answer, Answer)
    assert answer.code == 62109
    assert answer.detail.startswith(
        "HTTP 429, code 62109: the service answered as another version of the API"
    )
    assert "check api_version" in answer.detail


@pytest.mark.parametrize("code", [401, 404, 429, 498])
@pytest.mark.parametrize("http_status", [500, 502, 503])
def test_a_code_of_the_v1_gateway_in_a_failure_does_not_count(code: int, http_status: int) -> None:
    assert meaning(http_status, {"code": code}) == UNKNOWN


def test_a_quota_used_up_carries_the_wait_that_was_asked_for() -> None:
    answer = meaning_of(a_reply(429, {"message": "m"}, retry_after="3"), "v2.1", NOW)

    assert isinstance(answer, Answer)
    assert answer.retry_after == timedelta(seconds=3)


def test_a_failure_of_the_server_stays_unknown_though_it_asks_for_a_wait() -> None:
    answer = meaning_of(a_reply(503, b"", retry_after="3"), "v2.1", NOW)

    assert answer == Answer(
        outcome=UNKNOWN,
        detail="HTTP 503: the gateway or the service failed, perhaps after the call was processed;"
        " it says nothing",
        http_status=503,
    )


def test_an_accepted_trigger_names_its_instance() -> None:
    assert meaning_of(a_reply(200, {"code": 0, "data": MADE}), "v2.1", NOW) == Answer(
        outcome=ACCEPTED,
        detail="EnOS made instance 3377-20200706062600",
        http_status=200,
        code=0,
        instance="3377-20200706062600",
    )


@pytest.mark.parametrize(
    ("instance", "flow"),
    [
        ("3377-20200706062600", 3377),
        ("003377-20200706062600", 3377),
        ("3377-2020070606", 3377),  # section 5
        ("3377-20200706062600", None),
        ("7c9e6679-7425-40de-944b-e07fc1f90ae7", 3377),  # of no shape that tells a flow
        ("run:3378-20200706062600", 3377),
    ],
)
def test_an_instance_is_believed_unless_it_shows_another_flow(instance: str, flow: int | None) -> None:
    reply = a_reply(200, {"code": 0, "data": {"flowInstanceId": instance}})

    answer = meaning_of(reply, "v2.1", NOW, flow=flow)

    assert isinstance(answer, Answer)
    assert (answer.outcome, answer.instance) == (ACCEPTED, instance)


@pytest.mark.parametrize("instance", ["3378-20200706062600", "337-20200706062600", "33770-2020070606", "0-1"])
def test_a_success_with_an_instance_of_another_flow_names_none(instance: str) -> None:
    reply = a_reply(200, {"code": 0, "data": {"flowInstanceId": instance}, "msg": "OK"})

    assert meaning_of(reply, "v2.1", NOW, flow=3377) == Answer(
        outcome=ACCEPTED,
        detail=f"HTTP 200, code 0: EnOS says success, but names instance {instance}, which is of another"
        " flow; it says: OK",
        http_status=200,
        code=0,
    )


def test_a_refusal_says_where_what_and_what_to_check() -> None:
    answer = meaning_of(a_reply(200, {"code": 62103, "msg": "User has no privilege."}), "v2.1", NOW)

    assert isinstance(answer, Answer)
    assert (answer.http_status, answer.code) == (200, 62103)
    assert answer.detail == (
        "HTTP 200, code 62103: the user may not trigger the flow: make it an owner of the flow;"
        " it says: User has no privilege."
    )


def test_a_token_refused_says_what_to_check_when_it_happens_again() -> None:
    refused = meaning_of(a_reply(401, {"message": "Invalid authentication credentials"}), "v2.1", NOW)

    assert isinstance(refused, TokenRefused)
    assert refused.answer.outcome is GOOD
    assert "check access_key, secret_key and the clock of this machine" in refused.answer.detail


def test_a_trigger_that_made_nothing_says_why_that_may_be() -> None:
    reply = a_reply(200, {"code": 62102, "msg": "Cannot create workflow instance."})

    answer = meaning_of(reply, "v2.1", NOW)

    assert answer == Answer(
        outcome=Outcome.NOT_CREATED,
        detail="HTTP 200, code 62102: this call made no instance: the flow or task may not exist, or there is"
        " one of that minute already; it says: Cannot create workflow instance.",
        http_status=200,
        code=62102,
    )


# Cancel Flow Instance


def cancelling(http_status: int, body: Any, version: str = "v2.1", **more: Any) -> str:
    found = meaning_of_cancel(a_reply(http_status, body, **more), version, NOW)
    return TOKEN if isinstance(found, TokenRefused) else found.outcome


@pytest.mark.parametrize(
    ("http_status", "body", "expected"),
    [
        (200, {"code": 0, "msg": "OK", "data": ""}, ACCEPTED),  # section 2
        (200, {"code": "0"}, ACCEPTED),
        (500, {"code": 0, "data": ""}, UNKNOWN),
        (200, {"code": 62101}, GOOD),  # section 6, common
        (200, {"code": 62102}, GOOD),  # [U], section 6: an unknown instance or one that has ended
        (200, {"code": 62103}, GOOD),  # section 6, common
        (200, {"code": 62104}, UNKNOWN),  # not documented for it
        (200, {"code": 62105}, GOOD),  # section 2: UNL
        (200, {"code": 62109}, UNKNOWN),  # section 6, common
        (200, {"code": 62999}, UNKNOWN),
        (503, {"code": 62103}, GOOD),
        (200, {"status": 0}, UNKNOWN),  # section 9
        (200, b"<html>", UNKNOWN),
        (200, b"", UNKNOWN),
        (401, b"", TOKEN),
        (200, {"apim_status": 4011}, TOKEN),
        (403, b"", GOOD),
        (404, b"", GOOD),
        (429, b"", LATER),
        (500, b"", UNKNOWN),
        (504, b"", UNKNOWN),
    ],
)
def test_what_came_of_a_cancellation(http_status: int, body: Any, expected: str) -> None:
    assert cancelling(http_status, body) == expected


def test_a_cancellation_in_v2_0_reads_status() -> None:
    assert cancelling(200, {"status": 0, "msg": " Success", "data": ""}, "v2.0") == ACCEPTED
    assert cancelling(200, {"code": 0, "msg": "OK", "data": ""}, "v2.0") == UNKNOWN


def test_a_cancellation_that_was_taken_says_no_more_than_that() -> None:
    answer = meaning_of_cancel(a_reply(200, {"code": 0, "data": ""}), "v2.1", NOW)

    assert answer == Answer(outcome=ACCEPTED, detail="EnOS took the cancellation", http_status=200, code=0)


def test_a_quota_used_up_by_a_cancellation_carries_the_wait() -> None:
    answer = meaning_of_cancel(a_reply(429, b"", retry_after="3"), "v2.1", NOW)

    assert isinstance(answer, Answer)
    assert answer.retry_after == timedelta(seconds=3)
