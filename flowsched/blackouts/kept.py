"""What is worked out of a record, kept for as long as the record lives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import finalize

if TYPE_CHECKING:
    from collections.abc import Callable

_Record = TypeVar("_Record")
_Value = TypeVar("_Value")


class Kept(Generic[_Record, _Value]):
    """One value for each record, made when it is first asked for.

    Records are told apart by which they are: to compare two by what they hold would take longer than the
    answer. A value must not refer to its record, which would live on with it.
    """

    def __init__(self, make: Callable[[_Record], _Value]) -> None:
        self._make = make
        self._values: dict[int, _Value] = {}

    def of(self, record: _Record) -> _Value:
        """Return the value of a record. What making it raises is raised, and nothing is kept."""
        value = self._values.get(id(record))
        return self.put(record, self._make(record)) if value is None else value

    def put(self, record: _Record, value: _Value) -> _Value:
        """Keep a value that is there already, and return it."""
        self._values[id(record)] = value
        finalize(record, self._values.pop, id(record), None).atexit = False
        return value
