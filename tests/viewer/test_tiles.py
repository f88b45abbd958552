"""Tiles hold the voxels of the volume, and nothing more than they need is read for them."""

from __future__ import annotations

from dataclasses import replace

import h5py
import hdf5plugin  # noqa: F401  the codecs of the files, for plain h5py
import numpy as np
import pytest

from ndvol.catalog import CaseRecord, Catalog, Objects
from ndvol.categories import CategoryTree
from ndvol.geometry import Grid, Window
from ndvol.opening import open_catalog
from ndvol.store.direct import DirectReader
from ndvol.toy import ToyOptions, toy_catalog
from ndvol.viewer.tiles import BAND_VOXELS, TILE, Tile, read_tile
from ndvol.volumes import ArrayLabelSource, ArraySource, Case, LabelVolume, Volume

PLANES = {"z": (1, 2), "y": (0, 2), "x": (0, 1)}
"""By axis across: the axes of rows and columns in z, y, x."""


def tile_facts(client, **facts):
    case = client.ask("case", case="toy")[1]
    return {"case": "toy", "key": case["key"], "tile": "0,0", "steps": "1,1", **facts}


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("across", ["z", "y", "x"])
def test_planes_equal_the_stored_voxels_read_by_plain_h5py(toy, bundle, across, level):
    with h5py.File(bundle / "volumes" / "toy.h5", locking=False) as file:
        stored = {kind: file[f"{kind}/{level}"][...] for kind in ("images/CT", "labels/labels")}
    for at in (0, stored["images/CT"].shape["zyx".index(across)] - 1):
        where = {"across": across, "at": at, "level": level}
        image = toy.tile("int16", **tile_facts(toy, volume="images/CT", **where))
        np.testing.assert_array_equal(image, stored["images/CT"].take(at, "zyx".index(across)))
        # The values 1 … 5 of the toy's labels are all named, so that they travel as they are.
        label = toy.tile("uint8", **tile_facts(toy, volume="labels/labels", **where))
        np.testing.assert_array_equal(label, stored["labels/labels"].take(at, "zyx".index(across)))


def test_nothing_of_a_case_is_kept_by_the_browser(toy):
    token, facts = toy.server.token, tile_facts(toy, volume="images/CT", across="z", at=3)
    query = "&".join(f"{name}={value}" for name, value in facts.items())
    for address in (f"tile?{query}", "case?case=toy", "voxel?case=toy&image=CT&at=0,0,0", "objects?case=toy"):
        assert toy.get(f"/{token}/api/{address}")[0].headers["Cache-Control"] == "no-store"


def volume_of(array, axes):
    return Volume("toy", Grid.regular(axes, array.shape), ArraySource(array))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 1), (2, 7), (1024, 1)])
def test_thinned_tiles_hold_the_middle_voxel_of_every_block(rows, columns):
    array = np.arange(700 * 611, dtype=np.float32).reshape(700, 611)
    middle = [
        np.minimum(np.arange(0, n, step) + step // 2, n - 1)
        for n, step in zip(array.shape, (rows, columns), strict=True)
    ]
    expected = array[np.ix_(*middle)]
    for row in range(-(-expected.shape[0] // TILE)):
        for column in range(-(-expected.shape[1] // TILE)):
            tile = read_tile(volume_of(array, "yx"), Tile("", 0, (row, column), (rows, columns), {}))
            part = expected[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
            np.testing.assert_array_equal(tile, part)


@pytest.mark.parametrize("axes", ["tyx", "tczyx", "cyx", "yx"])
def test_other_axes_are_cut_at_their_index(axes):
    case = toy_catalog(1, ToyOptions(axes))["toy-0"]
    image = case.images["image"]
    whole, others = np.asarray(image), {a: n - 1 for a, n in zip(axes, image.shape, strict=True) if a in "tc"}
    across = "y" if "z" in axes else ""
    tile = read_tile(image, Tile(across, 5 if across else 0, (0, 0), (1, 1), others))
    index = tuple(others.get(a, 5 if a == across else slice(None)) for a in axes)
    np.testing.assert_array_equal(tile, whole[index])


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_come_together(channels):
    array = np.random.default_rng(0).integers(0, 255, (channels, 5, 40, 30), np.uint8)
    tile = read_tile(volume_of(array, "czyx"), Tile("x", 7, (0, 0), (1, 2), {}))
    np.testing.assert_array_equal(tile, np.moveaxis(array[:3, :, 1::2, 7], 0, -1))


@pytest.mark.parametrize(
    ("dtype", "wire"),
    [("bool", "u1"), ("uint16", "<u2"), (">i2", "<i2"), ("int32", "<f4"), ("uint64", "<f4"), ("float16", "<f4")],
)
def test_types_that_a_browser_cannot_window_quickly_travel_as_float32(dtype, wire):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    tile = read_tile(volume_of(array, "yx"), Tile("", 0, (0, 0), (1, 1), {}))
    assert tile.dtype == np.dtype(wire)
    np.testing.assert_array_equal(tile, array.astype(wire))


def test_labels_travel_as_positions_and_a_value_without_a_name_as_one_more():
    array = np.array([[0, 7, 900], [3, 4, -1]], np.int32)
    grid = Grid.regular("yx", array.shape)
    label = LabelVolume("toy", grid, ArrayLabelSource(array), categories={900: "c", 3: "a", 7: "b"})
    assert read_tile(label, Tile("", 0, (0, 0), (1, 1), {})).tolist() == [[0, 2, 3], [1, 4, 4]]
    unnamed = replace(label, categories={})
    assert read_tile(unnamed, Tile("", 0, (0, 0), (1, 1), {})).tolist() == [[0, 1, 1], [1, 1, 1]]
    many = replace(label, categories=dict.fromkeys(range(1, 1001), "x"))
    assert read_tile(many, Tile("", 0, (0, 0), (1, 1), {})).tolist() == [[0, 7, 900], [3, 4, 1001]]


def test_a_tile_reads_the_chunks_that_it_shows_and_no_other(toy, bundle, monkeypatch):
    with h5py.File(bundle / "volumes" / "toy.h5", locking=False) as file:
        shape, chunk = file["images/CT/0"].shape, file["images/CT/0"].chunks
    loaded = []
    load = DirectReader._load
    monkeypatch.setattr(
        DirectReader, "_load", lambda self, number, *rest: loaded.append(number) or load(self, number, *rest)
    )
    for across, at in (("z", 20), ("y", 0), ("x", 37)):
        loaded.clear()
        toy.tile("int16", **tile_facts(toy, volume="images/CT", across=across, at=at))
        counts = [-(-n // c) for n, c in zip(shape, chunk, strict=True)]
        grid = np.arange(np.prod(counts)).reshape(counts)
        axis = "zyx".index(across)
        assert sorted(loaded) == sorted(grid.take(at // chunk[axis], axis).ravel().tolist())


class Endless:
    """A volume of 2048^3 voxels that are computed when they are read; counts them."""

    levels, dtype, shape = 1, np.dtype(np.int16), (2048, 2048, 2048)

    def __init__(self):
        self.largest = self.total = 0

    def read_into(self, window, out, *, level=0, fill_value=0):
        self.largest, self.total = max(self.largest, window.size), self.total + window.size
        z, y, x = np.meshgrid(*(np.arange(a, b) for a, b in zip(window.start, window.stop, strict=True)), indexing="ij")
        out[...] = (3 * z + 5 * y + 7 * x) % 4001
        return Window((0, 0, 0), window.shape)


@pytest.fixture
def endless(serve):
    source, none = Endless(), np.empty(0, np.int64)
    grid = Grid.regular("zyx", source.shape, spacing=(1, 1, 1))
    case = Case("huge", {"CT": Volume("CT", grid, source)}, {})
    objects = Objects(none, none, none, none.reshape(0, 3), none.reshape(0, 3), none)
    record = CaseRecord("huge", "", "zyx", source.shape, (1.0,) * 3, "mm", ("CT",), (), objects)
    return source, serve(Catalog([record], CategoryTree((), (), ()), lambda record: case))


def test_a_huge_volume_without_levels_opens_with_small_answers_and_bounded_reading(endless):
    source, client = endless
    assert client.ask("case", case="huge")[0] == 200
    assert client.ask("presets", case="huge")[0] == 200
    assert source.total <= 125 * 16**3
    facts = {"case": "huge", "volume": "images/CT", "steps": "4,4", "tile": "1,1"}
    for axis, across in enumerate("zyx"):
        source.total = source.largest = 0
        tile = client.tile("int16", across=across, at=1000, **facts)
        samples = np.arange(256, 512) * 4 + 2
        rows, columns = (a for k, a in enumerate((3, 5, 7)) if k != axis)
        expected = (1000 * (3, 5, 7)[axis] + rows * samples[:, None] + columns * samples) % 4001
        np.testing.assert_array_equal(tile, expected)
        assert tile.nbytes == 2 * TILE**2
        assert source.largest <= BAND_VOXELS
        assert source.total <= (4 * TILE) ** 2


def test_the_coarsest_samples_are_read_a_row_at_a_time():
    source = Endless()
    volume = Volume("CT", Grid.regular("zyx", source.shape), source)
    read_tile(volume, Tile("z", 5, (0, 0), (1024, 1), {}))
    assert source.largest <= BAND_VOXELS
    assert source.total <= 2 * TILE * 1025


def test_a_damaged_chunk_is_told_and_the_server_goes_on(bundle, serve, tmp_path):
    source = bundle / "volumes" / "toy.h5"
    with h5py.File(source, locking=False) as file:
        place = file["images/CT/0"].id.get_chunk_info(0)
    data = bytearray(source.read_bytes())
    data[place.byte_offset + place.size // 2] ^= 1
    (tmp_path / "volumes").mkdir()
    (tmp_path / "volumes" / "toy.h5").write_bytes(data)
    (tmp_path / "data.kwcoco.json").write_bytes((bundle / "data.kwcoco.json").read_bytes())
    client = serve(open_catalog(tmp_path))
    facts = tile_facts(client, volume="images/CT", across="z")
    status, told = client.ask("tile", **facts, at=0)
    assert (status, told["code"]) == (500, "damage")
    assert "toy.h5" in told["error"]
    assert client.ask("voxel", case="toy", at="0,0,0")[1]["code"] == "damage"
    assert client.tile("uint8", **{**facts, "volume": "labels/labels"}, at=0).shape == (44, 38)
    # What brightness to begin with is taken from the rest.
    assert client.ask("presets", case="toy")[1][0]["name"] == "soft tissue"
