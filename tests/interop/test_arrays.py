"""to_sitk, to_nibabel, to_dask, to_xarray: every voxel in its place, by the other library's own arithmetic."""

from __future__ import annotations

from itertools import product

import nibabel
import numpy as np
import pytest
import SimpleITK

from ndvol.errors import GridError
from ndvol.geometry import Grid
from ndvol.interop import to_dask, to_nibabel, to_sitk, to_xarray
from ndvol.store import CaseWriter, open_case
from ndvol.volumes import ArraySource, Volume

SHAPES = {"t": 2, "c": 3, "z": 4, "y": 5, "x": 6}


def oblique(axes: str, *, shear: bool = False, frame: str = "LPS") -> Grid:
    shape = tuple(SHAPES[a] for a in axes)
    n = len([a for a in axes if a in "zyx"])
    rng = np.random.default_rng(n)
    affine = np.eye(n + 1)
    turn = np.linalg.qr(rng.normal(size=(n, n)))[0]
    affine[:n, :n] = turn @ np.diag([2.5, 0.7, 0.8][-n:])
    affine[:n, n] = rng.normal(0, 50, n)
    if shear:
        affine[0, 0] += 0.9
    return Grid(axes, shape, affine, frame, "mm")


def volume_on(grid: Grid, dtype="int16") -> Volume:
    array = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, grid.shape).astype(dtype)
    return Volume("v", grid, ArraySource(array))


def spatial_indices(grid: Grid):
    return product(*(range(grid.shape[i]) for i in grid.spatial))


@pytest.mark.parametrize("axes", ["yx", "cyx", "zyx", "czyx", "tzyx", "tczyx"])
@pytest.mark.parametrize("shear", [False, True])
def test_sitk_has_each_voxel_at_its_world_point(axes, shear):
    grid = oblique(axes, shear=shear, frame="LPS" if "z" in axes else "LOCAL")
    volume = volume_on(grid)
    array, image = np.asarray(volume), to_sitk(volume)
    if "c" in axes:
        array = np.moveaxis(array, axes.index("c"), -1)
    for at in spatial_indices(grid):
        for t in range(2) if "t" in axes else [None]:
            index = at[::-1] if t is None else (*at[::-1], t)
            key = at if t is None else (t, *at)
            assert np.array_equal(image.GetPixel(index), array[key])
            point = image.TransformIndexToPhysicalPoint(index)
            assert np.allclose(point[: len(at)], grid.world(at), atol=1e-9)
            assert t is None or point[-1] == t


@pytest.mark.parametrize("axes", ["zyx", "czyx", "tzyx", "tczyx"])
@pytest.mark.parametrize("shear", [False, True])
def test_nibabel_has_each_voxel_at_its_world_point(axes, shear, tmp_path):
    grid = oblique(axes, shear=shear)
    volume = volume_on(grid)
    nibabel.save(to_nibabel(volume), tmp_path / "v.nii")
    image = nibabel.load(tmp_path / "v.nii")
    data, array = np.asarray(image.dataobj), np.asarray(volume)
    assert image.get_data_dtype() == array.dtype
    assert (int(image.header["sform_code"]), image.header.get_xyzt_units()[0]) == (1, "mm")
    for z, y, x in spatial_indices(grid):
        lps = image.affine @ [x, y, z, 1] * [-1, -1, 1, 1]
        assert np.allclose(lps[:3], grid.world((z, y, x)), atol=1e-4)  # a NIfTI header holds float32
        expected = array[..., z, y, x]
        if "t" not in axes and "c" in axes:
            expected = expected[None]
        assert np.array_equal(data[x, y, z], expected)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", "int32", "int64", "uint64", "float16", "float64"])
def test_every_type_keeps_its_values(dtype):
    volume = volume_on(oblique("zyx"), dtype)
    array = np.asarray(volume)
    assert np.array_equal(SimpleITK.GetArrayFromImage(to_sitk(volume)), array)
    assert np.array_equal(np.asarray(to_nibabel(volume).dataobj).T, array)


def test_what_has_no_form_is_refused():
    with pytest.raises(GridError, match=r"volume 'v' has no form as a SimpleITK image; got tyx"):
        to_sitk(Volume("v", Grid.regular("tyx", (2, 3, 4)), ArraySource(np.zeros((2, 3, 4)))))
    with pytest.raises(GridError, match="needs patient coordinates"):
        to_nibabel(Volume("v", Grid.regular("zyx", (2, 3, 4)), ArraySource(np.zeros((2, 3, 4)))))


def test_micrometres_become_millimetres():
    grid = Grid.regular("zyx", (2, 3, 4), spacing=(2, 1, 0.5), origin=(100, 200, 300), frame="LOCAL", unit="um")
    image = to_sitk(Volume("v", grid, ArraySource(np.zeros((2, 3, 4), np.uint8))))
    assert np.allclose(image.TransformIndexToPhysicalPoint((3, 2, 1)), grid.world((1, 2, 3)) / 1000)


@pytest.fixture
def stored(tmp_path) -> Volume:
    """80 chunks and more, several to a block, the last ones cut."""
    shape = (3, 70, 100, 130)
    array = np.random.default_rng(0).integers(-900, 900, shape).astype(np.float64)
    with CaseWriter(tmp_path / "a.h5", case="a") as writer:
        writer.add_image("CT", array, Grid.regular("tzyx", shape, spacing=(2, 1, 1)))
    return open_case(tmp_path / "a.h5").images["CT"]


class CountingSource(ArraySource):
    chunk = (4, 4)
    reads = 0

    def read_into(self, window, out, *, level=0, fill_value=0):
        self.reads += 1
        return super().read_into(window, out, level=level, fill_value=fill_value)


def test_dask_blocks_are_whole_chunks_and_equal(stored, monkeypatch):
    pytest.importorskip("dask.array", reason="dask is not installed: pip install ndvol[dask]")
    monkeypatch.setattr("ndvol.interop._BLOCK_BYTES", 2**20)
    lazy = to_dask(stored)
    assert (lazy.shape, lazy.dtype) == (stored.shape, stored.dtype)
    chunk = stored.source.chunk
    assert 1 < lazy.npartitions < np.prod([len(range(0, n, c)) for n, c in zip(lazy.shape, chunk, strict=True)]) / 2
    assert max(b.nbytes for b in lazy.blocks.ravel()) <= 2**20
    for blocks, size in zip(lazy.chunks, chunk, strict=True):
        assert all(edge % size == 0 for edge in np.cumsum(blocks)[:-1])
    expected = np.asarray(stored)
    assert np.array_equal(lazy.compute(scheduler="threads", num_workers=4), expected)
    assert np.array_equal(lazy[1][::-3, [5, 2, 60]].compute(), expected[1][::-3, [5, 2, 60]])
    assert float(lazy.mean()) == pytest.approx(expected.mean())


def test_dask_reads_only_what_it_needs(monkeypatch):
    pytest.importorskip("dask.array", reason="dask is not installed: pip install ndvol[dask]")
    monkeypatch.setattr("ndvol.interop._BLOCK_BYTES", 4 * 4 * 8)
    source = CountingSource(np.arange(12.0 * 12).reshape(12, 12))
    lazy = to_dask(Volume("v", Grid.regular("yx", (12, 12)), source))
    assert (lazy.chunks, source.reads) == (((4, 4, 4), (4, 4, 4)), 0)
    assert lazy[5, 2:6].compute().tolist() == [62, 63, 64, 65]
    assert source.reads == 2


def test_dask_computes_in_other_processes(stored):
    pytest.importorskip("dask.array", reason="dask is not installed: pip install ndvol[dask]")
    part = to_dask(stored)[2, 60:].sum(0)
    assert np.array_equal(part.compute(scheduler="processes", num_workers=2), np.asarray(stored)[2, 60:].sum(0))


def test_xarray_has_world_coordinates_and_selects_by_them(stored):
    pytest.importorskip("xarray", reason="xarray is not installed: pip install ndvol[xarray]")
    pytest.importorskip("dask.array", reason="dask is not installed: pip install ndvol[xarray]")
    grid = Grid.regular("tzyx", (2, 3, 4, 5), spacing=(5, 1, 0.5), origin=(10, 20, 30)).flip(3)
    volume = volume_on(grid)
    array = to_xarray(volume)
    assert (array.name, array.dims) == ("v", ("t", "z", "y", "x"))
    assert not isinstance(array.data, np.ndarray)
    assert sorted(array.coords) == ["x", "y", "z"]
    assert array["x"].attrs == {"units": "mm"}
    assert array.attrs["frame"] == "LPS"
    assert np.array_equal(np.reshape(array.attrs["affine"], (4, 4)), grid.affine)
    for at in spatial_indices(grid):
        x, y, z = grid.world(at)
        assert np.array_equal(array.sel(z=z, y=y, x=x).values, np.asarray(volume)[:, *at])


def test_an_oblique_axis_has_no_coordinate():
    pytest.importorskip("xarray", reason="xarray is not installed: pip install ndvol[xarray]")
    pytest.importorskip("dask.array", reason="dask is not installed: pip install ndvol[xarray]")
    grid = Grid.regular("zyx", (4, 5, 6), spacing=(5, 1, 0.5), origin=(10, 20, 30))
    turn, (c, s) = np.eye(4), (np.cos(0.3), np.sin(0.3))
    turn[1:3, 1:3] = [[c, -s], [s, c]]
    turned = to_xarray(volume_on(Grid("zyx", grid.shape, turn @ grid.affine)))
    assert list(turned.coords) == ["x"]
    tilt = grid.affine.copy()
    tilt[1, 0] = 1.5  # gantry: y moves with z, so the world's y is not a matter of the index along y alone
    assert sorted(to_xarray(volume_on(Grid("zyx", grid.shape, tilt))).coords) == ["x", "z"]
    swapped = to_xarray(volume_on(grid.permute((1, 0, 2))))
    assert list(swapped.coords) == ["x"]
    unknown = to_xarray(volume_on(Grid.regular("yx", (5, 6))))
    assert (unknown["y"].values.tolist(), unknown["y"].attrs) == ([0, 1, 2, 3, 4], {})
