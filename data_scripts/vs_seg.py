"""VS-SEG: vestibular schwannoma in MR, with the contours of radiosurgery (The Cancer Imaging Archive).

What        242 patients, each with a contrast-enhanced T1 and a T2 series and an RTSTRUCT for each of them, as DICOM.
Licence     CC BY 4.0.
Get it      https://doi.org/10.7937/TCIA.9YTJ-5Q73 ("Images and Radiation Therapy Structures", 26 GB)
Cite        J. Shapey et al., Scientific Data 8, 286, 2021, and the collection by its DOI.
Checksums   none published.

Layout (of TCIA's download, either kind of folder names; SOURCE is the folder of the patients):

    VS-SEG-001/<study>/<series>/*.dcm       T1, T2, two RTSTRUCT, two RTPLAN and two RTDOSE

T1 and T2 have grids of their own and were contoured apart, so each series is a case: `VS-SEG-001-T1`, `VS-SEG-001-T2`,
told by the series' description (`t1_…`, `t2_…`) as the authors' own script does. A structure set goes to the series
that it names; planes between the slices of T2 were interpolated by the planning software. Plans and doses are left out.
Structures have many names; those known to mean tumor, cochlea and so on become these categories, others keep their name
with a warning. Tested on a tiny folder of this layout.

    python data_scripts/vs_seg.py Vestibular-Schwannoma-SEG vs-bundle
"""

from __future__ import annotations

import sys
from pathlib import Path

import pydicom
from common import arguments, linked, not_the_layout, run

import ndvol
from ndvol.errors import SourceError

TREE = (
    # category, the one above it, and what it is called in the structure sets besides its own name
    {"name": "tumor", "supercategory": None},
    {"name": "vestibular schwannoma", "supercategory": "tumor", "names": ["TV", "AN"]},
    {"name": "meningioma", "supercategory": "tumor", "names": ["Men"]},
    {"name": "organ at risk", "supercategory": None},
    {"name": "cochlea", "supercategory": "organ at risk", "names": ["Cochlea_c", "Cochlea_d"]},
    {"name": "modiolus", "supercategory": "organ at risk"},
    {"name": "brainstem", "supercategory": "organ at risk"},
)
LAYOUT = "VS-SEG-001/<study>/<series>/*.dcm"


def files_of(patient: Path) -> dict[str, Path]:
    """New path -> file of the two series of a patient and their structure sets.

    Raises
    ------
    SourceError : code ``layout`` when T1, T2 or the structures of one of them are missing.
    """
    first = {folder: min(folder.glob("*.dcm"), default=None) for folder in sorted(patient.glob("*/*"))}
    headers = {folder: pydicom.dcmread(file, stop_before_pixels=True) for folder, file in first.items() if file}
    found: dict[str, Path] = {}
    for weighting in ("T1", "T2"):
        series = [
            folder
            for folder, header in headers.items()
            if header.Modality == "MR" and f"{weighting.lower()}_" in str(header.get("SeriesDescription", ""))
        ]
        drawn = [
            folder
            for folder, header in headers.items()
            if header.Modality == "RTSTRUCT" and series and headers[series[0]].SeriesInstanceUID in _drawn_on(header)
        ]
        if len(series) != 1 or not drawn:
            raise SourceError(
                f"{patient} has not one {weighting} series with its RTSTRUCT",
                got=f"{len(series)} series and {len(drawn)} RTSTRUCT",
                expected=LAYOUT,
                hint="download the patient again",
                code="layout",
            )
        for folder in (*series, *drawn):
            for file in sorted(folder.glob("*.dcm")):
                found[f"{patient.name}-{weighting}/{folder.name}-{file.name}"] = file
    return found


def _drawn_on(structures: pydicom.Dataset) -> set[str]:
    """The UIDs of the series that a structure set names."""
    return {
        str(series.SeriesInstanceUID)
        for frame in structures.get("ReferencedFrameOfReferenceSequence", ())
        for study in frame.get("RTReferencedStudySequence", ())
        for series in study.get("RTReferencedSeriesSequence", ())
    }


def import_vs_seg(source: Path, bundle: Path, *, jobs: int = 0) -> ndvol.Catalog:
    """Import the folder `source`; see the top of this file."""
    links: dict[str, Path] = {}
    for patient in sorted(source.glob("VS-SEG-*")):
        links |= files_of(patient)
    if not links:
        raise not_the_layout(source, "folders VS-SEG-*", LAYOUT)
    # The names in this collection are public, and the same everywhere.
    options = ndvol.ImportOptions(categories=TREE, case_by="folder", phi="keep", follow_links=True)
    with linked(bundle, links) as folder:
        return ndvol.import_tree(folder, bundle, options=options, jobs=jobs, progress=True)


if __name__ == "__main__":
    args = arguments(__doc__).parse_args()
    sys.exit(run(lambda: import_vs_seg(args.source, args.bundle, jobs=args.jobs)))
