"""MONAI: samples as `MetaTensor`, and a reader of ndvol's case files for ``LoadImaged``.

MONAI is imported here only: ``import ndvol.monai`` needs the extra ``ndvol[monai]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ImageReader, MetaTensor
from monai.data.utils import collate_meta_tensor_fn
from numpy.typing import NDArray
from torch.utils.data._utils.collate import default_collate_fn_map

from ndvol.errors import GridError, OptionError, UnknownNameError
from ndvol.store import open_case
from ndvol.volumes import Volume

__all__ = ["CaseReader", "to_metatensors"]

Name = str | Path

# MONAI does so itself, but not before its own loader has made a batch: until then torch's `default_collate`, and ours
# with it, would give a batch the affine of its first item.
default_collate_fn_map[MetaTensor] = collate_meta_tensor_fn


def to_metatensors(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item of `ndvol.torch.PatchDataset` or `GridDataset` with ``image`` and ``label`` as `MetaTensor`.

    A transform, the first one; MONAI's loader and torch's make the same batches of its items::

        dataset = ndvol.torch.PatchDataset(sampler)
        data = monai.data.Dataset(dataset, Compose([to_metatensors, RandFlipd(["image", "label"], 0.5)]))

    The affine is that of the patch: tensor order (z, y, x) to RAS mm. It is in the MetaTensors alone, where transforms
    keep it true; ``valid`` stays that of the patch as it was drawn. The metadata are those of a file that MONAI has
    loaded, so ``EnsureChannelFirstd`` and ``SaveImaged`` know them: ``filename_or_obj`` is the case's name, from which
    ``SaveImaged`` makes that of its files. MONAI 1.6 saves one channel only with ``squeeze_end_dims=False``
    (its issue 9068: it takes a volume for a picture).
    """
    affine = item["affine"].numpy()
    tensors = {
        key: MetaTensor(item[key], meta={**_metadata(affine, item[key].shape[1:]), "filename_or_obj": item["case"]})
        for key in ("image", "label")
        if key in item
    }
    return {key: value for key, value in item.items() if key != "affine"} | tensors


class CaseReader(ImageReader):  # type: ignore[misc]
    """Reads volumes of ndvol case files (``bundle/volumes/<case>.h5``) for ``LoadImage`` and ``LoadImaged``.

    Parameters
    ----------
    images : name of the image, or several of them that become channels in this order; the only image of the
        case when None.
    labels : names of label volumes, to be read instead.

    The array is (C, z, y, x): axes t and c are channels, t slowest, so ``EnsureChannelFirst`` has nothing left to do.
    Several files make further channels, as with MONAI's own readers. The affine maps (z, y, x) to RAS mm, or to the
    volume's own world when that is not a patient's::

        LoadImaged("image", reader=CaseReader("CT"))
        LoadImaged("label", reader=CaseReader(labels="organs"), dtype=numpy.int64)

    The dictionaries of a bundle, which a ``PersistentDataset`` may cache: with ``hash_transform=pickle_hashing`` the
    volumes of one file are told apart. It never finds windows again, since MONAI's hash of a tensor is of its address::

        files = [{"image": record.path, "label": record.path} for record in catalog.records.values()]

    Inference over a whole volume by MONAI's own inferer, whose result lies where the volume does::

        image = LoadImage(reader=CaseReader("CT"))("bundle/volumes/case-001.h5")
        scores = SlidingWindowInferer((96, 96, 96), sw_batch_size=4, overlap=0.25)(image[None], model)[0]
        SaveImage("predictions/", squeeze_end_dims=False)(scores)

    Raises
    ------
    UnknownNameError : when a file has no volume of that name.
    GridError : when the volumes that are put together lie on different grids.
    """

    def __init__(self, images: str | Sequence[str] | None = None, *, labels: str | Sequence[str] | None = None) -> None:
        if images is not None and labels is not None:
            raise OptionError("a CaseReader reads images or labels, not both", hint="use one LoadImaged for each")
        self._kind = "images" if labels is None else "labels"
        names = images if labels is None else labels
        self._names = (names,) if isinstance(names, str) else names

    def verify_suffix(self, filename: Name | Sequence[Name]) -> bool:
        return all(Path(name).suffix == ".h5" for name in _paths(filename))

    def read(self, data: Name | Sequence[Name], **kwargs: Any) -> Sequence[Name]:
        """The files, to be opened by `get_data`: MONAI goes on to its next reader after an error here, and hides it."""
        if kwargs or not self.verify_suffix(data):
            raise OptionError("a CaseReader reads .h5 files, without options", got=f"{data}, {kwargs}")
        return _paths(data)

    def get_data(self, img: Sequence[Name]) -> tuple[NDArray[Any], dict[str, Any]]:
        """The volumes of the files as one array (C, \\*spatial), and what MONAI wants to know of it."""
        volumes = [volume for path in img for volume in self._volumes(path)]
        first = volumes[0].grid
        n = len(first.spatial)
        for volume in volumes:
            if not volume.grid.matches(first):
                raise GridError(
                    f"volumes {volumes[0].name!r} and {volume.name!r} lie on different grids, so they are no "
                    "channels of one image",
                    got=f"{volume.grid.shape} and {volume.grid.affine.tolist()}",
                    expected=f"{first.shape} and {first.affine.tolist()}",
                )
        arrays = [np.asarray(volume).reshape(-1, *volume.shape[volume.ndim - n :]) for volume in volumes]
        meta = _metadata(first.ras_affine, arrays[0].shape[1:])
        return (arrays[0] if len(arrays) == 1 else np.concatenate(arrays)), meta

    def _volumes(self, path: Name) -> list[Volume]:
        case = open_case(path)
        found: Mapping[str, Volume] = case.images if self._kind == "images" else case.labels
        names = self._names
        if names is None:
            if len(found) != 1:
                raise OptionError(
                    f"case {case.name!r} has several images, so the reader must be told which",
                    expected=f"one or more of {', '.join(found)}",
                )
            names = tuple(found)
        missing = [name for name in names if name not in found]
        if missing or not names:
            raise UnknownNameError(
                f"case {case.name!r} has no {self._kind} {', '.join(map(repr, missing))}",
                expected=f"some of {', '.join(found)}",
                hint=f"file {path}",
            )
        return [found[name] for name in names]


def _metadata(affine: NDArray[np.float64], shape: Sequence[int]) -> dict[str, Any]:
    """What MONAI's transforms and writers want to know of an image (C, \\*shape) that has just been loaded."""
    return {
        "affine": affine.copy(),
        "original_affine": affine.copy(),
        "spatial_shape": np.array(shape),
        "original_channel_dim": 0,
        "space": "RAS",
    }


def _paths(data: Name | Sequence[Name]) -> Sequence[Name]:
    return (data,) if isinstance(data, str | Path) else data
