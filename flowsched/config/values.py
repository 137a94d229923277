"""Plain values to typed ones, key by key: the step after the schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowsched.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flowsched.config.findings import Findings, KeyPath
    from flowsched.config.reader import Node

    Converters = Mapping[KeyPath, Callable[[Any], Any]]
    """What makes a typed value of each key; raises Refused where it cannot."""


class _Faulty:
    """Stands for a value of which a problem speaks already."""


FAULTY = _Faulty()


def typed_values(root: Node, path: KeyPath, converters: Converters, findings: Findings) -> dict[KeyPath, Any]:
    """Return the typed value of each key that the mapping at a path has; what is wrong goes to the findings.

    FAULTY stands for what cannot be used. Keys are paths from that mapping, so that two results merge key by
    key.
    """
    node = root.get(path)
    if findings.spotless:  # as most files are: then only what is there is worth a look
        there = node.children.keys() if node else ()
        converters = {key: convert for key, convert in converters.items() if key[0] in there}
    values: dict[KeyPath, Any] = {}
    for key, convert in converters.items():
        found = node.get(key) if node else None
        holds_others = found is not None and isinstance(found.data, dict | list)
        if findings.is_faulty(path + key) or (holds_others and findings.has_faulty(path + key)):
            values[key] = FAULTY
        elif found:
            values[key] = _typed(found, path + key, convert, findings)
    return values


def _typed(node: Node, path: KeyPath, convert: Callable[[Any], Any], findings: Findings) -> Any:
    try:
        return convert(node.data)
    except Refused as error:
        findings.add(node.at, path, error.message, error.allowed)
        return FAULTY
