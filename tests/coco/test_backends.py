"""Backends: the same patches from all of them, and never those of another picture."""

from __future__ import annotations

import multiprocessing
import os
import pickle

import numpy as np
import pytest
from PIL import Image
from toysets import make_pictures, make_video

from ndvol.coco import CocoSampler
from ndvol.coco.backends import BACKENDS, InMemory, Origin, Volumes, backend_of
from ndvol.errors import DamageError, OptionError, StoreError
from ndvol.geometry import Grid
from ndvol.volumes import ArraySource, Volume

STORED = sorted(BACKENDS)


def patches(sampler):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(25):
        gid = int(rng.choice(sampler.image_ids))
        y, x = rng.integers(-5, 25, 2)
        target = {"gid": gid, "slices": (slice(int(y), int(y) + 7), slice(int(x), int(x) + 9, 2))}
        found.append(sampler.load_sample(target, with_annots=False)["im"])
    return found


@pytest.mark.parametrize("backend", STORED)
def test_all_backends_return_the_same_patches(tmp_path, backend):
    dset = make_pictures(tmp_path / "p")
    films, voxels = make_video(tmp_path / "v")
    expected = patches(CocoSampler(dset))
    for _ in range(2):  # converted, then found converted
        for one, other in zip(patches(CocoSampler(dset, tmp_path / "w", backend)), expected, strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
    film = CocoSampler(films, tmp_path / "w", backend)
    np.testing.assert_array_equal(film.load_sample({"vidid": 1})["im"][..., 0], voxels)
    files = [p for p in (tmp_path / "w").rglob("*") if p.is_file()]
    assert len(files) == 3 + 5
    assert not list((tmp_path / "w").rglob(".part-*")), "nothing half-written is left"
    assert pickle.loads(pickle.dumps(film)).load_sample({"gid": 1})["im"].flags.writeable


@pytest.mark.parametrize("backend", STORED)
def test_one_relative_name_in_two_folders_never_shares_voxels(tmp_path, backend):
    one, other = make_pictures(tmp_path / "a", seed=1), make_pictures(tmp_path / "b", seed=2)
    work = tmp_path / "work"
    first = CocoSampler(one, work, backend).load_sample({"gid": 1})["im"]
    second = CocoSampler(other, work, backend).load_sample({"gid": 1})["im"]
    np.testing.assert_array_equal(first[..., 0], np.asarray(Image.open(tmp_path / "a" / "0.png")))
    np.testing.assert_array_equal(second[..., 0], np.asarray(Image.open(tmp_path / "b" / "0.png")))
    assert (first != second).any()


@pytest.mark.parametrize("backend", [None, *STORED])
def test_an_overwritten_picture_is_noticed(tmp_path, backend):
    dset = make_pictures(tmp_path / "a")
    sampler = CocoSampler(dset, tmp_path / "work", backend)
    before = sampler.load_sample({"gid": 1})["im"]
    path = tmp_path / "a" / "0.png"
    stat = path.stat()
    Image.fromarray(255 - before[..., 0]).save(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    np.testing.assert_array_equal(sampler.load_sample({"gid": 1})["im"], 255 - before)


@pytest.mark.parametrize("backend", STORED)
def test_equal_pictures_are_stored_once(tmp_path, backend):
    dset = make_pictures(tmp_path / "a", shapes=[(9, 9)])
    (tmp_path / "a" / "copy.png").write_bytes((tmp_path / "a" / "0.png").read_bytes())
    dset.add_image(file_name="copy.png", width=9, height=9)
    sampler = CocoSampler(dset, tmp_path / "work", backend)
    np.testing.assert_array_equal(sampler.load_sample({"gid": 1})["im"], sampler.load_sample({"gid": 2})["im"])
    assert len([p for p in (tmp_path / "work").rglob("*") if p.is_file()]) == 1


def test_damage_of_a_converted_picture_is_not_voxels(tmp_path):
    dset = make_pictures(tmp_path / "a", shapes=[(64, 64)])
    CocoSampler(dset, tmp_path / "work").load_sample({"gid": 1})
    [path] = (tmp_path / "work").rglob("*.h5")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises((DamageError, StoreError)):
        CocoSampler(dset, tmp_path / "work").load_sample({"gid": 1})
    CocoSampler(dset, tmp_path / "work", "npy").load_sample({"gid": 1})
    [path] = (tmp_path / "work").rglob("*.npy")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(StoreError, match="delete it"):
        CocoSampler(dset, tmp_path / "work", "npy").load_sample({"gid": 1})


def test_backends_by_name(tmp_path):
    assert isinstance(backend_of(None, None), InMemory)
    assert CocoSampler(make_pictures(tmp_path / "a"), tmp_path).backend == "hdf5"
    assert CocoSampler(make_pictures(tmp_path / "a")).backend is None
    assert isinstance(backend_of({"type": "npy", "config": {}}, tmp_path), BACKENDS["npy"])
    for name, message in (("cog", "not available yet"), ("tiff", "no such backend"), (3, "no such backend")):
        with pytest.raises(OptionError, match=message):
            backend_of(name, tmp_path)
    with pytest.raises(OptionError, match="takes no configuration"):
        backend_of({"type": "npy", "config": {"compress": "LZW"}}, tmp_path)
    with pytest.raises(OptionError, match="needs a folder"):
        backend_of("hdf5", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        CocoSampler(make_pictures(tmp_path / "a"), tmp_path / "file").load_sample({"gid": 1})


def test_pictures_in_memory_stay_within_their_room():
    opened = []

    def origin(number):
        def decode():
            opened.append(number)
            return Volume("image", Grid.regular("yx", (10, 10)), ArraySource(np.full((10, 10), number, np.uint8)))

        return Origin(number, lambda: str(number), decode)

    volumes = Volumes(InMemory(), room=250)
    for number in (1, 2, 1, 3, 1, 2):
        assert volumes[origin(number)][0, 0] == number
    assert opened == [1, 2, 3, 2], "the one used last is kept, the one used longest ago goes"
    assert len(Volumes(InMemory(), room=0).__dict__) == len(volumes.__dict__)
    tiny = Volumes(InMemory(), room=0)
    assert tiny[origin(7)][3, 3] == 7


def _convert(folder, work, backend):
    sampler = CocoSampler(make_pictures(folder, shapes=[(300, 200, 3)]), work, backend)
    return sampler.load_sample({"gid": 1}, with_annots=False)["im"]


@pytest.mark.parametrize("backend", STORED)
def test_processes_may_convert_one_picture_at_the_same_time(tmp_path, backend):
    expected = _convert(tmp_path / "a", tmp_path / "alone", backend)
    context = multiprocessing.get_context("fork")
    with context.Pool(4) as pool:
        results = pool.starmap(_convert_existing, [(str(tmp_path / "a"), str(tmp_path / "shared"), backend)] * 8)
    for found in results:
        np.testing.assert_array_equal(found, expected)
    assert len([p for p in (tmp_path / "shared").rglob("*") if p.is_file()]) == 1


def _convert_existing(folder, work, backend):
    import kwcoco

    data = {"images": [{"id": 1, "file_name": "0.png", "width": 200, "height": 300}]}
    dset = kwcoco.CocoDataset(data, bundle_dpath=folder)
    return CocoSampler(dset, work, backend).load_sample({"gid": 1}, with_annots=False)["im"]


def test_a_forked_worker_reads_on(tmp_path):
    dset = make_pictures(tmp_path / "a")
    sampler = CocoSampler(dset, tmp_path / "w")
    expected = patches(sampler)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for found in pool.map(patches, [sampler] * 2):
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)
