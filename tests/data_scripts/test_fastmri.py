"""The script for fastMRI, on files written with plain h5py."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from ndvol.errors import SourceError

HEADER = """<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>16</x><y>12</y><z>1</z></matrixSize></encodedSpace>
<reconSpace><matrixSize><x>8</x><y>8</y><z>1</z></matrixSize>
<fieldOfView_mm><x>16</x><y>16</y><z>4.5</z></fieldOfView_mm></reconSpace></encoding></ismrmrdHeader>"""


def write(path, *reconstructions):
    path.parent.mkdir(exist_ok=True)
    arrays = {}
    with h5py.File(path, "w") as file:
        file["kspace"] = np.zeros((3, 16, 12), np.complex64)
        file["ismrmrd_header"] = HEADER
        file.attrs["acquisition"] = "CORPDFS_FBK"
        for seed, name in enumerate(reconstructions):
            arrays[name] = file[name] = np.random.default_rng(seed).random((3, 8, 8), np.float32)
    return arrays


def test_fastmri(tmp_path, script, monkeypatch):
    # A process of its own takes a second to start.
    monkeypatch.setattr("ndvol.formats.hdf5_files.in_child", lambda work, items: map(work, items))
    both = write(tmp_path / "singlecoil_val" / "file1000000.h5", "reconstruction_rss", "reconstruction_esc")
    one = write(tmp_path / "singlecoil_val" / "file1000007.h5", "reconstruction_rss")
    write(tmp_path / "singlecoil_val" / "file1000022.h5")
    catalog = script("fastmri").import_fastmri(tmp_path / "singlecoil_val", tmp_path / "bundle")
    assert list(catalog) == ["file1000000", "file1000007"]
    for name, array in both.items():
        np.testing.assert_array_equal(catalog["file1000000"].images[name], array)
    np.testing.assert_array_equal(catalog["file1000007"].images["MR"], one["reconstruction_rss"])
    grid = catalog["file1000007"].images["MR"].grid
    assert (grid.axes, grid.unit) == ("zyx", "unknown")
    [refused] = [v for v in catalog.verdicts if v.status == "refused"]
    assert (refused.source, refused.code) == ("file1000022.h5", "kspace")


def test_a_folder_without_scans(tmp_path, script):
    (tmp_path / "raw" / "singlecoil_val").mkdir(parents=True)
    with pytest.raises(SourceError, match=r"holds no files file\*\.h5; got singlecoil_val; expected file1000001\.h5"):
        script("fastmri").import_fastmri(tmp_path / "raw", tmp_path / "bundle")
