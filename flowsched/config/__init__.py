"""Configuration: files in, a catalog or every problem out.

The door of the room. What needs YAML and JSON Schema is imported on first use, so that `--help` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowsched.config.expectations import load_expectations
    from flowsched.config.files import Trail
    from flowsched.config.fingerprints import Fingerprint, Mark, fingerprint
    from flowsched.config.ids import schedule_ids
    from flowsched.config.loader import Kept, load_catalog
    from flowsched.config.places import Places
    from flowsched.config.schema import schema_document
    from flowsched.config.secrets import Secret, read_secret, read_secrets
    from flowsched.config.settings import find_settings, load_settings
    from flowsched.config.written import Written, where_written

__all__ = [
    "Fingerprint",
    "Kept",
    "Mark",
    "Places",
    "Secret",
    "Trail",
    "Written",
    "find_settings",
    "fingerprint",
    "load_catalog",
    "load_expectations",
    "load_settings",
    "read_secret",
    "read_secrets",
    "schedule_ids",
    "schema_document",
    "where_written",
]

_HOMES = {
    "Fingerprint": "fingerprints",
    "Kept": "loader",
    "Mark": "fingerprints",
    "Places": "places",
    "Secret": "secrets",
    "Trail": "files",
    "Written": "written",
    "find_settings": "settings",
    "fingerprint": "fingerprints",
    "load_catalog": "loader",
    "load_expectations": "expectations",
    "load_settings": "settings",
    "read_secret": "secrets",
    "read_secrets": "secrets",
    "schedule_ids": "ids",
    "schema_document": "schema",
    "where_written": "written",
}


def __getattr__(name: str) -> Any:
    """Fetch a public name from the module where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
