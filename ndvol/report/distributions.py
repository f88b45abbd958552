"""The parts of the page that count: histograms over the cases, and the category tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ndvol.catalog import CaseRecord, Catalog, category_counts
from ndvol.markup import Html, element
from ndvol.report.charts import bar, histogram_chart, strip_chart
from ndvol.report.gallery import css_colour
from ndvol.report.survey import CaseSurvey
from ndvol.report.tables import note, scroller, section
from ndvol.report.values import SIDE, TAIL, WINDOWS, histogram
from ndvol.tables import counted

MM3_PER_ML = 1000.0


def distributions(surveys: Sequence[CaseSurvey]) -> Html:
    """Histograms of spacing, shape and values."""
    records = [found.record for found in surveys]
    probed = [found for found in surveys if found.values]
    told = (
        f"Spacing and shape: first images of {counted(len(records), 'case')}. Values: {WINDOWS} windows of {SIDE} "
        f"voxels a side at random places, on the coarsest level, of each image of {counted(len(probed), 'case')}; "
        f"heights are square roots, and up to {TAIL:g} % at either end are left out."
    )
    numbers = _spacings(records) | _lengths(records)
    same = [f"{title}: {_constant(values)}" for title, values in numbers.items() if _constant(values)]
    charts = [_chart(title, values) for title, values in numbers.items() if not _constant(values)]
    return section(
        "distributions",
        "Distributions",
        note(told),
        note(element("b", {}, "The same in all: "), "; ".join(same)) if same else "",
        element("div", {"class": "charts"}, *charts, *_value_charts(probed)),
    )


def _spacings(records: Sequence[CaseRecord]) -> dict[str, list[float]]:
    """Titles and numbers: by unit and axis, for cases with a unit."""
    steps: dict[tuple[str, str], list[float]] = {}
    for record in records:
        for axis, step in zip((a for a in record.axes if a in "zyx"), record.spacing, strict=True):
            if record.unit != "unknown":
                # Headers write one spacing with different numbers of digits.
                steps.setdefault((record.unit, axis), []).append(float(f"{step:.4g}"))
    order = sorted(steps, key=lambda key: (key[0], "zyx".index(key[1])))
    return {f"Spacing along {axis}, {unit}": steps[unit, axis] for unit, axis in order}


def _lengths(records: Sequence[CaseRecord]) -> dict[str, list[float]]:
    """Titles and numbers: by axis."""
    lengths: dict[str, list[float]] = {}
    for record in records:
        for axis, length in zip(record.axes, record.shape, strict=True):
            lengths.setdefault(axis, []).append(length)
    return {f"Voxels along {axis}": lengths[axis] for axis in sorted(lengths, key="zyxtc".index)}


def _constant(values: Sequence[float]) -> str:
    """The number that all of some numbers are; empty when they differ."""
    return f"{values[0]:g}" if len(set(values)) == 1 else ""


def _value_charts(probed: Sequence[CaseSurvey]) -> list[Html]:
    by_name: dict[str, list[NDArray[np.float64]]] = {}
    for found in probed:
        for name, values in found.values.items():
            if len(values):
                by_name.setdefault(name, []).append(values)
    charts = []
    for name, parts in sorted(by_name.items()):
        values = np.concatenate(parts)
        chart = histogram_chart(histogram(values, tail=TAIL), f"Values of {name}", rooted=True)
        told = f"{counted(len(parts), 'case')}, {counted(len(values), 'value')}"
        charts.append(_figure(f"Values of {name}", chart, told))
    return charts


def _chart(title: str, numbers: Sequence[float]) -> Html:
    values = np.array(numbers)
    low, middle, high = np.percentile(values, (0, 50, 100)).tolist()
    told = f"{low:g} … {high:g}, median {middle:g}, {counted(len(values), 'case')}"
    return _figure(title, histogram_chart(histogram(values), title), told)


def _figure(title: str, chart: Html, told: str) -> Html:
    return element("figure", {"class": "chart"}, element("figcaption", {}, title), chart, element("p", {}, told))


@dataclass(frozen=True, slots=True)
class _Counts:
    """Per category_index, with all below it: objects, voxels, cases; and the volumes of the objects in mm³."""

    objects: NDArray[np.int64]
    voxels: NDArray[np.int64]
    cases: NDArray[np.int64]
    volumes: list[NDArray[np.float64]]


def category_table(catalog: Catalog, surveys: Sequence[CaseSurvey]) -> Html:
    """The category tree with what there is of each category, and the volumes of its objects."""
    tree = catalog.categories
    if not len(tree):
        return section("categories", "Categories", note("The catalogue names no category."))
    counts = _count(catalog, surveys)
    known = np.concatenate(counts.volumes)
    span = (float(known.min()), float(known.max())) if len(known) else (1.0, 1.0)
    head = ("category", "objects", "", "voxels", "", "cases", "volume of an object: median", "least … most", "")
    rows = [_category_row(catalog, counts, k, span) for k in range(len(tree))]
    listed = f" in the {len(surveys):,} cases listed" if len(surveys) < len(catalog) else ""
    told = (
        "Each category with all below it. Volumes are those of objects with a mask on a grid of three axes and a known "
        f"unit{listed}."
    )
    if span[0] < span[1]:
        told += f" The charts share a logarithmic axis from {volume_text(span[0])} to {volume_text(span[1])}."
    columns = [element("th", {"scope": "col", "class": "n" if c in head[1:7] and c else None}, c) for c in head]
    table = element("table", {}, element("thead", {}, element("tr", {}, *columns)), element("tbody", {}, *rows))
    return section("categories", "Categories", note(told), scroller("categories", table))


def _count(catalog: Catalog, surveys: Sequence[CaseSurvey]) -> _Counts:
    tree, records = catalog.categories, list(catalog.records.values())
    objects, voxels = category_counts(records, tree)
    cases = np.zeros(len(tree), np.int64)
    for record in records:
        before = np.concatenate([[0], np.bincount(record.objects.category, minlength=len(tree)).cumsum()])
        cases += before[list(tree.ends)] > before[:-1]
    subtrees = [slice(k, end) for k, end in enumerate(tree.ends)]
    category = np.concatenate([np.zeros(0, np.int64), *(found.record.objects.category for found in surveys)])
    sizes = np.concatenate([np.zeros(0), *(found.object_mm3 for found in surveys)])
    known = np.isfinite(sizes) & (sizes > 0)
    return _Counts(
        np.array([objects[s].sum() for s in subtrees]),
        np.array([voxels[s].sum() for s in subtrees]),
        cases,
        [sizes[known & (s.start <= category) & (category < s.stop)] for s in subtrees],
    )


def _category_row(catalog: Catalog, counts: _Counts, k: int, span: tuple[float, float]) -> Html:
    tree = catalog.categories
    name, colour, volumes = tree.names[k], css_colour(tree.names[k], tree), counts.volumes[k]
    depth = len(tree.ancestors(name))
    objects, voxels = int(counts.objects[k]), int(counts.voxels[k])
    title = [element("i", {"class": "swatch", "style": f"background:{colour}"}), name]
    cells = [
        element("th", {"scope": "row", "style": f"--depth:{depth}", "class": "tree"}, *title),
        element("td", {"class": "n"}, f"{objects:,}"),
        element("td", {}, bar(objects, int(counts.objects.max()), colour)),
        element("td", {"class": "n"}, f"{voxels:,}"),
        element("td", {}, bar(voxels, int(counts.voxels.max()), colour)),
        element("td", {"class": "n"}, f"{counts.cases[k]:,}"),
        element("td", {"class": "n"}, volume_text(float(np.median(volumes))) if len(volumes) else "–"),
        element("td", {}, _range(volumes)),
        element("td", {}, strip_chart(volumes, span, colour, f"Volumes of {name}") if len(volumes) else ""),
    ]
    return element("tr", {"class": "none" if not objects else None}, *cells)


def _range(volumes: NDArray[np.float64]) -> str:
    if len(volumes) < 2:
        return ""
    return f"{volume_text(float(volumes.min()))} … {volume_text(float(volumes.max()))}"


def volume_text(mm3: float) -> str:
    """A volume with its unit.

    >>> volume_text(3.14159), volume_text(12345), volume_text(1.5e6)
    ('3.14 mm³', '12.3 ml', '1,500 ml')
    """
    if mm3 < MM3_PER_ML:
        return f"{mm3:.3g} mm³"
    ml = mm3 / MM3_PER_ML
    return f"{ml:,.0f} ml" if ml >= 100 else f"{ml:.3g} ml"
