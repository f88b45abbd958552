"""The command `ndvol export`."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

import click

from ndvol.commands import EXIT_PARTLY

FORMS = {
    "nifti": ("export_nifti", "a file per volume, oriented as its source"),
    "nnunet": ("export_nnunet", "nnU-Net's raw layout"),
    "slices": (
        "export_slices",
        "a kwcoco video per case, its slices PNG or TIFF files, for kwcoco's tools and ndsampler",
    ),
}
"""By form: the function of `ndvol.exporting` that writes it, and what it is."""


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "form",
    type=click.Choice([*FORMS]),
    required=True,
    help=" ".join(f"{form}: {what}." for form, (_, what) in FORMS.items()),
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a sentence.")
def export(bundle: Path, folder: Path, form: str, as_json: bool) -> None:
    """Write the cases of a BUNDLE into FOLDER in a form that other programs read."""
    from ndvol.opening import open_catalog

    catalog = open_catalog(bundle)
    write = getattr(import_module("ndvol.exporting"), FORMS[form][0])
    result = write(catalog, folder, progress=True)
    # What is written as one file, whole or not at all, refuses no single case.
    refused = result if isinstance(result, dict) else {}
    if as_json:
        reasons = {name: str(error) for name, error in refused.items()}
        click.echo(json.dumps({"folder": str(folder), "form": form, "cases": len(catalog), "refused": reasons}))
    else:
        for name, error in refused.items():
            click.echo(f"refused {name}: {error}", err=True)
        click.echo(f"{len(catalog) - len(refused)} of {len(catalog)} cases as {form} -> {folder}")
    if refused:
        sys.exit(EXIT_PARTLY)
