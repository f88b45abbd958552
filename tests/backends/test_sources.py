"""The law of every backend: its patches are those of the array that the reader gives."""

import pickle
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
from sources import DECODED, IN_PLACE, windows_of

from ndvol import open_volume
from ndvol.backends import backend_of
from ndvol.backends.opened import DecodedSource, find_series, origin_of
from ndvol.backends.stored import ConvertedSource
from ndvol.formats import reader
from ndvol.formats.mapped import MappedSource
from ndvol.formats.tiff_tiles import TileSource
from ndvol.volumes import ArraySource, Volume

BACKENDS = (None, "hdf5", "npy", "cog")


def oracle(path):
    root, series = find_series(path)
    data = reader(series.reader).read(root, series)
    return Volume("image", data.grid, ArraySource(data.array), data.facts)


def assert_equal_patches(volume, truth):
    assert volume.grid == truth.grid
    assert dict(volume.attributes) == dict(truth.attributes)
    assert volume.dtype == truth.dtype
    for window in windows_of(truth.shape):
        patch, expected = volume.read(window, fill_value=3), truth.read(window, fill_value=3)
        np.testing.assert_array_equal(patch, expected, strict=True)
        out = np.full(window.shape, 9, np.float64)
        placed = volume.source.read_into(window, out, fill_value=7)
        wanted = np.full(window.shape, 9, np.float64)
        assert placed == truth.source.read_into(window, wanted, fill_value=7)
        np.testing.assert_array_equal(out, wanted)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_gives_the_patches_of_the_reader(source, backend, tmp_path):
    truth = oracle(source)
    assert truth[...].std() > 0
    for _ in range(2):  # made, and found again
        assert_equal_patches(open_volume(source, backend=backend, workdir=tmp_path / "work"), truth)


def test_nothing_is_decoded_as_a_whole_where_the_format_allows_it(source, monkeypatch):
    kind = type(reader(find_series(source)[1].reader))
    calls = []
    read = kind.read
    monkeypatch.setattr(kind, "read", lambda *args, **options: calls.append(1) or read(*args, **options))
    volume = open_volume(source)
    volume.read(windows_of(volume.shape)[3])
    assert (source.name in IN_PLACE) == (not calls) == isinstance(volume.source, MappedSource | TileSource)
    assert (source.name in DECODED) == isinstance(volume.source, DecodedSource)


def test_only_the_tiles_that_a_window_touches_are_decoded(write_source, monkeypatch):
    volume = open_volume(write_source("tiles.tif"))
    pages = volume.source._table()
    decoded = []
    plain = pages.decode[0]

    def noted(data, number, **tables):
        decoded.append(number)
        return plain(data, number, **tables)

    monkeypatch.setattr(TileSource, "_table", lambda self: _with_decoder(pages, noted))
    volume[70:120, 50:90]  # tiles are 64 x 48, five to a row
    assert decoded == [6]
    volume[70:130, 50:100]
    assert decoded == [6, 7, 11, 12], "a tile just decoded is not decoded again"


def _with_decoder(pages, decode):
    return replace(pages, decode=(decode,))


def test_volumes_survive_pickle_and_fork(write_source, tmp_path):
    paths = [write_source(name) for name in ("int16.nii", "tiles.tif", "packed.nii.gz")]
    volumes = [open_volume(path, backend=b, workdir=tmp_path / "work") for path in paths for b in BACKENDS]
    expected = [volume[...] for volume in volumes]
    pickles = [pickle.dumps(volume) for volume in volumes]
    assert max(map(len, pickles)) < 20_000
    results = [[pickle.loads(data)[...] for data in pickles]]
    for method in ("fork", "spawn"):
        with get_context(method).Pool(1) as pool:
            results.append(pool.map(_whole, volumes))
    for found in results:
        for volume, voxels, wanted in zip(volumes, found, expected, strict=True):
            np.testing.assert_array_equal(voxels, wanted, err_msg=repr(volume))


def _whole(volume):
    return volume[...]


def test_a_backend_pickles():
    for name in BACKENDS:
        assert type(pickle.loads(pickle.dumps(backend_of(name, "work")))) is type(backend_of(name, "work"))


def test_conversions_know_their_source(write_source, tmp_path):
    volume = open_volume(write_source("int16.nii"), backend="npy", workdir=tmp_path / "work")
    assert isinstance(volume.source, ConvertedSource)
    assert origin_of(tmp_path / "raw" / "int16.nii").digest() in str(volume.source._stored._stamp.path)
