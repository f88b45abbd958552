"""NIfTI and nnU-Net's raw layout: out of a bundle come the voxels and the affine that went in."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner

from ndvol.cli import main
from ndvol.errors import OptionError, StoreError
from ndvol.exporting import export_nifti, export_nnunet
from ndvol.formats import ReadOptions
from ndvol.formats.writing import DicomOptions, write_dicom_series, write_nifti
from ndvol.geometry import Grid
from ndvol.importing import ImportOptions, import_tree
from ndvol.opening import open_catalog

RNG = np.random.default_rng(0)
TURN = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
TABLE = ({"name": "organ"}, {"name": "liver", "supercategory": "organ", "value": 1}, {"name": "tumor", "value": 7})


def random_affine(seed):
    """Axes in any order and direction, oblique, sheared and with unequal steps."""
    rng = np.random.default_rng(seed)
    order, signs = rng.permutation(3), rng.choice([-1.0, 1.0], 3)
    linear = (TURN @ np.diag([0.7, 1.1, 2.5]))[:, order] * signs
    linear[:, 0] += 0.1 * linear[:, 1] * (seed % 2)
    return nibabel.affines.from_matvec(linear, rng.uniform(-99, 99, 3))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 6, 3)])
@pytest.mark.parametrize("seed", range(4))
def test_nifti_returns_as_it_was(tmp_path, dtype, shape, seed):
    array = RNG.integers(0, 200, shape).astype(dtype) + np.dtype(dtype).type(seed % 2 if dtype[0] != "f" else 0.25)
    source = nibabel.Nifti1Image(array, random_affine(seed))
    source.set_qform(None, 0)
    (tmp_path / "raw").mkdir()
    nibabel.save(source, tmp_path / "raw" / "a.nii.gz")
    catalog = import_tree(tmp_path / "raw", tmp_path / "b")
    assert export_nifti(catalog, tmp_path / "out") == {}
    [path] = (tmp_path / "out").rglob("*.nii.gz")
    back = nibabel.load(path)
    assert back.get_data_dtype() == dtype
    assert back.shape == shape
    assert np.array_equal(np.asanyarray(back.dataobj), array)
    np.testing.assert_allclose(back.affine, nibabel.load(tmp_path / "raw" / "a.nii.gz").affine, rtol=0, atol=1e-5)


def stored(path):
    """Type and bytes of the numbers in a file, in this machine's byte order, and what is to be done with them."""
    image = nibabel.load(path)
    numbers = image.dataobj.get_unscaled()
    dtype = numbers.dtype.newbyteorder("=")
    return dtype, numbers.astype(dtype).tobytes(order="F"), image.dataobj.slope, image.dataobj.inter


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32"])
@pytest.mark.parametrize(("slope", "inter"), [(1, 0), (2, -1024), (1, 0.5), (0.37, 1.5)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_stored_numbers_return_with_their_scale(tmp_path, dtype, slope, inter, order):
    array = RNG.integers(0, 200, (4, 5, 6)).astype(dtype)
    source = nibabel.Nifti1Image(array, random_affine(1), nibabel.Nifti1Header(endianness=order))
    source.set_data_dtype(dtype)
    source.header.set_slope_inter(slope, inter)
    source.set_qform(None, 0)
    (tmp_path / "raw").mkdir()
    nibabel.save(source, tmp_path / "raw" / "a.nii")
    catalog = import_tree(tmp_path / "raw", tmp_path / "b")
    assert export_nifti(catalog, tmp_path / "out") == {}
    [path] = (tmp_path / "out").rglob("*.nii.gz")
    assert stored(path) == stored(tmp_path / "raw" / "a.nii")
    assert stored(path)[2:] == (np.float32(slope), np.float32(inter))
    assert np.array_equal(nibabel.load(path).affine, nibabel.load(tmp_path / "raw" / "a.nii").affine)


def test_voxels_that_no_stored_number_gives_are_written_as_they_are(tmp_path):
    grid = Grid.regular("zyx", (4, 5, 6), spacing=(2, 1, 1))
    sheared = grid.affine.copy()
    sheared[1, 0] = 0.7
    source = nibabel.Nifti1Image(RNG.integers(0, 200, (6, 5, 4)).astype(np.int16), None)
    source.set_sform(Grid("zyx", grid.shape, sheared).nifti_affine, 1)
    source.header.set_slope_inter(0.5, 0)
    (tmp_path / "raw").mkdir()
    nibabel.save(source, tmp_path / "raw" / "a.nii")
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=ImportOptions(reading=ReadOptions(deskew=True)))
    assert export_nifti(catalog, tmp_path / "out") == {}
    back = nibabel.load(next((tmp_path / "out").rglob("*.nii.gz")))
    [volume] = catalog["a"].images.values()
    assert (back.get_data_dtype(), back.dataobj.slope) == (np.float32, 1)
    assert np.array_equal(np.asanyarray(back.dataobj).T, volume[...])


@pytest.mark.parametrize("codes", [(4, 0), (2, 1), (0, 3)])
def test_space_and_time_step_return(tmp_path, codes):
    affine = nibabel.affines.from_matvec(TURN @ np.diag([0.7, 1.1, 2.5]), (1, 2, 3))
    source = nibabel.Nifti1Image(RNG.integers(0, 200, (4, 5, 6, 3)).astype(np.int16), None)
    for code, put in zip(codes, (source.set_sform, source.set_qform), strict=True):
        put(affine if code else None, code)
    source.header.set_xyzt_units("mm", "msec")
    source.header["pixdim"][4] = 2500
    (tmp_path / "raw").mkdir()
    nibabel.save(source, tmp_path / "raw" / "a.nii.gz")
    export_nifti(import_tree(tmp_path / "raw", tmp_path / "b"), tmp_path / "out")
    back = nibabel.load(next((tmp_path / "out").rglob("*.nii.gz")))
    assert int(back.header["sform_code"]) == (codes[0] or codes[1])
    assert (back.header.get_zooms()[3], back.header.get_xyzt_units()) == (2.5, ("mm", "sec"))
    np.testing.assert_allclose(back.affine, affine, atol=1e-6)


@pytest.mark.parametrize("axes", ["RAS", "LAS", "LPS", "RPI", "ASR", "PIL"])
def test_label_and_image_keep_their_own_order_of_axes(tmp_path, axes):
    """An image in one of the usual orders, its label map in another."""
    shape = (4, 5, 6)
    where = nibabel.affines.from_matvec(np.diag([1, 2, 3]), (4, 5, 6))
    image = nibabel.Nifti1Image(RNG.integers(-9, 9, shape).astype(np.int16), where)
    label = nibabel.Nifti1Image(RNG.choice([0, 1, 7], shape).astype(np.uint8), where)
    turn = nibabel.orientations.axcodes2ornt(tuple(axes))
    for folder, one in (("images", image.as_reoriented(turn)), ("labels", label)):
        (tmp_path / "raw" / folder).mkdir(parents=True)
        nibabel.save(one, tmp_path / "raw" / folder / "a.nii")
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=ImportOptions(categories=TABLE, modality="CT"))
    export_nifti(catalog, tmp_path / "out")
    for kind, name in (("images", "CT"), ("labels", "labels")):
        path = tmp_path / "out" / "a" / kind / f"{name}.nii.gz"
        source = tmp_path / "raw" / kind / "a.nii"
        assert stored(path) == stored(source)
        assert np.array_equal(nibabel.load(path).affine, nibabel.load(source).affine)


def cohort(folder, *, labelled=("a", "b"), values=(0, 1, 7)):
    """Two cases, one stored back to front."""
    grid = Grid.regular("zyx", (4, 5, 6), spacing=(2, 1, 1), origin=(5, 6, 7))
    for name, where in (("a", grid), ("b", grid.flip(0))):
        write_nifti(folder / "raw/images" / f"{name}.nii", RNG.integers(-9, 9, grid.shape).astype(np.int16), where)
        if name in labelled:
            write_nifti(folder / "raw/labels" / f"{name}.nii", RNG.choice(values, grid.shape).astype(np.uint8), where)
    return import_tree(folder / "raw", folder / "b", options=ImportOptions(categories=TABLE, modality="CT"))


def test_labels_keep_their_values_and_get_their_names(tmp_path):
    catalog = cohort(tmp_path)
    assert export_nifti(catalog, tmp_path / "out") == {}
    for name in ("a", "b"):
        for kind, stem in (("images", "CT"), ("labels", "labels")):
            back = nibabel.load(tmp_path / "out" / name / kind / f"{stem}.nii.gz")
            source = nibabel.load(tmp_path / "raw" / kind / f"{name}.nii")
            assert np.array_equal(np.asanyarray(back.dataobj), np.asanyarray(source.dataobj))
            np.testing.assert_allclose(back.affine, source.affine, atol=1e-6)
        names = json.loads((tmp_path / "out" / name / "labels" / "labels.json").read_text())
        assert names == {"1": "liver", "7": "tumor"}


def test_nnunet_there_and_back(tmp_path):
    catalog = cohort(tmp_path, labelled=("a",))
    assert export_nnunet(catalog, tmp_path / "out") == {}
    found = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*"))
    assert found == ["dataset.json", "imagesTr/a_0000.nii.gz", "imagesTs/b_0000.nii.gz", "labelsTr/a.nii.gz"]
    table = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert table == {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1, "tumor": 2},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    again = import_tree(tmp_path / "out", tmp_path / "again")
    case, [label] = catalog["a"], again["a"].labels.values()
    assert np.array_equal(again["a"].images["CT"][...], case.images["CT"][...])
    assert again["a"].images["CT"].grid.matches(case.images["CT"].grid)
    [own] = case.labels.values()
    for value, name in own.categories.items():
        [number] = [v for v, n in label.categories.items() if n == name]
        assert np.array_equal(label[...] == number, own[...] == value), name


def files_of(folder):
    """Every file of a data set in nnU-Net's raw layout: its NIfTI as affine and stored numbers, its table as JSON."""
    found = {}
    for path in folder.rglob("*.*"):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".json":
            found[name] = json.loads(path.read_text())
        else:
            found[name] = (*stored(path), nibabel.load(path).affine.tolist())
    return found


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        ({"background": 0, "liver": 1, "cyst": 2, "tumor": 3}, None),
        ({"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}, [1, 2, 3]),
        ({"background": 0, "whole": [1, 2, 3], "core": [1, 3], "enhancing": 3}, [2, 1, 3]),
    ],
    ids=["labels", "regions", "regions in another order"],
)
def test_nnunets_raw_layout_returns_as_it_was(tmp_path, labels, order):
    root = tmp_path / "Dataset001_x"
    for number, case in enumerate(("s_01", "s_02", "s_03")):
        affine, shape = random_affine(number), (4 + number, 5, 6)
        volumes = {f"imagesTr/{case}_{k:04d}": RNG.integers(-9, 9, shape).astype(np.int16) for k in range(2)}
        if number < 2:
            volumes[f"labelsTr/{case}"] = RNG.choice([0, 1, 2, 3], shape).astype(np.uint8)
        for name, array in volumes.items():
            path = root / (f"{name}.nii.gz" if number < 2 else f"{name}.nii.gz".replace("Tr", "Ts"))
            path.parent.mkdir(parents=True, exist_ok=True)
            image = nibabel.Nifti1Image(array, affine)
            image.set_sform(affine, 1)
            nibabel.save(image, path)
    table = {"channel_names": {"0": "T2", "1": "T1"}, "labels": labels, "numTraining": 2, "file_ending": ".nii.gz"}
    table |= {"regions_class_order": order} if order else {}
    (root / "dataset.json").write_text(json.dumps(table))
    assert export_nnunet(import_tree(root, tmp_path / "b"), tmp_path / "out") == {}
    assert files_of(tmp_path / "out") == files_of(root)


def test_cases_that_do_not_fit_are_named_and_the_others_written(tmp_path):
    cohort(tmp_path)
    grid = Grid.regular("zyx", (4, 5, 6), spacing=(2, 1, 1))
    (tmp_path / "raw/pet").mkdir()
    write_dicom_series(tmp_path / "raw/pet", np.ones(grid.shape, np.int16), grid, DicomOptions(modality="PT"))
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=ImportOptions(categories=TABLE, modality="CT"))
    assert len(catalog) == 3
    refused = export_nnunet(catalog, tmp_path / "out")
    [(name, error)] = refused.items()
    assert isinstance(error, OptionError)
    assert "other images than the first case" in str(error)
    assert not list((tmp_path / "out").rglob(f"{name}*"))
    result = CliRunner().invoke(
        main, ["export", str(tmp_path / "b"), str(tmp_path / "cli"), "--to", "nnunet", "--json"]
    )
    assert result.exit_code == 3
    assert json.loads(result.stdout)["refused"] == {name: str(error)}


def test_a_case_without_a_place_in_the_patient_is_refused_as_a_whole(tmp_path):
    write_nifti(
        tmp_path / "raw/images/a.nii", np.ones((4, 5, 6), np.int16), Grid.regular("zyx", (4, 5, 6), spacing=(2, 1, 1))
    )
    lost = nibabel.Nifti1Image(np.ones((4, 5, 6), np.int16), None)
    nibabel.save(lost, tmp_path / "raw/images/b.nii")
    refused = export_nifti(import_tree(tmp_path / "raw", tmp_path / "b"), tmp_path / "out")
    assert list(refused) == ["b"]
    assert "has none; got frame LOCAL; export it as nrrd or portable" in str(refused["b"])
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a"]


def test_nothing_is_overwritten(tmp_path):
    catalog = cohort(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    for export in (export_nifti, export_nnunet):
        with pytest.raises(StoreError, match="is not empty"):
            export(catalog, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_dicom_to_nifti_has_its_place(tmp_path):
    grid = Grid.regular("zyx", (4, 5, 6), spacing=(3, 0.5, 0.8), origin=(-10, 20, 30), frame="LPS", unit="mm")
    array = RNG.integers(-900, 900, grid.shape).astype(np.int16)
    write_dicom_series(tmp_path / "raw", array, grid)
    catalog = import_tree(tmp_path / "raw", tmp_path / "b")
    assert export_nifti(open_catalog(tmp_path / "b"), tmp_path / "out") == {}
    [path] = (tmp_path / "out").rglob("*.nii.gz")
    back = nibabel.load(path)
    assert len(catalog) == 1
    assert np.array_equal(np.asanyarray(back.dataobj).T, array)
    np.testing.assert_allclose(back.affine, grid.nifti_affine, atol=1e-6)
