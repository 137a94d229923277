"""Who does something by hand, and why."""

from __future__ import annotations

import getpass
import os

import click

from flowsched.errors import printable

_LONGEST_REASON = 500


class _Reason(click.ParamType[str]):
    """One line of text that says something."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = value.strip()
        if not text or not text.isprintable() or len(text) > _LONGEST_REASON:
            self.fail(f"allowed: one line of 1 to {_LONGEST_REASON} printable characters", param, ctx)
        return text


REASON = _Reason()


def user() -> str:
    """Return the login name of whoever runs this, or the number where there is no name."""
    try:
        return printable(getpass.getuser())
    except (KeyError, OSError, ImportError):  # a user id without a name
        return str(os.getuid())


def person() -> str:
    """Return who is at the keyboard: whoever has become another user by sudo, else the user."""
    return printable(os.environ.get("SUDO_USER") or "") or user()
