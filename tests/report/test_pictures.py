"""Planes as a page carries them: the greys and the outlines that a person would have seen of the volume itself."""

from __future__ import annotations

import re
import zlib
from base64 import b64decode
from dataclasses import replace

import bundles
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import ndvol
from ndvol.catalog import Objects
from ndvol.display import Preset, presets, to_grey
from ndvol.geometry import Grid
from ndvol.report.mosaics import draw_mosaic
from ndvol.report.places import place_to_look
from ndvol.report.planes import LIMIT, OUTLINE_TEXT, edge_path, outline_paths, pack_plane
from ndvol.report.survey import object_volumes, survey
from ndvol.report.values import some_values
from ndvol.store import CaseWriter
from ndvol.volumes import ArrayLabelSource, ArraySource, Case, LabelVolume, Volume


def unpacked(pixels):
    """What the page's script makes of packed pixels."""
    data = np.frombuffer(zlib.decompress(b64decode(pixels.data)), np.uint8)
    if pixels.kind == "rgb":
        return data.reshape(pixels.height, pixels.width, 3)
    high, low = data.reshape(2, pixels.height, pixels.width).astype(np.int64)
    return pixels.low + pixels.step * (np.cumsum(high * 256 + low, axis=1) & 0xFFFF)


@pytest.mark.parametrize(
    "plane",
    [
        np.random.default_rng(0).normal(0, 300, (20, 30)).astype(np.int16),
        np.random.default_rng(1).integers(0, 65535, (9, 256), np.uint16),
        np.random.default_rng(2).normal(5, 1e-3, (7, 8)).astype(np.float32),
        np.append(np.random.default_rng(3).normal(0, 1, 99), 1e4).reshape(10, 10),
        np.arange(6, dtype=np.uint8).reshape(2, 3),
        np.full((4, 4), 7, np.int32),
    ],
    ids=["int16", "uint16", "float32", "outlier", "uint8", "constant"],
)
def test_a_picture_has_the_greys_that_the_plane_has_under_every_preset(plane):
    volume = Volume("CT", Grid.regular("yx", plane.shape), ArraySource(plane), {"modality": "CT"})
    ranges = presets(volume, plane)
    values = unpacked(pack_plane(plane, ranges))
    for preset in ranges:
        shown = (preset.low, preset.high)
        difference = to_grey(values, shown).astype(int) - to_grey(plane, shown)
        assert np.abs(difference).max() <= 1, preset


def test_whole_numbers_stay_whole():
    plane = np.array([[-1000, 0, 40, 3000]], np.int16)
    assert unpacked(pack_plane(plane, [Preset("brain", 0, 80)])).tolist() == [[-1000, 0, 40, 3000]]


def test_what_is_not_finite_is_black_or_white():
    plane = np.array([[np.nan, 1, 2, np.inf, -np.inf]])
    assert np.allclose(unpacked(pack_plane(plane, [Preset("all", 1, 2)])), [[1, 1, 2, 2, 1]], atol=0.01)


def test_large_planes_are_averaged_down_and_colours_stay_colours():
    plane = np.repeat(np.repeat(np.arange(LIMIT * 3).reshape(3, LIMIT), 2, 0), 2, 1).astype(np.int32)
    small = unpacked(pack_plane(plane, [Preset("narrow", 0, 255)]))
    assert small.shape == (6, LIMIT)
    assert np.array_equal(small[::2], np.arange(LIMIT * 3).reshape(3, LIMIT))
    colour = np.random.default_rng(0).integers(0, 255, (5, 6, 3), np.uint8)
    assert np.array_equal(unpacked(pack_plane(colour, [])), colour)
    pair = np.stack([np.zeros((3, 4)), np.full((3, 4), 8.0)], -1)
    assert np.allclose(unpacked(pack_plane(pair, [])), 4)


def drawn(path: str) -> tuple[set, set]:
    """Unit edges of a path: horizontal ones from a point to the right, upright ones from a point down."""
    flat, tall = set(), set()
    for x, y, kind, length in re.findall(r"M(\d+) (\d+)([hv])(\d+)", path):
        for k in range(int(length)):
            (flat if kind == "h" else tall).add((int(x) + k * (kind == "h"), int(y) + k * (kind == "v")))
    return flat, tall


@given(hnp.arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))))
def test_an_outline_runs_along_every_edge_between_inside_and_outside(mask):
    inside = {(int(x), int(y)) for y, x in np.argwhere(mask)}
    rows, columns = mask.shape
    flat = {(x, y) for x in range(columns) for y in range(rows + 1) if ((x, y) in inside) != ((x, y - 1) in inside)}
    tall = {(x, y) for x in range(columns + 1) for y in range(rows) if ((x, y) in inside) != ((x - 1, y) in inside)}
    assert drawn(edge_path(mask)) == (flat, tall)


def test_outlines_that_would_take_much_room_are_coarser():
    noise = np.random.default_rng(0).integers(0, 3, (200, 200))
    paths = dict(outline_paths(noise, {1: "a"}))
    assert list(paths) == ["a", "2"]
    assert sum(map(len, paths.values())) <= OUTLINE_TEXT
    assert max(int(x) for x in re.findall(r"M(\d+) ", paths["a"])) > 190


@pytest.mark.parametrize("name", ["ct", "oblique", "two", "time", "colour", "spectrum", "one"])
def test_planes_go_through_a_voxel_of_an_object(tmp_path, name):
    catalog = ndvol.open(bundles.make_bundle(tmp_path / "b", [name]))
    record, case = catalog.record(name), catalog[name]
    for image in case.images.values():
        index = place_to_look(record, case, image)
        organs = case.labels[record.labels[0]]
        if image.axes == record.axes:
            assert organs[tuple(index[image.axes.index(a)] for a in organs.axes)] != 0
        outlined = {name for picture in draw_mosaic(record, case, image).pictures for name, _ in picture.outlines}
        assert outlined <= {"lesion", "cyst", "organ", "never-seen"}
        assert outlined


def test_a_box_without_a_label_volume_is_no_place_to_look(tmp_path):
    catalog = ndvol.open(bundles.make_bundle(tmp_path / "b", ["ct"]))
    record, case = catalog.record("ct"), catalog["ct"]
    boxes = replace(record.objects, label=np.full(len(record.objects), -1))
    assert place_to_look(replace(record, objects=boxes), case, case.images["CT"]) == (2, 10, 12)


def test_labels_are_drawn_on_the_image_whose_grid_they_are_on(tmp_path):
    catalog = ndvol.open(bundles.make_pet_ct(tmp_path / "b"))
    (found,) = survey(catalog, pictured=1)
    assert {mosaic.image: mosaic.labels for mosaic in found.mosaics} == {"CT": ("organs",), "PET": ("uptake",)}


def test_a_label_over_time_is_not_drawn_on_an_image_without_time(tmp_path):
    still, moving = (
        Grid.regular(axes, shape, spacing=(1, 1, 1)) for axes, shape in (("zyx", (2, 3, 4)), ("tzyx", (5, 2, 3, 4)))
    )
    images = {
        "T1": Volume("T1", still, ArraySource(np.zeros(still.shape))),
        "fMRI": Volume("fMRI", moving, ArraySource(np.zeros(moving.shape))),
    }
    labels = {
        name: LabelVolume(name, grid, ArrayLabelSource(np.ones(grid.shape, np.uint8)), categories={1: name})
        for name, grid in (("organ", still), ("activity", moving))
    }
    case = Case("ct", images, labels)
    record = ndvol.open(bundles.make_bundle(tmp_path / "b", ["ct"])).record("ct")
    record = replace(
        record, labels=("organ", "activity"), objects=Objects(*(np.zeros(s, int) for s in (0, 0, 0, (0, 3), (0, 3), 0)))
    )
    assert draw_mosaic(record, case, images["T1"]).labels == ("organ",)
    assert draw_mosaic(record, case, images["fMRI"]).labels == ("organ", "activity")


def test_volumes_of_objects_are_those_of_their_voxels(tmp_path):
    catalog = ndvol.open(bundles.make_pet_ct(tmp_path / "b"))
    record, case = catalog.record("ct"), catalog["ct"]
    sizes = object_volumes(record, case)
    for number, label in enumerate(record.labels):
        voxels = np.count_nonzero(np.asarray(case.labels[label]))
        assert sizes[record.objects.label == number].sum() == pytest.approx(voxels * 2.5 * 0.7 * 0.8)
    flat = ndvol.open(bundles.make_bundle(tmp_path / "c", ["time", "one"]))
    for name in flat:
        in_space = np.array(flat.record(name).labels)[flat.record(name).objects.label] == "still"
        assert np.array_equal(np.isfinite(object_volumes(flat.record(name), flat[name])), in_space)


def test_of_a_large_plane_the_coarsest_level_is_read_that_fills_a_picture(tmp_path, monkeypatch):
    grid = Grid.regular("zyx", (24, 40, 44), spacing=(1, 1, 1))
    ramp = np.broadcast_to(np.arange(44) * 4, grid.shape).astype(np.int16)
    with CaseWriter(tmp_path / "a.h5", case="a", uuid="a", levels=3) as writer:
        writer.add_image("CT", ramp, grid)
        writer.set_provenance({})
    image = ndvol.open_case(tmp_path / "a.h5").images["CT"]
    assert image.levels == 3
    monkeypatch.setattr("ndvol.report.mosaics.LIMIT", 20)
    record = ndvol.open(bundles.make_bundle(tmp_path / "b", ["ct"])).record("ct")
    mosaic = draw_mosaic(record, Case("a", {"CT": image}, {}), image)
    sizes = [(picture.pixels.height, picture.pixels.width) for picture in mosaic.pictures]
    # Axial: 40 x 44 halved; across y and x the 24 planes are too few to be halved.
    assert sizes == [(20, 22), (24, 44), (24, 40)]
    assert np.array_equal(unpacked(mosaic.pictures[0].pixels), np.broadcast_to(np.arange(22) * 8 + 2, (20, 22)))
    assert {picture.size for picture in mosaic.pictures} == {(40, 44), (24, 44), (24, 40)}


class Counting(ArraySource):
    """A source that knows the most voxels that were ever asked for at once."""

    most = 0

    def read_into(self, window, out, *, level=0, fill_value=0):
        self.most = max(self.most, window.size)
        return super().read_into(window, out, level=level, fill_value=fill_value)


def test_no_more_than_planes_and_windows_are_read(tmp_path):
    shape = (50, 60, 70)
    source = Counting(np.zeros(shape, np.int16))
    image = Volume("CT", Grid.regular("zyx", shape, spacing=(1, 1, 1)), source)
    record = ndvol.open(bundles.make_bundle(tmp_path / "b", ["ct"])).record("ct")
    draw_mosaic(record, Case("ct", {"CT": image}, {}), image)
    assert source.most == 60 * 70
    source.most = 0
    assert len(some_values(image, 0)) == 16 * 16**3
    assert source.most == 16**3
