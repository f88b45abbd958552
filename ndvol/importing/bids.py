"""BIDS: what the names of a brain imaging data structure say (BIDS specification 1.10, "Common principles").

``sub-01/ses-2/anat/sub-01_ses-2_acq-x_T1w.nii.gz`` is the image ``acq-x_T1w`` of the case ``sub-01_ses-2``. Discrete
segmentations (``_dseg``) and masks (``_mask``) are labels, wherever in the data set or below its ``derivatives`` they
lie; ``_dseg.tsv`` tables name their values by the inheritance principle.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ndvol.errors import SourceError

DERIVATIVES = "derivatives"
DATATYPES = frozenset({"anat", "dwi", "fmap", "func", "perf", "pet"})
"""Folders that hold images in NIfTI."""
LABEL_SUFFIXES = frozenset({"dseg", "mask"})
SIDECARS = (".json", ".tsv", ".tsv.gz", ".bval", ".bvec")
MAX_LOOKUP = 2**24
"""Bytes: a larger table names no regions of a brain."""

_NAME = re.compile(r"(sub-[0-9A-Za-z]+)(_ses-[0-9A-Za-z]+)?((?:_[a-z]+-[0-9A-Za-z+]+)*)_([0-9A-Za-z]+)")
_LOOKUP = re.compile(r"((?:[a-z]+-[0-9A-Za-z+]+_)*)dseg\.tsv")


@dataclass(frozen=True, slots=True)
class BidsName:
    """Where a file stands in a data set.

    Attributes
    ----------
    dataset : folder of the data set, '' for the root of the import.
    case : subject, and session where there is one: ``sub-01_ses-2``.
    entities : the others in the name's order: ``("acq-x",)``.
    suffix : ``T1w``, ``bold``, ``dseg`` …
    pipeline : folder below ``derivatives`` that a derived file comes from.
    """

    dataset: str
    case: str
    entities: tuple[str, ...]
    suffix: str
    pipeline: str = ""

    @property
    def is_label(self) -> bool:
        return self.suffix in LABEL_SUFFIXES

    @property
    def name(self) -> str:
        """Of the volume: what the name says besides subject and session; derived images say what derived them."""
        words = (*self.entities, self.suffix)
        return "_".join(words if self.is_label or not self.pipeline else (self.pipeline, *words))

    @property
    def structure(self) -> str:
        """What a mask is of, as far as the name says it; else the name of the volume."""
        stated = [entity.removeprefix("label-") for entity in self.entities if entity.startswith("label-")]
        return stated[0] if self.suffix == "mask" and stated else self.name


def bids_name(path: str, stem: str) -> BidsName | None:
    """What the path of a NIfTI file (its name without suffix is `stem`) says; None where it is no name of BIDS.

    >>> name = bids_name("sub-01/ses-2/anat/sub-01_ses-2_acq-x_T1w.nii.gz", "sub-01_ses-2_acq-x_T1w")
    >>> name.case, name.name
    ('sub-01_ses-2', 'acq-x_T1w')
    """
    found = _NAME.fullmatch(stem)
    if found is None or not path.endswith((".nii", ".nii.gz")):
        return None
    subject, session, entities, suffix = found[1], (found[2] or "").strip("_"), found[3], found[4]
    folders = PurePosixPath(path).parts[:-1]
    derived = folders.index(DERIVATIVES) if DERIVATIVES in folders else None
    place = [subject, *[session] * bool(session)]
    in_place = folders[-1:] and folders[-1] in DATATYPES and list(folders[:-1][-len(place) :]) == place
    if not in_place and (derived is None or suffix not in LABEL_SUFFIXES):
        return None
    dataset = folders[: len(folders) - len(place) - 1] if derived is None else folders[:derived]
    pipeline = folders[derived + 1 : derived + 2] if derived is not None else ()
    return BidsName(
        dataset="/".join(dataset),
        case="_".join(place),
        entities=tuple(entities.split("_")[1:]),
        suffix=suffix,
        pipeline="".join(p for p in pipeline if p != subject),
    )


def is_sidecar(file: str, datasets: Iterable[str]) -> bool:
    """True for the files of a data set in one of the folders `datasets` that describe its images."""
    return file.endswith(SIDECARS) and any(not d or file.startswith(f"{d}/") for d in datasets)


def find_lookups(files: Iterable[str]) -> dict[str, frozenset[str]]:
    """The ``_dseg.tsv`` among `files`, each with the entities of its name."""
    found = {file: _LOOKUP.fullmatch(PurePosixPath(file).name) for file in files}
    return {file: frozenset(name[1].split("_")[:-1]) for file, name in found.items() if name}


def lookup_of(path: str, stem: str, lookups: Mapping[str, frozenset[str]]) -> str | None:
    """The table that names the values of a segmentation: beside it or above, of its own entities, the nearest.

    BIDS specification, "The inheritance principle".
    """
    folder, entities = PurePosixPath(path).parent, frozenset(stem.split("_")[:-1])
    fitting = [
        (len(PurePosixPath(file).parts), len(named), file)
        for file, named in lookups.items()
        if named <= entities and folder.is_relative_to(PurePosixPath(file).parent)
    ]
    return max(fitting)[-1] if fitting else None


def read_lookup(root: Path, file: str) -> dict[int, str]:
    """Value -> name of a ``_dseg.tsv``, from its columns ``index`` and ``name``.

    Raises
    ------
    SourceError : code ``bids-lookup`` when it makes no sense.
    """
    try:
        if (size := (root / file).stat().st_size) > MAX_LOOKUP:
            raise ValueError(f"{size} bytes")
        with (root / file).open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
            if missing := {"index", "name"} - set(rows.fieldnames or ()):
                raise ValueError(f"no column {min(missing)}")
            return _names(rows)
    except (OSError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise SourceError(
            f"{file} is no table of label values",
            got=repr(error),
            expected="a row per value, with columns index (integers from 0) and name",
            hint="mend it, or take it away; its segmentations get values for names meanwhile",
            code="bids-lookup",
        ) from error


def _names(rows: Iterable[Mapping[str, str]]) -> dict[int, str]:
    names: dict[int, str] = {}
    for row in rows:
        value, name = int(row["index"]), row["name"].strip()
        if value < 0 or not name or names.setdefault(value, name) != name:
            raise ValueError(f"index {value} is negative, or has no name or two")
    return {value: name for value, name in names.items() if value}
