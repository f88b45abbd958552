"""Windows of stored volumes against a brute-force oracle, for every dtype, chunk shape and side of the volume."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndvol.errors import WindowError
from ndvol.geometry import Grid, Window
from ndvol.store import CODECS, CaseWriter, open_case, open_hdf5, verify_file
from ndvol.store.arrays import StoredArray
from ndvol.store.direct import DirectReader, direct_reader

AXES = {1: "x", 2: "yx", 3: "zyx", 4: "tzyx"}
DTYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


def oracle(array, window, fill_value):
    """Voxel by voxel: inside the volume its value, outside the fill value."""
    patch = np.full(window.shape, fill_value, array.dtype)
    for at in np.ndindex(*window.shape):
        source = tuple(a + i for a, i in zip(window.start, at, strict=True))
        if all(0 <= s < n for s, n in zip(source, array.shape, strict=True)):
            patch[at] = array[source]
    return patch


@st.composite
def volumes_and_windows(draw):
    ndim = draw(st.integers(1, 4))
    longest = {1: 40, 2: 12, 3: 7, 4: 5}[ndim]
    shape = tuple(draw(st.lists(st.integers(1, longest), min_size=ndim, max_size=ndim)))
    chunk = tuple(draw(st.integers(1, n)) for n in shape)
    dtype = np.dtype(draw(st.sampled_from(DTYPES))).newbyteorder(draw(st.sampled_from("<>")))
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 256, (*shape, dtype.itemsize), np.uint8)
    array = bits.view(dtype)[..., 0] if dtype.kind != "f" else rng.normal(size=shape).astype(dtype)
    start = tuple(draw(st.integers(-n - 2, n + 2)) for n in shape)
    length = tuple(draw(st.integers(0, n + 3)) for n in shape)
    return array, chunk, Window(start, length)


def check_foreign(folder, case, fill_value):
    array, chunk, window = case
    path = folder / "any.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a/b", data=array, chunks=chunk, compression="gzip", shuffle=True)
    volume = open_hdf5(path, "a/b", axes=AXES[array.ndim])
    expected = oracle(array, window, fill_value)
    patch = volume.read(window, fill_value=fill_value)
    assert patch.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(patch, expected)


@given(volumes_and_windows(), st.integers(0, 100))
@settings(deadline=None)
def test_any_hdf5_data_set_reads_like_the_oracle(tmp_path_factory, case, fill_value):
    check_foreign(tmp_path_factory.mktemp("any"), case, fill_value)


@pytest.mark.slow
@given(volumes_and_windows(), st.integers(0, 100))
@settings(deadline=None, max_examples=2000)
def test_any_hdf5_data_set_reads_like_the_oracle_two_thousand_times(tmp_path_factory, case, fill_value):
    check_foreign(tmp_path_factory.mktemp("any"), case, fill_value)


@given(volumes_and_windows(), st.sampled_from(sorted(CODECS)), st.integers(1, 3))
@settings(deadline=None, max_examples=60)
def test_direct_path_h5py_and_source_agree(tmp_path_factory, drawn, codec, levels):
    array, _, window = drawn
    path = tmp_path_factory.mktemp("written") / "case.h5"
    grid = Grid.regular(AXES[array.ndim], array.shape)
    labels = (np.arange(array.size).reshape(array.shape) % 5 == 0).astype(np.uint8)
    with CaseWriter(path, case="c", uuid="u", codec=codec, levels=levels) as writer:
        writer.add_image("image", array, grid)
        writer.add_label("label", labels, grid, categories={1: "one"})
    case = open_case(path)
    for kind, volume, source, outside in (
        ("images", case.images["image"], array, 7),
        ("labels", case.labels["label"], labels, 0),
    ):
        assert volume.grid == grid
        np.testing.assert_array_equal(volume.read(window, fill_value=outside), oracle(source, window, outside))
        with h5py.File(path, "r", locking=False) as file:
            stored = [file[f"{kind}/{volume.name}/{level}"] for level in range(volume.levels)]
            arrays = map(StoredArray.of, stored)
            assert all(direct_reader(array, np.empty((0, 2), np.uint64)) is not None for array in arrays)
            np.testing.assert_array_equal(stored[0][...], source)
            for level, dataset in enumerate(stored):
                np.testing.assert_array_equal(volume.read(Window.full(dataset.shape), level=level), dataset[...])
    assert verify_file(path) == []


def test_out_of_another_type_is_cast_by_value(tmp_path):
    array = np.array([[-5, 300], [70, 2]], np.int16)
    with CaseWriter(tmp_path / "c.h5", case="c", uuid="u") as writer:
        writer.add_image("image", array, Grid.regular("yx", (2, 2)))
    out = np.empty((2, 2), np.float32)
    result = open_case(tmp_path / "c.h5").images["image"].read(Window.full((2, 2)), out=out)
    assert result is out
    np.testing.assert_array_equal(out, array)


@given(volumes_and_windows(), st.lists(st.integers(-3, 3), max_size=4), st.sampled_from(["1", "0"]))
@settings(deadline=None, max_examples=40)
def test_windows_read_together_are_those_read_alone(tmp_path_factory, case, shifts, direct):
    array, chunk, window = case
    path = tmp_path_factory.mktemp("many") / "any.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=array, chunks=chunk, compression="gzip")
    windows = [window, *(window.shifted([shift] * array.ndim) for shift in shifts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NDVOL_DIRECT", direct)
        found = open_hdf5(path, "a", axes=AXES[array.ndim]).read_many(windows, fill_value=7)
    assert len(found) == len(windows)
    for one, at in zip(found, windows, strict=True):
        np.testing.assert_array_equal(one, oracle(array, at, 7))


def test_windows_read_together_decode_each_chunk_once(tmp_path, monkeypatch):
    array = np.random.default_rng(0).integers(0, 1000, (64, 64, 64)).astype(np.int16)
    with CaseWriter(tmp_path / "case.h5", case="c", uuid="u") as writer:
        writer.add_image("image", array, Grid.regular("zyx", array.shape))
    volume = open_case(tmp_path / "case.h5").images["image"]
    decoded = []
    load = DirectReader._load
    monkeypatch.setattr(
        DirectReader, "_load", lambda self, number, *a: decoded.append(number) or load(self, number, *a)
    )
    windows = [Window((a, 10, 10), (30, 30, 30)) for a in (0, 8, 16)]
    for patch, window in zip(volume.read_many(windows), windows, strict=True):
        np.testing.assert_array_equal(patch, array[window.slices])
    assert decoded == list(range(8))


@pytest.mark.parametrize(
    ("windows", "options", "message"),
    [
        ([Window((0,), (2,)), Window((0, 0), (1, 1))], {}, "got 2 axes"),
        ([Window((0,), (2,))] * 2, {"fill_value": 0.5}, "fill_value does not fit"),
        ([Window((0,), (2,))] * 2, {"level": 1}, "no level 1"),
    ],
)
def test_wrong_windows_are_refused_together_as_alone(tmp_path, windows, options, message):
    with CaseWriter(tmp_path / "case.h5", case="c", uuid="u") as writer:
        writer.add_image("image", np.arange(9, dtype=np.int16), Grid.regular("x", (9,)))
    volume = open_case(tmp_path / "case.h5").images["image"]
    with pytest.raises(WindowError, match=message):
        volume.read_many(windows, **options)
