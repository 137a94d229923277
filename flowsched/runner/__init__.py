"""Carries runs from their claim to a final state, and watches what becomes of their flows."""

from flowsched.runner.ports import Gateway, Turn
from flowsched.runner.runner import Runner

__all__ = ["Gateway", "Runner", "Turn"]
