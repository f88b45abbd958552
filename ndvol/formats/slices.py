"""Reading a slice export back: kwcoco videos, one per case, whose frames are its slices.

What makes a video a volume stands in its key ``ndvol``: axes, shape, affine, frame and unit, the images with their
types, and the label volumes with their categories. The masks of the annotations are the labels; their tracks say
which label volume and value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import NdvolError, SourceError
from ndvol.formats import DEFAULT_READING, LabelData, ReadOptions, Scan, Series, VolumeData
from ndvol.formats.picture_files import read_picture, read_picture_header
from ndvol.formats.slice_labels import draw_label, turn_onto
from ndvol.formats.slice_video import SliceVideo, exported_videos, load_export, proved, understood
from ndvol.formats.tiff_files import read_tiff, read_tiff_header
from ndvol.formats.values import as_labels
from ndvol.geometry import Grid
from ndvol.verdict import Verdict

SUFFIX = ".kwcoco.json"
LABELS = "labels"
"""Modality, and so the name in plans, of what the annotations of a video draw."""


class SliceReader:
    """Reads what `ndvol.exporting` writes, also after kwcoco's tools had it in hand."""

    name = "kwcoco"

    def scan(self, root: Path, files: Sequence[str], options: ReadOptions = DEFAULT_READING, *, jobs: int = 0) -> Scan:
        series: list[Series] = []
        verdicts: list[Verdict] = []
        claimed: set[str] = set()
        for file in files:
            if not file.endswith(SUFFIX) or (data := load_export(root / file)) is None:
                continue
            claimed.add(file)
            seen: set[tuple[str, str]] = set()
            for video in exported_videos(data):
                source = f"{file}#{video.get('name')}"
                try:
                    with proved(source):
                        claimed |= {_path(root, file, f) for f in _files_of(data, video["id"])}
                        found = list(_series(root, file, data, video))
                    images = {(s.key, s.volume) for s in found if s.axes}
                    if twice := images & seen:
                        raise SourceError("two videos are the same volume of one case", got=sorted(twice), code="twice")
                    seen |= images
                    series += found
                except NdvolError as error:
                    verdicts.append(Verdict.refused(source, error))
        return Scan(tuple(series), tuple(verdicts), frozenset(claimed))

    def read(self, root: Path, series: Series, *, as_label: bool = False) -> VolumeData:
        video = _video(root, series)
        facts = video.facts["images"][series.volume]
        dtype = np.dtype(facts["dtype"])
        grid = _image_grid(video.grid, facts["channels"])
        shape = grid.shape[-2:] if facts["channels"] is None else (*grid.shape[-2:], facts["channels"])
        paths = series.files[1:]
        # The first slice proves the size that so far only the JSON promises.
        out = np.empty((len(paths), *_read_plane(root, paths[0], shape, dtype).shape), dtype)
        for number, path in enumerate(paths):
            out[number] = _read_plane(root, path, shape, dtype)
        array = out.reshape(*video.leading, *shape)
        if facts["channels"] is not None:
            array = np.moveaxis(array, -1, grid.axes.index("c"))
        attributes = {k: v for k, v in facts["attributes"].items() if k not in ("modality", "value_unit")}
        return VolumeData(
            as_labels(array, series.source) if as_label else array,
            grid,
            facts["attributes"].get("modality", ""),
            facts["attributes"].get("value_unit", ""),
            attributes,
        )

    def read_structures(self, root: Path, series: Series, grid: Grid) -> tuple[LabelData, ...]:
        """The label volumes of a case, on its image's spatial grid; those with a t axis have it in front."""
        video = _video(root, series)
        turn = turn_onto(video.grid, grid)
        with proved(series.source):
            return tuple(draw_label(video, name, facts, turn) for name, facts in video.facts["labels"].items())


def slice_categories(path: Path) -> list[dict[str, Any]]:
    """The category tree of a slice export, as kwcoco dictionaries; none of any other file."""
    data = load_export(path)
    if data is None:
        return []
    keys = ("name", "supercategory")
    return [{key: row.get(key) for key in keys} for row in data.get("categories", [])]


def _files_of(data: Mapping[str, Any], video_id: int) -> list[str]:
    """All pictures of a video."""
    images = [image for image in data["images"] if image.get("video_id") == video_id]
    return [row["file_name"] for image in images for row in (image, *image.get("assets", ()))]


def _path(root: Path, file: str, name: str) -> str:
    """A picture's path relative to `root`, as kwcoco names it in `file`."""
    path = Path(root / file).parent / name
    try:
        return PurePosixPath(path.resolve().relative_to(root.resolve())).as_posix()
    except ValueError:
        raise SourceError(
            f"a slice of {file} lies outside the folder that is imported", got=name, hint="import a folder with both"
        ) from None


def _series(root: Path, file: str, data: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[Series]:
    video = understood(file, data, row)
    facts, grid = video.facts, video.grid
    several = len(facts["images"]) > 1
    for k, (name, image) in enumerate(facts["images"].items()):
        own = _image_grid(grid, image["channels"])
        rows = [frame if k == 0 else _asset(frame, name) for frame in video.frames]
        yield Series(
            reader=SliceReader.name,
            source=f"{file}#{video.name}" + (f"/{name}" if several else ""),
            files=(file, *(_path(root, file, r["file_name"]) for r in rows)),
            key=f"{file}/{facts['uuid']}",
            name=video.name if facts["first"] else str(facts["case"]),
            modality=str(image["attributes"].get("modality", "")),
            axes=own.axes,
            shape=own.shape,
            dtype=image["dtype"],
            spacing=grid.spacing if grid.unit != "unknown" else None,
            volume=name,
            recipe=video.name,
        )
    if facts["labels"]:
        yield Series(
            reader=SliceReader.name,
            source=f"{file}#{video.name}/{LABELS}",
            files=(file,),
            key=f"{file}/{facts['uuid']}",
            name=video.name,
            modality=LABELS,
            axes="",
            shape=(),
            dtype="",
            spacing=None,
            recipe=video.name,
        )


def _asset(frame: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    for asset in frame.get("assets", ()):
        if str(asset.get("channels", "")).split(":")[0] == name:
            found: Mapping[str, Any] = asset
            return found
    raise SourceError(f"frame {frame.get('name')!r} lacks the image {name!r}", code="incomplete")


def _video(root: Path, series: Series) -> SliceVideo:
    data = load_export(root / series.files[0])
    rows = [] if data is None else [row for row in exported_videos(data) if row.get("name") == series.recipe]
    if data is None or len(rows) != 1:
        raise SourceError(f"the files of {series.source} changed since they were scanned", code="changed")
    return understood(series.files[0], data, rows[0])


def _image_grid(grid: Grid, channels: int | None) -> Grid:
    """The grid of an image: with a c axis after t when it has one."""
    if channels is None:
        return grid
    at = grid.axes.startswith("t")
    axes = f"{grid.axes[:at]}c{grid.axes[at:]}"
    return Grid(axes, (*grid.shape[:at], channels, *grid.shape[at:]), grid.affine, grid.frame, grid.unit)


def _read_plane(root: Path, path: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """A slice (y, x) or (y, x, c) as it was written; raises `SourceError` when it is another one."""
    if path.endswith(".png"):
        array = read_picture(root, read_picture_header(root, path))
    else:
        array = read_tiff(root, read_tiff_header(root, path))
    if shape[2:] == (1,) and array.ndim == 2:
        array = array[..., None]
    if array.shape != shape or array.dtype != dtype:
        raise SourceError(
            f"slice {path} is not as it was exported",
            got=f"{array.dtype} {array.shape}",
            expected=f"{dtype} {shape}",
            code="changed",
        )
    return array
