"""nnU-Net v2: its preprocessed cases in ndvol files, which its own trainer reads unchanged.

nnU-Net is imported here only: ``import ndvol.nnunet`` needs the extra ``ndvol[nnunet]``. The import adds `CaseDataset`
to the dataset classes that nnU-Net chooses from by the ending of the files; from then on its trainer, its data loader
and its augmentation take a folder of ``.h5`` cases as they take one of ``.b2nd``::

    ndvol.nnunet.preprocess(catalog, "nnUNet_preprocessed/Dataset001_Liver", "3d_fullres")
    run_training("Dataset001_Liver", "3d_fullres", 0)                 # nnunetv2.run.run_training
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import file_ending_dataset_mapping, nnUNetBaseDataset
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from numpy.typing import NDArray

from ndvol.catalog import Catalog
from ndvol.errors import GridError, SourceError, UnknownNameError
from ndvol.exporting.cases import as_source
from ndvol.geometry import Grid
from ndvol.interop import sitk_geometry
from ndvol.label_index import LabelIndex, label_values
from ndvol.store import CaseWriter, open_case
from ndvol.store.reader import read_provenance
from ndvol.volumes import Case, LabelVolume, Volume

__all__ = ["CaseDataset", "preprocess"]


class CaseDataset(nnUNetBaseDataset):  # type: ignore[misc]
    """Preprocessed cases, one file ``<identifier>.h5`` each, in nnU-Net's own interface.

    `load_case` gives volumes that read what they are sliced for: ``data`` float32 (c, z, y, x) and ``seg`` int16
    (1, z, y, x) with -1 outside the nonzero region, like nnU-Net's. ``properties["class_locations"]`` has nnU-Net's
    keys, and draws from all voxels of a class by the file's index, where nnU-Net keeps a list of some of them.
    """

    def load_case(self, identifier: str) -> tuple[Volume, LabelVolume, LabelVolume | None, dict[str, Any]]:
        """data, seg, seg of the previous stage (z, y, x) or None, properties.

        Raises
        ------
        UnknownNameError : when there is no such file; SourceError : when it is not a preprocessed case.
        """
        path = Path(self.source_folder) / f"{identifier}.h5"
        case = open_case(path)
        whole = "data" in case.images and "seg" in case.labels
        properties = read_provenance(path).get("nnunet") if whole else None
        if properties is None:
            raise SourceError(
                f"{path} is no case that nnU-Net has preprocessed",
                got=f"volumes {', '.join([*case.images, *case.labels])}",
                hint="make them with ndvol.nnunet.preprocess",
            )
        seg, previous = case.labels["seg"], None
        index = seg.source.label_index()
        assert isinstance(index, LabelIndex)
        keys = [tuple(key) if isinstance(key, list) else key for key in properties["class_locations"]]
        properties["class_locations"] = {key: ClassVoxels(index, key) for key in keys}
        if self.folder_with_segs_from_previous_stage is not None:
            file = Path(self.folder_with_segs_from_previous_stage) / f"{identifier}.h5"
            previous = open_case(file).labels["seg"]
        return case.images["data"], seg, previous, properties

    @staticmethod
    def save_case(
        data: NDArray[Any], seg: NDArray[Any], properties: Mapping[str, Any], output_filename_truncated: str
    ) -> None:
        """Write a preprocessed case; the parameters are those of nnU-Net's own classes.

        Raises
        ------
        SourceError : with an ignore label, whose class locations hold background: the index counts none.
        """
        keys = list(properties["class_locations"])
        if 0 in {value for key in keys for value in (key if isinstance(key, tuple) else (key,))}:
            raise SourceError(
                "data sets with an ignore label are drawn from background too, of which an ndvol file has no index",
                got=f"class locations of {keys}",
                hint="keep nnU-Net's own files for them",
            )
        path = Path(f"{output_filename_truncated}.h5")
        with CaseWriter(path, case=path.stem) as writer:
            writer.add_image("data", data.astype(np.float32, copy=False), Grid.regular("czyx", data.shape))
            _add_seg(writer, "czyx", seg.astype(np.int16, copy=False))
            kept = {**properties, "class_locations": keys}
            writer.set_provenance({"nnunet": json.loads(json.dumps(kept, default=_plain))})

    @staticmethod
    def save_seg(seg: NDArray[Any], output_filename_truncated: str) -> None:
        """Write the (z, y, x) segmentation of a stage, for the next one."""
        path = Path(f"{output_filename_truncated}.h5")
        with CaseWriter(path, case=path.stem) as writer:
            _add_seg(writer, "zyx", seg)

    @staticmethod
    def get_identifiers(folder: str) -> list[str]:
        return sorted(path.stem for path in Path(folder).glob("*.h5"))


class ClassVoxels(Sequence[tuple[int, ...]]):
    """Every voxel of a class, or of the values of a region, as (0, z, y, x); read one at a time."""

    def __init__(self, index: LabelIndex, key: int | tuple[int, ...]) -> None:
        values = key if isinstance(key, tuple) else (key,)
        self._index, self._counts = index, {value: index.count(value) for value in values}

    def __len__(self) -> int:
        return sum(self._counts.values())

    def __getitem__(self, number: Any) -> Any:
        for value, count in self._counts.items():
            if 0 <= number < count:
                return self._index.voxel(value, int(number))
            number -= count
        raise IndexError("no such voxel")


def preprocess(
    catalog: Catalog, folder: str | Path, configuration: str, *, plans: str = "nnUNetPlans", label: str | None = None
) -> list[Path]:
    """Preprocess all cases of a catalogue by nnU-Net's own code into its folder there, as ``<case>.h5``.

    Parameters
    ----------
    folder : the data set's among nnU-Net's preprocessed ones, with ``dataset.json`` and the plans.
    label : the label volume to learn; the only one of each case when None.

    The images are those that ``channel_names`` lists, in that order; label values become those that ``labels`` gives
    to their categories. The segmentations go to ``gt_segmentations`` as well, for nnU-Net's validation. The voxels are
    those that nnU-Net would make of the source files, or of an export to its raw layout; so its plans can come from
    there, and a network trained on either predicts files of the same kind::

        ndvol export bundle/ $nnUNet_raw/Dataset001_Liver --to nnunet
        nnUNetv2_extract_fingerprint -d 1 && nnUNetv2_plan_experiment -d 1

    Raises
    ------
    UnknownNameError : when a case lacks an image or a label volume.
    GridError : when its volumes have other axes than z, y, x, or lie on different grids.
    SourceError : when a case has a category that ``dataset.json`` has no number for.
    """
    base = Path(folder)
    dataset = json.loads((base / "dataset.json").read_text(encoding="utf-8"))
    manager = PlansManager(str(base / f"{plans}.json"))
    setting = manager.get_configuration(configuration)
    writer = manager.image_reader_writer_class()
    (base / "gt_segmentations").mkdir(exist_ok=True)
    (base / setting.data_identifier).mkdir(exist_ok=True)
    written = []
    for name in catalog:
        case = catalog[name]
        data, seg, properties = _raw(case, dataset, label)
        writer.write_seg(seg[0], str(base / "gt_segmentations" / f"{name}{dataset['file_ending']}"), properties)
        preprocessor = setting.preprocessor_class(verbose=False)
        data, seg, properties = preprocessor.run_case_npy(data, seg, properties, manager, setting, dataset)
        out = base / setting.data_identifier / name
        CaseDataset.save_case(data, seg, properties, str(out))
        written.append(Path(f"{out}.h5"))
    return written


def _raw(
    case: Case, dataset: Mapping[str, Any], label: str | None
) -> tuple[NDArray[np.float32], NDArray[np.int16], dict[str, Any]]:
    """A case as nnU-Net's SimpleITKIO reads its files: images (c, z, y, x), segmentation (1, z, y, x), properties."""
    channels = [dataset["channel_names"][str(i)] for i in range(len(dataset["channel_names"]))]
    if missing := [name for name in channels if name not in case.images]:
        raise UnknownNameError(
            f"case {case.name!r} lacks the images {missing} of dataset.json", expected=f"some of {list(case.images)}"
        )
    names = [label] if label else list(case.labels)
    if len(names) != 1 or names[0] not in case.labels:
        raise UnknownNameError(
            f"which label volume of case {case.name!r} is to be learnt?", got=label, expected=f"one of {[*case.labels]}"
        )
    truth = case.labels[names[0]]
    images = [case.images[name] for name in channels]
    for volume in (*images, truth):
        if volume.axes != "zyx" or not volume.grid.matches(truth.grid):
            raise GridError(
                f"nnU-Net needs all volumes of case {case.name!r} over z, y and x on one grid",
                got=f"{volume.name!r}: {volume.axes} {volume.shape}, spacing {volume.grid.spacing}",
                expected=f"{truth.shape}, spacing {truth.grid.spacing}",
            )
    # All as the first image's file had its axes: nnU-Net turns nothing, so its network must see in training what it
    # will be given of that file when it predicts.
    *turned, labels = (as_source(replace(v, attributes=images[0].attributes)) for v in (*images, truth))
    spacing, origin, direction = sitk_geometry(labels.grid)
    properties = {
        "sitk_stuff": {"spacing": spacing, "origin": origin, "direction": direction},
        "spacing": list(spacing[::-1]),
    }
    seg = _renumbered(np.asarray(labels), truth, dataset, case.name)
    return np.stack(turned).astype(np.float32), seg[None], properties


def _renumbered(array: NDArray[Any], truth: LabelVolume, dataset: Mapping[str, Any], case: str) -> NDArray[np.int16]:
    """The voxels of `truth`, `array`, with the numbers that ``dataset.json`` gives to their categories."""
    out = np.zeros(array.shape, np.int16)
    for value in truth.index.values:
        name = truth.categories[value]
        number = own_number(dataset["labels"], name)
        if number is None:
            raise SourceError(
                f"dataset.json has no number for category {name!r} of case {case!r}", got=dataset["labels"]
            )
        out[array == value] = number
    return out


def own_number(labels: Mapping[str, Any], name: str) -> int | None:
    """The number of a label, or the one that a region does not share with a smaller one; None when there is none."""
    regions = {key: {entry} if isinstance(entry, int) else set(entry) for key, entry in labels.items()}
    values = regions.get(name, set())
    own = values.difference(*(region for region in regions.values() if region < values))
    return own.pop() if len(own) == 1 else None


def _add_seg(writer: CaseWriter, axes: str, seg: NDArray[Any]) -> None:
    writer.add_label(
        "seg", seg, Grid.regular(axes, seg.shape), categories={v: str(v) for v in label_values(seg)}, objects="category"
    )


def _plain(value: Any) -> Any:
    """numpy's numbers and arrays for JSON."""
    return value.tolist()


file_ending_dataset_mapping["h5"] = CaseDataset
