"""What forms a case, how its images are called, and which image its labels belong to."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid
from test_defects import write_segmentation, write_structure_set

from ndvol.errors import ImportFailedError, OptionError, SamplingError
from ndvol.formats.writing import DicomOptions, write_dicom_series, write_nifti
from ndvol.geometry import Grid, Window
from ndvol.importing import ImportOptions, import_tree, plan_import
from ndvol.opening import open_catalog
from ndvol.sampler import VolumeSampler
from ndvol.sampling import Negative, Positive, Reading

CT_GRID = Grid.regular("zyx", (8, 10, 12), spacing=(2.5, 0.75, 0.5), origin=(-60, 12, 8))
"""That of test_defects, whose structures and segmentations are drawn on it."""
PET_GRID = Grid.regular("zyx", (5, 6, 7), spacing=(4, 2, 1.5), origin=(-61, 11, 5))
STUDY = ImportOptions(case_by="study")
FOLDER = ImportOptions(case_by="folder")


def stored(seed, grid):
    return np.random.default_rng(seed).integers(0, 900, grid.shape).astype(np.int16)


def scan(folder, grid, modality="CT", seed="exam"):
    """A series of the study and frame of reference that `seed` stands for."""
    array = stored(len(folder.name), grid)
    # UIDs are made from seed and modality: two series of one modality need other ones.
    files = write_dicom_series(folder, array, grid, DicomOptions(modality=modality, seed=seed))
    series, frame = generate_uid(entropy_srcs=[seed, folder.name]), generate_uid(entropy_srcs=[seed, "frame"])
    for k, file in enumerate(files):
        dataset = pydicom.dcmread(file)
        dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = series, frame
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[seed, folder.name, str(k)])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(file)
    return pydicom.dcmread(files[0]), array


def ct_and_pet(root):
    ct, pet = scan(root / "a ct", CT_GRID), scan(root / "b pet", PET_GRID, "PT")
    assert ct[0].StudyInstanceUID == pet[0].StudyInstanceUID
    return ct, pet


@pytest.mark.parametrize("key", ["images", "labels"])
def test_the_choice_is_checked(key):
    with pytest.raises(OptionError, match="unknown case_by; got"):
        ImportOptions(case_by=key)


# DICOM studies.


def test_the_images_of_a_study_keep_their_grids(tmp_path):
    (_, ct), (_, pet) = ct_and_pet(tmp_path / "raw")
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=STUDY)
    [(name, case)] = catalog.items()
    assert name.startswith("study-")
    assert list(case.images) == ["CT", "PT"]
    assert (case.images["CT"].grid.shape, case.images["PT"].grid.shape) == (CT_GRID.shape, PET_GRID.shape)
    for modality, array, grid in (("CT", ct, CT_GRID), ("PT", pet, PET_GRID)):
        np.testing.assert_array_equal(case.images[modality], array)
        np.testing.assert_allclose(case.images[modality].grid.affine, grid.affine, atol=1e-6)
    assert catalog.record(name).shape == CT_GRID.shape
    assert {v.case for v in catalog.verdicts} == {name}
    again = import_tree(tmp_path / "raw", tmp_path / "b", options=STUDY)
    assert [v.status for v in again.verdicts] == ["unchanged", "unchanged"]


@pytest.mark.parametrize("rule", ["auto", "series"])
def test_without_the_rule_each_series_is_a_case(tmp_path, rule):
    ct_and_pet(tmp_path / "raw")
    plan = plan_import(tmp_path / "raw", ImportOptions(case_by=rule))
    assert [[v.name for v in case.images] for case in plan.cases] == [["CT"], ["PT"]]


def test_series_of_one_modality_are_numbered_whatever_their_files_are_called(tmp_path):
    for root, names in (("one", ("x", "y", "z")), ("two", ("z", "x", "y"))):
        for name, sequence in zip(names, ("t1", "t2", "flair"), strict=True):
            scan(tmp_path / "made" / root / sequence, CT_GRID, "MR")
            (tmp_path / root).mkdir(exist_ok=True)
            (tmp_path / "made" / root / sequence).rename(tmp_path / root / name)
    one, two = (import_tree(tmp_path / r, tmp_path / f"b-{r}", options=STUDY) for r in ("one", "two"))
    assert list(one) == list(two)
    [ours], [theirs] = one.values(), two.values()
    assert sorted(ours.images) == ["MR", "MR-2", "MR-3"]
    for name in ours.images:
        np.testing.assert_array_equal(ours.images[name], theirs.images[name])
    published = [{p.name: p.read_bytes() for p in (tmp_path / b / "volumes").glob("*.h5")} for b in ("b-one", "b-two")]
    assert len(published[0]) == 1
    assert published[0] == published[1]


def test_two_studies_are_two_cases(tmp_path):
    scan(tmp_path / "raw" / "a", CT_GRID, seed="one")
    scan(tmp_path / "raw" / "b", PET_GRID, "PT", seed="two")
    assert len(plan_import(tmp_path / "raw", STUDY).cases) == 2


def test_a_study_keeps_its_pseudonym_when_a_series_joins_it(tmp_path):
    key = tmp_path / "key"
    key.write_bytes(b"sixteen bytes and more")
    for phi, secret in product(("strict", "research", "keep"), (None, str(key))):
        options = ImportOptions(case_by="study", phi=phi, phi_key=secret)
        root = tmp_path / f"{phi}-{bool(secret)}"
        scan(root / "b pet", PET_GRID, "PT")
        [alone] = plan_import(root, options).cases
        scan(root / "a ct", CT_GRID)
        [both] = plan_import(root, options).cases
        assert alone.name == both.name
        assert both.name.startswith("study-")
        assert [v.name for v in both.images] == ["CT", "PT"]


# Labels find their image.


@pytest.mark.parametrize("write", [write_structure_set, write_segmentation])
def test_structures_go_to_the_image_they_name_also_when_it_is_not_the_first(tmp_path, write):
    """CT and PET share a frame of reference; the structures name one of them."""
    scan(tmp_path / "raw" / "a pet", PET_GRID, "PT")
    ct, _ = scan(tmp_path / "raw" / "b ct", CT_GRID)
    write(tmp_path / "raw" / "drawn.dcm", ct, ct.FrameOfReferenceUID)
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=STUDY)
    [(name, case)] = catalog.items()
    [label] = case.labels.values()
    assert label.grid.matches(case.images["CT"].grid)
    assert catalog.record(name).images[0] == "CT"
    expected = np.zeros(CT_GRID.shape, bool)
    expected[2, 2:7, 2:9] = True
    np.testing.assert_array_equal(np.asarray(label) == 1, expected)


def test_the_image_with_labels_is_the_first(tmp_path):
    """A PET with a segmentation comes before a CT without one: axes, shape, preview and objects are the PET's."""
    ct_and_pet(tmp_path / "raw")
    mask = np.zeros(PET_GRID.shape, np.uint8)
    mask[1:3, 2:4, 3:6] = 1
    write_nifti(tmp_path / "labels" / "lesion.nii.gz", mask, PET_GRID)
    options = ImportOptions(case_by="study", labels=str(tmp_path / "labels"), label_name="lesion")
    for _ in range(2):
        catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=options)
        [(name, case)] = catalog.items()
        record = catalog.record(name)
        assert (record.images, record.shape) == (("PT", "CT"), PET_GRID.shape)
        assert list(case.images) == ["PT", "CT"]
    np.testing.assert_array_equal(case.labels["lesion"], mask)
    assert [record.objects.start[0].tolist(), record.objects.stop[0].tolist()] == [[1, 2, 3], [3, 4, 6]]
    data = json.loads((tmp_path / "b" / "data.kwcoco.json").read_text())
    assert (data["images"][0]["width"], data["images"][0]["height"]) == (7, 6)
    assert data["annotations"][0]["bbox"] == [3, 2, 3, 2]


def two_grids(root):
    """A folder of two images, each with a label on its grid."""
    for name, grid, corner in (("t1", CT_GRID, (1, 2, 3)), ("adc", PET_GRID, (2, 3, 4))):
        write_nifti(root / "images" / f"{name}.nii.gz", stored(3, grid), grid)
        mask = np.zeros(grid.shape, np.uint8)
        mask[tuple(slice(c, c + 2) for c in corner)] = 1
        write_nifti(root / "labels" / f"{name}.nii.gz", mask, grid)


def test_labels_on_two_grids_are_drawn_from_one_at_a_time(tmp_path):
    two_grids(tmp_path / "raw")
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=FOLDER)
    [case] = catalog.values()
    assert (list(case.images), list(case.labels)) == (["adc", "t1"], ["labels-adc", "labels-t1"])
    for image in ("adc", "t1"):
        assert case.labels[f"labels-{image}"].grid.matches(case.images[image].grid)
    for image, corner in (("t1", (1, 2, 3)), ("adc", (2, 3, 4))):
        label = f"labels-{image}"
        sampler = VolumeSampler(
            catalog, (3, 3, 3), reading=Reading(images=(image,), labels=(label,)), strategy=Positive(label), seed=1
        )
        for i in range(8):
            sample = sampler[i]
            assert sample.labels[label].any()
            at = tuple(a - b for a, b in zip(corner, sample.target.window.start, strict=True))
            assert [tuple(o.box.start) for o in sample.annotations] == [at]
        # Negatives are judged by all labels, and those of another grid cannot be.
        with pytest.raises(SamplingError, match="another grid"):
            VolumeSampler(
                catalog, (3, 3, 3), reading=Reading(images=(image,), labels=(label,)), strategy=Negative(), seed=1
            )[0]
    # Read together, those of the other grid come in their own voxels.
    assert set(VolumeSampler(catalog, (3, 3, 3))[0].places) == {"images/t1", "labels/labels-t1"}


def test_a_box_on_another_grid_is_shown_where_it_lies_in_the_world(tmp_path):
    """kwcoco draws boxes on the preview of the first image, so theirs are its pixels."""
    two_grids(tmp_path / "raw")
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=FOLDER)
    [record] = catalog.records.values()
    assert record.images == ("adc", "t1")
    data = json.loads((tmp_path / "b" / "data.kwcoco.json").read_text())
    boxes = {a["ndvol"]["label"]: a for a in data["annotations"]}
    assert boxes["labels-adc"]["bbox"] == [4, 3, 2, 2]
    assert boxes["labels-t1"]["ndvol"]["start"] == [1, 2, 3]
    # By brute force: the pixels of the preview that any point of the box falls into.
    points = product(*(np.linspace(c - 0.4999, c + 1.4999, 41) for c in (1, 2, 3)))
    _, y, x = np.round(PET_GRID.index(CT_GRID.world(list(points)))).astype(int).T
    x, y = x[(x >= 0) & (x < 7)], y[(y >= 0) & (y < 6)]
    assert boxes["labels-t1"]["bbox"] == [x.min(), y.min(), x.max() - x.min() + 1, y.max() - y.min() + 1]


def test_one_label_of_many_images_lies_on_the_grid_of_the_one_it_fits_best(tmp_path):
    """Grids that differ by less than a label may be off."""
    shifted = CT_GRID.affine.copy()
    shifted[0, 3] += 0.005 * 0.5
    near = Grid("zyx", CT_GRID.shape, shifted)
    write_nifti(tmp_path / "raw" / "p" / "a.nii", stored(1, CT_GRID).astype(np.float32), CT_GRID)
    write_nifti(tmp_path / "raw" / "p" / "b.nii", stored(2, near).astype(np.float32), near)
    write_nifti(tmp_path / "raw" / "p" / "labels" / "tumour.nii", np.ones(near.shape, np.uint8), near)
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=FOLDER)
    case = catalog["p"]
    assert case.labels["labels"].grid == case.images["b"].grid != case.images["a"].grid
    assert list(case.images) == ["b", "a"]


PART = CT_GRID.crop(Window((2, 3, 4), (4, 5, 6)))
"""Of the CT, voxel on voxel."""


def two_images(root, grids, label_grid):
    """A folder of images a, b … and a label of them."""
    for name, grid in zip("abc", grids, strict=False):
        write_nifti(root / "p" / f"{name}.nii", stored(1, grid), grid)
    mask = np.zeros(label_grid.shape, np.uint8)
    mask[1, 2, 3] = 1
    write_nifti(root / "p" / "labels" / "tumour.nii", mask, label_grid)
    return mask


def test_an_image_that_a_label_covers_comes_before_one_of_which_it_covers_a_part(tmp_path):
    mask = two_images(tmp_path / "raw", (CT_GRID, PART), PART)
    case = import_tree(tmp_path / "raw", tmp_path / "b", options=FOLDER)["p"]
    assert case.labels["labels"].grid == case.images["b"].grid
    np.testing.assert_array_equal(case.labels["labels"], mask)


def test_a_label_that_covers_a_part_of_one_image_of_several_goes_there(tmp_path):
    mask = two_images(tmp_path / "raw", (PET_GRID, CT_GRID), PART)
    case = import_tree(tmp_path / "raw", tmp_path / "b", options=FOLDER)["p"]
    assert case.labels["labels"].grid == case.images["b"].grid
    expected = np.zeros(CT_GRID.shape, np.uint8)
    expected[2:6, 3:8, 4:10] = mask
    np.testing.assert_array_equal(case.labels["labels"], expected)


@pytest.mark.parametrize(
    ("grids", "label", "code"),
    [
        ((CT_GRID, CT_GRID.crop(Window((1, 1, 1), (7, 9, 11)))), PART, "many-images-for-label"),
        ((CT_GRID, PET_GRID), CT_GRID.crop(Window((-3, 3, 4), (3, 5, 6))), "label-outside"),
        ((CT_GRID, PART), PET_GRID, "label-off-grid"),
    ],
)
def test_a_label_of_no_image_or_of_any_is_refused(tmp_path, grids, label, code):
    two_images(tmp_path / "raw", grids, label)
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=FOLDER)
    [verdict] = [v for v in catalog.verdicts if v.status == "refused"]
    assert (verdict.source, verdict.code, verdict.case) == ("p/labels/tumour.nii", code, "p")
    assert (list(catalog["p"].images), list(catalog["p"].labels)) == (["a", "b"], [])


def test_categories_on_two_grids_are_not_merged(tmp_path):
    """What the user asks for cannot be done, whichever label were left out: nothing is published."""
    two_grids(tmp_path / "raw")
    options = ImportOptions(case_by="folder", merge=("labels-adc", "labels-t1"))
    with pytest.raises(ImportFailedError, match="the categories to merge lie on different grids"):
        import_tree(tmp_path / "raw", tmp_path / "b", options=options)


# Folders.


def test_a_folder_is_a_case_and_its_seg_the_label(tmp_path):
    """As BraTS has it."""
    for case in ("BraTS_001", "BraTS_002"):
        for k, name in enumerate(("t1", "flair", "t1ce")):
            write_nifti(tmp_path / "raw" / case / f"{case}_{name}.nii.gz", stored(k, CT_GRID), CT_GRID)
        label = np.random.default_rng(int(case[-1])).choice([0, 1, 2, 4], CT_GRID.shape).astype(np.uint8)
        write_nifti(tmp_path / "raw" / case / f"{case}_seg.nii.gz", label, CT_GRID)
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=FOLDER)
    assert list(catalog) == ["BraTS_001", "BraTS_002"]
    for name, case in catalog.items():
        assert (list(case.images), list(case.labels)) == (["flair", "t1", "t1ce"], ["seg"])
        np.testing.assert_array_equal(case.images["t1ce"], stored(2, CT_GRID))
        assert sorted(case.labels["seg"].categories) == [1, 2, 4]
        assert catalog.record(name).attributes["images"] == ["flair", "t1", "t1ce"]
    sampler = VolumeSampler(catalog, (4, 4, 4), reading=Reading(images=("t1", "flair")), seed=0)
    assert sampler[0].images["flair"].shape == (4, 4, 4)


def test_cases_of_folders_that_are_called_alike_are_told_apart_by_the_folders_above(tmp_path):
    for patient in ("p1", "p2"):
        for name in ("CT", "PET"):
            write_nifti(tmp_path / "raw" / patient / name / "image" / "x.nii", stored(1, CT_GRID), CT_GRID)
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=FOLDER)
    assert list(catalog) == ["p1-CT", "p1-PET", "p2-CT", "p2-PET"]


def test_a_folder_of_images_has_the_name_of_the_one_that_holds_it(tmp_path):
    for case in ("STS_001", "STS_002"):
        for name, grid in (("CT", CT_GRID), ("PET", PET_GRID)):
            for folder, array in (("images", stored(1, grid)), ("labels", np.ones(grid.shape, np.uint8))):
                write_nifti(tmp_path / "raw" / case / folder / f"{case}_{name}.nii.gz", array, grid)
    plan = plan_import(tmp_path / "raw", FOLDER)
    assert [c.name for c in plan.cases] == ["STS_001", "STS_002"]
    for case in plan.cases:
        assert [v.name for v in case.images] == ["CT", "PET"]
        assert [p.name for p in case.labels] == ["labels-CT", "labels-PET"]


def test_folders_of_one_name_stay_apart_and_the_root_is_one_too(tmp_path):
    for folder in ("", "a/x", "b/x"):
        write_nifti(tmp_path / "raw" / folder / "scan.nii", stored(1, CT_GRID), CT_GRID)
    assert [c.name for c in plan_import(tmp_path / "raw", FOLDER).cases] == ["a-x", "b-x", "scan"]


def test_a_folder_of_segs_alone_is_a_folder_of_images(tmp_path):
    write_nifti(tmp_path / "raw" / "p" / "seg.nii", stored(1, CT_GRID), CT_GRID)
    [case] = plan_import(tmp_path / "raw", FOLDER).cases
    assert ([v.name for v in case.images], case.labels) == (["seg"], ())


def test_masks_beside_several_images_are_one_volume(tmp_path):
    for name in ("ct", "pet"):
        write_nifti(tmp_path / "raw" / "p" / f"{name}.nii", stored(1, CT_GRID), CT_GRID)
    for k, name in enumerate(("liver", "spleen")):
        mask = np.zeros(CT_GRID.shape, np.uint8)
        mask[k] = 1
        write_nifti(tmp_path / "raw" / "p" / "segmentations" / f"{name}.nii", mask, CT_GRID)
    [case] = import_tree(tmp_path / "raw", tmp_path / "b", options=FOLDER).values()
    assert list(case.images) == ["ct", "pet"]
    assert case.labels["segmentations"].categories == {1: "liver", 2: "spleen"}


def test_masks_on_the_grids_of_two_images_make_two_volumes(tmp_path):
    for name, grid in (("ct", CT_GRID), ("pet", PET_GRID)):
        write_nifti(tmp_path / "raw" / "p" / f"{name}.nii", stored(1, grid), grid)
        mask = np.zeros(grid.shape, np.uint8)
        mask[0] = 1
        write_nifti(tmp_path / "raw" / "p" / "masks" / f"on-{name}.nii", mask, grid)
    [case] = import_tree(tmp_path / "raw", tmp_path / "b", options=FOLDER).values()
    found = {volume.grid.shape: list(volume.categories.values()) for volume in case.labels.values()}
    assert found == {CT_GRID.shape: ["on-ct"], PET_GRID.shape: ["on-pet"]}


@pytest.mark.parametrize("rule", ["series", "auto"])
def test_a_label_that_two_cases_may_claim_is_refused(tmp_path, rule):
    """Channels as cases of their own, and two images of one name."""
    if rule == "series":
        (tmp_path / "raw").mkdir()
        table = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "tumour": 1}}
        (tmp_path / "raw" / "dataset.json").write_text(json.dumps(table))
        names = ("a_0000.nii", "a_0001.nii")
    else:
        names = ("a.nii", "a.nii.gz")
    for folder, files in (("imagesTr", names), ("labelsTr", ("a.nii.gz",))):
        for file in files:
            write_nifti(tmp_path / "raw" / folder / file, np.ones(CT_GRID.shape, np.uint8), CT_GRID)
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=ImportOptions(case_by=rule))
    assert len(catalog) == 2
    assert [v.code for v in catalog.verdicts if v.status == "refused"] == ["many-images-for-label"]


# Structures that do not say which image they belong to.


def unnamed(file, image, write):
    write(file, image, image.FrameOfReferenceUID)
    dataset = pydicom.dcmread(file)
    if "ReferencedSeriesSequence" in dataset:
        del dataset.ReferencedSeriesSequence
    else:
        del dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence
    dataset.save_as(file)


@pytest.mark.parametrize(
    ("write", "code"), [(write_segmentation, "ok"), (write_structure_set, "many-images-for-structures")]
)
def test_of_several_images_in_its_frame_the_grid_of_a_segmentation_decides(tmp_path, write, code):
    """Contours lie in the world and would fit both; so they are refused, and both images imported."""
    (ct, _), _ = ct_and_pet(tmp_path / "raw")
    unnamed(tmp_path / "raw" / "drawn.dcm", ct, write)
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=STUDY)
    [case] = catalog.values()
    [verdict] = [v for v in catalog.verdicts if v.source == "drawn.dcm"]
    assert (verdict.code, list(case.images)) == (code, ["CT", "PT"])
    assert [label.grid.shape for label in case.labels.values()] == [CT_GRID.shape] * (code == "ok")


def test_of_several_images_on_one_grid_any_will_do(tmp_path):
    ct, _ = scan(tmp_path / "raw" / "a", CT_GRID)
    scan(tmp_path / "raw" / "b", CT_GRID, "MR")
    unnamed(tmp_path / "raw" / "drawn.dcm", ct, write_structure_set)
    [case] = import_tree(tmp_path / "raw", tmp_path / "b", options=STUDY).values()
    assert case.labels["structures"].categories == {1: "Lung"}


# The Decathlon's modalities, which lie along the fourth axis of one file.

MODALITIES = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}


def decathlon(root, times=4, name="BRATS_001"):
    (root / "imagesTr").mkdir(parents=True)
    table = {"modality": MODALITIES, "labels": {"0": "background", "1": "edema"}}
    (root / "dataset.json").write_text(json.dumps(table))
    array = np.random.default_rng(9).normal(size=(times, *CT_GRID.shape)).astype(np.float32)
    write_nifti(root / "imagesTr" / f"{name}.nii.gz", array, CT_GRID)
    write_nifti(root / "labelsTr" / f"{name}.nii.gz", np.ones(CT_GRID.shape, np.uint8), CT_GRID)
    return array


def test_modalities_along_the_fourth_axis_become_images(tmp_path):
    array = decathlon(tmp_path / "raw")
    for status in ("imported", "unchanged"):
        catalog = import_tree(tmp_path / "raw", tmp_path / "b")
        assert [v.status for v in catalog.verdicts if v.case] == [status, status]
    case = catalog["BRATS_001"]
    assert sorted(case.images) == sorted(MODALITIES.values())
    for number, name in MODALITIES.items():
        np.testing.assert_array_equal(case.images[name], array[int(number)])
        assert (case.images[name].axes, case.images[name].dtype) == ("zyx", np.float32)
        assert case.images[name].grid.matches(CT_GRID)
    sampler = VolumeSampler(catalog, (4, 4, 4), strategy=Positive("edema"), seed=0)
    assert set(sampler[0].images) == set(MODALITIES.values())


def test_they_are_the_images_that_nnunet_would_have(tmp_path):
    array = decathlon(tmp_path / "msd")
    for number in MODALITIES:
        file = tmp_path / "nnunet" / "imagesTr" / f"BRATS_001_{int(number):04d}.nii.gz"
        write_nifti(file, array[int(number)], CT_GRID)
    table = {"channel_names": MODALITIES, "labels": {"background": 0, "edema": 1}}
    (tmp_path / "nnunet" / "dataset.json").write_text(json.dumps(table))
    [ours] = import_tree(tmp_path / "msd", tmp_path / "b1").values()
    [theirs] = import_tree(tmp_path / "nnunet", tmp_path / "b2").values()
    assert list(ours.images) == list(theirs.images)
    for name, image in ours.images.items():
        np.testing.assert_array_equal(image, theirs.images[name])
        assert image.grid == theirs.images[name].grid


@pytest.mark.parametrize(("times", "rule"), [(3, "auto"), (4, "series")])
def test_a_fourth_axis_of_another_length_is_time(tmp_path, times, rule):
    decathlon(tmp_path / "raw", times)
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=ImportOptions(case_by=rule))
    assert {name: image.axes for name, image in catalog["BRATS_001"].images.items()} == {"image": "tzyx"}


def test_strict_calls_channels_by_known_names_only(tmp_path):
    decathlon(tmp_path / "raw")
    table = json.loads((tmp_path / "raw" / "dataset.json").read_text())
    table["modality"]["3"] = "Dr Doe's sequence"
    (tmp_path / "raw" / "dataset.json").write_text(json.dumps(table))
    [case] = import_tree(tmp_path / "raw", tmp_path / "b", options=ImportOptions(phi="strict")).values()
    assert {"FLAIR", "T1w", "t1gd"} < set(case.images)
    assert not any("Doe" in name for name in case.images)
    assert open_catalog(tmp_path / "b").record(case.name).images == tuple(case.images)
