"""kwcoco in and out: one case is one image, its preview is ``file_name``, and the key ``ndvol`` holds the rest.

Of all layouts tried against kwcoco's own commands this is the one that ``validate``, ``stats``, ``show``,
``visualize``, ``fixup``, ``subset``, ``union``, ``split`` and ``move`` all accept. They rewrite ``file_name``, rename
images and remap ids, so the volume is found relative to the folder of ``file_name``, and no id is kept inside an
``ndvol`` key.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ndvol.catalog.catalog import CaseRecord, Objects
from ndvol.categories import CategoryTree
from ndvol.errors import CatalogError, NdvolError

CATALOG_NAME = "data.kwcoco.json"
BOXES = "boxes"
"""Name of the label volume that stands for the annotation boxes of a plain picture."""


def find_catalog(path: str | Path) -> Path:
    """The kwcoco file of a bundle folder, or the file itself.

    Raises
    ------
    CatalogError : when there is none.
    """
    path = Path(path)
    if path.is_dir():
        found = path / CATALOG_NAME
        if found.is_file():
            return found
        others = sorted(p.name for p in path.glob("*.kwcoco.*"))
        raise CatalogError(
            f"there is no {CATALOG_NAME} in {path}",
            hint=f"open {others[0]} by its path" if others else "make a bundle with `ndvol import`",
        )
    if not path.is_file():
        raise CatalogError(f"there is no bundle or kwcoco file at {path}", hint="make a bundle with `ndvol import`")
    return path


def load_coco(path: Path) -> dict[str, Any]:
    """The dictionary of a ``.json`` or ``.zip`` kwcoco file.

    kwcoco itself takes 10 s for a million annotations, so the JSON is read without it.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [n for n in archive.namelist() if n.endswith(".json")]
                if len(names) != 1:
                    raise CatalogError(f"{path} must hold one .json file", got=names)
                data = json.loads(archive.read(names[0]))
        else:
            data = json.loads(path.read_bytes())
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, NdvolError):
            raise
        raise CatalogError(f"{path} is not readable as kwcoco", got=error) from error
    if not isinstance(data, dict) or not isinstance(data.get("images"), list):
        raise CatalogError(f"{path} is JSON but has no list of images", hint="is it a kwcoco or MS-COCO file?")
    return data


def records_from_coco(data: Mapping[str, Any], folder: Path) -> tuple[list[CaseRecord], CategoryTree]:
    """The cases and the category tree of a kwcoco dictionary whose relative paths start at `folder`.

    An image with an ``ndvol`` key is a case in its own HDF5 file; any other is a picture and a 2-D case, with its
    annotation boxes as objects (an annotation without a box covers the whole picture).
    """
    tree = CategoryTree.from_coco(_rows(data, "categories"))
    index = {category_id: i for i, category_id in enumerate(tree.ids)}
    grouped: dict[Any, list[Mapping[str, Any]]] = {}
    for annotation in _rows(data, "annotations"):
        # kwcoco permits annotations without a category; there is nothing to draw by.
        if annotation.get("category_id") is not None:
            grouped.setdefault(annotation.get("image_id"), []).append(annotation)
    boxes = {"categories": {i + 1: name for i, name in enumerate(tree.names)}}
    records = []
    for image in _rows(data, "images"):
        annotations = grouped.get(image.get("id"), [])
        build = _volume_record if isinstance(image.get("ndvol"), Mapping) else _picture_record
        try:
            record = build(image, annotations, index, folder)
            records.append(record if record.sha256 else replace(record, attributes=boxes))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            if isinstance(error, NdvolError):
                raise
            raise CatalogError(f"image {image.get('id')!r} cannot be understood", got=repr(error)) from error
    return records, tree


def _rows(data: Mapping[str, Any], table: str) -> list[Mapping[str, Any]]:
    rows = data.get(table) or []
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise CatalogError(f"the catalogue's {table!r} are no list of dictionaries")
    return rows


def _volume_record(
    image: Mapping[str, Any], annotations: list[Mapping[str, Any]], index: Mapping[int, int], folder: Path
) -> CaseRecord:
    facts = image["ndvol"]
    inside = PurePosixPath(facts["file"])
    if inside.is_absolute() or ".." in inside.parts:
        raise CatalogError(
            f"case {image.get('name')!r} points outside its folder",
            got=str(inside),
            expected="a path below file_name's",
        )
    labels = tuple(facts["labels"])
    ndim = len(facts["axes"])
    rows = []
    for annotation in annotations:
        # An annotation that someone added with kwcoco's own tools has no box in the volume.
        if box := annotation.get("ndvol"):
            row = [index[annotation["category_id"]], labels.index(box["label"]), box["value"], box["voxels"]]
            rows.append([*row, *box["start"], *box["stop"]])
    return CaseRecord(
        name=str(image.get("name") or inside.stem),
        path=str(folder / Path(image["file_name"]).parent / inside),
        axes=facts["axes"],
        shape=tuple(facts["shape"]),
        spacing=tuple(facts["spacing"]),
        unit=facts["unit"],
        images=tuple(facts["images"]),
        labels=labels,
        objects=_objects(rows, ndim),
        sha256=facts["sha256"],
        attributes=facts,
    )


def _picture_record(
    image: Mapping[str, Any], annotations: list[Mapping[str, Any]], index: Mapping[int, int], folder: Path
) -> CaseRecord:
    name = str(image.get("name") or image.get("file_name") or image["id"])
    if not image.get("file_name"):
        raise CatalogError(f"image {name!r} has no file_name", hint="images made of assets alone cannot be opened")
    shape = (int(image["height"]), int(image["width"]))
    rows = []
    for annotation in annotations:
        category = index[annotation["category_id"]]
        x, y, width, height = annotation.get("bbox") or (0, 0, shape[1], shape[0])
        if not np.isfinite([x, y, width, height]).all():
            raise CatalogError(f"a box of image {name!r} is not finite", got=annotation["bbox"])
        # Every pixel that the box touches belongs to it.
        start = np.clip(np.floor([y, x]), 0, shape).astype(int)
        stop = np.clip(np.ceil([y + height, x + width]), start, shape).astype(int)
        rows.append([category, 0, category + 1, int(np.prod(stop - start)), *start, *stop])
    path = str(folder / image["file_name"])
    return CaseRecord(name, path, "yx", shape, (1.0, 1.0), "unknown", ("image",), (BOXES,), _objects(rows, 2))


def _objects(rows: list[list[int]], ndim: int) -> Objects:
    table = np.array(rows, np.int64).reshape(-1, 4 + 2 * ndim)
    category, label, value, voxels = table[:, :4].T
    return Objects(category, label, value, table[:, 4 : 4 + ndim], table[:, 4 + ndim :], voxels)


def coco_from_records(records: Iterable[CaseRecord], tree: CategoryTree, folder: Path) -> dict[str, Any]:
    """The kwcoco dictionary of cases stored below `folder`; the inverse of `records_from_coco`.

    ``bbox`` is the projection of an object's box on x and y: exactly four numbers, as kwcoco's schema wants.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, record in enumerate(records, start=1):
        relative = Path(record.path).relative_to(folder)
        x, y = record.axes.index("x"), record.axes.index("y")
        images.append(
            {
                "id": image_id,
                "name": record.name,
                "file_name": relative.with_suffix(".png").as_posix(),
                "width": record.shape[x],
                "height": record.shape[y],
                "ndvol": dict(record.attributes),
            }
        )
        objects = record.objects
        for k in range(len(objects)):
            start, stop = objects.start[k].tolist(), objects.stop[k].tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": tree.ids[objects.category[k]],
                    "bbox": [start[x], start[y], stop[x] - start[x], stop[y] - start[y]],
                    "ndvol": {
                        "label": record.labels[objects.label[k]],
                        "value": int(objects.value[k]),
                        "voxels": int(objects.voxels[k]),
                        "start": start,
                        "stop": stop,
                    },
                }
            )
    return {"info": [], "licenses": [], "categories": tree.to_coco(), "images": images, "annotations": annotations}
