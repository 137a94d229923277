"""A JSON Schema as one predicate: whether a value is what it allows, and nothing about what is not.

It is made from the very schema that jsonschema is given, and stands in front of it: most files are as they
should be, and to be told so by jsonschema takes ten times as long. It may be stricter than the schema, and
never more lenient, as what it does not accept is checked by jsonschema all the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sized
from typing import Any

Accepts = Callable[[Any], bool]
Schema = Mapping[str, Any]


def accepting(schema: Schema) -> Accepts:
    """Return what tells whether a value is allowed by a schema without references.

    Raises KeyError for a keyword that it does not know.
    """
    checks = [_KEYWORDS[word](schema[word], schema) for word in schema if word not in _WITHOUT_MEANING]
    if len(checks) == 1:
        return checks[0]

    def accepts(value: Any) -> bool:
        for check in checks:  # noqa: SIM110 - all() with a generator takes twice the time
            if not check(value):
                return False
        return True

    return accepts


_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
"""The very types, so that a boolean is no number; 30.0 is no integer in our files."""


def _type(names: str | list[str], _: Schema) -> Accepts:
    types = frozenset(
        each for name in ([names] if isinstance(names, str) else names) for each in _TYPES[name]
    )
    return lambda value: type(value) in types


def _enum(choices: list[Any], _: Schema) -> Accepts:
    texts = frozenset(choice for choice in choices if isinstance(choice, str))
    return lambda value: isinstance(value, str) and value in texts


def _pattern(pattern: str, _: Schema) -> Accepts:
    matches = re.compile(pattern).fullmatch
    return lambda value: not isinstance(value, str) or matches(value) is not None


def _properties(schemas: Mapping[str, Schema], holder: Schema) -> Accepts:
    known = {key: accepting(schema) for key, schema in schemas.items()}
    others = _others(holder.get("additionalProperties", True))

    def accepts(value: Any) -> bool:
        if not isinstance(value, dict):
            return True
        for key, each in value.items():  # noqa: SIM110 - as above
            if not known.get(key, others)(each):
                return False
        return True

    return accepts


def _additional_properties(_: Any, holder: Schema) -> Accepts:
    return _anything if "properties" in holder else _properties({}, holder)


def _others(schema: Any) -> Accepts:
    if isinstance(schema, bool):
        return _anything if schema else _nothing
    return accepting(schema)


def _anything(_: Any) -> bool:
    return True


def _nothing(_: Any) -> bool:
    return False


def _property_names(schema: Schema, _: Schema) -> Accepts:
    accepts = accepting(schema)
    return lambda value: not isinstance(value, dict) or all(map(accepts, value))


def _items(schema: Schema, _: Schema) -> Accepts:
    accepts = accepting(schema)
    return lambda value: not isinstance(value, list) or all(map(accepts, value))


def _required(keys: list[str], _: Schema) -> Accepts:
    needed = frozenset(keys)
    return lambda value: not isinstance(value, dict) or value.keys() >= needed


def _any_of(schemas: list[Schema], _: Schema) -> Accepts:
    several = [accepting(schema) for schema in schemas]
    return lambda value: any(accepts(value) for accepts in several)


def _all_of(schemas: list[Schema], _: Schema) -> Accepts:
    several = [accepting(schema) for schema in schemas]
    return lambda value: all(accepts(value) for accepts in several)


def _minimum(least: float, _: Schema) -> Accepts:
    return lambda value: not isinstance(value, int | float) or value >= least


def _maximum(most: float, _: Schema) -> Accepts:
    return lambda value: not isinstance(value, int | float) or value <= most


def _no_shorter(kind: type[Sized]) -> Callable[[int, Schema], Accepts]:
    return lambda least, _: lambda value: not isinstance(value, kind) or len(value) >= least


def _no_longer(kind: type[Sized]) -> Callable[[int, Schema], Accepts]:
    return lambda most, _: lambda value: not isinstance(value, kind) or len(value) <= most


_WITHOUT_MEANING = frozenset({"$schema", "title", "description", "examples", "default"})
_KEYWORDS: Mapping[str, Callable[[Any, Schema], Accepts]] = {
    "type": _type,
    "enum": _enum,
    "pattern": _pattern,
    "properties": _properties,
    "additionalProperties": _additional_properties,
    "propertyNames": _property_names,
    "items": _items,
    "required": _required,
    "anyOf": _any_of,
    "allOf": _all_of,
    "minimum": _minimum,
    "maximum": _maximum,
    "minLength": _no_shorter(str),
    "maxLength": _no_longer(str),
    "minItems": _no_shorter(list),
    "minProperties": _no_shorter(dict),
    "maxProperties": _no_longer(dict),
}
