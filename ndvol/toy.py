"""Toy catalogues in memory: any axes, categories and number of objects, moving along time; nothing is written.

For the toy files that the importer reads see `ndvol.demo`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.catalog import CaseRecord, Catalog, Objects
from ndvol.categories import CategoryTree
from ndvol.errors import OptionError
from ndvol.geometry import Grid
from ndvol.sampler import VolumeSampler
from ndvol.sampling import Mix, Negative, Positive, Strategy
from ndvol.store.objects import find_objects
from ndvol.volumes import ArrayLabelSource, ArraySource, Case, LabelVolume, Volume

SHAPES = {"t": 4, "c": 3, "z": 24, "y": 64, "x": 64}
NOISE = 18.0
"""Standard deviation of the intensities, in units of which a category's mean is at least 5 apart from the next."""
_CONTRAST = 100.0
_TREE = (
    {"name": "finding"},
    {"name": "lesion", "supercategory": "finding"},
    {"name": "cyst", "supercategory": "lesion"},
    {"name": "tumor", "supercategory": "lesion"},
    {"name": "calcification", "supercategory": "finding"},
)


@dataclass(frozen=True, slots=True)
class ToyOptions:
    """What a toy case looks like.

    Attributes
    ----------
    axes : of the image, some of ``tczyx`` in that order; labels have no c.
    shape : voxels per axis; by default those of `SHAPES`.
    categories : kwcoco category dictionaries; objects are of those without children. A number makes that many, all on
        one level.
    objects : fewest and most ellipsoids per case; along t each moves with a speed of its own.
    """

    axes: str = "zyx"
    shape: tuple[int, ...] = ()
    categories: Sequence[Mapping[str, Any]] | int = _TREE
    objects: tuple[int, int] = (3, 8)

    def __post_init__(self) -> None:
        if not set(self.axes) & set("zyx") or "".join(a for a in "tczyx" if a in self.axes) != self.axes:
            raise OptionError(
                "no axes of a toy", got=self.axes, expected="some of tczyx in that order, one of them zyx"
            )
        if self.shape and (len(self.shape) != len(self.axes) or min(self.shape) < 1):
            raise OptionError(
                "the shape does not fit the axes", got=self.shape, expected=f"one size for each of {self.axes}"
            )
        if not 0 <= self.objects[0] <= self.objects[1]:
            raise OptionError("no range of objects", got=self.objects, expected="fewest, most")

    @property
    def sizes(self) -> dict[str, int]:
        """Voxels by axis."""
        return dict(zip(self.axes, self.shape or [SHAPES[a] for a in self.axes], strict=True))

    @property
    def tree(self) -> CategoryTree:
        rows = self.categories
        return CategoryTree.from_coco([{"name": f"kind-{i}"} for i in range(rows)] if isinstance(rows, int) else rows)


def toy_catalog(cases: int = 8, options: ToyOptions = ToyOptions(), *, seed: int = 0) -> Catalog:
    """A catalogue of toy cases, each a function of the seed and its number; a case is made again when it is opened.

    >>> catalog = toy_catalog(2, ToyOptions("tyx", categories=3), seed=1)
    >>> case = catalog["toy-0"]
    >>> case.images["image"].axes, case.images["image"].shape, case.labels["objects"].categories
    ('tyx', (4, 64, 64), {1: 'kind-0', 2: 'kind-1', 3: 'kind-2'})
    """
    tree = options.tree
    open_case = ToyOpener(options, seed)
    records = []
    for number in range(cases):
        case = open_case.make(number)
        image, label = case.images["image"], case.labels["objects"]
        table = find_objects(label[...])
        leaf = [tree.index(label.categories[value]) for value in table[:, 0].tolist()]
        start, stop = np.zeros((len(table), image.ndim), np.int64), np.tile(np.array(image.shape), (len(table), 1))
        at = [image.axes.index(a) for a in label.axes]
        start[:, at], stop[:, at] = table[:, 2 : 2 + label.ndim], table[:, 2 + label.ndim :]
        zero = np.zeros(len(table), np.int64)
        objects = Objects(np.array(leaf, np.int64), zero, table[:, 0], start, stop, table[:, 1])
        grid = image.grid
        facts = (grid.axes, grid.shape, grid.spacing, grid.unit, ("image",), ("objects",))
        records.append(CaseRecord(case.name, "", *facts, objects))
    return Catalog(records, tree, open_case, path="toy")


class DynamicToySampler(VolumeSampler):
    """Samples without files: a `VolumeSampler` of toy cases that are made when they are drawn from.

    Parameters
    ----------
    window : as for `VolumeSampler`.
    options, cases, seed : as for `toy_catalog`.
    strategy : positive and negative windows in turn of chance by default.
    length : samples per epoch.

    >>> sampler = DynamicToySampler((32, 32), options=ToyOptions("yx"), cases=2)
    >>> sampler[0].images["image"].shape, sampler.load_positive(0).target.role
    ((32, 32), 'positive')
    """

    def __init__(
        self,
        window: Sequence[int],
        *,
        options: ToyOptions = ToyOptions(),
        cases: int = 16,
        strategy: Strategy | None = None,
        seed: int = 0,
        length: int = 100_000,
    ) -> None:
        drawn = strategy or Mix({Positive(): 1, Negative(): 1})
        super().__init__(toy_catalog(cases, options, seed=seed), window, strategy=drawn, seed=seed, length=length)


@dataclass(frozen=True, slots=True)
class ToyOpener:
    """Makes the case behind a record of `toy_catalog`; picklable."""

    options: ToyOptions
    seed: int

    def __call__(self, record: CaseRecord) -> Case:
        return self.make(int(record.name.rpartition("-")[2]))

    def make(self, number: int) -> Case:
        """Toy case `number`."""
        rng = np.random.default_rng((self.seed, number))
        sizes, tree = self.options.sizes, self.options.tree
        leaves = [name for name in tree if not tree.descendants(name)]
        labels = _ellipsoids(rng, {a: n for a, n in sizes.items() if a != "c"}, len(leaves), self.options.objects)
        label_axes = self.options.axes.replace("c", "")
        means = _CONTRAST * np.arange(len(leaves) + 1)
        values = means[labels]
        if "c" in sizes:
            channel = 1 + np.arange(sizes["c"])
            place = self.options.axes.index("c")
            values = np.expand_dims(values, place) * channel.reshape([-1 if a == "c" else 1 for a in self.options.axes])
        values = values + rng.normal(0, NOISE, values.shape)
        spacing = {"z": 2.5, "y": 0.75, "x": 0.75}
        image = _grid(self.options.axes, values.shape, spacing)
        categories = dict(enumerate(leaves, start=1))
        label = LabelVolume(
            "objects", _grid(label_axes, labels.shape, spacing), ArrayLabelSource(labels), categories=categories
        )
        source = ArraySource(values.round().astype(np.int16))
        return Case(f"toy-{number}", {"image": Volume("image", image, source)}, {"objects": label})


def _ellipsoids(
    rng: np.random.Generator, sizes: Mapping[str, int], kinds: int, objects: tuple[int, int]
) -> NDArray[np.uint8]:
    """Labels 1 … `kinds` as ellipsoids of 4 to 12 % of the volume, later ones on top; they move along t."""
    labels = np.zeros(tuple(sizes.values()), np.uint8)
    index = dict(zip(sizes, np.indices(labels.shape, sparse=True), strict=True))
    for _ in range(int(rng.integers(objects[0], objects[1] + 1))):
        distance = np.zeros((1,) * labels.ndim)
        for axis in (a for a in sizes if a != "t"):
            n = sizes[axis]
            radius = max(1.0, n * rng.uniform(0.04, 0.12))
            centre = rng.uniform(0, n - 1) + rng.uniform(-0.05, 0.05) * n * index.get("t", 0)
            distance = distance + ((index[axis] - centre) / radius) ** 2
        labels[np.broadcast_to(distance <= 1, labels.shape)] = rng.integers(1, kinds + 1)
    return labels


def _grid(axes: str, shape: tuple[int, ...], spacing: Mapping[str, float]) -> Grid:
    return Grid.regular(axes, shape, spacing=tuple(spacing[a] for a in axes if a in spacing))
