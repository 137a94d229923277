"""What jsonschema has to say about a file: imported where a file is not as it should be, and not before."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from jsonschema import Draft7Validator, ValidationError
from jsonschema.validators import extend

if TYPE_CHECKING:
    from collections.abc import Iterator


def strict_validator(schema: dict[str, Any]) -> Any:
    """Return a validator that takes integers and patterns as strictly as a reviewed file should be."""
    # 30.0 is an integer to JSON Schema; in a reviewed file it is a slip.
    types = Draft7Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    strict: Any = extend(Draft7Validator, {"pattern": _pattern}, type_checker=types)  # type: ignore[no-untyped-call]
    return strict(schema)


def _pattern(_validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[ValidationError]:
    """Check a text as a whole: in Python, unlike in editors, `$` holds before a last line end too."""
    if isinstance(value, str) and not re.fullmatch(pattern, value):
        yield ValidationError(f"does not match {pattern}")
