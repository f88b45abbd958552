"""The page as a whole: one HTML file that fetches nothing."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from ndvol.catalog import Catalog
from ndvol.markup import Html, element
from ndvol.report.distributions import category_table, distributions
from ndvol.report.draws import windows_section
from ndvol.report.gallery import gallery
from ndvol.report.options import DrawOptions
from ndvol.report.survey import CaseSurvey
from ndvol.report.tables import case_table, verdict_table
from ndvol.report.windows import Draws
from ndvol.tables import counted
from ndvol.version import __version__

NAMED = 5
"""Cases that could not be read and are named at the top; the table has all."""
_PARTS = {
    "cases": "Cases",
    "pictures": "Pictures",
    "import": "Import",
    "distributions": "Distributions",
    "categories": "Categories",
    "windows": "Windows",
}


def build_page(
    catalog: Catalog, surveys: Sequence[CaseSurvey], draws: tuple[Sequence[Draws], int], options: DrawOptions
) -> str:
    """The HTML of a report.

    Parameters
    ----------
    draws : the windows drawn, and the number of kinds of cases that there are.
    """
    style, script = (Html(files(__package__).joinpath(name).read_text("utf-8")) for name in ("page.css", "page.js"))
    title = bundle_name(catalog)
    body = [
        _head(catalog, surveys, title),
        element("nav", {"aria-label": "Parts of the report"}, *(_link(name, part) for name, part in _PARTS.items())),
        element(
            "main",
            {},
            case_table(catalog, surveys),
            gallery(surveys, catalog.categories, len(catalog)),
            verdict_table(catalog.verdicts),
            distributions(surveys),
            category_table(catalog, surveys),
            windows_section(*draws, options),
        ),
        element("footer", {}, "This page is complete in itself and fetches nothing."),
        element("script", {}, script),
    ]
    head = [
        element("meta", {"charset": "utf-8"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": _policy(script)}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"name": "color-scheme", "content": "light dark"}),
        element("title", {}, f"{title} – ndvol report"),
        element("style", {}, style),
    ]
    page = element("html", {"lang": "en"}, element("head", {}, *head), element("body", {}, *body))
    return f"<!DOCTYPE html>\n{page}\n"


def bundle_name(catalog: Catalog) -> str:
    """The bundle's folder, or the kwcoco file where its name says more."""
    path = Path(catalog.path)
    return (path.parent.name if path.name == "data.kwcoco.json" else path.name) or "catalogue"


def _policy(script: str) -> str:
    """Content security policy: nothing from elsewhere, and no script but the page's own."""
    digest = b64encode(sha256(script.encode()).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _head(catalog: Catalog, surveys: Sequence[CaseSurvey], title: str) -> Html:
    records = list(catalog.records.values())
    figures = [
        (len(records), "case", "cases"),
        (sum(len(record.images) for record in records), "image", "images"),
        (sum(len(record.labels) for record in records), "label volume", "label volumes"),
        (sum(len(record.objects) for record in records), "object", "objects"),
        (len(catalog.categories), "category", "categories"),
        (sum(verdict.status == "refused" for verdict in catalog.verdicts), "refused source", "refused sources"),
    ]
    tiles = [element("li", {}, element("b", {}, f"{n:,}"), one if n == 1 else several) for n, one, several in figures]
    bad = [found for found in surveys if found.problem is not None]
    warning = ""
    if bad:
        names = ", ".join(found.record.name for found in bad[:NAMED])
        more = f" and {len(bad) - NAMED:,} more" if len(bad) > NAMED else ""
        told = f"{counted(len(bad), 'case')} could not be read, or not all of it: {names}{more}"
        warning = element("p", {"class": "problem callout"}, told)
    return element(
        "header",
        {"class": "top"},
        element("p", {"class": "kicker"}, _makers(surveys)),
        element("h1", {}, title),
        element("ul", {"class": "figures"}, *tiles),
        warning,
    )


def _makers(surveys: Sequence[CaseSurvey]) -> str:
    """Which versions made the files and the page."""
    makers = sorted({found.made_by for found in surveys if found.made_by})
    return f"Report by ndvol {__version__}" + (f" · files by {', '.join(makers)}" if makers else "")


def _link(name: str, title: str) -> Html:
    return element("a", {"href": f"#{name}"}, title)
