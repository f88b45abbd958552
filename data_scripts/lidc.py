"""LIDC-IDRI: lung nodules in chest CT, outlined by four readers (The Cancer Imaging Archive).

What        1,018 CT scans of 1,010 patients as DICOM, each with an XML file of its readings.
Licence     CC BY 3.0.
Get it      https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX (images with annotation files)
Cite        S. G. Armato et al., Medical Physics 38, 915-931, 2011, and the collection by its DOI.
Checksums   none published.

Layout (of TCIA's download; SOURCE is the folder of the patients):

    LIDC-IDRI-0001/<study>/<series>/*.dcm       a CT series, with its readings in *.xml beside it

The importer reads no such XML, so this script draws the outlines into label maps, by these rules:

- An outline lies on the first pixels outside of the nodule: what it encloses belongs to the nodule, its own pixels do
  not. `inclusion` FALSE marks a hole in the same nodule: what it encloses, and its outline, are taken away. So pylidc
  reads them too, by which the collection's DICOM segmentations were made.
- Coordinates are indices of pixels; the slice is the one that `imageSOP_UID` names.
- Outlines of one point (nodules below 3 mm, stray marks) and non-nodules are left out: windows without a nodule may
  show them.

Each CT series is a case `LIDC-IDRI-0001` (a second one of the patient `LIDC-IDRI-0001-2`) with the image CT, and

- `labels`: how many readers have the voxel in a nodule, as a chain: `nodule` is what any of them has, `nodule by 2`
  below it what two or more have, and so on.
- `masks` (`masks-2` … where they overlap): the categories `reader-1` … of the single readings. Their order means
  nothing: the first reader of two scans need not be the same person.

Series without readings (chest films) are left out. Tested on a tiny folder of this layout.

    python data_scripts/lidc.py LIDC-IDRI lidc-bundle
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pydicom
from common import arguments, linked, not_the_layout, run
from numpy.typing import NDArray

import ndvol
from ndvol.errors import SourceError
from ndvol.formats.polygons import polygon_mask
from ndvol.formats.writing import write_nifti

TREE: tuple[dict[str, Any], ...] = (
    # value: the number of readers
    {"name": "nodule", "value": 1},
    {"name": "nodule by 2", "supercategory": "nodule", "value": 2},
    {"name": "nodule by 3", "supercategory": "nodule by 2", "value": 3},
    {"name": "nodule by 4", "supercategory": "nodule by 3", "value": 4},
    {"name": "reading"},
    *({"name": f"reader-{n}", "supercategory": "reading"} for n in range(1, 5)),
)
HEADER = (
    "Modality",
    "SOPInstanceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
)


@dataclass(frozen=True, slots=True)
class Scan:
    """A CT series with its readings: the name of its case, its files in the order of the planes, and its XML."""

    name: str
    files: tuple[Path, ...]
    planes: dict[str, int]
    grid: ndvol.Grid
    xml: ElementTree.Element


def find_scans(source: Path) -> Iterator[Scan]:
    """The CT series of all patients that have readings beside them."""
    for patient in sorted(source.glob("LIDC-IDRI-*")):
        number = 0
        for folder in sorted(patient.glob("*/*")):
            read = [root for root in map(_root, sorted(folder.glob("*.xml"))) if root.tag.endswith("LidcReadMessage")]
            if read:
                number += 1
                yield _scan(folder, patient.name if number == 1 else f"{patient.name}-{number}", read[0])


def _root(file: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(file).getroot()
    except ElementTree.ParseError as error:
        raise SourceError(f"{file} is no XML", got=error, hint="download it again", code="unreadable") from error


def _scan(folder: Path, name: str, xml: ElementTree.Element) -> Scan:
    headers = {file: pydicom.dcmread(file, specific_tags=list(HEADER)) for file in sorted(folder.glob("*.dcm"))}
    if not headers:
        raise SourceError(f"{folder} has readings, and no images", hint="download it again", code="layout")
    first = next(iter(headers.values()))
    x, y = np.array(first.ImageOrientationPatient, float).reshape(2, 3)
    positions = {file: np.array(header.ImagePositionPatient, float) for file, header in headers.items()}
    files = sorted(headers, key=lambda file: float(positions[file] @ np.cross(x, y)))
    origin, last = positions[files[0]], positions[files[-1]]
    affine = np.eye(4)
    affine[:3, 0] = (last - origin) / max(len(files) - 1, 1)
    affine[:3, 1], affine[:3, 2] = y * first.PixelSpacing[0], x * first.PixelSpacing[1]
    affine[:3, 3] = origin
    planes = {str(headers[file].SOPInstanceUID): plane for plane, file in enumerate(files)}
    return Scan(name, tuple(files), planes, ndvol.Grid("zyx", (len(files), first.Rows, first.Columns), affine), xml)


def reading_masks(scan: Scan) -> list[NDArray[np.bool_]]:
    """One mask (z, y, x) per reading of a scan: all its nodules.

    Raises
    ------
    SourceError : when an outline lies on no slice of the series, or leaves it.
    """
    masks = []
    for session in scan.xml.iterfind("{*}readingSession"):
        mask = np.zeros(scan.grid.shape, bool)
        for nodule in session.iterfind("{*}unblindedReadNodule"):
            mask |= _nodule_mask(scan, nodule)
        masks.append(mask)
    return masks


def _nodule_mask(scan: Scan, nodule: ElementTree.Element) -> NDArray[np.bool_]:
    included, excluded = np.zeros(scan.grid.shape, bool), np.zeros(scan.grid.shape, bool)
    for outline in nodule.iterfind("{*}roi"):
        points = np.array(
            [[int(edge.findtext(f"{{*}}{a}Coord") or "") for a in "yx"] for edge in outline.iterfind("{*}edgeMap")]
        )
        if len(points) < 2:
            continue
        uid = (outline.findtext("{*}imageSOP_UID") or "").strip()
        if uid not in scan.planes or (points < 0).any() or (points >= scan.grid.shape[1:]).any():
            raise SourceError(
                f"an outline of {scan.name} does not lie on its series",
                got=f"slice {uid}, y and x from {points.min(0)} to {points.max(0)}",
                expected=f"one of its {len(scan.planes)} slices of {scan.grid.shape[1:]} pixels",
                code="off-series",
            )
        inside, edge = enclosed(points, scan.grid.shape[1:])
        if (outline.findtext("{*}inclusion") or "").strip().upper() == "TRUE":
            included[scan.planes[uid]] |= inside
        else:
            excluded[scan.planes[uid]] |= inside | edge
    return included & ~excluded


def enclosed(points: NDArray[np.int_], shape: tuple[int, ...]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The pixels that a closed outline of (y, x) pixels encloses, and those that lie on it, as two masks of `shape`."""
    edge = np.zeros(shape, bool)
    for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
        # All centres on the line from a to b.
        steps = max(math.gcd(*(b - a).tolist()), 1)
        y, x = (a + np.arange(steps + 1)[:, None] * (b - a) // steps).T
        edge[y, x] = True
    return polygon_mask(points.astype(float), (shape[0], shape[1])) & ~edge, edge


def write_labels(scan: Scan, folder: Path) -> None:
    """Write how many readings have a voxel, and each of several readings, as label maps of the case in `folder`."""
    masks = reading_masks(scan)
    count = np.zeros(scan.grid.shape, np.uint8)
    for mask in masks:
        count += mask
    write_nifti(folder / "labels" / "readers.nii.gz", count, scan.grid)
    for n, mask in enumerate(masks if len(masks) > 1 else (), start=1):
        write_nifti(folder / "masks" / f"reader-{n}.nii.gz", mask.astype(np.uint8), scan.grid)


def import_lidc(source: Path, bundle: Path, *, jobs: int = 0) -> ndvol.Catalog:
    """Import the folder `source`; see the top of this file."""
    scans = list(find_scans(source))
    if not scans:
        raise not_the_layout(source, "CT series with readings", "LIDC-IDRI-0001/<study>/<series>/*.dcm with *.xml")
    links = {f"{scan.name}/image/{n:04d}.dcm": file for scan in scans for n, file in enumerate(scan.files)}
    # The names in this collection are public, and the same everywhere.
    options = ndvol.ImportOptions(categories=TREE, case_by="folder", phi="keep", follow_links=True)
    with linked(bundle, links) as folder:
        for scan in scans:
            try:
                write_labels(scan, folder / scan.name)
            except SourceError as error:
                print(f"{error}; {scan.name} is imported without labels", file=sys.stderr)
        return ndvol.import_tree(folder, bundle, options=options, jobs=jobs, progress=True)


if __name__ == "__main__":
    args = arguments(__doc__).parse_args()
    sys.exit(run(lambda: import_lidc(args.source, args.bundle, jobs=args.jobs)))
