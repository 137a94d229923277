"""`flowsched schema`: what a file may hold, for editors and other tools."""

from __future__ import annotations

import click

from flowsched import config
from flowsched.cli.output import print_json


@click.command("schema", epilog="Example: flowsched schema schedules > schedules.schema.json")
@click.argument("kind", type=click.Choice(["schedules", "settings", "tests"]), default="schedules")
def command(kind: str) -> None:
    """Print the JSON Schema of a KIND of file: schedules (the default), settings or tests.

    It is draft 7, as yaml-language-server and check-jsonschema read it; settings is flowsched.yaml.
    """
    print_json(config.schema_document(kind))
