"""Where to look at a case: the voxel that the planes of its pictures go through."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ndvol.catalog import CaseRecord, Objects
from ndvol.geometry import Window
from ndvol.volumes import Case, LabelVolume, Volume


def labels_on(case: Case, image: Volume) -> tuple[LabelVolume, ...]:
    """The label volumes that lie on the grid of an image, and have no axis that it lacks."""
    return tuple(
        label for label in case.labels.values() if set(label.axes) <= set(image.axes) and label.grid.matches(image.grid)
    )


def place_to_look(record: CaseRecord, case: Case, image: Volume) -> tuple[int, ...]:
    """A voxel of `image` whose planes show the most categories: in the middle of an object, else of the volume.

    Of the largest object of each category that one is taken whose three planes meet objects of most categories, the
    larger where several do. Reads one plane of one label volume, and no more of it than the object's box.
    """
    middle = tuple(n // 2 for n in image.shape)
    names = [label.name for label in labels_on(case, image)]
    objects = record.objects
    # The last entry is that of objects without a label volume, whose number is -1.
    usable = np.flatnonzero(np.array([*(name in names for name in record.labels), False])[objects.label])
    # Boxes are over the first image's axes; another image may have others.
    if not len(usable) or image.axes != record.axes:
        return middle
    best = _most_telling(objects, usable, [i for i, a in enumerate(image.axes) if a in "zyx"])
    return _into(case.labels[record.labels[objects.label[best]]], image, objects, best)


def _most_telling(objects: Objects, usable: NDArray[np.intp], spatial: list[int]) -> int:
    order = usable[np.argsort(-objects.voxels[usable], kind="stable")]
    largest = order[np.unique(objects.category[order], return_index=True)[1]]
    centres = (objects.start[largest] + objects.stop[largest] - 1) // 2
    scores = []
    for centre in centres[:, spatial]:
        met = (objects.start[usable][:, spatial] <= centre) & (centre < objects.stop[usable][:, spatial])
        scores.append(sum(len(np.unique(objects.category[usable][met[:, k]])) for k in range(len(spatial))))
    best = max(range(len(largest)), key=lambda k: (scores[k], int(objects.voxels[largest[k]]), -k))
    return int(largest[best])


def _into(label: LabelVolume, image: Volume, objects: Objects, number: int) -> tuple[int, ...]:
    """The middle of an object's box, moved within its plane to the nearest voxel of the object if there is one."""
    start, stop = objects.start[number], objects.stop[number]
    centre = (start + stop - 1) // 2
    kept = [image.axes.index(a) for a in label.axes]
    low, high = start[kept].copy(), stop[kept].copy()
    for k, axis in enumerate(label.axes):
        if axis not in "yx":
            low[k], high[k] = centre[kept][k], centre[kept][k] + 1
    found = np.argwhere(label.read(Window.between(low, high)) == objects.value[number]) + low
    if len(found):
        centre[kept] = found[np.abs(found - centre[kept]).sum(1).argmin()]
    return tuple(centre.tolist())
