"""The file of patches, read with plain h5py: voxels, labels and places are those of the arrays that went in."""

from __future__ import annotations

import json

import bundles
import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import ndvol
from ndvol.cli import main
from ndvol.errors import OptionError, SamplingError, StoreError
from ndvol.exporting import export_patches
from ndvol.geometry import Grid
from ndvol.opening import open_catalog

SHAPE = (6, 20, 22)
GRIDS = {name: bundles.grid_of("zyx", SHAPE, oblique=name == "b") for name in "abc"}
NAMES = {"a": {1: "lesion", 2: "organ", 7: "cyst"}, "b": {1: "organ", 2: "cyst", 7: "lesion", 300: "never-seen"}}
IMAGES = {
    name: np.random.default_rng(k).integers(-100 if name == "a" else 0, 100, SHAPE).astype(dtype)
    for k, (name, dtype) in enumerate({"a": "int16", "b": "uint8", "c": "int16"}.items())
}
LABELS = {name: bundles.blobs(SHAPE, k) for k, name in enumerate(NAMES)}
"""Values mean other categories in case b, and case c has no labels."""


def fill(name):
    def with_writer(writer):
        writer.add_image("CT", IMAGES[name], GRIDS[name], attributes={"modality": "CT"})
        if name in LABELS:
            writer.add_label("findings", LABELS[name], GRIDS[name], categories=NAMES[name])

    return with_writer


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    folder = tmp_path_factory.mktemp("patches") / "b"
    return open_catalog(bundles.write_bundle(folder, {name: fill(name) for name in "abc"}))


@pytest.fixture(scope="module")
def sampler(catalog):
    strategy = ndvol.Mix(
        {ndvol.Positive("finding"): 2, ndvol.Negative("finding", max_overlap=0.5): 1, ndvol.Uniform(): 1}
    )
    reading = ndvol.Reading(fill_value=7, pad=1)
    return ndvol.VolumeSampler(catalog, (3, 8, 9), strategy=strategy, seed=3, length=60, reading=reading)


@pytest.fixture(scope="module")
def exported(sampler, tmp_path_factory):
    return ndvol.export_patches(sampler, tmp_path_factory.mktemp("patches") / "new" / "patches.h5", count=50)


def cut(array, start, shape, fill_value):
    """numpy's own idea of a window that leaves the array."""
    wide = np.pad(array, 40, constant_values=fill_value)
    return wide[tuple(slice(a + 40, a + 40 + n) for a, n in zip(start, shape, strict=True))]


def test_voxels_labels_and_places_are_those_of_the_cases(exported):
    with h5py.File(exported) as file:
        images, labels = file["images/CT"], file["labels/findings"]
        assert images.shape == labels.shape == (50, 5, 10, 11)
        assert (images.dtype, labels.dtype) == (np.int16, np.uint8)
        assert (images.attrs["axes"], labels.attrs["axes"]) == (b"zyx", b"zyx")
        names, cases = file["categories/name"].asstr()[:], file["targets/case"].asstr()[:]
        assert set(cases) == {"a", "b", "c"}
        for k, case in enumerate(cases):
            start, shape = file["targets/start"][k], images.shape[1:]
            np.testing.assert_array_equal(images[k], cut(IMAGES[case], start, shape, 7))
            if case == "c":
                assert (labels[k] == labels.attrs["not_annotated"]).all()
            else:
                meant = np.vectorize({0: "", **NAMES[case]}.get, otypes=[object])
                np.testing.assert_array_equal(names[labels[k]], meant(cut(LABELS[case], start, shape, 0)))
            low, high = np.clip(-start, 0, shape), np.clip(np.array(SHAPE) - start, 0, shape)
            np.testing.assert_array_equal(file["targets/valid"][k], np.c_[low, high])
            world = file["targets/affine"][k] @ [1, 2, 3, 1]
            np.testing.assert_allclose(world[:3], GRIDS[case].world(start + (1, 2, 3)), atol=1e-9)  # noqa: RUF005


def test_targets_are_the_samplers_and_say_why(exported, sampler):
    with h5py.File(exported) as file:
        columns = {name: file["targets"][name].asstr()[:] for name in ("case", "role", "category", "leaf")}
        starts = file["targets/start"][:].tolist()
        for k in range(50):
            target = sampler.target(k)
            expected = (target.case, target.role, target.category or "", target.leaf or "")
            assert tuple(column[k] for column in columns.values()) == expected
            assert starts[k] == list(target.window.start)
        assert {"positive", "negative", "any"} == set(columns["role"])
        assert set(file["targets/frame"].asstr()[:]) == {"LPS"}
        assert set(file["targets/unit"].asstr()[:]) == {"mm"}
        assert file.attrs["axes"].decode() == "zyx"
        assert "Positive(" in file.attrs["sampler"].decode()
        assert "seed 3, epoch 0" in file.attrs["sampler"].decode()


def test_the_categories_keep_their_tree(exported):
    with h5py.File(exported) as file:
        names, parents = file["categories/name"].asstr()[:].tolist(), file["categories/parent"][:].tolist()
    assert names == ["", *bundles.TREE.names]
    assert parents[0] == 0
    for name, parent in zip(names[1:], parents[1:], strict=True):
        assert bundles.TREE.ancestors(name)[:1] == tuple(filter(None, [names[parent]]))


def test_a_patch_is_a_chunk_that_any_hdf5_reads(exported, sampler, tmp_path):
    plain = export_patches(sampler, tmp_path / "plain.h5", count=50, codec="none")
    with h5py.File(exported) as one, h5py.File(plain) as other:
        for path in ("images/CT", "labels/findings"):
            for file, compression in ((one, "gzip"), (other, None)):
                dataset = file[path]
                assert dataset.chunks == (1, *dataset.shape[1:])
                assert (dataset.compression, dataset.fletcher32) == (compression, True)
            np.testing.assert_array_equal(one[path][:], other[path][:])
    again = export_patches(sampler, tmp_path / "again.h5", count=50)
    assert again.read_bytes() == exported.read_bytes()
    with pytest.raises(OptionError, match="cannot be stored with this codec; got 'fast'"):
        export_patches(sampler, tmp_path / "fast.h5", codec="fast")
    assert {p.name for p in tmp_path.iterdir()} == {"plain.h5", "again.h5"}


@pytest.mark.parametrize("name", ["time", "colour", "spectrum", "pair", "one", "thin"])
def test_any_axes(tmp_path, name):
    catalog = open_catalog(bundles.make_bundle(tmp_path / "b", (name,)))
    case = catalog[name]
    n = len(set(bundles.CASES[name][0]) & set("zyx"))
    sampler = ndvol.VolumeSampler(catalog, (2, 5, 4)[-n:], length=4)
    path = export_patches(sampler, tmp_path / "patches.h5")
    with h5py.File(path) as file:
        table = file["categories/name"].asstr()[:]
        for kind, volumes in (("images", case.images), ("labels", case.labels)):
            for volume in volumes.values():
                dataset = file[f"{kind}/{volume.name}"]
                assert dataset.attrs["axes"].decode() == volume.axes
                for k in range(4):
                    places = dict(zip(file.attrs["axes"].decode(), file["targets/start"][k].tolist(), strict=True))
                    start = [places.get(a, 0) for a in volume.axes]
                    expected = cut(volume[...], start, dataset.shape[1:], 0)
                    if kind == "labels":
                        names = {0: "", **volume.categories}
                        expected = np.vectorize(names.get, otypes=[object])(expected)
                        found = table[dataset[k]]
                    else:
                        found = dataset[k]
                    np.testing.assert_array_equal(found, expected)


def pictures(channels, dtype="uint8"):
    def with_writer(writer):
        rng, grid = np.random.default_rng(0), Grid.regular("yx", (9, 8))
        bundles.add_image(writer, rng, "grey", grid, np.dtype(dtype), None)
        bundles.add_image(writer, rng, "photo", grid, np.dtype("uint8"), channels)

    return with_writer


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ({"a": pictures(3), "b": pictures(4)}, "the patches of 'images/photo' have not one shape"),
        ({"a": pictures(3, "int64"), "b": pictures(3, "float32")}, "no one type holds the values of 'images/grey'"),
    ],
)
def test_patches_that_have_nothing_in_common_are_refused(tmp_path, cases, message):
    catalog = open_catalog(bundles.write_bundle(tmp_path / "b", cases))
    sampler = ndvol.VolumeSampler(catalog, (4, 4), length=20)
    assert {sampler.target(k).case for k in range(20)} == {"a", "b"}
    with pytest.raises(OptionError, match=message):
        export_patches(sampler, tmp_path / "out" / "patches.h5")
    assert not (tmp_path / "out").exists()


def test_nothing_is_published_of_an_export_that_fails_midway(tmp_path, sampler):
    mixed = ndvol.VolumeSampler(open_catalog(bundles.make_pet_ct(tmp_path / "b")), (2, 4, 4), length=3)
    with pytest.raises(SamplingError, match="has volumes on several grids"):
        export_patches(mixed, tmp_path / "out" / "patches.h5")
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(OptionError, match="an epoch of the sampler has fewer samples; got 61; expected 60"):
        export_patches(sampler, tmp_path / "out" / "patches.h5", count=61)
    (tmp_path / "out" / "patches.h5").write_text("mine")
    with pytest.raises(StoreError, match=r"patches\.h5 exists already"):
        export_patches(sampler, tmp_path / "out" / "patches.h5")
    assert (tmp_path / "out" / "patches.h5").read_text() == "mine"


def run(*words):
    return CliRunner().invoke(main, ["export", *map(str, words)])


def test_the_command_draws_with_and_without_a_category(catalog, tmp_path):
    drawing = ["--to", "patches", "--window", "2,4,4", "--count", 12, "--category", "lesion", "--seed", 5]
    result = run(catalog.path, tmp_path / "out", *drawing, "--json")
    assert result.exit_code == 0, result.output
    path = tmp_path / "out" / "patches.h5"
    assert json.loads(result.stdout) == {"file": str(path), "form": "patches", "windows": 12}
    with h5py.File(path) as file:
        assert file["images/CT"].shape == (12, 2, 4, 4)
        assert set(file["targets/role"].asstr()[:]) == {"positive", "negative"}
        assert set(file["targets/category"].asstr()[:]) == {"lesion", ""}
        assert "seed 5" in file.attrs["sampler"].decode()
    again = run(catalog.path, tmp_path / "out", *drawing)
    assert (again.exit_code, "exists already" in again.stderr) == (1, True)
    result = run(catalog.path, tmp_path / "any", "--to", "patches", "--window", 4, "--count", 3)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"3 windows -> {tmp_path / 'any' / 'patches.h5'}\n"
    with h5py.File(tmp_path / "any" / "patches.h5") as file:
        assert set(file["targets/role"].asstr()[:]) == {"any"}


@pytest.mark.parametrize("option", [("--window", "4"), ("--count", "4"), ("--category", "lesion"), ("--seed", "0")])
def test_options_of_patches_go_with_patches_only(catalog, tmp_path, option):
    result = run(catalog.path, tmp_path / "out", "--to", "nrrd", *option)
    assert result.exit_code == 2
    assert f"{option[0]} goes with --to patches only" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_window_that_is_no_number_is_wrong_usage(catalog, tmp_path):
    result = run(catalog.path, tmp_path / "out", "--to", "patches", "--window", "big")
    assert result.exit_code == 2
    assert "'big' is not like 64 or 32,96,96" in result.stderr
