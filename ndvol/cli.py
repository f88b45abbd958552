"""The command line: thin commands over paths. Results on stdout, progress on stderr, stable exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from ndvol.commands import EXIT_CODES, EXIT_DAMAGE, Commands, bundle_argument, json_option
from ndvol.outcomes import show_verdicts
from ndvol.sample_command import sample_sheet
from ndvol.tables import indented, table
from ndvol.version import __version__


@click.group(cls=Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ndvol")
def main() -> None:
    """Volumes from DICOM, NIfTI and picture series in HDF5, and the windows that training wants of them."""


@main.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("demo"))
@click.option("--seed", default=0, show_default=True)
def demo(folder: Path, seed: int) -> None:
    """Make toy DICOM, NIfTI and picture data in FOLDER, import it, verify it and draw from it."""
    from ndvol.demo import NEXT_STEPS, write_toy_sources
    from ndvol.importing import ImportOptions, plan_import, read_categories, run_import
    from ndvol.opening import open_catalog

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
    sample_sheet(open_catalog(bundle), (16, 48, 48), (64, 64), folder / "sheet.png", category=("finding",), seed=seed)
    click.echo(NEXT_STEPS.format(raw=raw, bundle=bundle, sheet=folder / "sheet.png"))


@main.command("ls")
@bundle_argument
@json_option
def ls_command(bundle: Path, as_json: bool) -> None:
    """List the cases of a BUNDLE (a folder or a kwcoco file)."""
    from ndvol.catalog import case_row, shown_row
    from ndvol.opening import open_catalog

    records = open_catalog(bundle).records.values()
    if as_json:
        click.echo(json.dumps([case_row(record) for record in records], indent=1))
    else:
        click.echo(table([shown_row(record) for record in records]))


@main.command()
@bundle_argument
@click.argument("case", required=False)
@json_option
def info(bundle: Path, case: str | None, as_json: bool) -> None:
    """Tell what is in a BUNDLE, or in one CASE of it."""
    from ndvol.facts import case_facts, catalog_facts
    from ndvol.opening import open_catalog

    catalog = open_catalog(bundle)
    facts = case_facts(catalog, case) if case else catalog_facts(catalog)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    for name, value in facts.items():
        click.echo(f"{name}:{indented(value)}")


@main.command()
@bundle_argument
@json_option
def verify(bundle: Path, as_json: bool) -> None:
    """Compare every stored byte of a BUNDLE (or of one .h5 file) with its hash."""
    if _verify(bundle, as_json):
        sys.exit(EXIT_DAMAGE)


def _verify(bundle: Path, as_json: bool) -> int:
    from tqdm import tqdm

    from ndvol.opening import open_catalog
    from ndvol.store import verify_file

    if bundle.suffix == ".h5":
        files = {bundle.stem: (str(bundle), "")}
    else:
        files = {r.name: (r.path, r.sha256) for r in open_catalog(bundle).records.values() if r.sha256}
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
