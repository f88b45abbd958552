"""NIfTI out: every volume in the orientation of its source, as a plain folder or as nnU-Net's raw data set."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ndvol.catalog import Catalog
from ndvol.errors import GridError, OptionError
from ndvol.exporting.cases import Refused, as_source, each_case, put, put_json
from ndvol.interop import to_nibabel
from ndvol.volumes import ArraySource, Case, Volume


def export_nifti(catalog: Catalog, folder: str | Path, *, progress: bool = False) -> Refused:
    """Write ``<case>/images/<name>.nii.gz``, ``<case>/labels/<name>.nii.gz`` and beside it its names as JSON.

    The axes have the order and direction that the source had, and the voxels and the affine are the source's: a NIfTI
    file returns as it was, apart from a rescale, which has been applied.

    Returns
    -------
    the cases that NIfTI cannot hold, with the reason; the others are written.

    Raises
    ------
    StoreError : when `folder` is not empty, or cannot be written.
    """

    def write(name: str, case: Case, root: Path) -> None:
        for image in case.images.values():
            _write(root / name / "images" / f"{image.name}.nii.gz", as_source(image))
        for label in case.labels.values():
            path = root / name / "labels" / f"{label.name}.nii.gz"
            _write(path, as_source(label))
            put_json(path.with_name(f"{label.name}.json"), {str(v): n for v, n in label.categories.items()})

    return each_case(catalog, Path(folder), write, progress)


def export_nnunet(catalog: Catalog, folder: str | Path, *, progress: bool = False) -> Refused:
    """Write nnU-Net's raw layout: ``imagesTr/<case>_0000.nii.gz`` …, ``labelsTr/<case>.nii.gz`` and ``dataset.json``.

    The images of the first case are the channels. The categories of all label maps are numbered 1, 2, … in the order of
    the catalogue's tree, as nnU-Net wants its labels to be consecutive. A case without label map goes to ``imagesTs``.

    Returns
    -------
    the cases that do not fit, with the reason: other images, several label maps, or more than one grid.

    Raises
    ------
    StoreError : when `folder` is not empty, or cannot be written. OptionError : for an empty catalogue.
    """
    if not len(catalog):
        raise OptionError(f"there is no case in {catalog.path or 'the catalogue'}", hint="import some")
    channels = next(iter(catalog.records.values())).images
    # From the tree, not from the cases that happen to have a category: the numbers must not depend on those.
    numbers = {name: k + 1 for k, name in enumerate(catalog.categories.names)}
    trained: list[str] = []

    def write(name: str, case: Case, root: Path) -> None:
        images = [as_source(image) for image in _channels(case, channels)]
        labels = list(case.labels.values())
        if len(labels) > 1:
            raise OptionError(f"case {name!r} has several label maps", got=", ".join(case.labels), expected="one")
        label = [_renumbered(as_source(one), one.categories, numbers) for one in labels]
        for volume in (*images[1:], *label):
            if not volume.grid.matches(images[0].grid):
                raise GridError(f"{volume.name!r} of case {name!r} lies on another grid than {images[0].name!r}")
        part = "Tr" if labels else "Ts"
        for k, image in enumerate(images):
            _write(root / f"images{part}" / f"{name}_{k:04d}.nii.gz", image)
        for one in label:
            _write(root / "labelsTr" / f"{name}.nii.gz", one)
            trained.append(name)

    refused = each_case(catalog, Path(folder), write, progress)
    table = {
        "channel_names": {str(k): name for k, name in enumerate(channels)},
        "labels": {"background": 0, **numbers},
        "numTraining": len(trained),
        "file_ending": ".nii.gz",
    }
    # Last: a folder without it is no data set.
    put_json(Path(folder) / "dataset.json", table)
    return refused


def _channels(case: Case, names: tuple[str, ...]) -> list[Volume]:
    if tuple(case.images) != names:
        raise OptionError(
            f"case {case.name!r} has other images than the first case",
            got=", ".join(case.images),
            expected=", ".join(names),
            hint="nnU-Net needs the same channels everywhere",
        )
    channels = list(case.images.values())
    if any(set(image.axes) != set("zyx") for image in channels):
        raise GridError(f"nnU-Net takes images over z, y, x only: case {case.name!r}", got=channels[0].axes)
    return channels


def _renumbered(label: Volume, categories: Mapping[int, str], numbers: Mapping[str, int]) -> Volume:
    """The label map with the data set's numbers for its categories."""
    array = np.asarray(label)
    table = np.zeros(max(categories, default=0) + 1, np.uint16 if len(numbers) > 255 else np.uint8)
    for value, name in categories.items():
        table[value] = numbers[name]
    return Volume(label.name, label.grid, ArraySource(table[array]))


def _write(path: Path, volume: Volume) -> None:
    """A file that is whole or not there; gzip without a time, so that the same voxels make the same bytes."""
    put(path, gzip.compress(to_nibabel(volume).to_bytes(), 6, mtime=0))
