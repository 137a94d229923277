"""What a template of a webhook may hold."""

from __future__ import annotations

import json
from string import Template
from typing import TYPE_CHECKING

from flowsched.errors import Refused
from flowsched.near import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection

TEXTS = ("summary", "text", "kind", "subject", "state", "action", "severity", "key", "host", "at")
"""Placeholders that stand for a text, within quotes."""
VALUES = ("count", "alerts", "document")
"""Placeholders that stand for JSON, without quotes."""


def check_template(template: str, secrets: Collection[str]) -> None:
    """Raise Refused where a template names what there is not, or does not make JSON.

    `secrets` are the names of its own placeholders for texts. No message repeats anything of it.
    """
    known = (*TEXTS, *VALUES, *secrets)
    allowed = ", ".join(f"${name}" for name in known)
    parsed = Template(template)
    if not parsed.is_valid():
        raise Refused('has a "$" that begins no placeholder', f"{allowed}; $$ for the character itself")
    for name in parsed.get_identifiers():
        if name not in known:
            raise Refused(f"has a placeholder that there is not{did_you_mean(name, known)}", allowed)
    filled = parsed.substitute(dict.fromkeys((*TEXTS, *secrets), "x") | dict.fromkeys(VALUES, "0"))
    try:
        json.loads(filled)
    except ValueError:
        raise Refused(
            "does not make JSON once it is filled in",
            f"JSON, with placeholders in quotes, but for ${', $'.join(VALUES)}, which have none",
        ) from None
