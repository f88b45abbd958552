"""Folder layouts: which series are images, which are labels, and which of them form one case.

Known without being told: image and label folders side by side, nnU-Net raw and Medical Segmentation Decathlon (by their
``dataset.json``), a folder of masks beside an image, one mask per structure (TotalSegmentator), segmentations that say
so themselves beside their image (``x.seg.nrrd`` of 3D Slicer), and BIDS (by its names).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ndvol.errors import CategoryError
from ndvol.formats import Series
from ndvol.formats.slices import SUFFIX, slice_categories
from ndvol.importing.bids import DERIVATIVES, BidsName, bids_name

IMAGE_FOLDERS = frozenset({"image", "images", "imagestr", "imagests", "imagesva", "imagesval", "img"})
LABEL_FOLDERS = frozenset(
    {
        *("label", "labels", "labelstr", "labelsts", "labelsva", "labelsval"),
        *("mask", "masks", "seg", "segmentation", "segmentations"),
    }
)
"""Names of folders that hold images and their labels; compared in lower case."""
SEGMENTATION = "SEG"
"""Modality of a series that says itself that it is a segmentation."""
_PART = re.compile(r"(tr|ts|val?)$")
_CHANNEL = re.compile(r"(.+)_(\d{4})$")
"""nnU-Net's names of images: ``<case>_<channel>``."""


@dataclass(frozen=True, slots=True)
class DatasetTable:
    """What a ``dataset.json`` says.

    Attributes
    ----------
    channels : channel number -> name.
    categories : kwcoco category dictionaries with ``value``.
    """

    channels: Mapping[int, str]
    categories: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a series stands in the layout.

    Attributes
    ----------
    role : ``image`` or ``label``.
    group : the folder that holds the image and label folders; labels belong to images of their group.
    key : what the images and labels of one case share below it.
    name : of the image (its channel) or label volume; empty when the layout does not say.
    case : proposal for the name of the case.
    root : the folder that the series' files are relative to.
    alone : a label that is a whole label map of its own, whatever other labels stand beside it.
    whole : what the images of one case of several share besides the group; empty for an image that stands alone.
    channels : names of the images that lie along the t axis of the series; empty when it is one image.
    structure : name of the category of a binary mask, where the layout says it.
    names : value -> category name of a label map, where the layout says it.
    """

    series: Series
    role: str
    group: str
    key: str
    name: str
    case: str
    root: str
    alone: bool = False
    whole: str = ""
    channels: tuple[str, ...] = ()
    structure: str = ""
    names: Mapping[int, str] = field(default_factory=dict)


def place_series(series: Iterable[Series], root: str, tables: Mapping[str, DatasetTable]) -> list[Place]:
    """The place of each series, by the first folder on its path that has a telling name.

    A folder named like labels counts only where images stand beside it: in a folder named like images, or directly.
    What says itself that it is a segmentation is a label wherever it stands.
    """
    series = list(series)
    roles = [_folder_role(s) for s in series]
    with_images = {
        group
        for (role, group, _, _), s in zip(roles, series, strict=True)
        if role != "label" and s.modality != SEGMENTATION
    }
    names = [_bids_name(s, role[0]) for s, role in zip(series, roles, strict=True)]
    datasets = {name.dataset for name in names if name and not name.is_label}
    places = []
    for s, (role, group, folder, key), name in zip(series, roles, names, strict=True):
        if name and name.dataset in datasets:
            places.append(_bids_place(s, name, root))
        elif role == "label" and group in with_images:
            places.append(Place(s, "label", group, key, folder, s.name, root))
        elif s.modality == SEGMENTATION:
            places.append(Place(s, "label", group, key, "segmentation", s.name, root, alone=True))
        elif role != "label":
            places.append(_image_place(s, group, key, root, tables.get(group)))
        else:
            # A folder of that name without images beside it is a folder like any other.
            places.append(Place(s, "image", str(PurePosixPath(s.files[0]).parent), s.key, "", s.name, root))
    return places


def _bids_name(series: Series, role: str) -> BidsName | None:
    """The name in BIDS of a series, unless its path has a folder of images or labels outside of derivatives."""
    path = series.files[0]
    if role and DERIVATIVES not in PurePosixPath(path).parts:
        return None
    return bids_name(path, series.name)


def _bids_place(series: Series, name: BidsName, root: str) -> Place:
    role = "label" if name.is_label else "image"
    structure = name.structure if name.suffix == "mask" else ""
    place = Place(series, role, name.dataset, series.key, name.name, name.case, root, alone=name.is_label)
    return replace(place, whole=name.case, structure=structure)


def label_place(series: Series, folder: str, root: str) -> Place:
    """The place of a label below a folder of labels that the user named."""
    name = bids_name(series.files[0], series.name)
    if name and name.is_label:
        return _bids_place(series, name, root)
    return Place(series, "label", "", series.key, folder, series.name, root)


def bids_datasets(places: Iterable[Place]) -> set[str]:
    """The folders of the data sets in BIDS that `places` are in."""
    names = ((p, bids_name(p.series.files[0], p.series.name)) for p in places)
    return {p.group for p, name in names if name and p.whole == name.case}


def _image_place(series: Series, group: str, key: str, root: str, table: DatasetTable | None) -> Place:
    channel = _CHANNEL.match(series.name)
    if series.volume:  # a reader that names its images knows which belong together
        return Place(series, "image", group, key, series.volume, series.name, root, whole=key)
    if table is None:
        return Place(series, "image", group, key, "", series.name, root)
    if channel and key.endswith(series.name):
        name = table.channels.get(int(channel[2]), f"channel-{int(channel[2])}")
        key = key.removesuffix(f"_{channel[2]}")
        return Place(series, "image", group, key, name, channel[1], root, whole=key)
    name = table.channels.get(0, "") if len(table.channels) == 1 else ""
    return Place(series, "image", group, key, name, series.name, root, channels=_channels_along_t(series, table))


def _channels_along_t(series: Series, table: DatasetTable) -> tuple[str, ...]:
    """The modalities of the Decathlon, which lie along the fourth axis of one file."""
    numbers = range(len(table.channels))
    along = series.axes[:1] == "t" and series.shape[0] == len(numbers) > 1 and set(table.channels) == set(numbers)
    return tuple(table.channels[k] for k in numbers) if along else ()


def _folder_role(series: Series) -> tuple[str, str, str, str]:
    """(role, group, folder, key) of a series."""
    parts = PurePosixPath(series.files[0]).parts[:-1]
    for i, part in enumerate(parts):
        for role, names in (("image", IMAGE_FOLDERS), ("label", LABEL_FOLDERS)):
            if part.lower() in names:
                # imagesTr goes with labelsTr and imagesTs with labelsTs, also where both hold a file of one name.
                split = _PART.search(part.lower())
                key = "/".join(PurePosixPath(series.key).parts[i + 1 :])
                return role, "/".join(parts[:i]), part, f"{split[0]}/{key}" if split else key
    return "", "/".join(parts), "", series.key


def read_tables(root: Path, files: Sequence[str]) -> dict[str, DatasetTable]:
    """The ``dataset.json`` files and slice exports among `files`, by their folder.

    Raises
    ------
    CategoryError : when one looks like nnU-Net's or the Decathlon's but its labels make no sense.
    """
    tables = {}
    for file in files:
        if file.endswith(SUFFIX) and (rows := slice_categories(root / file)):
            tables[_folder(file)] = DatasetTable({}, tuple(rows))
        if PurePosixPath(file).name != "dataset.json":
            continue
        try:
            data = json.loads((root / file).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # some other program's file; it is reported as not recognised
        if not isinstance(data, dict) or not isinstance(data.get("labels"), dict):
            continue
        channels = data.get("channel_names") or data.get("modality") or {}
        try:
            names = {int(number): str(name) for number, name in dict(channels).items()}
            categories = categories_of_labels(data["labels"])
        except (TypeError, ValueError) as error:
            raise CategoryError(f"the labels or channels of {file} make no sense", got=error) from error
        tables[_folder(file)] = DatasetTable(names, categories)
    return tables


def _folder(file: str) -> str:
    folder = PurePosixPath(file).parent.as_posix()
    return "" if folder == "." else folder


def categories_of_labels(labels: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Categories of the ``labels`` of a ``dataset.json``: ``{"1": "liver"}``, ``{"liver": 1}`` or regions.

    A region (nnU-Net's ``{"whole tumor": [1, 2, 3], "core": [2, 3]}``) becomes a node of the tree: the value's
    category is the smallest region that holds it, and a region's parent the smallest one that holds it wholly.

    >>> [(c["name"], c["supercategory"], c.get("value")) for c in categories_of_labels({"whole": [1, 2], "core": 2})]
    [('whole', None, 1), ('core', 'whole', 2)]
    """
    regions: dict[str, frozenset[int]] = {}
    for key, entry in labels.items():
        name, values = (key, entry) if not str(key).isdigit() else (entry, key)
        numbers = frozenset(int(v) for v in (values if isinstance(values, list | tuple) else [values])) - {0}
        if numbers and name != "ignore":
            regions[str(name)] = numbers
    for one in regions:
        for other in regions:
            shared = regions[one] & regions[other]
            if one != other and shared and not (regions[one] < regions[other] or regions[other] < regions[one]):
                raise ValueError(f"the regions {one!r} and {other!r} overlap, but neither holds the other")
    by_size = sorted(regions, key=lambda name: (-len(regions[name]), min(regions[name])))
    rows = []
    for name in by_size:
        above = [n for n in by_size if regions[n] > regions[name]]
        below = frozenset[int]().union(*(regions[n] for n in by_size if regions[n] < regions[name]))
        own = sorted(regions[name] - below)
        if len(own) > 1:
            raise ValueError(f"the values {own} of region {name!r} have no name of their own")
        rows.append({"name": name, "supercategory": above[-1] if above else None} | ({"value": own[0]} if own else {}))
    return tuple(rows)
