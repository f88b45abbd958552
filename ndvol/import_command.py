"""The command `ndvol import`."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import click

from ndvol.commands import EXIT_PARTLY, bundle_argument, check_output, json_option
from ndvol.errors import ImportFailedError
from ndvol.outcomes import show_outcome, show_plan


@click.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@bundle_argument
@click.option("--labels", type=click.Path(), help="Folder (or file) with the label maps of the images.")
@click.option("--label-name", help="Name of the label volume; the label folder's by default.")
@click.option("--categories", type=click.Path(path_type=Path), help="JSON table: categories, their values and names.")
@click.option(
    "--merge",
    default="",
    metavar="A,B,…",
    help="Categories to put into one label volume; where they overlap the first wins.",
    callback=lambda _context, _option, text: tuple(filter(None, map(str.strip, text.split(",")))),
)
@click.option("--modality", default="", help="Modality of sources that do not state one; names the image.")
@click.option("--orientation", type=click.Choice(["canonical", "native"]), default="canonical", show_default=True)
@click.option("--objects", type=click.Choice(["component", "category"]), default="component", show_default=True)
@click.option("--levels", default=1, show_default=True, help="Pyramid levels of every volume; 1: the finest alone.")
@click.option(
    "--codec",
    type=click.Choice(["fast", "small", "portable", "none"]),
    default="fast",
    show_default=True,
    help="Compression: lz4; zstd; gzip, which needs no plug-in to be read; none.",
)
@click.option(
    "--case-by",
    type=click.Choice(["auto", "series", "study", "folder"]),
    default="auto",
    show_default=True,
    help="What the images of one case share; auto: the folder layout tells.",
)
@click.option("--follow-links", is_flag=True, help="Read links to files that lead out of SOURCE too.")
@click.option(
    "--on-gap",
    type=click.Choice(["refuse", "mask", "resample"]),
    default="refuse",
    show_default=True,
    help="Series that lack planes (mask, resample) or are unevenly spaced (resample: interpolate).",
)
@click.option("--deskew", is_flag=True, help="Shift the planes of a tilted gantry onto an orthogonal grid.")
@click.option("--holes", type=click.Choice(["auto", "xor", "union"]), default="auto", help="RTSTRUCT: nested contours.")
@click.option("--dataset", default="", help="Path of the data set to import from HDF5 files that hold several.")
@click.option(
    "--phi",
    type=click.Choice(["strict", "research", "keep"]),
    default="research",
    show_default=True,
    help="Names that may reach the bundle: none; those of files that are not DICOM; all.",
)
@click.option("--phi-key", type=click.Path(), help="File with the key of the pseudonyms; keep it outside BUNDLE.")
@click.option(
    "--phi-map", type=click.Path(), help="JSON file for the paths behind the pseudonyms; keep it outside BUNDLE."
)
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Markdown file for a summary.")
@click.option("-j", "--jobs", type=click.IntRange(0), default=os.cpu_count() or 1, help="Worker processes; 0: none.")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be imported; decode nothing.")
@json_option
def import_command(
    source: Path,
    bundle: Path,
    categories: Path | None,
    report: Path | None,
    jobs: int,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Import SOURCE (a folder of any depth, or one file) into the folder BUNDLE."""
    from ndvol.formats import ReadOptions
    from ndvol.importing import ImportOptions, plan_import, read_categories, run_import

    if report:
        check_output(report, "--report")
    started = monotonic()
    named = read_categories(categories) if categories else ()
    reading = ReadOptions(**{name: options.pop(name) for name in ("on_gap", "deskew", "holes", "dataset")})
    plan = plan_import(source, ImportOptions(categories=named, reading=reading, **options), jobs=jobs)
    if dry_run:
        show_plan(plan, as_json)
        return
    told = partial(show_outcome, plan, as_json=as_json, report=report)
    try:
        catalog = run_import(plan, bundle, jobs=jobs, progress=True)
    except ImportFailedError as error:
        told(error.verdicts, (), seconds=monotonic() - started)
        raise
    told(catalog.verdicts, catalog.records.values(), seconds=monotonic() - started)
    if any(v.status == "refused" for v in catalog.verdicts):
        sys.exit(EXIT_PARTLY)
