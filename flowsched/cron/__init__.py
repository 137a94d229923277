"""When: the one evaluator of cron expressions, for daemon, validation, preview and tests alike."""

from flowsched.cron.blocks import Block, Horizon, horizon
from flowsched.cron.evaluator import Cron, instant, parse, zone
from flowsched.cron.rules import tz_release, zone_data, zone_rules

__all__ = [
    "Block",
    "Cron",
    "Horizon",
    "horizon",
    "instant",
    "parse",
    "tz_release",
    "zone",
    "zone_data",
    "zone_rules",
]
