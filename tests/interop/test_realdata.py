"""Real scans through the frameworks' own readers and through ours, brought into one orientation: equal."""

from __future__ import annotations

import numpy as np
import pytest

import ndvol

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning"),
]
SCANS = ["ge/anatomical/001", "generic/compressed/001", "ge/fmri/001"]


@pytest.fixture(params=SCANS)
def scan(request, real_data, tmp_path):
    """(the NIfTI file, the case file that it was imported to, the name of its image)."""
    file = real_data / "vendors" / f"{request.param}_ground_truth.nii.gz"
    catalog = ndvol.import_tree(file, tmp_path / "bundle")
    [record] = catalog.records.values()
    return file, record.path, record.images[0]


def test_monai_reads_the_same_scan(scan):
    pytest.importorskip("monai", reason="monai is not installed: pip install ndvol[monai]")
    from monai.transforms import LoadImage, Orientation

    from ndvol.monai import CaseReader

    file, path, name = scan
    options = {"ensure_channel_first": True, "dtype": np.float64}
    turn = Orientation("RAS", labels=None)
    ours = turn(LoadImage(reader=CaseReader(name), **options)(path))
    theirs = turn(LoadImage(**options)(file))
    assert np.array_equal(ours.numpy(), theirs.numpy())
    assert np.allclose(ours.affine, theirs.affine, atol=1e-6)


def test_torchio_reads_the_same_scan(scan):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install ndvol[torchio]")
    tio = pytest.importorskip("torchio", reason="torchio is not installed: pip install ndvol[torchio]")
    from ndvol.torchio import to_subject

    file, path, name = scan
    ours = tio.ToCanonical()(to_subject(ndvol.open_case(path), dtype=torch.float64))[name]
    theirs = tio.ToCanonical()(tio.ScalarImage(file))
    assert np.array_equal(ours.data, theirs.data)
    assert np.allclose(ours.affine, theirs.affine, atol=1e-5)
