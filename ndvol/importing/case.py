"""One case of an import: read its sources, put label on image, write the file, describe what was written."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndvol.errors import NdvolError, SourceError
from ndvol.importing.drawing import OnImage, with_axes
from ndvol.importing.labels import RefusedLabel, lost_labels, read_labels, read_volume
from ndvol.importing.merging import merged
from ndvol.importing.options import ImportOptions
from ndvol.importing.plan import CasePlan, PlannedVolume
from ndvol.importing.preview import write_preview
from ndvol.importing.privacy import BURNED_IN, Privacy, from_dicom, may_be_burned_in
from ndvol.importing.sources import fingerprint
from ndvol.store import CaseWriter, file_sha256, forget, open_case, read_identity, read_provenance, verify_file
from ndvol.verdict import Verdict
from ndvol.version import __version__

NAMED_LABELS = 5
"""Refused labels that the warning of an image names; the others have verdicts of their own too."""


@dataclass(frozen=True, slots=True)
class Written:
    """What there is to say of a case that was written: warnings, and why labels were refused, both by source."""

    warnings: Mapping[str, tuple[str, ...]]
    refused: Mapping[str, NdvolError]


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
    NdvolError : when an image cannot be read, labels of the published case would go, or the file cannot be written.
        A label that cannot be used gets a verdict of its own, and the case is imported without it; an image of
        several takes the case along, because channels that some cases lack make no data set.
    """
    path = folder / f"{plan.name}.h5"
    privacy = Privacy.of(options)
    sources = [fingerprint(volume, privacy) for volume in plan.volumes]
    identity = _identity(plan, options, privacy, sources)
    written = Written({}, {})
    if not (fresh := _holds(path, identity)):
        if path.exists() and not may_replace:
            raise SourceError(
                f"the bundle holds another case {plan.name!r}, imported from another folder",
                hint="import into another bundle, or rename the source",
                code="name-taken",
            )
        if lost := lost_labels(plan.labels, set(_labels_of(path))):
            raise _would_go(plan, f"no source for {', '.join(lost)}")
        written = _write_case(plan, options, path, identity, sources)
    if not fresh or not path.with_suffix(".png").is_file():
        write_preview(path, path.with_suffix(".png"))
    for source, volume in zip(sources, plan.volumes, strict=True):
        if error := written.refused.get(volume.series.source):
            source["refused"] = error.code
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
    return ImportedCase(plan.name, tuple(_verdict(v, plan.name, written) for v in plan.volumes), state)


def _would_go(plan: CasePlan, got: str, **facts: Any) -> SourceError:
    return SourceError(
        f"case {plan.name!r} of the bundle has label volumes that this import would take away",
        got=got,
        hint="give the same labels again, or delete the case's .h5 first",
        code="labels-would-go",
        **facts,
    )


def _holds(path: Path, identity: str) -> bool:
    """True when `path` is an intact file of that identity; a damaged one is as good as none.

    So is one without the labels of a refused source: why they were refused is found by reading them again.
    """
    try:
        intact = path.is_file() and not verify_file(path) and read_identity(path)["uuid"] == identity
        return intact and not read_provenance(path).get("refused")
    except NdvolError:
        return False


def _labels_of(path: Path) -> dict[str, set[str]]:
    """The label volumes of a published file and their categories; none when it is not there or damaged."""
    try:
        labels = open_case(path).labels if path.is_file() else {}
        return {name: set(label.categories.values()) for name, label in labels.items()}
    except NdvolError:
        return {}


def _identity(plan: CasePlan, options: ImportOptions, privacy: Privacy, sources: list[dict[str, Any]]) -> str:
    """A uuid that is a function of the sources' bytes and the options alone."""
    content = [[s["volume"], list(s["sha256"].values())] for s in sources]
    facts = [plan.name, content, case_options(plan, options, privacy), __version__]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=5))


def _write_case(
    plan: CasePlan, options: ImportOptions, path: Path, identity: str, sources: list[dict[str, Any]]
) -> Written:
    """Write the file of a case."""
    privacy = Privacy.of(options)
    warnings = {volume.series.source: volume.series.warnings for volume in plan.volumes}
    refused: list[RefusedLabel] = []
    labels: dict[str, set[str]] = {}

    def warn(source: str, said: tuple[str, ...]) -> None:
        warnings[source] = tuple(dict.fromkeys((*warnings[source], *said)))

    with CaseWriter(path, case=plan.name, uuid=identity, codec=options.codec, levels=options.levels) as writer:
        images, burned_in = _write_images(plan, options, writer, warn)
        for label in merged(read_labels(plan, options, images), options):
            if isinstance(label, RefusedLabel):
                refused.append(label)
                continue
            for source, said in label.warnings.items():
                warn(source, said)
            labels[label.name] = set(label.categories.values())
            writer.add_label(
                label.name,
                label.array,
                label.grid,
                categories=label.categories,
                reorientation=label.reorientation,
                objects=options.objects,
                attributes=label.attributes,
            )
        errors = {label.source: label.error for label in refused}
        if refused and (gone := _gone(_labels_of(path), labels)):
            # The published labels are worth more than the image without them.
            raise _would_go(plan, f"no usable source for {', '.join(gone)}", refused=errors)
        writer.set_provenance(
            {
                "sources": [{"volume": s["volume"], "sha256": list(s["sha256"].values())} for s in sources],
                "refused": [[label.volume, label.error.code] for label in refused],
                "options": case_options(plan, options, privacy),
                "readers": [[volume.name, volume.series.reader] for volume in plan.volumes],
                "deidentification": _deidentification(plan, privacy, burned_in),
                "ndvol": __version__,
            }
        )
        # Of the file that is about to be replaced: whoever is killed now must not find it beside the new one.
        path.with_suffix(".png").unlink(missing_ok=True)
    if refused:
        for volume in plan.images:
            warn(volume.series.source, (_without_labels(refused),))
    return Written(warnings, errors)


def _gone(published: Mapping[str, set[str]], written: Mapping[str, set[str]]) -> list[str]:
    """Label volumes, or categories of them, that only the published file has."""
    return [
        name if name not in written else f"{category} of {name}"
        for name, categories in sorted(published.items())
        for category in (sorted(categories - written[name]) if name in written else [""])
    ]


def _write_images(
    plan: CasePlan, options: ImportOptions, writer: CaseWriter, warn: Callable[[str, tuple[str, ...]], None]
) -> tuple[dict[str, OnImage], bool]:
    """Write the images, one in memory at a time; what labels need of them, and whether text may be burned in."""
    privacy, burned_in = Privacy.of(options), False
    images = {}
    for volume in plan.images:
        data, turn = read_volume(volume, options)
        warn(volume.series.source, data.warnings)
        if may_be_burned_in(data):
            burned_in = True
            warn(volume.series.source, (BURNED_IN,))
        facts = privacy.facts(data, options.modality)
        for k, name in enumerate(volume.images):
            array, grid = data.array, data.grid
            if volume.channels:
                array, grid = array[k], with_axes(grid, grid.axes.replace("t", ""))
            writer.add_image(name, array, grid, reorientation=turn, attributes=facts)
            images[name] = OnImage(volume.series, grid, data.attributes, turn)
        del data, array  # one volume at a time
    return images, burned_in


def _without_labels(refused: Sequence[RefusedLabel]) -> str:
    named = [f"{label.source} ({label.error.code})" for label in refused]
    more = f" and {len(named) - NAMED_LABELS} more" if len(named) > NAMED_LABELS else ""
    return f"imported without the labels of {', '.join(named[:NAMED_LABELS])}{more}, which were refused"


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
    labels = [
        {
            "name": p.name,
            "kind": p.kind,
            "images": list(p.images),
            "structure": p.structure and privacy.structure(p.structure),
            "names": {str(value): privacy.structure(name) for value, name in p.names.items()},
            "masks": [privacy.structure(s.name) for s in p.series] if p.kind == "masks" else [],
        }
        for p in plan.labels
    ]
    lost = [[label.volume, label.code] for label in plan.lost]
    layout = {"categories": [dict(row) for row in plan.categories], "labels": labels, "lost": lost}
    return {**options.fingerprint(), "phi": privacy.tag, "layout": layout}


def _verdict(volume: PlannedVolume, case: str, written: Written) -> Verdict:
    series = volume.series
    if error := written.refused.get(series.source):
        return Verdict.refused(series.source, error, files=len(series.files)).with_case(case)
    said = "; ".join(written.warnings.get(series.source, series.warnings))
    status = "imported with warnings" if said else "imported"
    code = "burned-in-annotation" if BURNED_IN in said else "warning"
    return Verdict(series.source, status, code if said else "ok", said, case, len(series.files))
