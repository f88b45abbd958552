"""A video of a slice export, out of a kwcoco file and proved whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ndvol.errors import SourceError
from ndvol.geometry import Grid

VERSION = "1.0"


@dataclass(frozen=True, slots=True)
class SliceVideo:
    """One video of a slice export.

    Attributes
    ----------
    facts : its key ``ndvol``. grid : that the key describes, without c.
    frames : kwcoco images, in the order of the slices: the last of the axes before y and x runs fastest.
    annotations : by image id. tracks : by id.
    """

    name: str
    facts: Mapping[str, Any]
    grid: Grid
    frames: tuple[Mapping[str, Any], ...]
    annotations: Mapping[int, list[Mapping[str, Any]]]
    tracks: Mapping[int, Mapping[str, Any]]

    @property
    def leading(self) -> tuple[int, ...]:
        """Lengths of the axes before y and x."""
        return self.grid.shape[:-2]


def load_export(path: Path) -> dict[str, Any] | None:
    """The kwcoco dictionary of a slice export; None for any other file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return _load_once(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=2)
def _load_once(path: Path, size: int, mtime: int) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) and any(exported_videos(data)) else None


def exported_videos(data: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The videos of a kwcoco dictionary that are volumes."""
    videos = data.get("videos")
    for video in videos if isinstance(videos, list) else []:
        if isinstance(video, Mapping) and isinstance(video.get("ndvol"), Mapping) and "slices" in video["ndvol"]:
            yield video


def understood(file: str, data: Mapping[str, Any], row: Mapping[str, Any]) -> SliceVideo:
    """A video of an export, all its slices there; raises `SourceError` otherwise."""
    with proved(file):
        facts = row["ndvol"]
        if facts["slices"] != VERSION:
            raise SourceError("the slices are of another version", got=facts["slices"], expected=VERSION)
        grid = Grid(facts["axes"], tuple(facts["shape"]), np.array(facts["affine"]), facts["frame"], facts["unit"])
        _check_facts(facts, grid)
        frames = sorted(
            (i for i in data["images"] if i.get("video_id") == row["id"]), key=lambda image: image["frame_index"]
        )
        numbers = [image["frame_index"] for image in frames]
        if numbers != list(range(prod(grid.shape[:-2]))):
            raise SourceError(
                f"video {row['name']!r} lacks slices or has some twice",
                got=f"{len(numbers)} frames",
                expected=f"{prod(grid.shape[:-2])}, numbered from 0",
                hint="a subset of images cuts a volume; choose whole videos",
                code="incomplete",
            )
        ids = {image["id"] for image in frames}
        annotations: dict[int, list[Mapping[str, Any]]] = {}
        for annotation in data.get("annotations", []):
            if annotation["image_id"] in ids:
                annotations.setdefault(annotation["image_id"], []).append(annotation)
        tracks = {track["id"]: track for track in data.get("tracks", [])}
        return SliceVideo(str(row["name"]), facts, grid, tuple(frames), annotations, tracks)


def _check_facts(facts: Mapping[str, Any], grid: Grid) -> None:
    """Raise unless the images and label volumes that a video states can exist on its grid."""
    if grid.axes[-2:] != "yx" or "c" in grid.axes:
        raise SourceError("slices have the axes y and x last", got=grid.axes)
    for name, image in facts["images"].items():
        channels = image["channels"]
        if np.dtype(str(image["dtype"])).kind not in "iuf" or not isinstance(image["attributes"], Mapping):
            raise SourceError(f"image {name!r} has no usable type or attributes", got=image["dtype"])
        if channels is not None and (not isinstance(channels, int) or channels < 1):
            raise SourceError(f"image {name!r} has no usable number of channels", got=channels)
    for name, label in facts["labels"].items():
        left_out = set(grid.axes) - set(label["axes"])
        if np.dtype(str(label["dtype"])).kind not in "iu" or left_out - {"t"}:
            raise SourceError(f"label volume {name!r} has no usable type or axes", got=(label["dtype"], label["axes"]))
        if label["axes"] != "".join(a for a in grid.axes if a not in left_out):
            raise SourceError(f"label volume {name!r} has other axes than its image", got=label["axes"])
        {int(value): str(text) for value, text in label["categories"].items()}


@contextmanager
def proved(source: str) -> Iterator[None]:
    """What a kwcoco file must not hold, found out by using it, becomes a `SourceError` that names the source."""
    try:
        yield
    except SourceError:
        raise
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise SourceError(f"{source} cannot be understood", got=repr(error), code="unreadable") from error
