"""NRRD: SimpleITK and our own reader find the voxels, the affine and the segments of the bundle again."""

from __future__ import annotations

import json

import bundles
import numpy as np
import pytest
import SimpleITK
from click.testing import CliRunner

from ndvol.cli import main
from ndvol.errors import GridError
from ndvol.exporting import export_nrrd
from ndvol.formats.itk_images import ItkReader
from ndvol.formats.writing import write_nifti
from ndvol.geometry import Grid, Reorientation
from ndvol.importing import ImportOptions, import_tree
from ndvol.opening import open_catalog

READER = ItkReader()


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    return open_catalog(bundles.make_bundle(tmp_path_factory.mktemp("nrrd") / "bundle"))


@pytest.fixture(scope="module")
def exported(catalog, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nrrd") / "out"
    assert export_nrrd(catalog, folder) == {}
    return folder


def read_back(path, *, as_label=False):
    """One file through our own reader."""
    [series] = READER.scan(path.parent, [path.name]).series
    return READER.read(path.parent, series, as_label=as_label)


def assert_in_itk(path, array, grid):
    """SimpleITK has the same voxels of the same type, every one in its place."""
    image = SimpleITK.ReadImage(str(path))
    found = SimpleITK.GetArrayFromImage(image)
    expected = np.moveaxis(array, grid.axes.index("c"), -1) if "c" in grid.axes else array
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)
    assert found.dtype == array.dtype
    if grid.unit == "unknown":
        return
    n = len(grid.spatial)
    for index in np.random.default_rng(0).integers(0, [grid.shape[i] for i in grid.spatial], (5, n)).tolist():
        padded = [*index[::-1], *[0] * (image.GetDimension() - n)]
        point = image.TransformContinuousIndexToPhysicalPoint([float(i) for i in padded])
        np.testing.assert_allclose(point[:n], grid.world(index), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", bundles.CASES)
def test_images_come_back_exactly(catalog, exported, name):
    for image in catalog[name].images.values():
        path = exported / name / "images" / f"{image.name}.nrrd"
        assert_in_itk(path, image[...], image.grid)
        back = read_back(path)
        assert back.grid == image.grid
        np.testing.assert_array_equal(back.array, image[...])


@pytest.mark.parametrize("name", bundles.CASES)
def test_labels_come_back_exactly_and_with_their_names(catalog, exported, name):
    for label in catalog[name].labels.values():
        path = exported / name / "labels" / f"{label.name}.nrrd"
        if label.axes == "zyx":
            path = path.with_name(f"{label.name}.seg.nrrd")
        assert_in_itk(path, label[...], label.grid)
        back = read_back(path, as_label=True)
        assert back.grid == label.grid
        np.testing.assert_array_equal(back.array, label[...])
        if label.axes == "zyx":
            assert back.layers == (label.categories,)
        else:
            names = json.loads(path.with_suffix(".json").read_text())
            assert names == {str(value): category for value, category in label.categories.items()}


def test_what_3d_slicer_reads_of_its_segments(catalog, exported):
    image = SimpleITK.ReadImage(str(exported / "ct" / "labels" / "organs.seg.nrrd"))
    facts = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys() if key.startswith("Segment")}
    assert facts["Segmentation_MasterRepresentation"] == "Binary labelmap"
    found = {}
    for k in range(len(bundles.CATEGORIES)):
        assert facts[f"Segment{k}_Extent"] == "0 23 0 19 0 4"
        assert facts[f"Segment{k}_Layer"] == "0"
        colour = [float(word) for word in facts[f"Segment{k}_Color"].split()]
        assert len(colour) == 3
        assert min(colour) >= 0
        assert max(colour) <= 1
        found[int(facts[f"Segment{k}_LabelValue"])] = facts[f"Segment{k}_Name"]
    assert found == bundles.CATEGORIES
    assert len({facts[f"Segment{k}_ID"] for k in range(4)}) == 4
    assert f"Segment{len(found)}_ID" not in facts


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "float16"]
)
def test_every_type_and_a_sheared_affine(tmp_path, dtype):
    grid = Grid("zyx", (2, 3, 4), [[0.1, 0.3, 1 / 3, -5.1], [0.2, 0.7, 0, 7], [2.5, 0, 0.1, 1e5 / 3], [0, 0, 0, 1]])
    array = (np.arange(24) * 5).reshape(grid.shape).astype(dtype)
    turn = Reorientation((2, 0, 1), (True, False, True))
    write_case(tmp_path / "b", turn.array(array, axes="zyx"), turn.grid(grid), turn)
    assert export_nrrd(open_catalog(tmp_path / "b"), tmp_path / "out") == {}
    path = tmp_path / "out" / "a" / "images" / "CT.nrrd"
    expected = array.astype(np.float32) if dtype == "float16" else array
    assert_in_itk(path, expected, grid)
    back = read_back(path)
    np.testing.assert_array_equal(back.array, expected)
    np.testing.assert_allclose(back.grid.affine, grid.affine, rtol=1e-15, atol=1e-11)


def write_case(folder, array, grid, turn=None):
    """A bundle of one case with one image."""
    path = folder / "volumes" / "a.h5"
    path.parent.mkdir(parents=True)
    with bundles.CaseWriter(path, case="a", uuid="a") as writer:
        writer.add_image("CT", array, grid, reorientation=turn, attributes={"modality": "CT"})
        writer.set_provenance({})
    record = bundles.describe_case(path, bundles.file_sha256(path), bundles.TREE)
    coco = bundles.coco_from_records([record], bundles.TREE, folder)
    (folder / "data.kwcoco.json").write_text(json.dumps(coco))


@pytest.mark.parametrize(
    ("axes", "shape", "frame"),
    [
        ("yx", (3, 4), "LOCAL"),
        ("cyx", (3, 3, 4), "LOCAL"),
        ("tyx", (5, 3, 4), "LOCAL"),
        ("zyx", (1, 4, 5), "LOCAL"),
        ("tczyx", (2, 3, 1, 4, 5), "LOCAL"),
        ("tczyx", (2, 3, 1, 4, 5), "LPS"),
        ("tzyx", (1, 2, 3, 1), "LPS"),
    ],
)
def test_any_axes(tmp_path, axes, shape, frame):
    n = len(set(axes) & set("zyx"))
    affine = np.eye(n + 1)
    affine[:n, :n] = np.array([[0, 0.1, 0.5], [0.2, 0.7, 0], [3, 0, 0]])[-n:, -n:] + 0.01
    affine[:n, n] = [7, -8, 1 / 3][:n]
    grid = Grid(axes, shape, affine, frame, "mm")
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    write_case(tmp_path / "b", array, grid)
    assert export_nrrd(open_catalog(tmp_path / "b"), tmp_path / "out") == {}
    path = tmp_path / "out" / "a" / "images" / "CT.nrrd"
    assert_in_itk(path, array, grid)
    back = read_back(path)
    assert back.grid == grid
    np.testing.assert_array_equal(back.array, array)


def test_a_world_in_um_is_written_in_mm_and_one_without_unit_only_in_whole_steps(tmp_path):
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    grid = Grid.regular("yx", (3, 4), spacing=(0.25, 0.5), origin=(3, 5), unit="um")
    write_case(tmp_path / "b", array, grid)
    assert export_nrrd(open_catalog(tmp_path / "b"), tmp_path / "out") == {}
    image = SimpleITK.ReadImage(str(tmp_path / "out" / "a" / "images" / "CT.nrrd"))
    np.testing.assert_allclose(image.GetSpacing(), (0.0005, 0.00025), rtol=1e-15)
    np.testing.assert_allclose(image.GetOrigin(), (0.003, 0.005), rtol=1e-15)
    grid = Grid.regular("yx", (3, 4), spacing=(2, 1), unit="unknown")
    write_case(tmp_path / "c", array, grid)
    refused = export_nrrd(open_catalog(tmp_path / "c"), tmp_path / "none")
    with pytest.raises(GridError, match="the unit of the steps of volume 'CT' is not known"):
        raise refused["a"]
    assert not list((tmp_path / "none").rglob("*.*"))


@pytest.mark.parametrize("orientation", ["canonical", "native"])
def test_an_import_of_the_export_is_the_bundle(tmp_path, orientation):
    rng = np.random.default_rng(0)
    turned = Grid("zyx", (4, 5, 6), [[0, 2, 0.1, 3], [-1, 0, 0, 4], [0.2, 0, 3, 5], [0, 0, 0, 1]])
    write_nifti(tmp_path / "raw" / "images" / "a.nii.gz", rng.integers(-9, 9, turned.shape).astype(np.int16), turned)
    labels = rng.choice([0, 1, 7], turned.shape).astype(np.uint8)
    write_nifti(tmp_path / "raw" / "labels" / "a.nii.gz", labels, turned)
    table = ({"name": "Lunge \\ links", "value": 1}, {"name": "tumor", "value": 7})
    options = ImportOptions(categories=table, modality="CT", orientation=orientation)
    first = import_tree(tmp_path / "raw", tmp_path / "b", options=options)
    assert export_nrrd(first, tmp_path / "out") == {}
    again = import_tree(tmp_path / "out", tmp_path / "again", options=ImportOptions(orientation=orientation))
    [case], [back] = first.values(), again.values()
    [image], [found] = case.images.values(), back.images.values()
    assert (image.shape == turned.shape) == (orientation == "native")
    assert image.grid.matches(found.grid, tolerance=1e-9)
    np.testing.assert_array_equal(found[...], image[...])
    [label], [found] = case.labels.values(), back.labels.values()
    assert label.categories == found.categories == {1: "Lunge \\ links", 7: "tumor"}
    np.testing.assert_array_equal(found[...], label[...])
    itk = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(next(map(str, (tmp_path / "out").rglob("*.seg.nrrd")))))
    np.testing.assert_array_equal(itk, labels)


def test_the_same_bundle_makes_the_same_bytes(catalog, exported, tmp_path):
    export_nrrd(catalog, tmp_path / "again")
    files = sorted(p.relative_to(exported) for p in exported.rglob("*.*"))
    assert len(files) == sum(len(case.images) + len(case.labels) for case in catalog.values()) + 3
    for file in files:
        assert (exported / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), file


def test_one_refused_case_costs_itself_alone_and_shows_in_the_exit_code(tmp_path):
    folder = bundles.make_bundle(tmp_path / "b", ("ct",))
    write_case(tmp_path / "c", np.zeros((3, 4), np.uint8), Grid.regular("yx", (3, 4), spacing=(2, 1), unit="unknown"))
    both = json.loads((folder / "data.kwcoco.json").read_text())
    other = json.loads((tmp_path / "c" / "data.kwcoco.json").read_text())["images"]
    for row in other:
        row["file_name"] = str(tmp_path / "c" / row["file_name"])
    both["images"] += [{**row, "id": 99} for row in other]
    (folder / "data.kwcoco.json").write_text(json.dumps(both))
    run = CliRunner().invoke(main, ["export", str(folder), str(tmp_path / "out"), "--to", "nrrd", "--json"])
    assert run.exit_code == 3, run.output
    assert list(json.loads(run.stdout)["refused"]) == ["a"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["ct"]
