"""Medical Segmentation Decathlon: ten segmentation tasks in CT and MR.

What        2,633 volumes in ten tasks, as NIfTI, a folder each; one task makes one bundle.
Licence     CC BY-SA 4.0.
Get it      http://medicaldecathlon.com
Cite        M. Antonelli et al., "The Medical Segmentation Decathlon", Nature Communications 13, 4128, 2022.
Checksums   MD5 of the .tar files, as MONAI's `DecathlonDataset` states them:
            Task01_BrainTumour 240a19d752f0d9e9101544901065d872    Task02_Heart 06ee59366e1e5124267b774dbd654057
            Task03_Liver a90ec6c4aa7f6a3d087205e23d4e6397    Task04_Hippocampus 9d24dba78a72977dbd1d2e110310f31b
            Task05_Prostate 35138f08b1efaef89d7424d2bcc928db    Task06_Lung 8afd997733c7fc0432f71255ba4e52dc
            Task07_Pancreas 4f7080cfca169fa8066d17ce6eb061e4    Task08_HepaticVessel 641d79e80ec66453921d997fbf12a29c
            Task09_Spleen 410d4a301da4e5b2f6f86ec3ddba524e    Task10_Colon bad7a188931dc2f6acf72b08eb6202d0

Layout (of the ten archives; SOURCE is the folder of the task, or the one that holds it):

    Task09_Spleen/dataset.json                      names of the images (`modality`) and of the label values
    Task09_Spleen/imagesTr/spleen_2.nii.gz          with labelsTr/spleen_2.nii.gz; 4-D where there are several images
    Task09_Spleen/imagesTs/spleen_1.nii.gz          without labels

The importer knows this layout; the script adds the tree of categories. A tumor in an organ is below the organ, so that
`liver` means all of it. Tested on tiny folders of this layout.

    python data_scripts/msd.py downloads msd-bundle --task Task03_Liver
"""

from __future__ import annotations

import sys
from pathlib import Path

from common import Row, arguments, categories, not_the_layout, run

import ndvol
from ndvol.errors import SourceError
from ndvol.importing.layouts import read_tables

TASKS: dict[str, tuple[str, list[Row]]] = {
    # task: modality, and category, below, value
    "Task01_BrainTumour": (
        "MR",
        [
            ("whole tumour", None, None),
            ("edema", "whole tumour", 1),
            ("tumour core", "whole tumour", None),
            ("non-enhancing tumour", "tumour core", 2),
            ("enhancing tumour", "tumour core", 3),
        ],
    ),
    "Task02_Heart": ("MR", [("left atrium", None, 1)]),
    "Task03_Liver": ("CT", [("liver", None, 1), ("cancer", "liver", 2)]),
    "Task04_Hippocampus": (
        "MR",
        [("hippocampus", None, None), ("anterior", "hippocampus", 1), ("posterior", "hippocampus", 2)],
    ),
    "Task05_Prostate": (
        "MR",
        [("prostate", None, None), ("peripheral zone", "prostate", 1), ("transition zone", "prostate", 2)],
    ),
    "Task06_Lung": ("CT", [("cancer", None, 1)]),
    "Task07_Pancreas": ("CT", [("pancreas", None, 1), ("cancer", "pancreas", 2)]),
    "Task08_HepaticVessel": ("CT", [("hepatic vessel", None, 1), ("tumour", None, 2)]),
    "Task09_Spleen": ("CT", [("spleen", None, 1)]),
    "Task10_Colon": ("CT", [("colon cancer", None, 1)]),
}


def import_msd(source: Path, bundle: Path, task: str, *, jobs: int = 0) -> ndvol.Catalog:
    """Import a task out of the folder `source`; see the top of this file."""
    folder = source if (source / "dataset.json").is_file() else source / task
    modality, table = TASKS[task]
    _check(folder, {value for _, _, value in table if value is not None})
    options = ndvol.ImportOptions(categories=categories(table), modality=modality)
    return ndvol.import_tree(folder, bundle, options=options, jobs=jobs, progress=True)


def _check(folder: Path, values: set[int]) -> None:
    """Raise unless `folder` is that of a task whose labels hold `values`."""
    layout = "dataset.json, imagesTr/, labelsTr/ and imagesTs/"
    for name in ("dataset.json", "imagesTr", "labelsTr"):
        if not (folder / name).exists():
            raise not_the_layout(folder, name, layout)
    stated = [row for table in read_tables(folder, ["dataset.json"]).values() for row in table.categories]
    if {row.get("value") for row in stated} != values:
        raise SourceError(
            f"{folder / 'dataset.json'} is not that of the task",
            got=", ".join(f"{row.get('value')} {row['name']}" for row in stated) or "no labels",
            expected=f"the values {sorted(values)}",
            hint="name the task that lies in this folder",
            code="layout",
        )


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--task", choices=sorted(TASKS), required=True, help="which of the ten tasks")
    args = parser.parse_args()
    sys.exit(run(lambda: import_msd(args.source, args.bundle, args.task, jobs=args.jobs)))
