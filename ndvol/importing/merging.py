"""Categories of several label volumes in one, by priority; see `ImportOptions.merge`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ndvol.errors import SourceError
from ndvol.formats.layers import listing
from ndvol.importing.labels import Label, RefusedLabel
from ndvol.importing.options import MERGED, ImportOptions


def merged(labels: Iterable[Label | RefusedLabel], options: ImportOptions) -> Iterator[Label | RefusedLabel]:
    """The label volumes of a case without the categories to be merged, and last the volume that holds those.

    A volume that loses all its categories is left out. Refused labels pass.

    Raises
    ------
    SourceError : code ``merge-grids`` where they lie on different grids, ``merge-unknown`` where a category is
        neither in the case nor in the table.
    """
    if not options.merge:
        yield from labels
        return
    merger, names, known = Merger(options.merge), set[str](), set[str]()
    complete = True
    for label in labels:
        if isinstance(label, RefusedLabel):
            complete = False
            yield label
            continue
        names.add(label.name)
        known.update(label.categories.values())
        rest = merger.take(label)
        if rest.categories:
            yield rest
    missing = [name for name in options.merge if name not in known | {row["name"] for row in options.categories}]
    # What a refused label would have brought is not known.
    if missing and known and complete:
        raise SourceError(
            "categories to merge are neither in the case nor in the category table",
            got=listing(missing),
            expected=f"of {listing(sorted(known))}",
            hint="correct --merge, or put those that not every case has into --categories",
            code="merge-unknown",
        )
    if merger.label is not None:
        free = (name for name in (MERGED, *(f"{MERGED}-{n}" for n in range(2, len(names) + 2))) if name not in names)
        yield replace(merger.result(), name=next(free))


class Merger:
    """Collects the categories `order` out of label volumes.

    Attributes
    ----------
    label : the volume so far, None before any label had one of the categories. Its values are places in `order`.
    """

    def __init__(self, order: Sequence[str]) -> None:
        self.label: Label | None = None
        self._order = tuple(order)
        # Voxels that several categories claim, and the places of those that lost some.
        self._contested = np.zeros(0, bool)
        self._losers: set[int] = set()

    def take(self, label: Label) -> Label:
        """What is left of `label` when the voxels of the categories have moved to the merged volume."""
        places = {name: place for place, name in enumerate(self._order, start=1)}
        taken = {value: places[name] for value, name in sorted(label.categories.items()) if name in places}
        if not taken:
            return label
        into = self._begin(label)
        rest = label.array.copy()
        values, places_of_values = np.array(list(taken), rest.dtype), np.array(list(taken.values()), into.array.dtype)
        for plane, target, contested in zip(rest, into.array, self._contested, strict=True):
            found = np.minimum(np.searchsorted(values, plane), len(values) - 1)
            claim = np.where(values[found] == plane, places_of_values[found], 0)
            other = (claim != 0) & (target != 0) & (claim != target)
            self._losers |= {int(v) for v in np.unique(np.maximum(claim, target)[other])}
            contested |= other
            plane[claim != 0] = 0
            target[...] = np.where((target == 0) | (claim != 0) & (claim < target), claim, target)
        self._note(label, taken)
        left = {value: name for value, name in label.categories.items() if value not in taken}
        sources = {value: names for value, names in label.sources.items() if value in left}
        return replace(label, array=rest, categories=left, sources=sources)

    def _begin(self, label: Label) -> Label:
        """The merged volume on the grid of `label`."""
        if self.label is None:
            array = np.zeros(label.array.shape, np.min_scalar_type(len(self._order)))
            self.label = replace(label, array=array, categories={}, sources={})
            self._contested = np.zeros(array.shape, bool)
        elif label.grid != self.label.grid:
            raise SourceError(
                "the categories to merge lie on different grids",
                got=f"{label.grid.axes} {label.grid.shape} in {label.name!r}",
                expected=f"{self.label.grid.axes} {self.label.grid.shape}, as in {self.label.name!r}",
                hint="merge those that were drawn on one image",
                code="merge-grids",
            )
        return self.label

    def _note(self, label: Label, taken: dict[int, int]) -> None:
        """Names and warnings of what was taken from `label` go along with it."""
        assert self.label is not None
        categories, sources = dict(self.label.categories), dict(self.label.sources)
        for value, place in taken.items():
            categories[place] = self._order[place - 1]
            names = label.sources.get(value, (label.categories[value],))
            sources[place] = tuple(dict.fromkeys((*sources.get(place, ()), *names)))
        warnings = dict(self.label.warnings)
        for source, said in label.warnings.items():
            warnings[source] = tuple(dict.fromkeys((*warnings.get(source, ()), *said)))
        self.label = replace(self.label, categories=categories, sources=sources, warnings=warnings)

    def result(self) -> Label:
        """The merged volume, with a warning where categories overlapped."""
        assert self.label is not None
        label = self.label
        sources = {place: names for place, names in label.sources.items() if names != (label.categories[place],)}
        warnings = dict(label.warnings)
        if count := int(np.count_nonzero(self._contested)):
            losers = listing(self._order[place - 1] for place in sorted(self._losers))
            source = next(iter(warnings))
            note = f"merging gave {count} voxels of {losers} to a category that comes before"
            warnings[source] = (*warnings[source], note)
        return replace(label, sources=sources, warnings=warnings)
