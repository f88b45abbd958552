"""Every backend returns the same samples for the same pictures, whatever their files are called."""

import pickle

import kwcoco
import numpy as np
import pytest
import tifffile
from PIL import Image

from ndvol import CocoSampler
from ndvol.errors import NdvolError

BACKENDS = (None, "hdf5", "npy", "cog")
SIZE = (150, 110)


def pixels(seed, channels=3, dtype=np.uint8):
    shape = (*SIZE, channels) if channels > 1 else SIZE
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(array).save(path)
    else:
        kind = "rgb" if array.ndim == 3 else "minisblack"
        tifffile.imwrite(path, array, photometric=kind, tile=(48, 32), compression="zlib")


@pytest.fixture
def pictures():
    return {
        "rgb.png": pixels(0),
        "grey.png": pixels(1, 1),
        "rgb.tif": pixels(2),
        "deep.tif": pixels(3, 1, np.uint16),
    }


def dataset(folder, names):
    dset = kwcoco.CocoDataset({"categories": [{"id": 1, "name": "spot"}], "images": [], "annotations": []})
    dset.fpath = str(folder / "data.kwcoco.json")
    for k, name in enumerate(names, start=1):
        dset.add_image(file_name=name, id=k, height=SIZE[0], width=SIZE[1])
        dset.add_annotation(image_id=k, category_id=1, bbox=[30 * k / 2, 20, 25, 40])
    return dset


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_returns_the_pixels_of_the_files(tmp_path, pictures, backend):
    for name, array in pictures.items():
        write(tmp_path / name, array)
    rng = np.random.default_rng(0)
    for _ in range(2):  # converted, and found again
        sampler = CocoSampler(dataset(tmp_path, pictures), tmp_path / "work", backend=backend)
        for gid, array in enumerate(pictures.values(), start=1):
            whole = array if array.ndim == 3 else array[..., None]
            padded = np.pad(whole, [(40, 400), (40, 400), (0, 0)])
            for _ in range(20):
                y, x = (int(v) for v in rng.integers(-40, 140, 2))
                h, w = (int(v) for v in rng.integers(1, 190, 2))
                sample = sampler.load_sample({"gid": gid, "slices": (slice(y, y + h), slice(x, x + w))})
                expected = padded[y + 40 : y + 40 + h, x + 40 : x + 40 + w]
                np.testing.assert_array_equal(sample["im"], expected, strict=True)
            positive = sampler.load_positive(gid - 1)
            assert positive["im"].shape[:2] == (40, 25)
        again = pickle.loads(pickle.dumps(sampler))
        np.testing.assert_array_equal(again.load_positive(0)["im"], sampler.load_positive(0)["im"])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["images/a.png", "images/a.tif"])
def test_two_bundles_with_one_relative_name_never_share_pixels(tmp_path, backend, name):
    for seed, bundle in enumerate(("one", "two")):
        write(tmp_path / bundle / name, pixels(seed))
    for seed, bundle in enumerate(("one", "two")):
        sampler = CocoSampler(dataset(tmp_path / bundle, [name]), tmp_path / "work", backend=backend)
        whole = sampler.load_sample({"gid": 1, "slices": (slice(0, SIZE[0]), slice(0, SIZE[1]))})
        np.testing.assert_array_equal(whole["im"], pixels(seed))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_an_overwritten_picture_is_noticed_by_the_same_sampler(tmp_path, backend, name):
    sampler = None
    for seed in range(2):
        write(tmp_path / name, pixels(seed))
        sampler = sampler or CocoSampler(dataset(tmp_path, [name]), tmp_path / "work", backend=backend)
        patch = sampler.load_sample({"gid": 1, "slices": (slice(5, 60), slice(7, 90))})["im"]
        np.testing.assert_array_equal(patch, pixels(seed)[5:60, 7:90])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_video_is_the_same_through_every_backend(tmp_path, backend):
    plain = CocoSampler.demo("vidshapes1-frames4", backend=None)
    stored = CocoSampler(plain.dset, tmp_path / "work", backend=backend)
    target = {"video_id": 1, "time_slice": slice(0, 4), "space_slice": (slice(-9, 100), slice(20, 130))}
    expected = plain.load_sample(dict(target))["im"]
    assert expected.std() > 0
    np.testing.assert_array_equal(stored.load_sample(dict(target))["im"], expected, strict=True)


def test_a_picture_that_is_not_there_is_an_error_of_ours(tmp_path):
    write(tmp_path / "a.png", pixels(0))
    sampler = CocoSampler(dataset(tmp_path, ["a.png"]), tmp_path / "work", backend="cog")
    (tmp_path / "a.png").unlink()
    with pytest.raises(NdvolError, match=r"a\.png"):
        sampler.load_positive(0)
