"""The schemas, the parser and the records must say the same."""

from __future__ import annotations

import json
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft7Validator

from flowsched.config import check, load_catalog, parser, schema, settings
from flowsched.durations import allowed_between, parse_duration
from flowsched.model import Limits, RetryPolicy, Schedule, SecretSource, Settings, Target, Timing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowsched.config.values import Converters

SCHEDULES = schema.schema_document("schedules")
SETTINGS = schema.schema_document("settings")
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


KEYS = [
    pytest.param(each, id=f"{name}:{path}")
    for name, document in (("schedules", SCHEDULES), ("settings", SETTINGS))
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


OWN = {"description", "cron", "flow", "task", "starts_at", "ends_at", "renamed_from"}
"""What schedules cannot share."""


def names(record: type) -> set[str]:
    return {field.name for field in fields(record)}


@pytest.mark.parametrize("document", [SCHEDULES, SETTINGS])
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
    assert set(properties_of(SETTINGS)) - {"limits"} == names(Settings) - {"file"}
    assert set(properties_of(SETTINGS, "targets", "*")) == names(Target) - {"name", "source"}
    assert set(properties_of(SETTINGS, "limits")) == names(Limits)
    assert names(SecretSource) == {"kind", "name"}


def test_the_parser_reads_every_key_of_the_schema() -> None:
    read = {".".join(key) for key in (*parser._OWN, *parser._INHERITED)} | {"target"}
    written = {path for path, _ in every_key(part_of(SCHEDULES, "schedules", "*"))} - {"retry", "watch"}

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
        (part_of(SETTINGS), settings._SPANS, 2),
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
    assert properties_of(SCHEDULES, "schedules", "*")[key]["title"] == parser._POINT_ALLOWED


@pytest.mark.parametrize("key", sorted(properties_of(SCHEDULES, "schedules", "*")))
def test_every_example_of_a_schedule_key_loads(key: str, tmp_path: Path) -> None:
    schedule = {"cron": "@daily", "timezone": "UTC", "flow": 1}
    for number, example in enumerate(properties_of(SCHEDULES, "schedules", "*")[key]["examples"]):
        text = json.dumps({"schedules": {f"s{number}": {**schedule, key: example}}})
        (tmp_path / f"{number}.yaml").write_text(text)

    assert load_catalog(str(tmp_path), None).schedules


def test_a_modeline_leads_to_its_schema() -> None:
    files = [*sorted((ROOT / "schedules").rglob("*.yaml")), ROOT / "flowsched.example.yaml"]
    for file in files:
        first, _, _ = file.read_text(encoding="utf-8").partition("\n")
        _, _, path = first.partition("$schema=")

        assert (file.parent / path).is_file(), file
