"""Planes at repeated positions: which belong to one time (echo, b-value …), and in which order the times come."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import GeometryError
from ndvol.formats.dicom_headers import Header
from ndvol.formats.dicom_soft import CLOCKS, KINDS, SHARED, Codes, SoftTable, soft_text, soft_value

_ORDER = (
    *("TemporalPositionIdentifier", "EchoTime", "InversionTime", "FlipAngle", "NominalPercentageOfCardiacPhase"),
    *("AcquisitionTime", "TriggerTime", "FrameReferenceTime", "InstanceNumber", "Diffusion", "ContentTime"),
    "AcquisitionNumber",
)
"""Which value decides first about the order of times. Acquisition goes before b-value: tables of gradients that
lie beside a series (``.bval``, ``.bvec``) are in that order."""
_REPORTED = (
    *("EchoTime", "DiffusionBValue", "DiffusionGradientOrientation", "InversionTime", "FlipAngle", "TriggerTime"),
    *("FrameReferenceTime", "AcquisitionTime"),
)
_MOST_TEXT = 60_000
"""Characters: HDF5 keeps small attributes with their object, up to 64 KiB; longer tables are left out."""


@dataclass(frozen=True, slots=True)
class Times:
    """Planes sorted into times.

    Attributes
    ----------
    planes : (t, z) index into the headers.
    rest : planes of times that lack positions.
    keys : what tells the times apart.
    attributes : ``t_axis`` and ``t_values`` and, where they differ between times, ``t_EchoTime`` … as JSON.
    warnings : doubts about the order.
    """

    planes: NDArray[np.intp]
    rest: tuple[int, ...]
    keys: tuple[str, ...]
    attributes: dict[str, float | int | str]
    warnings: tuple[str, ...]


def kinds_of(headers: Sequence[Header], places: Codes) -> list[list[int]]:
    """Indices of the planes of each kind (`KINDS`), if every position holds every kind; else all in one list."""
    groups: dict[Hashable, list[int]] = {}
    for i, header in enumerate(headers):
        groups.setdefault(tuple(soft_text(header, k) for k in KINDS), []).append(i)
    everywhere = set(places.tolist())
    if all(set(places[group].tolist()) == everywhere for group in groups.values()):
        return [groups[k] for k in sorted(groups, key=str)]
    return [list(range(len(headers)))]


def sort_times(headers: Sequence[Header], places: Codes) -> Times:
    """Sort planes at repeated positions into times, each with one plane per position.

    A key, or up to three together, tells the times apart when the planes that share its value lie at
    different positions, all of them. Keys that change from slice to slice count by their rank at each position,
    if the times do not interleave, their steps are the same everywhere, or InstanceNumber ranks alike.

    Raises
    ------
    GeometryError : code ``duplicate-slices`` when no key tells all planes at one position apart,
        ``unequal-counts`` when no or only one time holds all positions.
    """
    table = SoftTable(headers, places)
    partial: tuple[tuple[str, ...], Codes] | None = None
    for keys, codes in table.partitions():
        fits, whole = table.judge(codes)
        if fits and whole.all() and table.is_trusted(keys, codes):
            return _arranged(table, keys, codes, whole)
        # One time with all positions and a few planes more: nothing says which of the repeats is the right one.
        enough = whole.sum() > 1 and 2 * whole.sum() * table.count > len(headers)
        if fits and enough and partial is None and table.is_trusted(keys, codes):
            partial = keys, codes
    if partial is not None:
        return _arranged(table, *partial, table.judge(partial[1])[1])
    raise _unsorted(headers, places)


def _arranged(table: SoftTable, keys: tuple[str, ...], codes: Codes, whole: NDArray[np.bool_]) -> Times:
    columns = [column for name in _ORDER if (column := table.order(codes, name)) is not None]
    order = sorted(np.flatnonzero(whole).tolist(), key=lambda c: (*(column[c] for column in columns), c))
    position = np.full(len(whole), -1)
    position[order] = np.arange(len(order))
    planes = np.empty((len(order), table.count), np.intp)
    kept = np.flatnonzero(position[codes] >= 0)
    planes[position[codes[kept]], table.places[kept]] = kept
    rest = np.flatnonzero(position[codes] < 0)
    warnings = []
    if keys == ("InstanceNumber",) and table.headers[0].values.get("NumberOfTemporalPositions") != len(order):
        warnings.append("nothing but InstanceNumber orders the t axis")
    attributes = _meaning(table, keys, codes, order)
    return Times(planes, tuple(rest.tolist()), keys, attributes, tuple(warnings))


def _meaning(table: SoftTable, keys: Sequence[str], codes: Codes, order: Sequence[int]) -> dict[str, float | int | str]:
    """What the axis means, as attributes; clock times count from the first, so that no date leaves the source."""
    names = [("DiffusionBValue" if k == "Diffusion" else k) for k in keys]
    found: dict[str, float | int | str] = {"t_axis": "+".join(names)}
    for name in dict.fromkeys((*names, *_REPORTED)):
        values = table.constant(codes, name)
        ordered = name in CLOCKS and table.order(codes, name) is not None
        if values is None and (name in names[:1] or ordered):
            values = table.lowest(codes, name)
        if values is None:
            continue
        chosen = [values[c] for c in order]
        if name in CLOCKS and all(isinstance(v, float) for v in chosen):
            chosen = [round(float(v) - float(chosen[0]), 6) for v in chosen]  # type: ignore[arg-type]
        if len(text := json.dumps(chosen)) <= _MOST_TEXT:
            found["t_values" if name == names[0] else f"t_{name}"] = text
    return found


def _unsorted(headers: Sequence[Header], places: Codes) -> GeometryError:
    counts = np.bincount(places)
    differing = []
    for name in (*KINDS[:1], *SHARED, "InstanceNumber"):
        values = {(soft_text(h, name) if name in KINDS else str(soft_value(h, name))) for h in headers}
        if len(values) > 1:
            shown = "" if name in CLOCKS else f": {', '.join(sorted(values)[:4])}"
            differing.append(f"{name} ({len(values)} values{shown})")
    if len(set(counts.tolist())) > 1:
        usual = int(counts.max())
        short = [f"{k} ({n})" for k, n in enumerate(counts.tolist()) if n < usual]
        return GeometryError(
            "positions of one series hold unequal numbers of slices",
            got=f"{usual} at most, fewer at {len(short)} of {len(counts)} positions: {', '.join(short[:8])}",
            expected="the same number at every position",
            hint=f"they differ in {', '.join(differing) or 'nothing'}; export what belongs together by itself",
            code="unequal-counts",
            counts=counts.tolist(),
        )
    return GeometryError(
        f"{int(counts[0])} slices lie at each of {len(counts)} positions, and nothing puts them in order",
        got=f"they differ in {', '.join(differing) or 'none of ' + ', '.join(SHARED)}",
        hint="export one time, echo or reconstruction at a time",
        code="duplicate-slices",
        counts=counts.tolist(),
    )
