"""Catalog: the table of cases, a mapping from case name to case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.catalog.summary import catalog_html
from ndvol.categories import CategoryTree
from ndvol.errors import CatalogError, UnknownNameError
from ndvol.verdict import Verdict
from ndvol.volumes import Case


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of one case, as columns.

    Attributes
    ----------
    category : (n,) category_index in the catalogue's tree.
    label : (n,) position of the label volume in the record's `labels`; -1 for a box without label volume.
    value : (n,) value in that label volume; 0 for a box without one.
    start, stop : (n, ndim) half-open boxes in storage order, in voxels of the label volume.
    voxels : (n,) number of voxels.
    """

    category: NDArray[np.int64]
    label: NDArray[np.int64]
    value: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    voxels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.category)


@dataclass(frozen=True, slots=True)
class CaseRecord:
    """What the catalogue knows of a case without opening its file.

    Attributes
    ----------
    name : unique in the catalogue.
    path : the HDF5 file, or the picture of a plain kwcoco image.
    axes, shape, spacing, unit : of the first image, storage order.
    images, labels : names of the volumes, the first image first; ``image`` and ``boxes`` for a picture.
    sha256 : of the HDF5 file; empty for a picture.
    examined : names of the categories that somebody looked for in this case; None when the catalogue does not say,
        and then those that its label volumes name.
    attributes : the image's ``ndvol`` key as it stands in the kwcoco file.
    bboxes : (n, 4) x, y, width and height of the objects on the first image's picture, to write a kwcoco file; None:
        the projections of their boxes. They differ for labels on the grid of another image.
    """

    name: str
    path: str
    axes: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    unit: str
    images: tuple[str, ...]
    labels: tuple[str, ...]
    objects: Objects
    sha256: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    bboxes: NDArray[np.int64] | None = None
    examined: tuple[str, ...] | None = None


class Catalog(Mapping[str, Case]):
    """The cases of a bundle or a kwcoco file; ``catalog["case-001"]`` opens one.

    Parameters
    ----------
    records : one per case; a mapping by case name, or a sequence whose names are unique.
    categories : the tree that `Objects.category` counts in.
    open_case : opens the case of a record; picklable when the catalogue is to be.
    path : where the catalogue was read from, for messages.
    verdicts : what happened to every source of an import, or a function that reads them when they are asked for.
    """

    def __init__(
        self,
        records: Mapping[str, CaseRecord] | Sequence[CaseRecord],
        categories: CategoryTree,
        open_case: Callable[[CaseRecord], Case],
        *,
        path: str = "",
        verdicts: Sequence[Verdict] | Callable[[], Sequence[Verdict]] = (),
    ) -> None:
        self.records = records if isinstance(records, Mapping) else {record.name: record for record in records}
        if not isinstance(records, Mapping) and len(self.records) != len(records):
            names = [r.name for r in records]
            raise CatalogError("case names are not unique", got=sorted({n for n in names if names.count(n) > 1}))
        self.categories = categories
        self.path = path
        self._verdicts = verdicts
        self._open_case = open_case

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """What happened to every source of the import that made the catalogue."""
        if callable(self._verdicts):
            self._verdicts = self._verdicts()
        return tuple(self._verdicts)

    def __getitem__(self, name: str) -> Case:
        return self._open_case(self.record(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        return f"Catalog({self.path!r}, {len(self)} cases, {len(self.categories)} categories)"

    def _repr_html_(self) -> str:
        return catalog_html(self)

    def record(self, name: str) -> CaseRecord:
        """What is known of case `name` without opening its file."""
        if name not in self.records:
            close = get_close_matches(name, self.records, n=1)
            raise UnknownNameError(
                f"there is no case {name!r} in {self.path or 'the catalogue'}",
                expected=f"one of {', '.join(list(self.records)[:10]) or '(none)'}",
                hint=f"did you mean {close[0]!r}?" if close else "",
            )
        return self.records[name]

    def subset(self, names: Iterable[str]) -> Catalog:
        """The catalogue of some cases alone, in the order given: a fold to train on, and one to validate on.

        Raises
        ------
        UnknownNameError : for a name that no case has. CatalogError : for one that is given twice.
        """
        records = [self.record(name) for name in names]
        return Catalog(records, self.categories, self._open_case, path=self.path, verdicts=self._verdicts)
