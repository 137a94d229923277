"""`flowsched plan`: what a pull request changes, before it is merged."""

from flowsched.cli.plan.command import command

__all__ = ["command"]
