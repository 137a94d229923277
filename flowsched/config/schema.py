"""The JSON Schemas that ship with the package, for our own check and for editors alike."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from flowsched.config.accepting import accepting

if TYPE_CHECKING:
    from flowsched.config.accepting import Accepts


@dataclass(frozen=True)
class Schema:
    """What the files of one kind may hold."""

    document: dict[str, Any]
    """Without references: so nothing is ever looked up."""
    accepts: Accepts
    """Tells at once that nothing is wrong; what it does not accept may be right all the same."""
    secrets_nearby: bool
    """Whether somebody may have written a secret into such a file; then no message repeats a value."""

    @cached_property
    def validator(self) -> Any:
        """Tells all that is wrong; jsonschema is imported only where something is."""
        return import_module("flowsched.config.validator").strict_validator(self.document)


@cache
def schedules_schema() -> Schema:
    """Return what a schedule file may hold."""
    return _schema("schedules", secrets_nearby=False)


@cache
def settings_schema() -> Schema:
    """Return what `flowsched.yaml` may hold."""
    return _schema("settings", secrets_nearby=True)


@cache
def tests_schema() -> Schema:
    """Return what a test file may hold."""
    return _schema("tests", secrets_nearby=False)


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


def _schema(name: str, *, secrets_nearby: bool) -> Schema:
    document = schema_document(name)
    whole = written_out(document, document["definitions"])
    return Schema(whole, accepting(whole), secrets_nearby)
