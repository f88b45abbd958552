"""The slice export: one kwcoco video per case, which plain kwcoco tools and ndsampler read.

The slices along z (and t) are the frames, an object is a track with a mask per slice, and the image volumes on one grid
are the channels. Nothing is lost: `ndvol import` makes the same volumes, labels and geometry of it again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from ndvol.catalog import CATALOG_NAME, CaseRecord, Catalog
from ndvol.errors import OptionError, StoreError
from ndvol.exporting.cases import file_name
from ndvol.exporting.objects import Tables, add_objects, lies_on
from ndvol.formats.slice_video import VERSION
from ndvol.geometry import Grid, Window
from ndvol.sampling.aligned import restrict
from ndvol.store import read_identity
from ndvol.volumes import LabelVolume, Volume

FOLDER = "slices"


def export_slices(catalog: Catalog, folder: str | Path, *, progress: bool = False) -> Path:
    """Write the cases of a bundle as slices below `folder`; returns the kwcoco file ``data.kwcoco.json`` there.

    Slices are lossless: PNG for uint8 and uint16 without channels and for uint8 with three, else TIFF of the same
    type. Images of a case on its first image's grid become channels of one video, called like the case; images on
    another grid have a video of their own. Labels go with the images on their grid; masks are run lengths.

    Raises
    ------
    StoreError : when `folder` holds a catalogue already, or cannot be written.
    OptionError : for a case that is a picture, not a bundle's file, or with a label volume on no image's grid.
    """
    root = Path(folder)
    target = root / CATALOG_NAME
    if target.exists():
        raise StoreError(f"{target} exists already", hint="export into another folder, or delete it first")
    tables = Tables()
    names: set[str] = set()
    try:
        for record in tqdm(catalog.records.values(), unit="case", disable=None if progress else True):
            if not record.sha256:
                raise OptionError(
                    f"{record.name!r} is a picture, not a case of a bundle",
                    hint="a kwcoco file of pictures needs no export",
                )
            _add_case(catalog, record, root, file_name(record.name, names), tables)
        data = {
            "info": [],
            "licenses": [],
            "categories": catalog.categories.to_coco(),
            "videos": tables.videos,
            "images": tables.images,
            "tracks": tables.tracks,
            "annotations": tables.annotations,
        }
        # Last, when all that it names is there.
        part = target.with_name(target.name + ".part")
        part.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
        part.replace(target)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError.from_os(error, root) from error
    return target


def _add_case(catalog: Catalog, record: CaseRecord, root: Path, folder: str, tables: Tables) -> None:
    case = catalog[record.name]
    left = dict(case.labels)
    for number, images in enumerate(_groups([case.images[name] for name in record.images])):
        grid = restrict(images[0].grid, "t")
        labels = [left.pop(name) for name, label in list(left.items()) if lies_on(label.grid, grid)]
        width, height = grid.shape[-1], grid.shape[-2]
        video = {
            "id": len(tables.videos) + 1,
            "name": record.name if number == 0 else f"{record.name}.{images[0].name}",
            "width": width,
            "height": height,
            "ndvol": {
                "slices": VERSION,
                "case": record.name,
                "uuid": read_identity(record.path)["uuid"],
                "axes": grid.axes,
                "shape": list(grid.shape),
                "affine": grid.affine.tolist(),
                "frame": grid.frame,
                "unit": grid.unit,
                "first": number == 0,
                "images": {image.name: _image_facts(image) for image in images},
                "labels": {label.name: _label_facts(label) for label in labels},
            },
        }
        tables.videos.append(video)
        first = len(tables.images) + 1
        _add_frames(video, images, grid, root, f"{FOLDER}/{folder}", tables)
        for label in labels:
            add_objects(catalog, record, label, grid, first, tables)
    if left:
        label = next(iter(left.values()))
        raise OptionError(
            f"label volume {label.name!r} of case {record.name!r} lies on the grid of no image",
            got=f"{label.axes} {label.shape}",
            code="other-grid",
        )


def _groups(images: Sequence[Volume]) -> list[list[Volume]]:
    """The images by grid: those on the first one's grid first."""
    groups: list[list[Volume]] = []
    for image in images:
        grid = restrict(image.grid, "t")
        for group in groups:
            other = restrict(group[0].grid, "t")
            if (grid.axes, grid.shape, grid.unit) == (other.axes, other.shape, other.unit) and np.array_equal(
                grid.affine, other.affine
            ):
                group.append(image)
                break
        else:
            groups.append([image])
    return groups


def _image_facts(image: Volume) -> dict[str, Any]:
    attributes = {k: v for k, v in image.attributes.items() if k != "reorientation"}
    return {"dtype": image.dtype.name, "channels": _channels(image), "attributes": attributes}


def _label_facts(label: LabelVolume) -> dict[str, Any]:
    categories = {str(value): name for value, name in label.categories.items()}
    names = label.attributes.get("source_names", {})
    return {"dtype": label.dtype.name, "axes": label.axes, "categories": categories, "source_names": names}


def _channels(image: Volume) -> int | None:
    return image.shape[image.axes.index("c")] if "c" in image.axes else None


def _spec(image: Volume) -> str:
    """kwcoco's name for the channels of an image."""
    channels = _channels(image)
    return image.name if channels is None else f"{image.name}:{channels}"


def _add_frames(
    video: Mapping[str, Any], images: Sequence[Volume], grid: Grid, root: Path, folder: str, tables: Tables
) -> None:
    leading = grid.shape[:-2]
    digits = max(4, len(str(prod(leading) - 1)))
    for image in images:
        (root / folder / image.name).mkdir(parents=True, exist_ok=True)
    for number in range(prod(leading)):
        rows = []
        for image in images:
            plane = _read_plane(image, tuple(int(i) for i in np.unravel_index(number, leading)))
            name = f"{folder}/{image.name}/{number:0{digits}d}{_suffix(plane)}"
            _write_plane(root / name, plane)
            rows.append({"file_name": name, "channels": _spec(image)})
        size = {"width": video["width"], "height": video["height"]}
        frame = {
            "id": len(tables.images) + 1,
            "name": f"{video['name']}/{number:0{digits}d}",
            "video_id": video["id"],
            "frame_index": number,
            **rows[0],
            **size,
        }
        if rows[1:]:
            frame["assets"] = [{**row, **size} for row in rows[1:]]
        tables.images.append(frame)


def _read_plane(image: Volume, at: tuple[int, ...]) -> NDArray[Any]:
    """The plane (y, x), or (y, x, c), at a place along the axes before y and x."""
    spans = dict(zip((a for a in image.axes if a not in "cyx"), at, strict=True))
    start = tuple(spans.get(a, 0) for a in image.axes)
    shape = tuple(1 if a in spans else n for a, n in zip(image.axes, image.shape, strict=True))
    plane = image.read(Window(start, shape)).reshape(
        [n for a, n in zip(image.axes, shape, strict=True) if a not in spans]
    )
    if "c" not in image.axes:
        return plane
    # A single channel is written like none: TIFF readers do not agree on an axis of one sample.
    return plane[0] if len(plane) == 1 else np.moveaxis(plane, 0, -1)


def _suffix(plane: NDArray[Any]) -> str:
    grey = plane.ndim == 2 and plane.dtype in (np.uint8, np.uint16)
    return ".png" if grey or (plane.shape[2:] == (3,) and plane.dtype == np.uint8) else ".tif"


def _write_plane(path: Path, plane: NDArray[Any]) -> None:
    plane = np.ascontiguousarray(plane)
    if path.suffix == ".png":
        Image.fromarray(plane).save(path)
        return
    # Samples of a pixel lie together and are plain numbers, so that no program takes the last one for transparency.
    options = {"planarconfig": "contig", "extrasamples": (0,) * (plane.shape[-1] - 1)} if plane.ndim == 3 else {}
    tifffile.imwrite(path, plane, photometric="minisblack", compression="zlib", metadata=None, **options)
