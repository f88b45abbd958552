"""The scripts for data sets in NIfTI, each on a tiny folder of the set's layout."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ndvol.errors import SourceError
from ndvol.geometry import Grid


def decathlon(folder, labels, modality, nifti, name="case_001"):
    """A task with a training and a test case; the images are 4-D where there are several."""
    shape = (4, 6, 5) if len(modality) == 1 else (len(modality), 4, 6, 5)
    grid = Grid.regular("tzyx"[-len(shape) :], shape, spacing=(3, 1, 1.5), origin=(-5, 4, 20))
    folder.mkdir(parents=True)
    table = {"modality": dict(enumerate(modality)), "labels": {"0": "background"} | labels}
    (folder / "dataset.json").write_text(json.dumps(table))
    # As unpacked on a Mac: not data.
    (folder / "imagesTr").mkdir()
    (folder / "imagesTr" / f"._{name}.nii.gz").write_bytes(b"\0\5\26\7")
    nifti(folder / "imagesTs" / "case_002.nii.gz", grid=grid)
    return nifti(folder / "imagesTr" / f"{name}.nii.gz", grid=grid), nifti(
        folder / "labelsTr" / f"{name}.nii.gz", map(int, labels)
    )


def test_a_task_of_the_decathlon(tmp_path, script, nifti):
    image, label = decathlon(tmp_path / "Task03_Liver", {"1": "liver", "2": "cancer"}, ["CT"], nifti)
    for source in (tmp_path, tmp_path / "Task03_Liver"):
        catalog = script("msd").import_msd(source, tmp_path / "bundle", "Task03_Liver")
        assert list(catalog) == ["case_001", "case_002"]
        assert not [v for v in catalog.verdicts if v.status == "refused"]
    case = catalog["case_001"]
    assert (list(case.images), list(case.labels), list(catalog["case_002"].labels)) == (["CT"], ["labelsTr"], [])
    np.testing.assert_array_equal(case.images["CT"], image)
    np.testing.assert_array_equal(case.labels["labelsTr"], label)
    assert case.labels["labelsTr"].categories == {1: "liver", 2: "cancer"}
    assert catalog.categories.descendants("liver") == ("cancer",)
    assert case.images["CT"].attributes["modality"] == "CT"


def test_a_task_of_several_images(tmp_path, script, nifti):
    names = ("FLAIR", "T1w", "t1gd", "T2w")
    labels = {"1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}
    image, label = decathlon(tmp_path / "Task01_BrainTumour", labels, names, nifti)
    catalog = script("msd").import_msd(tmp_path, tmp_path / "bundle", "Task01_BrainTumour")
    case = catalog["case_001"]
    assert sorted(case.images) == sorted(names)
    for k, name in enumerate(names):
        np.testing.assert_array_equal(case.images[name], image[k])
    np.testing.assert_array_equal(case.labels["labelsTr"], label)
    assert catalog.categories.descendants("tumour core") == ("non-enhancing tumour", "enhancing tumour")


@pytest.mark.parametrize(
    ("labels", "missing", "message"),
    [
        (
            {"1": "spleen"},
            "",
            r"dataset.json is not that of the task; got 1 spleen; expected the values \[1, 2\]",
        ),
        (
            {"1": "liver", "2": "cancer"},
            "labelsTr",
            "holds no labelsTr; got dataset.json, imagesTr, imagesTs; expected",
        ),
    ],
)
def test_a_folder_that_is_not_the_task(tmp_path, script, nifti, labels, missing, message):
    decathlon(tmp_path / "Task03_Liver", labels, ["CT"], nifti)
    if missing:
        (tmp_path / "Task03_Liver" / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match=message):
        script("msd").import_msd(tmp_path, tmp_path / "bundle", "Task03_Liver")


def test_every_task_has_a_tree(script):
    msd, common = script("msd"), script("common")
    assert len(msd.TASKS) == 10
    for modality, table in msd.TASKS.values():
        # Raises for a tree that is none, or for a value given twice.
        msd.ndvol.ImportOptions(categories=common.categories(table), modality=modality)


def structures_of(script, version):
    """Names that version 1 (104) or 2 (117) of TotalSegmentator has masks of."""
    rows = list(script("totalsegmentator").rows(script("totalsegmentator").TREE))
    parents = {below for _, below, _ in rows}
    masks = {name for name, _, _ in rows if name not in parents}
    chambers = {name for name, below, _ in rows if below == "heart"} - {"atrial_appendage_left"}
    only_1 = chambers | {"pulmonary_artery", "face"}
    only_2 = {"heart", "atrial_appendage_left", "thyroid_gland", "prostate", "kidney_cyst_left", "kidney_cyst_right"}
    only_2 |= {"vertebrae_S1", "pulmonary_vein", "brachiocephalic_trunk", "superior_vena_cava", "spinal_cord", "skull"}
    only_2 |= {
        f"{name}_{side}" for name in ("subclavian_artery", "common_carotid_artery") for side in ("left", "right")
    }
    only_2 |= {"brachiocephalic_vein_left", "brachiocephalic_vein_right", "sternum", "costal_cartilages"}
    return masks - only_2 if version == 1 else (masks | {"heart"}) - only_1


def test_totalsegmentator(tmp_path, script, nifti):
    masks = {name: np.zeros((4, 6, 5), np.uint8) for name in ("liver", "rib_left_1", "rib_right_12", "heart")}
    masks["liver"][1, 2, 3] = masks["rib_left_1"][0] = 1
    for subject in ("s0000", "s0011"):
        image = nifti(tmp_path / "raw" / subject / "ct.nii.gz")
        for name, mask in masks.items():
            nifti(tmp_path / "raw" / subject / "segmentations" / f"{name}.nii.gz", array=mask)
    (tmp_path / "raw" / "meta.csv").write_text("image_id;age\ns0000;66\n")
    catalog = script("totalsegmentator").import_totalsegmentator(tmp_path / "raw", tmp_path / "bundle")
    assert list(catalog) == ["s0000", "s0011"]
    case = catalog["s0011"]
    [label] = case.labels.values()
    np.testing.assert_array_equal(case.images["ct"], image)
    values = {name: value for value, name in label.categories.items()}
    assert set(values) == set(masks)
    for name, value in values.items():
        np.testing.assert_array_equal(np.asarray(label) == value, masks[name] == 1)
    assert catalog.categories.ancestors("rib_left_1") == ("rib_left", "rib", "bone")
    assert [v.message for v in catalog.verdicts if v.status == "imported with warnings"] == []


def test_the_tree_has_all_structures_of_both_versions(script):
    assert (len(structures_of(script, 1)), len(structures_of(script, 2))) == (104, 117)


def test_kits(tmp_path, script, nifti):
    for name in ("case_00000", "case_00001"):
        image = nifti(tmp_path / "dataset" / name / "imaging.nii.gz")
        label = nifti(tmp_path / "dataset" / name / "segmentation.nii.gz", (1, 2, 3))
        nifti(tmp_path / "dataset" / name / "instances" / "kidney_instance-1_annotation-1.nii.gz", (1,))
    kits = script("kits")
    for _ in range(2):
        catalog = kits.import_kits(tmp_path / "dataset", tmp_path / "bundle")
        assert list(catalog) == ["case_00000", "case_00001"]
        assert not (tmp_path / "bundle" / ".links").exists()
    # The second run finds the links where the first had them.
    assert {v.status for v in catalog.verdicts} == {"unchanged"}
    case = catalog["case_00001"]
    assert (list(case.images), list(case.labels)) == (["CT"], ["segmentation"])
    np.testing.assert_array_equal(case.images["CT"], image)
    np.testing.assert_array_equal(case.labels["segmentation"], label)
    assert case.labels["segmentation"].categories == {1: "kidney", 2: "tumor", 3: "cyst"}
    assert catalog.categories.descendants("kidney and masses") == ("kidney", "mass", "tumor", "cyst")
    (tmp_path / "dataset" / "case_00001" / "imaging.nii.gz").unlink()
    with pytest.raises(
        SourceError, match=r"is not complete; got 2 folders without case_00001/imaging.nii.gz; expected"
    ):
        kits.import_kits(tmp_path / "dataset", tmp_path / "bundle")
    with pytest.raises(
        SourceError, match=r"holds no folders case_\*; got dataset, bundle|got bundle, dataset; expected"
    ):
        kits.import_kits(tmp_path, tmp_path / "bundle")


@pytest.mark.parametrize(
    ("release", "case", "contrasts", "values", "core"),
    [
        ("2021", "BraTS2021_00000", ("_flair", "_t1", "_t1ce", "_t2", "_seg"), (1, 2, 4), ("NCR", "ET")),
        ("2023", "BraTS-GLI-00000-000", ("-t1c", "-t1n", "-t2f", "-t2w", "-seg"), (1, 2, 3), ("NCR", "ET")),
        ("2024", "BraTS-GLI-00005-100", ("-t1c", "-t1n", "-t2f", "-t2w", "-seg"), (1, 2, 3, 4), ("NETC", "ET")),
    ],
)
def test_brats(tmp_path, script, nifti, release, case, contrasts, values, core):
    folder = tmp_path / "raw" / case
    arrays = {c: nifti(folder / f"{case}{c}.nii.gz", values if c.endswith("seg") else None) for c in contrasts}
    catalog = script("brats").import_brats(tmp_path / "raw", tmp_path / "bundle", release)
    [(name, found)] = catalog.items()
    assert name == case
    assert (list(found.images), list(found.labels)) == ([c[1:] for c in contrasts[:-1]], ["seg"])
    for contrast in contrasts[:-1]:
        np.testing.assert_array_equal(found.images[contrast[1:]], arrays[contrast])
    label = found.labels["seg"]
    np.testing.assert_array_equal(label, arrays[contrasts[-1]])
    assert label.categories[values[-1]] == {"2024": "RC"}.get(release, "ET")
    assert catalog.categories.descendants("TC") == core
    assert "RC" not in catalog.categories.descendants("WT")
    assert catalog.categories.ancestors("ET") == ("TC", "WT")
    (folder / f"{case}{contrasts[0]}.nii.gz").unlink()
    with pytest.raises(SourceError, match=f"not complete; got 1 folders without {case}/{case}{contrasts[0]}.nii.gz"):
        script("brats").import_brats(tmp_path / "raw", tmp_path / "bundle", release)


def test_the_other_tasks_of_brats_are_refused(tmp_path, script, nifti):
    nifti(tmp_path / "BraTS-PED-00001-000" / "BraTS-PED-00001-000-t1c.nii.gz")
    with pytest.raises(SourceError, match=r"holds no folders BraTS-GLI-\*; got BraTS-PED-00001-000; expected"):
        script("brats").import_brats(tmp_path, tmp_path / "bundle", "2024")


def test_amos(tmp_path, script, nifti):
    raw = tmp_path / "amos22"
    images = {name: nifti(raw / f"{name}.nii.gz") for name in ("imagesTr/amos_0001", "imagesVa/amos_0507")}
    labels = nifti(raw / "labelsTr" / "amos_0001.nii.gz", (1, 8, 15))
    nifti(raw / "labelsVa" / "amos_0507.nii.gz", (1,))
    nifti(raw / "imagesTs" / "amos_0500.nii.gz")
    (raw / "dataset.json").write_text(json.dumps({"modality": {"0": "CT"}, "labels": {"0": "background"}}))
    catalog = script("amos").import_amos(raw, tmp_path / "bundle")
    assert list(catalog) == ["amos_0001-CT", "amos_0500-CT", "amos_0507-MR"]
    np.testing.assert_array_equal(catalog["amos_0001-CT"].images["image"], images["imagesTr/amos_0001"])
    np.testing.assert_array_equal(catalog["amos_0507-MR"].images["image"], images["imagesVa/amos_0507"])
    np.testing.assert_array_equal(catalog["amos_0001-CT"].labels["labels"], labels)
    assert catalog["amos_0001-CT"].labels["labels"].categories[8] == "aorta"
    assert list(catalog["amos_0500-CT"].labels) == []
    assert catalog.categories.descendants("kidney") == ("right kidney", "left kidney")
    (raw / "labelsVa" / "amos_0507.nii.gz").unlink()
    with pytest.raises(
        SourceError, match=r"is not complete; got no .*labelsVa/amos_0507.nii.gz; expected imagesTr/amos"
    ):
        script("amos").import_amos(raw, tmp_path / "bundle")
    with pytest.raises(
        SourceError, match=r"holds no images amos_\*.nii.gz; got .*; expected imagesTr/amos_0001.nii.gz"
    ):
        script("amos").import_amos(tmp_path, tmp_path / "bundle")
