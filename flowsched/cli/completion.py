"""`flowsched completion`: the script with which a shell completes commands, options and ids."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem, get_completion_class

from flowsched import config
from flowsched.cli.files import default_schedules, find_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

_EPILOG = """\
Example: flowsched completion bash > ~/.local/share/bash-completion/completions/flowsched

For zsh, into a file _flowsched in a folder of $fpath; for fish, into
~/.config/fish/completions/flowsched.fish.
"""


@click.command("completion", epilog=_EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands, options and the ids of schedules in a SHELL."""
    maker = get_completion_class(shell)
    assert maker is not None  # noqa: S101 - click has all three
    click.echo(maker(ctx.find_root().command, {}, "flowsched", "_FLOWSCHED_COMPLETE").source())


def complete_ids(ctx: click.Context, _param: click.Parameter, incomplete: str) -> Sequence[CompletionItem]:
    """Return the ids that begin so; whatever is wrong, nothing is said between somebody's keystrokes."""
    with suppress(Exception):
        path = ctx.params.get("schedules") or default_schedules(
            find_settings(ctx.find_root().params["config"])
        )
        return [CompletionItem(each) for each in config.schedule_ids([path]) if each.startswith(incomplete)]
    return []
