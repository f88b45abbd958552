"""Pyramid levels in a file: found, placed, verified, and as empty as the volume."""

from __future__ import annotations

from functools import partial

import h5py
import numpy as np
import pytest

from ndvol.errors import DamageError, GridError, OptionError, SamplingError, StoreError, WindowError
from ndvol.geometry import Grid, Window
from ndvol.geometry.pyramid import level_factors, level_grids, level_majorities, level_means
from ndvol.levels import at_level
from ndvol.store import CaseWriter, open_case, verify_file
from ndvol.volumes import ArraySource, Volume

SHAPE = (21, 70, 65)
GRID = Grid("zyx", SHAPE, [[0.1, 0, 0.7, -20], [0, 0.7, 0.1, 5.5], [2.5, 0, 0, 100], [0, 0, 0, 1]])
IMAGE = (np.random.default_rng(0).normal(size=SHAPE) * 40).astype(np.int16)
IMAGE[:, :, 40:] = -1000
LABELS = np.zeros(SHAPE, np.uint8)
LABELS[2:9, 3:12, 40:55], LABELS[15:17, 60:68, 2:9], LABELS[0, 0, 0] = 1, 2, 3


def write(path, levels):
    with CaseWriter(path, case="toy", uuid="1234", levels=levels) as writer:
        writer.add_image("CT", IMAGE, GRID)
        writer.add_image("mask", IMAGE > 0, GRID)
        writer.add_label("organs", LABELS, GRID, categories={1: "liver", 2: "lesion", 3: "dot"})
        writer.add_label("empty", LABELS * 0, GRID, categories={1: "spleen"})
    return path


def test_levels_come_back_on_their_grids(tmp_path):
    case = open_case(write(tmp_path / "a.h5", 4))
    grids = level_grids(GRID, 4)
    factors = level_factors(GRID, grids)
    whole = Window.full(SHAPE)
    expected = {
        "CT": list(level_means(IMAGE, factors)),
        "mask": list(level_means((IMAGE > 0).astype(np.uint8), factors)),
        "organs": level_majorities(LABELS, factors, dict.fromkeys([1, 2, 3], whole)),
        "empty": level_majorities(LABELS * 0, factors, {}),
    }
    for name, levels in expected.items():
        volume = case[name]
        assert volume.levels == 4
        for level, array in enumerate(levels, start=1):
            assert volume.level_grid(level) == grids[level - 1]
            np.testing.assert_array_equal(volume.read(Window.full(array.shape), level=level), array)
            one = at_level(volume, level)
            assert (one.grid, one.levels, one.dtype, type(one)) == (grids[level - 1], 1, volume.dtype, type(volume))
            np.testing.assert_array_equal(one, array)
    assert case["CT"].level_grid(0) == GRID
    assert at_level(case["CT"], 0) is case["CT"]
    with pytest.raises(SamplingError, match="'organs' is counted at level 0; got level 1"):
        _ = at_level(case.labels["organs"], 1).index


def test_by_default_there_is_level_0_alone(tmp_path):
    case = open_case(write(tmp_path / "a.h5", 1))
    with h5py.File(tmp_path / "a.h5", locking=False) as file:
        assert list(file["images/CT"]) == ["0"]
    assert case["CT"].levels == 1
    for ask in (case["CT"].level_grid, partial(at_level, case["CT"])):
        with pytest.raises(WindowError, match="has no level 1; expected 0 … 0"):
            ask(1)


def test_constant_chunks_of_levels_are_not_stored(tmp_path):
    write(tmp_path / "a.h5", 3)
    with h5py.File(tmp_path / "a.h5", locking=False) as file:
        for level in "012":
            assert file[f"labels/empty/{level}"].id.get_num_chunks() == 0
        counts = -(-np.array(file["images/CT/1"].shape) // file["images/CT/1"].chunks)
        assert 0 < file["images/CT/1"].id.get_num_chunks() <= counts.prod()


def test_the_same_arrays_make_the_same_bytes(tmp_path):
    write(tmp_path / "a.h5", 3), write(tmp_path / "b.h5", 3)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert verify_file(tmp_path / "a.h5") == []


def test_a_lost_chunk_of_a_level_is_found(tmp_path):
    write(tmp_path / "a.h5", 2)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        data = bytearray(file["images/CT/1"].id.read_direct_chunk((0, 0, 0))[1])
        data[9] ^= 1
        file["images/CT/1"].id.write_direct_chunk((0, 0, 0), bytes(data))
    assert [d.dataset for d in verify_file(tmp_path / "a.h5")] == ["images/CT/1"]
    with pytest.raises(DamageError, match="chunk 0 of '/images/CT/1'"):
        open_case(tmp_path / "a.h5")["CT"].read(Window((0, 0, 0), (2, 2, 2)), level=1)


@pytest.mark.parametrize("mode", ["edge", "reflect"])
def test_voxels_are_repeated_on_their_own_level(tmp_path, mode):
    volume = open_case(write(tmp_path / "a.h5", 3))["CT"]
    array = np.asarray(at_level(volume, 2))
    # Inside level 0, but not inside level 2.
    window = Window((-2, -3, 10), tuple(n + 4 for n in array.shape))
    ahead = [-a for a in window.start]
    pad = [(max(0, a), max(0, b - n)) for a, b, n in zip(ahead, window.stop, array.shape, strict=True)]
    expected = np.pad(array, pad, mode=mode)[:, :, 10:]
    np.testing.assert_array_equal(volume.read(window, level=2, pad_mode=mode), expected)
    np.testing.assert_array_equal(at_level(volume, 2).read(window, pad_mode=mode), expected)


def test_a_level_of_unknown_place_is_read_but_not_placed():
    class TwoLevels(ArraySource):
        levels = 2

    volume = Volume("x", Grid.regular("yx", (4, 4)), TwoLevels(np.zeros((4, 4))))
    assert volume.read(Window((0, 0), (2, 2)), level=1).shape == (2, 2)
    for ask in (volume.level_grid, partial(at_level, volume)):
        with pytest.raises(GridError, match="not known where the voxels of level 1 of volume 'x' lie"):
            ask(1)


@pytest.mark.parametrize(("name", "shape", "error"), [("1", (21, 35, 30), GridError), ("2", (21, 35, 33), StoreError)])
def test_levels_that_do_not_follow_each_other_are_refused(tmp_path, name, shape, error):
    write(tmp_path / "a.h5", 1)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["images/CT"].create_dataset(name, data=np.zeros(shape, np.int16))
        # As in format 1.1, which had none.
        del file["contents"]
    with pytest.raises(error, match=r"level 1 does not fit|other levels than 0, 1, 2 …; got \[0, 2\]"):
        open_case(tmp_path / "a.h5")


def test_a_stream_has_no_coarser_levels(tmp_path):
    with (
        pytest.raises(OptionError, match="level 0 alone; got 2 levels"),
        CaseWriter(tmp_path / "a.h5", case="a", levels=2) as writer,
    ):
        writer.stream("x", np.int16, GRID)
    assert list(tmp_path.iterdir()) == []
