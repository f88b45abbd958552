"""Opening: from a bundle or a kwcoco file to a catalogue whose cases can be read."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.backends import open_picture
from ndvol.box_index import BoxIndex
from ndvol.catalog import (
    BOXES,
    CaseRecord,
    Catalog,
    RecordTable,
    cached_columns,
    columns_from_coco,
    find_catalog,
    load_coco,
)
from ndvol.errors import CatalogError
from ndvol.geometry import Grid, Window
from ndvol.store import open_case as open_stored_case
from ndvol.verdict import Verdict
from ndvol.volumes import ArrayLabelSource, Case, LabelVolume

JOURNAL_NAME = "import.jsonl"


def open_catalog(source: Any) -> Catalog:
    """The catalogue of a bundle folder, a ``.kwcoco.json`` or ``.zip`` file, or a `kwcoco.CocoDataset`.

    A plain kwcoco file opens as well: each of its pictures is a 2-D case. Its names may lead out of its folder, since
    kwcoco's own commands write absolute ones; nothing but pictures and ndvol's files is read there.

    Raises
    ------
    CatalogError : when there is no catalogue, or it cannot be understood.
    CategoryError : when its categories do not form a tree.
    """
    if hasattr(source, "dataset") and hasattr(source, "bundle_dpath"):
        path = Path(source.bundle_dpath) / Path(source.fpath).name
        columns = columns_from_coco(source.dataset)
    else:
        path = find_catalog(source)
        columns = cached_columns(path, lambda: columns_from_coco(load_coco(path)))
    folder = path.parent.absolute()
    records = RecordTable(columns, folder)
    return Catalog(records, records.categories, open_case, path=str(path), verdicts=partial(read_verdicts, folder))


def open_case(record: CaseRecord) -> Case:
    """The case behind a record: an ndvol file, or a picture with its annotation boxes."""
    if record.sha256:
        case = open_stored_case(record.path)
        missing = [n for n in (*record.images, *record.labels) if n not in case.images and n not in case.labels]
        if missing:
            raise CatalogError(
                f"the file of case {record.name!r} lacks volumes that the catalogue names",
                got=record.path,
                expected=missing,
                hint="run `ndvol verify`",
            )
        # kwcoco's commands rename colliding images; the catalogue's name counts, and its first image.
        first = {name: case.images[name] for name in record.images if name in case.images}
        return Case(record.name, first | dict(case.images), case.labels)
    picture = open_picture(Path(record.path))
    plane = Grid.regular("yx", record.shape)
    if picture.shape[-2:] != record.shape:
        raise CatalogError(
            f"picture {record.path} has another size than the catalogue says", got=picture.shape, expected=record.shape
        )
    boxes = LabelVolume(BOXES, plane, BoxLabelSource(record), categories=record.attributes["categories"])
    return Case(record.name, {"image": picture}, {BOXES: boxes})


class BoxLabelSource(ArrayLabelSource):
    """The annotation boxes of a picture as labels: painted for the eye, but judged each by itself."""

    def __init__(self, record: CaseRecord) -> None:
        super().__init__(paint_boxes(record))
        objects = record.objects
        self._boxes = BoxIndex(objects.value, objects.start, objects.stop, self.shape)

    def label_index(self) -> BoxIndex:
        return self._boxes


def paint_boxes(record: CaseRecord) -> NDArray[np.uint16]:
    """The annotation boxes of a picture as a label array; smaller boxes lie on top of larger ones."""
    canvas = np.zeros(record.shape, np.uint16)
    objects = record.objects
    for k in np.argsort(-objects.voxels, kind="stable"):
        canvas[Window.between(objects.start[k], objects.stop[k]).slices] = objects.value[k]
    return canvas


def read_verdicts(folder: Path) -> list[Verdict]:
    """What ``import.jsonl`` beside a catalogue says of every source; empty when there is none."""
    return [Verdict(**{name: row[name] for name in Verdict.__slots__}) for row in read_journal(folder)]


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """The rows of ``import.jsonl``, equal verdicts once, the later of two states of a case.

    A torn last line, as a killed import leaves it, is passed over.
    """
    path = folder / JOURNAL_NAME
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
            rows[row["root"], row["source"], row["code"], row["message"]] = row
        except (ValueError, KeyError, TypeError):
            continue
    return list(rows.values())
