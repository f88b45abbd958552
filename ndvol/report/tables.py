"""The parts of the page that are tables: cases, verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import prod

from ndvol.catalog import Catalog
from ndvol.markup import Html, element, join
from ndvol.report.survey import LISTED, CaseSurvey, reason
from ndvol.tables import counted
from ndvol.verdict import Verdict

VERDICTS = 5000
"""Verdicts that are listed, the gravest first; the counts are of all."""
_GRAVE = ("refused", "split", "imported with warnings", "skipped", "imported", "unchanged")


def section(name: str, title: str, *content: object) -> Html:
    """A part of the page that the navigation leads to."""
    heading = element("h2", {}, title)
    return element("section", {"id": name, "aria-label": title}, heading, *content)


def note(*content: object) -> Html:
    """A sentence below a heading."""
    return element("p", {"class": "note"}, *content)


def lengths(values: Sequence[float]) -> str:
    """Lengths as ``3 × 1.5 × 1.5``."""
    return " × ".join(f"{round(v, 4):g}" for v in values)


def case_table(catalog: Catalog, surveys: Sequence[CaseSurvey]) -> Html:
    """All cases, sortable; a name leads to the pictures where there are some, and a problem stands below it."""
    columns = ("case", "axes", "shape", "spacing", "unit", "type", "modality", "images", "labels", "objects")
    body = [_case_row(catalog, number, found) for number, found in enumerate(surveys)]
    told = (
        f"The first {LISTED:,} of {counted(len(catalog), 'case')} are listed. " if len(catalog) > len(surveys) else ""
    )
    return section(
        "cases",
        "Cases",
        note(told + "Shape, spacing and unit are those of the first image, in storage order."),
        _filter("cases", "Find a case"),
        _table("cases", columns, body, numeric=("objects",)),
    )


def _case_row(catalog: Catalog, number: int, found: CaseSurvey) -> Html:
    record = found.record
    name: object = record.name
    if found.mosaics:
        name = element("a", {"href": f"#case-{number}"}, record.name)
    if found.problem is not None:
        name = join([name, element("p", {"class": "problem"}, reason(found.problem, catalog))])
    cells = [
        element("th", {"scope": "row", "data-v": record.name.casefold()}, name),
        element("td", {}, record.axes),
        element("td", {"data-v": prod(record.shape)}, " × ".join(map(str, record.shape))),
        element("td", {"data-v": f"{prod(record.spacing):.12g}"}, lengths(record.spacing)),
        element("td", {}, record.unit),
        element("td", {}, ", ".join(found.dtypes)),
        element("td", {}, ", ".join(found.modalities)),
        element("td", {}, ", ".join(record.images)),
        element("td", {}, ", ".join(record.labels)),
        element("td", {"class": "n", "data-v": len(record.objects)}, f"{len(record.objects):,}"),
    ]
    return element("tr", {"class": "bad" if found.problem is not None else None}, *cells)


def verdict_table(verdicts: Sequence[Verdict]) -> Html:
    """What happened to every source of the import, to be filtered by status."""
    if not verdicts:
        return section("import", "Import", note("There is no journal of an import beside this catalogue."))
    order = sorted(verdicts, key=lambda v: (_rank(v.status), v.code, v.source))
    counts = Counter(v.status for v in verdicts)
    chips = [
        element(
            "label",
            {"class": f"chip {_status_class(status)}"},
            element("input", {"type": "checkbox", "checked": True, "data-status": status}),
            f"{status} ",
            element("b", {}, f"{counts[status]:,}"),
        )
        for status in sorted(counts, key=_rank)
    ]
    rows = [_verdict_row(v) for v in order[:VERDICTS]]
    cut = f" The {VERDICTS:,} gravest are listed." if len(order) > VERDICTS else ""
    files = sum(v.files for v in verdicts if v.status != "split")
    return section(
        "import",
        "Import",
        note(f"What happened to {counted(len(verdicts), 'source')} with {counted(files, 'file')}, and why.{cut}"),
        element("fieldset", {"class": "chips"}, element("legend", {}, "Show"), *chips),
        _filter("verdicts", "Find a source, code or reason"),
        _table("verdicts", ("status", "code", "source", "case", "files", "reason"), rows, numeric=("files",)),
    )


def _verdict_row(verdict: Verdict) -> Html:
    badge = element("span", {"class": f"badge {_status_class(verdict.status)}"}, verdict.status)
    cells = [
        element("td", {"data-v": _rank(verdict.status)}, badge),
        element("td", {}, element("code", {}, verdict.code)),
        element("td", {"class": "path"}, verdict.source),
        element("td", {}, verdict.case or ""),
        element("td", {"class": "n", "data-v": verdict.files}, f"{verdict.files:,}"),
        element("td", {"class": "reason"}, verdict.message),
    ]
    return element("tr", {"data-status": verdict.status}, *cells)


def _rank(status: str) -> int:
    """0 for the gravest; a status of another version's journal comes before all that are known."""
    return _GRAVE.index(status) if status in _GRAVE else -1


def _status_class(status: str) -> str:
    return status.split()[-1] if status in _GRAVE else ""


def _filter(table: str, label: str) -> Html:
    field = {"type": "search", "placeholder": label, "aria-label": label, "data-table": table}
    return element("p", {"class": "find"}, element("input", field), element("output", {"data-table": table}))


def _table(name: str, columns: Sequence[str], body: Sequence[Html], *, numeric: Sequence[str] = ()) -> Html:
    head = [
        element(
            "th", {"scope": "col", "class": "n" if c in numeric else None}, element("button", {"type": "button"}, c)
        )
        for c in columns
    ]
    parts = element("thead", {}, element("tr", {}, *head)), element("tbody", {}, *body)
    return scroller(name, element("table", {"id": f"table-{name}"}, *parts))


def scroller(name: str, table: Html) -> Html:
    """A table in a frame of its own, which the keyboard scrolls as well."""
    return element("div", {"class": "scroll", "tabindex": 0, "role": "region", "aria-label": f"Table of {name}"}, table)
