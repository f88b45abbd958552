"""The command `ndvol export`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from ndvol.commands import EXIT_PARTLY


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "form",
    type=click.Choice(["nifti", "nnunet", "slices"]),
    required=True,
    help="nifti: a file per volume, oriented as its source. nnunet: nnU-Net's raw layout. slices: a kwcoco video per "
    "case, its slices PNG or TIFF files, for kwcoco's tools and ndsampler.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a sentence.")
def export(bundle: Path, folder: Path, form: str, as_json: bool) -> None:
    """Write the cases of a BUNDLE into FOLDER in a form that other programs read."""
    from ndvol.exporting import export_nifti, export_nnunet, export_slices
    from ndvol.opening import open_catalog

    catalog = open_catalog(bundle)
    refused = {}
    if form == "slices":
        export_slices(catalog, folder, progress=True)
    else:
        refused = (export_nifti if form == "nifti" else export_nnunet)(catalog, folder, progress=True)
    if as_json:
        reasons = {name: str(error) for name, error in refused.items()}
        click.echo(json.dumps({"folder": str(folder), "form": form, "cases": len(catalog), "refused": reasons}))
    else:
        for name, error in refused.items():
            click.echo(f"refused {name}: {error}", err=True)
        click.echo(f"{len(catalog) - len(refused)} of {len(catalog)} cases as {form} -> {folder}")
    if refused:
        sys.exit(EXIT_PARTLY)
