"""Reading what a caller wrote, as lenient as EnOS seems to be and no more."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_NUMBER = 18
"""Digits of a Java long that never overflow."""


def json_document(text: str | bytes) -> object:
    """Return whatever JSON a text holds; None where it holds none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def json_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object in a body; None where there is anything else."""
    document = json_document(body)
    return document if isinstance(document, dict) else None


def natural(value: object) -> int | None:
    """Read a number from 0 that came as an integer or as a string of digits (enos-api section 3.1)."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= LONGEST_NUMBER:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**LONGEST_NUMBER:
        return value
    return None


def flow_named(parameters: Mapping[str, str], body: bytes) -> int | None:
    """Return the flow that a call is about, be it by its id or by that of an instance; None: no flow."""
    named: Mapping[str, Any] = {**parameters, **(json_object(body) or {})}
    direct = natural(named.get("flowId"))
    return direct if direct is not None else natural(str(named.get("flowInstId", "")).partition("-")[0])
