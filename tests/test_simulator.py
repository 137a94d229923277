"""The simulator over real sockets: the checklist of enos-api section 11, line by line."""

from __future__ import annotations

import asyncio
import json
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import trustme

from flowsched.errors import UsageError
from flowsched.simulator import (
    Application,
    AuthFailure,
    Behaviour,
    Call,
    DataShape,
    Signature,
    SimFlow,
    Simulator,
    Status,
    UnknownInstance,
    User,
    control,
    serve,
)
from tests.fakes import HandClock
from tests.simulated import MINUTE_MS, NOW, NOW_MS, PREFIXES, Caller, simulated

LATEST_MS = 253402271999999
"""The last millisecond of the year 9999 in GMT+8, the zone in which trigger times are shown."""
CANNOT_CREATE = (
    "Cannot create workflow instance. Please check if the workflow or task exist, "
    "and do not trigger the same workflow repeatedly in 1 minute."
)


def pairs(reply: dict[str, Any]) -> dict[str, str]:
    """The parameters in a struct, out of their JSON text."""
    return {pair["key"]: pair["value"] for pair in json.loads(reply["data"]["parameters"])}


# Checklist 1: tokens


async def test_the_same_token_is_given_until_it_expires_with_its_life_counting_down() -> None:
    async with simulated() as (_, caller, clock):
        first = await caller.token_call()
        clock.advance(timedelta(hours=1))
        second = await caller.token_call()
        clock.advance(timedelta(hours=1))
        third = await caller.token_call()

    assert (first["status"], first["msg"], first["business"]) == (0, "SUCCESS", "apim-token-service")
    assert [reply["data"]["expire"] for reply in (first, second, third)] == [7200, 3600, 7200]
    assert first["data"]["accessToken"] == second["data"]["accessToken"] != third["data"]["accessToken"]


@pytest.mark.parametrize(("spared", "signature"), [(False, Signature.BAD_TOKEN), (True, Signature.GOOD)])
async def test_refresh_gives_a_new_token_of_full_life(*, spared: bool, signature: Signature) -> None:
    async with simulated(behaviour=Behaviour(refresh_spares_old_token=spared)) as (simulator, caller, clock):
        old = await caller.sign_in()
        clock.advance(timedelta(minutes=115))
        new = await caller.token_call("refresh", accessToken=old)
        await caller.current_time()

    assert new["data"]["expire"] == 7200
    assert new["data"]["accessToken"] != old
    assert simulator.calls[-1].signature is signature


@pytest.mark.parametrize("as_text", [False, True])
async def test_a_timestamp_may_be_a_number_or_text(*, as_text: bool) -> None:
    async with simulated() as (_, caller, _clock):
        reply = await caller.token_call(timestamp=str(NOW_MS) if as_text else NOW_MS)

    assert reply["status"] == 0


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"appKey": "somebody-else"}, 1002),
        ({"encryption": "0" * 64}, 1003),
        ({"encryption": "\ud800"}, 1003),
        ({"timestamp": "yesterday"}, 1004),
        ({"timestamp": True}, 1004),
        ({"encryption": 5}, 1004),
        ({"appKey": None}, 1202),
        ({"encryption": ""}, 1202),
        ({"timestamp": None}, 1202),
    ],
)
async def test_a_bad_token_call_gets_its_number(changes: dict[str, Any], status: int) -> None:
    async with simulated() as (_, caller, _clock):
        reply = await caller.token_call(**changes)

    assert (reply["status"], reply["data"]) == (status, None)


async def test_a_token_body_that_is_no_object_is_an_invalid_parameter() -> None:
    async with simulated() as (_, caller, _clock):
        reply = await caller.http.post("/apim-token-service/v2.0/token/get", content=b"[" * 50_000)

    assert reply.json()["status"] == 1004


async def test_an_encryption_is_good_for_one_call() -> None:
    async with simulated() as (_, caller, _clock):
        first = await caller.token_call(timestamp=NOW_MS)
        second = await caller.token_call(timestamp=NOW_MS)

    assert (first["status"], second["status"]) == (0, 1001)


@pytest.mark.parametrize(("token", "status"), [("unknown", 1204), (["odd"], 1204), (None, 1202)])
async def test_only_the_token_in_force_can_be_refreshed(token: object, status: int) -> None:
    async with simulated() as (_, caller, _clock):
        await caller.sign_in()
        reply = await caller.token_call("refresh", accessToken=token)

    assert reply["status"] == status


async def test_an_expired_token_cannot_be_refreshed() -> None:
    async with simulated() as (_, caller, clock):
        token = await caller.sign_in()
        clock.advance(timedelta(hours=2))
        reply = await caller.token_call("refresh", accessToken=token)

    assert reply["status"] == 1204


# Checklist 2: signatures


async def test_a_well_signed_call_passes_whatever_its_query_holds() -> None:
    async with simulated() as (simulator, caller, _):
        query = {"action": "getCurrentTime", "Z": "1", "a": "\u6d4b\u8bd5 a+b&=%", "empty": ""}
        reply = await caller.send("GET", "time", query)

    assert reply.json()["code"] == 0
    assert simulator.calls[-1].signature is Signature.GOOD


@pytest.mark.parametrize(
    ("headers", "signature"),
    [
        ({"apim-signature": "0" * 64}, Signature.MISMATCH),
        ({"apim-signature": ""}, Signature.ABSENT),
        ({"apim-accesstoken": "unknown"}, Signature.BAD_TOKEN),
        ({"apim-timestamp": "noon"}, Signature.BAD_TIMESTAMP),
        ({"apim-timestamp": str(NOW_MS + 1)}, Signature.MISMATCH),
        ({"apim-timestamp": str(NOW_MS + 30 * MINUTE_MS + 1)}, Signature.BAD_TIMESTAMP),
        ({"apim-timestamp": str(NOW_MS - 30 * MINUTE_MS - 1)}, Signature.BAD_TIMESTAMP),
        ({"apim-timestamp": "9" * 18}, Signature.BAD_TIMESTAMP),
    ],
)
async def test_a_call_that_is_not_well_signed_is_refused(
    headers: dict[str, str], signature: Signature
) -> None:
    async with simulated() as (simulator, caller, _):
        query = {"action": "getCurrentTime"}
        reply = await caller.send("GET", "time", query, headers=headers)

    assert (reply.status_code, reply.json()) == (401, {"message": "Invalid authentication credentials"})
    assert simulator.calls[-1].signature is signature


async def test_a_body_changed_after_signing_is_refused() -> None:
    async with simulated() as (simulator, caller, _):
        signed = (await caller.send("POST", "flows", {"action": "trigger"}, b'{"a": 1}')).request
        apim = {name: value for name, value in signed.headers.items() if name.startswith("apim-")}
        await caller.http.post(signed.url, content=b'{"a":1}', headers=apim)

    assert [call.signature for call in simulator.calls[-2:]] == [Signature.GOOD, Signature.MISMATCH]


async def test_the_tolerance_of_timestamps_can_be_set() -> None:
    behaviour = Behaviour(timestamp_tolerance=timedelta(seconds=10))
    async with simulated(behaviour=behaviour) as (simulator, caller, _):
        await caller.sign_in()
        for late in (10_000, 10_001):
            caller.lag_ms = late
            await caller.current_time()

    assert [call.signature for call in simulator.calls[-2:]] == [Signature.GOOD, Signature.BAD_TIMESTAMP]


@pytest.mark.parametrize(
    ("shape", "version", "status", "document"),
    [
        (AuthFailure.HTTP_401, "2.1", 401, {"message": "Invalid authentication credentials"}),
        (AuthFailure.CODE_1203, "2.1", 200, {"code": 1203, "msg": "Access token expired", "data": None}),
        (AuthFailure.CODE_1203, "2.0", 200, {"status": 1203, "msg": "Access token expired", "data": None}),
        (AuthFailure.APIM_STATUS, "2.1", 200, {"apim_status": 4011, "apim_refreshtoken": "simulated"}),
    ],
)
async def test_an_expired_token_is_answered_in_the_shape_chosen(
    shape: AuthFailure, version: str, status: int, document: dict[str, object]
) -> None:
    async with simulated(behaviour=Behaviour(auth_failure=shape)) as (_, caller, clock):
        await caller.sign_in()
        clock.advance(timedelta(hours=2))
        reply = await caller.send("GET", "time", {"action": "getCurrentTime"}, prefix=PREFIXES[version])

    assert (reply.status_code, reply.json()) == (status, document)


# Checklist 3 to 5: triggers, ids, turns, refusals


async def test_trigger_flow_as_in_the_manual() -> None:
    async with simulated() as (_, caller, _clock):
        reply = await caller.trigger(3377, 1574385824000)

    assert reply == {"code": 0, "msg": "OK", "data": {"flowInstanceId": "3377-20191122012300"}}


async def test_trigger_flow_from_task_as_in_the_manual() -> None:
    async with simulated() as (simulator, caller, _):
        body = {"flowId": 3377, "taskId": 108580, "triggerTime": 1594016819108}
        reply = await caller.ask("POST", "flows", "triggerFromTask", body)

    assert reply == {"code": 0, "msg": "OK", "data": {"flowInstanceId": "3377-20200706062600"}}
    assert [(each.id, each.task) for each in simulator.instances] == [("3377-20200706062600", 108580)]


@pytest.mark.parametrize(
    "parameters",
    [[{"key": "REPLACE", "value": "x"}], '[{"key":"REPLACE","value":"x"}]', {"REPLACE": "x"}],
    ids=["list", "text", "map"],
)
async def test_update_and_trigger_overrides_parameters_for_this_instance_only(parameters: object) -> None:
    flows = {3377: SimFlow(parameters={"KEPT": "1", "REPLACE": "2"})}
    async with simulated(flows=flows) as (_, caller, _clock):
        body = {"flowId": 3377, "triggerTime": NOW_MS, "parameters": parameters}
        made = await caller.ask("POST", "flows", "updateAndTrigger", body)
        instance = await caller.instance(made["data"]["flowInstanceId"])
        flow = await caller.ask("GET", "flows", "get", query={"flowId": "3377"})

    assert pairs(instance) == {"KEPT": "1", "REPLACE": "x"}
    assert pairs(flow) == {"KEPT": "1", "REPLACE": "2"}


async def test_ids_and_times_may_come_as_digits_in_text() -> None:
    async with simulated() as (_, caller, _clock):
        reply = await caller.trigger("13774", "1574385824000")

    assert reply["data"] == {"flowInstanceId": "13774-20191122012300"}


async def test_one_instance_of_a_flow_runs_and_the_next_waits_its_turn() -> None:
    async with simulated() as (simulator, caller, clock):
        await caller.trigger(at=NOW_MS)
        await caller.trigger(at=NOW_MS + MINUTE_MS)
        await caller.trigger(flow=8, at=NOW_MS + MINUTE_MS)
        at_once = [each.status for each in simulator.instances]
        clock.advance(timedelta(minutes=5))
        later = [each.status for each in simulator.instances]

    assert at_once == [Status.RUNNING, Status.WAIT, Status.WAIT]
    assert later == [Status.SUCCESS, Status.RUNNING, Status.RUNNING]


@pytest.mark.parametrize("action", ["trigger", "triggerFromTask", "updateAndTrigger"])
async def test_a_second_trigger_of_a_flow_in_one_utc_minute_is_refused(action: str) -> None:
    async with simulated() as (simulator, caller, _):
        await caller.trigger(at=NOW_MS - 30_000)
        body = {"flowId": 3377, "taskId": 1, "parameters": [], "triggerTime": NOW_MS + 29_999}
        reply = await caller.ask("POST", "flows", action, body)

    assert reply == {"code": 62102, "msg": CANNOT_CREATE, "data": None}
    assert len(simulator.instances) == 1


async def test_a_flow_may_be_refused_within_a_minute_of_the_wall_clock_too() -> None:
    async with simulated(behaviour=Behaviour(wall_clock_minute=True)) as (simulator, caller, clock):
        codes = []
        for wait, flow, minute in [(0, 7, 0), (59.999, 7, 5), (0, 8, 5), (0.001, 7, 5), (59.999, 7, 6)]:
            clock.advance(wait)
            codes.append((await caller.trigger(flow, NOW_MS + minute * MINUTE_MS))["code"])
        clock.step(NOW - timedelta(hours=1))
        codes.append((await caller.trigger(7, NOW_MS + 7 * MINUTE_MS))["code"])

    assert codes == [0, 62102, 0, 0, 62102, 0]
    assert len(simulator.instances) == 4


@pytest.mark.parametrize(
    ("world", "body", "code", "text"),
    [
        ({"flows": {}}, {}, 62102, CANNOT_CREATE),
        ({}, {"flowId": 0}, 62102, CANNOT_CREATE),
        ({"flows": {3377: SimFlow(tasks=frozenset({1}))}}, {"taskId": 2}, 62102, CANNOT_CREATE),
        ({}, {"taskId": 0}, 62102, CANNOT_CREATE),
        ({}, {"flowId": None}, 62102, "Invalid request body."),
        ({}, {"flowId": True}, 62102, "Invalid request body."),
        ({}, {"flowId": -1}, 62102, "Invalid request body."),
        ({}, {"flowId": 1.0}, 62102, "Invalid request body."),
        ({}, {"triggerTime": "noon"}, 62102, "Invalid request body."),
        ({}, {"triggerTime": 10**17}, 62102, "Invalid request body."),
        ({}, {"triggerTime": LATEST_MS + 1}, 62102, "Invalid request body."),
        ({}, {"taskId": "first"}, 62102, "Invalid request body."),
        (
            {"flows": {3377: SimFlow(tasks=frozenset())}},
            {},
            62104,
            "This workflow has no task. You cannot trigger it.",
        ),
        ({"flows": {3377: SimFlow(owners=frozenset({"else"}))}}, {}, 62103, "User has no privilege."),
        ({"user": User(locked=True)}, {}, 62105, "Your account has been locked"),
        ({"flows": {3377: SimFlow(locked=True)}}, {}, 62105, "The workflow has been locked"),
    ],
)
async def test_a_trigger_that_cannot_be_is_refused_with_its_number(
    world: dict[str, Any], body: dict[str, object], code: int, text: str
) -> None:
    async with simulated(**world) as (simulator, caller, _):
        whole = {"flowId": 3377, "taskId": 1, "triggerTime": NOW_MS, **body}
        reply = await caller.ask("POST", "flows", "triggerFromTask", whole)

    assert reply == {"code": code, "msg": text, "data": None}
    assert simulator.instances == ()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3377", b"\xff", b"[" * 100_000])
async def test_a_body_that_is_no_json_object_is_an_invalid_request(body: bytes) -> None:
    async with simulated() as (_, caller, _clock):
        reply = await caller.ask("POST", "flows", "trigger", body)

    assert (reply["code"], reply["msg"]) == (62102, "Invalid request body.")


@pytest.mark.parametrize("parameters", [None, 5, "[", [{"key": "a"}], ["a"]])
async def test_parameters_of_another_shape_are_an_invalid_request(parameters: object) -> None:
    async with simulated() as (_, caller, _clock):
        body = {"flowId": 3377, "triggerTime": NOW_MS, "parameters": parameters}
        reply = await caller.ask("POST", "flows", "updateAndTrigger", body)

    assert (reply["code"], reply["msg"]) == (62102, "Invalid request body.")


@pytest.mark.parametrize("query", [{"userId": "u1"}, {"orgId": "o1"}, {"userId": ""}])
async def test_a_user_who_does_not_belong_to_the_organization_is_refused(query: dict[str, str]) -> None:
    async with simulated() as (_, caller, _clock):
        reply = await caller.trigger(query=query)

    assert reply["code"] == 62101


async def test_the_http_status_of_refusals_can_be_set() -> None:
    async with simulated(flows={}, behaviour=Behaviour(refusal_status=400)) as (_, caller, _clock):
        query = {"action": "trigger", **caller.user}
        reply = await caller.send("POST", "flows", query, {"flowId": 1, "triggerTime": NOW_MS})

    assert (reply.status_code, reply.json()["code"]) == (400, 62102)


# The other operations


async def test_get_flow_instance_shows_its_life_in_the_spelling_of_the_service() -> None:
    async with simulated() as (_, caller, clock):
        id_ = (await caller.trigger())["data"]["flowInstanceId"]
        running = (await caller.instance(id_))["data"]
        clock.advance(timedelta(minutes=5))
        ended = (await caller.instance(id_))["data"]

    assert (running["instanceId"], running["flowId"], running["calDt"]) == (id_, 3377, "2025-12-31")
    assert (running["status"], running["statusDesc"], running["endTime"]) == (2, "RUNNING", None)
    assert (ended["status"], ended["statusDesc"], ended["endTime"]) == (1, "SUCCESS", "2026-01-01 12:05:30")
    # One record, two zones, as in the samples.
    assert (running["triggerTime"], running["startTime"]) == ("2026-01-01 20:00:30", "2026-01-01 12:00:30")
    assert running["timestamp"] == "2026-01-01 12:00:30.0"


async def test_graph_and_parameters_are_json_inside_a_string() -> None:
    async with simulated(flows={7: SimFlow(name="wind", tasks=frozenset({11, 12}))}) as (_, caller, _clock):
        flow = (await caller.ask("GET", "flows", "get", query={"flowId": "7"}))["data"]

    tasks = json.loads(flow["graph"])["tasks"]
    assert [(task["taskId"], task["nodeId"]) for task in tasks] == [(11, "t_11"), (12, "t_12")]
    assert json.loads(flow["parameters"]) == []
    assert (flow["flowName"], flow["owner"], flow["locked"]) == ("wind", ";simulated.user;", False)


async def test_a_flow_that_does_not_exist_cannot_be_got() -> None:
    async with simulated(flows={}) as (_, caller, _clock):
        reply = await caller.ask("GET", "flows", "get", query={"flowId": "7"})

    assert reply["code"] == 62102


@pytest.mark.parametrize(
    ("choice", "status", "document"),
    [
        (UnknownInstance.CODE_62102, 200, {"code": 62102, "msg": "Instance not found", "data": None}),
        (UnknownInstance.NULL_DATA, 200, {"code": 0, "msg": "OK", "data": None}),
        (UnknownInstance.EMPTY_LIST, 200, {"code": 0, "msg": "OK", "data": []}),
        (UnknownInstance.HTTP_404, 404, {"message": "no Route matched with those values"}),
    ],
)
async def test_an_unknown_instance_is_answered_in_the_shape_chosen(
    choice: UnknownInstance, status: int, document: dict[str, object]
) -> None:
    async with simulated(behaviour=Behaviour(unknown_instance=choice)) as (simulator, caller, _):
        query = {"action": "get", "flowInstId": "3377-20260101120000", **caller.user}
        reply = await caller.send("GET", "flowInstances", query)

    assert (reply.status_code, reply.json()) == (status, document)
    assert simulator.calls[-1].status == status


async def test_an_instance_may_be_visible_only_some_time_after_it_was_made() -> None:
    behaviour = Behaviour(late_visibility=timedelta(seconds=5))
    async with simulated(behaviour=behaviour) as (simulator, caller, clock):
        id_ = (await caller.trigger())["data"]["flowInstanceId"]
        clock.advance(4.999)
        before = await caller.instance(id_)
        clock.advance(0.001)
        after = await caller.instance(id_)

    assert (before["code"], before["msg"]) == (62102, "Instance not found")
    assert after["data"]["instanceId"] == id_
    assert [each.id for each in simulator.instances] == [id_]


async def test_an_instance_may_come_in_a_list_of_one() -> None:
    async with simulated(behaviour=Behaviour(instance_data=DataShape.LIST)) as (_, caller, _clock):
        id_ = (await caller.trigger())["data"]["flowInstanceId"]
        data = (await caller.instance(id_))["data"]

    assert [each["instanceId"] for each in data] == [id_]


async def test_a_flow_may_take_its_own_time_and_end_badly() -> None:
    flow = SimFlow(duration=timedelta(seconds=1), ends_as=Status.FAIL)
    async with simulated(flows={3377: flow}) as (_, caller, clock):
        id_ = (await caller.trigger())["data"]["flowInstanceId"]
        clock.advance(1)
        data = (await caller.instance(id_))["data"]

    assert (data["status"], data["statusDesc"]) == (-1, "FAIL")


@pytest.mark.parametrize("status", Status)
async def test_an_instance_may_be_left_in_any_state_and_cancelled_where_that_is_no_end(
    status: Status,
) -> None:
    flow = SimFlow(duration=timedelta(seconds=1), ends_as=status)
    async with simulated(flows={3377: flow}) as (_, caller, clock):
        id_ = (await caller.trigger())["data"]["flowInstanceId"]
        clock.advance(1)
        left = (await caller.instance(id_))["data"]
        cancelled = await caller.ask("POST", "flowInstances", "cancel", {"flowInstId": id_})
        after = (await caller.instance(id_))["data"]
        following = (await caller.trigger(at=NOW_MS + MINUTE_MS))["data"]["flowInstanceId"]
        clock.advance(60)
        next_one = (await caller.instance(following))["data"]

    ended = int(status) in {-1, 1, 4, 7, 8, 10}
    assert (left["status"], left["statusDesc"]) == (int(status), status.name)
    assert (left["endTime"] is not None) == ended
    assert cancelled["code"] == (62102 if ended else 0)
    assert after["status"] == (int(status) if ended else 8)
    assert next_one["startTime"] is not None


async def test_cancel_stops_an_instance_once() -> None:
    async with simulated() as (_, caller, _clock):
        id_ = (await caller.trigger())["data"]["flowInstanceId"]
        first = await caller.ask("POST", "flowInstances", "cancel", {"flowInstId": id_})
        second = await caller.ask("POST", "flowInstances", "cancel", {"flowInstId": id_})
        unknown = await caller.ask("POST", "flowInstances", "cancel", {"flowInstId": "7-1"})
        data = (await caller.instance(id_))["data"]

    assert (first["code"], first["data"]) == (0, "")
    assert (second["code"], unknown["code"]) == (62102, 62102)
    assert (data["status"], data["statusDesc"]) == (8, "CANCEL")


LISTING = {"type": 0, "owner": "", "fromTriggerTime": 0, "toTriggerTime": 2 * NOW_MS}


async def test_the_latest_trigger_time_can_be_shown_and_listed() -> None:
    async with simulated() as (_, caller, _clock):
        id_ = (await caller.trigger(at=LATEST_MS))["data"]["flowInstanceId"]
        shown = await caller.instance(id_)
        listed = await caller.ask("POST", "flowInstances", "search", {**LISTING, "toTriggerTime": 10**17})

    assert id_ == "3377-99991231155900"
    assert shown["data"]["triggerTime"] == "9999-12-31 23:59:59"
    assert [each["instanceId"] for each in listed["data"]["flowInsts"]] == [id_]


@pytest.mark.parametrize(
    ("change", "minutes"),
    [
        ({}, [0, 1, 2]),
        ({"fromTriggerTime": NOW_MS + MINUTE_MS}, [1, 2]),
        ({"toTriggerTime": NOW_MS + MINUTE_MS}, [0]),
        ({"status": "2"}, [0]),
        ({"status": 5}, [1, 2]),
        ({"status": "2, 5"}, [0, 1, 2]),
        ({"expression": "3377-202601011202"}, [2]),
        ({"expression": "flow_3377"}, [0, 1, 2]),
        ({"owner": "simulated.user"}, [0, 1, 2]),
        ({"owner": "simulated"}, []),
        ({"pagination": {"pageNo": 1, "pageSize": 2}}, [0, 1]),
        ({"pagination": {"pageNo": 2, "pageSize": 2}}, [2]),
        (
            {
                "pagination": {
                    "pageNo": 1,
                    "pageSize": 9,
                    "sorters": [{"field": "triggerTime", "order": "DESC"}],
                }
            },
            [2, 1, 0],
        ),
        (
            {"pagination": {"pageNo": 1, "pageSize": 9, "sorters": [{"field": "start_time"}]}},
            [1, 2, 0],
        ),
    ],
)
async def test_listing_filters_sorts_and_pages(change: dict[str, object], minutes: list[int]) -> None:
    async with simulated() as (_, caller, _clock):
        for minute in range(3):
            await caller.trigger(at=NOW_MS + minute * MINUTE_MS)
        reply = await caller.ask("POST", "flowInstances", "search", {**LISTING, **change})

    ids = [each["instanceId"] for each in reply["data"]["flowInsts"]]
    assert ids == [f"3377-20260101120{minute}00" for minute in minutes]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"type": None}, "Incorrect parameter"),
        ({"owner": None}, "Incorrect parameter"),
        ({"toTriggerTime": None}, "Incorrect parameter"),
        ({"pagination": []}, "Incorrect parameter"),
        ({"pagination": {"pageNo": 0, "pageSize": 1}}, "Incorrect parameter"),
        ({"pagination": {"pageNo": 1, "pageSize": 0}}, "Incorrect parameter"),
        (
            {"pagination": {"pageNo": 1, "pageSize": 1, "sorters": [{"field": "mood"}]}},
            "The sorters field parameter is invalid",
        ),
        (
            {"pagination": {"pageNo": 1, "pageSize": 1, "sorters": ["x"]}},
            "The sorters field parameter is invalid",
        ),
    ],
)
async def test_a_listing_that_makes_no_sense_is_refused(change: dict[str, object], text: str) -> None:
    async with simulated() as (_, caller, _clock):
        reply = await caller.ask("POST", "flowInstances", "search", {**LISTING, **change})

    assert (reply["code"], reply["msg"]) == (62102, text)


async def test_the_first_sorter_counts_most() -> None:
    sorters = [{"field": "createTime", "order": "DESC"}, {"field": "triggerTime", "order": "ASC"}]
    async with simulated() as (_, caller, clock):
        for minute in (2, 1):
            await caller.trigger(at=NOW_MS + minute * MINUTE_MS)
        clock.advance(1)
        await caller.trigger(at=NOW_MS + 3 * MINUTE_MS)
        body = {**LISTING, "pagination": {"pageNo": 1, "pageSize": 9, "sorters": sorters}}
        reply = await caller.ask("POST", "flowInstances", "search", body)

    minutes = [each["instanceId"][-3:-2] for each in reply["data"]["flowInsts"]]
    assert minutes == ["3", "1", "2"]


async def test_pages_may_count_from_zero() -> None:
    async with simulated(behaviour=Behaviour(first_page=0)) as (_, caller, _clock):
        await caller.trigger()
        body = {**LISTING, "pagination": {"pageNo": 0, "pageSize": 1}}
        reply = await caller.ask("POST", "flowInstances", "search", body)

    assert (reply["data"]["count"], len(reply["data"]["flowInsts"])) == (1, 1)


@pytest.mark.parametrize("flows", [None, {7: SimFlow(), 8: SimFlow()}], ids=["every flow", "two flows"])
@pytest.mark.parametrize("version", ["2.1", "2.0"])
async def test_a_deleted_flow_is_unknown_and_the_others_stay(
    flows: dict[int, SimFlow] | None, version: str
) -> None:
    async with simulated(flows=flows) as (_, caller, _clock):
        deleted = await caller.delete_flow("7", prefix=PREFIXES[version])
        got = await caller.ask("GET", "flows", "get", query={"flowId": "7"})
        triggered = await caller.trigger(7)
        again = await caller.delete_flow("7")
        other = await caller.trigger(8)

    assert (deleted.get("code", deleted.get("status")), deleted["data"]) == (0, "")
    refused = {"code": 62102, "msg": CANNOT_CREATE, "data": None}
    assert [got, triggered, again] == [refused, refused, refused]
    assert other["code"] == 0


async def test_the_instances_of_a_deleted_flow_live_on_as_they_were() -> None:
    async with simulated(flows={7: SimFlow(name="wind")}) as (_, caller, clock):
        id_ = (await caller.trigger(7))["data"]["flowInstanceId"]
        await caller.delete_flow("7")
        clock.advance(timedelta(minutes=5))
        data = (await caller.instance(id_))["data"]

    assert (data["flowName"], data["statusDesc"]) == ("wind", "SUCCESS")


@pytest.mark.parametrize(
    ("world", "id_", "code"),
    [
        ({"flows": {7: SimFlow(owners=frozenset({"else"}))}}, "7", 62103),
        ({"flows": {7: SimFlow(locked=True)}, "user": User(locked=True)}, "7", 0),
        ({}, "8", 62102),
        ({}, "", 62102),
        ({}, "first", 62102),
    ],
    ids=["not the owner", "the owner, locked", "no such flow", "no flow", "no number"],
)
async def test_deleting_needs_a_flow_and_its_owner(world: dict[str, Any], id_: str, code: int) -> None:
    async with simulated(**{"flows": {7: SimFlow()}, **world}) as (_, caller, _clock):
        reply = await caller.delete_flow(id_)

    assert reply["code"] == code


async def test_a_delete_that_is_not_signed_or_names_no_user_deletes_nothing() -> None:
    async with simulated() as (_, caller, _clock):
        query = {"action": "delete", "flowId": "7"}
        unsigned = await caller.http.get(f"{PREFIXES['2.1']}flows", params={**query, **caller.user})
        by_nobody = await caller.send("GET", "flows", query)
        got = await caller.ask("GET", "flows", "get", query={"flowId": "7"})

    assert (unsigned.status_code, by_nobody.json()["code"], got["code"]) == (401, 62101, 0)


async def test_time_operations_need_a_signature_and_no_user() -> None:
    async with simulated() as (_, caller, _clock):
        current = await caller.current_time()
        zone = await caller.send("GET", "time", {"action": "getTimeZone"})
        unsigned = await caller.http.get("/batch-processing-service/v2.1/time?action=getTimeZone")

    assert current.json()["data"] == NOW_MS
    assert zone.json()["data"] == {"timezone": "GMT+8"}
    assert unsigned.status_code == 401


async def test_v2_0_has_its_own_path_and_envelope_and_no_trigger_from_task() -> None:
    async with simulated() as (_, caller, _clock):
        body = {"flowId": 3377, "taskId": 1, "triggerTime": NOW_MS}
        trigger = await caller.ask("POST", "flows", "trigger", body, prefix=PREFIXES["2.0"])
        from_task = await caller.ask("POST", "flows", "triggerFromTask", body, prefix=PREFIXES["2.0"])

    assert trigger == {"status": 0, "msg": "Success", "data": {"flowInstanceId": "3377-20260101120000"}}
    assert from_task == {
        "message": "The simulator has no flows.triggerFromTask under /dataflow-batch-service/v2.0/"
    }


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/", 404),
        ("POST", "/batch-processing-service/v2.1/flows", 404),
        ("POST", "/batch-processing-service/v2.1/flows?action=save", 404),
        ("GET", "/batch-processing-service/v2.1/flows?action=export", 404),
        ("POST", "/batch-processing-service/v2.1/flows?action=delete", 405),
        ("HEAD", "/batch-processing-service/v2.1/flows?action=delete", 405),
        ("GET", "/batch-processing-service/v2.1/flows?action=trigger", 405),
        ("POST", "/apim-token-service/v2.0/token/revoke", 404),
        ("GET", "/apim-token-service/v2.0/token/get", 405),
        ("GET", "/_simulator/elsewhere", 404),
    ],
)
async def test_what_is_not_there_says_so(method: str, target: str, status: int) -> None:
    async with simulated() as (_, caller, _clock):
        reply = await caller.http.request(method, target)

    assert reply.status_code == status


# The rest of what it must be


async def test_every_reply_carries_the_date_of_the_clock() -> None:
    async with simulated() as (_, caller, clock):
        clock.step(datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC))
        replies = [await caller.http.get(path) for path in ("/", "/_simulator/books")]

    assert {reply.headers["date"] for reply in replies} == {"Tue, 06 May 2031 07:08:09 GMT"}


@pytest.mark.parametrize("ahead", [timedelta(minutes=2), -timedelta(minutes=2)])
async def test_its_time_of_day_may_be_off_in_dates_timestamps_and_books(ahead: timedelta) -> None:
    behaviour = Behaviour(timestamp_tolerance=timedelta(minutes=1))
    async with simulated(behaviour=behaviour, clock_offset=ahead) as (simulator, caller, _):
        token = await caller.token_call()
        reply = await caller.current_time()
        by_our_clock = simulator.calls[-1].signature
        caller.lag_ms = round(-ahead.total_seconds() * 1000)
        await caller.current_time()

    assert token["data"]["expire"] == 7200
    assert reply.headers["date"] == format_datetime(NOW + ahead, usegmt=True)
    assert by_our_clock is Signature.BAD_TIMESTAMP
    assert simulator.calls[-1].signature is Signature.GOOD
    assert simulator.calls[-1].began_at == NOW + ahead


async def test_a_quota_answers_429_until_the_next_minute() -> None:
    async with simulated(behaviour=Behaviour(calls_per_minute=2)) as (_, caller, clock):
        replies = [await caller.current_time() for _ in range(3)]
        clock.advance(30)
        after = await caller.current_time()

    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert replies[2].json() == {"message": "API rate limit exceeded"}
    assert replies[2].headers["retry-after"] == "30"
    assert after.status_code == 200


async def test_calls_follow_each_other_on_one_connection() -> None:
    async with simulated() as (simulator, caller, _):
        for _ in range(3):
            await caller.current_time()

    assert [call.connection for call in simulator.calls] == [1, 1, 1, 1]


@pytest.mark.parametrize("path", ["/", "/_simulator/books", "/batch-processing-service/v2.1/flows"])
async def test_a_head_is_answered_without_a_body_and_the_connection_goes_on(path: str) -> None:
    async with simulated() as (simulator, caller, _):
        await caller.sign_in()
        reply = await caller.http.head(path)
        await caller.current_time()

    assert (reply.status_code, reply.content) == (404, b"")
    assert int(reply.headers["content-length"]) > 0
    assert {call.connection for call in simulator.calls} == {1}


@pytest.mark.parametrize("status", [204, 304])
async def test_a_refusal_has_no_body_where_http_has_none(status: int) -> None:
    async with simulated(flows={}, behaviour=Behaviour(refusal_status=status)) as (simulator, caller, _):
        query = {"action": "get", "flowId": "7", **caller.user}
        reply = await caller.send("GET", "flows", query)
        await caller.current_time()

    assert (reply.status_code, reply.content) == (status, b"")
    assert {call.connection for call in simulator.calls} == {1}


async def test_the_books_tell_what_was_seen_and_made() -> None:
    async with simulated() as (simulator, caller, _):
        await caller.ask(
            "POST", "flows", "triggerFromTask", {"flowId": 7, "taskId": 9, "triggerTime": NOW_MS}
        )
        books = (await caller.http.get("/_simulator/books")).json()

    assert [call["operation"] for call in books["calls"]] == ["token.get", "flows.triggerFromTask"]
    assert books["calls"][1] == {
        "number": 2,
        "connection": 1,
        "began_at": "2026-01-01T12:00:30.000000Z",
        "complete_at": "2026-01-01T12:00:30.000000Z",
        "method": "POST",
        "path": "/batch-processing-service/v2.1/flows",
        "operation": "flows.triggerFromTask",
        "flow": 7,
        "task": 9,
        "trigger_time": NOW_MS,
        "signature": "good",
        "outcome": "OK",
        "created": "7-20260101120000",
        "status": 200,
        "fault": None,
        "traceparent": None,
    }
    assert books["instances"] == [
        {
            "id": "7-20260101120000",
            "flow": 7,
            "task": 9,
            "trigger_time": "2026-01-01T12:00:30.000000Z",
            "status": "RUNNING",
            "created": "2026-01-01T12:00:30.000000Z",
            "started": "2026-01-01T12:00:30.000000Z",
            "ended": None,
        }
    ]
    assert caller.token not in str(books)
    assert simulator.application.secret_key not in f"{books}{simulator.application}{simulator.calls}"


async def test_the_instances_can_be_read_alone_a_page_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "PAGE", 2)
    async with simulated() as (_, caller, _clock):
        for minute in range(3):
            await caller.trigger(at=NOW_MS + minute * MINUTE_MS)
        queries = ("", "?after=2", "?after=3", "?after=9")
        pages = [(await caller.http.get(f"/_simulator/instances{query}")).json() for query in queries]

    created = "2026-01-01T12:00:30.000000Z"
    assert pages[0] == {
        "instances": [
            {"id": "3377-20260101120000", "status": "RUNNING", "created": created},
            {"id": "3377-20260101120100", "status": "WAIT", "created": created},
        ],
        "total": 3,
    }
    assert [[each["id"][-4:] for each in page["instances"]] for page in pages[1:]] == [["0200"], [], []]
    assert {page["total"] for page in pages} == {3}


@pytest.mark.parametrize("after", ["-1", "x", "1.5", ""])
async def test_instances_after_what_is_no_number_are_refused(after: str) -> None:
    async with simulated() as (_, caller, _clock):
        reply = await caller.http.get("/_simulator/instances", params={"after": after})

    text = f"after is {after!r}; allowed: how many instances to pass over, from 0"
    assert (reply.status_code, reply.json()) == (400, {"message": text})


@pytest.mark.parametrize(("keep", "kept"), [(None, [1, 2, 3, 4]), (2, [3, 4]), (0, [])])
async def test_only_so_many_calls_are_kept_as_are_asked_for(keep: int | None, kept: list[int]) -> None:
    told: list[Call] = []
    async with simulated(keep_calls=keep, on_call=told.append) as (simulator, caller, _):
        await caller.trigger()
        for _ in range(2):
            await caller.current_time()
        books = (await caller.http.get("/_simulator/books")).json()

    assert [call.number for call in told] == [1, 2, 3, 4]
    assert [call.number for call in simulator.calls] == kept
    assert [call["number"] for call in books["calls"]] == kept
    assert [each["id"] for each in books["instances"]] == ["3377-20260101120000"]


async def test_on_call_is_told_of_every_call() -> None:
    told: list[Call] = []
    async with simulated(on_call=told.append) as (simulator, caller, _):
        await caller.trigger()

    assert told == list(simulator.calls)
    assert [call.outcome for call in told] == ["OK", "OK"]


async def test_it_speaks_tls() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    clock = HandClock(NOW)
    simulator = Simulator(clock)

    url = await simulator.start(ssl_context=context)
    caller = Caller(url, simulator, clock)
    reply = await caller.trigger()
    await caller.http.aclose()
    await simulator.stop()

    assert url.startswith("https://127.0.0.1:")
    assert reply["code"] == 0


async def test_an_application_of_choice_signs() -> None:
    async with simulated(application=Application("key", "secret")) as (_, caller, _clock):
        reply = await caller.trigger()

    assert reply["code"] == 0


async def test_serve_runs_until_it_is_cancelled_and_then_lets_go_of_the_port() -> None:
    ready: asyncio.Queue[str] = asyncio.Queue()
    simulator = Simulator(HandClock(NOW))
    task = asyncio.create_task(serve(simulator, on_ready=ready.put_nowait))

    url = await ready.get()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    again = await simulator.start(port=int(url.rpartition(":")[2]))
    await simulator.stop()

    assert task.cancelled()
    assert again == url


async def test_a_port_that_is_taken_is_a_clear_error() -> None:
    first, second = Simulator(HandClock(NOW)), Simulator(HandClock(NOW))
    port = int((await first.start()).rpartition(":")[2])

    with pytest.raises(UsageError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: .+"):
        await second.start(port=port)
    await first.stop()
