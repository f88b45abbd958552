"""Zarr and OME-Zarr in place, and through every backend."""

import json
import pickle
import sys

import numpy as np
import pytest
from sources import windows_of

from ndvol import open_volume
from ndvol.errors import GridError, OptionError, SourceError
from ndvol.geometry import Grid
from ndvol.volumes import ArraySource, Volume

SHAPE = (6, 40, 30)
VOXELS = np.random.default_rng(0).integers(-500, 500, SHAPE).astype(np.int16)


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / ".zarray").write_text("{}")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(OptionError, match=r'pip install "ndvol\[zarr\]"') as caught:
        open_volume(tmp_path, axes="zyx")
    assert caught.value.code == "missing-extra"


@pytest.fixture(params=[2, 3])
def version(request):
    return request.param


@pytest.fixture
def root(tmp_path, version):
    zarr = pytest.importorskip("zarr")
    modern = int(zarr.__version__.split(".")[0]) >= 3
    if version == 3 and not modern:
        pytest.skip("this zarr writes version 2 only")
    options = {"zarr_format": version} if modern else {}

    def write(path, voxels):
        array = zarr.open(str(path), mode="w", shape=voxels.shape, chunks=(4, 16, 16), dtype=voxels.dtype, **options)
        array[...] = voxels
        return path

    write.group = lambda path: zarr.open_group(str(path), mode="w", **options)
    return write


@pytest.mark.parametrize("backend", [None, "hdf5", "npy", "cog"])
@pytest.mark.parametrize("dtype", ["<i2", ">u2", "<f8", "|b1"])
def test_an_array_is_read_in_place(tmp_path, root, dtype, backend):
    voxels = VOXELS.astype(dtype)
    path = root(tmp_path / "a.zarr", voxels)
    volume = open_volume(path, axes="zyx", backend=backend, workdir=tmp_path / "work")
    values = voxels.astype(np.uint8 if dtype == "|b1" else voxels.dtype.newbyteorder("="))
    truth = Volume("image", Grid.regular("zyx", SHAPE), ArraySource(values))
    assert volume.grid == truth.grid
    for each in (volume, pickle.loads(pickle.dumps(volume))):
        for window in windows_of(SHAPE):
            np.testing.assert_array_equal(
                each.read(window, fill_value=1), truth.read(window, fill_value=1), strict=True
            )


def test_a_chunk_that_changes_makes_another_conversion(tmp_path, root):
    for factor in (1, 2):
        path = root(tmp_path / "a.zarr", VOXELS * factor)
        for backend in ("npy", None):
            volume = open_volume(path, axes="zyx", backend=backend, workdir=tmp_path / "work")
            np.testing.assert_array_equal(volume[...], VOXELS * factor)


def ome(path, root, version, unit="micrometer"):
    group = root.group(path)
    said = {
        "axes": [{"name": a, "type": "space", "unit": unit} for a in "zyx"],
        "datasets": [
            {"path": str(k), "coordinateTransformations": [{"type": "scale", "scale": [2.0 * f, 0.5 * f, 0.5 * f]}]}
            for k, f in enumerate((1, 2))
        ],
    }
    root(path / "0", VOXELS)
    root(path / "1", VOXELS[::2, ::2, ::2])
    if version == 2:
        group.attrs["multiscales"] = [said | {"version": "0.4"}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [said]}
    return path


def test_an_ome_image_has_its_levels_and_spacing(tmp_path, root, version):
    volume = open_volume(ome(tmp_path / "a.zarr", root, version))
    assert (volume.axes, volume.levels, volume.grid.unit) == ("zyx", 2, "um")
    assert volume.grid.spacing == (2.0, 0.5, 0.5)
    np.testing.assert_array_equal(volume[...], VOXELS)
    for window in windows_of((3, 20, 15)):
        truth = Volume("t", Grid.regular("zyx", (3, 20, 15)), ArraySource(VOXELS[::2, ::2, ::2])).read(window)
        np.testing.assert_array_equal(volume.read(window, level=1), truth)


@pytest.mark.parametrize(("unit", "expected"), [("millimeter", ("mm", 2.0)), ("parsec", ("unknown", 1.0))])
def test_units_that_are_not_known_are_not_guessed(tmp_path, root, version, unit, expected):
    grid = open_volume(ome(tmp_path / "a.zarr", root, version, unit)).grid
    assert (grid.unit, grid.spacing[0]) == expected


def test_what_cannot_be_opened_is_refused(tmp_path, root, version):
    path = root(tmp_path / "a.zarr", VOXELS)
    with pytest.raises(OptionError, match="say the axes"):
        open_volume(path)
    with pytest.raises(GridError, match="axes do not fit"):
        open_volume(path, axes="yx")
    group = tmp_path / "g.zarr"
    root.group(group)
    with pytest.raises(OptionError, match="no OME image"):
        open_volume(group)
    with pytest.raises(SourceError, match="there is no 'b'"):
        open_volume(group, dataset="b", axes="zyx")
    with pytest.raises(OptionError, match="others; got tyx; expected zyx"):
        open_volume(ome(tmp_path / "o.zarr", root, version), axes="tyx")
    mark = path / ("zarr.json" if version == 3 else ".zarray")
    mark.write_text(json.dumps({"node_type": "array"}))
    with pytest.raises(SourceError, match="cannot be read as Zarr"):
        open_volume(path, axes="zyx")


def test_a_damaged_chunk_is_an_error(tmp_path, root):
    path = root(tmp_path / "a.zarr", VOXELS)
    volume = open_volume(path, axes="zyx")
    for file in path.rglob("*"):
        if file.is_file() and "zarr" not in file.name:
            file.write_bytes(b"damage")
    with pytest.raises(SourceError, match="cannot read"):
        volume[...]
