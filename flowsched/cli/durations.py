"""Durations as command line arguments."""

from __future__ import annotations

from datetime import timedelta

import click

from flowsched.durations import parse_duration
from flowsched.errors import FlowschedError


class _Duration(click.ParamType[timedelta]):
    """`30s`, `15m`, `1h30m`."""

    name = "duration"

    def convert(
        self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(value)
        except FlowschedError as error:
            self.fail(str(error), param, ctx)


DURATION = _Duration()
