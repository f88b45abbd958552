"""CocoSampler: windows of kwcoco data by ndsampler's target dictionaries."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from operator import index as as_int
from typing import Any, Self

import numpy as np

from ndvol.backends import backend_of
from ndvol.catalog.dataset import coerce_dataset, demo_dataset
from ndvol.coco.annotations import Annotations
from ndvol.coco.answers import Answers, labelled
from ndvol.coco.frames import Frames
from ndvol.coco.keys import known_keys, unknown_key
from ndvol.coco.opened import Volumes
from ndvol.coco.patch import read_patch
from ndvol.coco.picture import IndexedImage
from ndvol.coco.plan import Planner
from ndvol.coco.regions import CocoRegions, rng_of
from ndvol.coco.scene import Scenes
from ndvol.coco.structures import kinds_of
from ndvol.errors import OptionError

_OLD_ARGUMENTS = ("pad", "padkw", "dtype", "nodata")
"""Target keys that ndsampler also takes as arguments of `load_sample`."""


class CocoSampler:
    """ndsampler's sampler, on pictures, videos and ndvol bundles.

    Parameters
    ----------
    dset : a `kwcoco.CocoDataset`; `coerce` takes paths and bundles. It is used as it is when something of it is
        first needed; after an edit make a new sampler.
    workdir : folder for converted pictures.
    backend : how pictures are kept: ``hdf5`` converts each once and then reads chunks of it, ``npy`` maps them
        uncompressed, ``cog`` makes tiled TIFF of them, without loss; what is stored is named by the picture's bytes.
        None reads TIFF in place by the tiles that a window touches, and decodes other pictures as a whole and keeps
        the last ones in memory. ``auto`` is ``hdf5`` with a `workdir`, else None. Cases of a bundle are read in place
        by all of them.
    touching : ndsampler's rule for what a window sees: boxes alone count, and a common border is enough.
    verbose : accepted, nothing is printed.

    A case is an image with the axes z, y, x (and t): targets have ``cz`` and ``depth``, slices for each axis, and its
    images (``CT``, ``PET`` …) are the channels. Patches have the channels on the last axis: (y, x, c), (t, y, x, c)
    for videos, (z, y, x, c) for cases. A case on several grids is read one grid at a time: `channels` chooses which,
    and objects on the others are left out; positives say the channels of their object's.

    It answers as ndsampler 0.8.1 does, but for these differences, each on purpose:

    - Unknown keys and arguments are errors. `scale`, `interpolation`, `channels`, `padkw`, `dtype`, `antialias`, steps
      and padding work on every axis of images and videos alike; time may be padded, ``pad=8`` pads it too.
    - An object is seen when at least one of its voxels is, and at least `visible_thresh` of them; one that lies wholly
      in the window is kept at 1.0. ndsampler goes by boxes, counts touching borders and drops all at 1.0.
    - start = floor(c − d/2) with the extent d as it is; ndsampler rounds d up first, which differs for fractions.
    - A negative time slice lies outside; ndsampler counts it from the end of the video.
    - Channels come in the order of the file; ndsampler sorts those of videos by name (b, g, r).
    - Transparency, palettes and rotation marks of pictures follow ndvol's reader: what cannot be kept is refused.
    - `scale` resamples with half-voxel centres, so that pixels differ from OpenCV's by a little.
    - Outside is `constant_values` (0) also in floating videos, and what is real stays; ndsampler writes nan there and
      over the last rows and columns of a frame that the window leaves.
    - Ids are integers in empty samples too; ``offset``, ``st_dims`` and boxes are right for windows wholly outside;
      ``pad`` in params is one pair per axis, ``sample_tlbr`` always has the shape (1, 4).
    - An annotation without a box covers its whole image and is a positive; one without a category is none.
    - `preselect` honours ``n_pos``; negatives are uniform over all positions, hold no annotated voxel unless
      ``max_overlap`` permits, have exactly the size asked for, and `SamplingError` says when there are none.

    >>> sampler = CocoSampler.demo("shapes1")
    >>> sample = sampler.load_sample({"gid": 1, "cx": 5, "cy": 2, "width": 6, "height": 6})
    >>> sample["im"].shape, sample["params"]["st_dims"], sorted(sample)
    ((6, 6, 3), [(-1, 5), (2, 8)], ['annots', 'classes', 'im', 'kp_classes', 'params', 'target', 'tr'])
    """

    def __init__(
        self,
        dset: Any,
        workdir: str | os.PathLike[str] | None = None,
        backend: Any = "auto",
        *,
        touching: bool = False,
        verbose: int = 0,
    ) -> None:
        if backend == "auto":
            backend = None if workdir is None else "hdf5"
        self.dset = dset if hasattr(dset, "imgs") else coerce_dataset(dset)
        self.workdir, self.backend, self.touching = workdir, backend, touching
        self._frames = Frames(self.dset, Volumes(backend_of(backend, workdir)))
        self._annotations = Annotations(self.dset, self._frames)
        self._planner = Planner(self.dset, Scenes(self.dset, self._frames), self._annotations)
        self._answers = Answers(self.dset, self._frames, self._annotations, touching=touching)
        self.regions = CocoRegions(self.dset, self._frames, self._annotations, touching=touching)

    @classmethod
    def coerce(cls, data: Any, **options: Any) -> Self:
        """A sampler of a sampler, a data set, a kwcoco file, or the folder of a bundle."""
        if isinstance(data, cls):
            if options:
                raise OptionError("this is a sampler already, so it takes no options", got=sorted(options))
            return data
        return cls(coerce_dataset(data), **options)

    @classmethod
    def demo(
        cls, key: str = "shapes", workdir: str | os.PathLike[str] | None = None, backend: Any = "auto", **options: Any
    ) -> Self:
        """A sampler of one of kwcoco's toy data sets: ``shapes8``, ``vidshapes2-frames5``, ``vidshapes1-msi`` …"""
        return cls(demo_dataset(key, **options), workdir=workdir, backend=backend)

    @property
    def classes(self) -> Any:
        """The `kwcoco.CategoryTree` of the categories."""
        return self.regions.classes

    catgraph = classes

    @property
    def kp_classes(self) -> Any:
        """The `kwcoco.CategoryTree` of the kinds of keypoints."""
        return self._answers.drawer.kp_classes

    @property
    def BACKGROUND_CLASS_ID(self) -> int:  # noqa: N802  (ndsampler's name)
        """The category id of negatives."""
        return self.regions.BACKGROUND_CLASS_ID

    def lookup_class_name(self, class_id: int) -> str:
        return self.regions.lookup_class_name(class_id)

    def lookup_class_id(self, class_name: str) -> int:
        return self.regions.lookup_class_id(class_name)

    @property
    def n_positives(self) -> int:
        return self.regions.n_positives

    @property
    def n_annots(self) -> int:
        return self.regions.n_annots

    @property
    def n_samples(self) -> int:
        return self.regions.n_samples

    @property
    def n_images(self) -> int:
        return self.regions.n_images

    @property
    def n_categories(self) -> int:
        return self.regions.n_categories

    @property
    def class_ids(self) -> list[int]:
        return self.regions.class_ids

    @property
    def image_ids(self) -> list[int]:
        return self.regions.image_ids

    def __len__(self) -> int:
        return self.n_samples

    def __repr__(self) -> str:
        return f"CocoSampler({self.n_images} images, {self.n_annots} annotations, backend {self.backend!r})"

    @property
    def hashid(self) -> str:
        """Hash of the data set, the backend and the rule of visibility; the same in every process."""
        facts = [self.dset.dataset, str(self.backend), self.touching]
        return hashlib.sha512(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()

    def preselect(self, **options: Any) -> tuple[int, int]:
        """See `CocoRegions.preselect`."""
        return self.regions.preselect(**options)

    def new_sample_grid(self, task: str, window_dims: Any, window_overlap: Any = 0, **options: Any) -> dict[str, Any]:
        """See `CocoRegions.new_sample_grid`."""
        return self.regions.new_sample_grid(task, window_dims, window_overlap, **options)

    def load_annotations(self, image_id: int) -> list[dict[str, Any]]:
        """The kwcoco dictionaries of an image's annotations."""
        self._frames.image(image_id)
        return [self.dset.anns[aid] for aid in self.dset.index.gid_to_aids[image_id]]

    def load_image(self, image_id: int, cache: bool = True) -> Any:
        """A whole image, channels last: to index with `cache` (only what is indexed is read), else an array."""
        image = IndexedImage(self._frames.frame(image_id))
        return image if cache else np.asarray(image)

    def load_image_with_annots(self, image_id: int, cache: bool = True) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The kwcoco dictionary of an image with its voxels as ``imdata``, and its annotations."""
        image = {**self._frames.image(image_id), "imdata": self.load_image(image_id, cache)}
        return image, self.load_annotations(image_id)

    def load_item(
        self,
        index: int,
        with_annots: Any = True,
        target: Mapping[str, Any] | None = None,
        rng: Any = None,
        **options: Any,
    ) -> dict[str, Any]:
        """The positive of that number, and after the last one the preselected negatives; see `load_positive`."""
        number = as_int(index)
        if number < self.n_positives:
            return self.load_positive(number, with_annots, target, rng, **options)
        return self.load_negative(number - self.n_positives, with_annots, target, rng, **options)

    def load_positive(
        self,
        index: int | None = None,
        with_annots: Any = True,
        target: Mapping[str, Any] | None = None,
        rng: Any = None,
        **options: Any,
    ) -> dict[str, Any]:
        """The sample of a positive; a random one when `index` is None.

        Parameters
        ----------
        target : keys that add to the positive's own, or replace them.
        options : as for `load_sample`.
        """
        return self._load_row(self.regions.get_positive(index, rng), with_annots, target, options)

    def load_negative(
        self,
        index: int | None = None,
        with_annots: Any = True,
        target: Mapping[str, Any] | None = None,
        rng: Any = None,
        **options: Any,
    ) -> dict[str, Any]:
        """The sample of a preselected negative; the next one, or a new one, when `index` is None."""
        return self._load_row(self.regions.get_negative(index, rng_of(rng)), with_annots, target, options)

    def _load_row(
        self, row: dict[str, Any], with_annots: Any, target: Mapping[str, Any] | None, options: dict[str, Any]
    ) -> dict[str, Any]:
        changes = options.pop("tr", None) if target is None else target
        return self.load_sample({**row, **(changes or {})}, with_annots, **options)

    def load_target_annots(self, target: Mapping[str, Any]) -> list[int]:
        """Ids of the annotations that a target sees, without reading a voxel."""
        known = known_keys(target)
        return [aid for seen, _ in self._answers.seen(self._planner.plan(known), known) for aid in seen.aids]

    def load_sample(
        self,
        target: Mapping[str, Any] | None = None,
        with_annots: Any = True,
        annot_ids: Sequence[int] | None = None,
        visible_thresh: float | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Read a target.

        Parameters
        ----------
        target : its keys are those of `ndvol.coco.keys`.
        with_annots : False for none; or which of ``boxes``, ``segmentation``, ``keypoints``, joined by ``+``.
        annot_ids : the annotations to hand out, instead of those that are seen. visible_thresh : smallest share of
            an object that must be seen. Both may stand in the target.
        options : ``pad``, ``padkw``, ``dtype`` and ``tr``, as older programs have them.

        Returns
        -------
        dict : ``im``, the patch, always of exactly the shape asked for; ``target`` (and ``tr``), the target with
            what was worked out; ``params``; ``annots``: ``frame_dets`` with one `kwimage.Detections` per frame of the
            patch, and its columns ``aids, cids, rel_frame_index, rel_boxes, rel_ssegs, rel_kpts``, relative to the
            patch and not clipped; ``rel_start`` and ``rel_stop``, the same boxes as (n, axes) over all axes;
            ``classes`` and ``kp_classes``.

        Raises
        ------
        OptionError : for keys that do not exist, make no sense or contradict each other.
        UnknownNameError : for an image, video, annotation or channel that is not there.
        WindowError : for a slice that runs backward, or a padding that does not fit the type.
        CatalogError, SourceError : when a file is not what the catalogue says, or cannot be read.

        >>> sampler = CocoSampler.demo("vidshapes1")
        >>> target = {"vidid": 1, "time_slice": slice(-1, 2), "space_slice": (slice(0, 4), slice(9))}
        >>> sample = sampler.load_sample(target)
        >>> sample["im"].shape, sample["params"]["valid"].start
        ((3, 4, 9, 3), (1, 0, 0))
        """
        given = self._given(target, options)
        known = known_keys(given)
        for key, value in (("annot_ids", annot_ids), ("visible_thresh", visible_thresh)):
            if value is not None:
                known[key] = value
        kinds = kinds_of(with_annots)
        plan = self._planner.plan(known)
        patch: Any = read_patch(plan.scene, plan.lattice, plan.reading, plan.channels)
        answer = {**given, **plan.target}
        sample: dict[str, Any] = {
            "im": labelled(patch, plan) if known.get("as_xarray") else patch,
            "target": answer,
            "params": plan.params(),
        }
        if known.get("legacy_target", True):
            sample["tr"] = answer
        if kinds:
            sample["annots"] = self._answers.annots(plan, known, kinds)
            if known.get("aid") in (found := [a for d in sample["annots"]["frame_dets"] for a in d.data["aids"]]):
                answer["annot_idx"] = found.index(known["aid"])
        return {**sample, "classes": self.classes, "kp_classes": self.kp_classes}

    def _given(self, target: Mapping[str, Any] | None, options: dict[str, Any]) -> dict[str, Any]:
        """The target with what older programs state as arguments."""
        for name in options:
            if name not in (*_OLD_ARGUMENTS, "tr"):
                raise unknown_key("argument", name, (*_OLD_ARGUMENTS, "target", "with_annots", "visible_thresh"))
        old = options.pop("tr", None)
        target = old if target is None else target
        if target is None:
            raise OptionError("a sample needs a target", expected="{'gid': 1, …}")
        if not isinstance(target, Mapping):
            raise OptionError("a target must be a dictionary", got=type(target).__name__)
        return {**target, **options}
