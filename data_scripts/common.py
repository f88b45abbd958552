"""What the scripts for public data sets share: their command line, checks of a layout, and folders of links."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ndvol
from ndvol.commands import EXIT_FAILED, EXIT_PARTLY
from ndvol.errors import ImportFailedError, NdvolError, SourceError
from ndvol.opening import JOURNAL_NAME
from ndvol.outcomes import summarize
from ndvol.verdict import Verdict

Row = tuple[str, str | None, int | None]
"""A category: its name, the one that it is below, and its value in label maps."""


def categories(table: Iterable[Row]) -> tuple[dict[str, Any], ...]:
    """The rows as `ndvol.ImportOptions` takes them.

    >>> categories([("kidney", None, None), ("tumor", "kidney", 2)])
    ({'name': 'kidney', 'supercategory': None, 'value': None}, {'name': 'tumor', 'supercategory': 'kidney', 'value': 2})
    """
    return tuple({"name": name, "supercategory": below, "value": value} for name, below, value in table)


def arguments(text: str) -> argparse.ArgumentParser:
    """The parser of a script whose docstring is `text`: SOURCE, BUNDLE and ``--jobs``."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the folder that was downloaded and unpacked")
    parser.add_argument("bundle", type=Path, help="the folder to write; run again, an interrupted import goes on")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="worker processes (%(default)s)")
    return parser


def run(importing: Callable[[], ndvol.Catalog]) -> int:
    """Import, and say what happened to the sources; the exit status is that of ``ndvol import``."""
    started = time.monotonic()
    try:
        catalog = importing()
    except NdvolError as error:
        if isinstance(error, ImportFailedError):
            _show_refused(error.verdicts)
        print(f"{error} [{error.code}]", file=sys.stderr)
        return EXIT_FAILED
    _show_refused(catalog.verdicts)
    cases = {verdict.case for verdict in catalog.verdicts}
    stored_bytes = sum(Path(r.path).stat().st_size for r in catalog.records.values() if r.name in cases)
    print(summarize(catalog.verdicts, stored_bytes, time.monotonic() - started))
    if any(verdict.status == "imported with warnings" for verdict in catalog.verdicts):
        print(f"the warnings stand in {Path(catalog.path).parent / JOURNAL_NAME}")
    return EXIT_PARTLY if any(verdict.status == "refused" for verdict in catalog.verdicts) else 0


def _show_refused(verdicts: Iterable[Verdict]) -> None:
    for verdict in verdicts:
        if verdict.status == "refused":
            print(f"{verdict.source}: {verdict.message}")


def subject_folders(source: Path, pattern: str, needed: Sequence[str]) -> list[Path]:
    """The folders in `source` that are called like `pattern`, by name.

    Parameters
    ----------
    needed : names of files or folders that each of them must hold; ``{}`` stands for its own name.

    Raises
    ------
    SourceError : code ``layout`` when there are no such folders, or some are not complete.
    """
    folders = sorted(folder for folder in source.glob(pattern) if folder.is_dir())
    layout = " and ".join(f"{pattern}/{name.format(pattern)}" for name in needed)
    if not folders:
        raise not_the_layout(source, f"folders {pattern}", layout)
    lacking = [
        str(folder.relative_to(source) / file)
        for folder in folders
        for file in (name.format(folder.name) for name in needed)
        if not (folder / file).exists()
    ]
    if lacking:
        raise SourceError(
            f"{source} is not complete",
            got=f"{len(folders)} folders without {', '.join(lacking[:5])}{' …' if len(lacking) > 5 else ''}",
            expected=layout,
            hint="download what is missing, or take those folders away",
            code="layout",
        )
    return folders


def not_the_layout(source: Path, missing: str, layout: str) -> SourceError:
    """The error for a folder that lacks what tells the data set."""
    found = sorted(path.name for path in source.iterdir()) if source.is_dir() else "no folder"
    return SourceError(
        f"{source} holds no {missing}",
        got=", ".join(found[:8]) + " …" * (len(found) > 8) if isinstance(found, list) else found,
        expected=layout,
        hint="give the folder that holds them",
        code="layout",
    )


@contextmanager
def linked(bundle: Path, files: Mapping[str, Path]) -> Iterator[Path]:
    """A folder in which each of `files` stands under its new path, as a link; removed in the end.

    It lies inside the bundle, always at the same place: so an import that was interrupted goes on when the script is
    run again.
    """
    folder = bundle.absolute() / ".links"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        for name, file in files.items():
            link = folder / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.resolve())
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
