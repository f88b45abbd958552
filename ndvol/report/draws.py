"""The part of the page with the windows that are really drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ndvol.markup import Html, element
from ndvol.report.charts import interval_chart
from ndvol.report.options import DrawOptions
from ndvol.report.tables import note, section
from ndvol.report.windows import KINDS, Draws, Tile
from ndvol.sampling.report import SHOWN, DrawReport, Share
from ndvol.tables import counted

_TITLES = {"positive": "Positive windows", "negative": "Negative windows", "any": "Windows anywhere"}


def windows_section(draws: Sequence[Draws], kinds: int, options: DrawOptions) -> Html:
    """The windows of each kind of cases.

    Parameters
    ----------
    kinds : number of kinds of cases that there are.
    """
    if not options.count:
        return section("windows", "Windows", note("No windows were asked for."))
    asked = f"Categories: {', '.join(options.categories)}. " if options.categories else ""
    told = (
        f"{asked}Seed {options.seed}. The plane through the drawn voxel, else the middle one; coloured lines: labels."
    )
    if kinds > KINDS:
        told += f" The {KINDS} most frequent of {kinds} kinds of cases are drawn from."
    return section("windows", "Windows", note(told), *map(_kind, draws))


def _kind(found: Draws) -> Html:
    size = " × ".join(map(str, found.window))
    told = f"{found.image}, {counted(found.cases, 'case')}" + (f", {found.axes} {size} voxels" if size else "")
    problems = [note(problem) for problem in found.problems]
    failed = Counter((tile.role, tile.problem) for tile in found.tiles if tile.problem)
    for (role, problem), times in failed.items():
        windows = counted(times, f"{role} window")
        problems.append(element("p", {"class": "problem"}, f"{windows} could not be read: {problem}"))
    groups = []
    for role, title in _TITLES.items():
        tiles = [_tile(tile) for tile in found.tiles if tile.role == role and not tile.problem]
        if tiles:
            groups += [element("h4", {}, title), element("div", {"class": "tiles"}, *tiles)]
    if any(tile.role == "any" for tile in found.tiles):
        problems.append(note("So windows are drawn anywhere."))
    shares = _shares(found.report) if found.report else ""
    return element("div", {"class": "kind"}, element("h3", {}, told), *problems, *groups, shares)


def _tile(tile: Tile) -> Html:
    where = f"at {', '.join(map(str, tile.start))}"
    picture = {"src": tile.picture, "alt": f"{tile.role} window {tile.category} in {tile.case}", "loading": "lazy"}
    lines = [
        element("b", {}, tile.category) if tile.category else "",
        element("span", {"title": tile.case}, tile.case),
        element("span", {"class": "at"}, where),
    ]
    caption = element("figcaption", {}, *lines)
    return element("figure", {"class": f"tile {tile.role}"}, element("img", picture), caption)


def _shares(report: DrawReport) -> Html:
    parts = {"role": report.roles, "category": report.categories, "leaf": report.leaves, "case": report.cases}
    if report.leaves == report.categories:
        del parts["leaf"]
    tables = [_share_table(title, shares) for title, shares in parts.items() if shares]
    missed = sum(share.count == 0 for share in report.cases)
    told = f"Shares of {report.draws:,} draws, with their 95 % confidence intervals."
    if missed:
        told += f" {counted(missed, 'case')} {'was' if missed == 1 else 'were'} never drawn."
    return element(
        "div", {}, element("h4", {}, "What is really drawn"), note(told), element("div", {"class": "shares"}, *tables)
    )


def _share_table(title: str, shares: Sequence[Share]) -> Html:
    rows = [
        element(
            "tr",
            {},
            element("th", {"scope": "row"}, share.name),
            element("td", {"class": "n"}, f"{share.share:.1%}"),
            element("td", {}, interval_chart(share.share, share.interval)),
            element("td", {"class": "n quiet"}, f"{share.interval[0]:.1%} … {share.interval[1]:.1%}"),
        )
        for share in shares[:SHOWN]
    ]
    more = f" ({SHOWN} of {len(shares)})" if len(shares) > SHOWN else ""
    return element("table", {"class": "share"}, element("caption", {}, f"By {title}{more}"), *rows)
