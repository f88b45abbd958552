"""The command `ndvol sample`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ndvol.commands import bundle_argument, json_option, parse_window
from ndvol.tables import table

if TYPE_CHECKING:
    from ndvol.catalog import Catalog
    from ndvol.sampler import VolumeSampler


@click.command()
@bundle_argument
@click.option("-w", "--window", default="64", show_default=True, help="Voxels per axis: 64 or 32,96,96.")
@click.option("--positive", type=click.IntRange(0), default=32, show_default=True, help="Number of positive windows.")
@click.option("--negative", type=click.IntRange(0), default=32, show_default=True, help="Number of negative windows.")
@click.option("--category", multiple=True, help="Category to draw and to avoid, with all below it; repeatable.")
@click.option("--max-overlap", default=0.0, show_default=True, help="Share of a negative window that may be labelled.")
@click.option("--seed", default=0, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("sheet.png"), show_default=True)
@json_option
def sample(
    bundle: Path,
    window: str,
    positive: int,
    negative: int,
    category: tuple[str, ...],
    max_overlap: float,
    seed: int,
    output: Path,
    as_json: bool,
) -> None:
    """Draw windows from a BUNDLE and write a contact sheet of them."""
    from ndvol.opening import open_catalog

    sizes = parse_window(window)
    if output.suffix.lower() != ".png":
        raise click.BadParameter(f"{output} does not end in .png", param_hint="--output")
    catalog = open_catalog(bundle)
    if len(sizes) == 1:
        axes = {len(set(r.axes) & set("zyx")) for r in catalog.records.values()}
        sizes *= max(axes, default=3)
    sample_sheet(
        catalog,
        sizes,
        (positive, negative),
        output,
        category=category,
        max_overlap=max_overlap,
        seed=seed,
        as_json=as_json,
    )


def sample_sheet(
    catalog: Catalog,
    window: tuple[int, ...],
    counts: tuple[int, int],
    output: Path,
    *,
    category: tuple[str, ...] = (),
    max_overlap: float = 0.0,
    seed: int = 0,
    as_json: bool = False,
) -> None:
    from tqdm import tqdm

    import ndvol
    from ndvol.sheet import contact_sheet

    names = category or None
    strategy = ndvol.Mix({ndvol.Positive(names): 1, ndvol.Negative(names, max_overlap=max_overlap): 1})
    sampler: VolumeSampler = ndvol.VolumeSampler(catalog, window, strategy=strategy, seed=seed)
    loads = [(sampler.load_positive, i) for i in range(counts[0])]
    loads += [(sampler.load_negative, i) for i in range(counts[1])]
    samples = [load(i) for load, i in tqdm(loads, unit="window", disable=None)]
    contact_sheet(samples, output, catalog)
    targets = [s.target for s in samples]
    if as_json:
        rows = [
            {"case": t.case, "role": t.role, "category": t.category, "start": t.window.start, "shape": t.window.shape}
            for t in targets
        ]
        click.echo(json.dumps(rows))
        return
    keys = [(t.role, t.category or "") for t in targets]
    rows = [{"role": r, "category": c, "windows": keys.count((r, c))} for r, c in dict.fromkeys(keys)]
    click.echo(table(rows))
    click.echo(f"contact sheet: {output}")
