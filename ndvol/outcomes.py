"""What an import says when it is done: a table of its sources, a summary, and a report to hand on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ndvol.tables import counted, middle, printable, size_text, table, times
from ndvol.verdict import STATUSES, Verdict

if TYPE_CHECKING:
    from ndvol.catalog import CaseRecord
    from ndvol.importing import ImportPlan


@dataclass(frozen=True, slots=True)
class Summary:
    """An import in numbers.

    Attributes
    ----------
    counts : ``status``, ``code``, ``sources`` and ``files`` of each kind of verdict, in the order of `STATUSES`.
    cases : that the sources of this import are in.
    files : of the sources; those of a split series count once.
    stored_bytes : of the cases in the bundle.
    seconds : from the search of the sources to the catalogue.
    """

    counts: tuple[dict[str, Any], ...]
    cases: int
    files: int
    stored_bytes: int
    seconds: float

    def __str__(self) -> str:
        """
        >>> verdicts = [Verdict("a", "imported", files=9, case="a"), Verdict("b", "refused", "gap")]
        >>> print(summarize(verdicts, 2_500_000, 1))
        status    code  sources  files
        imported  ok    1        9
        refused   gap   1        1
        1 case of 10 files, 2.5 MB stored, 1.0 s
        """
        return f"{table(self.counts)}\n{self.total}"

    @property
    def total(self) -> str:
        """The sums in one line."""
        stored, seconds = size_text(self.stored_bytes), f"{self.seconds:.1f} s"
        return f"{counted(self.cases, 'case')} of {counted(self.files, 'file')}, {stored} stored, {seconds}"


def summarize(verdicts: Iterable[Verdict], stored_bytes: int, seconds: float) -> Summary:
    """The summary of an import's verdicts."""
    kinds: dict[tuple[int, str], list[Verdict]] = {}
    cases = set()
    for verdict in verdicts:
        kinds.setdefault((STATUSES.index(verdict.status), verdict.code), []).append(verdict)
        cases |= {verdict.case} - {None}
    counts: list[dict[str, Any]] = [
        {"status": STATUSES[status], "code": code, "sources": len(found), "files": sum(v.files for v in found)}
        for (status, code), found in sorted(kinds.items())
    ]
    files = sum(row["files"] for row in counts if row["status"] != "split")
    return Summary(tuple(counts), len(cases), files, stored_bytes, seconds)


def show_outcome(
    plan: ImportPlan,
    verdicts: Sequence[Verdict],
    records: Iterable[CaseRecord],
    *,
    seconds: float,
    as_json: bool,
    report: Path | None,
) -> None:
    """Print what happened to every source and the summary, and write the report if one is asked for.

    The report names sources as the bundle's ``import.jsonl`` does, so it may go where the bundle goes.
    """
    cases = {verdict.case for verdict in verdicts}
    stored_bytes = sum(Path(record.path).stat().st_size for record in records if record.name in cases)
    summary = summarize(verdicts, stored_bytes, seconds)
    show_verdicts(verdicts, as_json)
    if not as_json:
        click.echo(f"\n{summary}")
    if report:
        write_report(report, summary, map(plan.disguise.stored, verdicts))


def write_report(path: Path, summary: Summary, verdicts: Iterable[Verdict]) -> None:
    """Write the summary in Markdown, and the reasons for all that was not simply imported."""
    lines = ["# Import report", "", f"{summary.total}.", ""]
    if summary.counts:
        rows = [[*summary.counts[0]], *[[*row.values()] for row in summary.counts]]
        cells = [" | ".join(printable(str(cell)) for cell in row) for row in rows]
        lines += [f"| {line} |" for line in (cells[0], " | ".join("---" for _ in rows[0]), *cells[1:])]
    told = [v for v in verdicts if v.message and v.status not in ("imported", "unchanged", "skipped")]
    if told:
        lines += ["", "## Refused, split or doubted", ""]
        lines += [f"- {_plain(v.source)}: {v.status} ({_plain(v.code)}): {_plain(v.message)}" for v in told]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def show_plan(plan: ImportPlan, as_json: bool) -> None:
    """Print what an import would do."""
    rows = [
        {
            "case": case.name,
            "volume": volume.name,
            "reader": volume.series.reader,
            "axes": volume.series.axes,
            "shape": times(volume.series.shape),
            "spacing": times(round(s, 4) for s in volume.series.spacing or ()),
            "type": volume.series.dtype,
            "files": len(volume.series.files),
            "source": volume.series.source,
        }
        for case in plan.cases
        for volume in case.volumes
    ]
    if as_json:
        click.echo(json.dumps({"cases": rows, "verdicts": [v.to_json() for v in plan.verdicts]}, indent=1))
        return
    click.echo(table(rows))
    if plan.verdicts:
        click.echo("")
        show_verdicts(plan.verdicts, as_json=False)


def show_verdicts(verdicts: Sequence[Verdict], as_json: bool) -> None:
    """Print what happened to every source."""
    if as_json:
        click.echo(json.dumps([v.to_json() for v in verdicts], indent=1))
        return
    rows = [
        {"source": middle(v.source), "files": v.files, "verdict": v.status, "case": v.case or "", "code": v.code}
        for v in verdicts
    ]
    click.echo(table(rows))
    for v in verdicts:
        if v.message and v.status not in ("imported", "unchanged"):
            click.echo(printable(f"{v.source}: {v.status}: {v.message}"))


def _plain(text: str) -> str:
    """Text of strangers on one line of Markdown, without what Markdown or HTML would obey."""
    return re.sub(r"[\\`*_\[\]<>|#]", r"\\\g<0>", printable(text))
