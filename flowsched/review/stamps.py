"""Instants as a review writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


def stamp(instant: datetime) -> str:
    """Return the minute of an instant in UTC, as 2026-12-24T18:00Z."""
    return f"{instant:%Y-%m-%dT%H:%MZ}"
