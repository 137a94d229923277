from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flowsched.enos import predicted_instance, trigger_request
from flowsched.enos.replies import LONGEST_BODY, LONGEST_INSTANCE
from flowsched.enos.requests import cancel_request, look_up_request
from tests.builders import a_target

VECTORS = json.loads((Path(__file__).parent / "data" / "enos-signature-vectors.json").read_text("utf-8"))
SEED = a_target(user_id="yourUserId", org_id="yourOrgId")


def test_the_sample_of_trigger_flow_is_reproduced() -> None:
    request = trigger_request(SEED, 3377, None, 1574385824000)

    assert request.method == "POST"
    assert request.path == "/batch-processing-service/v2.1/flows"
    assert request.query == (("action", "trigger"), ("userId", "yourUserId"), ("orgId", "yourOrgId"))
    assert request.url_target == f"{request.path}?action=trigger&userId=yourUserId&orgId=yourOrgId"
    assert request.body == b'{"flowId":3377,"triggerTime":1574385824000}'


def test_the_sample_of_trigger_flow_from_task_is_reproduced() -> None:
    request = trigger_request(SEED, 3377, 108580, 1594016819108)

    assert request.method == "POST"
    assert request.url_target == (
        "/batch-processing-service/v2.1/flows?action=triggerFromTask&userId=yourUserId&orgId=yourOrgId"
    )
    assert request.body == b'{"flowId":3377,"taskId":108580,"triggerTime":1594016819108}'


def test_v2_0_has_its_own_path() -> None:
    request = trigger_request(a_target(api_version="v2.0"), 3377, None, 0)

    assert request.path == "/dataflow-batch-service/v2.0/flows"


def test_v2_0_cannot_trigger_from_a_task() -> None:
    with pytest.raises(ValueError, match=r"target default: v2\.0 cannot .* from a task; allowed: v2\.1"):
        trigger_request(a_target(api_version="v2.0"), 3377, 1, 0)


def test_odd_ids_are_percent_encoded_in_the_url_and_kept_for_the_signature() -> None:
    request = trigger_request(a_target(user_id="u 1+ä&x/y", org_id="o"), 1, None, 0)

    assert request.url_target.endswith("?action=trigger&userId=u%201%2B%C3%A4%26x%2Fy&orgId=o")
    assert ("userId", "u 1+ä&x/y") in request.query


SERVICES = {"v2.1": "/batch-processing-service/v2.1/", "v2.0": "/dataflow-batch-service/v2.0/"}


@pytest.mark.parametrize("version", SERVICES)
def test_a_look_is_a_get_without_a_body_that_may_have_a_long_reply(version: str) -> None:
    target = a_target(user_id="yourUserId", org_id="yourOrgId", api_version=version)

    request = look_up_request(target, "2809-20190808093200")

    assert (request.method, request.body) == ("GET", b"")
    assert request.url_target == (
        f"{SERVICES[version]}flowInstances?action=get&userId=yourUserId&orgId=yourOrgId"
        "&flowInstId=2809-20190808093200"
    )
    assert request.longest_reply == LONGEST_INSTANCE


@pytest.mark.parametrize("version", SERVICES)
def test_a_cancellation_names_the_instance_in_its_body(version: str) -> None:
    target = a_target(user_id="yourUserId", org_id="yourOrgId", api_version=version)

    request = cancel_request(target, "2438-201908081020")

    assert request.method == "POST"
    assert request.url_target == (
        f"{SERVICES[version]}flowInstances?action=cancel&userId=yourUserId&orgId=yourOrgId"
    )
    assert request.body == b'{"flowInstId":"2438-201908081020"}'
    assert request.longest_reply == LONGEST_BODY


@pytest.mark.parametrize("vector", VECTORS["flow_instance_id_vectors"], ids=lambda vector: vector["id"])
def test_every_instance_id_vector_reproduces(vector: dict[str, Any]) -> None:
    assert predicted_instance(vector["flowId"], vector["triggerTime"]) == vector["id"]


def test_the_door_is_light() -> None:
    script = "import sys, flowsched.enos; sys.exit('httpx' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", script], check=False)  # noqa: S603 - our own words

    assert done.returncode == 0


def test_the_door_knows_no_other_name() -> None:
    import flowsched.enos  # noqa: PLC0415

    with pytest.raises(AttributeError, match="nonsense"):
        _ = flowsched.enos.nonsense
