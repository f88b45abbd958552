"""CocoRegions: where the objects of a kwcoco data set are, and where there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from operator import index as as_int
from typing import Any

import kwarray
import kwimage
import numpy as np
from numpy.typing import NDArray

from ndvol.catalog.dataset import classes_of
from ndvol.coco.annotations import Annotations
from ndvol.coco.frame import Frame
from ndvol.coco.frames import Frames
from ndvol.coco.grids import GridMaker, grid_options
from ndvol.coco.lattice import CENTRES, Lattice
from ndvol.coco.negatives import ANCHORS, Negatives
from ndvol.errors import OptionError, SamplingError
from ndvol.geometry import Window


class MissingNegativePool(SamplingError, AssertionError):
    """A negative was asked for by number, but `CocoRegions.preselect` has not chosen any."""

    code = "missing-negative-pool"


class CocoRegions:
    """The annotations of a kwcoco data set as regions to sample from.

    Positives are all annotations with a category; one without a box covers its whole image. Everything is worked
    out from the data set as it is when it is first needed.
    """

    def __init__(self, dset: Any, frames: Frames, annotations: Annotations, *, touching: bool = False) -> None:
        self.dset, self.touching = dset, touching
        self._frames, self._annotations = frames, annotations
        self._aids: NDArray[np.int64] | None = None
        self._chosen: NDArray[np.int64] | None = None
        self._pool: list[dict[str, Any]] | None = None
        self._next = 0
        self._negatives: dict[tuple[object, ...], Negatives] = {}
        self.classes = classes_of(dset)
        self.BACKGROUND_CLASS_ID = _background_id(dset)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_negatives": {}}

    @property
    def catgraph(self) -> Any:
        """The old name of `classes`."""
        return self.classes

    @property
    def n_positives(self) -> int:
        return len(self._positives())

    @property
    def n_negatives(self) -> int:
        return len(self._pool or ())

    @property
    def n_samples(self) -> int:
        return self.n_positives + self.n_negatives

    @property
    def n_annots(self) -> int:
        return len(self.dset.anns)

    @property
    def n_images(self) -> int:
        return len(self.dset.imgs)

    @property
    def n_categories(self) -> int:
        return len(self.dset.cats)

    @property
    def class_ids(self) -> list[int]:
        return list(self.dset.cats)

    @property
    def image_ids(self) -> list[int]:
        return sorted(self.dset.imgs)

    def lookup_class_name(self, class_id: int) -> str:
        return str(self.dset.cats[class_id]["name"])

    def lookup_class_id(self, class_name: str) -> int:
        return int(self.dset.name_to_cat[class_name]["id"])

    @property
    def targets(self) -> Any:
        """All positives as a `kwarray.DataFrameArray`: aid, gid, category_id, cx, cy, width, height, img_width,
        img_height. The numbers are float64; those of a case are the projection of its object on x and y."""
        rows = [self._row(int(aid)) for aid in self._all()]
        names = ("aid", "gid", "category_id", "cx", "cy", "width", "height", "img_width", "img_height")
        return kwarray.DataFrameArray({name: np.array([row[name] for row in rows]) for name in names})

    def overlapping_aids(
        self, gid: int, region: Any, visible_thresh: float = 0.0, touching: bool | None = None
    ) -> list[int]:
        """Ids of the annotations of an image that a region sees, in order.

        Parameters
        ----------
        region : a `kwimage.Boxes` of one box, slices over the image's axes, or a `Window`. Boxes that are no
            integers are widened to whole voxels; along z and t they take everything.
        visible_thresh : smallest share of an object that must lie in the region; 1 keeps what lies in it wholly.
        touching : ndsampler's rule, by which a common border is enough; the sampler's by default.
        """
        frame = self._frames.outline(gid)
        seen = self._annotations.seen(
            frame,
            _region(region, frame),
            visible_thresh=visible_thresh,
            touching=self.touching if touching is None else touching,
        )
        found: list[int] = seen.tolist()
        return found

    def get_segmentations(self, aids: Sequence[int]) -> list[Any]:
        """The polygons of annotations; None for those without."""
        drawn = [(self.dset.anns[aid].get("segmentation"), self.dset.anns[aid]["image_id"]) for aid in aids]
        return [s and kwimage.MultiPolygon.coerce(s, dims=self._frames.size(gid)) for s, gid in drawn]

    def get_positive(self, index: int | None = None, rng: Any = None) -> dict[str, Any]:
        """The target of positive number `index`, or of a random one, each with the same probability."""
        aids = self._positives()
        if not len(aids):
            raise SamplingError("there are no positives", hint="the data set has no annotation with a category")
        number = int(rng_of(rng).integers(len(aids))) if index is None else as_int(index)
        return self._row(int(aids[number]))

    def get_negative(self, index: int | None = None, rng: Any = None) -> dict[str, Any]:
        """The target of negative number `index` of the preselected ones; the next one of them, or a new one, if None.

        Raises
        ------
        MissingNegativePool : for an index before `preselect`.
        IndexError : past their end.
        """
        if index is not None:
            if self._pool is None:
                raise MissingNegativePool(f"there is no negative {index}", hint="call preselect(n_neg=…) first")
            return dict(self._pool[as_int(index)])
        if not self._pool:
            return self._draw_negatives(1, None, 0.0, rng)[0]
        found = self._pool[self._next]
        self._next = (self._next + 1) % len(self._pool)
        return dict(found)

    def get_item(self, index: int | None, rng: Any = None) -> dict[str, Any]:
        """Positives first, then the preselected negatives."""
        number = int(rng_of(rng).integers(self.n_samples)) if index is None else as_int(index)
        if number < self.n_positives:
            return self.get_positive(number)
        return self.get_negative(number - self.n_positives)

    def preselect(
        self,
        n_pos: int | None = None,
        n_neg: int | None = None,
        neg_to_pos_ratio: float | None = None,
        window_dims: Sequence[int] | None = None,
        rng: Any = None,
        verbose: int = 0,
        *,
        max_overlap: float = 0.0,
    ) -> tuple[int, int]:
        """Choose positives and negatives, which `load_item` then numbers; returns how many of each.

        Parameters
        ----------
        n_pos : that many of all positives, none twice; all when None or when there are no more.
        n_neg, neg_to_pos_ratio : number of negatives, or per positive; only one of them.
        window_dims : size of the negatives; sizes of random positives when None.
        max_overlap : share of a negative that may be annotated.
        verbose : accepted, nothing is printed.

        Raises
        ------
        OptionError : for both `n_neg` and `neg_to_pos_ratio`.
        SamplingError : when there is no negative.
        """
        if neg_to_pos_ratio is not None and n_neg is not None:
            raise OptionError("give n_neg or neg_to_pos_ratio", got=(n_neg, neg_to_pos_ratio), expected="one of them")
        generator = rng_of(rng)
        every = np.arange(len(self._all()))
        if n_pos is not None and n_pos < len(every):
            every = np.sort(generator.choice(every, n_pos, replace=False))
        self._chosen = every
        count = int((neg_to_pos_ratio or 0) * len(every)) if n_neg is None else n_neg
        self._pool, self._next = self._draw_negatives(count, window_dims, max_overlap, generator), 0
        return len(every), count

    def new_sample_grid(self, task: str, window_dims: Any, window_overlap: Any = 0, **options: Any) -> dict[str, Any]:
        """Windows that cover every image or video.

        Parameters
        ----------
        task : ``image_detection`` (also for cases, over all their axes) or ``video_detection``.
        window_dims : lengths per axis; None in it, or ``full``, takes the whole axis.
        window_overlap : in [0, 1), one number or one per axis.
        options : of `GridOptions`.

        Returns
        -------
        dict : ``targets``, the numbers of those with an object (``positives_indexes``) and without
            (``negatives_indexes``), and the same as lists (``positives``, ``negatives``). A window larger than the
            image starts at 0 and is padded when it is loaded.
        """
        options.setdefault("touching", self.touching)
        maker = GridMaker(self.dset, self._frames, self._annotations)
        return maker.grid(task, window_dims, window_overlap, grid_options(options))

    def _all(self) -> NDArray[np.int64]:
        """The ids of all annotations that can be positives, in the order of the data set."""
        if self._aids is None:
            found = [a["id"] for a in self.dset.anns.values() if a.get("category_id") is not None]
            self._aids = np.array(found, np.int64)
        return self._aids

    def _positives(self) -> NDArray[np.int64]:
        return self._all() if self._chosen is None else self._all()[self._chosen]

    def _row(self, aid: int) -> dict[str, Any]:
        annotation = self.dset.anns[aid]
        gid = annotation["image_id"]
        height, width = self._frames.outline(gid).shape[-2:]
        row = {"aid": aid, "gid": gid, "category_id": annotation["category_id"]}
        row |= self._annotations.box(aid).keys() | {"img_width": width, "img_height": height}
        facts = annotation.get("ndvol")
        if isinstance(facts, Mapping) and (channels := self._frames.channels_of_label(gid, facts["label"])):
            row["channels"] = channels
        return row

    def _draw_negatives(
        self, count: int, window_dims: Sequence[int] | None, max_overlap: float, rng: Any
    ) -> list[dict[str, Any]]:
        generator = rng_of(rng)
        sizes = [tuple(window_dims)] if window_dims is not None else self._sizes() if count else []
        drawn = []
        for _ in range(count):
            size = sizes[int(generator.integers(len(sizes)))]
            key = (size, max_overlap)
            if key not in self._negatives:
                self._negatives[key] = Negatives(self.dset, self._frames, self._annotations, size, max_overlap)
            drawn.append(self._negative_row(*self._negatives[key].draw(generator)))
        return drawn

    def _sizes(self) -> list[tuple[int, ...]]:
        """Sizes of up to `ANCHORS` positives in whole voxels, the same in every process."""
        aids = self._all()
        if not len(aids):
            raise OptionError("without positives there is no size for negatives", hint="give window_dims")
        some = np.random.default_rng(0).permutation(aids)[:ANCHORS]
        extents = [self._annotations.box(int(aid)).extent for aid in some]
        return [tuple(max(1, ceil(length)) for length in extent.values()) for extent in extents]

    def _negative_row(self, gid: int, window: Window) -> dict[str, Any]:
        frame = self._frames.outline(gid)
        row: dict[str, Any] = {"gid": gid, "aid": -1, "category_id": self.BACKGROUND_CLASS_ID}
        for axis, start, length in zip(frame.axes, window.start, window.shape, strict=True):
            if axis == "t":
                row["time_slice"] = slice(start, start + length)
            else:
                row |= {CENTRES[axis][0]: start + length / 2, CENTRES[axis][1]: length}
        height, width = frame.shape[-2:]
        return row | {"img_width": width, "img_height": height}


def rng_of(rng: Any) -> np.random.Generator:
    """A generator from a seed, a generator, or the old `numpy.random.RandomState`.

    None gives a new one from the system's entropy, so that forked workers never repeat each other.
    """
    if isinstance(rng, np.random.RandomState):
        rng = rng.randint(0, 2**31)
    return np.random.default_rng(rng)


def _background_id(dset: Any) -> int:
    """The id of the category ``background``; 0, or −1 where a real category has that number."""
    named = [c["id"] for c in dset.cats.values() if c["name"] == "background"]
    return int(named[0]) if named else 0 if 0 not in dset.cats else -1


def _region(region: Any, frame: Frame) -> Lattice:
    """A region over the axes of a frame, in whole voxels."""
    if isinstance(region, Window):
        spans = dict(zip(frame.axes, zip(region.start, region.stop, strict=True), strict=True))
    elif isinstance(region, tuple):
        parts = dict(zip(frame.axes, region, strict=True))
        whole = dict(zip(frame.axes, frame.shape, strict=True))
        spans = {a: (p.start or 0, whole[a] if p.stop is None else p.stop) for a, p in parts.items()}
    else:
        edges = np.asarray(kwimage.Boxes.coerce(region).to_ltrb().data, np.float64).reshape(-1, 4)
        if len(edges) != 1:
            raise OptionError("a region is one box", got=f"{len(edges)} boxes")
        x, y = np.floor(edges[0, :2]).astype(int).tolist()
        right, bottom = np.ceil(edges[0, 2:]).astype(int).tolist()
        spans = {a: (0, n) for a, n in zip(frame.axes, frame.shape, strict=True)}
        spans |= {"y": (y, bottom), "x": (x, right)}
    window = Window.between([spans[a][0] for a in frame.axes], [spans[a][1] for a in frame.axes])
    return Lattice(window.start, window.shape, (1,) * window.ndim)
