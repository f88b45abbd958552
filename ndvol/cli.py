"""The command line: thin commands over paths. Results on stdout, progress on stderr, stable exit codes."""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from ndvol.commands import EXIT_CODES, EXIT_DAMAGE, EXIT_PARTLY, Commands
from ndvol.errors import CatalogError, ImportFailedError
from ndvol.outcomes import show_outcome, show_plan, show_verdicts
from ndvol.tables import indented, table, times
from ndvol.version import __version__

if TYPE_CHECKING:
    from ndvol.catalog import Catalog
    from ndvol.sampler import VolumeSampler


@click.group(cls=Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ndvol")
def main() -> None:
    """Volumes from DICOM, NIfTI and picture series in HDF5, and the windows that training wants of them."""


_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
_bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))


@main.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@_bundle_argument
@click.option("--labels", type=click.Path(), help="Folder (or file) with the label maps of the images.")
@click.option("--label-name", help="Name of the label volume; the label folder's by default.")
@click.option("--categories", type=click.Path(path_type=Path), help="JSON table: categories, their values and names.")
@click.option(
    "--merge",
    default="",
    metavar="A,B,…",
    help="Categories to put into one label volume; where they overlap the first wins.",
    callback=lambda _context, _option, text: tuple(filter(None, map(str.strip, text.split(",")))),
)
@click.option("--modality", default="", help="Modality of sources that do not state one; names the image.")
@click.option("--orientation", type=click.Choice(["canonical", "native"]), default="canonical", show_default=True)
@click.option("--objects", type=click.Choice(["component", "category"]), default="component", show_default=True)
@click.option("--levels", default=1, show_default=True, help="Pyramid levels of every volume; 1: the finest alone.")
@click.option(
    "--codec",
    type=click.Choice(["fast", "small", "portable", "none"]),
    default="fast",
    show_default=True,
    help="Compression: lz4; zstd; gzip, which needs no plug-in to be read; none.",
)
@click.option(
    "--case-by",
    type=click.Choice(["auto", "series", "study", "folder"]),
    default="auto",
    show_default=True,
    help="What the images of one case share; auto: the folder layout tells.",
)
@click.option("--follow-links", is_flag=True, help="Read links to files that lead out of SOURCE too.")
@click.option(
    "--on-gap",
    type=click.Choice(["refuse", "mask", "resample"]),
    default="refuse",
    show_default=True,
    help="Series that lack planes (mask, resample) or are unevenly spaced (resample: interpolate).",
)
@click.option("--deskew", is_flag=True, help="Shift the planes of a tilted gantry onto an orthogonal grid.")
@click.option("--holes", type=click.Choice(["auto", "xor", "union"]), default="auto", help="RTSTRUCT: nested contours.")
@click.option("--dataset", default="", help="Path of the data set to import from HDF5 files that hold several.")
@click.option(
    "--phi",
    type=click.Choice(["strict", "research", "keep"]),
    default="research",
    show_default=True,
    help="Names that may reach the bundle: none; those of files that are not DICOM; all.",
)
@click.option("--phi-key", type=click.Path(), help="File with the key of the pseudonyms; keep it outside BUNDLE.")
@click.option(
    "--phi-map", type=click.Path(), help="JSON file for the paths behind the pseudonyms; keep it outside BUNDLE."
)
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Markdown file for a summary.")
@click.option("-j", "--jobs", type=click.IntRange(0), default=os.cpu_count() or 1, help="Worker processes; 0: none.")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be imported; decode nothing.")
@_json_option
def import_command(
    source: Path,
    bundle: Path,
    categories: Path | None,
    report: Path | None,
    jobs: int,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Import SOURCE (a folder of any depth, or one file) into the folder BUNDLE."""
    from ndvol.formats import ReadOptions
    from ndvol.importing import ImportOptions, plan_import, read_categories, run_import

    started = monotonic()
    named = read_categories(categories) if categories else ()
    reading = ReadOptions(**{name: options.pop(name) for name in ("on_gap", "deskew", "holes", "dataset")})
    plan = plan_import(source, ImportOptions(categories=named, reading=reading, **options), jobs=jobs)
    if dry_run:
        show_plan(plan, as_json)
        return
    if report and not report.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no folder {report.parent}", param_hint="--report")
    told = partial(show_outcome, plan, as_json=as_json, report=report)
    try:
        catalog = run_import(plan, bundle, jobs=jobs, progress=True)
    except ImportFailedError as error:
        told(error.verdicts, (), seconds=monotonic() - started)
        raise
    told(catalog.verdicts, catalog.records.values(), seconds=monotonic() - started)
    if any(v.status == "refused" for v in catalog.verdicts):
        sys.exit(EXIT_PARTLY)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("demo"))
@click.option("--seed", default=0, show_default=True)
def demo(folder: Path, seed: int) -> None:
    """Make toy DICOM, NIfTI and picture data in FOLDER, import it, verify it and draw from it."""
    from ndvol.demo import NEXT_STEPS, write_toy_sources
    from ndvol.importing import ImportOptions, plan_import, read_categories, run_import

    raw, bundle = folder / "raw", folder / "bundle"
    click.echo(f"1. Toy data: DICOM, NIfTI and PNG series, one of them defective on purpose -> {raw}")
    write_toy_sources(raw, seed=seed)
    click.echo(f"2. Import -> {bundle}")
    options = ImportOptions(categories=read_categories(raw / "categories.json"), modality="CT")
    plan = plan_import(raw, options)
    verdicts = run_import(plan, bundle, progress=True).verdicts
    show_verdicts([v for v in verdicts if v.code != "unknown-format"], as_json=False)
    click.echo("3. Verify every stored chunk")
    if _verify(bundle, as_json=False):
        sys.exit(EXIT_DAMAGE)
    click.echo("4. Draw 64 positive and 64 negative windows")
    _sample_sheet(_open(bundle), (16, 48, 48), (64, 64), folder / "sheet.png", category=("finding",), seed=seed)
    click.echo(NEXT_STEPS.format(raw=raw, bundle=bundle, sheet=folder / "sheet.png"))


@main.command("ls")
@_bundle_argument
@_json_option
def ls_command(bundle: Path, as_json: bool) -> None:
    """List the cases of a BUNDLE (a folder or a kwcoco file)."""
    catalog = _open(bundle)
    rows: list[dict[str, Any]] = [
        {
            "case": r.name,
            "images": ",".join(r.images),
            "labels": ",".join(r.labels),
            "axes": r.axes,
            "shape": list(r.shape),
            "spacing": [round(s, 4) for s in r.spacing],
            "unit": r.unit,
            "objects": len(r.objects),
        }
        for r in catalog.records.values()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    shown = [{**r, "shape": times(r["shape"]), "spacing": times(r["spacing"])} for r in rows]
    click.echo(table(shown))


@main.command()
@_bundle_argument
@click.argument("case", required=False)
@_json_option
def info(bundle: Path, case: str | None, as_json: bool) -> None:
    """Tell what is in a BUNDLE, or in one CASE of it."""
    from ndvol.facts import case_facts, catalog_facts

    catalog = _open(bundle)
    facts = case_facts(catalog, case) if case else catalog_facts(catalog)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    for name, value in facts.items():
        click.echo(f"{name}:{indented(value)}")


@main.command()
@_bundle_argument
@click.option("-w", "--window", default="64", show_default=True, help="Voxels per axis: 64 or 32,96,96.")
@click.option("--positive", type=click.IntRange(0), default=32, show_default=True, help="Number of positive windows.")
@click.option("--negative", type=click.IntRange(0), default=32, show_default=True, help="Number of negative windows.")
@click.option("--category", multiple=True, help="Category to draw and to avoid, with all below it; repeatable.")
@click.option("--max-overlap", default=0.0, show_default=True, help="Share of a negative window that may be labelled.")
@click.option("--seed", default=0, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("sheet.png"), show_default=True)
@_json_option
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
    try:
        sizes = tuple(int(n) for n in window.split(","))
    except ValueError:
        raise click.BadParameter(f"{window!r} is not like 64 or 32,96,96", param_hint="--window") from None
    if output.suffix.lower() != ".png":
        raise click.BadParameter(f"{output} does not end in .png", param_hint="--output")
    catalog = _open(bundle)
    if len(sizes) == 1:
        axes = {len(set(r.axes) & set("zyx")) for r in catalog.records.values()}
        sizes *= max(axes, default=3)
    _sample_sheet(
        catalog,
        sizes,
        (positive, negative),
        output,
        category=category,
        max_overlap=max_overlap,
        seed=seed,
        as_json=as_json,
    )


def _sample_sheet(
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


@main.command()
@_bundle_argument
@_json_option
def verify(bundle: Path, as_json: bool) -> None:
    """Compare every stored byte of a BUNDLE (or of one .h5 file) with its hash."""
    if _verify(bundle, as_json):
        sys.exit(EXIT_DAMAGE)


def _verify(bundle: Path, as_json: bool) -> int:
    from tqdm import tqdm

    from ndvol.store import verify_file

    if bundle.suffix == ".h5":
        files = {bundle.stem: (str(bundle), "")}
    else:
        files = {r.name: (r.path, r.sha256) for r in _open(bundle).records.values() if r.sha256}
    rows = []
    for name, (path, sha256) in tqdm(files.items(), unit="case", disable=None):
        for damage in verify_file(path, sha256=sha256):
            box = f"{damage.box.start} + {damage.box.shape}" if damage.box else ""
            rows.append({"case": name, "dataset": damage.dataset, "box": box, "damage": damage.what})
    if as_json:
        click.echo(json.dumps({"cases": len(files), "damage": rows}, indent=1))
    else:
        click.echo(table(rows) if rows else f"{len(files)} cases, every stored byte as written")
    return len(rows)


def _open(bundle: Path) -> Catalog:
    from ndvol.opening import open_catalog

    if bundle.suffix == ".h5":
        raise CatalogError(f"{bundle} is one volume file", hint="give the bundle's folder or its .kwcoco.json")
    return open_catalog(bundle)
