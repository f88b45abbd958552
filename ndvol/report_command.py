"""The command `ndvol report`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from ndvol.commands import EXIT_PARTLY, bundle_argument, check_output, json_option, parse_window
from ndvol.tables import counted, size_text


@click.command()
@bundle_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True)
@click.option("-w", "--window", help="Voxels per axis: 64 or 32,96,96; by default half the smallest case, at most 64.")
@click.option("--windows", type=click.IntRange(0), default=16, show_default=True, help="Windows to draw of each role.")
@click.option("--category", multiple=True, help="Category to draw and to avoid, with all below it; repeatable.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@json_option
def report(
    bundle: Path, output: Path, window: str | None, windows: int, category: tuple[str, ...], seed: int, as_json: bool
) -> None:
    """Write one HTML page to look at a BUNDLE (a folder or a kwcoco file): cases, pictures, verdicts, windows."""
    from ndvol.opening import open_catalog
    from ndvol.report import DrawOptions, ReportOptions, write_report

    check_output(output, "--output")
    options = ReportOptions(DrawOptions(parse_window(window) if window else None, windows, category, seed))
    catalog = open_catalog(bundle)
    problems = write_report(catalog, output, options, progress=True)
    size = output.stat().st_size
    if as_json:
        reasons = {name: str(error) for name, error in problems.items()}
        click.echo(json.dumps({"report": str(output), "bytes": size, "cases": len(catalog), "unreadable": reasons}))
    else:
        for name, error in problems.items():
            click.echo(f"unreadable {name}: {error}", err=True)
        click.echo(f"{counted(len(catalog), 'case')}, {size_text(size)} -> {output}")
    if problems:
        sys.exit(EXIT_PARTLY)
