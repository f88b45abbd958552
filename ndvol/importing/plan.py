"""The plan of an import: which sources become which volumes of which cases. Data, printable, no pixel decoded."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ndvol.categories import CategoryTree
from ndvol.errors import CategoryError, OptionError, SourceError
from ndvol.formats import Series, readers
from ndvol.opening import JOURNAL_NAME
from ndvol.verdict import Verdict

IMAGE_FOLDERS = frozenset({"image", "images", "imagestr", "img"})
LABEL_FOLDERS = frozenset({"label", "labels", "labelstr", "mask", "masks", "seg", "segmentation", "segmentations"})
"""Names of sibling folders that hold images and their labels; compared in lower case."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What an import does with its sources.

    Attributes
    ----------
    labels : folder or file with the label maps of the images; by default they are found in a folder called
        ``labels``, ``labelsTr``, ``masks``, ``segmentations`` … beside one called ``images``, ``imagesTr`` ….
    label_name : name of the label volume; the name of the label folder by default.
    categories : kwcoco category dictionaries, with the additional key ``value`` for those that label maps hold.
        Without them the value 1 of a binary mask is called like its label volume, other values ``<label>-<value>``.
    modality : of sources that do not state one; it also names the image volume (``image`` when empty).
    orientation : ``canonical`` stores z, y, x closest to S, P, L by permutation and flips; ``native`` as it is.
    objects : ``component`` or ``category``, see `ndvol.store.objects.find_objects`.
    """

    labels: str | None = None
    label_name: str | None = None
    categories: tuple[Mapping[str, Any], ...] = ()
    modality: str = ""
    orientation: str = "canonical"
    objects: str = "component"

    def __post_init__(self) -> None:
        choices = (("orientation", ("canonical", "native")), ("objects", ("component", "category")))
        for name, allowed in choices:
            if getattr(self, name) not in allowed:
                raise OptionError(f"unknown {name}", got=getattr(self, name), expected=f"one of {allowed}")
        CategoryTree.from_coco(self.categories)
        values = [row["value"] for row in self.categories if row.get("value") is not None]
        if len(set(values)) != len(values) or not all(isinstance(v, int) and v > 0 for v in values):
            raise CategoryError("each `value` in the categories must be a positive integer of its own", got=values)

    @property
    def value_names(self) -> dict[int, str]:
        """Label value -> category name, as far as `categories` states it."""
        return {row["value"]: row["name"] for row in self.categories if row.get("value") is not None}

    def fingerprint(self) -> dict[str, Any]:
        """The options that change the content of a case's file; paths do not."""
        named = ("label_name", "modality", "orientation", "objects")
        return {**{n: getattr(self, n) for n in named}, "categories": [dict(c) for c in self.categories]}


def read_categories(path: str | Path) -> tuple[dict[str, Any], ...]:
    """The category table of a JSON file: a list of kwcoco categories with ``value``, or ``{"1": "liver", …}``.

    Raises
    ------
    CategoryError : when the file is neither.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        if isinstance(data, dict) and isinstance(data.get("categories"), list):
            data = data["categories"]
        if isinstance(data, dict):
            return tuple({"name": str(name), "value": int(value)} for value, name in data.items() if int(value))
        return tuple({**row} for row in data)
    except (OSError, ValueError, TypeError) as error:
        raise CategoryError(
            f"{path} is no category table", got=error, expected='[{"name": "liver", "value": 1}, …] or {"1": "liver"}'
        ) from error


@dataclass(frozen=True, slots=True)
class PlannedVolume:
    """A series and the name its volume gets; `root` is the folder that the series' files are relative to."""

    name: str
    root: str
    series: Series


@dataclass(frozen=True, slots=True)
class CasePlan:
    """One case: its images and labels."""

    name: str
    images: tuple[PlannedVolume, ...]
    labels: tuple[PlannedVolume, ...] = ()

    @property
    def volumes(self) -> tuple[PlannedVolume, ...]:
        return (*self.images, *self.labels)


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """Everything that an import will do, and what it will not do and why.

    Attributes
    ----------
    root : the folder that was searched.
    cases : in order of their names.
    verdicts : for the sources that are not part of a case.
    """

    root: str
    cases: tuple[CasePlan, ...]
    verdicts: tuple[Verdict, ...]
    options: ImportOptions = field(default_factory=ImportOptions)


def plan_import(source: str | Path, options: ImportOptions | None = None) -> ImportPlan:
    """Search `source` (a folder or one file) and plan its cases; reads names and headers only.

    Raises
    ------
    SourceError : when `source` or the label folder does not exist.
    """
    options = options or ImportOptions()
    root, files = list_files(source)
    if options.labels is None:
        series, verdicts = _scan(root, files)
        images, labels = _split_by_folder(root, series, options)
    else:
        label_root, label_files = list_files(options.labels)
        found, more = _scan(label_root, label_files)
        # Images and labels often have the same names; verdicts must tell them apart.
        found = [replace(s, source=f"(labels) {s.source}") for s in found]
        more = [replace(v, source=f"(labels) {v.source}") for v in more]
        given = {label_root / f for f in label_files}
        series, verdicts = _scan(root, [f for f in files if root / f not in given])
        name = options.label_name or Path(options.labels).resolve().name.split(".")[0]
        images = [_Candidate("", s.key, PlannedVolume(_image_name(s, options), str(root), s)) for s in series]
        labels = [_Candidate("", s.key, PlannedVolume(_slug(name), str(label_root), s)) for s in found]
        verdicts += more
    cases, orphans = _pair(images, labels)
    return ImportPlan(str(root), tuple(cases), (*verdicts, *orphans), options)


def list_files(source: str | Path) -> tuple[Path, list[str]]:
    """The root folder and, relative to it, all files below in sorted order; a single file is its folder's only one.

    Hidden files, hidden folders and bundles are passed over, and links that lead out of the root are not followed.
    """
    path = Path(source)
    if path.is_file():
        return path.parent.absolute(), [path.name]
    if not path.is_dir():
        raise SourceError(f"there is no folder or file {source}", code="no-such-source")
    root = path.absolute()
    real = root.resolve()
    files = []
    for folder, folders, names in os.walk(root):
        if JOURNAL_NAME in names:
            # A bundle: what an import wrote is no source.
            folders.clear()
            continue
        folders[:] = sorted(n for n in folders if not n.startswith("."))
        for name in names:
            file = Path(folder, name)
            if not name.startswith(".") and file.resolve().is_relative_to(real) and file.is_file():
                files.append(file.relative_to(root).as_posix())
    return root, sorted(files)


def _scan(root: Path, files: Sequence[str]) -> tuple[list[Series], list[Verdict]]:
    series: list[Series] = []
    verdicts: list[Verdict] = []
    left = list(files)
    for reader in readers().values():
        scan = reader.scan(root, left)
        series += scan.series
        verdicts += scan.verdicts
        left = [f for f in left if f not in scan.claimed]
    message = f"no reader recognises it (there are {', '.join(readers())})"
    verdicts += [Verdict(file, "skipped", "unknown-format", message) for file in left]
    return series, verdicts


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A volume to be paired: `group` is the folder that holds the image and label folders, `key` the path below."""

    group: str
    key: str
    volume: PlannedVolume


def _split_by_folder(
    root: Path, series: Iterable[Series], options: ImportOptions
) -> tuple[list[_Candidate], list[_Candidate]]:
    """Images, and labels: the series in a folder named like labels that stands beside one named like images."""
    series = list(series)
    places = [_folder_role(s) for s in series]
    with_images = {group for role, group, _, _ in places if role == "image"}
    images, labels = [], []
    for s, (role, group, folder, key) in zip(series, places, strict=True):
        if role == "label" and group in with_images:
            name = _slug(options.label_name or folder)
            labels.append(_Candidate(group, key, PlannedVolume(name, str(root), s)))
        else:
            images.append(_Candidate(group, key, PlannedVolume(_image_name(s, options), str(root), s)))
    return images, labels


def _folder_role(series: Series) -> tuple[str, str, str, str]:
    """(role, group, folder, key) by the first folder on the path with a telling name."""
    parts = PurePosixPath(series.files[0]).parts[:-1]
    for i, part in enumerate(parts):
        for role, names in (("image", IMAGE_FOLDERS), ("label", LABEL_FOLDERS)):
            if part.lower() in names:
                key = PurePosixPath(series.key).parts[i + 1 :]
                return role, "/".join(parts[:i]), part, "/".join(key)
    return "", "/".join(parts), "", series.key


def _image_name(series: Series, options: ImportOptions) -> str:
    return _slug(series.modality or options.modality or "image")


def _pair(images: list[_Candidate], labels: list[_Candidate]) -> tuple[list[CasePlan], list[Verdict]]:
    """Cases of one image and the labels of the same group and key; a lone image takes a lone label of its group."""
    by_key: dict[tuple[str, str], list[int]] = {}
    for i, image in enumerate(images):
        by_key.setdefault((image.group, image.key), []).append(i)
    images_in, labels_in = Counter(i.group for i in images), Counter(label.group for label in labels)
    lone = {image.group: i for i, image in enumerate(images)}
    taken: dict[int, list[PlannedVolume]] = {i: [] for i in range(len(images))}
    orphans = []
    for label in labels:
        hits = by_key.get((label.group, label.key), [])
        volume, code, message = label.volume, "", ""
        if not hits and images_in[label.group] == labels_in[label.group] == 1:
            hits = [lone[label.group]]
            doubt = f"paired with {images[hits[0]].volume.series.source}, the only image, though their names differ"
            volume = replace(volume, series=replace(volume.series, warnings=(*volume.series.warnings, doubt)))
        if len(hits) != 1:
            found = f"{len(hits)} images" if hits else "no image"
            code, message = (
                "no-image-for-label",
                f"{found} of the same name ({label.key!r}); name image and label alike",
            )
        elif any(volume.name == other.name for other in taken[hits[0]]):
            code, message = "label-name-taken", f"its image has another label volume {volume.name!r} already"
        if code:
            orphans.append(Verdict(volume.series.source, "refused", code, message, files=len(volume.series.files)))
        else:
            taken[hits[0]].append(volume)
    names = _case_names([image.volume.series for image in images])
    cases = [CasePlan(names[i], (image.volume,), tuple(taken[i])) for i, image in enumerate(images)]
    return sorted(cases, key=lambda case: case.name), orphans


def _case_names(series: Sequence[Series]) -> list[str]:
    """A unique file name per series: its own name, with its folders in front where several would be equal."""
    names = [_slug(s.name) for s in series]
    counts = Counter(names)
    for i, s in enumerate(series):
        if counts[_slug(s.name)] > 1:
            names[i] = _slug("-".join([*PurePosixPath(s.files[0]).parts[:-1], s.name]))
    proposed, used = Counter(map(_folded, names)), set[str]()
    for i, name in enumerate(names):
        number = 1
        while _folded(names[i]) in used or (number > 1 and _folded(names[i]) in proposed):
            number += 1
            names[i] = f"{name}-{number}"
        used.add(_folded(names[i]))
    return names


def _folded(name: str) -> str:
    """What two names have in common that a file system may take for one."""
    return unicodedata.normalize("NFC", name).casefold()


def _slug(text: str) -> str:
    """`text` as a name for files and HDF5 groups: letters, digits, ``-``, ``_`` and ``.``."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")[:120] or "unnamed"
