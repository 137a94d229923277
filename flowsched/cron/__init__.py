"""When: the one evaluator of cron expressions, for daemon, validation, preview and tests alike."""

from flowsched.cron.evaluator import Cron, parse, zone

__all__ = ["Cron", "parse", "zone"]
