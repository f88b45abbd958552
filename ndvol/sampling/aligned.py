"""AlignedCase: how a window of a case's reference image reads each of its volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ndvol.errors import SamplingError, UnknownNameError
from ndvol.geometry import Grid, Window
from ndvol.geometry.matching import matching_box
from ndvol.sampling.cohort import VoxelIndex
from ndvol.sampling.indices import Broadcast, project
from ndvol.volumes import Case, LabelVolume, Volume

V = TypeVar("V", bound=Volume)


@dataclass(frozen=True, slots=True, eq=False)
class Placed(Generic[V]):
    """A volume among the axes of a sampler.

    Attributes
    ----------
    volume : of the case.
    positions : per axis of the volume its position among the sampler's axes; None for an axis that the sampler
        does not have, which is always read whole.
    reference : the sampler's grid when the volume lies on another one; None when it lies on that.
    """

    volume: V
    positions: tuple[int | None, ...]
    reference: Grid | None = None

    def window(self, window: Window) -> Window:
        """The window in the volume's own indices: the box that holds it where the volume lies on another grid."""
        spans = [
            (0, n) if p is None else (window.start[p], window.shape[p])
            for p, n in zip(self.positions, self.volume.shape, strict=True)
        ]
        if self.reference is not None:
            box = matching_box(self.reference, project(window, self.reference.spatial), self.volume.grid)
            for axis, span in zip(self.volume.grid.spatial, zip(box.start, box.shape, strict=True), strict=True):
                spans[axis] = span
        return Window(tuple(a for a, _ in spans), tuple(n for _, n in spans))


@dataclass(frozen=True, slots=True, eq=False)
class AlignedCase:
    """A case as a sampler reads it.

    Attributes
    ----------
    case : all its volumes.
    grid : of the first of `images`, over the sampler's axes.
    images, labels : the volumes to read, by name, on the grid or another; a label volume that the case lacks is
        left out.
    """

    case: Case
    grid: Grid
    images: Mapping[str, Placed[Volume]]
    labels: Mapping[str, Placed[LabelVolume]]

    @property
    def volumes(self) -> dict[str, Placed[Any]]:
        """All that is read, by ``images/<name>`` or ``labels/<name>``."""
        images: dict[str, Placed[Any]] = {f"images/{name}": placed for name, placed in self.images.items()}
        return images | {f"labels/{name}": placed for name, placed in self.labels.items()}

    def index(self, label: str) -> VoxelIndex:
        """Where the values of label volume `label` are, in the axes of the sampler.

        Raises
        ------
        SamplingError : when it lies on another grid, or has an axis that the sampler does not have.
        """
        placed = place_label(self.case, label, self.grid)
        positions = tuple(p for p in placed.positions if p is not None)
        index = placed.volume.index
        return index if len(positions) == self.grid.ndim else Broadcast(index, positions, self.grid.shape)


def align(case: Case, axes: str, images: Sequence[str], labels: Sequence[str]) -> AlignedCase:
    """`case` with the named volumes placed about the grid of the first image, over `axes`.

    Raises
    ------
    UnknownNameError : when an image is missing.
    SamplingError : when a volume lies on another grid, and it is not known where that is; by name, with both grids.
    """
    missing = [name for name in images if name not in case.images]
    if missing:
        raise missing_image(case.name, missing, tuple(case.images))
    grid = restrict(case.images[images[0]].grid, axes)
    return AlignedCase(
        case,
        grid,
        {name: place_or_match(case.name, case.images[name], grid) for name in images},
        {name: place_or_match(case.name, case.labels[name], grid) for name in labels if name in case.labels},
    )


def restrict(grid: Grid, axes: str) -> Grid:
    """`grid` without its t and c axes that are not in `axes`."""
    kept = [i for i, a in enumerate(grid.axes) if a in axes or i in grid.spatial]
    names = "".join(grid.axes[i] for i in kept)
    return Grid(names, tuple(grid.shape[i] for i in kept), grid.affine, grid.frame, grid.unit)


def place_or_match(case: str, volume: V, grid: Grid) -> Placed[V]:
    """`volume` about `grid`: on it, or on another grid of the same patient, where windows find their box."""
    lengths = dict(zip(grid.axes, grid.shape, strict=True))
    spatial = [i in volume.grid.spatial for i in range(volume.ndim)]
    same_times = all(s or lengths.get(a, n) == n for s, a, n in zip(spatial, volume.axes, volume.shape, strict=True))
    if fits(volume.grid, grid) or not (volume.grid.frame == grid.frame == "LPS" and same_times):
        return place(case, volume, grid)
    positions = tuple(grid.axes.index(a) if a in grid.axes else None for a in volume.axes)
    return Placed(volume, positions, grid)


def place(case: str, volume: V, grid: Grid) -> Placed[V]:
    """`volume` among the axes of `grid`, whose voxels it must share; it may have or lack t and c."""
    if not fits(volume.grid, grid):
        raise SamplingError(
            f"volume {volume.name!r} of case {case!r} lies on another grid than the sampler's first image",
            got=_summary(volume.grid),
            expected=_summary(grid),
            hint="leave it out with Reading(images=..., labels=...), or resample it before the import; other grids are "
            "read in patient coordinates only, and never judged",
            code="other-grid",
            case=case,
            volume=volume.name,
        )
    return Placed(volume, tuple(grid.axes.index(a) if a in grid.axes else None for a in volume.axes))


def place_label(case: Case, label: str, grid: Grid) -> Placed[LabelVolume]:
    """A label volume among the axes of `grid`; it may lack t and c, but has no axis of its own."""
    placed = place(case.name, case.labels[label], grid)
    if None in placed.positions:
        raise SamplingError(
            f"label volume {label!r} of case {case.name!r} has an axis that the sampler's first image lacks",
            got=placed.volume.axes,
            expected=f"axes of {grid.axes!r}",
            code="other-grid",
            case=case.name,
            volume=label,
        )
    return placed


def fits(grid: Grid, reference: Grid) -> bool:
    """True when both have the same voxels, t and c axes aside that only one of them has."""
    lengths = dict(zip(reference.axes, reference.shape, strict=True))
    same = all(lengths.get(a, n) == n for a, n in zip(grid.axes, grid.shape, strict=True))
    return same and grid.matches(reference)


def missing_image(case: str, missing: Sequence[str], found: Sequence[str]) -> UnknownNameError:
    """The error for a case that lacks an image which the sampler reads."""
    return UnknownNameError(
        f"case {case!r} has no image {', '.join(map(repr, missing))}",
        got=f"images {', '.join(found)}" if found else "no image at all",
        hint="choose images that every case has: Reading(images=...)",
        case=case,
        missing=tuple(missing),
    )


def _summary(grid: Grid) -> str:
    spacing = ", ".join(f"{s:.4g}" for s in grid.spacing)
    origin = ", ".join(f"{v:.4g}" for v in grid.origin)
    return f"axes {grid.axes!r}, shape {grid.shape}, spacing ({spacing}), origin ({origin}), frame {grid.frame}"
