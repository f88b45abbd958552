"""fastMRI: raw k-space of knee and brain MR with its reconstructions.

What        Knee (1,594 scans) and brain (6,970 scans), one HDF5 file each; this imports the reconstructions that the
            training and validation files hold. There are no labels.
Licence     the data use agreement of NYU Langone Health, for research; accepted on registration.
Get it      https://fastmri.med.nyu.edu
Cite        J. Zbontar et al., arXiv:1811.08839, 2018; F. Knoll et al., Radiology: Artificial Intelligence 2 (1), 2020.
Checksums   none published with the file lists (https://github.com/facebookresearch/fastMRI, raw data manifest 2.0).

Layout (version 2.0 of the data; SOURCE is the folder of a part):

    multicoil_train/file1000001.h5        kspace, reconstruction_rss, ismrmrd_header
    singlecoil_train/file1000001.h5       also reconstruction_esc

Each file is a case with images of those names. The header states the size of pixels but not the distance of slices:
the grid has no unit then, and a warning says so. Test files hold k-space alone; they are refused one by one, and have
to be reconstructed first. Tested on a tiny folder of this layout.

    python data_scripts/fastmri.py multicoil_train fastmri-bundle
"""

from __future__ import annotations

import sys
from pathlib import Path

from common import arguments, not_the_layout, run

import ndvol


def import_fastmri(source: Path, bundle: Path, *, jobs: int = 0) -> ndvol.Catalog:
    """Import the folder `source`; see the top of this file."""
    if not any(source.glob("file*.h5")):
        raise not_the_layout(source, "files file*.h5", "file1000001.h5, file1000002.h5 …")
    return ndvol.import_tree(source, bundle, jobs=jobs, progress=True)


if __name__ == "__main__":
    args = arguments(__doc__).parse_args()
    sys.exit(run(lambda: import_fastmri(args.source, args.bundle, jobs=args.jobs)))
