"""The command `ndvol sample`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ndvol.commands import bundle_argument, check_output, json_option, window_sizes
from ndvol.tables import table

if TYPE_CHECKING:
    from ndvol.catalog import Catalog
    from ndvol.sampling import Target


@dataclass(frozen=True, slots=True)
class SheetOptions:
    """What is drawn for a contact sheet.

    Attributes
    ----------
    window : voxels per axis.
    positive, negative : numbers of windows.
    category : to draw and to avoid, with all below them; all by default.
    max_overlap : share of a negative window that may be labelled.
    """

    window: tuple[int, ...]
    positive: int
    negative: int
    category: tuple[str, ...] = ()
    max_overlap: float = 0.0
    seed: int = 0


@click.command()
@bundle_argument
@click.option("-w", "--window", help="Voxels per axis: 64 or 32,96,96; by default half the smallest case, at most 64.")
@click.option("--positive", type=click.IntRange(0), default=32, show_default=True, help="Number of positive windows.")
@click.option("--negative", type=click.IntRange(0), default=32, show_default=True, help="Number of negative windows.")
@click.option("--category", multiple=True, help="Category to draw and to avoid, with all below it; repeatable.")
@click.option(
    "--max-overlap",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of a negative window that may be labelled.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("sheet.png"), show_default=True)
@json_option
def sample(bundle: Path, window: str | None, output: Path, as_json: bool, **options: Any) -> None:
    """Draw windows from a BUNDLE and write a contact sheet of them."""
    from ndvol.opening import open_catalog

    check_output(output, "--output", ".png")
    catalog = open_catalog(bundle)
    targets = draw_sheet(catalog, SheetOptions(window_sizes(window, catalog), **options), output)
    if as_json:
        click.echo(json.dumps([target_row(target) for target in targets]))
    else:
        show_targets(targets, output)


def draw_sheet(catalog: Catalog, options: SheetOptions, output: Path) -> list[Target]:
    """Write a contact sheet; the targets on it, positives first."""
    from tqdm import tqdm

    import ndvol
    from ndvol.sheet import contact_sheet

    names = options.category or None
    strategy = ndvol.Mix({ndvol.Positive(names): 1, ndvol.Negative(names, max_overlap=options.max_overlap): 1})
    sampler = ndvol.VolumeSampler(catalog, options.window, strategy=strategy, seed=options.seed)
    loads = [(sampler.load_positive, i) for i in range(options.positive)]
    loads += [(sampler.load_negative, i) for i in range(options.negative)]
    samples = [load(i) for load, i in tqdm(loads, unit="window", disable=None)]
    contact_sheet(samples, output, catalog)
    return [s.target for s in samples]


def target_row(target: Target) -> dict[str, Any]:
    """A target as JSON values."""
    return {
        "case": target.case,
        "role": target.role,
        "category": target.category,
        "start": target.window.start,
        "shape": target.window.shape,
    }


def show_targets(targets: Sequence[Target], output: Path) -> None:
    """Print how many windows were drawn of each role and category."""
    keys = [(t.role, t.category or "") for t in targets]
    click.echo(table([{"role": r, "category": c, "windows": keys.count((r, c))} for r, c in dict.fromkeys(keys)]))
    click.echo(f"contact sheet: {output}")
