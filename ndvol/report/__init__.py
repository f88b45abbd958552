"""A report on a catalogue: one HTML page to look at, with nothing to install and nothing to fetch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ndvol.report.options import DrawOptions, ReportOptions

if TYPE_CHECKING:
    from ndvol.catalog import Catalog
    from ndvol.errors import NdvolError

__all__ = ["DrawOptions", "ReportOptions", "write_report"]


def write_report(
    catalog: Catalog, path: str | Path, options: ReportOptions | None = None, *, progress: bool = False
) -> dict[str, NdvolError | OSError]:
    """Write one HTML page about a catalogue; the same catalogue and options make the same bytes.

    It holds a table of the cases, pictures of some with the outlines of their labels, what the import said of every
    source, histograms, the category tree, and windows as a sampler draws them. It fetches nothing, whatever names and
    messages it shows. Of a volume no more than planes and windows are read.

    Returns
    -------
    Why cases could not be read, or not all of them, by name; the page tells it, too, and shows the others.

    Raises
    ------
    UnknownNameError : for a category that the catalogue does not have.
    StoreError : when the page cannot be written.
    """
    # The command line lists its commands without what they need.
    from ndvol.errors import StoreError
    from ndvol.report.page import build_page
    from ndvol.report.survey import survey
    from ndvol.report.windows import draw_windows, kinds_of_cases

    chosen = ReportOptions() if options is None else options
    target = Path(path)
    if not target.absolute().parent.is_dir():
        raise StoreError(f"cannot write {target}", hint=f"there is no folder {target.absolute().parent}")
    for name in chosen.draws.categories:
        catalog.categories.index(name)
    found = survey(catalog, pictured=chosen.pictured, progress=progress)
    problems = {case.record.name: case.problem for case in found if case.problem is not None}
    readable = [record for record in catalog.records.values() if record.name not in problems]
    draws = draw_windows(catalog, readable, chosen.draws, progress=progress)
    page = build_page(catalog, found, (draws, len(kinds_of_cases(readable))), chosen.draws)
    part = target.with_name(target.name + ".part")
    try:
        part.write_text(page, encoding="utf-8", newline="\n")
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreError.from_os(error, target) from error
    return problems
