"""What an import does with its sources: options, and the table of categories."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ndvol.categories import CategoryTree
from ndvol.errors import CategoryError, OptionError
from ndvol.formats import DEFAULT_READING, ReadOptions
from ndvol.geometry.pyramid import MAX_LEVELS
from ndvol.store import CODECS

MERGED = "merged"
"""Name of the label volume that `ImportOptions.merge` makes."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What an import does with its sources.

    Attributes
    ----------
    labels : folder or file with the label maps of the images; by default they are found in a folder called
        ``labels``, ``labelsTr``, ``masks``, ``segmentations`` … beside one called ``images``, ``imagesTr`` ….
    label_name : name of the label volume; the name of the label folder by default.
    categories : kwcoco category dictionaries, with two additional keys: ``value`` for those that label maps hold, and
        ``names``, a list of what structures of that category (ROIs, segments, files of masks) are called besides its
        own name; case and blanks do not count. A structure that no row names keeps its name, with a warning; a value
        that no row names is refused. Without a table the value 1 of a binary mask is called like its label volume,
        other values ``<label>-<value>``. Segments that a file names itself go by their names, never by ``value``.
    merge : categories whose voxels go into one label volume ``merged`` instead of their own, with the values 1, 2, 3
        … in this order; where they overlap the earlier wins, and a warning says how many voxels that took. Each
        must be in the case or in `categories`.
    modality : of sources that do not state one; it also names the image volume (``image`` when empty).
    orientation : ``canonical`` stores z, y, x closest to S, P, L by permutation and flips; ``native`` as it is.
    objects : ``component`` or ``category``, see `ndvol.store.objects.find_objects`.
    levels : pyramid levels of every volume, 1 (default) for the finest alone; see `ndvol.geometry.pyramid`.
    codec : how voxels are compressed. ``fast`` (default): lz4, read fastest. ``small``: zstd with byte or bit
        shuffle, whichever makes a volume smaller in a quick trial. ``portable``: gzip with shuffle, which every HDF5
        reads without a plug-in. ``none``: not at all.
    reading : what readers do where the choice is the user's, see `ndvol.formats.ReadOptions`.
    case_by : what forms a case.

        ``auto`` (default): the folder layout. Channels of nnU-Net and modalities of the Decathlon, and all images of a
        subject (in a session) in BIDS, are the images of one case; any other image is a case of its own.

        ``series``: each image is a case. ``study``: all image series of a DICOM study are one; other formats as in
        ``auto``. ``folder``: all images of the same folder are one, called by their file names without the folder's;
        a file called ``seg``, ``mask``, ``label`` … holds their labels.

        Each image keeps its own grid; nothing is resampled. Images are called by their channel, their name in BIDS,
        or their modality, with a number from the second on (``MR``, ``MR-2``): the order is that of a hash of their
        UIDs, so it says nothing about the sequence. A label goes to the image on whose grid it lies, a structure to
        the image that it names. The first image of a case, whose axes and shape stand in the catalogue and whose
        planes are the preview, is one on whose grid a label lies, then CT before others and PET after, then by name.
    follow_links : whether links to files outside of the source are read. By default they are passed over, because what
        lies outside was not given to be imported; links within the source are read, links to folders never.
    phi : what may name a person. Headers pass by allow-list in every profile; burned-in text is flagged where it is
        likely and never removed.

        ``research`` (default): what comes from DICOM has no name of its own in the bundle: cases are called
        ``<modality>-<8 hexadecimal digits>``, ``import.jsonl`` shows pseudonyms instead of paths, and ndvol's own
        words and small numbers instead of quotes. Other formats keep their file names, since those of curated data
        (nnU-Net, the Decathlon, TotalSegmentator) number cases. Names of structures stay. The terminal and the errors
        of the run name files as they are: who imports holds the sources and must find the refused ones.

        ``strict``: no text of a file, and no name of a file or folder, reaches the bundle, the terminal or an error.
        That holds for all formats: cases, sources and files get pseudonyms, structures their name when `categories`
        has it and ``structure-<8 digits>`` otherwise (also those of a ``dataset.json``), images and labels only
        names from ndvol's own lists. What the user wrote in these options, and the path of the bundle, stay. Library
        output on stdout and stderr is silenced meanwhile. Pseudonyms of formats other than DICOM come from the path
        below the root, so they are stable while that is.

        ``keep``: names and messages stay as they are, also those of DICOM folders.

        The bundle takes one profile and key only. Neither `strict` is the default: it would rename every case of
        the data sets that name nobody, nor `keep`: exports of hospitals name folders after patients.
    phi_key : file with at least 16 bytes, kept outside the bundle; pseudonyms are HMAC-SHA256 with them. Without it
        they are SHA-256, and whoever guesses a name or UID can check the guess.
    phi_map : file outside the bundle that leads from the pseudonyms of sources and cases back to their paths: JSON,
        readable by its owner only. What it holds from earlier imports stays. Without pseudonyms, under ``keep``, it
        is refused.
    """

    labels: str | None = None
    label_name: str | None = None
    categories: tuple[Mapping[str, Any], ...] = ()
    merge: tuple[str, ...] = ()
    modality: str = ""
    orientation: str = "canonical"
    objects: str = "component"
    reading: ReadOptions = DEFAULT_READING
    case_by: str = "auto"
    phi: str = "research"
    phi_key: str | None = None
    phi_map: str | None = None
    levels: int = 1
    codec: str = "fast"
    follow_links: bool = False

    def __post_init__(self) -> None:
        choices = (
            ("orientation", ("canonical", "native")),
            ("objects", ("component", "category")),
            ("case_by", ("auto", "series", "study", "folder")),
            ("phi", ("strict", "research", "keep")),
            ("codec", tuple(CODECS)),
            ("levels", tuple(range(1, MAX_LEVELS + 1))),
        )
        for name, allowed in choices:
            if getattr(self, name) not in allowed:
                raise OptionError(f"unknown {name}", got=getattr(self, name), expected=f"one of {allowed}")
        if self.phi_map and self.phi == "keep":
            raise OptionError("there are no pseudonyms to map back", got="phi keep", code="phi-map")
        CategoryTree.from_coco(self.categories)
        values = [row["value"] for row in self.categories if row.get("value") is not None]
        if len(set(values)) != len(values) or not all(isinstance(v, int) and v > 0 for v in values):
            raise CategoryError("each `value` in the categories must be a positive integer of its own", got=values)
        categories_of_names(self.categories)
        if len(set(self.merge)) < len(self.merge) or not all(isinstance(n, str) and n for n in self.merge):
            raise OptionError("the categories to merge must be names, each once", got=list(self.merge))

    def fingerprint(self) -> dict[str, Any]:
        """The options that change the content of a case's file; paths do not."""
        named = ("label_name", "modality", "orientation", "objects", "levels", "codec")
        lists = {"categories": [dict(c) for c in self.categories], "merge": list(self.merge)}
        return {**{n: getattr(self, n) for n in named}, "reading": asdict(self.reading), **lists}


def names_of_values(categories: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Label value -> category name, as far as a table states it."""
    return {row["value"]: row["name"] for row in categories if row.get("value") is not None}


def categories_of_names(categories: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Name of a structure as `folded` has it -> category name: the category's own and those under ``names``.

    >>> categories_of_names([{"name": "tumor", "names": ["GTV-1", "gtv1"]}])
    {'tumor': 'tumor', 'gtv-1': 'tumor', 'gtv1': 'tumor'}

    Raises
    ------
    CategoryError : when ``names`` is no list of names, or two categories have one name.
    """
    found: dict[str, str] = {}
    for row in categories:
        names = row.get("names") or []
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name.strip() for name in names):
            raise CategoryError(f"`names` of category {row['name']!r} must be a list of names", got=names)
        for name in (row["name"], *names):
            other = found.setdefault(folded(name), row["name"])
            if other != row["name"]:
                raise CategoryError(
                    f"the categories {other!r} and {row['name']!r} have one name",
                    got=name,
                    hint="case and blanks do not count",
                    code="category-twice",
                )
    return found


def folded(name: str) -> str:
    """What names have in common that differ in case, blanks or the coding of accents alone."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def read_categories(path: str | Path) -> tuple[dict[str, Any], ...]:
    """The category table of a JSON file, see `ImportOptions.categories`: a list of rows, or ``{"1": "liver", …}``.

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
