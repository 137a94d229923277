"""The life of the process: open, take up, fire, reload, drain. Knows no argv and no signals."""

from flowsched.daemon.daemon import DRAIN, Daemon, Held
from flowsched.daemon.reading import read_catalog, read_first
from flowsched.daemon.serve import serve

__all__ = ["DRAIN", "Daemon", "Held", "read_catalog", "read_first", "serve"]
