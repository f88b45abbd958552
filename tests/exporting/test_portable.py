"""Portable HDF5 of a bundle: SimpleITK reads every volume as its source had it. tests/store has the files themselves."""

from __future__ import annotations

import json

import bundles
import nibabel
import numpy as np
import pytest
import SimpleITK
from click.testing import CliRunner

from ndvol.cli import main
from ndvol.exporting import export_portable
from ndvol.importing import ImportOptions, import_tree
from ndvol.opening import open_catalog


def test_every_volume_has_its_file(tmp_path):
    folder = bundles.make_bundle(tmp_path / "b")
    run = CliRunner().invoke(main, ["export", str(folder), str(tmp_path / "out"), "--to", "portable", "--json"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["refused"] == {}
    for name, case in open_catalog(folder).items():
        for kind, volumes in (("images", case.images), ("labels", case.labels)):
            for volume in volumes.values():
                path = tmp_path / "out" / name / kind / f"{volume.name}.hdf"
                found = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
                array = volume[...]
                if "c" in volume.axes:
                    array = np.moveaxis(array, volume.axes.index("c"), -1)
                np.testing.assert_array_equal(found.reshape(array.shape), array)
                if kind == "labels":
                    names = json.loads(path.with_suffix(".json").read_text())
                    assert names == {str(value): category for value, category in volume.categories.items()}


@pytest.mark.parametrize("orientation", ["canonical", "native"])
def test_axes_and_world_are_the_sources(tmp_path, orientation):
    rng = np.random.default_rng(0)
    array = rng.integers(-99, 99, (4, 5, 6)).astype(np.int16)
    affine = np.array([[0, 2, 0.1, 3], [-1, 0, 0, 4], [0.2, 0, 3, 5], [0, 0, 0, 1]])
    (tmp_path / "raw").mkdir()
    nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / "raw" / "a.nii.gz")
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=ImportOptions(orientation=orientation))
    assert export_portable(catalog, tmp_path / "out") == {}
    [path] = (tmp_path / "out").rglob("*.hdf")
    image = SimpleITK.ReadImage(str(path))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), array.T)
    # NIfTI's world is RAS, ITK's LPS.
    expected = nibabel.load(tmp_path / "raw" / "a.nii.gz").affine @ [1, 2, 3, 1] * [-1, -1, 1, 1]
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((1, 2, 3)), expected[:3], atol=1e-6)
