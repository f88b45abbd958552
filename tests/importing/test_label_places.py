"""Label maps end where their geometry puts them: whole, cropped, turned, beyond the border, or nowhere."""

import nibabel
import numpy as np
import pytest
import SimpleITK
from test_itk_segments import segment, write

import ndvol
from ndvol.errors import ImportFailedError, SourceError
from ndvol.formats import VolumeData
from ndvol.formats.writing import write_dicom_series, write_nifti
from ndvol.geometry import Grid, Reorientation, Window
from ndvol.importing import ImportOptions, import_tree, plan_import
from ndvol.importing.placing import place_label

GRID = Grid.regular("zyx", (6, 10, 12), spacing=(3, 1, 1), origin=(-5, 4, 20))
PART = Window((1, 2, 4), (3, 5, 6))
IMAGE = np.random.default_rng(0).integers(-500, 500, GRID.shape).astype(np.int16)
NATIVE = ImportOptions(orientation="native")
TURN = Reorientation((2, 0, 1), (True, False, True))


def labels(shape=PART.shape, values=3):
    truth = np.random.default_rng(1).integers(0, values, shape).astype(np.uint8)
    assert set(np.unique(truth)) == set(range(values))
    return truth


def pair(root, truth, grid):
    write_nifti(root / "images" / "a.nii.gz", IMAGE, GRID)
    write_nifti(root / "labels" / "a.nii.gz", truth, grid)


def imported(tmp_path, options=None):
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle", options=options)
    [case] = catalog.values()
    return catalog, case


def message(catalog, ending):
    [found] = [v.message for v in catalog.verdicts if v.source.endswith(ending)]
    return found


@pytest.mark.parametrize("options", [None, NATIVE], ids=["canonical", "native"])
@pytest.mark.parametrize("turn", [Reorientation((0, 1, 2), (False,) * 3), TURN], ids=["as it is", "turned"])
def test_a_label_of_a_part_of_the_image_goes_where_its_geometry_says(tmp_path, options, turn):
    truth, grid = labels(), GRID.crop(PART)
    pair(tmp_path / "raw", turn.array(truth, axes="zyx"), turn.grid(grid))
    catalog, case = imported(tmp_path, options)
    [label] = case.labels.values()
    [image] = case.images.values()
    assert label.grid == image.grid
    # Voxel by voxel in the world, whatever the orientation of the stored volumes is.
    for index in np.argwhere(np.asarray(label)):
        at = tuple(np.rint(grid.index(label.grid.world(index))).astype(int))
        assert truth[at] == np.asarray(label)[tuple(index)]
    assert np.count_nonzero(label) == np.count_nonzero(truth)
    assert "of its image; what lies around them is background" in message(catalog, "labels/a.nii.gz")


def test_a_whole_label_in_another_orientation_needs_no_warning(tmp_path):
    turn = Reorientation((1, 0, 2), (False, True, True))
    truth = labels(GRID.shape)
    pair(tmp_path / "raw", turn.array(truth, axes="zyx"), turn.grid(GRID))
    catalog, case = imported(tmp_path, NATIVE)
    [label], [image] = case.labels.values(), case.images.values()
    to_image = [tuple(np.rint(GRID.index(label.grid.world(i))).astype(int)) for i in np.ndindex(label.shape)]
    np.testing.assert_array_equal(np.asarray(label).ravel(), [truth[i] for i in to_image])
    np.testing.assert_array_equal(np.asarray(image).ravel(), [IMAGE[i] for i in to_image])
    assert message(catalog, "labels/a.nii.gz") == ""


def test_background_may_reach_beyond_the_image_and_labelled_voxels_may_not(tmp_path):
    wide = GRID.crop(Window((-2, -1, 3), (9, 12, 20)))
    truth = np.zeros(wide.shape, np.uint8)
    truth[3:5, 4:7, 1:4] = 1
    pair(tmp_path / "raw", truth, wide)
    _, case = imported(tmp_path)
    [label] = case.labels.values()
    expected = np.zeros(GRID.shape, np.uint8)
    expected[1:3, 3:6, 4:7] = 1
    np.testing.assert_array_equal(label, expected)
    truth[1, 4, 4] = 1
    pair(tmp_path / "raw", truth, wide)
    [verdict] = [v for v in import_tree(tmp_path / "raw", tmp_path / "other").verdicts if v.status == "refused"]
    assert "labelled voxels outside of its image; got 1 voxels" in verdict.message


@pytest.mark.parametrize(
    "grid",
    [
        Grid.regular("zyx", PART.shape, spacing=(3, 1, 1)),  # what writers without a position write
        Grid.regular("zyx", PART.shape, spacing=(3, 1, 1), origin=(-4.5, 4, 20)),
        Grid.regular("zyx", PART.shape, spacing=(3, 2, 2), origin=(-5, 4, 20)),
        Grid.regular("zyx", PART.shape, spacing=(3, 1, 1), origin=(-5, 4, 20), frame="LOCAL"),
    ],
    ids=["origin 0", "half a voxel", "coarser", "LOCAL"],
)
def test_a_part_without_a_proven_place_is_refused(grid):
    origin = (-5, 4, 20) if any(grid.origin) else (-5, -4, -9)
    image = Grid.regular("zyx", (20, 20, 20), spacing=(3, 1, 1), origin=origin, frame=grid.frame)
    with pytest.raises(SourceError) as caught:
        place_label(VolumeData(labels(), grid), image, "a.nii")
    assert caught.value.code == "label-off-grid"


def test_axes_that_are_not_space_come_along():
    movie = Grid("tzyx", (4, *PART.shape), GRID.crop(PART).affine)
    truth = labels(movie.shape)
    placed, turn = place_label(VolumeData(truth, movie), GRID, "a.nii")
    assert turn.is_identity
    assert placed.grid == Grid("tzyx", (4, *GRID.shape), GRID.affine)
    np.testing.assert_array_equal(placed.array[(slice(None), *PART.slices)], truth)
    assert np.count_nonzero(placed.array) == np.count_nonzero(truth)


# Segmentations of 3D Slicer.


def write_image(path, array=IMAGE, grid=GRID):
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(grid.spacing[::-1])
    image.SetOrigin(grid.origin)
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path))


def write_segmentation(path, truth, rows, grid=None):
    grid = grid or GRID.crop(PART)
    write(path, truth, rows, spacing=grid.spacing[::-1], origin=grid.origin)


ROWS = [segment("Leber", 1, 0), segment("Tumour", 2, 0), segment("Leber", 1, 1)]


def test_a_cropped_segmentation_in_two_layers_beside_its_image(tmp_path):
    layers = np.stack([labels(), labels(values=2)])
    write_image(tmp_path / "raw" / "x.nrrd")
    write_segmentation(tmp_path / "raw" / "x.seg.nrrd", layers, ROWS)
    write_image(tmp_path / "raw" / "y.nrrd")
    plan = plan_import(tmp_path / "raw")
    assert [(c.name, [p.name for p in c.labels]) for c in plan.cases] == [("x", ["segmentation"]), ("y", [])]
    table = ({"name": "organ"}, {"name": "liver", "supercategory": "organ", "names": ["leber"], "value": 2})
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle", options=ImportOptions(categories=table))
    case = catalog["x"]
    assert {n: v.categories for n, v in case.labels.items()} == {
        "segmentation": {1: "liver", 2: "Tumour"},
        "segmentation-2": {1: "liver"},
    }
    for k, label in enumerate(case.labels.values()):
        np.testing.assert_array_equal(np.asarray(label)[PART.slices], layers[k])
        assert np.count_nonzero(label) == np.count_nonzero(layers[k])
        assert label.grid == case.images["image"].grid
    assert case.labels["segmentation"].attributes["source_names"] == {"1": ["Leber"]}
    assert "the category table does not name Tumour" in message(catalog, "x.seg.nrrd")
    assert "it covers the voxels [1, 2, 4] + [3, 5, 6] of its image" in message(catalog, "x.seg.nrrd")


def test_segmentations_of_the_only_image_of_a_folder(tmp_path):
    write_dicom_series(tmp_path / "raw" / "one", IMAGE, GRID)
    write_segmentation(tmp_path / "raw" / "one" / "Segmentation.seg.nrrd", labels(), ROWS[:2])
    write_segmentation(tmp_path / "raw" / "one" / "Second.seg.nrrd", labels(values=2), ROWS[:1])
    _, case = imported(tmp_path)
    assert {n: v.categories for n, v in case.labels.items()} == {
        "segmentation": {1: "Leber"},
        "segmentation-2": {1: "Leber", 2: "Tumour"},
    }


def test_segmentations_in_a_folder_of_labels_and_in_one_that_the_user_names(tmp_path):
    write_image(tmp_path / "raw" / "images" / "x.nrrd")
    write_segmentation(tmp_path / "raw" / "labels" / "x.seg.nrrd", labels(), ROWS[:2])
    _, case = imported(tmp_path)
    assert {n: v.categories for n, v in case.labels.items()} == {"labels": {1: "Leber", 2: "Tumour"}}
    options = ImportOptions(labels=str(tmp_path / "raw" / "labels"), label_name="organs")
    catalog = import_tree(tmp_path / "raw" / "images", tmp_path / "other", options=options)
    assert [list(case.labels) for case in catalog.values()] == [["organs"]]


def test_a_segmentation_without_an_image_is_refused_and_never_an_image(tmp_path):
    write_segmentation(tmp_path / "raw" / "x.seg.nrrd", labels(), ROWS[:2])
    with pytest.raises(ImportFailedError) as caught:
        import_tree(tmp_path / "raw", tmp_path / "bundle")
    assert [(v.status, v.code) for v in caught.value.verdicts] == [("refused", "no-image-for-label")]


def test_values_that_no_segment_names_are_refused(tmp_path):
    write_image(tmp_path / "raw" / "x.nrrd")
    write_segmentation(tmp_path / "raw" / "x.seg.nrrd", labels(), ROWS[:1])
    [verdict] = [v for v in import_tree(tmp_path / "raw", tmp_path / "bundle").verdicts if v.status == "refused"]
    assert verdict.code == "unnamed-values"
    assert "does not name; got [2]" in verdict.message


def test_masks_of_3d_slicer_are_named_by_their_files(tmp_path):
    write_nifti(tmp_path / "raw" / "ct.nii.gz", IMAGE, GRID)
    for name in ("liver", "spleen"):
        write_segmentation(tmp_path / "raw" / "segmentations" / f"{name}.seg.nrrd", labels(values=2), ROWS[:1])
    _, case = imported(tmp_path)
    assert sorted(c for v in case.labels.values() for c in v.categories.values()) == ["liver", "spleen"]


def test_strict_says_no_name_of_a_segment(tmp_path):
    write_image(tmp_path / "raw" / "x.nrrd")
    write_segmentation(tmp_path / "raw" / "x.seg.nrrd", labels(), [segment("Muellers\tTumor", 1, 0), ROWS[1]])
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle", options=ImportOptions(phi="strict"))
    [case] = catalog.values()
    assert list(case.labels) == ["segmentation"]
    assert all(name.startswith("structure-") for name in case.labels["segmentation"].categories.values())
    written = b"".join(p.read_bytes() for p in (tmp_path / "bundle").rglob("*") if p.is_file())
    assert b"Muellers" not in written
    assert b"Tumour" not in written


def test_placed_labels_come_back_through_nifti(tmp_path):
    truth = labels()
    pair(tmp_path / "raw", truth, GRID.crop(PART))
    _, case = imported(tmp_path)
    [label] = case.labels.values()
    out = nibabel.Nifti1Image(np.asarray(label).T, label.grid.nifti_affine)
    source = nibabel.load(tmp_path / "raw" / "labels" / "a.nii.gz")
    index = np.argwhere(np.asarray(source.dataobj))
    places = nibabel.affines.apply_affine(np.linalg.inv(out.affine) @ source.affine, index)
    values = np.asarray(out.dataobj)[tuple(np.rint(places).astype(int).T)]
    np.testing.assert_array_equal(values, np.asarray(source.dataobj)[tuple(index.T)])
    assert ndvol.open(tmp_path / "bundle")[case.name].labels[label.name].categories
