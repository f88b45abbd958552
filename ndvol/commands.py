"""What all commands share: exit codes, errors as one line, and commands that are loaded when they are needed."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from difflib import get_close_matches
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ndvol.errors import CURES, DamageError, NdvolError, StorageFullError
from ndvol.tables import printable
from ndvol.version import __version__

if TYPE_CHECKING:
    from ndvol.catalog import Catalog

EXIT_FAILED, EXIT_PARTLY, EXIT_DAMAGE, EXIT_BUG, EXIT_FULL, EXIT_STOPPED = 1, 3, 4, 70, 74, 130
EXIT_CODES = """
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but some sources were refused, 4 damage found,
70 a fault of ndvol itself, 74 no space left, 130 stopped.
"""

LATER = {
    "bench": "ndvol.bench:bench",
    "completion": "ndvol.completion:completion",
    "doctor": "ndvol.doctor.command:doctor",
    "export": "ndvol.export_command:export",
    "import": "ndvol.import_command:import_command",
    "report": "ndvol.report_command:report",
    "sample": "ndvol.sample_command:sample",
    "view": "ndvol.view_command:view",
}
"""Commands with a file of their own: name -> module and function."""

LONGEST = 2**31
"""Voxels along an axis that no window has."""
_PACKAGE = Path(__file__).parent

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))


def check_output(path: Path, option: str, suffix: str = "") -> None:
    """Raise a usage error, before any work is done, where `path` cannot be a new file that ends in `suffix`."""
    fault = ""
    if path.is_dir():
        fault = f"{path} is a folder"
    elif not path.name.lower().endswith(suffix):
        fault = f"{path} does not end in {suffix}"
    elif not path.absolute().parent.is_dir():
        fault = f"there is no folder {path.parent}"
    if fault:
        raise click.BadParameter(fault, param_hint=option)


def parse_window(text: str) -> tuple[int, ...]:
    """The lengths of ``--window``; raises a usage error for what is none.

    >>> parse_window("64"), parse_window("32,96,96")
    ((64,), (32, 96, 96))
    """
    parts = text.split(",")
    if not all(part.strip().isdecimal() and 0 < int(part) < LONGEST for part in parts):
        raise click.BadParameter(f"{text!r} is not like 64 or 32,96,96", param_hint="--window")
    return tuple(map(int, parts))


def window_sizes(text: str | None, catalog: Catalog) -> tuple[int, ...]:
    """Voxels per axis from the text of ``--window``; a single number counts for every spatial axis.

    None stands for the `modest_window` of cases over the same axes, and for 64 where they differ.

    Raises
    ------
    click.BadParameter : for other text.
    """
    from ndvol.sampling.options import modest_window

    cases = [(record.axes, record.shape) for record in catalog.records.values()]
    spatial = {len(set(axes) & set("zyx")) for axes, _ in cases}
    if text is None and len(spatial) == 1:
        return modest_window(cases)
    sizes = parse_window(text or "64")
    return sizes * max(spatial, default=3) if len(sizes) == 1 else sizes


class Commands(click.Group):
    """Turns errors into one line on stderr and an exit code; a user's mistake never shows a traceback.

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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            close = get_close_matches(name, self.list_commands(ctx), n=1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"there is no command {name!r}{meant}", ctx)
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            _end(ctx, error)

    def invoke(self, ctx: click.Context) -> Any:
        # Names of files may hold what the terminal's encoding cannot show.
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        try:
            return super().invoke(ctx)
        except (Exception, KeyboardInterrupt) as error:
            _end(ctx, error)


def _end(ctx: click.Context, error: BaseException) -> NoReturn:
    """Tell what went wrong, and exit; what is click's own business goes on to it."""
    # A pipe that nobody reads any more (`ndvol ls | head`) is no fault: click ends quietly.
    passed = (click.exceptions.Exit, click.Abort, click.exceptions.NoArgsIsHelpError, BrokenPipeError)
    if isinstance(error, passed):
        raise error
    told = _explained(error)
    if told is None:
        if os.environ.get("NDVOL_DEBUG"):
            raise error
        told = _bug(error)
    text, code, status = told
    click.echo(f"ndvol: {printable(text)} [{code}]", err=True)
    ctx.exit(status)


def _explained(error: BaseException) -> tuple[str, str, int] | None:
    """Text, code and exit code of an error that a user can mend; None for a fault of ndvol itself."""
    match error:
        case StorageFullError():
            return str(error), error.code, EXIT_FULL
        case DamageError():
            return str(error), error.code, EXIT_DAMAGE
        case NdvolError():
            return str(error), error.code, EXIT_FAILED
        case click.UsageError():
            asked = error.ctx.command_path if error.ctx else "ndvol"
            what = " ".join(error.format_message().split()).rstrip(".")
            return f"{what}; see `{asked} -h`", "usage", error.exit_code
        case click.ClickException():
            return error.format_message(), "usage", error.exit_code
        case KeyboardInterrupt():
            return "stopped; run the same command again to go on", "stopped", EXIT_STOPPED
        case MemoryError():
            return "out of memory; ask for smaller windows, or fewer jobs at a time", "out-of-memory", EXIT_FAILED
        case ModuleNotFoundError(name=str(missing)) if not missing.startswith("ndvol"):
            return f"the package {missing} is missing; install it, see `ndvol doctor`", "missing-package", EXIT_FAILED
        case OSError():
            where = f"; got {error.filename}" if error.filename else ""
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            text = f"{error.strerror or error}{where}; {CURES.get(error.errno or 0, 'see `ndvol doctor`')}"
            return text, "storage-full" if full else "system", EXIT_FULL if full else EXIT_FAILED
    return None


def _bug(error: BaseException) -> tuple[str, str, int]:
    """What to report of a fault of ndvol itself, even if it cannot be brought about again."""
    ours = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(_PACKAGE)]
    where = f"{Path(ours[-1].filename).relative_to(_PACKAGE)}:{ours[-1].lineno}"
    text = (
        f"a fault of ndvol {__version__} itself, at {where}: {type(error).__name__}: {error}; please report it, "
        "without names of patients, and with what the same command prints under NDVOL_DEBUG=1"
    )
    return text, "internal", EXIT_BUG
