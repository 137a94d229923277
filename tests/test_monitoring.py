"""What docs/monitoring has for Prometheus and Grafana goes by the metrics that there are."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from flowsched.causes import CAUSES
from flowsched.traceparent import trace_id
from tests.builders import a_run
from tests.monitored import ROOT, everything, promtool

FOLDER = ROOT / "docs" / "monitoring"
PAGE = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
RULES = yaml.safe_load((FOLDER / "flowsched.rules.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
PROOF = (FOLDER / "flowsched.rules.test.yml").read_text(encoding="utf-8")
DASHBOARD = json.loads((FOLDER / "flowsched.dashboard.json").read_text(encoding="utf-8"))

NOT_DRAWN = {
    "process_virtual_memory_bytes",
    "python_info",
    "python_gc_objects_collected_total",
    "python_gc_objects_uncollectable_total",
    "python_gc_collections_total",
}
"""Of use to those who look for a leak, not on a dashboard."""

METRIC = re.compile(r"\b(?:flowsched|process|python)_[a-z_]+\b")


def exposed() -> dict[str, tuple[str, set[str]]]:
    """Return the type and the labels of each metric of the page."""
    found = {}
    for family in text_string_to_metric_families(everything().metrics.page()[0].decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, labels)
    found["flowsched_schedule_success_expected_timestamp_seconds"] = ("gauge", {"schedule"})
    return found


EXPOSED = exposed()


def metrics_in(text: str) -> set[str]:
    """Return the metrics that an expression is about; of a histogram, its one name."""
    parts = ("_bucket", "_count", "_sum")
    return {
        next((name.removesuffix(part) for part in parts if name.removesuffix(part) in EXPOSED), name)
        for name in METRIC.findall(text)
    }


def expressions(node: Any) -> list[str]:
    """Return every expression and query of a dashboard."""
    if isinstance(node, dict):
        own = [node[key] for key in ("expr", "query") if isinstance(node.get(key), str)]
        return own + [each for value in node.values() for each in expressions(value)]
    return [each for value in node for each in expressions(value)] if isinstance(node, list) else []


def test_the_page_has_a_row_for_each_metric_with_its_type_and_labels() -> None:
    rows = re.findall(r"^\| `(flowsched_\w+)` \| (\w+) \| (.*?) \|", PAGE, re.MULTILINE)

    written = {name: (type_, set(re.findall(r"`(\w+)`", labels))) for name, type_, labels in rows}
    assert written == {name: of for name, of in EXPOSED.items() if name.startswith("flowsched_")}
    assert {name for name in EXPOSED if not name.startswith("flowsched_")} <= metrics_in(PAGE)


def test_the_page_names_each_cause_of_each_state() -> None:
    table = PAGE.partition("### Causes")[2].partition("`other` is for")[0]
    written: dict[str, set[str]] = {}
    state = ""
    for row in re.findall(r"^\| (?:`(\w+)`)? ?\| (`.*?) \|", table, re.MULTILINE):
        state = row[0] or state
        written.setdefault(state, set()).update(re.findall(r"`(\w+)`", row[1]))

    assert written == {str(state): set(map(str, causes)) - {"other"} for state, causes in CAUSES.items()}


def test_the_page_has_a_row_for_each_alert_with_its_severity() -> None:
    written = re.findall(r"^\| `(Flowsched\w+)` \| (\w+) \|", PAGE, re.MULTILINE)

    assert written == [(rule["alert"], rule["labels"]["severity"]) for rule in RULES if "alert" in rule]


def test_the_trace_id_of_the_page_is_worked_out_as_flowsched_does() -> None:
    recipe = re.search(r"printf '(.*?)' \| sha256sum \| cut -c1-32", PAGE)
    assert recipe is not None
    schedule, at, origin = "nightly-wind-report", "2026-11-21T01:30:00+00:00", "schedule"
    text = recipe[1].replace("\\n", "\n")

    assert text == f"flowsched\n{schedule}\n{at}\n{origin}"
    from datetime import datetime  # noqa: PLC0415
    from hashlib import sha256  # noqa: PLC0415

    run = a_run(schedule_id=schedule, fire_time=datetime.fromisoformat(at))
    assert trace_id(run) == sha256(text.encode()).hexdigest()[:32]


@pytest.mark.parametrize("rule", [rule for rule in RULES if "alert" in rule], ids=lambda rule: rule["alert"])
def test_a_rule_goes_by_metrics_that_there_are_and_says_what_to_do(rule: dict[str, Any]) -> None:
    recorded = {each["record"] for each in RULES if "record" in each}
    expression = rule["expr"]
    for name in recorded:
        expression = expression.replace(name, "")

    assert metrics_in(expression) <= set(EXPOSED)
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description"}
    assert f'alertname="{rule["alert"]}"' in PROOF


def test_a_section_that_a_rule_sends_people_to_is_on_that_page() -> None:
    described = " ".join(rule["annotations"]["description"] for rule in RULES if "alert" in rule)
    named = re.findall(r'"([^"]+)" in (docs/[a-z]+\.md)', described)

    assert len(named) == described.count("docs/") > 0
    for section, page in named:
        assert f"\n## {section}\n" in (ROOT / page).read_text(encoding="utf-8")


def test_promtool_proves_the_rules() -> None:
    tool = promtool()
    if tool is None:
        pytest.skip("promtool is not on this machine; it comes with Prometheus")
    for what in (["check", "rules", "flowsched.rules.yml"], ["test", "rules", "flowsched.rules.test.yml"]):
        done = subprocess.run([tool, *what], cwd=FOLDER, capture_output=True, text=True, check=False)  # noqa: S603

        assert (done.returncode, "SUCCESS" in done.stdout) == (0, True), done.stdout + done.stderr


def test_the_dashboard_goes_by_metrics_that_there_are_and_by_all_of_them() -> None:
    used = set().union(*map(metrics_in, expressions(DASHBOARD)))

    assert used == set(EXPOSED) - NOT_DRAWN


def test_the_dashboard_asks_only_the_chosen_source_job_and_instance() -> None:
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

    assert {json.dumps(panel["datasource"]) for panel in panels} == {
        '{"type": "prometheus", "uid": "${datasource}"}'
    }
    for panel in panels:
        for target in panel["targets"]:
            selectors = re.findall(r"\{(.*?)\}", target["expr"])
            assert selectors
            assert all(each.startswith('job=~"$job", instance=~"$instance"') for each in selectors)
    assert [one["name"] for one in DASHBOARD["templating"]["list"]] == [
        "datasource", "job", "instance", "target", "schedule",
    ]  # fmt: skip


def test_the_panels_of_the_dashboard_have_ids_and_places_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
    assert all(panel["title"] for panel in panels)
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert rows == ["Now", "Fires", "Lateness", "Doubt and trouble", "Targets", "Process"]
