"""Caches are keyed by content: no two sources share voxels, a change is noticed, damage is mended."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import nibabel
import numpy as np
import pytest

from ndvol import open_volume
from ndvol.backends import Origin, opened, origin, stored
from ndvol.errors import DamageError, OptionError, SourceError, StoreError
from ndvol.formats.kept import Kept
from ndvol.formats.writing import write_nifti, write_pictures
from ndvol.geometry import Grid, Window

CONVERTING = ("hdf5", "npy", "cog")
BACKENDS = (None, *CONVERTING)
SHAPE = (6, 40, 30)


def array(seed):
    return np.random.default_rng(seed).integers(-500, 500, SHAPE).astype(np.int16)


def conversions(work):
    return sorted(p for p in work.glob("*/*/*/voxels.*"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("suffix", [".npy", ".nii.gz"])
def test_sources_of_one_relative_name_never_share_voxels(tmp_path, backend, suffix, monkeypatch):
    for seed, bundle in enumerate(("one", "two")):
        write(tmp_path / bundle / f"raw/volume{suffix}", seed)
    for seed, bundle in enumerate(("one", "two")):
        monkeypatch.chdir(tmp_path / bundle)
        volume = open_volume(f"raw/volume{suffix}", backend=backend, workdir=tmp_path / "work")
        np.testing.assert_array_equal(volume[...], array(seed))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("suffix", [".npy", ".nii.gz", ".hdr"])
def test_an_overwritten_source_is_noticed(tmp_path, backend, suffix):
    path = write(tmp_path / f"a{suffix}", 0)
    before = open_volume(path, backend=backend, workdir=tmp_path / "work")
    np.testing.assert_array_equal(before[...], array(0))
    write(path, 1)
    after = open_volume(path, backend=backend, workdir=tmp_path / "work")
    np.testing.assert_array_equal(after[...], array(1))


def test_an_open_volume_never_mixes_two_contents(tmp_path):
    path = write(tmp_path / "a.npy", 0)
    volume = open_volume(path)
    volume[0]
    write(path, 1)
    with pytest.raises(SourceError, match="changed since it was opened") as caught:
        volume[0]
    assert caught.value.code == "changed"


def test_a_decoded_volume_that_was_dropped_is_not_decoded_from_another_content(tmp_path, monkeypatch):
    path = write(tmp_path / "a.nii.gz", 0)
    volume = open_volume(path)
    write(path, 1)
    np.testing.assert_array_equal(volume[...], array(0))  # still kept
    monkeypatch.setattr(opened, "DECODED", Kept(0))
    with pytest.raises(SourceError, match="changed"):
        volume[...]


@pytest.mark.parametrize("backend", CONVERTING)
def test_equal_contents_are_converted_once_whatever_their_names(tmp_path, backend):
    one, two = write(tmp_path / "one.npy", 0), tmp_path / "sub" / "two.npy"
    two.parent.mkdir()
    shutil.copy(one, two)
    for path in (one, two):
        open_volume(path, backend=backend, workdir=tmp_path / "work")
    assert len(conversions(tmp_path / "work")) == 1


def test_one_file_read_in_two_ways_has_two_conversions(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"], file["b"] = array(0), array(1)
    for backend in BACKENDS:
        for seed, name in enumerate("ab"):
            for axes in ("", "zyx"):
                volume = open_volume(
                    tmp_path / "a.h5", dataset=name, axes=axes, backend=backend, workdir=tmp_path / "work"
                )
                np.testing.assert_array_equal(volume[...], array(seed))


@pytest.mark.parametrize("backend", CONVERTING)
@pytest.mark.parametrize("where", ["head", "middle", "cut", "gone", "facts", "no facts"])
def test_a_damaged_conversion_is_noticed_and_made_anew(tmp_path, backend, where):
    path = write(tmp_path / "a.npy", 0)
    open_volume(path, backend=backend, workdir=tmp_path / "work")
    [file] = conversions(tmp_path / "work")
    damage(file, where)
    volume = open_volume(path, backend=backend, workdir=tmp_path / "work")
    np.testing.assert_array_equal(volume[...], array(0))
    volume = open_volume(path, backend=backend, workdir=tmp_path / "work")
    np.testing.assert_array_equal(volume[...], array(0))
    assert not list((tmp_path / "work").rglob(".part*"))


@pytest.mark.parametrize("backend", ["hdf5", "cog"])
def test_damage_that_keeps_size_and_time_is_noticed_on_reading(tmp_path, backend):
    path = write(tmp_path / "a.npy", 0)
    open_volume(path, backend=backend, workdir=tmp_path / "work")
    [file] = conversions(tmp_path / "work")
    stat = file.stat()
    damage(file, "middle")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    volume = open_volume(path, backend=backend, workdir=tmp_path / "work")
    np.testing.assert_array_equal(volume[...], array(0))


@pytest.mark.parametrize("backend", CONVERTING)
def test_a_conversion_that_vanishes_is_made_anew_under_an_open_volume(tmp_path, backend):
    path = write(tmp_path / "a.npy", 0)
    volume = open_volume(path, backend=backend, workdir=tmp_path / "work")
    volume[0]
    shutil.rmtree(tmp_path / "work")
    np.testing.assert_array_equal(volume[...], array(0))


@pytest.mark.parametrize("backend", CONVERTING)
def test_processes_may_convert_the_same_file_at_once(tmp_path, backend):
    path = write(tmp_path / "a.nii.gz", 0)
    with get_context("fork").Pool(4) as pool:
        jobs = [pool.apply_async(read_whole, (path, backend, tmp_path / "work")) for _ in range(12)]
        for job in jobs:
            np.testing.assert_array_equal(job.get(60), array(0))
    assert len(conversions(tmp_path / "work")) == 1
    assert not list((tmp_path / "work").rglob(".part*"))


def read_whole(path, backend, work):
    return open_volume(path, backend=backend, workdir=work)[...]


def test_threads_share_the_caches(tmp_path):
    paths = [write(tmp_path / f"{seed}.nii.gz", seed) for seed in range(4)]
    volumes = [open_volume(path) for path in paths] + [
        open_volume(path, backend="cog", workdir=tmp_path) for path in paths
    ]
    windows = [Window((0, y, x), (6, 9, 9)) for y in range(-3, 30, 4) for x in range(-3, 30, 4)]

    def check(k):
        window, seed = windows[k % len(windows)], k % 4
        padded = np.pad(array(seed), [(0, 0), (9, 9), (9, 9)])
        for volume in (volumes[seed], volumes[seed + 4]):
            np.testing.assert_array_equal(volume.read(window), padded[window.shifted((0, 9, 9)).slices])
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(check, range(200)))


def test_a_source_that_changes_while_it_is_converted_is_not_stored(tmp_path):
    path = write(tmp_path / "a.npy", 0)
    plain = opened.origin_of(path)

    def meddled():
        volume = plain.open()
        data = volume[...]
        write(path, 1)
        return type(volume)("image", volume.grid, opened.ArraySource(data))

    backend = stored.backend_of("npy", tmp_path / "work")
    with pytest.raises(SourceError, match="changed"):
        backend.volume(Origin(plain.files, meddled, plain.recipe))
    assert not conversions(tmp_path / "work")


def test_a_file_is_hashed_once_per_process(tmp_path, monkeypatch):
    path = write(tmp_path / "a.npy", 0)
    hashed = []
    plain = origin.hash_file
    monkeypatch.setattr(origin, "hash_file", lambda p: hashed.append(p) or plain(p))
    found = [opened.origin_of(path).digest() for _ in range(3)]
    assert len(set(found)) == len(hashed) == 1
    assert opened.origin_of(path).digest(again=True) == found[0]
    assert len(hashed) == 2


def test_a_folder_that_cannot_be_written_is_a_store_error(tmp_path):
    path = write(tmp_path / "a.npy", 0)
    (tmp_path / "work").write_text("a file")
    with pytest.raises(StoreError, match="cannot write"):
        open_volume(path, backend="npy", workdir=tmp_path / "work")


def test_a_device_that_returns_other_bytes_is_damage(tmp_path, monkeypatch):
    path = write(tmp_path / "a.npy", 0)
    monkeypatch.setattr(stored.Converted, "_open", lambda *_, **__: None)
    with pytest.raises(DamageError, match="just written"):
        open_volume(path, backend="npy", workdir=tmp_path / "work")


@pytest.mark.parametrize(
    ("backend", "message"),
    [("zip", "no such backend"), (7, "no such backend"), ({"type": "npy", "config": {"a": 1}}, "no configuration")],
)
def test_unknown_backends_are_refused(backend, message):
    with pytest.raises(OptionError, match=message):
        stored.backend_of(backend, "work")


def test_a_converting_backend_needs_a_folder(tmp_path):
    with pytest.raises(OptionError, match="needs a folder"):
        open_volume(write(tmp_path / "a.npy", 0), backend="npy")


def test_what_is_no_single_volume_is_refused(tmp_path):
    with pytest.raises(SourceError, match="there is no"):
        open_volume(tmp_path / "missing.nii")
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(SourceError, match="no reader knows"):
        open_volume(tmp_path / "notes.txt")
    write(tmp_path / "a.npy", 0)
    write(tmp_path / "b.npy", 1)
    with pytest.raises(SourceError, match=r"holds 2 volumes; got a\.npy, b\.npy"):
        open_volume(tmp_path)
    with pytest.raises(OptionError, match="other formats need neither"):
        open_volume(tmp_path / "a.npy", axes="zyx")
    (tmp_path / "a.npy").write_bytes(b"no array")
    with pytest.raises(SourceError, match=r"header of a\.npy cannot be read"):
        open_volume(tmp_path / "a.npy")


def test_decoded_arrays_are_kept_up_to_a_number_of_bytes():
    kept, made = Kept(100), []

    def get(key, size):
        return kept.get(key, lambda: made.append(key) or np.zeros(size, np.uint8))

    get("a", 40), get("b", 40), get("a", 40), get("c", 40)
    assert made == ["a", "b", "c"]
    get("a", 40)
    assert made == ["a", "b", "c"], "the last used stay"
    get("b", 40)
    assert made == ["a", "b", "c", "b"]
    assert get("big", 1000).nbytes == 1000
    get("big", 1000)
    assert made[-1] == "big"
    assert made.count("big") == 1
    get("a", 40)
    assert made[-1] == "a"


def write(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array(seed))
    elif path.suffix == ".hdr":
        nibabel.save(nibabel.Nifti1Pair(array(seed).T, np.eye(4)), path)
    else:
        write_nifti(path, array(seed), Grid.regular("zyx", SHAPE, spacing=(2, 1, 1)))
    return path


def damage(file, where):
    facts = file.with_name("facts.json")
    if where == "gone":
        file.unlink()
    elif where == "no facts":
        facts.unlink()
    elif where == "facts":
        facts.write_text(facts.read_text().replace('"zyx"', '"tyx"'))
    else:
        data = bytearray(file.read_bytes())
        at = {"head": 5, "middle": len(data) // 2, "cut": 0}[where]
        data[at] ^= 0x10
        file.write_bytes(data[: len(data) // 2] if where == "cut" else data)


def test_pictures_of_a_plain_catalogue_are_read_in_place(tmp_path):
    picture = opened.open_picture(write_pictures(tmp_path, array(0)[:1].astype(np.uint8))[0])
    assert isinstance(picture.source, opened.DecodedSource)
    np.testing.assert_array_equal(picture[...], array(0)[0].astype(np.uint8))
