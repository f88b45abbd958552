"""A catalogue in a few lines: its cases as rows, and how much there is of each category."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ndvol.categories import CategoryTree
from ndvol.display import facts_html, more, page, rows_html
from ndvol.markup import Html, element, join
from ndvol.tables import times

if TYPE_CHECKING:
    from ndvol.catalog.catalog import CaseRecord, Catalog

SHOWN_CASES, SHOWN_CATEGORIES = 10, 50
COUNTED_CASES = 1000
"""Cases whose objects a notebook counts: there may be a hundred thousand."""


def case_row(record: CaseRecord) -> dict[str, Any]:
    """What a list of cases says of one; JSON values."""
    return {
        "case": record.name,
        "images": ",".join(record.images),
        "labels": ",".join(record.labels),
        "axes": record.axes,
        "shape": list(record.shape),
        "spacing": [round(s, 4) for s in record.spacing],
        "unit": record.unit,
        "objects": len(record.objects),
    }


def shown_row(record: CaseRecord) -> dict[str, Any]:
    """The same for a person."""
    row = case_row(record)
    return {**row, "shape": times(row["shape"]), "spacing": times(row["spacing"])}


def category_counts(records: Iterable[CaseRecord], tree: CategoryTree) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Objects and voxels per category_index, those of the category itself alone."""
    objects, voxels = np.zeros(len(tree), np.int64), np.zeros(len(tree), np.int64)
    for record in records:
        np.add.at(objects, record.objects.category, 1)
        np.add.at(voxels, record.objects.category, record.objects.voxels)
    return objects, voxels


def tree_counts(records: Iterable[CaseRecord], tree: CategoryTree) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Objects and voxels per category_index, of the category and all that is below it."""
    up_to = np.concatenate([np.zeros((2, 1), np.int64), np.cumsum(category_counts(records, tree), 1)], axis=1)
    objects, voxels = up_to[:, np.array(tree.ends, np.int64)] - up_to[:, :-1]
    return objects, voxels


def catalog_html(catalog: Catalog) -> Html:
    """The first cases of a catalogue, and its category tree with counts."""
    records, tree = catalog.records, catalog.categories

    def counts() -> Html:
        objects, voxels = tree_counts(islice(records.values(), COUNTED_CASES), tree)
        rows = [
            {"category": "· " * len(tree.ancestors(name)) + name, "objects": f"{o:,}", "voxels": f"{v:,}"}
            for name, o, v in islice(zip(tree, objects.tolist(), voxels.tolist(), strict=True), SHOWN_CATEGORIES)
        ]
        some = f" in the first {COUNTED_CASES:,} cases" if len(records) > COUNTED_CASES else ""
        return join(
            [
                element("b", None, "categories"),
                f", with all below them{some}",
                rows_html(rows),
                more(len(tree) - SHOWN_CATEGORIES),
            ]
        )

    def cases() -> Html:
        rows = [shown_row(record) for record in islice(records.values(), SHOWN_CASES)]
        return join([rows_html(rows), more(len(records) - SHOWN_CASES)])

    facts = {"path": catalog.path, "cases": f"{len(records):,}", "categories": f"{len(tree):,}"}
    return page("Catalog", lambda: facts_html(facts), cases, counts)
