"""NIfTI out: every volume in the orientation of its source, as a plain folder or as nnU-Net's raw data set."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ndvol.catalog import CaseRecord, Catalog
from ndvol.categories import CategoryTree
from ndvol.errors import GridError, OptionError
from ndvol.exporting.cases import Refused, as_source, each_case, put, put_json, renumbered
from ndvol.formats.nifti_stored import as_in_file
from ndvol.interop import to_nibabel
from ndvol.store import read_provenance
from ndvol.volumes import ArraySource, Case, LabelVolume, Volume


def export_nifti(catalog: Catalog, folder: str | Path, *, progress: bool = False) -> Refused:
    """Write ``<case>/images/<name>.nii.gz``, ``<case>/labels/<name>.nii.gz`` and beside it its names as JSON.

    The axes have the order and direction that the source had, and the voxels and the affine are the source's. An image
    of a NIfTI file returns with its stored numbers, its slope and intercept, the code of its space and its time step.

    Returns
    -------
    the cases that NIfTI cannot hold, with the reason; nothing of them is written.

    Raises
    ------
    StoreError : when `folder` is not empty, or cannot be written.
    """

    def write(name: str, case: Case, root: Path) -> None:
        _check_frames(case)
        for image in case.images.values():
            _write(root / name / "images" / f"{image.name}.nii.gz", as_source(image))
        for label in case.labels.values():
            path = root / name / "labels" / f"{label.name}.nii.gz"
            _write(path, as_source(label))
            put_json(path.with_name(f"{label.name}.json"), {str(v): n for v, n in label.categories.items()})

    return each_case(catalog, Path(folder), write, progress)


def export_nnunet(catalog: Catalog, folder: str | Path, *, progress: bool = False) -> Refused:
    """Write nnU-Net's raw layout: ``imagesTr/<case>_0000.nii.gz`` …, ``labelsTr/<case>.nii.gz`` and ``dataset.json``.

    The images of the first case are the channels, in the order of its sources. Labels keep their values where all label
    maps agree on them and they are consecutive, as nnU-Net wants them; else they are numbered 1, 2, … in the order of
    the catalogue's tree. A category with others below it is a region: all their numbers, beside its own if it has one.
    A case without label map goes to ``imagesTs``.

    Returns
    -------
    the cases that do not fit, with the reason: other images, several label maps, or more than one grid.

    Raises
    ------
    StoreError : when `folder` is not empty, or cannot be written. OptionError : for an empty catalogue.
    """
    if not len(catalog):
        raise OptionError(f"there is no case in {catalog.path or 'the catalogue'}", hint="import some")
    channels = _channel_names(next(iter(catalog.records.values())))
    numbers = _numbers(catalog)
    trained: list[str] = []

    def write(name: str, case: Case, root: Path) -> None:
        images = [as_source(image) for image in _channels(case, channels)]
        labels = list(case.labels.values())
        if len(labels) > 1:
            raise OptionError(f"case {case.name!r} has several label maps", got=", ".join(case.labels), expected="one")
        label = [_renumbered(one, numbers) for one in labels]
        for volume in (*images[1:], *label):
            if not volume.grid.matches(images[0].grid):
                raise GridError(f"{volume.name!r} of case {case.name!r} lies on another grid than {images[0].name!r}")
        part = "Tr" if labels else "Ts"
        for k, image in enumerate(images):
            _write(root / f"images{part}" / f"{name}_{k:04d}.nii.gz", image)
        for one in label:
            _write(root / "labelsTr" / f"{name}.nii.gz", one)
            trained.append(name)

    refused = each_case(catalog, Path(folder), write, progress)
    table = {
        "channel_names": {str(k): name for k, name in enumerate(channels)},
        **_labels(catalog.categories, numbers),
        "numTraining": len(trained),
        "file_ending": ".nii.gz",
    }
    # Last: a folder without it is no data set.
    put_json(Path(folder) / "dataset.json", table)
    return refused


def _check_frames(case: Case) -> None:
    """Raise, before anything is written, where a volume has no place in the patient."""
    for volume in (*case.images.values(), *case.labels.values()):
        if volume.grid.frame != "LPS":
            raise GridError(
                f"NIfTI needs patient coordinates, and volume {volume.name!r} of case {case.name!r} has none",
                got=f"frame {volume.grid.frame}",
                hint="export it as nrrd or portable",
            )


def _channel_names(record: CaseRecord) -> tuple[str, ...]:
    """The images of a case in the order of its sources: nnU-Net's own numbers, where it was imported from there."""
    sources = [row["volume"] for row in read_provenance(record.path).get("sources", [])] if record.sha256 else []
    return tuple(sorted(record.images, key=lambda name: sources.index(name) if name in sources else len(sources)))


def _numbers(catalog: Catalog) -> dict[str, int]:
    """Category -> number, of all that label maps name and of all without others below them, in the tree's order.

    Not of those that happen to have voxels: the numbers must not depend on the cases.
    """
    tree = catalog.categories
    named = {item for case in catalog.values() for label in case.labels.values() for item in label.categories.items()}
    values = {name: value for value, name in named}
    numbered = [name for name in tree.names if name in values or not tree.descendants(name)]
    if len(named) == len(values) and sorted(values[n] for n in numbered if n in values) == [
        *range(1, len(numbered) + 1)
    ]:
        return {name: values[name] for name in numbered}
    return {name: number for number, name in enumerate(numbered, start=1)}


def _labels(tree: CategoryTree, numbers: Mapping[str, int]) -> dict[str, Any]:
    """``labels`` of ``dataset.json``, and for regions the number that each gives to what no later one covers.

    >>> tree = CategoryTree.from_coco([{"name": "tumor"}, {"name": "core", "supercategory": "tumor"}])
    >>> _labels(tree, {"tumor": 1, "core": 2})
    {'labels': {'background': 0, 'tumor': [1, 2], 'core': 2}, 'regions_class_order': [1, 2]}
    """
    labels: dict[str, Any] = {"background": 0}
    order = []
    for number, name in enumerate(tree.names):
        below = [numbers[n] for n in tree.descendants(name) if n in numbers]
        own = [numbers[name]] if name in numbers else []
        if not own and tree.ends[number + 1] == tree.ends[number]:
            continue  # the same region as the only category below it
        labels[name] = sorted(own + below) if below else numbers[name]
        order.append((own + below)[0])
    regions = any(isinstance(entry, list) for entry in labels.values())
    return {"labels": labels, "regions_class_order": order} if regions else {"labels": labels}


def _channels(case: Case, names: tuple[str, ...]) -> list[Volume]:
    if set(case.images) != set(names):
        raise OptionError(
            f"case {case.name!r} has other images than the first case",
            got=", ".join(case.images),
            expected=", ".join(names),
            hint="nnU-Net needs the same channels everywhere",
        )
    channels = [case.images[name] for name in names]
    if any(set(image.axes) != set("zyx") for image in channels):
        raise GridError(f"nnU-Net takes images over z, y, x only: case {case.name!r}", got=channels[0].axes)
    return channels


def _renumbered(label: LabelVolume, numbers: Mapping[str, int]) -> Volume:
    """The label map as its source had it, with the data set's numbers for its categories."""
    turned = as_source(label)
    dtype = np.uint16 if len(numbers) > 255 else np.uint8
    array = renumbered(np.asarray(turned), label.categories, numbers, dtype)
    return Volume(label.name, turned.grid, ArraySource(array))


def _write(path: Path, volume: Volume) -> None:
    """A file that is whole or not there; gzip without a time, so that the same voxels make the same bytes."""
    stored, slope, inter = as_in_file(np.asarray(volume), volume.attributes)
    image = to_nibabel(Volume(volume.name, volume.grid, ArraySource(stored), volume.attributes))
    image.header.set_slope_inter(slope, inter)
    put(path, gzip.compress(image.to_bytes(), 6, mtime=0))
