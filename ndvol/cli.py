"""The command line: thin commands over paths. Results on stdout, progress on stderr, stable exit codes."""

from __future__ import annotations

import errno
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ndvol.commands import EXIT_CODES, EXIT_DAMAGE, Commands, bundle_argument, json_option
from ndvol.errors import CURES, StoreError
from ndvol.outcomes import show_verdicts
from ndvol.sample_command import SheetOptions, draw_sheet, show_targets, target_row
from ndvol.tables import indented, table
from ndvol.version import __version__

if TYPE_CHECKING:
    from ndvol.sampling import Target


@click.group(
    cls=Commands, epilog=EXIT_CODES, context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="ndvol")
def main() -> None:
    """Volumes from DICOM, NIfTI and picture series in HDF5, and the windows that training wants of them."""


@main.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path("demo"))
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@json_option
def demo(folder: Path, seed: int, as_json: bool) -> None:
    """Make toy DICOM, NIfTI and picture data in FOLDER, import it, verify it and draw from it."""
    from ndvol.demo import NEXT_STEPS, write_toy_sources
    from ndvol.importing import ImportOptions, plan_import, read_categories, run_import
    from ndvol.opening import open_catalog

    raw, bundle, sheet = folder / "raw", folder / "bundle", folder / "sheet.png"
    # With --json the answer alone is a result.
    tell = partial(click.echo, err=as_json)
    tell(f"1. Toy data: DICOM, NIfTI and PNG series, one of them defective on purpose -> {raw}")
    write_toy_sources(raw, seed=seed)
    tell(f"2. Import -> {bundle}")
    reading = ImportOptions(categories=read_categories(raw / "categories.json"), modality="CT")
    verdicts = run_import(plan_import(raw, reading), bundle, progress=True).verdicts
    if not as_json:
        show_verdicts([v for v in verdicts if v.code != "unknown-format"], as_json=False)
    tell("3. Verify every stored chunk")
    checked = _verified(bundle)
    if not as_json:
        _show_verified(checked, as_json=False)
    targets: list[Target] = []
    if not checked["damage"]:
        tell("4. Draw 64 positive and 64 negative windows")
        options = SheetOptions((16, 48, 48), 64, 64, ("finding",), seed=seed)
        targets = draw_sheet(open_catalog(bundle), options, sheet)
    if as_json:
        places = {"raw": str(raw), "bundle": str(bundle), "sheet": str(sheet)}
        rows = {"verdicts": [v.to_json() for v in verdicts], **checked, "windows": [target_row(t) for t in targets]}
        click.echo(json.dumps({**places, **rows}))
    elif targets:
        show_targets(targets, sheet)
        click.echo(NEXT_STEPS.format(raw=raw, bundle=bundle, sheet=sheet))
    if checked["damage"]:
        sys.exit(EXIT_DAMAGE)


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
    facts = case_facts(catalog, case) if case is not None else catalog_facts(catalog)
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
    checked = _verified(bundle)
    _show_verified(checked, as_json)
    if checked["damage"]:
        sys.exit(EXIT_DAMAGE)


def _verified(bundle: Path) -> dict[str, Any]:
    """How many cases were compared with their hashes, and where their bytes differ; JSON values."""
    from tqdm import tqdm

    from ndvol.opening import open_catalog
    from ndvol.store import verify_file

    if bundle.suffix == ".h5" and not bundle.is_file():
        raise StoreError(f"there is no file {bundle}", hint=CURES[errno.ENOENT])
    if bundle.suffix == ".h5":
        files = {bundle.stem: (str(bundle), "")}
    else:
        files = {r.name: (r.path, r.sha256) for r in open_catalog(bundle).records.values() if r.sha256}
    rows = []
    for name, (path, sha256) in tqdm(files.items(), unit="case", disable=None):
        for damage in verify_file(path, sha256=sha256):
            box = f"{damage.box.start} + {damage.box.shape}" if damage.box else ""
            rows.append({"case": name, "dataset": damage.dataset, "box": box, "damage": damage.what})
    return {"cases": len(files), "damage": rows}


def _show_verified(checked: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(checked, indent=1))
    elif checked["damage"]:
        click.echo(table(checked["damage"]))
    else:
        click.echo(f"{checked['cases']} cases, every stored byte as written")
