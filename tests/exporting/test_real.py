"""Real scans out: SimpleITK finds the source's voxels and place in every form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from ndvol.exporting import export_nrrd, export_portable
from ndvol.importing import import_tree

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no real scans at {DATA}"),
]


def test_the_phantom_and_its_mask_leave_as_they_came(tmp_path):
    source = DATA / "ct_phantom" / "nifti"
    catalog = import_tree(source, tmp_path / "b", jobs=0)
    assert export_nrrd(catalog, tmp_path / "nrrd") == {}
    assert export_portable(catalog, tmp_path / "portable") == {}
    [case] = catalog
    for origin, nrrd, portable in (
        ("image/phantom.nii.gz", "images/image.nrrd", "images/image.hdf"),
        ("mask/mask.nii.gz", "labels/mask.seg.nrrd", "labels/mask.hdf"),
    ):
        expected = SimpleITK.ReadImage(str(source / origin))
        for path in (tmp_path / "nrrd" / case / nrrd, tmp_path / "portable" / case / portable):
            found = SimpleITK.ReadImage(str(path))
            np.testing.assert_array_equal(*map(SimpleITK.GetArrayFromImage, (found, expected)))
            assert (found.GetOrigin(), found.GetSpacing()) == (expected.GetOrigin(), expected.GetSpacing())
            np.testing.assert_allclose(found.GetDirection(), expected.GetDirection(), atol=1e-15)
