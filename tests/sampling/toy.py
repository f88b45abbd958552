"""Small catalogues and cohorts in memory, picklable by module functions and classes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from scipy import ndimage

from ndvol.catalog import CaseRecord, Catalog, Objects
from ndvol.categories import CategoryTree
from ndvol.geometry import Grid, Window, start_range
from ndvol.sampling import Cohort, ObjectRows, examined_categories
from ndvol.store.objects import find_objects
from ndvol.volumes import ArrayLabelSource, ArraySource, Case, LabelVolume, Volume

TREE = CategoryTree.from_coco(
    [
        {"name": "organ"},
        {"name": "liver", "supercategory": "organ"},
        {"name": "kidney", "supercategory": "organ"},
        {"name": "lesion"},
        {"name": "cyst", "supercategory": "lesion"},
        {"name": "tumour", "supercategory": "lesion"},
        {"name": "never"},
    ]
)
VALUES = {1: "liver", 2: "kidney", 3: "lesion", 4: "cyst", 5: "tumour"}
AXES = {1: "x", 2: "yx", 3: "zyx", 4: "tzyx"}


def values_of(category: str) -> set[int]:
    """The values of `category` and of its descendants, without the tree's numbering."""
    return {v for v, name in VALUES.items() if name == category or category in TREE.ancestors(name)}


def chunk_of(array: np.ndarray) -> tuple[int, ...]:
    """A chunk so small that even toys have several."""
    return (2,) * array.ndim


@dataclass(frozen=True)
class Toy:
    """The arrays of one case; axes follow from the number of dimensions unless given."""

    images: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    axes: str = ""
    origin: tuple[float, ...] | None = None
    examined: tuple[str, ...] | None = tuple(VALUES.values())
    policy: str = "category"


class Opener:
    """What a catalogue calls to open a case; counts its calls."""

    def __init__(self, cases: Mapping[str, Toy]) -> None:
        self.cases = dict(cases)
        self.calls = 0

    def __call__(self, record: CaseRecord) -> Case:
        self.calls += 1
        toy = self.cases[record.name]
        images = {n: Volume(n, grid_of(a, toy), ArraySource(a)) for n, a in toy.images.items()}
        labels = {
            n: LabelVolume(n, grid_of(a, toy), ArrayLabelSource(a, chunk_of(a)), categories=VALUES)
            for n, a in toy.labels.items()
        }
        return Case(record.name, images, labels)


def grid_of(array: np.ndarray, toy: Toy) -> Grid:
    axes = (toy.axes or AXES[array.ndim])[-array.ndim :]
    spatial = [a for a in axes if a in "zyx"]
    return Grid.regular(axes, array.shape, spacing=(2.0,) * len(spatial), origin=toy.origin)


def objects_of(shape: tuple[int, ...], labels: Mapping[str, np.ndarray], policy: str = "category") -> Objects:
    """The objects of label volumes in the axes of an image of `shape`."""
    rows = []
    for number, array in enumerate(labels.values()):
        n, extra = array.ndim, len(shape) - array.ndim
        for value, voxels, *box in find_objects(array, policy).tolist():
            start = [*[0] * extra, *box[:n]][-len(shape) :]
            stop = [*shape[: max(0, extra)], *box[n:]][-len(shape) :]
            rows.append([TREE.index(VALUES[value]), number, value, voxels, *start, *stop])
    n = len(shape)
    table = np.array(rows, np.int64).reshape(-1, 4 + 2 * n)
    return Objects(table[:, 0], table[:, 1], table[:, 2], table[:, 4 : 4 + n], table[:, 4 + n :], table[:, 3])


def object_masks(labels: Sequence[np.ndarray], policy: str = "category") -> list[np.ndarray]:
    """The voxels of each object, in the order of `objects_of`, by labelling the whole array."""
    masks = []
    for array in labels:
        for value in np.unique(array[array != 0]):
            parts, count = ndimage.label(array == value, np.ones((3,) * array.ndim))
            found = [parts == k for k in range(1, count + 1)] if policy == "component" else [array == value]
            masks += found
    return masks


def catalog_of(cases: Mapping[str, Toy]) -> Catalog:
    records = []
    for name, toy in cases.items():
        first = next(iter(toy.images.values()))
        grid = grid_of(first, toy)
        records.append(
            CaseRecord(
                name=name,
                path="",
                axes=grid.axes,
                shape=grid.shape,
                spacing=grid.spacing,
                unit=grid.unit,
                images=tuple(toy.images),
                labels=tuple(toy.labels),
                objects=objects_of(grid.shape, toy.labels, toy.policy),
                examined=toy.examined if toy.labels else (),
            )
        )
    return Catalog(records, TREE, Opener(cases))


def random_labels(rng: np.random.Generator, shape: Sequence[int], share: float = 0.3) -> np.ndarray:
    """Labels of which about `share` is not background."""
    values = rng.integers(1, 1 + len(VALUES), shape)
    return np.where(rng.random(shape) < share, values, 0).astype(np.uint8)


class ArrayCases:
    """A `CaseSource` of arrays."""

    def __init__(self, cases: Sequence[Sequence[np.ndarray]], policy: str, examined: Sequence[Sequence[str]]) -> None:
        self.sources = [[ArrayLabelSource(a, chunk_of(a)) for a in labels] for labels in cases]
        self.masks = [object_masks(labels, policy) for labels in cases]
        self.names = examined

    def index(self, case, label):
        return self.sources[case][label].label_index()

    def object_mask(self, case, number, window):
        mask, whole = np.zeros(window.shape, bool), self.masks[case][number]
        clip = window.clip(whole.shape)
        mask[clip.placement] = whole[clip.inside]
        return mask

    def object_voxels(self, case, number):
        return int(self.masks[case][number].sum())

    def check_right_angles(self, case):
        pass

    def examined(self, case):
        return examined_categories(TREE, self.names[case])


def cohort_of(
    cases: Sequence[Sequence[np.ndarray]],
    shapes: Sequence[tuple[int, ...]] | None = None,
    *,
    policy: str = "category",
    spacing: Sequence[Sequence[float]] | None = None,
    examined: Sequence[Sequence[str]] | None = None,
) -> Cohort:
    """A cohort of arrays: per case its label volumes, none for a case that nobody examined."""
    shapes = shapes or [labels[0].shape for labels in cases]
    tables = [objects_of(s, {str(k): a for k, a in enumerate(c)}, policy) for s, c in zip(shapes, cases, strict=True)]
    names = ("category", "label", "value", "voxels", "start", "stop")
    return Cohort(
        tree=TREE,
        names=tuple(f"case-{i}" for i in range(len(cases))),
        shapes=np.array(shapes, np.int64),
        spacing=np.array(spacing or [(2.0,) * len(s) for s in shapes]),
        objects=ObjectRows.gather(
            **{name: np.concatenate([getattr(table, name) for table in tables]) for name in names},
            case=np.repeat(np.arange(len(cases)), [len(table) for table in tables]),
            number=np.concatenate([np.arange(len(table)) for table in tables]),
        ),
        cases=ArrayCases(cases, policy, examined or [tuple(VALUES.values()) if labels else () for labels in cases]),
        label_names=tuple(tuple(f"label-{k}" for k in range(len(labels))) for labels in cases),
    )


def all_windows(shape: Sequence[int], window: Sequence[int]) -> list[Window]:
    """Every window position in a volume, by plain loops."""
    low, stop = start_range(shape, window)
    return [Window(start, tuple(window)) for start in product(*map(range, low, stop))]


def marked_inside(labels: Sequence[np.ndarray], values: set[int], window: Window) -> int:
    """Voxels of `window` at which any label volume has one of `values`, by plain indexing."""
    union = np.zeros(labels[0].shape, bool)
    for array in labels:
        union |= np.isin(array, sorted(values))
    return int(union[window.clip(union.shape).inside].sum())
