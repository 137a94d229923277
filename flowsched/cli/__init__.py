"""The commands: one file each, loaded only when it is asked for."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from importlib import import_module
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from flowsched import __version__
from flowsched.errors import (
    ConfigError,
    ControlRefusal,
    FlowschedError,
    LedgerUnusable,
    SecretError,
    UsageError,
    quoted,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

FINE, FOUND, USAGE, UNEXPECTED, UNUSABLE = 0, 1, 2, 3, 78
"""Exit codes: fine; found what was looked for; wrong usage; unexpected; configuration unusable at start."""

_CONFIG_FIRST = "--config stands before the command, as in flowsched --config FILE status"

INTERRUPTED, CLOSED_PIPE = 130, 141
"""As a shell has them for programs that a signal ends: SIGINT, SIGPIPE."""

COMMANDS = {
    "validate": "Check schedule files and say where each fault is.",
    "test": "Hold schedules against what test files expect of them.",
    "plan": "Show what a change does to schedules and fires, before it is merged.",
    "show": "Show what a schedule resolves to, and what its clock does.",
    "next": "Show what fires next.",
    "calendar": "Show how many fires fall when, and where it is crowded.",
    "cron": "Explain a cron expression and show its fire times.",
    "schema": "Print the JSON Schema of a kind of file.",
    "completion": "Print a script for completion in a shell.",
    "run": "Run the daemon: fire, retry, record.",
    "status": "Show how the daemon stands: what is next, under way, paused, in doubt.",
    "reload": "Have the daemon read the schedules anew, and say what came of it.",
    "apply": "Accept a change of many schedules that the daemon holds.",
    "trigger": "Trigger a schedule by hand, now or for a fire time that has passed.",
    "backfill": "Trigger the fires of a range of the past, one after the other.",
    "pause": "Let a schedule, a target or everything rest for a while.",
    "resume": "End a pause.",
    "cancel": "End a run that is not sent yet, or cancel its instance.",
    "resolve": "Settle by hand a run that is in doubt.",
    "runs": "Show what the ledger holds of past and present runs.",
    "log": "Show what people have done by hand, and which catalogs were applied.",
    "audit": "Prove that no fire time was lost and none fired twice.",
    "backup": "Copy the ledger safely, also while the daemon runs.",
    "alert-test": "Send a test over each alert channel.",
    "simulate": "Run a stand-in for EnOS on this machine.",
    "demo": "Watch schedules fire against a simulated EnOS.",
}
"""Name and help of each command, so that `flowsched --help` imports none of them."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"flowsched.cli.{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command)  # noqa: S101 - a rule of this package
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Say of an unknown command which may have been meant."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            from flowsched.near import did_you_mean  # noqa: PLC0415 - where it is needed

            ctx.fail(f"No such command {quoted(name)}{did_you_mean(name, COMMANDS)}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names and options; click's own way would import every command."""
        known = [(name, said) for name, said in COMMANDS.items() if name.startswith(incomplete)]
        named = [CompletionItem(name, help=said) for name, said in known]
        return named + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: flowsched validate schedules/",
)
@click.version_option(__version__, prog_name="flowsched")
@click.option(
    "--config",
    type=click.Path(),
    metavar="FILE",
    help="The flowsched.yaml to use. Default: $FLOWSCHED_CONFIG, ./flowsched.yaml, "
    "/etc/flowsched/flowsched.yaml, whichever is there first.",
)
@click.pass_context
def group(ctx: click.Context, config: str | None) -> None:
    """Keep reviewed schedules: trigger EnOS flows by cron, record every fire, never fire twice."""
    ctx.obj = config
    ctx.color = _colour(os.environ)


def _colour(environ: Mapping[str, str]) -> bool | None:
    """Return what click does about colours in all commands: False, none; None, those that the stream takes.

    The rules are those of rich, which draws the tables.
    """
    unwanted = environ.get("NO_COLOR") or environ.get("TERM", "").lower() in ("dumb", "unknown")
    return False if unwanted else None


def main(arguments: list[str]) -> int:  # noqa: PLR0911 - one for each way to end
    """Run a command line; return its exit code, having turned every error into a text."""
    try:
        result = group.main(arguments, prog_name="flowsched", standalone_mode=False)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        if isinstance(error, click.NoSuchOption) and error.option_name == "--config":
            error = click.UsageError(f"No such option here: {_CONFIG_FIRST}", error.ctx)
        error.show()
        return USAGE
    except FlowschedError as error:
        click.echo(f"flowsched: {error}", err=True)
        return exit_code(error)
    except SystemExit as end:
        return CLOSED_PIPE if end.code else FINE  # click's own answer to one, and to a shell that completes
    except OSError as error:
        click.echo(f"flowsched: cannot write: {error.strerror or error}", err=True)
        return UNEXPECTED
    except Exception as error:  # noqa: BLE001 - the last door: no traceback reaches a user
        return _unexpected(error)
    return result if isinstance(result, int) else FINE


def exit_code(error: FlowschedError) -> int:
    """Return what a command exits with that an error has ended."""
    match error:
        case ControlRefusal():
            return FOUND
        case UsageError():
            return USAGE
        case ConfigError() | SecretError() | LedgerUnusable():
            return UNUSABLE
    return UNEXPECTED


def _unexpected(error: Exception) -> int:
    """Keep the traceback for whoever mends the fault, and tell the user where it is."""
    click.echo(f"flowsched: a fault of its own: {type(error).__name__}: {error}", err=True)
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="flowsched-fault-", suffix=".txt", delete=False, encoding="utf-8"
        ) as report:
            report.write(f"flowsched {__version__}, Python {sys.version}\n")
            traceback.print_exception(error, file=report)
        click.echo(f"flowsched: please report it with {report.name}", err=True)
    except OSError as reason:
        click.echo(f"flowsched: and the report of it could not be written: {reason}", err=True)
    return UNEXPECTED
