"""The records of a kwcoco file as columns: a case's record is made when it is asked for.

A million annotations as Python objects take gigabytes and ten seconds; as columns they take megabytes, and can be kept
in a file (see `cache`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.catalog.catalog import CaseRecord, Objects
from ndvol.categories import CategoryTree, with_implied_parents
from ndvol.errors import CatalogError, NdvolError

BOXES = "boxes"
"""Name of the label volume that stands for the annotation boxes of a plain picture."""

_IMAGE_KEYS = ("id", "name", "file_name", "width", "height", "ndvol")
"""What a record needs of a kwcoco image."""

_SHARED = 4
"""Columns of an object before its box: category, label, value, voxels."""

Columns = Mapping[str, NDArray[Any]]


def columns_from_coco(data: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """A kwcoco dictionary as columns.

    Returns
    -------
    categories : uint8, kwcoco's list of categories as JSON text.
    names : uint8, the list of case names as JSON text.
    images, image_ends : uint8, one JSON dictionary per case after the other; (cases + 1,), where they end.
    objects, object_ends : (objects, 4 + 2 * most axes) int64 as `Objects` has them, case by case, boxes padded with 0;
        (cases + 1,), where the objects of a case end.

    Raises
    ------
    CatalogError : when an image or annotation cannot be understood.
    CategoryError : when the categories form no tree.
    """
    tree = CategoryTree.from_coco(with_implied_parents(_rows(data, "categories")))
    index = {category_id: i for i, category_id in enumerate(tree.ids)}
    grouped: dict[Any, list[Mapping[str, Any]]] = {}
    for annotation in _rows(data, "annotations"):
        # kwcoco permits annotations without a category; there is nothing to draw by.
        if annotation.get("category_id") is not None:
            grouped.setdefault(annotation.get("image_id"), []).append(annotation)
    names: list[str] = []
    texts: list[bytes] = []
    tables: list[NDArray[np.int64]] = []
    for image in _rows(data, "images"):
        annotations = grouped.get(image.get("id"), [])
        build, objects_of = (_volume, _volume_objects) if _is_volume(image) else (_picture, _picture_objects)
        try:
            record = build(image, Path(), _NO_OBJECTS)
            rows = objects_of(image, record, annotations, index)
            tables.append(np.array(rows, np.int64).reshape(len(rows), _SHARED + 2 * len(record.axes)))
            texts.append(json.dumps({key: image[key] for key in _IMAGE_KEYS if key in image}).encode())
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            if isinstance(error, NdvolError):
                raise
            raise CatalogError(f"image {image.get('id')!r} cannot be understood", got=repr(error)) from error
        names.append(record.name)
    width = max((table.shape[1] for table in tables), default=_SHARED)
    objects = np.zeros((sum(map(len, tables)), width), np.int64)
    object_ends = _ends(tables)
    for table, start, stop in zip(tables, object_ends, object_ends[1:], strict=False):
        objects[start:stop, : table.shape[1]] = table
    return {
        "categories": _text(tree.to_coco()),
        "names": _text(names),
        "images": np.frombuffer(b"".join(texts), np.uint8),
        "image_ends": _ends(texts),
        "objects": objects,
        "object_ends": object_ends,
    }


class RecordTable(Mapping[str, CaseRecord]):
    """Case name -> record, made of columns when it is asked for.

    Parameters
    ----------
    columns : as `columns_from_coco` makes them.
    folder : that relative paths of the kwcoco file start at.

    Attributes
    ----------
    categories : the tree that `Objects.category` counts in.

    Raises
    ------
    CatalogError : when a case name is given twice.
    """

    def __init__(self, columns: Columns, folder: Path) -> None:
        self._columns, self._folder = columns, folder
        self.categories = CategoryTree.from_coco(json.loads(columns["categories"].tobytes()))
        self._names: list[str] = json.loads(columns["names"].tobytes())
        if len(self._numbers) != len(self._names):
            twice = sorted({n for n in self._names if self._names.count(n) > 1})
            raise CatalogError("case names are not unique", got=twice)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self._names)}

    @cached_property
    def _boxes(self) -> dict[str, Any]:
        return {"categories": {i + 1: name for i, name in enumerate(self.categories.names)}}

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._numbers

    def __getitem__(self, name: str) -> CaseRecord:
        number = self._numbers[name]
        start, stop = self._columns["image_ends"][number : number + 2].tolist()
        image = json.loads(self._columns["images"][start:stop].tobytes())
        start, stop = self._columns["object_ends"][number : number + 2].tolist()
        table = self._columns["objects"][start:stop]
        if _is_volume(image):
            return _volume(image, self._folder, table)
        # Every category of a plain kwcoco file is taken to have been looked for in every picture.
        picture = _picture(image, self._folder, table)
        return replace(picture, attributes=self._boxes, examined=self.categories.names)


def case_of_image(image: Mapping[str, Any], folder: Path) -> CaseRecord:
    """The record, without objects, of a kwcoco image that has an ``ndvol`` key.

    Raises
    ------
    CatalogError : when the key cannot be understood.
    """
    try:
        table = np.zeros((0, _SHARED + 2 * len(image["ndvol"]["axes"])), np.int64)
        return _volume(image, folder, table)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, NdvolError):
            raise
        raise CatalogError(f"image {image.get('id')!r} cannot be understood", got=repr(error)) from error


def _is_volume(image: Mapping[str, Any]) -> bool:
    """An image with an ``ndvol`` key is a case in its own HDF5 file; any other is a picture and a 2-D case."""
    return isinstance(image.get("ndvol"), Mapping)


def _volume(image: Mapping[str, Any], folder: Path, table: NDArray[np.int64]) -> CaseRecord:
    facts = image["ndvol"]
    inside = str(facts["file"])
    if inside.startswith("/") or ".." in inside.split("/"):
        raise CatalogError(
            f"case {image.get('name')!r} points outside its folder",
            got=inside,
            expected="a path below file_name's",
        )
    # As text: a hundred thousand paths as objects take seconds.
    path = os.path.join(folder, os.path.dirname(image["file_name"]), inside)  # noqa: PTH118, PTH120
    return CaseRecord(
        name=str(image.get("name") or PurePosixPath(inside).stem),
        path=path,
        axes=facts["axes"],
        shape=tuple(facts["shape"]),
        spacing=tuple(facts["spacing"]),
        unit=facts["unit"],
        images=tuple(facts["images"]),
        labels=tuple(facts["labels"]),
        objects=_objects(table, len(facts["axes"])),
        sha256=facts["sha256"],
        attributes=facts,
        examined=tuple(facts["examined"]) if "examined" in facts else None,
    )


def _volume_objects(
    _: Mapping[str, Any], record: CaseRecord, annotations: Sequence[Mapping[str, Any]], index: Mapping[int, int]
) -> list[list[int]]:
    rows = []
    for annotation in annotations:
        # An annotation that someone added with kwcoco's own tools has no box in the volume.
        if box := annotation.get("ndvol"):
            row = [index[annotation["category_id"]], record.labels.index(box["label"]), box["value"], box["voxels"]]
            rows.append([*row, *box["start"], *box["stop"]])
    return rows


def _picture(image: Mapping[str, Any], folder: Path, table: NDArray[np.int64]) -> CaseRecord:
    name = str(image.get("name") or image.get("file_name") or image["id"])
    if not image.get("file_name"):
        raise CatalogError(f"image {name!r} has no file_name", hint="images made of assets alone cannot be opened")
    shape = (int(image["height"]), int(image["width"]))
    path = os.path.join(folder, image["file_name"])  # noqa: PTH118
    return CaseRecord(name, path, "yx", shape, (1.0, 1.0), "unknown", ("image",), (BOXES,), _objects(table, 2))


def _picture_objects(
    _: Mapping[str, Any], record: CaseRecord, annotations: Sequence[Mapping[str, Any]], index: Mapping[int, int]
) -> list[list[int]]:
    """The annotation boxes of a picture; an annotation without a box covers all of it."""
    shape, rows = record.shape, []
    for annotation in annotations:
        category = index[annotation["category_id"]]
        x, y, width, height = annotation.get("bbox") or (0, 0, shape[1], shape[0])
        if not np.isfinite([x, y, width, height]).all():
            raise CatalogError(f"a box of image {record.name!r} is not finite", got=annotation["bbox"])
        # Every pixel that the box touches belongs to it.
        start = np.clip(np.floor([y, x]), 0, shape).astype(int)
        stop = np.clip(np.ceil([y + height, x + width]), start, shape).astype(int)
        rows.append([category, 0, category + 1, int(np.prod(stop - start)), *start, *stop])
    return rows


def _objects(table: NDArray[np.int64], ndim: int) -> Objects:
    category, label, value, voxels = table[:, :_SHARED].T
    start, stop = table[:, _SHARED : _SHARED + ndim], table[:, _SHARED + ndim : _SHARED + 2 * ndim]
    return Objects(category, label, value, start, stop, voxels)


_NO_OBJECTS = np.zeros((0, _SHARED), np.int64)


def _rows(data: Mapping[str, Any], table: str) -> list[Mapping[str, Any]]:
    rows = data.get(table) or []
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise CatalogError(f"the catalogue's {table!r} are no list of dictionaries")
    return rows


def _ends(parts: Sequence[Any]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum([len(part) for part in parts], dtype=np.int64)]).astype(np.int64)


def _text(value: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)
