"""What all commands share: exit codes, errors as one line, and commands that are loaded when they are needed."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import click

from ndvol.errors import NdvolError, StorageFullError

EXIT_FAILED, EXIT_PARTLY, EXIT_DAMAGE, EXIT_FULL, EXIT_STOPPED = 1, 3, 4, 74, 130
EXIT_CODES = """
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but some sources were refused, 4 damage found,
74 no space left, 130 stopped.
"""

LATER = {
    "bench": "ndvol.bench:bench",
    "doctor": "ndvol.doctor.command:doctor",
    "export": "ndvol.export_command:export",
    "import": "ndvol.import_command:import_command",
    "report": "ndvol.report.command:report",
    "sample": "ndvol.sample_command:sample",
}
"""Commands with a file of their own: name -> module and function."""


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))


def parse_window(text: str) -> tuple[int, ...]:
    """The lengths of ``--window``.

    >>> parse_window("64"), parse_window("32,96,96")
    ((64,), (32, 96, 96))
    """
    try:
        return tuple(int(n) for n in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not like 64 or 32,96,96", param_hint="--window") from None


class Commands(click.Group):
    """Turns our errors into one line on stderr and an exit code; a user's mistake never shows a traceback.

    Commands with a file of their own are loaded when they are called, or listed.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *LATER])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in LATER:
            return super().get_command(ctx, cmd_name)
        module, _, name = LATER[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NdvolError as error:
            click.echo(f"ndvol: {error} [{error.code}]", err=True)
            ctx.exit(EXIT_FULL if isinstance(error, StorageFullError) else EXIT_FAILED)
        except (OSError, MemoryError) as error:
            click.echo(f"ndvol: {error or 'out of memory'}", err=True)
            ctx.exit(EXIT_FAILED)
        except KeyboardInterrupt:
            click.echo("ndvol: stopped; run the same command again to go on", err=True)
            ctx.exit(EXIT_STOPPED)
