"""Opened cases: what a sampler keeps of the cases it read last, and which voxels belong to which object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ndvol.box_index import BoxIndex
from ndvol.catalog import CaseRecord, Catalog
from ndvol.errors import SamplingError
from ndvol.geometry import Window
from ndvol.geometry.pyramid import level_factor
from ndvol.levels import at_level
from ndvol.sampling import ObjectRows, VoxelIndex, examined_categories
from ndvol.sampling.aligned import AlignedCase, align, fits, place, place_label
from ndvol.sampling.sample import Place, boxes_in_window
from ndvol.volumes import Case, Volume, valid_window

OPEN_CASES = 128
"""Cases that a sampler keeps open per process; each holds its label index, and its file through the store."""

RIGHT_ANGLE = 1e-4
"""Largest cosine between two axes that are at right angles: direction cosines are often stored with six digits."""

Seen = Mapping[int, tuple[Window, NDArray[Any]]]
"""By number of a label volume what was read of it already: a box inside the volume, and the values there."""


class OpenCase:
    """A case as a sampler reads it, with its objects.

    Parameters
    ----------
    case : its volumes, placed on the sampler's grid.
    record : what the catalogue knows of it.
    rows : the objects of the whole catalogue; `own` is the case's part, in the order of `number`.
    """

    def __init__(self, case: AlignedCase, record: CaseRecord, rows: ObjectRows, own: NDArray[np.intp]) -> None:
        self.case, self.record = case, record
        self.labels = record.labels
        self._rows, self.own = rows, own
        # Boxes without a label volume (number -1) lie on the case's first image: the last entry.
        first = case.case.images[record.images[0] if record.images else next(iter(case.images))]
        self._volumes: list[Volume] = [*(case.case.labels[label] for label in record.labels), first]
        kept = np.array([fits(volume.grid, case.grid) for volume in self._volumes])[rows.label[own]]
        self.visible = own[kept]
        self._levels: dict[int, AlignedCase] = {0: case}
        self._indexes: dict[int, VoxelIndex] = {}

    def at(self, level: int) -> AlignedCase:
        """The case as a sampler reads it at a pyramid level: each volume on its own grid of that level.

        Raises
        ------
        WindowError : when a volume has no such level. GridError : when nothing says where its voxels lie.
        """
        if level not in self._levels:
            images = {name: at_level(placed.volume, level) for name, placed in self.case.images.items()}
            labels = {name: at_level(placed.volume, level) for name, placed in self.case.labels.items()}
            case = Case(self.record.name, images, labels)
            self._levels[level] = align(case, self.case.grid.axes, tuple(images), tuple(labels))
        return self._levels[level]

    def factor(self, level: int) -> tuple[int, ...]:
        """Voxels of level 0 per voxel of a pyramid level, by axis."""
        return level_factor(self.case.grid, self.at(level).grid) if level else (1,) * self.case.grid.ndim

    def box(self, row: int) -> Window:
        return Window.between(self._rows.start[row], self._rows.stop[row])

    def index(self, label: int) -> VoxelIndex:
        """Where the values of a label volume are; of the boxes without one for -1."""
        if label not in self._indexes:
            self._indexes[label] = self.case.index(self.labels[label]) if label >= 0 else self._boxes()
        return self._indexes[label]

    def _boxes(self) -> BoxIndex:
        self.check_grid(-1)
        rows, own = self._rows, self.own[self._rows.label[self.own] < 0]
        return BoxIndex(rows.value[own], rows.start[own], rows.stop[own], self.case.grid.shape)

    def voxels(self, row: int) -> int:
        """Voxels of an object over all axes: a label volume that lacks t holds its objects at every time."""
        label, count = int(self._rows.label[row]), int(self._rows.voxels[row])
        if self._is_box(label):
            return self.box(row).size
        axes = self.case.case.labels[self.labels[label]].axes
        return count * prod(n for a, n in zip(self.case.grid.axes, self.case.grid.shape, strict=True) if a not in axes)

    def places(self, window: Window, level: int) -> dict[str, Place]:
        """Where the patches of volumes on other grids lie; see `Sample.places`."""
        volumes = self.at(level).volumes
        own = {name: (p.window(window), p.volume.grid) for name, p in volumes.items() if p.reference is not None}
        return {name: Place(grid.crop(box), valid_window(box, grid.shape)) for name, (box, grid) in own.items()}

    def seen(self, window: Window, labels: Mapping[str, NDArray[Any]]) -> Seen:
        """What the patches of label volumes at `window` hold of the case, so that it need not be read again."""
        clip = window.clip(self.case.grid.shape)
        inside = Window(tuple(s.start for s in clip.inside), clip.shape)
        return {
            self.labels.index(name): (inside, patch[clip.placement])
            for name, patch in labels.items()
            if patch.shape == window.shape and self.case.labels[name].reference is None
        }

    def row(self, number: int) -> int:
        """The row of the object at position `number` among those of the record."""
        at = int(np.searchsorted(self._rows.number[self.own], number))
        if number < 0 or at == len(self.own) or self._rows.number[self.own[at]] != number:
            raise IndexError(f"object {number} of the {len(self.record.objects)} in case {self.record.name!r}")
        row = int(self.own[at])
        self.check_grid(int(self._rows.label[row]))
        return row

    def check_grid(self, label: int) -> None:
        """Raise unless the objects of a label volume are in the indices of the sampler's first image."""
        place(self.record.name, self._volumes[label], self.case.grid)

    def share_inside(self, row: int, window: Window, seen: Seen) -> float:
        """Share of the object's voxels that lie in the window; exactly 1.0 when all do."""
        box = self.box(row)
        shared = window.intersection(box)
        if shared == box or not shared.size:
            return float(shared == box)
        return int(np.count_nonzero(self._own_voxels(row, shared, seen))) / self.voxels(row)

    def mask(self, row: int, window: Window) -> NDArray[np.bool_]:
        """True at the voxels of an object; the window's shape."""
        mask = np.zeros(window.shape, bool)
        region = window.intersection(self.box(row))
        if region.size:
            placement = region.shifted([-a for a in window.start]).slices
            mask[placement] = self._own_voxels(row, region, {})
        return mask

    def _own_voxels(self, row: int, region: Window, seen: Seen) -> NDArray[np.bool_]:
        """The voxels of an object in a part of its box: those of its value that belong to no other object."""
        rows, label = self._rows, int(self._rows.label[row])
        if self._is_box(label):
            return np.ones(region.shape, bool)
        mask: NDArray[np.bool_] = self._values(label, region, seen) == rows.value[row]
        rivals = self._rivals(row)
        others = rivals[boxes_in_window(rows.start[rivals], rows.stop[rivals], region)]
        if not len(others):
            return mask
        able = np.append(others, row)
        parts, _ = ndimage.label(mask, np.ones((3,) * mask.ndim))
        for number, at in enumerate(ndimage.find_objects(parts), start=1):
            # Voxels that touch each other belong to one object; it is known when one box only can hold them.
            start = np.array(region.start) + [s.start for s in at]
            holds = (rows.start[able] <= start).all(1) & (rows.stop[able] >= start + parts[at].shape).all(1)
            owners = able[holds].tolist()
            if owners == [row]:
                continue
            first = np.argwhere(parts[at] == number)[0] + start
            if self._owner(sorted(owners, key=lambda o: self.box(o).size), first) != row:
                mask[at][parts[at] == number] = False
        return mask

    def _is_box(self, label: int) -> bool:
        """True when the objects of a label volume are boxes without a mask."""
        return label < 0 or isinstance(self.case.case.labels[self.labels[label]].index, BoxIndex)

    def _rivals(self, row: int) -> NDArray[np.intp]:
        """Other objects of the same value in the same label volume."""
        rows, own = self._rows, self.own
        same = (rows.label[own] == rows.label[row]) & (rows.value[own] == rows.value[row]) & (own != row)
        rivals: NDArray[np.intp] = own[same]
        return rivals

    def _owner(self, owners: list[int], voxel: NDArray[np.int64]) -> int:
        """Which of the objects, the smallest first, holds a voxel; the largest when no other does."""
        for owner in owners[:-1]:
            component = self._component(owner)
            if component[tuple(voxel - self.box(owner).start)]:
                return owner
        return owners[-1]

    def _component(self, row: int) -> NDArray[np.bool_]:
        """The connected component that is an object, over its box: it alone fills the box and has as many voxels."""
        box, rows = self.box(row), self._rows
        parts, _ = ndimage.label(
            self._values(int(rows.label[row]), box, {}) == rows.value[row], np.ones((3,) * box.ndim)
        )
        sizes = np.bincount(parts.ravel())
        found = [
            number
            for number, at in enumerate(ndimage.find_objects(parts), start=1)
            if parts[at].shape == box.shape and sizes[number] == self.voxels(row)
        ]
        rivals = self._rivals(row)
        twins = (rows.start[rivals] == box.start).all(1) & (rows.stop[rivals] == box.stop).all(1)
        twins &= (rows.voxels[rivals] == rows.voxels[row]) & (rows.number[rivals] < rows.number[row])
        rank = int(twins.sum())
        if rank >= len(found):
            raise SamplingError(
                f"label volume {self.labels[rows.label[row]]!r} of case {self.record.name!r} does not hold the object "
                "that the catalogue lists",
                got=f"no component of {self.voxels(row)} voxels that fills {box.start} … {box.stop}",
                hint="run `ndvol verify`, or import the case again",
                case=self.record.name,
            )
        return np.asarray(parts == found[rank])

    def _values(self, label: int, window: Window, seen: Seen) -> NDArray[Any]:
        """Values of a label volume at a window inside the volume, over all axes."""
        if label in seen and seen[label][0].intersection(window) == window:
            box, values = seen[label]
            return values[window.shifted([-a for a in box.start]).slices]
        placed = place_label(self.case.case, self.labels[label], self.case.grid)
        own = placed.volume.read(placed.window(window))
        missing = [i for i in range(window.ndim) if i not in placed.positions]
        return np.broadcast_to(np.expand_dims(own, missing), window.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Reads:
    """What a sampler reads of every case, and knows of it.

    Attributes
    ----------
    axes : of the windows.
    images, labels : names of the volumes.
    examined : by case as in `CaseRecord`; kept for all cases, because each question to the catalogue takes time.
    """

    axes: str
    images: tuple[str, ...]
    labels: tuple[str, ...]
    examined: tuple[tuple[str, ...] | None, ...]


class OpenCases:
    """The last `OPEN_CASES` cases that were read, opened and aligned; a pickle carries none of them.

    It is the `CaseSource` of the sampler's cohort.
    """

    def __init__(self, catalog: Catalog, reads: Reads, rows: ObjectRows) -> None:
        self._catalog, self._reads, self._rows = catalog, reads, rows
        self._names = tuple(catalog)
        order = np.lexsort((rows.number, rows.case))
        ends = np.searchsorted(rows.case[order], np.arange(len(self._names) + 1))
        self._order, self._ends = order, ends
        # Cases of one kind name the same categories: thousands share one set.
        self._closures: dict[tuple[str, ...], frozenset[int]] = {}
        self.open = lru_cache(OPEN_CASES)(self._open)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "open"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.open = lru_cache(OPEN_CASES)(self._open)

    def index(self, case: int, label: int) -> VoxelIndex:
        """See `CaseSource`."""
        return self.open(case).index(label)

    def object_mask(self, case: int, number: int, window: Window) -> NDArray[np.bool_]:
        """See `CaseSource`."""
        opened = self.open(case)
        return opened.mask(opened.row(number), window)

    def object_voxels(self, case: int, number: int) -> int:
        """See `CaseSource`."""
        opened = self.open(case)
        return opened.voxels(opened.row(number))

    def check_right_angles(self, case: int) -> None:
        """See `CaseSource`."""
        direction = self.open(case).case.grid.direction
        cosines = np.abs(direction.T @ direction - np.eye(len(direction)))
        if cosines.max(initial=0.0) > RIGHT_ANGLE:
            raise SamplingError(
                f"the axes of case {self._names[case]!r} are not at right angles, so mm do not add up along them",
                got=f"a cosine of {cosines.max():.3g}",
                hint="leave min_distance_mm and hard out, or the case",
                code="oblique-axes",
                case=self._names[case],
            )

    def examined(self, case: int) -> frozenset[int]:
        """See `CaseSource`."""
        names = self._reads.examined[case]
        if names is None:
            # A catalogue that does not say: what the label volumes name was looked for.
            labels = self._catalog[self._names[case]].labels.values()
            names = tuple(sorted({name for label in labels for name in label.categories.values()}))
        if names not in self._closures:
            self._closures[names] = examined_categories(self._catalog.categories, names)
        return self._closures[names]

    def _own(self, case: int) -> NDArray[np.intp]:
        return self._order[self._ends[case] : self._ends[case + 1]]

    def _open(self, case: int) -> OpenCase:
        record = self._catalog.record(self._names[case])
        opened = self._catalog[record.name]
        aligned = align(opened, self._reads.axes, self._reads.images, self._reads.labels)
        return OpenCase(aligned, record, self._rows, self._own(case))
