"""Sample: what was read at a target, with everything needed to understand it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import index as as_int
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import OptionError, SamplingError
from ndvol.geometry import Grid, Window
from ndvol.geometry.indexing import PadMode, check_pad_mode
from ndvol.sampling.options import check_share, chosen_names
from ndvol.sampling.target import Target
from ndvol.sampling.tiles import sample_html


@dataclass(frozen=True, slots=True)
class Reading:
    """How windows become samples.

    Attributes
    ----------
    fill_value : of image voxels outside the volume; labels are 0 there.
    pad_mode : ``constant``; or ``edge``, ``reflect``: images and labels repeat their own voxels outside the volume.
    pad : context in voxels that is added on both sides after a window was drawn; a number for all axes that the
        sampler's window gives a length for, or one per such axis.
    visible_thresh : in [0, 1]; an object is among a sample's annotations when the share of its voxels inside the
        window is more than 0 and at least this. Where there is no mask its box counts.
    touching : without a threshold, an object is also among them when its box merely touches the window, or shares
        no voxel of the object with it: ndsampler's rule.
    images : names of the images to read, by default those of the first case; windows are in the first one's grid.
    labels : names of the label volumes to read, by default all that any case has.

    >>> Reading(pad=[1, 2]).pad
    (1, 2)
    """

    fill_value: float = 0
    pad_mode: PadMode = "constant"
    pad: int | tuple[int, ...] = 0
    visible_thresh: float = 0.0
    touching: bool = False
    images: Sequence[str] | None = None
    labels: Sequence[str] | None = None

    def __post_init__(self) -> None:
        for what in ("images", "labels"):
            if (names := getattr(self, what)) is not None:
                object.__setattr__(self, what, chosen_names(what, names))
        check_pad_mode(self.pad_mode)
        check_share("visible_thresh", self.visible_thresh)
        try:
            one = isinstance(self.pad, int | np.integer)
            pad = as_int(self.pad) if one else tuple(as_int(p) for p in self.pad)  # type: ignore[union-attr, arg-type]
        except TypeError:
            raise OptionError("pad must be a whole number of voxels, or one per axis", got=repr(self.pad)) from None
        if min((pad,) if isinstance(pad, int) else pad, default=0) < 0:
            raise OptionError("pad cannot be negative", got=self.pad)
        object.__setattr__(self, "pad", pad)


@dataclass(frozen=True, slots=True)
class ObjectInWindow:
    """An annotated object that a window sees.

    Attributes
    ----------
    category : name.
    box : relative to the patch and unclipped, so it may leave the patch on any side.
    label, value : the label volume that holds it ("" when there is none) and its value there.
    voxels : of the whole object, inside and outside the window.
    visible : share of its voxels, or of its box where there is no mask, inside the window; 1.0 when it is whole.
    object : position among the objects of the case's record.
    """

    category: str
    box: Window
    label: str
    value: int
    voxels: int
    visible: float
    object: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where the patch of a volume lies that is on another grid than the sampler's first image.

    Attributes
    ----------
    grid : of the patch, over the volume's own axes; its affine is that of the patch's voxel 0.
    valid : the part of the patch that lies in that volume.
    """

    grid: Grid
    valid: Window


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The answer to a target; the arrays belong to the caller.

    Attributes
    ----------
    images : patches by name, in the images' own types. A patch has the window's shape; axes t and c that only
        that image lacks are missing, and those that the window does not have (colours of a picture) are whole. An
        image on another grid gives its own voxels: the smallest box that holds the window, see `places`.
    labels : integer patches by name, 0 outside the volume; a label volume that the case does not have is left
        out: "not annotated" is not "background".
    grid : of the patch, over the window's axes; its affine is that of the patch's voxel 0.
    valid : the part of the patch that lies in the volume; the rest is padding.
    annotations : the objects that the window sees, see `Reading.visible_thresh`.
    target : what was asked for.
    places : by ``images/<name>`` or ``labels/<name>``, where the patches of volumes on other grids lie.
    """

    images: Mapping[str, NDArray[Any]]
    labels: Mapping[str, NDArray[Any]]
    grid: Grid
    valid: Window
    annotations: tuple[ObjectInWindow, ...]
    target: Target
    places: Mapping[str, Place] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        return sample_html(self)

    def check_one_grid(self) -> None:
        """Raise `SamplingError` unless all patches lie on one grid."""
        if self.places:
            raise SamplingError(
                f"case {self.target.case!r} has volumes on several grids, which cannot be put together",
                got=f"{', '.join(self.places)} apart from the first image",
                hint="they are not resampled: leave some out with Reading(images=..., labels=...), or take the "
                "samples of VolumeSampler itself",
                code="other-grid",
                case=self.target.case,
            )


def boxes_in_window(
    start: NDArray[np.int64], stop: NDArray[np.int64], window: Window, *, touching: bool = False
) -> NDArray[np.intp]:
    """Positions of the half-open boxes, as (n, axes) columns, that share at least one voxel with `window`.

    Parameters
    ----------
    touching : boxes count as well that only share a face, an edge or a corner with it.

    >>> boxes_in_window(np.array([[0], [3], [5]]), np.array([[3], [5], [9]]), Window((3,), (2,)))
    array([1])
    """
    low = np.maximum(start, window.start)
    high = np.minimum(stop, window.stop)
    return np.flatnonzero((low <= high if touching else low < high).all(1))
