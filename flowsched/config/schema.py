"""The JSON Schemas that ship with the package, for our own check and for editors alike."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jsonschema import Draft7Validator, ValidationError
from jsonschema.validators import extend

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Schema:
    """What the files of one kind may hold."""

    validator: Any
    secrets_nearby: bool
    """Whether somebody may have written a secret into such a file; then no message repeats a value."""


@cache
def schedules_schema() -> Schema:
    """Return what a schedule file may hold."""
    return Schema(_validator("schedules"), secrets_nearby=False)


@cache
def settings_schema() -> Schema:
    """Return what `flowsched.yaml` may hold."""
    return Schema(_validator("settings"), secrets_nearby=True)


@cache
def tests_schema() -> Schema:
    """Return what a test file may hold."""
    return Schema(_validator("tests"), secrets_nearby=False)


def schema_document(name: str) -> dict[str, Any]:
    """Return a schema as it is shipped: `schedules`, `settings` or `tests`."""
    path = files("flowsched.config") / "schemas" / f"{name}.schema.json"
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def written_out(schema: Any, definitions: dict[str, Any]) -> Any:
    """Return a schema with a copy of the definition in the place of each reference to it."""
    if isinstance(schema, list):
        return [written_out(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return written_out(definitions[schema["$ref"].removeprefix("#/definitions/")], definitions)
    return {key: written_out(value, definitions) for key, value in schema.items() if key != "definitions"}


def _validator(name: str) -> Any:
    document = schema_document(name)
    # 30.0 is an integer to JSON Schema; in a reviewed file it is a slip.
    types = Draft7Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    # Without references nothing is ever looked up, and a check takes half the time.
    strict: Any = extend(Draft7Validator, {"pattern": _pattern}, type_checker=types)  # type: ignore[no-untyped-call]
    return strict(written_out(document, document["definitions"]))


def _pattern(_validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[ValidationError]:
    """Check a text as a whole: in Python, unlike in editors, `$` holds before a last line end too."""
    if isinstance(value, str) and not re.fullmatch(pattern, value):
        yield ValidationError(f"does not match {pattern}")
