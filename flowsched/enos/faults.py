"""What is told of a fault of our own: its class and no more, for its text may hold a secret."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


def noted(error: Exception) -> str:
    """Log that flowsched itself broke during a call of EnOS, and return it in words for a detail."""
    kind = type(error).__name__
    log.error("call of EnOS broke by a fault of flowsched", extra={"error": kind})
    return f"a fault of flowsched ({kind})"
