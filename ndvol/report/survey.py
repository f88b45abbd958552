"""What a report tells of the cases of a catalogue: each is opened once, and a damaged one costs itself alone."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ndvol.catalog import CaseRecord, Catalog
from ndvol.errors import NdvolError
from ndvol.geometry import Grid
from ndvol.report.mosaics import Mosaic, draw_mosaics
from ndvol.report.values import some_values
from ndvol.selection import MM_PER_UNIT
from ndvol.store import read_identity
from ndvol.volumes import Case

LISTED = 2000
"""Cases that are opened and listed; more would make a page that no browser scrolls."""
PROBED = 64
"""Cases whose values are in the histograms of values."""


@dataclass(frozen=True, slots=True)
class CaseSurvey:
    """What was found of a case.

    Attributes
    ----------
    record : what the catalogue knows.
    dtypes, modalities : of its images, each once.
    object_mm3 : of each object of the record; nan where the size of a voxel is not known in three dimensions.
    mosaics : pictures of its images; none when the case is not among those that are shown.
    values : some values of each image; empty when the case is not among those that are probed.
    made_by : what wrote its file; empty for a picture.
    problem : why the case could not be read, or not all of it.
    """

    record: CaseRecord
    dtypes: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    object_mm3: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    mosaics: tuple[Mosaic, ...] = ()
    values: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    made_by: str = ""
    problem: NdvolError | OSError | None = None


def survey(catalog: Catalog, *, pictured: int, progress: bool = False) -> list[CaseSurvey]:
    """The first `LISTED` cases in the catalogue's order, `pictured` of them with pictures, `PROBED` with values.

    Both are taken at even distances, so that they stand for all.
    """
    names = list(catalog)[:LISTED]
    shown, probed = set(spread(len(names), pictured)), set(spread(len(names), PROBED))
    numbers = tqdm(range(len(names)), unit="case", disable=None if progress else True)
    return [_survey_case(catalog, names[k], k, shown=k in shown, probed=k in probed) for k in numbers]


def spread(total: int, count: int) -> list[int]:
    """At most `count` of the numbers 0 … total - 1, evenly spread.

    >>> spread(10, 4), spread(3, 4)
    ([0, 2, 5, 7], [0, 1, 2])
    """
    count = min(count, total)
    return [k * total // count for k in range(count)]


def _survey_case(catalog: Catalog, name: str, number: int, *, shown: bool, probed: bool) -> CaseSurvey:
    record = catalog.record(name)
    found = CaseSurvey(record, object_mm3=np.full(len(record.objects), np.nan))
    try:
        case = catalog[name]
        images = case.images.values()
        found = replace(
            found,
            dtypes=_once(str(image.dtype) for image in images),
            modalities=_once(str(image.attributes.get("modality") or "") for image in images),
            object_mm3=object_volumes(record, case),
            made_by=read_identity(record.path)["created_by"] if record.sha256 else "",
        )
        return replace(
            found,
            mosaics=draw_mosaics(record, case) if shown else (),
            values={image.name: some_values(image, number) for image in images} if probed else {},
        )
    except (NdvolError, OSError) as error:
        return replace(found, problem=error)


def reason(error: NdvolError | OSError, catalog: Catalog) -> str:
    """What an error says, without the path of the bundle: the page may go where that is nobody's business."""
    folder = str(Path(catalog.path).parent.absolute())
    return str(error).replace(f"{folder}{os.sep}", "")


def object_volumes(record: CaseRecord, case: Case) -> NDArray[np.float64]:
    """Volume of each object of a case in mm³; nan for objects without a mask, in time, or on a grid without a unit."""
    sizes = [voxel_mm3(case.labels[name].grid) for name in record.labels]
    # The last entry is that of objects without a label volume, whose number is -1.
    return np.array([*sizes, np.nan])[record.objects.label] * record.objects.voxels


def voxel_mm3(grid: Grid) -> float:
    """Volume of a voxel in mm³; nan unless the grid has three spatial axes, no other, and a unit.

    >>> round(voxel_mm3(Grid.regular("zyx", (1, 2, 3), spacing=(3, 1, 1))), 6)
    3.0
    """
    if grid.axes != "zyx" or grid.unit not in MM_PER_UNIT:
        return float("nan")
    return float(abs(np.linalg.det(grid.affine[:-1, :-1])) * MM_PER_UNIT[grid.unit] ** 3)


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if name))
