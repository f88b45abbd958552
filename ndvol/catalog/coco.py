"""kwcoco in and out: one case is one image, its preview is ``file_name``, and the key ``ndvol`` holds the rest.

Of all layouts tried against kwcoco's own commands this is the one that ``validate``, ``stats``, ``show``,
``visualize``, ``fixup``, ``subset``, ``union``, ``split`` and ``move`` all accept. They rewrite ``file_name``, rename
images and remap ids, so the volume is found relative to the folder of ``file_name``, and no id is kept inside an
``ndvol`` key.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ndvol.catalog.catalog import CaseRecord
from ndvol.categories import CategoryTree
from ndvol.errors import CatalogError, NdvolError

CATALOG_NAME = "data.kwcoco.json"
FREE_UNPACKED, MAX_RATIO = 2**28, 200
"""A zipped catalogue may unpack to 256 MiB, or to this many times its size: JSON packs 10 to 50 to 1."""


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
    if path.suffix == ".h5":
        raise CatalogError(f"{path} is one volume file", hint="give the bundle's folder or its .kwcoco.json")
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
                info = archive.getinfo(names[0])
                if info.file_size > max(FREE_UNPACKED, MAX_RATIO * info.compress_size):
                    raise CatalogError(
                        f"{path} unpacks to far more than it holds",
                        got=f"{info.file_size} bytes in {info.compress_size}",
                        hint="unpack it, and open the .json",
                    )
                data = json.loads(archive.read(names[0]))
        else:
            data = json.loads(path.read_bytes())
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, NdvolError):
            raise
        hint = "give a bundle's folder, or a whole .kwcoco.json or .zip file"
        raise CatalogError(f"{path} is not readable as kwcoco", got=error, hint=hint) from error
    if not isinstance(data, dict) or not isinstance(data.get("images"), list):
        raise CatalogError(f"{path} is JSON but has no list of images", hint="is it a kwcoco or MS-COCO file?")
    return data


def coco_from_records(records: Iterable[CaseRecord], tree: CategoryTree, folder: Path) -> dict[str, Any]:
    """The kwcoco dictionary of cases stored below `folder`; the inverse of `columns_from_coco`.

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
            bbox = [start[x], start[y], stop[x] - start[x], stop[y] - start[y]]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": tree.ids[objects.category[k]],
                    "bbox": bbox if record.bboxes is None else record.bboxes[k].tolist(),
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
