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
    "nrrd": ("export_nrrd", "the same in NRRD, labels as segmentations of 3D Slicer"),
    "portable": ("export_portable", "the same in HDF5 that 3D Slicer (ITK) and ParaView (VTK) open"),
    "nnunet": ("export_nnunet", "nnU-Net's raw layout"),
    "slices": (
        "export_slices",
        "a kwcoco video per case, its slices PNG or TIFF files, for kwcoco's tools and ndsampler",
    ),
    "seg": ("export_seg", "a DICOM SEG per label volume, of the original series below --source"),
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
@click.option("--source", type=click.Path(path_type=Path, exists=True), help="seg: the DICOM files of the import.")
@click.option("--algorithm", metavar="NAME", help="seg: the program that made the labels; people by default.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a sentence.")
def export(bundle: Path, folder: Path, form: str, source: Path | None, algorithm: str | None, as_json: bool) -> None:
    """Write the cases of a BUNDLE into FOLDER in a form that other programs read."""
    from ndvol.opening import open_catalog

    options = {name: value for name, value in (("source", source), ("algorithm", algorithm)) if value is not None}
    if form != "seg" and options:
        raise click.UsageError(f"--{next(iter(options))} is for --to seg")
    if form == "seg" and source is None:
        raise click.UsageError(
            "--to seg needs --source: a SEG refers to images of a patient, which a bundle does not name"
        )
    catalog = open_catalog(bundle)
    write = getattr(import_module("ndvol.exporting"), FORMS[form][0])
    result = write(catalog, folder, progress=True, **options)
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
