"""KiTS23: the Kidney Tumor Segmentation Challenge of 2023.

What        489 contrast-enhanced abdominal CT scans with kidneys, tumors and cysts, as NIfTI.
Licence     CC BY-NC-SA.
Get it      https://github.com/neheller/kits23 (its command `kits23_download_data` fetches the images).
Cite        N. Heller et al., "The KiTS21 Challenge", arXiv:2307.01984, 2023.
Checksums   none published.

Layout (release 0.1.4 of the repository; SOURCE is its folder `dataset`):

    case_00000/imaging.nii.gz
    case_00000/segmentation.nii.gz
    case_00000/instances/…                single annotations of each reader, which are left out

Each case gets the image CT and the labels `segmentation`, the reference that the challenge was scored with. Tested on
a tiny folder of this layout.

    python data_scripts/kits.py kits23/dataset kits-bundle
"""

from __future__ import annotations

import sys
from pathlib import Path

from common import arguments, categories, linked, run, subject_folders

import ndvol

TREE = categories(
    # category, below, value: the regions that the challenge evaluates
    [
        ("kidney and masses", None, None),
        ("kidney", "kidney and masses", 1),
        ("mass", "kidney and masses", None),
        ("tumor", "mass", 2),
        ("cyst", "mass", 3),
    ]
)
FILES = {"imaging.nii.gz": "CT.nii.gz", "segmentation.nii.gz": "segmentation.nii.gz"}
"""Names of a case's files, and what they are called in the import: images get the names of their files."""


def import_kits(source: Path, bundle: Path, *, jobs: int = 0) -> ndvol.Catalog:
    """Import the folder `source`; see the top of this file."""
    cases = subject_folders(source, "case_*", tuple(FILES))
    # By links, because whatever else lies in a case's folder would be imported too.
    links = {f"{case.name}/{new}": case / old for case in cases for old, new in FILES.items()}
    options = ndvol.ImportOptions(categories=TREE, case_by="folder", modality="CT", follow_links=True)
    with linked(bundle, links) as folder:
        return ndvol.import_tree(folder, bundle, options=options, jobs=jobs, progress=True)


if __name__ == "__main__":
    args = arguments(__doc__).parse_args()
    sys.exit(run(lambda: import_kits(args.source, args.bundle, jobs=args.jobs)))
