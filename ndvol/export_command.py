"""The command `ndvol export`."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ndvol.commands import EXIT_PARTLY, bundle_argument, json_option, window_sizes

if TYPE_CHECKING:
    from ndvol.catalog import Catalog

FORMS = {
    "nifti": ("export_nifti", "a file per volume, oriented as its source"),
    "nrrd": ("export_nrrd", "the same in NRRD, labels as segmentations of 3D Slicer"),
    "portable": ("export_portable", "the same in HDF5 that 3D Slicer (ITK) and ParaView (VTK) open"),
    "nnunet": ("export_nnunet", "nnU-Net's raw layout"),
    "slices": (
        "export_slices",
        "a kwcoco video per case, its slices PNG or TIFF files, for kwcoco's tools and ndsampler",
    ),
    "seg": ("export_seg", "a DICOM SEG per label volume, on the original series below --source"),
}
"""By form: the function of `ndvol.exporting` that writes the cases in it, and what it is."""
PATCHES = "patches"
"""The form that is none of the cases, but of windows drawn from them."""
OWN = {PATCHES: ("window", "count", "category", "seed"), "seg": ("source", "algorithm")}
"""Options that go with one form alone."""


@click.command()
@bundle_argument
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "form",
    type=click.Choice([*FORMS, PATCHES]),
    required=True,
    help=" ".join(f"{form}: {what}." for form, (_, what) in FORMS.items())
    + " patches: drawn windows with their labels and targets in one HDF5 file, patches.h5.",
)
@click.option("-w", "--window", default="64", show_default=True, help="patches: voxels per axis, 64 or 32,96,96.")
@click.option("--count", type=click.IntRange(1), default=1000, show_default=True, help="patches: how many windows.")
@click.option(
    "--category",
    multiple=True,
    help="patches: draw one half with this category or one below it, and the other without; repeatable. By default "
    "windows are drawn anywhere.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="patches: another draws others.")
@click.option("--source", type=click.Path(path_type=Path, exists=True), help="seg: the DICOM files of the import.")
@click.option("--algorithm", metavar="NAME", help="seg: the program that made the labels; people by default.")
@json_option
def export(bundle: Path, folder: Path, form: str, as_json: bool, **own: Any) -> None:
    """Write the cases of a BUNDLE into FOLDER in a form that other programs read."""
    from ndvol.opening import open_catalog

    given = click.get_current_context().get_parameter_source
    for owner, names in OWN.items():
        for name in names:
            if owner != form and given(name) is not ParameterSource.DEFAULT:
                raise click.UsageError(f"--{name} goes with --to {owner} only")
    if form == "seg" and own["source"] is None:
        raise click.UsageError(
            "--to seg needs --source: a SEG refers to images of a patient, which a bundle does not name"
        )
    catalog = open_catalog(bundle)
    if form == PATCHES:
        _export_patches(catalog, folder, own, as_json)
        return
    write = getattr(import_module("ndvol.exporting"), FORMS[form][0])
    options = {name: own[name] for name in OWN.get(form, ()) if own[name] is not None}
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


def _export_patches(catalog: Catalog, folder: Path, drawing: dict[str, Any], as_json: bool) -> None:
    from ndvol.exporting import export_patches
    from ndvol.sampler import VolumeSampler
    from ndvol.sampling import Mix, Negative, Positive

    names = drawing["category"]
    strategy = Mix({Positive(names): 1, Negative(names): 1}) if names else None
    window = window_sizes(drawing["window"], catalog)
    sampler = VolumeSampler(catalog, window, strategy=strategy, seed=drawing["seed"], length=drawing["count"])
    path = export_patches(sampler, folder / "patches.h5", progress=True)
    if as_json:
        click.echo(json.dumps({"file": str(path), "form": PATCHES, "windows": len(sampler)}))
    else:
        click.echo(f"{len(sampler)} windows -> {path}")
