"""The command `ndvol doctor`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import click

from ndvol.commands import EXIT_FAILED, json_option
from ndvol.doctor.findings import Finding
from ndvol.doctor.folder import check_folder
from ndvol.doctor.machine import check_machine
from ndvol.doctor.packages import check_packages
from ndvol.tables import printable


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path())
@json_option
def doctor(folder: Path, as_json: bool) -> None:
    """Tell what works here, and what to change: versions, codecs, limits, and FOLDER as a place for a bundle."""
    found = list(_examine(folder))
    broken = sum(finding.status == "problem" for finding in found)
    if as_json:
        click.echo(json.dumps({"ok": not broken, "findings": [asdict(finding) for finding in found]}, indent=1))
    else:
        for group, findings in groupby(found, attrgetter("group")):
            click.echo(f"{group}\n" + "\n".join(map(_line, findings)))
        doubtful = sum(finding.status == "warning" for finding in found)
        click.echo(f"\n{broken or 'no'} problem{'s' * (broken != 1)}, {doubtful} warning{'s' * (doubtful != 1)}")
    if broken:
        sys.exit(EXIT_FAILED)


def _examine(folder: Path) -> Iterator[Finding]:
    packages = list(check_packages())
    yield from packages
    if any(finding.status == "problem" for finding in packages):
        yield Finding("codecs", "all", "not tried", "warning", "mend the packages first")
    else:
        # Here and not above: who needs a doctor may lack what these import.
        from ndvol.doctor.codecs import check_codecs, check_decoders

        yield from check_codecs()
        yield from check_decoders()
    yield from check_folder(folder)
    yield from check_machine()


def _line(finding: Finding) -> str:
    advice = f"\n           -> {finding.advice}" if finding.advice else ""
    return f"  {finding.status:8} {finding.name}: {printable(finding.value)}{advice}"
