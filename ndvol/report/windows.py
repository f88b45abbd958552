"""The windows that a sampler really draws of a catalogue, as tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from ndvol.catalog import CaseRecord, Catalog
from ndvol.display import png_uri
from ndvol.errors import NdvolError, OptionError
from ndvol.report.options import DrawOptions
from ndvol.report.survey import reason
from ndvol.sampler import Reading, Sample, VolumeSampler
from ndvol.sampling import Mix, Negative, Positive, Strategy, Uniform
from ndvol.sampling.options import modest_window
from ndvol.sampling.report import DrawReport
from ndvol.selection import images_of
from ndvol.sheet import draw_patch

KINDS = 4
"""Kinds of cases that windows are drawn of, the most frequent first; the page says how many there are."""
_NONE = {"positive": "No positive windows", "negative": "No negative windows", "any": "No windows"}


@dataclass(frozen=True, slots=True)
class Tile:
    """A window that was drawn, or why it could not be read.

    Attributes
    ----------
    role : ``positive``, ``negative`` or ``any``. category, case : of the target; empty where it has none.
    start : of the window.
    picture : ``data:`` URI; empty when there is a `problem`.
    """

    role: str
    category: str = ""
    case: str = ""
    start: tuple[int, ...] = ()
    picture: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Draws:
    """The windows of cases of one kind.

    Attributes
    ----------
    axes, image : that the cases share: their axes and the name of their first image, which is shown.
    cases : their number. window : its shape in storage order. tiles : in the order drawn.
    report : what is drawn, if all that was asked for can be.
    problems : why some roles cannot be drawn.
    """

    axes: str
    image: str
    cases: int
    window: tuple[int, ...] = ()
    tiles: tuple[Tile, ...] = ()
    report: DrawReport | None = None
    problems: tuple[str, ...] = ()


def kinds_of_cases(records: Sequence[CaseRecord]) -> dict[tuple[str, int, str], list[str]]:
    """Names of cases that one window fits, by axes, channels and first image; the most frequent kind first."""
    kinds: dict[tuple[str, int, str], list[str]] = {}
    for record in records:
        channels = record.shape[record.axes.index("c")] if "c" in record.axes else 0
        kinds.setdefault((record.axes, channels, images_of(record)[0]), []).append(record.name)
    return dict(sorted(kinds.items(), key=lambda kind: (-len(kind[1]), kind[0])))


def draw_windows(
    catalog: Catalog, records: Sequence[CaseRecord], options: DrawOptions, *, progress: bool = False
) -> list[Draws]:
    """Windows of each of the `KINDS` most frequent kinds of cases.

    Parameters
    ----------
    records : of the cases of `catalog` to draw from; those that cannot be read are left out.
    """
    kinds = list(kinds_of_cases(records).items())[:KINDS] if options.count else []
    return [_draw_kind(catalog.subset(names), kind, options, progress) for kind, names in kinds]


def _draw_kind(catalog: Catalog, kind: tuple[str, int, str], options: DrawOptions, progress: bool) -> Draws:
    axes, channels, image = kind
    spatial = sum(a in "zyx" for a in axes)
    if options.window is None:
        sizes = modest_window((record.axes, record.shape) for record in catalog.records.values())
    else:
        sizes = options.window * (spatial if len(options.window) == 1 else 1)
    if len(sizes) != spatial:
        error = OptionError("the window does not fit these cases", got=sizes, expected=f"1 or {spatial} lengths")
        return Draws(axes, image, len(catalog), problems=(str(error),))
    lengths = iter(sizes)
    window = tuple(next(lengths) if a in "zyx" else channels if a == "c" else 1 for a in axes)
    samplers, problems = _samplers(catalog, window, image, options)
    loads: list[tuple[str, Callable[[int], Sample], int]] = [
        (role, load, k) for role, load in _loaders(samplers).items() for k in range(options.count)
    ]
    tiles = [
        _tile(catalog, role, load, k)
        for role, load, k in tqdm(loads, unit="window", disable=None if progress else True)
    ]
    report = None
    try:
        report = samplers["all"].report(options.counted) if "all" in samplers else None
    except (NdvolError, OSError) as error:
        problems.append(f"No shares of what is drawn: {reason(error, catalog)}.")
    return Draws(axes, image, len(catalog), window, tuple(tiles), report, tuple(problems))


def _samplers(
    catalog: Catalog, window: tuple[int, ...], image: str, options: DrawOptions
) -> tuple[dict[str, VolumeSampler], list[str]]:
    """A sampler of both roles as ``all``, else one per role that can be drawn, else one of any windows; and why."""
    names, reading = options.categories or None, Reading(images=[image])

    positive, negative = Positive(names), Negative(names)
    attempts: dict[str, Strategy] = {
        "all": Mix({positive: 1, negative: 1}),
        "positive": positive,
        "negative": negative,
        "any": Uniform(),
    }
    samplers: dict[str, VolumeSampler] = {}
    problems: list[str] = []
    # As many as are shown, however few windows tile the cases.
    length = max(options.count, options.counted)
    for role, strategy in attempts.items():
        if "all" in samplers or (role == "any" and samplers):
            break
        try:
            samplers[role] = VolumeSampler(
                catalog, window, strategy=strategy, seed=options.seed, length=length, reading=reading
            )
        except (NdvolError, OSError) as error:
            if role != "all":
                problems.append(f"{_NONE[role]}: {reason(error, catalog)}.")
    return samplers, problems


def _loaders(samplers: dict[str, VolumeSampler]) -> dict[str, Callable[[int], Sample]]:
    if "all" in samplers:
        return {"positive": samplers["all"].load_positive, "negative": samplers["all"].load_negative}
    return {role: sampler.__getitem__ for role, sampler in samplers.items()}


def _tile(catalog: Catalog, role: str, load: Callable[[int], Sample], number: int) -> Tile:
    try:
        sample = load(number)
        picture = png_uri(draw_patch(sample, catalog))
    except (NdvolError, OSError) as error:
        return Tile(role, problem=reason(error, catalog))
    target = sample.target
    return Tile(role, target.category or "", target.case, target.window.start, picture)
