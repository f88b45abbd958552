"""TorchIO: samples and cases as `Subject`, and an aggregator for the windows of a `GridSampler`.

TorchIO is imported here only: ``import ndvol.torchio`` needs the extra ``ndvol[torchio]``. The tensors keep ndvol's
order (C, z, y, x) and the affines map (z, y, x) to RAS mm: TorchIO asks only that the two agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch
import torchio
from numpy.typing import NDArray

from ndvol.errors import GridError, OptionError, WindowError
from ndvol.geometry import Grid
from ndvol.grid_sampler import GridSample, GridSampler
from ndvol.sampler import Sample, VolumeSampler
from ndvol.sampling import Target
from ndvol.tensors import channels
from ndvol.torch import PatchDataset
from ndvol.volumes import Case

__all__ = ["SubjectDataset", "SubjectGrid", "to_subject"]

Transform = Callable[[Any], Any]

_FACTS = ("case", "location", "role", "index")
"""Entries that are no volumes."""


def to_subject(source: Case | Sample | GridSample, *, dtype: torch.dtype = torch.float32) -> torchio.Subject:
    """The images as `ScalarImage`, in `dtype`, and the label volumes as `LabelMap`, in int32, under their names.

    Each volume has the affine of its own grid; t and c axes become channels, t slowest. A case is read into memory as
    a whole. ``case`` is its name; a sample has a ``location`` too: its box in the case, as TorchIO writes it (three
    starts, three stops, of which some may lie outside the volume); that of a `GridSample` without the halo.

    Raises
    ------
    GridError : when a volume has not all of the axes z, y and x.
    OptionError : when two entries would have one name, or a label value is beyond int32.
    """
    labels: Mapping[str, Any] = {} if isinstance(source, GridSample) else source.labels
    volumes: list[tuple[str, str, Any]] = [("images", name, volume) for name, volume in source.images.items()]
    volumes += [("labels", name, volume) for name, volume in labels.items()]
    entries = _facts(source)
    for kind, name, volume in volumes:
        if name in entries or name in _FACTS:
            raise OptionError(
                f"two entries of a Subject would be called {name!r}",
                got=f"images {', '.join(source.images)}; labels {', '.join(labels)}; {', '.join(_FACTS)}",
                hint="leave one out with Reading(images=...) or Reading(labels=...)",
            )
        grid = _grid(source, kind, name)
        if len(grid.spatial) != 3:
            raise GridError(f"{name!r} cannot be a TorchIO image", got=f"axes {grid.axes}", expected="z, y and x")
        array = np.asarray(volume)
        if kind == "images":
            make, kept = torchio.ScalarImage, dtype
        else:
            # TorchIO reorients by nibabel, which refuses int64.
            make, kept = torchio.LabelMap, torch.int32
            _check_int32(name, array)
        entries[name] = make(tensor=channels([array], 3, kept), affine=grid.ras_affine)
    return torchio.Subject(entries)


class SubjectDataset(PatchDataset):
    """A `PatchDataset` whose items are Subjects, for a ``torchio.SubjectsLoader`` with any number of workers.

    Parameters
    ----------
    transform : TorchIO's, applied to each Subject.
    sampler, dtype : as for `PatchDataset`.

    Besides the volumes, ``case`` and ``location`` a Subject has ``role`` and ``index``. Unlike the items of
    `PatchDataset` it may hold volumes on several grids, each with its own affine.
    """

    def __init__(
        self, sampler: VolumeSampler, *, transform: Transform | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(sampler, dtype=dtype)
        self.transform = transform

    def _items(self, indices: Sequence[int], targets: Sequence[Target]) -> list[Any]:
        samples = self.sampler.load_samples(targets, annotated=False)
        return [self._subject(index, sample) for index, sample in zip(indices, samples, strict=True)]

    def _subject(self, index: int, sample: Sample) -> Any:
        self._labels(sample)  # raises where the case lacks one
        subject = to_subject(sample, dtype=self.dtype)
        subject["role"], subject["index"] = sample.target.role, range(len(self))[index]
        subject.update_attributes()
        return subject if self.transform is None else self.transform(subject)


class SubjectGrid(torch.utils.data.Dataset[Any]):
    """The samples of a `GridSampler` as Subjects, whose ``location`` a `GridAggregator` understands.

    ::

        subjects = SubjectGrid(ndvol.GridSampler(catalog, (96, 96, 96), overlap=0.25))
        aggregator = subjects.aggregator("case-001", "hann")
        part = torch.utils.data.Subset(subjects, subjects.sampler.indices("case-001"))
        for batch in torchio.SubjectsLoader(part, batch_size=4, num_workers=2):
            aggregator.add_batch(model(batch["CT"]["data"]), batch["location"])
        scores = aggregator.get_output_tensor()                      # (classes, z, y, x), the case's grid
    """

    def __init__(
        self, sampler: GridSampler, *, transform: Transform | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        self.sampler, self.transform, self.dtype = sampler, transform, dtype

    def __len__(self) -> int:
        return len(self.sampler)

    def __getitem__(self, index: int) -> Any:
        """Subject `index`; raises IndexError past the end."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Several as one job, which is how a loader asks for a batch."""
        subjects = [to_subject(sample, dtype=self.dtype) for sample in self.sampler.__getitems__(indices)]
        return subjects if self.transform is None else [self.transform(subject) for subject in subjects]

    def aggregator(
        self, case: str, overlap_mode: Literal["crop", "average", "hann"] = "crop"
    ) -> torchio.GridAggregator:
        """TorchIO's aggregator over the grid of a case.

        Raises
        ------
        UnknownNameError : when there is no such case.
        WindowError : for windows that leave the case, by their halo or because it is smaller: TorchIO has no place for
            such patches; an `ndvol.Stitcher` has.
        """
        windows = self.sampler.windows(case)
        axes = [i for i, a in enumerate(self.sampler.axes) if a in "zyx"]
        shape, window = (np.array(sizes)[axes] for sizes in (windows.shape, windows.window))
        if any(self.sampler.halo) or (window > shape).any() or len(axes) != 3:
            raise WindowError(
                f"TorchIO cannot put the patches of case {case!r} together",
                got=f"windows {windows.window} with halo {self.sampler.halo} over {self.sampler.axes} {windows.shape}",
                expected="no halo, and windows that fit into a volume with the axes z, y and x",
                hint="use GridSampler.stitcher",
            )
        # TorchIO crops half of this from both sides of a border, so neighbours must share no less anywhere.
        strides = [max(np.diff(windows.starts[i]), default=windows.window[i]) for i in axes]
        grid = SimpleNamespace(
            subject=SimpleNamespace(spatial_shape=tuple(shape.tolist())),
            padding_mode=None,
            patch_overlap=window - strides,
            patch_size=window,
        )
        return torchio.GridAggregator(grid, overlap_mode)


def _grid(source: Case | Sample | GridSample, kind: str, name: str) -> Grid:
    """Of a volume: in a sample on several grids each has its own."""
    if isinstance(source, Case):
        return source[name].grid
    if isinstance(source, Sample) and f"{kind}/{name}" in source.places:
        return source.places[f"{kind}/{name}"].grid
    return source.grid


def _check_int32(name: str, labels: NDArray[Any]) -> None:
    limits = np.iinfo(np.int32)
    for value in (int(labels.min()), int(labels.max())) if labels.size else ():
        if not limits.min <= value <= limits.max:
            raise OptionError(f"label volume {name!r} has values beyond int32", got=value)


def _facts(source: Case | Sample | GridSample) -> dict[str, Any]:
    if isinstance(source, Case):
        return {"case": source.name}
    asked = source if isinstance(source, GridSample) else source.target
    case, window = asked.case, asked.window
    spatial = source.grid.spatial
    location = [*(window.start[i] for i in spatial), *(window.stop[i] for i in spatial)]
    return {"case": case, "location": torch.tensor(location)}
