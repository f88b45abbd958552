"""What ndvol and dcm2niix make of the same DICOM folders, series by series, as a Markdown table.

    pip install -r tests/differential/requirements.txt
    python tests/differential/dcm2niix_table.py FOLDER [FOLDER …] [--jobs 2] [--dcm2niix PROGRAM]

Each folder is imported into a temporary bundle and exported as NIfTI, as ``ndvol import`` and ``ndvol export --to
nifti`` do, and converted by ``dcm2niix -p n -z n``. The NIfTI files are matched by geometry: equal shape, and corners
at the same place in the world. dcm2niix is a witness; the judge is pydicom, which knows neither program: every plane of
ndvol's volume must lie at its ImagePositionPatient and hold
``stored * slope + intercept`` of its own file or frame (columns `plane` and `planes`; "-" where the planes cannot be
told apart from outside, as in mosaics). Exit code 1 when that fails, or when a difference has no explanation.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from ndvol.errors import ImportFailedError
from ndvol.exporting import export_nifti
from ndvol.importing import ImportOptions, plan_import
from ndvol.importing.planning import TOP
from ndvol.importing.run import run_import

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
WORLD_MM = 0.05
"""Positions are equal up to this: affines of NIfTI are float32, and dcm2niix computes with the first two slices."""
VALUE_SHARE = 1e-5
"""Values are equal up to this share of the largest: a NIfTI's slope is a float32."""
PLANE_MM, PLANE_SHARE = 0.05, 0.02
"""A plane may lie this far off its place (mm, or share of the spacing)."""
SHEAR_DEG = 0.1
RESAMPLED = {"_Tilt": "resampled by dcm2niix without the tilt", "_Eq": "resampled by dcm2niix to even spacing"}
"""What dcm2niix adds to the names of volumes whose voxels it computed."""

Array = NDArray[Any]


@dataclass
class Row:
    """A line of the table."""

    series: str
    shape: str
    world_mm: str = ""
    values: str = ""
    plane_mm: str = ""
    planes: str = ""
    verdict: str = ""
    bad: bool = False

    HEAD = ("series", "shape", "world mm", "values", "plane mm", "planes", "verdict")

    def cells(self) -> tuple[str, ...]:
        return self.series, self.shape, self.world_mm, self.values, self.plane_mm, self.planes, self.verdict


@dataclass
class Ours:
    """A volume of ndvol: (t, c, z, y, x) with an affine from (z, y, x) to LPS."""

    name: str
    uid: str
    array: Array
    affine: Array
    files: tuple[str, ...]
    shape: str
    labels: tuple[str, ...] = ()
    witnesses: list[tuple[float, float, Theirs]] = field(default_factory=list)
    stored: Array | None = None
    rescales: set[tuple[float, float]] = field(default_factory=set)


@dataclass
class Theirs:
    """A volume of dcm2niix: (t, c, k, j, i) with an affine from (k, j, i) to LPS."""

    path: Path
    uid: str
    array: Array
    affine: Array


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--dcm2niix", default=shutil.which("dcm2niix"))
    options = parser.parse_args()
    if not options.dcm2niix:
        parser.error("dcm2niix is not installed: pip install -r tests/differential/requirements.txt")
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    above = Path(os.path.commonpath([f.resolve() for f in options.folders]))
    print(f"| source | {' | '.join(Row.HEAD)} |\n|{'---|' * (len(Row.HEAD) + 1)}")
    bad = False
    for folder in options.folders:
        for row in compare(folder, options.dcm2niix, options.jobs):
            bad |= row.bad
            print(
                "|",
                folder.resolve().relative_to(above),
                "|",
                " | ".join(c.replace("|", "/") for c in row.cells()),
                "|",
                flush=True,
            )
    sys.exit(bad)


def compare(folder: Path, program: str, jobs: int) -> Iterator[Row]:
    """The rows of one folder: ndvol's volumes, then what only one of the two made."""
    headers = read_headers(folder)
    with tempfile.TemporaryDirectory() as name:
        theirs = list(convert(folder, Path(name, "nifti"), program))
        verdicts: list[tuple[Any, Ours | None]] = []
        ours = volumes(folder, Path(name, "bundle"), jobs, headers, verdicts)
        matched = set()
        for other in theirs:
            pairs = [(*found, o) for o in ours if other.uid in ("", o.uid) and (found := differences(o, other))]
            if pairs:  # several volumes of one series may lie at one place: echoes, magnitude and phase
                off, values, nearest = min(pairs, key=lambda pair: (pair[0] > WORLD_MM, pair[1]))
                nearest.witnesses.append((off, values, other))
                matched.add(id(other))
        for volume in ours:
            yield row_of(volume, headers)
    yield from rest(theirs, matched, verdicts, headers)


# ndvol's side.


def volumes(folder: Path, bundle: Path, jobs: int, headers: Mapping[str, Dataset], verdicts: list[Any]) -> list[Ours]:
    """The DICOM images that ndvol imports from `folder`, as it exports them; its verdicts are added to `verdicts`."""
    made: list[Ours] = []
    plan = plan_import(folder, ImportOptions())
    try:
        catalog = run_import(plan, bundle, jobs=jobs)
    except ImportFailedError as error:
        verdicts += [(v, None) for v in error.verdicts]
        return made
    nifti = bundle.with_name("exported")
    export_nifti(catalog, nifti)
    sources = {v.source: v for v in catalog.verdicts}
    images = {case.images[0].series.source for case in plan.cases}
    verdicts += [(v, None) for v in catalog.verdicts if not v.case or v.source not in images]
    for case in plan.cases:
        planned = case.images[0]
        verdict = sources.get(planned.series.source)
        if planned.series.reader != "dicom" or case.name not in catalog or not (verdict and verdict.case):
            continue
        volume = catalog[case.name].images[planned.name]
        names = [name for label in catalog[case.name].labels.values() for name in label.categories.values()]
        array, affine = read_nifti(nifti / case.name / "images" / f"{planned.name}.nii.gz")
        shape = "×".join(map(str, volume.shape))
        uid = str(headers[planned.series.files[0]].get("SeriesInstanceUID", ""))
        ours = Ours(case.name, uid, array, affine, planned.series.files, shape, tuple(names))
        verdicts.append((verdict, ours))
        made.append(ours)
    return made


def read_headers(folder: Path) -> dict[str, Dataset]:
    """The headers of all DICOM files below `folder`, by relative path, without their pixels."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
        except Exception:  # no DICOM
            continue
        if "SOPClassUID" in dataset:
            dataset.filename = str(path)
            found[path.relative_to(folder).as_posix()] = dataset
    return found


# dcm2niix's side.


def convert(folder: Path, target: Path, program: str) -> Iterator[Theirs]:
    """What dcm2niix makes of `folder`; sidecars (not anonymised) name the series."""
    target.mkdir(parents=True)
    command = [program, "-p", "n", "-z", "n", "-b", "y", "-ba", "n", "-d", "9", "-f", "%j", "-o", str(target)]
    subprocess.run([*command, str(folder)], capture_output=True, check=False)
    for path in sorted(target.glob("*.nii")):
        array, affine = read_nifti(path)
        sidecar = path.with_suffix(".json")
        # What dcm2niix resampled or cut has no sidecar, but the name of its series, with a letter where that was taken.
        uid = json.loads(sidecar.read_text()).get("SeriesInstanceUID", "") if sidecar.is_file() else ""
        uid = uid or path.stem.partition("_")[0].rstrip(ascii_lowercase)
        yield Theirs(path, uid, array, affine)


def read_nifti(path: Path) -> tuple[Array, Array]:
    """Voxels as (t, c, k, j, i), colours among the channels, and the affine from (k, j, i) to LPS."""
    image: Any = nib.load(path)
    array = np.asanyarray(image.dataobj)
    shape = (*array.shape, 1, 1, 1, 1, 1)[:5]
    if array.dtype.names:
        array = np.stack([array[c] for c in array.dtype.names], -1)
        shape = (*shape[:4], array.shape[-1])
    array = array.reshape(shape)
    return array.transpose(3, 4, 2, 1, 0), RAS_TO_LPS @ image.affine @ np.eye(4)[:, [2, 1, 0, 3]]


# Comparison.


def differences(ours: Ours, theirs: Theirs) -> tuple[float, float] | None:
    """Largest distance of corresponding corners (mm) and largest difference of values; None for other volumes."""
    if sorted(ours.array.shape[-3:]) != sorted(theirs.array.shape[-3:]):
        return None
    shape = theirs.array.shape[-3:]
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij")).reshape(3, -1).T
    world = corners @ theirs.affine[:3, :3].T + theirs.affine[:3, 3]
    inverse = np.linalg.inv(ours.affine)
    index = np.rint(world @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    if (index < 0).any() or (index >= ours.array.shape[-3:]).any():
        # A shear or an offset may carry corners outside: the nearest corner says how far apart they lie.
        index = index.clip(0, np.array(ours.array.shape[-3:]) - 1)
    off = float(np.linalg.norm(index @ ours.affine[:3, :3].T + ours.affine[:3, 3] - world, axis=1).max())
    moved = turned_like(ours, theirs)
    if moved is None:
        return None
    if moved.shape == theirs.array.shape:
        return off, largest_difference(moved, theirs.array)
    # Echoes and phases are files of their own there: each time belongs to the nearest of ours.
    each = [min(largest_difference(m, t) for m in moved) for t in theirs.array]
    return off, max(each)


def turned_like(ours: Ours, theirs: Theirs) -> Array | None:
    """Our array with the axes and directions of theirs; None when no permutation and flips do it."""
    turn = np.linalg.inv(ours.affine[:3, :3]) @ theirs.affine[:3, :3]
    axes = np.abs(turn).argmax(0)
    if sorted(axes) != [0, 1, 2]:
        return None
    array = ours.array.transpose(0, 1, *(axes + 2))
    flips = tuple(slice(None, None, -1 if turn[axis, k] < 0 else 1) for k, axis in enumerate(axes))
    array = array[(slice(None), slice(None), *flips)]
    return array if array.shape[-3:] == theirs.array.shape[-3:] else None


def largest_difference(one: Array, other: Array) -> float:
    return float(np.abs(one.astype(np.float64) - other).max()) if one.shape == other.shape else float("inf")


def row_of(ours: Ours, headers: Mapping[str, Dataset]) -> Row:
    row = Row(ours.name, ours.shape)
    row.plane_mm, row.planes, row.bad = invariant(ours, headers)
    labels = f"; {len(ours.labels)} structures drawn on it, dcm2niix has none" if ours.labels else ""
    if not ours.witnesses:
        row.verdict = f"only in ndvol{labels}"
        return row
    off, values = max(w[0] for w in ours.witnesses), max(w[1] for w in ours.witnesses)
    row.world_mm, row.values = f"{off:.4f}", f"{values:.4g}"
    share = values / max(1e-12, float(np.abs(ours.array).max()))
    reasons = []
    if off > WORLD_MM:
        reasons.append(why_elsewhere(ours))
    if share > VALUE_SHARE:
        reasons.append(why_other_order(ours) or why_other_values(ours))
    count = f" ({len(ours.witnesses)} NIfTI)" if len(ours.witnesses) > 1 else ""
    row.bad |= "" in reasons
    row.verdict = (", ".join(r or "UNEXPLAINED" for r in reasons) or "equal") + count + labels
    return row


def why_elsewhere(ours: Ours) -> str:
    """The reason for another place in the world, when there is one; the planes themselves are checked apart."""
    tilt = shear_deg(ours.affine)
    if tilt < SHEAR_DEG:
        return ""
    if all(shear_deg(w[2].affine) < SHEAR_DEG for w in ours.witnesses):
        return f"shear of {tilt:.1f}° missing in dcm2niix affine"
    mine, *steps = (
        np.sort(np.linalg.norm(a[:3, :3], axis=0)) for a in (ours.affine, *(w[2].affine for w in ours.witnesses))
    )
    if all(abs((other / mine).min() - np.cos(np.radians(tilt))) < 1e-3 for other in steps):
        return f"tilt of {tilt:.1f}°: dcm2niix shortens the step between slices by its cosine"
    return ""


def shear_deg(affine: Array) -> float:
    """How far the axes are from orthogonal."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.degrees(np.arcsin(np.abs(np.triu(axes.T @ axes, 1)).max().clip(0, 1))))


def why_other_order(ours: Ours) -> str:
    """The order of the witness's times among ours, when they are the same times."""
    if len(ours.witnesses) != 1 or ours.witnesses[0][2].array.shape[0] != ours.array.shape[0]:
        return ""
    theirs = ours.witnesses[0][2]
    tolerance = VALUE_SHARE * float(np.abs(theirs.array).max())
    moved = turned_like(ours, theirs)
    order: list[int] = []
    if moved is None:
        return ""
    for time in theirs.array:
        same = [t for t, m in enumerate(moved) if t not in order and largest_difference(m, time) <= tolerance]
        order += same[:1]
    return f"same times in another order: dcm2niix has our {order}" if len(order) == len(theirs.array) else ""


def why_other_values(ours: Ours) -> str:
    """The reason for other values: the witness has one slope for all planes, though they state several.

    That is proved: the stored values through one of the stated slopes are the witness's values.
    """
    if len(ours.rescales) < 2 or ours.stored is None:
        return ""
    for _, _, theirs in ours.witnesses:
        tolerance = VALUE_SHARE * float(np.abs(theirs.array).max())
        for slope, intercept in ours.rescales:
            one = replace(ours, array=ours.stored * slope + intercept)
            found = differences(one, theirs)
            if found and found[1] <= tolerance:
                break
        else:
            return ""
    return f"dcm2niix ignores per-slice slopes (1 of {len(ours.rescales)})"


# The judge: pydicom alone.


@dataclass(frozen=True)
class Plane:
    """One frame as its own header has it."""

    position: tuple[float, ...]
    row: tuple[float, ...]
    column: tuple[float, ...]
    spacing: tuple[float, float]
    rescale: tuple[float, float]
    frame: int


def planes_of(header: Dataset, path: str) -> list[Plane]:
    """The planes of a file; none where it is a mosaic or does not say."""
    if "MOSAIC" in header.get("ImageType", ()) or (0x0065, 0x1051) in header:
        return []
    if "PerFrameFunctionalGroupsSequence" not in header:
        return [plane_of([header], 0)] if "ImagePositionPatient" in header else []
    shared = header.get("SharedFunctionalGroupsSequence") or [Dataset()]
    groups = header.PerFrameFunctionalGroupsSequence
    try:
        return [plane_of([*members(g), *members(shared[0]), header], k) for k, g in enumerate(groups)]
    except KeyError:
        return []


def members(group: Dataset) -> list[Dataset]:
    """The items of all functional groups of a frame."""
    return [e.value[0] for e in group if e.VR == "SQ" and e.value]


def plane_of(places: Sequence[Dataset], frame: int) -> Plane:
    def find(keyword: str, default: Any = None) -> Any:
        found = next((p.get(keyword) for p in places if p.get(keyword) is not None), default)
        if found is None:
            raise KeyError(keyword)
        return found

    cosines = tuple(map(float, find("ImageOrientationPatient")))
    rescale = float(find("RescaleSlope", 1)), float(find("RescaleIntercept", 0))
    position = tuple(map(float, find("ImagePositionPatient")))
    down, right = map(float, find("PixelSpacing"))
    return Plane(position, cosines[:3], cosines[3:], (down, right), rescale, frame)


def invariant(ours: Ours, headers: Mapping[str, Dataset]) -> tuple[str, str, bool]:
    """Largest distance of a plane from its place, how many planes hold their own values, and whether one does not."""
    inverse = np.linalg.inv(ours.affine)
    step = float(np.linalg.norm(ours.affine[:3, :3], axis=0).max())
    worst, right = 0.0, 0
    stored = np.zeros(ours.array.shape)
    taken: dict[tuple[int, ...], list[bool]] = defaultdict(lambda: [False] * len(ours.array))
    for file in ours.files:
        header = headers[file]
        planes = planes_of(header, header.filename)
        if not planes or header.get("SamplesPerPixel", 1) != 1 or header.get("ModalityLUTSequence"):
            return "-", "-", False
        dataset = pydicom.dcmread(header.filename)
        pixels = dataset.pixel_array.reshape(-1, header.Rows, header.Columns)
        for plane in planes:
            off, place = place_of(plane, ours, inverse, pixels.shape[1:])
            if place is None:
                continue  # a frame of another stack of the file
            worst = max(worst, off)
            slope, intercept = plane.rescale
            frame = pixels[plane.frame].astype(np.float64)
            time = holds(ours, place, frame * slope + intercept, taken)
            if time is not None:
                right += 1
                stored[time, 0][place] = frame
                ours.rescales.add(plane.rescale)
    expected = ours.array.shape[0] * int(np.prod(ours.array.shape[-3:])) // max(1, header.Rows * header.Columns)
    ours.stored = stored
    bad = worst > max(PLANE_MM, PLANE_SHARE * step) or right != expected
    return f"{worst:.4f}", f"{right}/{expected}", bad


def place_of(plane: Plane, ours: Ours, inverse: Array, size: tuple[int, ...]) -> tuple[float, tuple[Array, ...] | None]:
    """Distance of the plane's corners from our voxels (mm), and the index of every pixel; None outside our volume."""
    i, j = np.indices(size)
    world = (
        np.array(plane.position)
        + np.multiply.outer(i * plane.spacing[0], plane.column)
        + np.multiply.outer(j * plane.spacing[1], plane.row)
    )
    index = np.rint(world @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    if (index < 0).any() or (index >= ours.array.shape[-3:]).any():
        return 0.0, None
    back = index @ ours.affine[:3, :3].T + ours.affine[:3, 3]
    off = float(np.linalg.norm(back - world, axis=-1)[[0, 0, -1, -1], [0, -1, 0, -1]].max())
    return off, tuple(np.moveaxis(index, -1, 0))


def holds(ours: Ours, place: tuple[Array, ...], values: Array, taken: dict[tuple[int, ...], list[bool]]) -> int | None:
    """The time that holds `values` there, and that no other plane has taken; None when there is none."""
    key = tuple(int(axis[0, 0]) for axis in place) + tuple(int(axis[-1, -1]) for axis in place)
    tolerance = 0.0 if ours.array.dtype.kind != "f" else 1e-6 * float(np.abs(values).max()) + 1e-9
    for t, volume in enumerate(ours.array):
        if not taken[key][t] and np.abs(volume[0][place].astype(np.float64) - values).max() <= tolerance:
            taken[key][t] = True
            return t
    return None


# What only one of them made.


def rest(
    theirs: Sequence[Theirs],
    matched: set[int],
    verdicts: Sequence[tuple[Any, Ours | None]],
    headers: Mapping[str, Dataset],
) -> Iterator[Row]:
    """Volumes of dcm2niix without a counterpart, with ndvol's reason; and what ndvol refused and nobody converted."""
    files: dict[str, list[str]] = defaultdict(list)
    for path, header in headers.items():
        files[str(header.get("SeriesInstanceUID", ""))].append(path)
    told = set()
    for other in theirs:
        if id(other) in matched:
            continue
        reasons = [v for v, _ in verdicts if is_about(v, files[other.uid], other.uid, files)]
        told |= {v.source for v in reasons}
        refused = sorted({f"{v.status} by ndvol: {v.code}" for v in reasons if v.status in ("refused", "skipped")})
        drawn = any(
            v.case and v.status != "refused" and v.source in headers and headers[v.source].Modality == "SEG"
            for v in reasons
        )
        refused += [text for mark, text in RESAMPLED.items() if mark in other.path.stem]
        verdict = ", ".join(refused) or ("a segmentation: structures in ndvol, an image in dcm2niix" if drawn else "")
        shape = "×".join(map(str, [n for k, n in enumerate(other.array.shape) if n > 1 or k > 1]))
        yield Row(
            f"{sha256(other.uid.encode()).hexdigest()[:8]}", shape, verdict=verdict or "UNEXPLAINED", bad=not verdict
        )
    for verdict, ours in verdicts:
        source = verdict.source.partition("#")[0]
        is_dicom = source in (TOP, *headers) or any(path.startswith(f"{source}/") for path in headers)
        if ours is None and verdict.status == "refused" and is_dicom and verdict.source not in told:
            text = f"refused by ndvol: {verdict.code}; nothing in dcm2niix either"
            yield Row(verdict.source.rpartition("/")[2][:40], f"{verdict.files} files", verdict=text)


def is_about(verdict: Any, files: Sequence[str], uid: str, groups: Mapping[str, Sequence[str]]) -> bool:
    """Whether a verdict is about (part of) the series with these files."""
    source, _, digest = verdict.source.partition("#")
    if digest and digest == sha256(uid.encode()).hexdigest()[:8]:
        return True
    if source in files:
        return True
    inside = {u for u, paths in groups.items() if any(source == TOP or p.startswith(f"{source}/") for p in paths)}
    # A verdict on a folder of several series names none: the number of files has to tell them apart.
    alone = len(inside) == 1 or (not verdict.case and (bool(digest) or verdict.files == len(files)))
    return uid in inside and alone


if __name__ == "__main__":
    main()
