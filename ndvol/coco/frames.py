"""Frames: finds the voxels of a kwcoco image: a picture, its assets, or a case."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import kwimage
import numpy as np
from numpy.typing import NDArray

from ndvol.backends import Origin, picture_origin
from ndvol.catalog import CaseRecord, case_of_image
from ndvol.catalog.dataset import channel_names
from ndvol.coco.frame import IDENTITY, Frame, Part, without_channels
from ndvol.coco.opened import Volumes
from ndvol.errors import CatalogError, OptionError, SourceError, UnknownNameError
from ndvol.formats.kept import stamp_of
from ndvol.geometry import Grid
from ndvol.opening import open_case
from ndvol.sampling.aligned import fits, restrict
from ndvol.volumes import ArraySource, Case, Volume

KEPT_CASES, KEPT_FRAMES = 64, 2**14
"""Cases kept open, and descriptions of frames kept, per process."""
_COLOURS = {1: ("gray",), 3: ("r", "g", "b")}


class Frames:
    """Makes the frames of a kwcoco data set; keeps the pictures last read through `volumes`."""

    def __init__(self, dset: Any, volumes: Volumes) -> None:
        self._dset, self._volumes = dset, volumes
        self._cases: dict[str, tuple[object, Case]] = {}
        self._frames: dict[tuple[object, ...], Frame] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cases": {}, "_frames": {}}

    def image(self, gid: int) -> Mapping[str, Any]:
        """The kwcoco dictionary of an image."""
        images = self._dset.imgs
        if gid not in images:
            raise UnknownNameError(f"there is no image with id {gid!r}", expected=f"one of {len(images)} ids")
        found: Mapping[str, Any] = images[gid]
        return found

    def size(self, gid: int) -> tuple[int, int]:
        """Rows and columns of an image, from its file where the catalogue does not say."""
        image = self.image(gid)
        if image.get("height") and image.get("width"):
            return int(image["height"]), int(image["width"])
        return self.frame(gid).shape[-2:]  # type: ignore[return-value]

    def outline(self, gid: int, video: Mapping[str, Any] | None = None) -> Frame:
        """A frame without its voxels: what the catalogue says of axes, shape and place. Of a case, its first image's.

        Only cases of several images, whose labels may lie on the grid of any, are opened for it.
        """
        image = self.image(gid)
        if isinstance(image.get("ndvol"), Mapping):
            axes, shape = without_channels(image["ndvol"]["axes"], image["ndvol"]["shape"])
            return Frame(gid, axes, shape, (), (), IDENTITY, labels=self._labels(gid, 0))
        shape, to_scene = self._space(image, video)
        return Frame(gid, "yx", shape or self.size(gid), (), (), to_scene)

    def frame(
        self, gid: int, asked: Any = None, *, video: Mapping[str, Any] | None = None, interpolation: str = "linear"
    ) -> Frame:
        """An image on its own, or as a frame of a `video`: then in that video's space.

        Parameters
        ----------
        asked : the channels that a target asks for: the grid of a case is that of the first one.
        interpolation : for assets and frames that must be warped to get there.
        """
        key = (gid, str(getattr(asked, "spec", asked)), None if video is None else video["id"], interpolation)
        if key not in self._frames:
            image = self.image(gid)
            if len(self._frames) >= KEPT_FRAMES:
                self._frames.clear()
            if isinstance(image.get("ndvol"), Mapping):
                self._frames[key] = self._case_frame(gid, image, asked)
            else:
                self._frames[key] = self._picture_frame(gid, image, video, interpolation)
        return self._frames[key]

    def _picture_frame(
        self, gid: int, image: Mapping[str, Any], video: Mapping[str, Any] | None, interpolation: str
    ) -> Frame:
        shape, to_scene = self._space(image, video)
        whole = [image] if image.get("file_name") is not None else []
        assets = [*(image.get("assets") or image.get("auxiliary") or [])]
        parts = []
        for asset in (*whole, *assets):
            warp = IDENTITY if asset is image else _affine(asset.get("warp_aux_to_img"))
            if _is_identity(to_scene @ warp) and _lies_on(asset, shape):
                parts.append(self._picture_part(asset))
            else:
                space = "video" if video is not None else "image"
                parts.append(self._warped_part(gid, asset, shape, space, interpolation))
        if not parts:
            raise CatalogError(f"image {gid} has neither file_name nor assets")
        axes, shape = _layout(gid, parts[0].volume(), shape) if video is None else ("yx", shape)
        every = tuple(name for part in parts for name in part.channels)
        if len(set(every)) < len(every):
            raise CatalogError(f"two assets of image {gid} have a channel of one name", got=every)
        return Frame(gid, axes, shape, tuple(parts), parts[0].channels if whole and video is None else every, to_scene)

    def _space(
        self, image: Mapping[str, Any], video: Mapping[str, Any] | None
    ) -> tuple[tuple[int, ...], NDArray[np.float64]]:
        """Shape of what is sampled, () when the catalogue does not say, and the way there from the image."""
        own = tuple(int(image[k]) for k in ("height", "width") if image.get(k))
        own = own if len(own) == 2 else ()
        if video is None:
            return own, IDENTITY
        shape = tuple(int(video[k]) for k in ("height", "width") if video.get(k))
        warp = _affine(image.get("warp_img_to_vid"))
        return (shape if len(shape) == 2 else own or self.size(image["id"])), warp

    def _path(self, asset: Mapping[str, Any]) -> Path:
        return Path(self._dset.bundle_dpath, asset["file_name"]).absolute()

    def _picture_part(self, asset: Mapping[str, Any]) -> Part:
        path = self._path(asset)

        def volume() -> Volume:
            return self._volumes[picture_origin(path)]

        if asset.get("channels"):
            return Part(channel_names(asset["channels"]), volume)
        found = volume()
        count = dict(zip(found.axes, found.shape, strict=True)).get("c", 1)
        return Part(_COLOURS.get(count, tuple(f"u{k}" for k in range(count))), volume)

    def _warped_part(
        self, gid: int, asset: Mapping[str, Any], shape: tuple[int, ...], space: str, interpolation: str
    ) -> Part:
        if not asset.get("channels"):
            raise CatalogError(f"an asset of image {gid} must be warped, but has no channels to name it by")
        spec, path = str(asset["channels"]), self._path(asset)
        facts = {"asset": dict(asset), "image": dict(self.image(gid)), "space": space, "shape": shape}
        recipe = json.dumps([spec, interpolation, facts], sort_keys=True, default=str)

        def volume() -> Volume:
            make = partial(_warped, self._dset, gid, spec, space, interpolation)
            return self._volumes[Origin((str(path),), make, recipe)]

        return Part(channel_names(spec), volume)

    def _case_frame(self, gid: int, image: Mapping[str, Any], asked: Any) -> Frame:
        case = self.case(gid)
        channels = {n: _channels_of(case.images[n]) for n in self._record(image).images}
        every = tuple(name for names in channels.values() for name in names)
        chosen = chosen_channels(asked, every, every)
        used = [name for name, names in channels.items() if set(names) & set(chosen)]
        first = case.images[used[0]]
        parts = tuple(Part(channels[n], partial(_on_grid, case.name, case.images[n], first)) for n in used)
        grid = restrict(first.grid, "t")
        labels = self._labels(gid, list(channels).index(used[0]))
        return Frame(gid, grid.axes, grid.shape, parts, every, IDENTITY, grid, labels)

    def _labels(self, gid: int, number: int) -> frozenset[str] | None:
        """The label volumes on the grid of image `number` of a case; None when that is all."""
        names = self._record(self.image(gid)).images
        if len(names) == 1:
            return None
        case = self.case(gid)
        grid = case.images[names[number]].grid
        found = {name for name, label in case.labels.items() if fits(label.grid, grid)}
        return frozenset(found | {""} if fits(grid, case.images[names[0]].grid) else found)

    def channels_of_label(self, gid: int, label: str) -> str:
        """The channels on the grid of a label volume of a case; "" when that is all of them.

        Raises
        ------
        CatalogError : when there is none.
        """
        names = self._record(self.image(gid)).images
        if len(names) == 1:
            return ""
        found = [n for k, n in enumerate(names) if label in (self._labels(gid, k) or ())]
        if not found:
            raise CatalogError(f"label volume {label!r} of image {gid} lies on the grid of no image of its case")
        case = self.case(gid)
        every = [c for name in found for c in _channels_of(case.images[name])]
        return "" if len(found) == len(names) else "|".join(every)

    def _record(self, image: Mapping[str, Any]) -> CaseRecord:
        return case_of_image(image, Path(self._dset.bundle_dpath).absolute())

    def case(self, gid: int) -> Case:
        """The case behind an image that has an ``ndvol`` key."""
        record = self._record(self.image(gid))
        stamp = stamp_of(record.path)
        found = self._cases.get(record.path)
        if found is None or found[0] != stamp:
            if len(self._cases) >= KEPT_CASES:
                self._cases.pop(next(iter(self._cases)))
            found = self._cases[record.path] = stamp, open_case(record)
        return found[1]


def chosen_channels(asked: Any, default: Sequence[str], every: Sequence[str]) -> tuple[str, ...]:
    """The channels that a target asks for: a name or several (``r|g|b``), ``<all>``, or the default.

    Raises
    ------
    UnknownNameError : for a channel that is not there.
    """
    if asked is None:
        return tuple(default)
    if str(getattr(asked, "spec", asked)) == "<all>":
        return tuple(every)
    names = channel_names(asked)
    unknown = [name for name in names if name not in every]
    if unknown or not names:
        raise UnknownNameError(f"there is no channel {', '.join(unknown)!r}", expected=f"some of {'|'.join(every)}")
    return names


def _warped(dset: Any, gid: int, spec: str, space: str, interpolation: str) -> Volume:
    """An asset in the space of its image or video, by kwcoco's own warp."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it would prefer GDAL
        try:
            delayed = dset.coco_image(gid).imdelay(
                channels=spec, space=space, interpolation=interpolation, antialias=interpolation != "nearest"
            )
            array = np.moveaxis(np.asarray(delayed.finalize()), -1, 0)
        except ImportError as error:
            hint = "pip install opencv-python-headless"
            raise OptionError(f"image {gid} must be warped, which needs OpenCV", got=error, hint=hint) from error
        except Exception as error:  # readers and warps raise whatever the bytes provoke
            raise SourceError(f"cannot read channels {spec!r} of image {gid}", got=repr(error)) from error
    return Volume("image", Grid.regular("cyx", array.shape), ArraySource(array))


def _channels_of(volume: Volume) -> tuple[str, ...]:
    """The channels of a case's image: its own name, numbered where it has a c axis."""
    if "c" not in volume.axes:
        return (volume.name,)
    return tuple(f"{volume.name}.{k}" for k in range(volume.shape[volume.axes.index("c")]))


def _layout(gid: int, volume: Volume, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """Axes and shape of a picture, which must be as high and wide as the catalogue says, if it does."""
    sizes = {a: n for a, n in zip(volume.axes, volume.shape, strict=True) if a in "yx" or (a != "c" and n > 1)}
    found = tuple(sizes.values())
    if shape and found[-2:] != shape:
        raise CatalogError(
            f"the picture of image {gid} has another size than the catalogue says", got=found, expected=shape
        )
    return "".join(sizes), found


def _on_grid(case: str, volume: Volume, first: Volume) -> Volume:
    """`volume`, which must lie on the grid of the case's first image."""
    grid, reference = restrict(volume.grid, "t"), restrict(first.grid, "t")
    if grid.axes != reference.axes or grid.shape != reference.shape or not grid.matches(reference):
        raise OptionError(
            f"the images {first.name!r} and {volume.name!r} of case {case!r} lie on different grids",
            got=f"{volume.axes} {volume.shape}, {first.axes} {first.shape}",
            hint=f"choose one of them: channels={first.name!r}",
            code="other-grid",
        )
    return volume


def _affine(spec: Any) -> NDArray[np.float64]:
    """The 3 x 3 matrix of a kwcoco transform; `IDENTITY` itself where it changes nothing."""
    matrix = IDENTITY if spec is None else np.asarray(kwimage.Affine.coerce(spec).matrix, np.float64)
    return IDENTITY if np.array_equal(matrix, IDENTITY) else matrix


def _is_identity(matrix: NDArray[np.float64]) -> bool:
    return bool(np.allclose(matrix, IDENTITY, rtol=0, atol=1e-9))


def _lies_on(asset: Mapping[str, Any], shape: tuple[int, ...]) -> bool:
    own = tuple(int(asset[k]) for k in ("height", "width") if asset.get(k))
    return not shape or len(own) < 2 or own == shape
