"""One case of an import: read its sources, put label on image, write the file, describe what was written."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ndvol.catalog import CaseRecord, Objects
from ndvol.categories import CategoryTree
from ndvol.errors import NdvolError, SourceError
from ndvol.importing.labels import lost_labels, read_labels, read_volume
from ndvol.importing.merging import merged
from ndvol.importing.options import ImportOptions
from ndvol.importing.plan import CasePlan, PlannedVolume
from ndvol.importing.preview import write_preview
from ndvol.importing.privacy import BURNED_IN, Privacy, from_dicom, may_be_burned_in
from ndvol.store import CaseWriter, file_sha256, forget, open_case, read_identity, read_objects, verify_file
from ndvol.verdict import Verdict
from ndvol.version import __version__


@dataclass(frozen=True, slots=True)
class ImportedCase:
    """What an import of one case leaves behind, for the journal.

    Attributes
    ----------
    verdicts : one per source.
    state : sources with size, mtime and SHA-256, options, identity and SHA-256 of the file; decides whether
        a later run may skip the case.
    """

    name: str
    verdicts: tuple[Verdict, ...]
    state: dict[str, Any]


def import_case(plan: CasePlan, options: ImportOptions, folder: Path, *, may_replace: bool = True) -> ImportedCase:
    """Import one case into ``folder/<name>.h5`` and its preview.

    The sources are hashed first: a file that was already made from the same bytes with the same options is kept.
    Without `may_replace` any other file of that name is kept too, and the case refused.

    Raises
    ------
    NdvolError : when a source cannot be read, a label does not lie on the image, or the file cannot be written.
    """
    path = folder / f"{plan.name}.h5"
    privacy = Privacy.of(options)
    sources = [_fingerprint(volume, privacy) for volume in plan.volumes]
    identity = _identity(plan, options, privacy, sources)
    warnings: dict[str, tuple[str, ...]] = {}
    fresh = _holds(path, identity)
    if not fresh and path.exists() and not may_replace:
        raise SourceError(
            f"the bundle holds another case {plan.name!r}, imported from another folder",
            hint="import into another bundle, or rename the source",
            code="name-taken",
        )
    if not fresh and (lost := lost_labels(plan.labels, _labels_of(path))):
        raise SourceError(
            f"case {plan.name!r} of the bundle has label volumes that this import would take away",
            got=f"no source for {', '.join(lost)}",
            hint="give the same label folder again, or delete the case's .h5 first",
            code="labels-would-go",
        )
    if not fresh:
        warnings = _write_case(plan, options, privacy, path, identity, sources)
    if not fresh or not path.with_suffix(".png").is_file():
        write_preview(path, path.with_suffix(".png"))
    state = {
        "sources": sources,
        "options": case_options(plan, options, privacy),
        "version": __version__,
        "uuid": identity,
        "sha256": file_sha256(path),
        "bytes": path.stat().st_size,
    }
    # A worker sees every case once: what it keeps open and mapped would only grow.
    forget(path)
    return ImportedCase(plan.name, tuple(_verdict(v, plan.name, warnings) for v in plan.volumes), state)


def _holds(path: Path, identity: str) -> bool:
    """True when `path` is an intact file of that identity; a damaged one is as good as none."""
    try:
        return path.is_file() and not verify_file(path) and read_identity(path)["uuid"] == identity
    except NdvolError:
        return False


def _labels_of(path: Path) -> set[str]:
    """Names of the label volumes of a published file; none when it is not there or damaged."""
    try:
        return set(open_case(path).labels) if path.is_file() else set()
    except NdvolError:
        return set()


def quick_fingerprint(volume: PlannedVolume, privacy: Privacy) -> dict[str, Any]:
    """Size and mtime_ns per file: what tells an unchanged source without reading it. Hashed where names are hidden."""
    stats = {name: file.stat() for name, file in _named_files(volume, privacy).items()}
    found = {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}
    if privacy.hides(volume.series):
        # The time of an export tells the day of an examination.
        return {name: privacy.digest("stat", f"{size} {mtime}", 16) for name, (size, mtime) in found.items()}
    return found


def _named_files(volume: PlannedVolume, privacy: Privacy) -> dict[str, Path]:
    """The files of a volume by the names that the journal gives them."""
    names = privacy.file_names(volume.series)
    return {name: Path(volume.root, file) for name, file in zip(names, volume.series.files, strict=True)}


def _fingerprint(volume: PlannedVolume, privacy: Privacy) -> dict[str, Any]:
    try:
        stats = quick_fingerprint(volume, privacy)
        digests = {name: file_sha256(file) for name, file in _named_files(volume, privacy).items()}
    except OSError as error:
        raise SourceError(f"cannot read {volume.series.source}", got=error, code="unreadable") from error
    return {"volume": volume.name, "stats": stats, "sha256": digests}


def _identity(plan: CasePlan, options: ImportOptions, privacy: Privacy, sources: list[dict[str, Any]]) -> str:
    """A uuid that is a function of the sources' bytes and the options alone."""
    content = [[s["volume"], list(s["sha256"].values())] for s in sources]
    facts = [plan.name, content, case_options(plan, options, privacy), __version__]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=5))


def _write_case(
    plan: CasePlan, options: ImportOptions, privacy: Privacy, path: Path, identity: str, sources: list[dict[str, Any]]
) -> dict[str, tuple[str, ...]]:
    """Write the file of a case; returns the warnings by source."""
    warnings = {volume.series.source: volume.series.warnings for volume in plan.volumes}

    def warn(source: str, said: tuple[str, ...]) -> None:
        warnings[source] = tuple(dict.fromkeys((*warnings[source], *said)))

    placed, burned_in = [], False
    with CaseWriter(path, case=plan.name, uuid=identity) as writer:
        for volume in plan.images:
            data, turn = read_volume(volume, options)
            warn(volume.series.source, data.warnings)
            if may_be_burned_in(data):
                burned_in = True
                warn(volume.series.source, (BURNED_IN,))
            facts = privacy.facts(data, options.modality)
            writer.add_image(volume.name, data.array, data.grid, reorientation=turn, attributes=facts)
            placed.append((data.grid, data.attributes))
        del data  # one volume at a time
        for label in merged(read_labels(plan, options, *placed[0]), options):
            for source, said in label.warnings.items():
                warn(source, said)
            writer.add_label(
                label.name,
                label.array,
                label.grid,
                categories=label.categories,
                reorientation=label.reorientation,
                objects=options.objects,
                attributes=label.attributes,
            )
        digests = [{"volume": s["volume"], "sha256": list(s["sha256"].values())} for s in sources]
        writer.set_provenance(
            {
                "sources": digests,
                "options": case_options(plan, options, privacy),
                "readers": _readers(plan),
                "deidentification": _deidentification(plan, privacy, burned_in),
                "ndvol": __version__,
            }
        )
        # Of the file that is about to be replaced: whoever is killed now must not find it beside the new one.
        path.with_suffix(".png").unlink(missing_ok=True)
    return warnings


def _deidentification(plan: CasePlan, privacy: Privacy, burned_in: bool) -> dict[str, Any]:
    """What was done to the source's identity, with the method codes of PS3.15."""
    dicom = all(from_dicom(volume.series) for volume in plan.volumes)
    structures = any(label.kind == "structures" for label in plan.labels)
    return {
        "profile": privacy.profile,
        "methods": privacy.methods(dicom, structures, bool(plan.labels)),
        "key": "keyed" if privacy.key else "unkeyed",
        "pseudonyms": "HMAC-SHA256" if privacy.key else "SHA-256",
        "burned_in": "likely, not removed" if burned_in else "not indicated, not examined",
    }


def case_options(plan: CasePlan, options: ImportOptions, privacy: Privacy) -> dict[str, Any]:
    """All that decides about a case's file besides the bytes of its sources."""
    layout = {"categories": [dict(row) for row in plan.categories], "labels": [[p.name, p.kind] for p in plan.labels]}
    return {**options.fingerprint(), "phi": privacy.tag, "layout": layout}


def _readers(plan: CasePlan) -> list[list[str]]:
    return [[volume.name, volume.series.reader] for volume in plan.volumes]


def _verdict(volume: PlannedVolume, case: str, warnings: Mapping[str, tuple[str, ...]]) -> Verdict:
    series = volume.series
    said = "; ".join(warnings.get(series.source, series.warnings))
    status = "imported with warnings" if said else "imported"
    code = "burned-in-annotation" if BURNED_IN in said else "warning"
    return Verdict(series.source, status, code if said else "ok", said, case, len(series.files))


def describe_case(path: Path, sha256: str, tree: CategoryTree) -> CaseRecord:
    """The catalogue's record of a published file."""
    case = open_case(path)
    first = next(iter(case.images.values()))
    rows = []
    for position, (name, volume) in enumerate(case.labels.items()):
        for value, voxels, *box in read_objects(path, name).tolist():
            start, stop = box[: volume.ndim], box[volume.ndim :]
            # A mask without the image's t or c axis holds for all of it.
            lows = [start[volume.axes.index(a)] if a in volume.axes else 0 for a in first.axes]
            highs = [
                stop[volume.axes.index(a)] if a in volume.axes else n
                for a, n in zip(first.axes, first.shape, strict=True)
            ]
            rows.append([tree.index(volume.categories[value]), position, value, voxels, *lows, *highs])
    table = np.array(rows, np.int64).reshape(-1, 4 + 2 * first.ndim)
    category, label, value, voxels = table[:, :4].T
    box = table[:, 4:]
    facts = {
        "file": path.name,
        "sha256": sha256,
        "uuid": read_identity(path)["uuid"],
        "axes": first.axes,
        "shape": list(first.shape),
        "spacing": [round(s, 9) for s in first.grid.spacing],
        "unit": first.grid.unit,
        "frame": first.grid.frame,
        "images": list(case.images),
        "labels": list(case.labels),
    }
    return CaseRecord(
        name=case.name,
        path=str(path),
        axes=first.axes,
        shape=first.shape,
        spacing=first.grid.spacing,
        unit=first.grid.unit,
        images=tuple(case.images),
        labels=tuple(case.labels),
        objects=Objects(category, label, value, box[:, : first.ndim], box[:, first.ndim :], voxels),
        sha256=sha256,
        attributes=facts,
    )
