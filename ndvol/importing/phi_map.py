"""The way back from the pseudonyms of an import to its sources, for the person who imports and nobody else."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ndvol.errors import OptionError
from ndvol.importing.plan import ImportPlan
from ndvol.importing.planning import LABELS, TOP, root_of


def write_phi_map(plan: ImportPlan, bundle: Path) -> None:
    """Add the pseudonyms of a plan to the file of `ImportOptions.phi_map`, if one is asked for.

    Raises
    ------
    OptionError : when the file would travel with the bundle, holds something else, or cannot be written.
    """
    if not plan.options.phi_map:
        return
    path = Path(plan.options.phi_map)
    if path.resolve().is_relative_to(bundle.resolve()):
        raise OptionError(
            "the map of the pseudonyms lies inside the bundle, where whoever gets the bundle could undo them",
            hint="keep it elsewhere",
            code="phi-map",
        )
    try:
        text = json.dumps(_known(path) | pseudonym_paths(plan), indent=1, sort_keys=True)
        part = path.with_name(path.name + ".part")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            stream.write(text + "\n")
        part.replace(path)
    except OSError as error:
        raise OptionError(
            "the map of the pseudonyms cannot be written", got=error.strerror, hint="name another file", code="phi-map"
        ) from error


def pseudonym_paths(plan: ImportPlan) -> dict[str, str]:
    """Pseudonym -> path, of the sources, and of the cases that have one by their first source.

    A series that shares its folder with others is that folder, ``#`` and the digits that verdicts tell them apart by.
    """
    aliases = plan.disguise.aliases
    label_root = root_of(plan.options.labels) if plan.options.labels else None

    def path(source: str) -> str:
        below = source.removeprefix(LABELS) if label_root else source
        root = Path(plan.root) if below == source or label_root is None else label_root
        return f"{root / below.removeprefix(TOP)}"

    paths = {alias: path(source) for source, alias in aliases.items()}
    for case in plan.cases:
        # Under `strict` the plan itself names pseudonyms.
        source = case.images[0].series.source
        if (alias := aliases.get(source, source)) in paths:
            paths[case.name] = paths[alias]
    return paths


def _known(path: Path) -> dict[str, str]:
    """What the file holds from earlier imports."""
    if not path.exists():
        return {}
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(known, dict) and all(isinstance(value, str) for value in known.values()):
            return known
    except ValueError:
        pass
    raise OptionError(
        "the file for the map of the pseudonyms holds something else, and would be replaced",
        hint="name a new file",
        code="phi-map",
    )
