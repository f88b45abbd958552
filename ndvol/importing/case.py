"""One case of an import: read its sources, put label on image, write the file, describe what was written."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ndvol.catalog import CaseRecord, Objects
from ndvol.categories import CategoryTree
from ndvol.errors import NdvolError, SourceError
from ndvol.formats import VolumeData, reader
from ndvol.geometry import Grid, Reorientation, closest_canonical
from ndvol.importing.plan import CasePlan, ImportOptions, PlannedVolume
from ndvol.importing.preview import write_preview
from ndvol.store import CaseWriter, file_sha256, open_case, read_identity, read_objects, verify_file
from ndvol.verdict import Verdict
from ndvol.version import __version__

LABEL_TOLERANCE = 0.01
"""A label lies on its image's grid when their corners agree to this share of a voxel: NIfTI's quaternions round."""


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
    sources = [_fingerprint(volume) for volume in plan.volumes]
    identity = _identity(plan, options, sources)
    warnings: dict[str, tuple[str, ...]] = {}
    fresh = _holds(path, identity)
    if not fresh and path.exists() and not may_replace:
        raise SourceError(
            f"the bundle holds another case {plan.name!r}, imported from another folder",
            hint="import into another bundle, or rename the source",
            code="name-taken",
        )
    if not fresh and (lost := sorted(_labels_of(path) - {label.name for label in plan.labels})):
        raise SourceError(
            f"case {plan.name!r} of the bundle has label volumes that this import would take away",
            got=f"no source for {', '.join(lost)}",
            hint="give the same label folder again, or delete the case's .h5 first",
            code="labels-would-go",
        )
    if not fresh:
        warnings = _write_case(plan, options, path, identity, sources)
    if not fresh or not path.with_suffix(".png").is_file():
        write_preview(path, path.with_suffix(".png"))
    state = {
        "sources": sources,
        "options": options.fingerprint(),
        "version": __version__,
        "uuid": identity,
        "sha256": file_sha256(path),
        "bytes": path.stat().st_size,
    }
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


def quick_fingerprint(volume: PlannedVolume) -> dict[str, list[int]]:
    """Size and mtime_ns per file: what tells an unchanged source without reading it."""
    stats = {file: Path(volume.root, file).stat() for file in volume.series.files}
    return {file: [stat.st_size, stat.st_mtime_ns] for file, stat in stats.items()}


def _fingerprint(volume: PlannedVolume) -> dict[str, Any]:
    stats = quick_fingerprint(volume)
    try:
        digests = {file: file_sha256(Path(volume.root, file)) for file in volume.series.files}
    except OSError as error:
        raise SourceError(f"cannot read {volume.series.source}", got=error, code="unreadable") from error
    return {"volume": volume.name, "stats": stats, "sha256": digests}


def _identity(plan: CasePlan, options: ImportOptions, sources: list[dict[str, Any]]) -> str:
    """A uuid that is a function of the sources' bytes and the options alone."""
    content = [[s["volume"], list(s["sha256"].values())] for s in sources]
    facts = [plan.name, content, options.fingerprint(), __version__]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=5))


def _write_case(
    plan: CasePlan, options: ImportOptions, path: Path, identity: str, sources: list[dict[str, Any]]
) -> dict[str, tuple[str, ...]]:
    warnings: dict[str, tuple[str, ...]] = {}
    with CaseWriter(path, case=plan.name, uuid=identity) as writer:
        for volume in plan.images:
            data, turn = _read(volume, options)
            warnings[volume.series.source] = tuple(dict.fromkeys((*volume.series.warnings, *data.warnings)))
            facts = {**data.attributes, "modality": data.modality or options.modality, "value_unit": data.value_unit}
            writer.add_image(volume.name, data.array, data.grid, reorientation=turn, attributes=facts)
            grid = data.grid
        for volume in plan.labels:
            data, turn = _read(volume, options, as_label=True)
            warnings[volume.series.source] = tuple(dict.fromkeys((*volume.series.warnings, *data.warnings)))
            _check_on_image(volume, data.grid, grid)
            names = name_values(volume.name, data, options)
            # The image's grid is the truth; the label's may differ from it by rounding.
            placed = grid if grid.shape == data.array.shape else data.grid
            writer.add_label(
                volume.name, data.array, placed, categories=names, reorientation=turn, objects=options.objects
            )
        digests = [{"volume": s["volume"], "sha256": list(s["sha256"].values())} for s in sources]
        writer.set_provenance(
            {"sources": digests, "options": options.fingerprint(), "readers": _readers(plan), "ndvol": __version__}
        )
    return warnings


def _readers(plan: CasePlan) -> dict[str, dict[str, str]]:
    return {
        kind: {volume.name: volume.series.reader for volume in volumes}
        for kind, volumes in (("images", plan.images), ("labels", plan.labels))
    }


def _read(volume: PlannedVolume, options: ImportOptions, *, as_label: bool = False) -> tuple[VolumeData, Reorientation]:
    data = reader(volume.series.reader).read(Path(volume.root), volume.series, as_label=as_label)
    n = len(data.grid.spatial)
    turn = Reorientation(tuple(range(n)), (False,) * n)
    if options.orientation == "canonical" and data.grid.frame == "LPS":
        turn = closest_canonical(data.grid)
    return replace(data, array=turn.array(data.array, axes=data.grid.axes), grid=turn.grid(data.grid)), turn


def _check_on_image(volume: PlannedVolume, label: Grid, image: Grid) -> None:
    """Labels are placed by geometry: the label's voxels must be the image's voxels."""
    if label.matches(image, tolerance=LABEL_TOLERANCE):
        return

    def describe(grid: Grid) -> str:
        steps, origin = np.round(grid.spacing, 4).tolist(), np.round(grid.origin, 3).tolist()
        return f"{grid.axes} {grid.shape}, spacing {steps}, origin {origin}, {grid.frame}"

    raise SourceError(
        f"label {volume.series.source} does not lie on the grid of its image",
        got=describe(label),
        expected=describe(image),
        hint="resample the label onto the image, or pair it with the image that it was drawn on",
        code="label-off-grid",
    )


def name_values(label: str, data: VolumeData, options: ImportOptions) -> dict[int, str]:
    """Value -> category name of a label volume; see `ImportOptions.categories`."""
    found = [int(v) for v in np.unique(data.array) if v != 0]
    if table := options.value_names:
        if unnamed := [v for v in found if v not in table]:
            raise SourceError(
                f"label {label!r} holds values that the category table does not name",
                got=unnamed[:10],
                expected=f"of {sorted(table)[:20]}",
                hint="add them to the table",
                code="unnamed-values",
            )
        return table
    if found in ([], [1]):
        return {1: label}
    return {v: f"{label}-{v}" for v in found}


def _verdict(volume: PlannedVolume, case: str, warnings: Mapping[str, tuple[str, ...]]) -> Verdict:
    series = volume.series
    said = "; ".join(warnings.get(series.source, series.warnings))
    status = "imported with warnings" if said else "imported"
    return Verdict(series.source, status, "warning" if said else "ok", said, case, len(series.files))


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
