"""TotalSegmentator: 117 structures (104 in version 1) in CT of the whole body.

What        1,228 CT scans at 1.5 mm with one mask per structure, as NIfTI.
Licence     CC BY 4.0.
Get it      https://doi.org/10.5281/zenodo.6802613 (all versions; version 2.0.1 is https://zenodo.org/records/10047292)
Cite        J. Wasserthal et al., "TotalSegmentator", Radiology: Artificial Intelligence 5 (5), 2023.
Checksum    MD5 fe250e5718e0a3b5df4c4ea9d58a62fe of Totalsegmentator_dataset_v201.zip (23,581,218,285 bytes), as Zenodo
            states it.

Layout (version 2.0.1; SOURCE is the folder of the subjects):

    s0000/ct.nii.gz
    s0000/segmentations/spleen.nii.gz …       one mask per structure, also of those that the scan does not show
    meta.csv                                  not read

The masks of a subject become the labels `segmentations`. Structures are below organs, systems and sides, so that
`rib` or `lung_left` mean all of their parts. Tested on a tiny folder of this layout.

    python data_scripts/totalsegmentator.py Totalsegmentator_dataset_v201 total-bundle
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common import arguments, categories, run, subject_folders

import ndvol


def sides(name: str) -> dict[str, str]:
    """A structure that there is on both sides."""
    return {f"{name}_left": "", f"{name}_right": ""}


def vertebrae(region: str, last: int) -> dict[str, str]:
    """The vertebrae of a region of the spine."""
    return {f"vertebrae_{region}{n}": "" for n in range(1, last + 1)}


TREE: Mapping[str, Any] = {
    # What is in quotes alone has a mask of its own; all else stands for what is below it (a heart does both).
    "organ": {
        **dict.fromkeys(("spleen", "gallbladder", "liver", "stomach", "pancreas", "esophagus", "trachea"), ""),
        **dict.fromkeys(("thyroid_gland", "urinary_bladder", "prostate"), ""),
        "kidney": {**sides("kidney"), "kidney_cyst": sides("kidney_cyst")},
        "adrenal_gland": sides("adrenal_gland"),
        "bowel": dict.fromkeys(("small_bowel", "duodenum", "colon"), ""),
        "lung": {
            "lung_left": dict.fromkeys(("lung_upper_lobe_left", "lung_lower_lobe_left"), ""),
            "lung_right": {f"lung_{lobe}_lobe_right": "" for lobe in ("upper", "middle", "lower")},
        },
        "central_nervous_system": dict.fromkeys(("brain", "spinal_cord"), ""),
        "face": "",  # version 1 only, as the chambers of the heart and the pulmonary artery
    },
    "cardiovascular_system": {
        "heart": {
            **{"heart_myocardium": "", **sides("heart_atrium"), **sides("heart_ventricle")},
            "atrial_appendage_left": "",
        },
        "artery": {
            **dict.fromkeys(("aorta", "pulmonary_artery", "brachiocephalic_trunk"), ""),
            **{**sides("subclavian_artery"), **sides("common_carotid_artery"), **sides("iliac_artery")},
        },
        "vein": {
            **dict.fromkeys(("pulmonary_vein", "superior_vena_cava", "inferior_vena_cava"), ""),
            **{"portal_vein_and_splenic_vein": "", **sides("brachiocephalic_vein"), **sides("iliac_vena")},
        },
    },
    "bone": {
        "vertebrae": {
            "vertebrae_cervical": vertebrae("C", 7),
            "vertebrae_thoracic": vertebrae("T", 12),
            "vertebrae_lumbar": vertebrae("L", 5),
            "vertebrae_S1": "",
        },
        "rib": {f"rib_{side}": {f"rib_{side}_{n}": "" for n in range(1, 13)} for side in ("left", "right")},
        **{name: sides(name) for name in ("humerus", "scapula", "clavicula", "femur", "hip")},
        **dict.fromkeys(("sacrum", "skull", "sternum", "costal_cartilages"), ""),
    },
    "muscle": {
        "gluteus": {f"gluteus_{part}": sides(f"gluteus_{part}") for part in ("maximus", "medius", "minimus")},
        **{name: sides(name) for name in ("autochthon", "iliopsoas")},
    },
}


def rows(tree: Mapping[str, Any], below: str | None = None) -> Iterator[tuple[str, str | None, None]]:
    """The categories of the tree, parents first. They have no values: a mask is called like its structure."""
    for name, parts in tree.items():
        yield name, below, None
        yield from rows(parts or {}, name)


def import_totalsegmentator(source: Path, bundle: Path, *, jobs: int = 0) -> ndvol.Catalog:
    """Import the folder `source`; see the top of this file."""
    subject_folders(source, "s[0-9]*", ("ct.nii.gz", "segmentations"))
    options = ndvol.ImportOptions(categories=categories(rows(TREE)), case_by="folder", modality="CT")
    return ndvol.import_tree(source, bundle, options=options, jobs=jobs, progress=True)


if __name__ == "__main__":
    args = arguments(__doc__).parse_args()
    sys.exit(run(lambda: import_totalsegmentator(args.source, args.bundle, jobs=args.jobs)))
