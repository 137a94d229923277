"""`flowsched simulate`: a stand-in for EnOS on this machine."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from flowsched.clock import SystemClock
from flowsched.ops.logs import stamp
from flowsched.simulator import Simulator, serve

if TYPE_CHECKING:
    from flowsched.simulator import Call


@click.command("simulate", epilog="Example: flowsched simulate --port 8090")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8090, show_default=True, help="0: any free one."
)
def command(port: int) -> None:
    """Serve a stand-in for EnOS on 127.0.0.1 until Ctrl-C, and print each call that it gets.

    It checks signatures, keeps instances and answers as EnOS is documented to. Faults are ordered, and
    its books read, over HTTP: see GET /_simulator/books and POST /_simulator/faults.
    """
    simulator = Simulator(SystemClock(), on_call=_print_call)

    def ready(url: str) -> None:
        click.echo(_welcome(simulator, url))

    with suppress(KeyboardInterrupt):
        asyncio.run(serve(simulator, port=port, on_ready=ready))


def _welcome(simulator: Simulator, url: str) -> str:
    return f"""\
A simulated EnOS listens on {url}. To point flowsched at it, export
  ENOS_ACCESS_KEY={simulator.application.access_key}
  ENOS_SECRET_KEY={simulator.application.secret_key}
and put into flowsched.yaml
  targets:
    default:
      url: {url}
      org_id: {simulator.user.org}
      user_id: {simulator.user.id}
      access_key: {{env: ENOS_ACCESS_KEY}}
      secret_key: {{env: ENOS_SECRET_KEY}}
Order a fault:  curl -d '{{"fault": "status", "status": 429, "retry_after": 3}}' {url}/_simulator/faults
Read its books: curl {url}/_simulator/books
"""


def _print_call(call: Call) -> None:
    made = f" -> {call.created}" if call.created else ""
    fault = f" (fault {call.fault})" if call.fault else ""
    flow = f" flow {call.flow}" if call.flow else ""
    what = call.operation or f"{call.method} {call.path}"
    with suppress(BrokenPipeError):  # it goes on answering when nobody reads any more
        click.echo(f"{stamp(call.began_at)} {what}{flow}: {call.outcome}{made}{fault}")
