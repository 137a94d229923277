"""When: the one evaluator of cron expressions, for daemon, validation, preview and tests alike."""

from flowsched.cron.evaluator import Cron, instant, parse, zone
from flowsched.cron.rules import zone_rules

__all__ = ["Cron", "instant", "parse", "zone", "zone_rules"]
