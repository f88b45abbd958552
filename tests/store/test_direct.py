"""The direct path: that it runs where it should, that h5py reads the rest, and that both give the same voxels."""

from __future__ import annotations

import h5py
import hdf5plugin
import numpy as np
import pytest

from ndvol.errors import DamageError
from ndvol.geometry import Grid, Window
from ndvol.store import CaseWriter, Codec, open_case, open_hdf5
from ndvol.store.arrays import StoredArray
from ndvol.store.direct import direct_reader, has_known_filters, is_chunked, is_guarded
from ndvol.store.positions import MappedBytes, PositionedBytes

SHAPE = (40, 37, 50)


def voxels(dtype="i2"):
    return np.abs(np.random.default_rng(0).normal(size=SHAPE) * 10).round().astype(dtype)


@pytest.fixture
def no_h5py(monkeypatch):
    """Makes reading voxels through h5py fail, so that a test proves which path ran."""

    def refuse(*_, **__):
        raise AssertionError("voxels were read through h5py")

    monkeypatch.setattr(h5py.Dataset, "read_direct", refuse)


@pytest.mark.parametrize("compressor", ["lz4", "lz4hc", "zstd", "gzip"])
def test_our_files_are_read_without_hdf5(tmp_path, no_h5py, compressor):
    with CaseWriter(tmp_path / "a.h5", case="a", uuid="", codec=Codec(compressor)) as writer:
        writer.add_image("i", voxels(), Grid.regular("zyx", SHAPE))
        writer.add_label("l", (voxels() > 5).astype(np.uint8), Grid.regular("zyx", SHAPE), categories={1: "one"})
    case = open_case(tmp_path / "a.h5")
    np.testing.assert_array_equal(case.images["i"], voxels())
    np.testing.assert_array_equal(case.labels["l"], voxels() > 5)


def test_the_switch_turns_it_off(tmp_path, no_h5py, monkeypatch):
    with CaseWriter(tmp_path / "a.h5", case="a", uuid="") as writer:
        writer.add_image("i", voxels(), Grid.regular("zyx", SHAPE))
    monkeypatch.setenv("NDVOL_DIRECT", "0")
    with pytest.raises(AssertionError, match="through h5py"):
        np.asarray(open_case(tmp_path / "a.h5").images["i"])


DIRECT = {
    "plain": {},
    "gzip": {"compression": "gzip"},
    "gzip + shuffle": {"compression": "gzip", "shuffle": True},
    "blosc": dict(hdf5plugin.Blosc(cname="zstd", shuffle=hdf5plugin.Blosc.BITSHUFFLE)),
}
THROUGH_H5PY = {
    "lzf": {"compression": "lzf"},
    "zstd": dict(hdf5plugin.Zstd()),
    "checksum of another": {"fletcher32": True},
}


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "u1", "<f4", ">f8"])
@pytest.mark.parametrize("how", DIRECT)
def test_files_of_others_are_read_without_hdf5(tmp_path, no_h5py, how, dtype):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=voxels(dtype), chunks=(16, 16, 16), **DIRECT[how])
    volume = open_hdf5(tmp_path / "a.h5", "x", axes="zyx")
    np.testing.assert_array_equal(volume, voxels(dtype))
    window = Window((-3, 30, 17), (20, 20, 20))
    np.testing.assert_array_equal(volume.read(window)[3:, :7], voxels(dtype)[:17, 30:, 17:37])


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "u1", "<f4", ">f8"])
@pytest.mark.parametrize("block", [0, 1024])
def test_contiguous_data_of_others_are_read_without_hdf5(tmp_path, no_h5py, block, dtype):
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=block) as file:
        file["before"] = np.arange(7, dtype=np.uint8)
        file["x"] = voxels(dtype)
    volume = open_hdf5(tmp_path / "a.h5", "x", axes="zyx")
    np.testing.assert_array_equal(volume, voxels(dtype))
    window = Window((-3, 30, 17), (20, 20, 20))
    np.testing.assert_array_equal(volume.read(window)[3:, :7], voxels(dtype)[:17, 30:, 17:37])
    assert volume.source.cost(window) == (17 * 7 * 20 * np.dtype(dtype).itemsize,) * 2


def test_contiguous_data_that_were_cut_are_refused(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = voxels()
    volume = open_hdf5(path, "x", axes="zyx")
    assert volume[0, 0, 0] == voxels()[0, 0, 0]
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(DamageError, match="cannot be read"):
        np.asarray(volume)


def test_compact_and_unwritten_data_are_read_through_h5py(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("unwritten", (3, 4), "i2", fillvalue=7)
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((2, 3))
        h5py.h5d.create(file.id, b"compact", h5py.h5t.NATIVE_INT16, space, plist)
        file["compact"][...] = [[1, 2, 3], [4, 5, 6]]
        assert direct_reader(StoredArray.of(file["unwritten"]), None) is None
        assert direct_reader(StoredArray.of(file["compact"]), None) is None
    assert (np.asarray(open_hdf5(tmp_path / "a.h5", "unwritten", axes="yx")) == 7).all()
    assert np.asarray(open_hdf5(tmp_path / "a.h5", "compact", axes="yx")).tolist() == [[1, 2, 3], [4, 5, 6]]


def test_chunks_stored_without_their_filter_are_read_through_h5py(tmp_path):
    """HDF5 skips an optional filter for a chunk that it does not make smaller."""
    noise = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", data=noise, chunks=(16, 16, 16), **DIRECT["blosc"])
        assert any(dataset.id.get_chunk_info(i).filter_mask for i in range(dataset.id.get_num_chunks()))
        assert direct_reader(StoredArray.of(dataset), None) is None
    np.testing.assert_array_equal(open_hdf5(tmp_path / "a.h5", "x", axes="zyx"), noise)


@pytest.mark.parametrize("how", THROUGH_H5PY)
def test_the_rest_is_read_through_h5py(tmp_path, how):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", data=voxels(), chunks=(16, 16, 16), **THROUGH_H5PY[how])
        assert direct_reader(StoredArray.of(dataset), None) is None
    np.testing.assert_array_equal(open_hdf5(tmp_path / "a.h5", "x", axes="zyx"), voxels())


def test_the_predicates_say_why(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        contiguous = file.create_dataset("contiguous", data=voxels())
        lzf = file.create_dataset("lzf", data=voxels(), chunks=(8, 8, 8), compression="lzf")
        guarded = file.create_dataset("guarded", data=voxels(), chunks=(8, 8, 8), fletcher32=True)
        empty = file.create_dataset("empty", (0, 4), "i2", chunks=(1, 4), maxshape=(None, 4))
        contiguous, lzf, guarded, empty = map(StoredArray.of, (contiguous, lzf, guarded, empty))
        assert (is_chunked(contiguous), is_chunked(empty), is_chunked(lzf)) == (False, False, True)
        assert (has_known_filters(lzf), has_known_filters(guarded)) == (False, True)
        assert (is_guarded(guarded, None), is_guarded(guarded, {}), is_guarded(lzf, None)) == (False, True, True)


def test_a_chunk_that_inflates_to_more_is_refused(tmp_path):
    """A hostile chunk may claim to be small and inflate for ever."""
    import zlib

    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", (8, 8), "u1", chunks=(8, 8), compression="gzip")
        dataset.id.write_direct_chunk((0, 0), zlib.compress(bytes(10**7)))
    with pytest.raises(OSError, match="cannot be decoded: 65 bytes instead of 64"):
        np.asarray(open_hdf5(tmp_path / "a.h5", "x", axes="yx"))


def test_unwritten_chunks_have_the_fill_value(tmp_path, no_h5py):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (10, 10), "i2", chunks=(4, 4), fillvalue=-5)[0, 0] = 3
    found = np.asarray(open_hdf5(tmp_path / "a.h5", "x", axes="yx"))
    assert (found[0, 0], found[0, 1], found[9, 9]) == (3, -5, -5)


def test_chunks_are_announced_once_and_neighbours_as_one_run(tmp_path, monkeypatch):
    with CaseWriter(tmp_path / "a.h5", case="a", uuid="", codec="none") as writer:
        writer.add_image("i", voxels(), Grid.regular("zyx", SHAPE))
    announced = []
    monkeypatch.setattr(MappedBytes, "expect", lambda _, runs: announced.append(list(runs)))
    volume = open_case(tmp_path / "a.h5").images["i"]
    with h5py.File(tmp_path / "a.h5", locking=False) as file:
        dataset = file["images/i/0"]
        chunks = [dataset.id.get_chunk_info(n) for n in range(dataset.id.get_num_chunks())]
    where = {n.chunk_offset: (n.byte_offset, n.byte_offset + n.size) for n in chunks}
    volume.read(Window((0, 0, 0), (1, 1, 50)))
    volume.read(Window((0, 0, 0), (1, 37, 50)))
    volume.read(Window((0, 0, 0), (1, 37, 50)))
    told = [run for runs in announced for run in runs]
    assert sorted(b for a, c in told for b in range(a, c)) == sorted(
        b for at, (a, c) in where.items() if at[0] == 0 for b in range(a, c)
    )
    assert len(told) < len([at for at in where if at[0] == 0])


@pytest.mark.parametrize("kind", [MappedBytes, PositionedBytes])
def test_bytes_that_are_not_there_may_be_announced(tmp_path, kind):
    (tmp_path / "a").write_bytes(bytes(range(200)) * 50)
    with (tmp_path / "a").open("rb") as file:
        source = kind(file.fileno())
    source.expect([(0, 10), (4097, 9000), (9990, 20_000)])
    assert bytes(source.read(4097, 3)) == bytes([97, 98, 99])
