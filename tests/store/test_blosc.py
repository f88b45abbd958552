from __future__ import annotations

import struct

import numcodecs.blosc
import numpy as np
import pytest

from ndvol.store import blosc
from ndvol.store.blosc import ChunkBuffer, compress, decode, plane_axis, plane_size

CHUNKS = [(32, 32, 32), (7, 5, 3), (1, 1, 16, 32, 32), (64, 64), (500,), (1, 1)]
DTYPES = ["u1", "<i2", "<f4", ">u2", "<f8"]
COMPRESSORS = ["lz4hc", "lz4", "zstd", "blosclz"]


def voxels(shape, dtype, seed=0):
    noise = np.random.default_rng(seed).normal(40, 18, shape)
    return noise.astype(dtype)


def block_size(data):
    return struct.unpack_from("<4B3I", data)[5]


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("chunk", CHUNKS, ids=str)
def test_any_run_of_items_comes_back(chunk, dtype, compressor):
    rng = np.random.default_rng(1)
    array = voxels(chunk, dtype)
    for in_planes in (True, False):
        data = compress(array, compressor, 5, 1, in_planes=in_planes)
        for _ in range(5):
            first, last = sorted(rng.integers(0, array.size + 1, 2).tolist())
            buffer = ChunkBuffer(chunk, array.dtype)
            decode(data, data, buffer, first, max(last, first + 1) if first < array.size else first)
            np.testing.assert_array_equal(buffer.array.ravel()[first:last], array.ravel()[first:last])


@pytest.mark.parametrize(("dtype", "planes"), [("u1", 16), ("<i2", 8), ("<f4", 4), ("<f8", 2)])
def test_blocks_are_whole_planes_and_no_others_are_decoded(dtype, planes):
    array = voxels((32, 32, 32), dtype)
    data = compress(array, "lz4hc", 1, 1, in_planes=True)
    assert block_size(data) == blosc.BLOCK == planes * 1024 * array.itemsize
    buffer = ChunkBuffer(array.shape, array.dtype)
    buffer.array[:] = 99
    decode(data, data, buffer, planes * 1024, 2 * planes * 1024)
    np.testing.assert_array_equal(buffer.array[planes : 2 * planes], array[planes : 2 * planes])
    assert (buffer.array[:planes] == 99).all()
    assert (buffer.array[2 * planes :] == 99).all()


def test_the_bytes_that_are_decoded_are_counted():
    array = voxels((32, 32, 32), "<i2")
    for in_planes in (True, False):
        data = compress(array, "lz4hc", 1, 1, in_planes=in_planes)
        for first, last in ((0, 1), (0, 8192), (8191, 8193), (1000, 20_000), (0, array.size)):
            buffer = ChunkBuffer(array.shape, array.dtype)
            buffer.array[:] = -9999
            decode(data, data, buffer, first, last)
            # Of a block that is wanted in part only the items are copied: count the blocks.
            blocks = (buffer.array.reshape(-1, block_size(data) // 2) != -9999).any(1).sum()
            assert blosc.decoded_bytes(data, buffer, first, last) == blocks * block_size(data)


def test_planes_lie_along_the_first_axis_that_has_several():
    assert [plane_axis(chunk) for chunk in CHUNKS] == [0, 0, 2, 0, 0, 0]
    assert [plane_size(chunk) for chunk in CHUNKS] == [1024, 15, 1024, 64, 1, 1]


def test_items_of_another_size_than_the_type_are_read_as_bytes():
    """Others may have compressed voxels of two bytes as bytes."""
    array = voxels((32, 32, 32), "<i2")
    data = numcodecs.blosc.compress(array.view(np.uint8), b"lz4", 5, 1)
    buffer = ChunkBuffer(array.shape, array.dtype)
    decode(data, data, buffer, 1024, 2048)
    np.testing.assert_array_equal(buffer.array[1], array[1])


def test_without_the_functions_of_c_chunks_are_decoded_whole(monkeypatch):
    array = voxels((32, 32, 32), "<i2")
    data = compress(array, "lz4hc", 1, 1, in_planes=True)
    monkeypatch.setattr(blosc, "_C", None)
    buffer = ChunkBuffer(array.shape, array.dtype)
    decode(data, data, buffer, 1024, 2048)
    np.testing.assert_array_equal(buffer.array, array)


@pytest.mark.parametrize("change", ["cut", "longer", "other size", "empty"])
def test_bytes_that_are_no_chunk_of_the_size_are_refused(change):
    array = voxels((32, 32, 32), "<i2")
    data = compress(array, "lz4hc", 1, 1, in_planes=True)
    changed = {
        "cut": data[:-1],
        "longer": data + b"\0",
        "other size": compress(array[:16], "lz4hc", 1, 1, in_planes=True),
        "empty": b"",
    }[change]
    for first, last in ((0, array.size), (0, 1024)):
        with pytest.raises(RuntimeError, match="Blosc"):
            decode(changed, changed, ChunkBuffer(array.shape, array.dtype), first, last)


def test_damaged_bytes_end_in_an_error_or_in_other_voxels():
    """A file may bring hashes that fit its damage: whatever the bytes, nothing is read or written beside them."""
    rng = np.random.default_rng(0)
    array = voxels((8, 32, 32), "<i2")
    for in_planes in (True, False):
        data = compress(array, "lz4hc", 1, 1, in_planes=in_planes)
        for number in range(3000):
            changed = bytearray(data)
            for at in rng.integers(0, 48 if number % 2 else len(data), rng.integers(1, 4)):
                changed[at] = rng.integers(256)
            buffer = ChunkBuffer(array.shape, array.dtype)
            first = int(rng.integers(0, array.size - 1))
            last = int(rng.integers(first + 1, array.size + 1))
            try:
                decode(bytes(changed), bytes(changed), buffer, first, last)
            except RuntimeError:
                continue
