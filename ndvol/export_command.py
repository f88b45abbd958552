"""The command `ndvol export`."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "form",
    type=click.Choice(["slices"]),
    required=True,
    help="slices: a kwcoco video per case, its slices PNG or TIFF files, for kwcoco's tools and ndsampler.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a sentence.")
def export(bundle: Path, folder: Path, form: str, as_json: bool) -> None:
    """Write the cases of a BUNDLE into FOLDER in a form that other programs read; `ndvol import` reads it back."""
    from ndvol.exporting import export_slices
    from ndvol.opening import open_catalog

    catalog = open_catalog(bundle)
    path = export_slices(catalog, folder, progress=True)
    if as_json:
        click.echo(json.dumps({"catalogue": str(path), "form": form, "cases": len(catalog)}))
    else:
        click.echo(f"{len(catalog)} cases as {form} -> {path}")
