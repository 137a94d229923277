"""The predicate that is made of a schema, beside jsonschema on the same schema."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsched.config import schema
from flowsched.config.accepting import accepting
from flowsched.config.findings import Findings, Unusable
from flowsched.config.reader import read

ROOT = Path(__file__).parents[1]
WHOLE = {
    "schedules": schema.schedules_schema(),
    "settings": schema.settings_schema(),
    "tests": schema.tests_schema(),
}

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 101),
    st.sampled_from([0.0, 1.0, 2.5, 10.0, 1e30, 2**63 - 1, 2**63]),
    st.sampled_from(["", "a", "a\n", "none", "skip", "queue", "1h", "UTC", "é" * 100, "x" * 101, "x" * 1001]),
    st.sampled_from([[], {}, ["a"], [1], {"a": 1}, {"timeout": "1h"}]),
)


def a_value(part: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values as a part of a schema would have them, and some that it would not."""
    usual: list[st.SearchStrategy[Any]] = [VALUES]
    if examples := part.get("examples"):
        usual.append(st.sampled_from(examples))
    if properties := part.get("properties"):
        known = {key: a_value(each) for key, each in properties.items()}
        needed = {key: known[key] for key in part.get("required", ())}
        others = {key: each for key, each in known.items() if key not in needed}
        usual.append(st.fixed_dictionaries(needed, optional=others))
        usual.append(st.fixed_dictionaries({}, optional={**known, "other": VALUES}))
    if isinstance(each := part.get("additionalProperties"), dict):
        names = st.sampled_from(["a", "B-1", "", "a b", "-"])
        usual.append(st.dictionaries(names, a_value(each), max_size=2))
    if items := part.get("items"):
        usual.append(st.lists(a_value(items), max_size=2))
    return st.one_of(*usual[::-1])


@pytest.mark.parametrize("name", WHOLE)
@given(data=st.data())
def test_it_accepts_nothing_in_which_jsonschema_finds_an_error(name: str, data: st.DataObject) -> None:
    document = data.draw(a_value(WHOLE[name].document))

    if WHOLE[name].accepts(document):
        assert not list(WHOLE[name].validator.iter_errors(document))


def what_is_read(path: Path) -> Any:
    """Return what the strict reader makes of a file; None: it is no YAML that is read at all."""
    try:
        return read(path.read_bytes(), Findings("")).data
    except Unusable:
        return None


FILES = {
    str(path.relative_to(ROOT)): document
    for path in [*(ROOT / "schedules").glob("*[!t].yaml"), *(ROOT / "tests/data/bad").rglob("*.y*ml")]
    if (document := what_is_read(path)) is not None
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", WHOLE)
def test_it_agrees_with_jsonschema_on_files(name: str, file: str) -> None:
    document = FILES[file]

    assert WHOLE[name].accepts(document) is not any(WHOLE[name].validator.iter_errors(document))


@pytest.mark.parametrize(
    ("part", "good", "bad"),
    [
        ({"type": "integer"}, [0, -1], [1.0, True, "1", None]),
        ({"type": "number"}, [0, 1.5], [False, "1"]),
        ({"type": ["object", "null"]}, [{}, None], [[], "", 0]),
        ({"enum": ["a", "b"]}, ["a"], ["c", "", None]),
        ({"type": "string", "pattern": "^a$"}, ["a"], ["a\n", "b", 1]),
        ({"minimum": 1, "maximum": 2}, [1, 2, 1.5], [0, 2.5]),
        ({"minLength": 1, "maxLength": 2}, ["a", "éé"], ["", "abc"]),
        ({"minItems": 1, "items": {"type": "string"}}, [["a"]], [[], ["a", 1]]),
        ({"minProperties": 1, "maxProperties": 1}, [{"a": 1}], [{}, {"a": 1, "b": 2}]),
        ({"required": ["a"]}, [{"a": 1}], [{}, {"b": 1}]),
        (
            {"properties": {"a": {"type": "null"}}, "additionalProperties": False},
            [{}, {"a": None}],
            [{"a": 1}, {"b": None}],
        ),
        ({"additionalProperties": {"type": "null"}}, [{"b": None}], [{"b": 1}]),
        ({"properties": {"a": {"type": "null"}}}, [{"a": None, "b": 1}], [{"a": 1}]),
        ({"propertyNames": {"pattern": "^a+$"}}, [{"aa": 1}], [{"ab": 1}, {"": 1}]),
        ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, [{"a": 1}, {"b": 1}], [{"c": 1}]),
        ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, [1, 2], [0, 3]),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_a_keyword_means_what_jsonschema_takes_it_for(
    part: dict[str, Any], good: list[Any], bad: list[Any]
) -> None:
    accepts = accepting(part)

    assert [accepts(value) for value in good] == [True] * len(good)
    assert [accepts(value) for value in bad] == [False] * len(bad)


def test_a_keyword_that_it_does_not_know_is_not_passed_over() -> None:
    with pytest.raises(KeyError, match="multipleOf"):
        accepting({"properties": {"a": {"multipleOf": 2}}})


def test_where_nothing_is_wrong_jsonschema_is_not_needed() -> None:
    code = (
        "import sys; from flowsched.config import load_catalog; load_catalog('schedules', None);"
        "sys.exit('jsonschema' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60)  # noqa: S603

    assert done.returncode == 0
