"""BraTS: the Brain Tumor Segmentation Challenges on adult glioma of 2021, 2023 and 2024.

What        Four MR contrasts per patient, registered and without skull, with the parts of the tumor, as NIfTI:
            1,251 training cases before treatment (2021, 2023), 1,350 after it (2024).
Licence     the challenge's terms of use, accepted on registration.
Get it      https://www.synapse.org: syn25829067 (2021), syn51156910 (2023), syn53708249 (2024).
Cite        U. Baid et al., arXiv:2107.02314, 2021; B. H. Menze et al., IEEE TMI 34 (10), 2015;
            for 2024 M. C. de Verdier et al., arXiv:2405.18368, 2024.
Checksums   none published.

Layout (SOURCE is the folder of the cases; the segmentation is missing in validation data):

    2021:        BraTS2021_00000/BraTS2021_00000_{flair,t1,t1ce,t2,seg}.nii.gz
    2023, 2024:  BraTS-GLI-00000-000/BraTS-GLI-00000-000-{t1n,t1c,t2w,t2f,seg}.nii.gz

Each case gets its four images by these names, and the labels `seg`. The evaluated regions are the tree: WT is the whole
tumor, TC its core, and ET the enhancing part. The other tasks of 2023 and 2024 (PED, MEN, MET …) are refused, because
their label values mean other things. Tested on tiny folders of these layouts.

    python data_scripts/brats.py BraTS2021_Training_Data brats-bundle --release 2021
"""

from __future__ import annotations

import sys
from pathlib import Path

from common import arguments, categories, run, subject_folders

import ndvol

CONTRASTS = {
    "2021": ("BraTS2021_*", "{}_", ("t1", "t1ce", "t2", "flair")),
    "2023": ("BraTS-GLI-*", "{}-", ("t1n", "t1c", "t2w", "t2f")),
    "2024": ("BraTS-GLI-*", "{}-", ("t1n", "t1c", "t2w", "t2f")),
}
"""Release -> pattern of the cases' folders, what files are called before the contrast, contrasts."""

BEFORE_TREATMENT = (("WT", None, None), ("ED", "WT", 2), ("TC", "WT", None), ("NCR", "TC", 1))
TREES = {
    # category, below, value: edema, necrosis, enhancing tumor
    "2021": categories([*BEFORE_TREATMENT, ("ET", "TC", 4)]),
    "2023": categories([*BEFORE_TREATMENT, ("ET", "TC", 3)]),
    # hyperintensity around the tumor, non-enhancing core, enhancing tissue, and the cavity of the resection
    "2024": categories(
        [
            ("WT", None, None),
            ("SNFH", "WT", 2),
            ("TC", "WT", None),
            ("NETC", "TC", 1),
            ("ET", "TC", 3),
            ("RC", None, 4),
        ]
    ),
}


def import_brats(source: Path, bundle: Path, release: str, *, jobs: int = 0) -> ndvol.Catalog:
    """Import the folder `source` of a `release`; see the top of this file."""
    pattern, stem, contrasts = CONTRASTS[release]
    subject_folders(source, pattern, [f"{stem}{contrast}.nii.gz" for contrast in contrasts])
    options = ndvol.ImportOptions(categories=TREES[release], case_by="folder", modality="MR")
    return ndvol.import_tree(source, bundle, options=options, jobs=jobs, progress=True)


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--release", choices=sorted(TREES), required=True, help="the year of the challenge")
    args = parser.parse_args()
    sys.exit(run(lambda: import_brats(args.source, args.bundle, args.release, jobs=args.jobs)))
