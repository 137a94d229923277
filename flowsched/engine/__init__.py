"""Catalog in, claimed runs out: the only room that drives APScheduler."""

from flowsched.engine.engine import Engine

__all__ = ["Engine"]
