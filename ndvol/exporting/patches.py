"""Drawn windows out, as one HDF5 file: a training set that stays as it is and needs nothing but h5py to be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ndvol.categories import CategoryTree
from ndvol.errors import OptionError, StoreError
from ndvol.exporting.cases import renumbered
from ndvol.geometry import Grid, Window
from ndvol.sampler import Sample, VolumeSampler
from ndvol.sampling import Target
from ndvol.sampling.options import whole_number
from ndvol.store import Patches, PatchWriter
from ndvol.version import __version__
from ndvol.volumes import Volume

FORMAT_VERSION = "1.0"


def export_patches(
    sampler: VolumeSampler,
    path: str | Path,
    *,
    count: int | None = None,
    codec: str = "portable",
    progress: bool = False,
) -> Path:
    """Write the first `count` samples of the sampler's epoch, all by default, as a file; returns its path.

    ================== ============================================================================================
    ``images/<name>``  (n, \\*window): the patches, a chunk each; attribute ``axes``
    ``labels/<name>``  (n, \\*window): rows of ``categories``, 0 is background; where a case has no such label volume,
                       all voxels have the value of the attribute ``not_annotated``
    ``targets/…``      a row per patch: ``case``, ``start`` of the window, ``valid`` (per axis first and one-past-last
                       index of the part inside the volume; the rest is padding), ``role``, ``category`` and ``leaf``
                       that a positive was drawn for, ``affine`` from the spatial index in the patch, in storage order,
                       to the world point (x, y, z), ``frame`` and ``unit`` of that world
    ``categories/…``   a row per category: ``name``, and the row of its ``parent``; row 0 is the background
    ================== ============================================================================================

    Texts are UTF-8 of a fixed length: ``.asstr()`` reads a column of them, ``.decode()`` an attribute. One patch is in
    memory at a time; the file is read back before it is published, whole or not at all.

    Parameters
    ----------
    codec : ``portable`` (gzip) or ``none``.

    Raises
    ------
    OptionError : for more samples than an epoch has, or cases whose patches have not one shape and type.
    SamplingError : for a case with volumes on several grids.
    StoreError : when there is something at `path` already, or it cannot be written.

    >>> import tempfile, h5py
    >>> from ndvol.toy import DynamicToySampler
    >>> path = Path(tempfile.mkdtemp()) / "patches.h5"
    >>> file = h5py.File(export_patches(DynamicToySampler((8, 16, 16)), path, count=2))
    >>> image, label = file["images/image"][0], file["labels/objects"][0]
    >>> case, affine = file["targets/case"].asstr()[0], file["targets/affine"][0]
    >>> names = file["categories/name"].asstr()[:]
    >>> image.shape, label.shape, case, names[1]
    ((8, 16, 16), (8, 16, 16), 'toy-8', 'finding')
    >>> file.close()
    """
    number = _checked_count(count, len(sampler))
    target = Path(path)
    if target.exists():
        raise StoreError(f"{target} exists already", hint="export to another file, or delete it first")
    targets = [sampler.target(k) for k in range(number)]
    plan = _Plan.of(sampler, targets)
    facts = {
        "ndvol_patches": FORMAT_VERSION,
        "created_by": f"ndvol {__version__}",
        "axes": sampler.axes,
        "sampler": f"{sampler.strategy!r}, seed {sampler.seed}, epoch {sampler.epoch}, order {sampler.order}",
    }
    _make_folder(target.parent)
    with PatchWriter(target, number, plan.patches, codec=codec, facts=facts) as writer:
        shown = tqdm(targets, unit="window", disable=None if progress else True)
        places = [_put_sample(writer, plan, k, sampler.load_sample(one)) for k, one in enumerate(shown)]
        writer.put_table("targets", _target_columns(targets, *zip(*places, strict=True)))
        writer.put_table("categories", _category_columns(sampler.catalog.categories))
    return target


def _checked_count(count: int | None, epoch: int) -> int:
    number = whole_number("count", epoch if count is None else count, least=1)
    if number > epoch:
        raise OptionError(
            "an epoch of the sampler has fewer samples", got=number, expected=epoch, hint="give it a length"
        )
    return number


def _put_sample(writer: PatchWriter, plan: _Plan, row: int, sample: Sample) -> tuple[Grid, Window]:
    """Write the patches of a sample; where they lie, and which part of them is inside the volume."""
    sample.check_one_grid()
    for patches in plan.patches:
        writer.put(patches.path, row, plan.patch(patches, sample))
    return sample.grid, sample.valid


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is known of all patches before the first is read.

    Attributes
    ----------
    patches : the data sets.
    numbers : category name -> row of the category table.
    categories : per case and label volume value -> category name.
    """

    patches: tuple[Patches, ...]
    numbers: Mapping[str, int]
    categories: Mapping[tuple[str, str], Mapping[int, str]] = field(repr=False)

    @classmethod
    def of(cls, sampler: VolumeSampler, targets: Sequence[Target]) -> _Plan:
        numbers = {name: k + 1 for k, name in enumerate(sampler.catalog.categories.names)}
        window = dict(zip(sampler.axes, targets[0].window.shape, strict=True))
        forms: dict[str, dict[_Form, str]] = {}
        categories = {}
        # A case is held no longer than it takes to ask it.
        for name in dict.fromkeys(target.case for target in targets):
            case = sampler.catalog[name]
            for image in (case.images[i] for i in sampler.images):
                forms.setdefault(f"images/{image.name}", {}).setdefault(_Form.of(image, window), name)
            for label in (case.labels[i] for i in sampler.labels if i in case.labels):
                forms.setdefault(f"labels/{label.name}", {}).setdefault(_Form.of(label, window), name)
                categories[name, label.name] = label.categories
        # One more than the rows, for what is not annotated.
        dtype = np.min_scalar_type(len(numbers) + 1)
        patches = (
            _patches(path, found, dtype if path.startswith("labels/") else None) for path, found in forms.items()
        )
        return cls(tuple(patches), numbers, categories)

    def patch(self, patches: Patches, sample: Sample) -> NDArray[Any]:
        """The patch of a sample that goes into a data set."""
        kind, name = patches.path.split("/")
        if kind == "images":
            return sample.images[name]
        if name not in sample.labels:
            return np.full(patches.shape, patches.not_annotated, patches.dtype)
        categories = self.categories[sample.target.case, name]
        return renumbered(sample.labels[name], categories, self.numbers, patches.dtype)


@dataclass(frozen=True, slots=True)
class _Form:
    """Axes, shape and type of the patches of one volume."""

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, volume: Volume, window: Mapping[str, int]) -> _Form:
        shape = tuple(window.get(a, n) for a, n in zip(volume.axes, volume.shape, strict=True))
        return cls(volume.axes, shape, volume.dtype)


def _patches(path: str, forms: Mapping[_Form, str], label_dtype: np.dtype[Any] | None) -> Patches:
    """One data set for all forms that a volume has, each with the name of a case."""
    first = next(iter(forms))
    for form, case in forms.items():
        if (form.axes, form.shape) != (first.axes, first.shape):
            raise OptionError(
                f"the patches of {path!r} have not one shape",
                got=f"{form.axes} {form.shape} in case {case!r}",
                expected=f"{first.axes} {first.shape}, as in case {forms[first]!r}",
                hint="leave it out with Reading(images=..., labels=...)",
            )
    if label_dtype is not None:
        return Patches(path, first.axes, first.shape, label_dtype, int(np.iinfo(label_dtype).max))
    return Patches(path, first.axes, first.shape, _common_type(path, [form.dtype for form in forms]))


def _common_type(path: str, dtypes: Iterable[np.dtype[Any]]) -> np.dtype[Any]:
    """The type that holds the values of all exactly."""
    found = set(dtypes)
    common = np.result_type(*found)
    if common.kind == "f" and any(d.kind in "iu" and 8 * d.itemsize > np.finfo(common).nmant + 1 for d in found):
        names = ", ".join(sorted(map(str, found)))
        raise OptionError(f"no one type holds the values of {path!r} in all cases", got=names)
    return common


def _target_columns(
    targets: Sequence[Target], grids: Sequence[Grid], valid: Sequence[Window]
) -> dict[str, NDArray[Any] | list[str]]:
    return {
        "case": [target.case for target in targets],
        "start": np.array([target.window.start for target in targets], np.int64),
        "valid": np.array([np.transpose([window.start, window.stop]) for window in valid], np.int64),
        "role": [target.role for target in targets],
        "category": [target.category or "" for target in targets],
        "leaf": [target.leaf or "" for target in targets],
        "affine": np.array([grid.affine for grid in grids]),
        "frame": [grid.frame for grid in grids],
        "unit": [grid.unit for grid in grids],
    }


def _category_columns(tree: CategoryTree) -> dict[str, NDArray[Any] | list[str]]:
    parents = (tree.parent(k) for k in range(len(tree)))
    rows = [0, *(0 if parent is None else parent + 1 for parent in parents)]
    return {"name": ["", *tree.names], "parent": np.array(rows, np.int64)}


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError.from_os(error, folder) from error
