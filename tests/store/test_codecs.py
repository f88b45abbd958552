"""Every codec that an import can choose: readable as promised, as small as promised, damage found."""

from __future__ import annotations

import subprocess
import sys

import h5py
import numpy as np
import pytest

from ndvol.errors import DamageError, OptionError
from ndvol.geometry import Grid
from ndvol.geometry.tiling import chunk_window
from ndvol.store import CODECS, CaseWriter, open_case, verify_file
from ndvol.store.codec import choose_codec

SHAPE = (40, 70, 33)
NOISE = np.random.default_rng(0).normal(size=SHAPE)


def write(path, image, *, codec, levels=1, labels=None):
    grid = Grid.regular("zyx", image.shape)
    with CaseWriter(path, case="toy", uuid="0", codec=codec, levels=levels) as writer:
        writer.add_image("CT", image, grid)
        if labels is not None:
            writer.add_label("organs", labels, grid, categories={1: "one"})
    return open_case(path)


def test_portable_and_uncompressed_files_need_no_plug_in(tmp_path):
    """Plain h5py in a process of its own, without hdf5plugin or ndvol."""
    image = (NOISE * 40).astype(np.int16)
    np.save(tmp_path / "image.npy", image)
    code = (
        "import sys, h5py, numpy as np\n"
        "for name in sys.argv[2:]:\n"
        "    stored = h5py.File(f'{sys.argv[1]}/{name}.h5', 'r')['images/CT/0'][...]\n"
        "    assert np.array_equal(stored, np.load(f'{sys.argv[1]}/image.npy')), name\n"
        "assert 'hdf5plugin' not in sys.modules and 'ndvol' not in sys.modules\n"
    )
    for name in ("portable", "none"):
        write(tmp_path / f"{name}.h5", image, codec=name)
    subprocess.run([sys.executable, "-c", code, str(tmp_path), "portable", "none"], check=True)


def test_small_tries_both_shuffles_on_each_volume():
    bytewise, bitwise = CODECS["small"]
    rng = np.random.default_rng(0)
    noisy = rng.integers(0, 8, (64, 64, 64)).astype(np.int16)
    assert choose_codec(CODECS["small"], noisy, (32, 32, 32)) is bitwise
    # Phrases that do not begin at multiples of eight bytes.
    phrases = rng.integers(0, 256, (20, 37), np.uint8)[rng.integers(0, 20, 7100)]
    words = phrases.ravel()[: 64**3].reshape(64, 64, 64)
    blocks = [np.ascontiguousarray(words[k : k + 8]) for k in range(0, 64, 8)]
    sizes = [sum(len(codec.encode(block)) for block in blocks) for codec in (bytewise, bitwise)]
    assert sizes[0] < sizes[1]
    assert choose_codec(CODECS["small"], words, (8, 64, 64)) is bytewise
    for nothing in (np.zeros((64, 64, 64), np.uint8), np.zeros((0, 3, 3), np.uint8)):
        assert choose_codec(CODECS["small"], nothing, (32, 3, 3)) is bytewise
    assert choose_codec(CODECS["small"], noisy.astype(">i2"), (32, 32, 32)) is bitwise


def test_small_is_smaller_and_none_is_larger(tmp_path):
    image = (NOISE * 20).astype(np.int16)
    sizes = {}
    for name in CODECS:
        write(tmp_path / f"{name}.h5", image, codec=name)
        sizes[name] = (tmp_path / f"{name}.h5").stat().st_size
    assert sizes["small"] < sizes["fast"] < sizes["none"]
    assert sizes["portable"] < sizes["none"]


def test_an_unknown_codec_is_refused(tmp_path):
    with pytest.raises(OptionError, match="no such codec; got 'zip'; expected one of fast, small, portable, none"):
        CaseWriter(tmp_path / "a.h5", case="a", codec="zip")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_a_flipped_bit_in_any_stored_chunk_is_named(tmp_path, codec):
    rng = np.random.default_rng(1)
    labels = (NOISE > 1).astype(np.uint8)
    write(tmp_path / "toy.h5", (NOISE * 20).astype(np.int16), codec=codec, levels=3, labels=labels)
    raw, chunks = (tmp_path / "toy.h5").read_bytes(), []
    with h5py.File(tmp_path / "toy.h5", "r", locking=False) as file:
        for name in [f"{group}/{level}" for group in ("images/CT", "labels/organs") for level in range(3)]:
            dataset = file[name]
            for k in range(dataset.id.get_num_chunks()):
                chunks.append((name, dataset.shape, dataset.chunks, dataset.id.get_chunk_info(k)))
    assert len(chunks) > 20
    for k, (name, shape, chunk, info) in enumerate(chunks):
        path = tmp_path / f"case-{k}.h5"
        damaged = bytearray(raw)
        damaged[info.byte_offset + int(rng.integers(info.size))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        at = tuple(o // c for o, c in zip(info.chunk_offset, chunk, strict=True))
        number = int(np.ravel_multi_index(at, [-(-n // c) for n, c in zip(shape, chunk, strict=True)]))
        box = chunk_window(number, shape, chunk)
        group, volume, level = name.split("/")
        with pytest.raises(DamageError) as caught:
            getattr(open_case(path), group)[volume].read(box, level=int(level))
        error = caught.value
        assert (error.path, error.dataset, error.window) == (str(path), name, box)
        for fact in (f"case-{k}.h5", f"chunk {number} ", name, f"{box.start} … {box.stop}"):
            assert fact in str(error)
        assert [(d.dataset, d.box) for d in verify_file(path)] == [(name, box)]
        path.unlink()
