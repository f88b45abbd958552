"""IBSI: the phantoms and the validation set of the Image Biomarker Standardisation Initiative.

What        A CT radiomics phantom, digital phantoms for features and filters, and CT, PET and MR of 51 patients with
            sarcoma; each image with one region of interest, as NIfTI and as DICOM with RTSTRUCT.
Licence     CT phantom CC BY-NC 3.0; digital phantoms CC BY 4.0; validation set CC BY 3.0.
Get it      https://github.com/theibsi/data_sets
Cite        see the README of each set; A. Zwanenburg et al., Radiology 295 (2), 2020 for the initiative.
Checksums   those of the repository's commits (written for 6da9602).

Layout (SOURCE is the repository, or one of its folders):

    ibsi_1_ct_radiomics_phantom/nifti/image/phantom.nii.gz     with nifti/mask/mask.nii.gz
    ibsi_1_ct_radiomics_phantom/dicom/image/*.dcm              with dicom/mask/*.dcm (RTSTRUCT)
    ibsi_2_digital_phantom/nifti/sphere/image/sphere.nii.gz    with nifti/sphere/mask/mask.nii.gz
    ibsi_2_digital_phantom/dicom/sphere/*.dcm                  without a mask
    ibsi_validation/nifti/STS_001/CT_image.nii.gz              with CT_mask.nii.gz, likewise PET and MR_T1
    ibsi_validation/dicom/STS_001/CT/image/*.dcm               with mask/RS.dcm

Cases are called like their folders (`ibsi_validation-STS_001-CT`). `--form nifti` (default) takes the masks of the
reference values, and calls every image `image`; `--form dicom` fills the contours, and calls images by their modality.
The DICOM form of the first digital phantom has a wrong spacing (`dicom_deprecated`) and is left out. Tested on phantoms
and patients of the repository itself, and on a tiny folder of this layout.

    python data_scripts/ibsi.py data_sets ibsi-bundle --form dicom
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from common import arguments, linked, not_the_layout, run

import ndvol

TREE = (
    # The only category: its value in the masks, and its names in the structure sets.
    {"name": "ROI", "value": 1, "names": ["GTV-1", "GTV_Mass_CT", "GTV_Mass_MR_T1", "GTV_Mass_PET"]},
)
LAYOUT = "ibsi_1_ct_radiomics_phantom/nifti/image/phantom.nii.gz, ibsi_validation/nifti/STS_001/CT_image.nii.gz …"


def files_of(source: Path, form: str) -> Iterator[tuple[str, Path]]:
    """New path and file of all images and masks: ``<case>/image/<file>`` and ``<case>/mask/<file>``."""
    # The name of a case begins with that of the set, also when SOURCE is the set's folder or one below it.
    sets = [folder for folder in (source, *source.parents) if folder.name.startswith("ibsi_")]
    base = sets[-1].parent if sets else source
    for file in sorted(source.rglob("*.dcm" if form == "dicom" else "*.nii.gz")):
        *folders, name = file.relative_to(base).parts
        if form not in folders:
            continue
        folders.remove(form)
        role = "image"
        if folders[-1] in ("image", "mask"):
            role = folders.pop()
        elif form == "nifti":
            series, _, role = name.removesuffix(".nii.gz").rpartition("_")
            folders.append(series)
        # Image and mask pair by their name, and windows can be drawn from all cases whose images have one name.
        yield f"{'-'.join(folders)}/{role}/{name if form == 'dicom' else 'image.nii.gz'}", file


def import_ibsi(source: Path, bundle: Path, form: str = "nifti", *, jobs: int = 0) -> ndvol.Catalog:
    """Import the folder `source` in the `form` nifti or dicom; see the top of this file."""
    links = dict(files_of(source.absolute(), form))
    if not links:
        raise not_the_layout(source, f"files in folders called {form}", LAYOUT)
    options = ndvol.ImportOptions(categories=TREE, case_by="folder", phi="keep", follow_links=True)
    with linked(bundle, links) as folder:
        return ndvol.import_tree(folder, bundle, options=options, jobs=jobs, progress=True)


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument(
        "--form", choices=("nifti", "dicom"), default="nifti", help="of the files to import (%(default)s)"
    )
    args = parser.parse_args()
    sys.exit(run(lambda: import_ibsi(args.source, args.bundle, args.form, jobs=args.jobs)))
