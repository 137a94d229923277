"""flowsched keeps reviewed schedules: it triggers EnOS flows by cron and records every fire."""

__version__ = "0.1.0"
