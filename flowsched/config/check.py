"""A file against its JSON Schema, in words of ours.

What is allowed in a place is the `title` of the schema there, so that an editor and our report say the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowsched.errors import quoted
from flowsched.near import did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flowsched.config.findings import Findings, KeyPath
    from flowsched.config.reader import Node
    from flowsched.config.schema import Schema


def check(node: Node, schema: Schema, findings: Findings) -> None:
    """Note everything in a file that its schema does not allow.

    Raises Unusable where nothing is left to look at.
    """
    if node.data is None:
        findings.give_up((0, 0), (), "is empty", schema.document["title"])
    if schema.accepts(node.data):
        return
    words = _Words(node, schema, findings)
    for error in schema.validator.iter_errors(node.data):
        words.note(error)
    words.note_missing_keys()


class _Words:
    """The errors of one file, on their way to becoming its findings."""

    def __init__(self, node: Node, schema: Schema, findings: Findings) -> None:
        self._node = node
        self._findings = findings
        self._secrets_nearby = schema.secrets_nearby
        self._missing: dict[KeyPath, str] = {}
        """The required keys that are not there, with what is allowed in them."""
        self._instead: dict[KeyPath, set[KeyPath]] = {}
        """What may be there in the place of such a key."""
        self._meant: set[KeyPath] = set()
        """The keys that are most probably there, but misspelt."""

    def note(self, error: Any) -> None:
        """Note what the schema's validator found."""
        path = tuple(map(str, error.absolute_path))
        if error.validator == "additionalProperties":
            self._unknown_keys(path, error)
        elif error.validator == "required":
            self._required_keys(path, error)
        elif error.validator == "anyOf":
            self._required_alternatives(path, error)
        elif "propertyNames" in error.absolute_schema_path:
            self._name(path, error)
        else:
            self._value(path, error)

    def note_missing_keys(self) -> None:
        """Note the required keys that are missing, unless a misspelt one was meant to be it."""
        for path, allowed in self._missing.items():
            if not self._meant & {path, *self._instead.get(path, ())}:
                self._findings.add(self._node.position(path[:-1]), path, "is missing", allowed)

    def _required_keys(self, path: KeyPath, error: Any) -> None:
        for key in error.validator_value:
            if key not in error.instance:
                self._missing[*path, key] = allowed_in(error.schema["properties"][key])

    def _required_alternatives(self, path: KeyPath, error: Any) -> None:
        """Take the first of the keys, one of which is required, as the one that is missing."""
        first, *others = ((*path, each["required"][0]) for each in error.validator_value)
        self._missing[first] = allowed_in(error.schema["properties"][first[-1]])
        self._instead[first] = set(others)

    def _unknown_keys(self, path: KeyPath, error: Any) -> None:
        known = error.schema["properties"]
        for key in error.instance:
            if key in known:
                continue
            absent = [each for each in known if each not in error.instance]
            meant = nearest(key, absent)
            if meant:
                self._meant.add((*path, meant))
                self._findings.distrust((*path, meant))
            at, message = self._node.position((*path, key)), f"unknown key{did_you_mean(key, absent)}"
            self._findings.add(at, (*path, key), message, ", ".join(known), usable=True)

    def _name(self, path: KeyPath, error: Any) -> None:
        name, allowed = error.instance, error.schema["title"]
        at = self._node.position((*path, name))
        self._findings.add(at, (*path, name), f"{quoted(name)} cannot be a name", allowed, usable=True)

    def _value(self, path: KeyPath, error: Any) -> None:
        node = self._node.get(path) or self._node
        self._findings.add(node.at, path, self._what_is_wrong(error), allowed_in(error.schema))

    def _what_is_wrong(self, error: Any) -> str:
        # What is no mapping at all may be a file of another kind, to which somebody has led us by a link.
        value, show = error.instance, bool(error.absolute_path) and not self._secrets_nearby
        # Every enum of ours is one of texts; what is no text is first of all of the wrong type.
        if error.validator == "type" or (error.validator == "enum" and not isinstance(value, str)):
            return _wrong_type(value, error.schema, show=show)
        if error.validator == "enum":
            return _no_such_choice(value, error.validator_value, show=show)
        if error.validator == "pattern":
            return f"{quoted(value)} cannot be a name" if show else "this cannot be a name"
        number = f": {value}" if show and isinstance(value, int | float) else ""
        return _WRONG_SIZE[error.validator] + number


_WRONG_SIZE = {
    "minimum": "is too small",
    "maximum": "is too large",
    "minLength": "is empty text",
    "maxLength": "is too long",
    "minProperties": "is an empty mapping",
    "minItems": "is an empty list",
    "maxProperties": "has more than one key",
}


def allowed_in(schema: Mapping[str, Any]) -> str:
    """Return what is allowed where a schema holds, in words."""
    title: str = schema["title"] if "title" in schema else schema["allOf"][0]["title"]
    return title


def _no_such_choice(value: str, choices: list[str], *, show: bool) -> str:
    shown = quoted(value) if show else "this"
    return f"{shown} is not one of the choices{did_you_mean(value, choices)}"


def _wrong_type(value: Any, schema: Mapping[str, Any], *, show: bool) -> str:
    if "credential" in schema.get("properties", ()) and isinstance(value, str | int | float):
        return "a secret never stands in YAML"
    described = _described(value, show=show)
    if isinstance(value, str) and value.isdecimal():
        return f"{described}: a number has no quotes and no leading zeros"
    if type(value) is int and schema["title"].startswith("a duration"):
        return f"{described}, which has no unit"
    return described


def _described(value: Any, *, show: bool) -> str:
    if value is None:
        return "is empty"
    if isinstance(value, bool):
        return f"is {str(value).lower()}"
    if isinstance(value, str):
        return f"is the text {quoted(value)}" if show else "is text"
    if isinstance(value, int | float):
        return f"is the number {value}" if show else "is a number"
    return "is a list" if isinstance(value, list) else "is a mapping"
