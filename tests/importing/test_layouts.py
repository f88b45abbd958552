"""Folder layouts that import without questions, and come back out equal."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from ndvol.errors import CategoryError
from ndvol.formats.writing import write_nifti
from ndvol.geometry import Grid
from ndvol.importing import ImportOptions, import_tree, plan_import
from ndvol.importing.layouts import categories_of_labels

GRID = Grid.regular("zyx", (6, 10, 12), spacing=(3, 1, 1), origin=(-5, 4, 20))


def image(seed):
    return np.random.default_rng(seed).integers(-500, 500, GRID.shape).astype(np.int16)


def label(seed, values):
    return np.random.default_rng(seed).choice(values, GRID.shape).astype(np.uint8)


def nnunet(folder, labels, channels=("CT", "PET"), cases=("a", "b")):
    folder.mkdir()
    table = {"channel_names": dict(enumerate(channels)), "labels": labels, "file_ending": ".nii.gz", "numTraining": 2}
    (folder / "dataset.json").write_text(json.dumps(table))
    for k, case in enumerate(cases):
        for number in range(len(channels)):
            write_nifti(folder / "imagesTr" / f"{case}_{number:04d}.nii.gz", image(10 * k + number), GRID)
        write_nifti(folder / "labelsTr" / f"{case}.nii.gz", label(k, [0, 1, 2]), GRID)
    # A test case of the same name as a training case is another case.
    for number in range(len(channels)):
        write_nifti(folder / "imagesTs" / f"a_{number:04d}.nii.gz", image(50 + number), GRID)


def test_nnunet_raw(tmp_path):
    nnunet(tmp_path / "Dataset001_Toy", {"background": 0, "liver": 1, "tumor": 2})
    for _ in range(2):
        catalog = import_tree(tmp_path / "Dataset001_Toy", tmp_path / "bundle")
        assert sorted(catalog) == ["b", "imagesTr-a", "imagesTs-a"]
        assert {v.status for v in catalog.verdicts} <= {"imported", "unchanged", "skipped"}
    case = catalog["imagesTr-a"]
    assert (sorted(case.images), list(case.labels)) == (["CT", "PET"], ["labelsTr"])
    np.testing.assert_array_equal(case.images["CT"], image(0))
    np.testing.assert_array_equal(case.images["PET"], image(1))
    np.testing.assert_array_equal(case.labels["labelsTr"], label(0, [0, 1, 2]))
    assert case.labels["labelsTr"].categories == {1: "liver", 2: "tumor"}
    assert (sorted(catalog["imagesTs-a"].images), list(catalog["imagesTs-a"].labels)) == (["CT", "PET"], [])
    np.testing.assert_array_equal(catalog["imagesTs-a"].images["PET"], image(51))


def test_nnunet_regions_become_a_tree(tmp_path):
    regions = {"background": 0, "whole tumor": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    nnunet(tmp_path / "raw", regions, channels=("T1",), cases=("a",))
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle")
    assert catalog.categories.names == ("whole tumor", "core", "enhancing")
    assert catalog.categories.ancestors("enhancing") == ("core", "whole tumor")
    assert catalog["imagesTr-a"].labels["labelsTr"].categories == {1: "whole tumor", 2: "core", 3: "enhancing"}


def test_a_changed_dataset_json_is_noticed(tmp_path):
    nnunet(tmp_path / "raw", {"background": 0, "liver": 1, "tumor": 2}, channels=("CT",), cases=("a",))
    import_tree(tmp_path / "raw", tmp_path / "bundle")
    table = json.loads((tmp_path / "raw" / "dataset.json").read_text())
    (tmp_path / "raw" / "dataset.json").write_text(json.dumps({**table, "labels": {"spleen": 1, "cyst": 2}}))
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle")
    assert catalog["imagesTr-a"].labels["labelsTr"].categories == {1: "spleen", 2: "cyst"}


def test_the_options_table_wins_over_the_layouts(tmp_path):
    nnunet(tmp_path / "raw", {"background": 0, "liver": 1, "tumor": 2}, channels=("CT",), cases=("a",))
    table = ({"name": "organ"}, {"name": "leber", "value": 1, "supercategory": "organ"}, {"name": "tumour", "value": 2})
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle", options=ImportOptions(categories=table))
    assert catalog.categories.names == ("organ", "leber", "tumour")


def test_the_decathlon(tmp_path):
    table = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "pancreas", "2": "cancer"}}
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "dataset.json").write_text(json.dumps(table))
    for k in range(2):
        write_nifti(tmp_path / "raw" / "imagesTr" / f"pancreas_{k:03d}.nii.gz", image(k), GRID)
        write_nifti(tmp_path / "raw" / "labelsTr" / f"pancreas_{k:03d}.nii.gz", label(k, [0, 1, 2]), GRID)
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle")
    assert list(catalog) == ["pancreas_000", "pancreas_001"]
    assert catalog["pancreas_001"].labels["labelsTr"].categories == {1: "pancreas", 2: "cancer"}
    np.testing.assert_array_equal(catalog["pancreas_001"].images["CT"], image(1))


def test_a_validation_part_pairs_as_the_training_part_does(tmp_path):
    """As AMOS has it: imagesVa and labelsVa beside imagesTr and labelsTr."""
    for k, part in enumerate(("Tr", "Va")):
        write_nifti(tmp_path / "raw" / f"images{part}" / "amos_0001.nii.gz", image(k), GRID)
        write_nifti(tmp_path / "raw" / f"labels{part}" / "amos_0001.nii.gz", label(k, [0, 1, 2]), GRID)
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle")
    assert list(catalog) == ["imagesTr-amos_0001", "imagesVa-amos_0001"]
    for k, part in enumerate(("Tr", "Va")):
        case = catalog[f"images{part}-amos_0001"]
        assert list(case.labels) == [f"labels{part}"]
        np.testing.assert_array_equal(case.labels[f"labels{part}"], label(k, [0, 1, 2]))


def structures(folder, count, overlap=False):
    """Disjoint masks, or masks each of which shares a plane with the next."""
    masks = {}
    for k in range(count):
        mask = np.zeros(GRID.shape, np.uint8)
        mask.reshape(-1)[k * 6 : k * 6 + (7 if overlap else 6)] = 1
        masks[f"structure_{k:03d}"] = mask
        write_nifti(folder / "segmentations" / f"structure_{k:03d}.nii.gz", mask, GRID)
    write_nifti(folder / "ct.nii.gz", image(99), GRID)
    return masks


def test_one_mask_per_structure_104_of_them(tmp_path):
    masks = {case: structures(tmp_path / "raw" / case, 104) for case in ("s0001", "s0002")}
    options = ImportOptions(modality="CT")
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle", options=options)
    assert list(catalog) == ["s0001-ct", "s0002-ct"]
    case = catalog["s0002-ct"]
    np.testing.assert_array_equal(case.images["CT"], image(99))
    [volume] = case.labels.values()
    assert (volume.name, volume.dtype) == ("segmentations", np.uint8)
    names = {name: value for value, name in volume.categories.items()}
    for name, mask in masks["s0002"].items():
        np.testing.assert_array_equal(np.asarray(volume) == names[name], mask == 1)


def test_a_mask_that_gets_another_name_is_noticed(tmp_path):
    """Its bytes and its place among the others stay; the name of the structure does not."""
    structures(tmp_path / "raw", 3)
    import_tree(tmp_path / "raw", tmp_path / "bundle")
    masks = tmp_path / "raw" / "segmentations"
    (masks / "structure_001.nii.gz").rename(masks / "structure_001_liver.nii.gz")
    [volume] = import_tree(tmp_path / "raw", tmp_path / "bundle")["ct"].labels.values()
    assert sorted(volume.categories.values()) == ["structure_000", "structure_001_liver", "structure_002"]


def test_masks_that_overlap_lose_no_voxel(tmp_path):
    masks = structures(tmp_path / "raw", 5, overlap=True)
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle")
    labels = catalog["ct"].labels
    assert list(labels) == ["segmentations", "segmentations-2"]
    for name, mask in masks.items():
        [found] = [np.asarray(v) == k for v in labels.values() for k, n in v.categories.items() if n == name]
        np.testing.assert_array_equal(found, mask == 1)


def test_a_mask_of_two_values_among_masks_is_refused_alone(tmp_path):
    masks = structures(tmp_path / "raw", 3)
    write_nifti(tmp_path / "raw" / "segmentations" / "odd.nii.gz", label(0, [0, 1, 2]), GRID)
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle")
    [odd] = [v for v in catalog.verdicts if v.source == "segmentations/odd.nii.gz"]
    assert (odd.status, odd.code, odd.case) == ("refused", "not-a-mask", "ct")
    [volume] = catalog["ct"].labels.values()
    names = {name: value for value, name in volume.categories.items()}
    assert names.keys() == masks.keys()
    for name, mask in masks.items():
        np.testing.assert_array_equal(np.asarray(volume) == names[name], mask == 1)


def test_two_label_folders_make_two_label_volumes(tmp_path):
    write_nifti(tmp_path / "raw" / "images" / "a.nii.gz", image(0), GRID)
    write_nifti(tmp_path / "raw" / "labels" / "a.nii.gz", label(1, [0, 1]), GRID)
    write_nifti(tmp_path / "raw" / "masks" / "a.nii.gz", label(2, [0, 1]), GRID)
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle")
    assert list(catalog["a"].labels) == ["labels", "masks"]
    np.testing.assert_array_equal(catalog["a"].labels["masks"], label(2, [0, 1]))


def test_a_folder_called_masks_without_images_is_a_folder_of_images(tmp_path):
    write_nifti(tmp_path / "raw" / "masks" / "a.nii.gz", image(0), GRID)
    assert [c.images[0].name for c in plan_import(tmp_path / "raw").cases] == ["image"]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"a": [1, 2], "b": [2, 3]}, "overlap, but neither holds the other"),
        ({"a": [1, 2]}, "have no name of their own"),
        ({"a": "one"}, "invalid literal"),
    ],
)
def test_labels_that_make_no_sense_are_refused(tmp_path, labels, reason):
    nnunet(tmp_path / "raw", labels, cases=())
    with pytest.raises(CategoryError, match=reason):
        plan_import(tmp_path / "raw")


def test_both_ways_of_writing_labels_are_read():
    ours = [{"name": "liver", "supercategory": None, "value": 1}]
    assert list(categories_of_labels({"background": 0, "liver": 1})) == ours
    assert list(categories_of_labels({"0": "background", "1": "liver"})) == ours


def test_another_programs_dataset_json_is_left_alone(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "dataset.json").write_text('{"labels": ["a"]}')
    write_nifti(tmp_path / "raw" / "a.nii.gz", image(0), GRID)
    plan = plan_import(tmp_path / "raw")
    assert [v.code for v in plan.verdicts] == ["unknown-format"]


def test_an_archive_is_named_as_one(tmp_path):
    write_nifti(tmp_path / "raw" / "a.nii.gz", image(0), GRID)
    with zipfile.ZipFile(tmp_path / "raw" / "scans.zip", "w") as archive:
        archive.writestr("b.dcm", b"x")
    [verdict] = plan_import(tmp_path / "raw").verdicts
    assert (verdict.source, verdict.status, verdict.code) == ("scans.zip", "refused", "archive")
    assert "unpack it first" in verdict.message
