"""AMOS22: abdominal organs in CT and MR.

What        500 CT and 100 MR scans with 15 organs, as NIfTI; 240 to train with, 120 to validate with, others to test.
Licence     see the Zenodo record and the field `licence` of its dataset.json.
Get it      https://zenodo.org/records/7262581 (amos22.zip); challenge: https://amos22.grand-challenge.org
Cite        Y. Ji et al., "AMOS", NeurIPS Datasets and Benchmarks, 2022, arXiv:2206.08023.
Checksum    stated by Zenodo beside the file; none known to this script.

Layout (the archive amos22.zip of that record; SOURCE is its folder):

    dataset.json
    imagesTr/amos_0001.nii.gz       with labelsTr/amos_0001.nii.gz
    imagesVa/amos_0008.nii.gz       with labelsVa/amos_0008.nii.gz
    imagesTs/amos_0002.nii.gz       without labels

Each scan is a case `amos_0001-CT` or `amos_0507-MR` with the labels `labels`; its image is called `image` in both, so
that windows can be drawn from all of them. Numbers up to 500 are CT, as the archive's readme says; dataset.json calls
all of them CT. Tested on a tiny folder of this layout.

    python data_scripts/amos.py amos22 amos-bundle
"""

from __future__ import annotations

import sys
from pathlib import Path

from common import arguments, categories, linked, not_the_layout, run

import ndvol
from ndvol.errors import SourceError

TREE = categories(
    # category, below, value; dataset.json spells two of them `arota` and `postcava`
    [
        ("organ", None, None),
        ("spleen", "organ", 1),
        ("kidney", "organ", None),
        ("right kidney", "kidney", 2),
        ("left kidney", "kidney", 3),
        ("gall bladder", "organ", 4),
        ("esophagus", "organ", 5),
        ("liver", "organ", 6),
        ("stomach", "organ", 7),
        ("vessel", None, None),
        ("aorta", "vessel", 8),
        ("inferior vena cava", "vessel", 9),
        ("pancreas", "organ", 10),
        ("adrenal gland", "organ", None),
        ("right adrenal gland", "adrenal gland", 11),
        ("left adrenal gland", "adrenal gland", 12),
        ("duodenum", "organ", 13),
        ("bladder", "organ", 14),
        ("prostate/uterus", "organ", 15),
    ]
)
LAYOUT = "imagesTr/amos_0001.nii.gz and labelsTr/amos_0001.nii.gz, likewise imagesVa and labelsVa, and imagesTs"
LAST_CT = 500


def scans(source: Path) -> dict[str, Path]:
    """New path -> file of every image and label map.

    Raises
    ------
    SourceError : when there are none, or an image to train or validate with has no labels.
    """
    found: dict[str, Path] = {}
    for part in ("Tr", "Va", "Ts"):
        for image in sorted((source / f"images{part}").glob("amos_[0-9][0-9][0-9][0-9].nii.gz")):
            scan = image.name.removesuffix(".nii.gz")
            case = f"{scan}-{'CT' if int(scan.removeprefix('amos_')) <= LAST_CT else 'MR'}"
            found[f"{case}/image.nii.gz"] = image
            labels = source / f"labels{part}" / image.name
            if labels.exists():
                found[f"{case}/labels.nii.gz"] = labels
            elif part != "Ts":
                raise SourceError(f"{source} is not complete", got=f"no {labels}", expected=LAYOUT, code="layout")
    if not found:
        raise not_the_layout(source, "images amos_*.nii.gz", LAYOUT)
    return found


def import_amos(source: Path, bundle: Path, *, jobs: int = 0) -> ndvol.Catalog:
    """Import the folder `source`; see the top of this file."""
    options = ndvol.ImportOptions(categories=TREE, case_by="folder", follow_links=True)
    with linked(bundle, scans(source)) as folder:
        return ndvol.import_tree(folder, bundle, options=options, jobs=jobs, progress=True)


if __name__ == "__main__":
    args = arguments(__doc__).parse_args()
    sys.exit(run(lambda: import_amos(args.source, args.bundle, jobs=args.jobs)))
