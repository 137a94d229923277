"""The schemas, the parser and the records must say the same."""

from __future__ import annotations

import json
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft7Validator

from flowsched.config import (
    calendars,
    check,
    closed_times,
    expectations,
    load_catalog,
    parser,
    points,
    schema,
    settings,
)
from flowsched.durations import allowed_between, parse_duration
from flowsched.model import (
    Blackout,
    Calendar,
    Expectation,
    Holidays,
    Limits,
    RetryPolicy,
    Schedule,
    SecretSource,
    Settings,
    Target,
    Timing,
)
from flowsched.review.expectations import MOST_FIRES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowsched.config.values import Converters

SCHEDULES = schema.schema_document("schedules")
SETTINGS = schema.schema_document("settings")
TESTS = schema.schema_document("tests")
ROOT = Path(__file__).parents[1]


def part_of(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Return the schema that holds at the end of a path, with references written out."""
    node: dict[str, Any] = schema.written_out(document, document["definitions"])
    for key in keys:
        node = node["properties"][key] if key != "*" else node["additionalProperties"]
    return node


def properties_of(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    properties: dict[str, Any] = part_of(document, *keys)["properties"]
    return properties


def every_key(document: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every key of a schema with references written out, by its dotted path."""
    for part in (document, *document.get("allOf", ())):
        for key, value in part.get("properties", {}).items():
            yield ".".join((*path, key)), value
            yield from every_key(value, (*path, key))
        if isinstance(part.get("additionalProperties"), dict):
            yield from every_key(part["additionalProperties"], (*path, "*"))
        if isinstance(part.get("items"), dict):
            yield from every_key(part["items"], (*path, "*"))


KEYS = [
    pytest.param(each, id=f"{name}:{path}")
    for name, document in (("schedules", SCHEDULES), ("settings", SETTINGS), ("tests", TESTS))
    for path, each in every_key(part_of(document))
]


def every_pattern(part: Any) -> Iterator[str]:
    """Yield every pattern below a part of a schema."""
    if isinstance(part, dict):
        if isinstance(part.get("pattern"), str):
            yield part["pattern"]
        part = list(part.values())
    for each in part if isinstance(part, list) else ():
        yield from every_pattern(each)


PATTERNS = sorted({*every_pattern(SCHEDULES), *every_pattern(SETTINGS)})


OWN = {"description", "cron", "flow", "task", "starts_at", "ends_at", "renamed_from", "ping"}
"""What schedules cannot share."""


def names(record: type) -> set[str]:
    return {field.name for field in fields(record)}


@pytest.mark.parametrize("document", [SCHEDULES, SETTINGS, TESTS])
def test_a_schema_is_valid_draft_07(document: dict[str, Any]) -> None:
    Draft7Validator.check_schema(document)

    assert document["$schema"] == "http://json-schema.org/draft-07/schema#"


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_described_with_its_default_and_says_what_is_allowed(key: dict[str, Any]) -> None:
    assert (
        "Default: " in key["description"]
        or "No default: " in key["description"]
        or "own default" in key["description"]
    )
    assert check.allowed_in(key)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_has_examples_that_are_valid(key: dict[str, Any]) -> None:
    validator = Draft7Validator(key)

    assert key["examples"]
    assert [list(validator.iter_errors(example)) for example in key["examples"]] == [[]] * len(
        key["examples"]
    )


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("whole", [schema.schedules_schema(), schema.settings_schema()])
def test_a_pattern_holds_for_a_text_as_a_whole(pattern: str, whole: schema.Schema) -> None:
    part = whole.validator.evolve(schema={"pattern": pattern})

    assert (pattern[0], pattern[-1]) == ("^", "$"), "without these an editor checks a part of the text"
    assert part.is_valid("nightly")
    assert not any(map(part.is_valid, ["nightly\n", "\nnightly", "nightly\n\n", "nightly\r\n", "a\nb"]))


def test_the_keys_of_a_schedule_are_the_fields_of_its_record() -> None:
    written = set(properties_of(SCHEDULES, "schedules", "*"))

    when = names(Timing) - {"rules"}  # which are looked up, not written
    assert when < written
    assert written - when == names(Schedule) - {"id", "timing", "source"}
    assert set(properties_of(SCHEDULES, "defaults")) == written - OWN
    assert set(properties_of(SCHEDULES, "defaults", "retry")) == names(RetryPolicy)


def test_the_keys_of_the_settings_are_the_fields_of_their_records() -> None:
    top = set(properties_of(SETTINGS)) - {"limits", "review", "apply", "reload", "control"}
    inner = {key for part in ("review", "apply") for key in properties_of(SETTINGS, part)}
    control = {f"control_{key}" for key in properties_of(SETTINGS, "control")}
    reload = {f"{key}_files" for key in properties_of(SETTINGS, "reload")}
    assert top | inner | control | reload == names(Settings) - {"file", "schedules_place"}
    assert set(properties_of(SETTINGS, "targets", "*")) == names(Target) - {"name", "source"}
    assert set(properties_of(SETTINGS, "limits")) == names(Limits)
    assert names(SecretSource) == {"kind", "name", "place"}


def test_the_parser_reads_every_key_of_the_schema() -> None:
    read = {".".join(key) for key in (*parser._OWN, *parser._INHERITED)} | {"target", "blackout"}
    keys = {path for path, _ in every_key(part_of(SCHEDULES, "schedules", "*"))} - {"retry", "watch"}
    written = {path for path in keys if not path.startswith(("accept.", "blackout."))}

    assert read == written


def default_in(description: str) -> str:
    return description.split("Default: ")[1].split(".", maxsplit=1)[0].split(",", maxsplit=1)[0]


@pytest.mark.parametrize(
    "key", [key for key in parser._BUILT_IN if key not in {("target",), ("owner",), ("task",)}]
)
def test_the_default_that_is_described_is_the_default_that_is_taken(key: tuple[str, ...]) -> None:
    path = "watch" if key == ("watch", "timeout") else ".".join(key)
    described = default_in(dict(every_key(part_of(SCHEDULES, "schedules", "*")))[path]["description"])
    built_in = parser._BUILT_IN[key]

    if described[0].isdigit() and described[-1].isalpha():
        assert parse_duration(described) == built_in
    else:
        assert described == {True: "true", None: "none", 2.0: "2"}.get(built_in, str(built_in))


def test_the_limits_that_are_described_are_the_limits_that_are_taken() -> None:
    limits = properties_of(SETTINGS, "limits")

    assert default_in(limits["concurrency"]["description"]) == str(
        settings._BUILT_IN["limits", "concurrency"]
    )
    assert default_in(limits["rate_per_minute"]["description"]) == "null"
    assert settings._BUILT_IN["limits", "rate_per_minute"] is None


@pytest.mark.parametrize("key", sorted(settings._BUILT_IN_SPANS))
def test_the_span_that_is_described_is_the_span_that_is_taken(key: tuple[str]) -> None:
    described = default_in(properties_of(SETTINGS)[key[0]]["description"])

    assert parse_duration(described) == settings._BUILT_IN_SPANS[key]


@pytest.mark.parametrize(
    ("part", "converters", "count"),
    [
        (part_of(SCHEDULES, "schedules", "*"), parser._INHERITED, 7),
        (part_of(SETTINGS), settings._SPANS, 4),
    ],
)
def test_a_duration_has_the_same_range_in_schema_and_parser(
    part: dict[str, Any], converters: Converters, count: int
) -> None:
    titles = {path: key.get("title", "") for path, key in every_key(part)}
    ranges = {
        ".".join(key): allowed_between(convert.keywords["least"], convert.keywords["most"])
        for key, convert in converters.items()
        if isinstance(convert, partial)
    }

    assert len(ranges) == count
    assert ranges == {path: title for path, title in titles.items() if title.startswith("a duration")}


def test_nothing_is_removed_that_could_still_be_caught_up() -> None:
    keep, window = settings._SPANS["keep",], parser._INHERITED["catch_up_window",]

    assert isinstance(keep, partial)
    assert isinstance(window, partial)
    assert keep.keywords["least"] > window.keywords["most"]


@pytest.mark.parametrize("key", ["starts_at", "ends_at"])
def test_a_point_in_time_is_told_alike_by_schema_and_parser(key: str) -> None:
    assert properties_of(SCHEDULES, "schedules", "*")[key]["title"] == points.POINT_ALLOWED


@pytest.mark.parametrize("key", sorted(properties_of(SCHEDULES, "schedules", "*")))
def test_every_example_of_a_schedule_key_loads(key: str, tmp_path: Path) -> None:
    schedule = {"cron": "@daily", "timezone": "UTC", "flow": 1}
    for number, example in enumerate(properties_of(SCHEDULES, "schedules", "*")[key]["examples"]):
        text = json.dumps({"schedules": {f"s{number}": {**schedule, key: example}}})
        (tmp_path / f"{number}.yaml").write_text(text)
    (tmp_path / "calendars.yaml").write_text('calendars: {company-holidays: {yearly: ["12-25"]}}')

    assert load_catalog(str(tmp_path), None).schedules


def test_the_keys_of_a_test_are_the_fields_of_its_record() -> None:
    part = part_of(TESTS)["properties"]["tests"]["items"]
    read = {"schedule": "schedule_id", "from": "start", "until": "end"}
    written = {read.get(key, key) for key in part["properties"]} - {"fires"}
    said = set(part["properties"]["fires"]["properties"])

    assert written | said == names(Expectation) - {"source", "column"}
    assert {".".join(key) for key in expectations._DEMANDS} == {f"fires.{key}" for key in said}


def test_the_times_of_a_test_are_told_alike_by_schema_and_parser() -> None:
    part = part_of(TESTS)["properties"]["tests"]["items"]["properties"]
    fires = part["fires"]["properties"]

    assert {part[key]["title"] for key in ("from", "until")} == {points.POINT_ALLOWED}
    assert {fires[key]["items"]["title"] for key in ("exactly", "at_least")} == {expectations._TIME_ALLOWED}
    assert fires["deferred"]["additionalProperties"]["title"] == expectations._TIME_ALLOWED
    assert f"at most {expectations.LONGEST.days} days" in part["until"]["description"]
    assert fires["count"]["maximum"] == MOST_FIRES


CALENDAR = part_of(SCHEDULES, "calendars", "*")["properties"]


def test_the_keys_of_a_calendar_are_the_fields_of_its_record() -> None:
    read = (set(CALENDAR) - {"dates"}) | {"days", "spans"}

    assert read == names(Calendar) - {"name", "rules", "source"}
    assert set(CALENDAR) == {key for (key,) in calendars._PLAIN} | set(calendars._PARTS)
    assert set(CALENDAR["holidays"]["items"]["properties"]) == names(Holidays)
    assert set(part_of(SCHEDULES, "schedules", "*", "blackout")["properties"]) == names(Blackout)


@pytest.mark.parametrize("key", ["dates", "yearly", "weekly"])
def test_a_closed_time_is_told_alike_by_schema_and_parser(key: str) -> None:
    assert CALENDAR[key]["items"]["title"] == getattr(closed_times, f"{key.upper()}_ALLOWED")


@pytest.mark.parametrize("key", sorted(CALENDAR))
def test_every_example_of_a_calendar_key_loads(key: str, tmp_path: Path) -> None:
    event = "BEGIN:VEVENT\nUID:1\nDTSTART:20261224\nEND:VEVENT\n"
    ical = f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\n{event}END:VCALENDAR\n"
    (tmp_path / "grid-maintenance.ics").write_text(ical)
    for number, example in enumerate(CALENDAR[key]["examples"]):
        text = json.dumps({"calendars": {f"c{number}": {"weekly": ["SUN"], key: example}}})
        (tmp_path / f"{number}.yaml").write_text(text)

    assert load_catalog(str(tmp_path), None).calendars


def test_a_modeline_leads_to_its_schema() -> None:
    files = [*sorted((ROOT / "schedules").rglob("*.yaml")), ROOT / "flowsched.example.yaml"]
    for file in files:
        first, _, _ = file.read_text(encoding="utf-8").partition("\n")
        _, _, path = first.partition("$schema=")

        assert (file.parent / path).is_file(), file
