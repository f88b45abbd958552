"""The portable file: SimpleITK and VTK find every voxel, of its type and in its place."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import SimpleITK

from ndvol.errors import OptionError, StoreError
from ndvol.geometry import Grid
from ndvol.store import publishing, write_portable
from ndvol.volumes import ArraySource, Volume

TYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
AFFINES = {
    "straight": np.array([[0, 0, 0.5, 3], [0, 0.75, 0, -4.5], [2.5, 0, 0, 1 / 3], [0, 0, 0, 1]]),
    "oblique": np.array([[-0.8, 0.6, 0, 3], [0.6, 0.8, 0, -4], [0, 0, 1, 1 / 3], [0, 0, 0, 1]]) * [[2], [2], [2], [1]],
    "left-handed": np.array([[0, 0, -0.5, 3], [0, -0.75, 0, -4], [2.5, 0, 0, 5], [0, 0, 0, 1]]),
    "sheared": np.array([[0.1, 0.3, 1 / 3, -5.1], [0.2, 0.7, 0, 7], [2.5, 0, 0.1, 1e5 / 3], [0, 0, 0, 1]]),
}


def volume_of(axes, shape, dtype="int16", affine=None):
    n = len(set(axes) & set("zyx"))
    affine = AFFINES["straight"] if affine is None else affine
    keep = [*range(n), 3]
    own = affine if n == 3 else affine[np.ix_(keep, [*range(3 - n, 3), 3])]
    frame = "LPS" if n == 3 else "LOCAL"
    high = np.finfo(dtype).max if dtype.startswith("f") else np.iinfo(dtype).max
    array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    array.flat[-1] = high
    return Volume("CT", Grid(axes, shape, own, frame, "mm"), ArraySource(array))


def indices(grid):
    """Some spatial indices in storage order."""
    shape = [grid.shape[i] for i in grid.spatial]
    return np.random.default_rng(1).integers(0, shape, (6, len(shape))).tolist()


def components_last(volume):
    array = volume[...]
    if "c" in volume.axes:
        array = np.moveaxis(array, volume.axes.index("c"), -1)
        array = array[..., 0] if array.shape[-1] == 1 else array
    return array


def assert_in_itk(path, volume):
    image = SimpleITK.ReadImage(str(path))
    found = SimpleITK.GetArrayFromImage(image)
    np.testing.assert_array_equal(found, components_last(volume))
    assert found.dtype == volume.dtype
    grid = volume.grid
    n = len(grid.spatial)
    assert image.GetSpacing() == (*grid.spacing[::-1], *[1.0] * (image.GetDimension() - n))
    assert image.GetOrigin()[:n] == grid.origin
    directions = np.reshape(image.GetDirection(), (image.GetDimension(),) * 2)
    np.testing.assert_array_equal(directions[:n, :n], grid.direction[:, ::-1])
    for index in indices(grid):
        padded = [*index[::-1], *[0] * (image.GetDimension() - n)]
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(padded)[:n], grid.world(index), atol=1e-9)


def assert_in_vtk(path, volume):
    vtk = pytest.importorskip("vtk", reason="VTK is not installed")
    from vtk.util.numpy_support import vtk_to_numpy

    reader = vtk.vtkHDFReader()
    assert reader.CanReadFile(str(path))
    reader.SetFileName(str(path))
    reader.UpdateInformation()
    array, grid = components_last(volume), volume.grid
    steps = array if "t" in volume.axes else array[None]
    assert reader.GetNumberOfSteps() == len(steps)
    for k, step in enumerate(steps):
        reader.SetStep(k)
        reader.Update()
        image = reader.GetOutput()
        scalars = image.GetPointData().GetScalars()
        assert scalars.GetName() == volume.name
        found = vtk_to_numpy(scalars)
        np.testing.assert_array_equal(found.reshape(step.shape), step)
        assert found.dtype == volume.dtype
        lengths = [grid.shape[i] for i in grid.spatial][::-1]
        assert image.GetDimensions() == (*lengths, 1)[:3]
        n = len(grid.spatial)
        assert (image.GetSpacing()[:n], image.GetOrigin()[:n]) == (grid.spacing[::-1], grid.origin)
        for index in indices(grid):
            point = [0.0, 0.0, 0.0]
            image.TransformIndexToPhysicalPoint([*index[::-1], 0][:3], point)
            np.testing.assert_allclose(point[:n], grid.world(index), atol=1e-9)


@pytest.mark.parametrize("dtype", TYPES)
def test_every_type(tmp_path, dtype):
    volume = volume_of("zyx", (3, 4, 5), dtype)
    write_portable(tmp_path / "a.hdf", volume)
    assert_in_itk(tmp_path / "a.hdf", volume)
    assert_in_vtk(tmp_path / "a.hdf", volume)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_every_place(tmp_path, affine):
    volume = volume_of("tczyx", (2, 3, 3, 4, 5), affine=affine)
    write_portable(tmp_path / "a.hdf", volume)
    assert_in_itk(tmp_path / "a.hdf", volume)
    assert_in_vtk(tmp_path / "a.hdf", volume)


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ("yx", (4, 5)),
        ("cyx", (3, 4, 5)),
        ("cyx", (1, 4, 5)),
        ("tyx", (2, 4, 5)),
        ("zyx", (1, 4, 5)),
        ("zyx", (3, 1, 5)),
        ("zyx", (3, 4, 1)),
        ("zyx", (1, 1, 1)),
        ("czyx", (2, 3, 4, 5)),
        ("tzyx", (6, 3, 4, 5)),
        ("tzyx", (1, 3, 4, 5)),
        ("tzyx", (2, 1, 1, 5)),
        ("tzyx", (2, 1, 1, 1)),
        ("tczyx", (2, 3, 1, 4, 5)),
        ("zyx", (40, 41, 42)),
    ],
)
def test_every_shape(tmp_path, axes, shape):
    volume = volume_of(axes, shape)
    write_portable(tmp_path / "a.hdf", volume)
    assert_in_itk(tmp_path / "a.hdf", volume)
    assert_in_vtk(tmp_path / "a.hdf", volume)


def test_both_layouts_name_one_data_set_that_plain_hdf5_reads(tmp_path):
    volume = volume_of("czyx", (3, 4, 50, 60))
    write_portable(tmp_path / "a.hdf", volume)
    with h5py.File(tmp_path / "a.hdf") as file:
        voxels, points = file["ITKImage/0/VoxelData"], file["VTKHDF/PointData/CT"]
        assert voxels == points
        assert file.get("VTKHDF/PointData/CT", getlink=True).__class__ is h5py.HardLink
        assert (voxels.compression, voxels.shuffle, voxels.fletcher32) == ("gzip", True, True)
        np.testing.assert_array_equal(voxels[...], components_last(volume))
        assert list(file["VTKHDF/PointData"]) == ["CT"]


def test_the_same_volume_makes_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_portable(tmp_path / f"{name}.hdf", volume_of("tzyx", (2, 3, 4, 5)))
    assert (tmp_path / "a.hdf").read_bytes() == (tmp_path / "b.hdf").read_bytes()


@pytest.mark.parametrize("dtype", ["bool", "float16", "complex64"])
def test_types_that_itk_does_not_have_are_refused(tmp_path, dtype):
    volume = Volume("CT", Grid.regular("yx", (3, 4)), ArraySource(np.zeros((3, 4), dtype)))
    with pytest.raises(OptionError, match=f"is of a type that ITK does not read; got {dtype}"):
        write_portable(tmp_path / "a.hdf", volume)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_reads_back_otherwise_is_not_published(tmp_path, monkeypatch):
    (tmp_path / "a.hdf").write_text("older")
    reserve = publishing._reserve_metadata

    def damage(part):
        # Within the first chunk, which begins as zlib's streams of level 6 do.
        with part.open("r+b") as stream:
            stream.seek(part.read_bytes().index(bytes.fromhex("789c")) + 20)
            stream.write(b"damaged")
        reserve(part)

    monkeypatch.setattr(publishing, "_reserve_metadata", damage)
    with pytest.raises(StoreError, match="does not read back as it was written; got a chunk's bytes have changed"):
        write_portable(tmp_path / "a.hdf", volume_of("zyx", (3, 40, 50)))
    assert [p.name for p in tmp_path.iterdir()] == ["a.hdf"]
    assert (tmp_path / "a.hdf").read_text() == "older"
