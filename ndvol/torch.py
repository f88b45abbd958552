"""PatchDataset and GridDataset: a sampler as a map-style torch dataset whose items collate, best by `collate`.

torch is imported here only: ``import ndvol.torch`` needs the extra ``ndvol[torch]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ndvol.batches import collate
from ndvol.errors import SamplingError
from ndvol.grid_sampler import GridSample, GridSampler
from ndvol.reading import Wanted
from ndvol.sampler import Sample, VolumeSampler
from ndvol.sampling import Target
from ndvol.tensors import BatchTensor

__all__ = ["GridDataset", "PatchDataset", "collate"]


class PatchDataset(Dataset[dict[str, Any]]):
    """The samples of `sampler` as flat dictionaries: the same keys, shapes and types for every item.

    Parameters
    ----------
    sampler : draws and reads the patches.
    dtype : of the image tensor.
    label_dtype : of the label tensor; int64 is what torch's losses take. Worker processes write fewer bytes with
        int16 or uint8; convert behind the loader, on the device.

    An item holds, with the spatial axes in storage order (z, y, x; a picture has y, x):

    ========== ============================ ==================================================================
    key        type, shape                  meaning
    ========== ============================ ==================================================================
    image      `dtype` (C, \\*spatial)       the images one after another; t and c axes become channels, t slowest
    label      `label_dtype` (L, \\*spatial)  the label volumes likewise; only when the sampler reads any
    affine     float64 (n+1, n+1)           maps the patch's spatial index, in tensor order, to RAS mm: what
                                            MONAI expects; the grid's own world when that is not the patient's
    valid      int64 (axes of the window,2) first and one-past-last index of the real part, per window axis
    case       str                          name of the case
    role       str                          ``positive``, ``negative`` or ``any``
    category   str                          category that a positive was drawn for, else ``""``
    leaf       str                          category of the voxel or object itself: that, or one below it
    index      int                          number of the sample, from 0
    ========== ============================ ==================================================================

    Items that are read together are rows of one tensor, which `collate` hands on as their batch without copying it.
    Item i depends on the sampler's seed, the epoch and i alone, so shuffling, workers, their start method and
    ranks do not change it. `ndvol.Schedule` shares the items among ranks and resumes a run.
    """

    def __init__(
        self,
        sampler: VolumeSampler,
        *,
        dtype: torch.dtype = torch.float32,
        label_dtype: torch.dtype = torch.int64,
    ) -> None:
        self.sampler, self.dtype, self.label_dtype = sampler, dtype, label_dtype
        # In shared memory, because workers that outlive an epoch (persistent_workers) hold copies of the sampler.
        self._epoch = torch.tensor(sampler.epoch)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]
        self._seen = sampler.epoch

    def __len__(self) -> int:
        return len(self.sampler)

    @property
    def seed(self) -> int:
        return self.sampler.seed

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, also in workers that are running already; call it before iterating."""
        self.sampler.set_epoch(epoch)
        self._epoch.fill_(self.sampler.epoch)

    def target(self, index: int) -> Target:
        """What item `index` reads, without reading it."""
        return self.sampler.target(index)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Item `index`.

        Raises
        ------
        IndexError : past the end.
        SamplingError : when the case lacks a label volume: zeros would pass for annotated background; or when its
            volumes lie on several grids.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Several items as one job, which is how a loader asks for a batch; in the order of `indices`."""
        if self._epoch != self._seen:
            self._seen = int(self._epoch)
            self.sampler.set_epoch(self._seen)
        return self._items(indices, [self.target(index) for index in indices])

    def _items(self, indices: Sequence[int], targets: Sequence[Target]) -> list[dict[str, Any]]:
        images = BatchTensor(self.sampler.axes, "images", self.sampler.images, self.dtype)
        labels = BatchTensor(self.sampler.axes, "labels", self.sampler.labels, self.label_dtype)

        def room(wanted: Sequence[Mapping[str, Wanted]]) -> list[dict[str, NDArray[Any]]]:
            return [a | b for a, b in zip(images.arrays(wanted), labels.arrays(wanted), strict=True)]

        items = []
        for number, sample in enumerate(self.sampler.load_samples(targets, room=room, annotated=False)):
            sample.check_one_grid()
            item = {"image": images.item(number, [sample.images[name] for name in self.sampler.images])}
            if self.sampler.labels:
                item["label"] = labels.item(number, self._labels(sample))
            items.append(item | self._facts(indices[number], sample))
        return items

    def _facts(self, index: int, sample: Sample) -> dict[str, Any]:
        return {
            **_place(sample),
            "case": sample.target.case,
            "role": sample.target.role,
            "category": sample.target.category or "",
            "leaf": sample.target.leaf or "",
            "index": range(len(self))[index],
        }

    def _labels(self, sample: Sample) -> list[NDArray[Any]]:
        """The patches of all label volumes that the sampler reads; raises where one is missing or does not fit."""
        missing = [name for name in self.sampler.labels if name not in sample.labels]
        if missing:
            raise SamplingError(
                f"case {sample.target.case!r} has no label volume {', '.join(map(repr, missing))}",
                got=f"labels {', '.join(sample.labels)}" if sample.labels else "no label volume",
                hint="read none with Reading(labels=()), those of all cases with Reading(labels=...), or draw "
                "labelled cases only, with Positive() and Negative()",
                case=sample.target.case,
                missing=tuple(missing),
            )
        patches = [sample.labels[name] for name in self.sampler.labels]
        most = torch.iinfo(self.label_dtype).max
        for name, patch in zip(self.sampler.labels, patches, strict=True):
            if np.iinfo(patch.dtype).max > most and patch.max(initial=0) > most:
                raise SamplingError(
                    f"label volume {name!r} of case {sample.target.case!r} does not fit {self.label_dtype}",
                    got=f"the value {patch.max()}",
                    expected=f"at most {most}",
                    hint="choose a larger label_dtype",
                )
        return patches


class GridDataset(Dataset[dict[str, Any]]):
    """The samples of a `GridSampler` as flat dictionaries, for inference.

    An item holds ``image``, ``affine``, ``valid``, ``case`` and ``index`` as those of `PatchDataset` do; image, affine
    and valid are those of the patch with its halo. A `Stitcher` wants the windows in order, so a loader goes through
    one case after another and does not shuffle::

        dataset = ndvol.torch.GridDataset(grid)
        for case in grid.cases:
            order = grid.indices(case)
            loader = DataLoader(dataset, batch_size=4, sampler=order, num_workers=2, collate_fn=ndvol.torch.collate)
            with grid.stitcher(case, f"{case}.h5", categories={1: "lesion"}) as stitcher:
                for batch in loader:
                    for index, scores in zip(batch["index"], model(batch["image"]).cpu()):
                        stitcher.add(grid.window_at(index), scores)
    """

    def __init__(self, sampler: GridSampler, *, dtype: torch.dtype = torch.float32) -> None:
        self.sampler, self.dtype = sampler, dtype

    def __len__(self) -> int:
        return len(self.sampler)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Item `index`; raises IndexError past the end."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Several items as one job, which is how a loader asks for a batch; in the order of `indices`."""
        images = BatchTensor(self.sampler.axes, "images", self.sampler.images, self.dtype)
        samples = self.sampler.load_samples(indices, room=images.arrays)
        return [
            {
                "image": images.item(number, [sample.images[name] for name in self.sampler.images]),
                **_place(sample),
                "case": sample.case,
                "index": sample.index,
            }
            for number, sample in enumerate(samples)
        ]


def _place(sample: Sample | GridSample) -> dict[str, torch.Tensor]:
    """Where a patch lies, and which part of it is inside the volume."""
    valid = torch.tensor([sample.valid.start, sample.valid.stop]).T.contiguous()
    return {"affine": torch.from_numpy(sample.grid.ras_affine), "valid": valid}
