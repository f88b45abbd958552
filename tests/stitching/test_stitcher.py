"""Stitcher: channels, labels, halo, files, and every way to use it wrongly."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from blending_oracle import MODES, OVERLAPS, weighted_mean
from hypothesis import given, settings
from hypothesis import strategies as st

import ndvol
from ndvol.errors import NdvolError, OptionError, StorageFullError, StoreError, WindowError
from ndvol.geometry import Grid, Reorientation, SlidingWindows, Window
from ndvol.geometry.tiling import chunk_counts
from ndvol.label_index import count_chunks
from ndvol.stitching import Stitcher
from ndvol.store import read_identity, read_objects, read_provenance, verify_file
from ndvol.store.objects import find_objects

AXES = ("x", "yx", "cx", "zyx", "cyx", "tyx", "tzyx", "czyx", "tcyx", "t", "tx", "tczyx")


@st.composite
def tasks(draw: st.DrawFn, axes: str = "") -> tuple[Grid, SlidingWindows]:
    """A grid and the windows over it: c is whole in them, anything else may be shorter or longer than they are."""
    axes = axes or draw(st.sampled_from(AXES))
    side = {1: 24, 2: 10, 3: 7, 4: 5, 5: 4}[len(axes)]
    shape = draw(st.tuples(*[st.integers(1, side)] * len(axes)))
    window = draw(st.tuples(*[st.integers(1, side + 2)] * len(axes)))
    window = tuple(n if a == "c" else w for a, n, w in zip(axes, shape, window, strict=True))
    overlap = draw(st.tuples(*[OVERLAPS] * len(axes)))
    windows = SlidingWindows(shape, window, overlap)
    if len(windows) > 200:
        windows = SlidingWindows(shape, window, 0.25)
    spacing = (0.5,) * sum(a in "zyx" for a in axes)
    return Grid.regular(axes, shape, spacing=spacing, unit="mm" if spacing else None), windows


def with_channels(grid: Grid, windows: SlidingWindows, channels: int | None) -> tuple[Grid, SlidingWindows]:
    """The result's grid, and the windows over it, by the names of the axes."""
    kept = [a for a in grid.axes if a != "c"]
    axes = "".join(a for a in "tczyx" if a in kept or (a == "c" and channels))
    lengths = {**dict(zip(grid.axes, grid.shape, strict=True)), "c": channels}
    sizes = {**dict(zip(grid.axes, windows.window, strict=True)), "c": channels}
    overlaps = {**dict(zip(grid.axes, windows.overlap, strict=True)), "c": 0.0}
    tiles = SlidingWindows([lengths[a] for a in axes], [sizes[a] for a in axes], [overlaps[a] for a in axes])
    return Grid(axes, tiles.shape, grid.affine, grid.frame, grid.unit), tiles


def stitch(grid, windows, out, patches, **options):
    with Stitcher(grid, windows, out, **options) as stitcher:
        for window, patch in zip(windows, patches, strict=True):
            stitcher.add(window, patch)


def channels_first(axes: str, array: np.ndarray) -> np.ndarray:
    """With c in front, for the oracle; a new axis when there is none."""
    return np.moveaxis(array, axes.index("c"), 0) if "c" in axes else array[np.newaxis]


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=60)
@given(data=st.data())
def test_stitches_the_weighted_mean(mode, data):
    grid, windows = data.draw(tasks())
    channels = data.draw(st.none() | st.integers(1, 4))
    result, tiles = with_channels(grid, windows, channels)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    kind = data.draw(st.sampled_from(["f4", "f8", "f2", "i2", "u1", "i8", "?"]))
    patches = (rng.random((len(tiles), *tiles.window)) * 200).astype(kind)
    out = np.full(result.shape, np.nan, data.draw(st.sampled_from(["f4", "f8"])))
    stitch(grid, windows, out, patches, mode=mode)
    plain = with_channels(grid, windows, None)[1]
    oracle = weighted_mean(plain, mode, [channels_first(result.axes, p.astype("f8")) for p in patches])
    assert np.abs(channels_first(result.axes, out) - oracle).max() <= 1e-5 * 200


@pytest.mark.parametrize("mode", MODES)
@given(data=st.data())
def test_constant_one_gives_one_and_the_identity_the_original(mode, data):
    """Integers as float32 holds them, and any float32; see the docstring."""
    grid, windows = data.draw(tasks())
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    for volume in (
        np.ones(grid.shape, np.int16),
        rng.integers(-(2**24), 2**24 + 1, grid.shape),
        rng.integers(-1024, 3072, grid.shape).astype(np.int16),
        rng.normal(0, 1e-3, grid.shape).astype(np.float32),
    ):
        pad = [(0, max(0, w - n)) for n, w in zip(grid.shape, windows.window, strict=True)]
        padded = np.pad(volume, pad, constant_values=77)
        out = np.full(grid.shape, np.nan, np.float32)
        stitch(grid, windows, out, [padded[w.slices] for w in windows], mode=mode)
        assert np.array_equal(out, volume)


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=60)
@given(data=st.data())
def test_labels_are_the_argmax_of_the_weighted_mean(mode, data):
    grid, windows = data.draw(tasks())
    channels = data.draw(st.integers(1, 5))
    result, tiles = with_channels(grid, windows, channels)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    # Small integers: equal scores are frequent where a single window covers a voxel, and exact there.
    patches = rng.integers(0, 4, (len(tiles), *tiles.window)).astype(np.float32)
    labels, plain = with_channels(grid, windows, None)
    out = np.full(labels.shape, 99, data.draw(st.sampled_from(["u1", "i4"])))
    stitch(grid, windows, out, patches, mode=mode, categories={k: f"class {k}" for k in range(1, channels)})
    oracle = weighted_mean(plain, mode, [channels_first(result.axes, p) for p in patches])
    best = oracle.max(0)
    chosen = np.take_along_axis(oracle, out[np.newaxis].astype(int), 0)[0]
    assert (best - chosen).max() <= 1e-5
    clear = (best - oracle > 1e-5).sum(0) == channels - 1
    assert np.array_equal(out[clear], oracle.argmax(0)[clear])
    alone = np.zeros(labels.shape, int)
    for window in plain:
        alone[window.clip(labels.shape).inside] += 1
    assert np.array_equal(out[alone == 1], oracle.argmax(0)[alone == 1]), "the first of equal classes"


@given(data=st.data())
def test_a_halo_is_cut_off(data):
    grid, windows = data.draw(tasks())
    halo = data.draw(st.integers(0, 3) | st.tuples(*[st.integers(0, 2) if a != "c" else st.just(0) for a in grid.axes]))
    per_axis = [halo if a in "zyx" else 0 for a in grid.axes] if isinstance(halo, int) else halo
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    patches = rng.random((len(windows), *windows.window), np.float32)
    # What lies in the halo must not matter, not even when it is no number.
    wide = np.pad(patches, [(0, 0), *((h, h) for h in per_axis)], constant_values=np.nan)
    expected, found = np.zeros((2, *grid.shape), np.float32)
    stitch(grid, windows, expected, patches)
    stitch(grid, windows, found, [wide[i] if i % 2 else patches[i] for i in range(len(windows))], halo=halo)
    assert np.array_equal(found, expected)


class TestFile:
    GRID = Grid("zyx", (70, 41, 50), [[0.1, 0, 0.7, -20], [0, 0.7, 0.1, 5.5], [2.5, 0, 0, 100], [0, 0, 0, 1]])
    TURN = Reorientation((1, 0, 2), (True, False, False))

    def windows(self, window=(24, 30, 20)):
        return SlidingWindows(self.GRID.shape, window, 0.5)

    def patches(self, windows, channels, seed=0):
        rng = np.random.default_rng(seed)
        for window in windows:
            yield rng.random((*channels, *window.shape), np.float32)

    def test_scores_open_as_an_image_of_the_same_grid(self, tmp_path):
        windows, path = self.windows(), tmp_path / "case-1.h5"
        stitch(self.GRID, windows, path, self.patches(windows, ()), halo=2, reorientation=self.TURN)
        in_memory = np.zeros(self.GRID.shape, np.float32)
        stitch(self.GRID, windows, in_memory, self.patches(windows, ()))
        case = ndvol.open_case(path)
        volume = case.images["prediction"]
        assert (case.name, volume.grid, volume.dtype, dict(case.labels)) == ("case-1", self.GRID, np.float32, {})
        assert np.array_equal(np.asarray(volume), in_memory)
        assert volume.attributes["reorientation"] == {"order": [1, 0, 2], "flips": [True, False, False]}
        assert verify_file(path) == []
        assert [p.name for p in tmp_path.iterdir()] == ["case-1.h5"]
        facts = {"mode": "gaussian", "window": [24, 30, 20], "overlap": [0.5, 0.5, 0.5], "halo": [2, 2, 2]}
        assert read_provenance(path)["stitched"] == facts

    def test_channels_and_time(self, tmp_path):
        grid = Grid.regular("tzyx", (3, 37, 20, 9), spacing=(1, 1, 1))
        windows = SlidingWindows(grid.shape, (1, 16, 16, 9), (0, 0.5, 0.25, 0))
        rng = np.random.default_rng(0)
        patches = rng.random((len(windows), 1, 2, 16, 16, 9), np.float32)
        in_memory = np.zeros((3, 2, 37, 20, 9), np.float32)
        stitch(grid, windows, in_memory, patches)
        stitch(grid, windows, tmp_path / "a.h5", patches)
        volume = ndvol.open_case(tmp_path / "a.h5").images["prediction"]
        assert (volume.axes, volume.grid.frame) == ("tczyx", "LPS")
        assert np.array_equal(np.asarray(volume), in_memory)
        assert np.array_equal(volume.grid.affine, grid.affine)

    def test_labels_open_with_categories_and_an_index(self, tmp_path):
        windows, path = self.windows(), tmp_path / "a.h5"
        names = {1: "liver", 2: "lesion", 3: "never"}
        patches = [p - [[[[0.0]]], [[[0.1]]], [[[0.15]]], [[[9.0]]]] for p in self.patches(windows, (4,))]
        for window, patch in zip(windows, patches, strict=True):
            # Background alone, so that there are chunks which are not stored.
            patch[0] += 50 * (window.start[0] < 32)
        stitch(self.GRID, windows, path, patches, categories=names)
        in_memory = np.zeros(self.GRID.shape, np.uint8)
        stitch(self.GRID, windows, in_memory, patches, categories=names)
        case = ndvol.open_case(path)
        labels = case.labels["prediction"]
        array = np.asarray(labels)
        assert np.array_equal(array, in_memory)
        assert set(np.unique(array)) == {0, 1, 2}
        assert (labels.grid, labels.dtype, labels.categories) == (self.GRID, np.uint8, names)
        assert np.array_equal(read_objects(path, "prediction"), find_objects(array, "category"))
        with h5py.File(path, locking=False) as file:
            stored = file["labels/prediction/0"]
            assert np.array_equal(file["labels/prediction/index/counts"][...], count_chunks(array, stored.chunks))
            assert stored.id.get_num_chunks() < np.prod(chunk_counts(array.shape, stored.chunks))
        assert labels.index.values == (1, 2)
        assert array[labels.index.voxel(2, 5)] == 2
        assert labels.attributes["objects"] == "category"

    def test_the_same_patches_make_the_same_bytes_and_others_another_uuid(self, tmp_path):
        windows = self.windows()
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            (tmp_path / name).mkdir()
            stitch(self.GRID, windows, tmp_path / name / "case.h5", self.patches(windows, (), seed))
        a, b, c = (tmp_path / name / "case.h5" for name in "abc")
        assert a.read_bytes() == b.read_bytes()
        assert read_identity(a)["uuid"] != read_identity(c)["uuid"]
        assert len(read_identity(a)["uuid"]) == 36

    def test_nothing_appears_before_the_end_or_after_an_error(self, tmp_path):
        windows, path = self.windows(), tmp_path / "a.h5"
        path.write_bytes(b"older")

        def stop_halfway():
            with Stitcher(self.GRID, windows, path) as stitcher:
                for number, (window, patch) in enumerate(zip(windows, self.patches(windows, ()), strict=True)):
                    stitcher.add(window, patch)
                    assert path.read_bytes() == b"older"
                    if number == len(windows) // 2:
                        raise KeyError("the model")

        with pytest.raises(KeyError, match="the model"):
            stop_halfway()
        assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]
        assert path.read_bytes() == b"older"

    def test_missing_windows_are_no_file(self, tmp_path):
        windows, path = self.windows(), tmp_path / "a.h5"
        stitcher = Stitcher(self.GRID, windows, path)
        patches = self.patches(windows, ())
        for window in list(windows)[:-1]:
            stitcher.add(window, next(patches))
        with pytest.raises(WindowError, match=r"closed before all windows.*got 39 of 40; expected next the window at"):
            stitcher.close()
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(WindowError, match="the stitcher is closed"):
            stitcher.add(windows[len(windows) - 1], next(patches))

    def test_a_folder_that_is_not_there(self, tmp_path):
        windows = self.windows()
        stitcher = Stitcher(self.GRID, windows, tmp_path / "no" / "a.h5")
        with pytest.raises(StoreError, match="cannot write"):
            stitcher.add(windows[0], np.zeros(windows.window))

    def test_a_write_that_fails_gives_the_file_up(self, tmp_path, monkeypatch):
        windows = self.windows()
        stitcher = Stitcher(self.GRID, windows, tmp_path / "a.h5")
        patches = self.patches(windows, ())

        def full(*args):
            raise OSError(28, "No space left on device")

        stitcher.add(windows[0], next(patches))
        monkeypatch.setattr("ndvol.store.chunked.ChunkedDataset._store", full)
        rest = list(windows)[1:]
        with pytest.raises(StorageFullError, match="no space left"):
            any(stitcher.add(window, next(patches)) for window in rest)
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(WindowError, match="closed"):
            stitcher.add(windows[0], next(patches))


class TestRefused:
    GRID = Grid.regular("yx", (6, 8))
    TILES = SlidingWindows((6, 8), (4, 4), 0.5)
    COLOURS = Grid.regular("cx", (3, 8))

    def stitcher(self, **options):
        return Stitcher(self.GRID, self.TILES, np.zeros((6, 8), np.float32), **options)

    @pytest.mark.parametrize(
        ("at", "message"),
        [
            (0, r"window 0 has come already; got \(0, 0\) \+ \(4, 4\); expected window 2 at \(0, 4\); add each window"),
            (1, "window 1 has come already"),
            (4, r"window 4 comes too early: 2 before it are missing; got \(2, 2\)"),
            (5, "window 5 comes too early: 3 before it are missing"),
        ],
    )
    def test_disorder(self, at, message):
        stitcher = self.stitcher()
        for window in (self.TILES[0], self.TILES[1]):
            stitcher.add(window, np.zeros((4, 4)))
        with pytest.raises(WindowError, match=message) as error:
            stitcher.add(self.TILES[at], np.zeros((4, 4)))
        assert error.value.code == "window-order"
        # A refused window changes nothing.
        for window in list(self.TILES)[2:]:
            stitcher.add(window, np.zeros((4, 4)))
        stitcher.close()
        stitcher.close()

    @pytest.mark.parametrize("window", [Window((1, 0), (4, 4)), Window((0, 0), (4, 3)), Window((0,), (4,))])
    def test_a_stranger(self, window):
        with pytest.raises(WindowError, match="no window of the stitcher's grid"):
            self.stitcher().add(window, np.zeros(window.shape))

    def test_more_windows_than_there_are(self):
        stitcher = self.stitcher()
        for window in self.TILES:
            stitcher.add(window, np.zeros((4, 4)))
        with pytest.raises(WindowError, match=r"window 5 has come already.*expected no more windows"):
            stitcher.add(self.TILES[5], np.zeros((4, 4)))

    def test_no_windows_at_all(self):
        with pytest.raises(WindowError, match=r"got 0 of 6; expected next the window at \(0, 0\)") as error:
            self.stitcher().close()
        assert error.value.code == "missing-windows"

    @pytest.mark.parametrize(
        "patch",
        [
            np.zeros((4, 5)),
            np.zeros((4, 4, 2)),
            np.zeros((2, 2, 4, 4)),
            np.zeros(4),
            np.zeros((0, 4, 4)),
            np.zeros((5, 4)),
            np.zeros((6, 4)),
            np.zeros((4, 4), complex),
            np.full((4, 4), "a"),
        ],
    )
    def test_patches_of_another_shape(self, patch):
        with pytest.raises(WindowError, match=r"does not fit its window.*expected numbers \(4, 4\) or \(6, 6\)"):
            self.stitcher(halo=1).add(self.TILES[0], patch)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
    def test_values_that_are_no_numbers(self, value):
        patch = np.zeros((4, 4))
        patch[1, 2] = value
        with pytest.raises(WindowError, match="holds nan, inf or values beyond 1e\\+38"):
            self.stitcher().add(self.TILES[0], patch)

    def test_values_outside_the_volume_do_not_matter(self):
        grid, tiles = Grid.regular("x", (3,)), SlidingWindows((3,), (5,))
        out = np.zeros(3)
        stitch(grid, tiles, out, [np.array([1, 2, 3, np.nan, np.inf])])
        assert out.tolist() == [1, 2, 3]

    def test_channels_that_change(self):
        stitcher = Stitcher(self.GRID, self.TILES, np.zeros((2, 6, 8)))
        stitcher.add(self.TILES[0], np.zeros((2, 4, 4)))
        for patch, got in ((np.zeros((3, 4, 4)), "3"), (np.zeros((4, 4)), "None")):
            with pytest.raises(WindowError, match=f"differ in channels; got {got}|differ in channels; expected 2"):
                stitcher.add(self.TILES[1], patch)

    @pytest.mark.parametrize(
        ("out", "channels"),
        [
            (np.zeros((6, 7), np.float32), ()),
            (np.zeros((6, 8), np.int16), ()),
            (np.zeros((6, 8), np.float16), ()),
            (np.zeros((6, 8), np.float32), (2,)),
            (np.zeros((2, 6, 8), np.float32), ()),
        ],
    )
    def test_arrays_that_cannot_hold_the_result(self, out, channels):
        with pytest.raises(OptionError, match="the array cannot hold the result"):
            Stitcher(self.GRID, self.TILES, out).add(self.TILES[0], np.zeros((*channels, 4, 4)))

    @pytest.mark.parametrize(
        ("categories", "channels"), [({1: "a"}, ()), ({1: "a"}, (3,)), ({0: "b", 1: "a"}, (2,)), ({2: "a"}, (2,))]
    )
    def test_categories_of_other_classes(self, categories, channels):
        stitcher = Stitcher(self.GRID, self.TILES, np.zeros((6, 8), np.uint8), categories=categories)
        with pytest.raises(OptionError, match="must name the classes 1, 2, …"):
            stitcher.add(self.TILES[0], np.zeros((*channels, 4, 4)))

    def test_too_many_classes_for_the_array(self):
        names = {k: str(k) for k in range(1, 257)}
        stitcher = Stitcher(self.GRID, self.TILES, np.zeros((6, 8), np.uint8), categories=names)
        with pytest.raises(OptionError, match=r"cannot hold the result; got uint8 .*expected uint16"):
            stitcher.add(self.TILES[0], np.zeros((257, 4, 4)))

    @pytest.mark.parametrize(
        ("grid", "tiles", "options", "error", "message"),
        [
            (GRID, SlidingWindows((6, 9), (4, 4)), {}, WindowError, r"do not tile the grid; got \(6, 9\)"),
            (Grid.regular("yx", (0, 8)), SlidingWindows((0, 8), (4, 4)), {}, WindowError, "do not tile"),
            (Grid.regular("c", (3,)), SlidingWindows((3,), (3,)), {}, WindowError, "do not tile"),
            (COLOURS, SlidingWindows((3, 8), (1, 4)), {}, WindowError, "windows with all channels"),
            (
                COLOURS,
                SlidingWindows((3, 8), (3, 4)),
                {"halo": (1, 0)},
                WindowError,
                "no halo along",
            ),
            (GRID, TILES, {"mode": "median"}, OptionError, "no such mode; got 'median'"),
            (GRID, TILES, {"halo": -1}, OptionError, "a halo must be a whole number"),
            (GRID, TILES, {"halo": (1, 1, 1)}, WindowError, "a halo needs one value per axis"),
        ],
    )
    def test_tilings_and_options(self, grid, tiles, options, error, message):
        with pytest.raises(error, match=message) as found:
            Stitcher(grid, tiles, np.zeros(grid.shape), **options)
        assert isinstance(found.value, NdvolError)
