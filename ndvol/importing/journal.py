"""The journal of a bundle, ``import.jsonl``: one row per source, appended as cases finish, tidied at the end."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ndvol.errors import NdvolError, OptionError
from ndvol.importing.case import ImportedCase, case_options
from ndvol.importing.options import ImportOptions
from ndvol.importing.plan import CasePlan, ImportPlan
from ndvol.importing.sources import quick_fingerprint
from ndvol.opening import JOURNAL_NAME, read_journal
from ndvol.store import sync_folder
from ndvol.verdict import Verdict
from ndvol.version import __version__


class Journal:
    """What happened to every source of a bundle.

    Each case's first image carries the state that decides whether a later run may skip the case. A row is on
    disk as soon as its case is published; a run that is killed loses at most the row it was writing.

    Parameters
    ----------
    folder : of the bundle.
    plan : of this run; rows of other source folders stay as they are.

    Raises
    ------
    OptionError : when the bundle was imported with another privacy profile or key: it would hold the names of both.
    """

    def __init__(self, folder: Path, plan: ImportPlan) -> None:
        self._path = folder / JOURNAL_NAME
        self._disguise = plan.disguise
        self._privacy = plan.disguise.privacy
        # The path itself may name a person.
        self._root = self._privacy.digest("root", plan.root, 12)
        self._before = read_journal(folder)
        if others := {row.get("phi") for row in self._before} - {self._privacy.tag}:
            raise OptionError(
                f"the bundle was imported with --phi {' and '.join(sorted(str(tag) for tag in others))}",
                got=f"--phi {self._privacy.tag}",
                hint="give the same profile and key again, or import into another bundle",
                code="other-phi",
            )
        self._written = {_line(row) for row in self._before}
        self._rows: list[dict[str, Any]] = []
        self._shown: list[Verdict] = []
        self._states = {row["case"]: (row["root"], row["state"]) for row in self._before if row.get("state")}

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts of this run so far, for the person who imports."""
        return list(self._shown)

    def belongs_to_other_root(self, case: str) -> bool:
        """True when the bundle holds a case of that name from another folder."""
        return case in self._states and self._states[case][0] != self._root

    def unchanged(self, case: CasePlan, options: ImportOptions, volumes: Path) -> dict[str, Any] | None:
        """The state of a case whose sources, options and file are as the last run left them, else None."""
        root, state = self._states.get(case.name, ("", {}))
        path = volumes / f"{case.name}.h5"
        same = (
            root == self._root
            and state["version"] == __version__
            and state["options"] == case_options(case, options, self._privacy)
            and [(s["volume"], s["stats"]) for s in state["sources"]]
            == [(v.name, quick_fingerprint(v, self._privacy)) for v in case.volumes]
            and path.is_file()
            and path.stat().st_size == state["bytes"]
            and path.with_suffix(".png").is_file()
        )
        return state if same else None

    def still(self, case: CasePlan) -> tuple[Verdict, ...]:
        """The verdicts for the sources of an unchanged case; what the run that read them had to say is repeated."""
        same = "sources and options are those of the last run"
        said = {row["source"]: row["message"] for row in self._before if row["root"] == self._root and row["case"]}
        _, state = self._states[case.name]
        verdicts = []
        for volume, source in zip(case.volumes, state["sources"], strict=True):
            series = volume.series
            status, code = ("refused", source["refused"]) if "refused" in source else ("unchanged", "unchanged")
            message = said.get(self._disguise.alias(series.source)) or same
            verdicts.append(Verdict(series.source, status, code, message, case.name, len(series.files)))
        return tuple(verdicts)

    def add(self, verdict: Verdict, state: dict[str, Any] | None = None) -> None:
        """Note a verdict, with the state of its case if it is the case's first image."""
        stored = self._disguise.stored(verdict).to_json()
        row = {"root": self._root, "phi": self._privacy.tag, **stored} | ({"state": state} if state else {})
        if (line := _line(row)) not in self._written:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(line)
        self._rows.append(row)
        self._shown.append(self._disguise.shown(verdict))

    def add_case(self, case: ImportedCase) -> None:
        """Note a case that is in the bundle."""
        for verdict, state in zip(case.verdicts, [case.state, *[None] * len(case.verdicts)], strict=False):
            self.add(verdict, state)

    def add_refused(self, case: CasePlan, error: NdvolError) -> None:
        """Note that a case could not be imported; the reason stands with each source that has none of its own."""
        own = error.facts.get("refused", {})
        for volume in case.volumes:
            source = volume.series.source
            self.add(Verdict.refused(source, own.get(source, error), files=len(volume.series.files)))

    def states(self, volumes: Path) -> dict[str, dict[str, Any]]:
        """The states of all cases that the bundle holds, by name in sorted order."""
        rows = sorted(self._rows_that_hold(volumes), key=lambda row: row["case"] or "")
        return {row["case"]: row["state"] for row in rows if row.get("state")}

    def finish(self, volumes: Path) -> None:
        """Replace the file as a whole by this run's rows and the older ones that still hold."""
        replace_file(self._path, "".join(map(_line, self._rows_that_hold(volumes))).encode())

    def _rows_that_hold(self, volumes: Path) -> list[dict[str, Any]]:
        """This run's rows, those of other roots, and those of any case in the bundle that this run did not touch.

        A source that is gone, or has become unreadable, does not take its published case along.
        """
        cases = {row["case"] for row in self._rows if row["case"]}
        sources = {row["source"] for row in self._rows if row["case"]}

        def holds(row: dict[str, Any]) -> bool:
            ours = row["root"] == self._root
            if not row["case"]:
                return not ours
            # A source whose case has got another name does not stay under the old one too.
            replaced = row["case"] in cases or (ours and row["source"] in sources)
            return not replaced and (volumes / f"{row['case']}.h5").is_file()

        return [*filter(holds, self._before), *self._rows]


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` at `path` so that a reader, or a power failure, finds the old content or the new."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
    sync_folder(path.parent)
