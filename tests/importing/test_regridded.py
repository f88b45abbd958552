"""Volumes that are stored on another grid than their source's: what says so, and where their labels go."""

from __future__ import annotations

import json
import warnings
from itertools import permutations, product

import highdicom
import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from ndvol.cli import main
from ndvol.errors import ImportFailedError
from ndvol.formats import ReadOptions
from ndvol.formats.writing import DicomOptions, write_dicom_series, write_nifti
from ndvol.geometry import Grid, Reorientation
from ndvol.importing import ImportOptions, import_tree
from ndvol.opening import open_catalog

GRID = Grid.regular("zyx", (11, 10, 9), spacing=(2.5, 1.0, 0.75), origin=(-20, 31, -400))
VOXELS = np.random.default_rng(0).integers(-900, 1200, GRID.shape).astype(np.int16)
TURNS = [Reorientation(order, flips) for order in permutations(range(3)) for flips in product((False, True), repeat=3)]


def tilted(drift=0.7, shape=(6, 9, 8)):
    """Planes that move by `drift` pixels along y."""
    affine = Grid.regular("zyx", shape, spacing=(2.5, 1.0, 0.75), origin=(-20, 31, -400)).affine.copy()
    affine[:3, 0] += drift * affine[:3, 1]
    return Grid("zyx", shape, affine)


def imported(root, folder, **reading):
    catalog = import_tree(root, folder, options=ImportOptions(reading=ReadOptions(**reading)))
    [case] = catalog.values()
    return case


def ct_of(root, folder, **reading):
    case = imported(root, folder, **reading)
    return case.images["CT"]


def facts_of(volume):
    found = volume.attributes
    return {k: json.loads(v) if isinstance(v, str) and v.startswith("[") else v for k, v in found.items()}


@pytest.mark.parametrize(
    ("choice", "turn"),
    [("mask", turn) for turn in TURNS]
    # One of each order of axes; what is interpolated is turned by the same code as what is masked.
    + [pytest.param("resample", turn, marks=[] if k % 9 == 0 else pytest.mark.slow) for k, turn in enumerate(TURNS)],
    ids=lambda t: t if isinstance(t, str) else f"{t.order}{[int(f) for f in t.flips]}",
)
def test_lists_of_planes_name_those_of_the_stored_volume(tmp_path, turn, choice):
    """Axial, coronal and sagittal series, in every direction."""
    source, grid = turn.array(VOXELS, axes="zyx"), turn.grid(GRID)
    files = write_dicom_series(tmp_path / "raw", np.ascontiguousarray(source), grid)
    for k in (1, 4, 5):
        files[k].unlink()
    lost = np.zeros(grid.shape, bool)
    lost[[1, 4, 5]] = True
    lost = turn.inverse().array(lost, axes="zyx")
    axis = next(i for i in range(3) if (lost.all(tuple(j for j in range(3) if j != i))).sum() == 3)
    planes = np.flatnonzero(lost.any(tuple(j for j in range(3) if j != axis))).tolist()

    volume = ct_of(tmp_path / "raw", tmp_path / "bundle", on_gap=choice)
    facts = facts_of(volume)
    assert volume.grid.matches(GRID)
    assert facts["planes_axis"] == "zyx"[axis]
    assert facts["missing_planes" if choice == "mask" else "interpolated_planes"] == planes
    stored = np.asarray(volume)
    np.testing.assert_array_equal(stored[~lost], VOXELS[~lost])
    if choice == "mask":
        assert (stored[lost] == facts["missing_planes_fill"]).all()
    else:
        there = [k for k in range(GRID.shape[axis]) if k not in planes]
        assert facts["source_planes"] == there
        wanted = np.apply_along_axis(
            lambda column: np.interp(range(len(column)), there, column[there]), axis, VOXELS.astype(float)
        )
        np.testing.assert_allclose(stored, wanted, rtol=1e-6)


def test_native_orientation_keeps_the_lists_of_the_source(tmp_path):
    files = write_dicom_series(tmp_path / "raw", VOXELS[:, ::-1], GRID.flip(1))
    files[2].unlink()
    options = ImportOptions(orientation="native", reading=ReadOptions(on_gap="mask"))
    [case] = import_tree(tmp_path / "raw", tmp_path / "b", options=options).values()
    facts = facts_of(case.images["CT"])
    [axis] = [i for i in range(3) if case.images["CT"].grid.spacing[i] == pytest.approx(2.5)]
    assert facts["planes_axis"] == "zyx"[axis]
    assert (np.asarray(case.images["CT"]).take(facts["missing_planes"], axis) == facts["missing_planes_fill"]).all()


def test_strict_keeps_the_lists(tmp_path):
    files = write_dicom_series(tmp_path / "raw", VOXELS, GRID)
    files[2].unlink()
    options = ImportOptions(phi="strict", reading=ReadOptions(on_gap="resample", deskew=True))
    [case] = import_tree(tmp_path / "raw", tmp_path / "b", options=options).values()
    facts = facts_of(case.images["CT"])
    assert (facts["planes_axis"], facts["interpolated_planes"]) == ("z", [2])
    message = (tmp_path / "b" / "import.jsonl").read_text()
    assert "the slices are not evenly spaced: resampled to 2.500 mm, 1 of 11 planes are interpolated (2" in message


# Deskewing.


def world_ramp(grid):
    at = grid.world(np.moveaxis(np.indices(grid.shape), 0, -1))
    return at @ (3.0, -2.0, 1.0) + 100


@pytest.mark.parametrize("turn", TURNS[::5], ids=str)
def test_a_tilted_series_is_straightened_in_every_orientation(tmp_path, turn):
    grid = tilted()
    z = turn.order.index(0)
    # The planes of a DICOM series follow each other along z: only the two axes within them are turned.
    turn = Reorientation((0, 2, 1), tuple(turn.flips)) if z else Reorientation((0, 1, 2), tuple(turn.flips))
    values = (4 * world_ramp(grid)).astype(np.int16)
    write_dicom_series(tmp_path / "raw", np.ascontiguousarray(turn.array(values, axes="zyx")), turn.grid(grid))
    kept = ct_of(tmp_path / "raw", tmp_path / "kept")
    assert kept.grid.matches(grid)
    np.testing.assert_array_equal(kept, values)

    volume = ct_of(tmp_path / "raw", tmp_path / "straight", deskew=True)
    np.testing.assert_allclose(volume.grid.direction.T @ volume.grid.direction, np.eye(3), atol=1e-9)
    assert volume.shape == (6, 9 + 4, 8)
    facts, stored = facts_of(volume), np.asarray(volume)
    assert facts["deskewed_fill"] == values.min()
    assert facts["deskewed_degrees"] == pytest.approx(np.degrees(np.arctan(0.7 / 2.5)), abs=1e-3)
    at = grid.index(volume.grid.world(np.moveaxis(np.indices(volume.shape), 0, -1))).round(6)
    covered = ((at[..., 1] >= 0) & (at[..., 1] <= 8)).astype(bool)
    assert stored.dtype == np.float32
    assert (stored[~covered] == values.min()).all()
    # The stored values of the ramp were cut to whole numbers.
    np.testing.assert_allclose(stored[covered], 4 * world_ramp(volume.grid)[covered], atol=1.01)
    wanted = [[np.interp(at[k, :, 0, 1], range(9), values[k, :, x]) for x in range(8)] for k in range(6)]
    np.testing.assert_allclose(stored[covered], np.swapaxes(wanted, 1, 2)[covered], rtol=1e-6)


def test_a_sheared_nifti_with_its_label_is_straightened(tmp_path):
    grid = tilted(-1.3)
    image = VOXELS[:6, :8, :7].astype(np.float32)
    grid = Grid("zyx", image.shape, grid.affine)
    label = np.zeros(grid.shape, np.uint8)
    label[1:5, 2:6, 1:6] = 3
    write_nifti(tmp_path / "raw" / "images" / "a.nii.gz", image, grid)
    write_nifti(tmp_path / "raw" / "labels" / "a.nii.gz", label, grid)
    # A qform cannot say a shear: the sform stands alone.
    case = imported(tmp_path / "raw", tmp_path / "bundle", deskew=True)
    [volume], [mask] = case.images.values(), case.labels.values()
    assert mask.grid == volume.grid
    assert np.asarray(mask).dtype == np.uint8
    where = np.argwhere(np.asarray(mask) == 3)
    assert len(where) == (label == 3).sum()
    at = grid.index(volume.grid.world(where))
    assert (np.abs(at - np.clip(at, (1, 2, 1), (4, 5, 5))) <= 0.5 + 1e-6).all()


def test_the_user_is_told_and_an_upright_series_is_left_alone(tmp_path):
    write_dicom_series(tmp_path / "raw" / "a", VOXELS[:6, :8, :7], tilted(shape=(6, 8, 7)), DicomOptions(seed="a"))
    write_dicom_series(tmp_path / "raw" / "b", VOXELS, GRID, DicomOptions(seed="b"))
    options = ImportOptions(reading=ReadOptions(deskew=True))
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=options)
    tilt, upright = sorted(catalog.verdicts, key=lambda v: v.source)
    fill = VOXELS[:6, :8, :7].min()
    text = "deskewed: the planes are shifted to undo a shear of 15.6 degrees, values interpolated; what no plane covers"
    assert f"{text} holds {fill}" in tilt.message
    assert upright.message == ""
    volume = next(c.images["CT"] for c in catalog.values() if c.name == upright.case)
    assert volume.dtype == np.int16
    np.testing.assert_array_equal(volume, VOXELS)


def test_padding_fills_what_no_plane_covers(tmp_path):
    for file in write_dicom_series(tmp_path / "raw", VOXELS[:6, :8, :7], tilted(1.0, (6, 8, 7))):
        dataset = pydicom.dcmread(file)
        dataset.add_new("PixelPaddingValue", "SS", -2000)
        dataset.save_as(file)
    volume = ct_of(tmp_path / "raw", tmp_path / "b", deskew=True)
    stored = np.asarray(volume)
    # Whole pixels: nothing is interpolated.
    assert stored.dtype == np.int16
    assert facts_of(volume)["deskewed_fill"] == -2000
    assert (stored == -2000).sum() == stored.size - 6 * 8 * 7
    np.testing.assert_array_equal(np.sort(stored[stored != -2000]), np.sort(VOXELS[:6, :8, :7].ravel()))


def test_an_uneven_tilted_series_is_resampled_and_straightened(tmp_path):
    fine = tilted(0.2, (16, 9, 8))
    values = (4 * world_ramp(fine)).astype(np.int16)
    files = write_dicom_series(tmp_path / "raw", values, fine)
    for k in set(range(16)) - {0, 3, 6, 10, 15}:
        files[k].unlink()
    volume = ct_of(tmp_path / "raw", tmp_path / "b", on_gap="resample", deskew=True)
    facts, stored = facts_of(volume), np.asarray(volume)
    assert facts["interpolated_planes"]
    assert facts["source_planes"][-1] == len(stored) - 1 == 5
    at = fine.index(volume.grid.world(np.moveaxis(np.indices(volume.shape), 0, -1))).round(6)
    covered = (at[..., 1] >= 0) & (at[..., 1] <= 8)
    assert covered.mean() > 0.6
    np.testing.assert_allclose(stored[covered], 4 * world_ramp(volume.grid)[covered], atol=1.01)


def test_what_cannot_be_straightened_is_refused(tmp_path):
    affine = tilted(0.0).affine.copy()
    affine[:3, 1] += 0.02 * affine[:3, 2]
    write_nifti(tmp_path / "raw" / "a.nii", VOXELS[:6, :8, :7], Grid("zyx", (6, 8, 7), affine))
    with pytest.raises(ImportFailedError) as caught:
        imported(tmp_path / "raw", tmp_path / "b", deskew=True)
    assert [v.code for v in caught.value.verdicts] == ["in-plane-shear"]


def test_the_options_change_the_identity_of_a_case(tmp_path):
    write_dicom_series(tmp_path / "raw", VOXELS, tilted(shape=GRID.shape))
    plain = imported(tmp_path / "raw", tmp_path / "b")
    straight = imported(tmp_path / "raw", tmp_path / "b", deskew=True)
    assert plain.name == straight.name
    assert straight.images["CT"].shape != GRID.shape


def test_the_command_line(tmp_path):
    files = write_dicom_series(tmp_path / "raw", VOXELS, tilted(shape=GRID.shape))
    files[3].unlink()

    def run(*options):
        return CliRunner().invoke(main, ["import", str(tmp_path / "raw"), str(tmp_path / "b"), "-j", "0", *options])

    refused = run()
    assert refused.exit_code == 1
    assert "or have the missing ones masked or interpolated" in refused.output
    assert run("--on-gap", "resample", "--deskew").exit_code == 0
    [case] = open_catalog(tmp_path / "b").values()
    facts = facts_of(case.images["CT"])
    assert facts["interpolated_planes"] == [3]
    assert facts["deskewed_degrees"] > 15


# Structures drawn on the source.

SQUARE = [(1.6, 1.4), (1.6, 5.2), (5.3, 5.2), (5.3, 1.4)]


def write_rt(file, image, rois):
    """`rois`: name -> world points of its contours; `image` is a file of the series."""
    header = pydicom.dcmread(image)
    rt = Dataset()
    rt.file_meta = FileMetaDataset()
    rt.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    rt.SOPClassUID, rt.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.481.3", generate_uid()
    rt.SeriesInstanceUID, rt.Modality = generate_uid(), "RTSTRUCT"
    frame, study, series = Dataset(), Dataset(), Dataset()
    frame.FrameOfReferenceUID, series.SeriesInstanceUID = header.FrameOfReferenceUID, header.SeriesInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.RTReferencedStudySequence = [study]
    rt.ReferencedFrameOfReferenceSequence = [frame]
    rt.StructureSetROISequence, rt.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(rois.items(), start=1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        roi.ReferencedFrameOfReferenceUID = header.FrameOfReferenceUID
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for points in contours:
            item = Dataset()
            item.ContourGeometricType, item.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            item.ContourData = [f"{v:.6f}" for v in points.ravel()]
            drawn.ContourSequence.append(item)
        rt.StructureSetROISequence.append(roi)
        rt.ROIContourSequence.append(drawn)
    rt.save_as(file, enforce_file_format=True)


def squares(grid, planes):
    return [grid.world([(k, *p) for p in SQUARE]) for k in planes]


def write_seg(file, images, mask):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        described = highdicom.seg.SegmentDescription(
            1, "Liver", codes.SCT.Organ, codes.SCT.Liver, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        names = ("manufacturer", "manufacturer_model_name", "software_versions", "device_serial_number")
        highdicom.seg.Segmentation(
            [pydicom.dcmread(f) for f in images],
            mask,
            "BINARY",
            [described],
            generate_uid(),
            1,
            generate_uid(),
            1,
            **dict.fromkeys(names, "1"),
        ).save_as(file)


def planes_of(case, axis=0):
    """The planes of the label volume that hold anything."""
    [label] = case.labels.values()
    across = tuple(i for i in range(3) if i != axis)
    return np.flatnonzero(np.asarray(label).any(across)).tolist()


def with_messages(root, bundle, **reading):
    """The one case, and what was said of each source."""
    catalog = import_tree(root, bundle, options=ImportOptions(reading=ReadOptions(**reading)))
    [case] = catalog.values()
    return case, {v.source: v.message for v in catalog.verdicts}


@pytest.mark.parametrize("turn", [TURNS[0], Reorientation((1, 0, 2), (True, False, False))], ids=["axial", "coronal"])
def test_contours_on_the_planes_that_are_left_fill_those_between(tmp_path, turn):
    grid = turn.grid(GRID)
    voxels = np.ascontiguousarray(turn.array(VOXELS, axes="zyx"))
    files = write_dicom_series(tmp_path / "raw", voxels, grid)
    write_rt(tmp_path / "raw" / "rs.dcm", files[0], {"Liver": squares(grid, [1, 2, 5, 8])})
    for k in (3, 4):
        files[k].unlink()
    case, messages = with_messages(tmp_path / "raw", tmp_path / "b", on_gap="resample")
    # Plane 3 is nearer to 2, and plane 4 to 5; the coronal series runs from back to front.
    wanted, axis = ([1, 2, 3, 4, 5, 8], 0) if turn.is_identity else (sorted(9 - k for k in [1, 2, 3, 4, 5, 8]), 1)
    assert planes_of(case, axis) == wanted
    [label] = case.labels.values()
    for k in wanted:
        np.testing.assert_array_equal(np.asarray(label).take(k, axis), np.asarray(label).take(wanted[0], axis))
    assert "2 interpolated planes hold the labels of the nearest of them" in messages["rs.dcm"]


def test_halfway_the_lower_plane_counts_and_empty_ones_stay_empty(tmp_path):
    files = write_dicom_series(tmp_path / "raw", VOXELS, GRID)
    write_rt(tmp_path / "raw" / "rs.dcm", files[0], {"Liver": squares(GRID, [2, 8])})
    for k in (3, 7):
        files[k].unlink()
    assert planes_of(imported(tmp_path / "raw", tmp_path / "b", on_gap="resample")) == [2, 3, 8]


def test_contours_drawn_before_planes_were_lost_stay_where_they_are(tmp_path):
    files = write_dicom_series(tmp_path / "raw", VOXELS, GRID)
    write_rt(tmp_path / "raw" / "rs.dcm", files[0], {"Liver": squares(GRID, [1, 2, 3])})
    for k in (3, 4):
        files[k].unlink()
    case, messages = with_messages(tmp_path / "raw", tmp_path / "b", on_gap="resample")
    assert planes_of(case) == [1, 2, 3]
    assert messages["rs.dcm"] == ""


def test_masked_planes_get_no_labels(tmp_path):
    files = write_dicom_series(tmp_path / "raw", VOXELS, GRID)
    write_rt(tmp_path / "raw" / "rs.dcm", files[0], {"Liver": squares(GRID, [2, 5])})
    for k in (3, 4):
        files[k].unlink()
    assert planes_of(imported(tmp_path / "raw", tmp_path / "b", on_gap="mask")) == [2, 5]


def test_a_segmentation_of_the_planes_that_are_left_fills_those_between(tmp_path):
    files = write_dicom_series(tmp_path / "raw", VOXELS, GRID)
    for k in (3, 4):
        files[k].unlink()
    left = [f for f in files if f.exists()]
    mask = np.zeros((len(left), *GRID.shape[1:]), bool)
    mask[2:4, 2:5, 3:6] = True  # planes 2 and 5
    write_seg(tmp_path / "raw" / "seg.dcm", left, mask)
    case = imported(tmp_path / "raw", tmp_path / "b", on_gap="resample")
    assert planes_of(case) == [2, 3, 4, 5]
    [label] = case.labels.values()
    assert np.count_nonzero(label) == 4 * 9


def uneven_series(folder):
    """Planes 0, 5, 10, 17 and 20 of 21 that lie 0.5 mm apart; resampled they lie at 0, 1.75, 3.5, 5.95 and 7."""
    affine = GRID.affine.copy()
    affine[:3, 0] /= 5
    fine = Grid("zyx", (21, *GRID.shape[1:]), affine)
    files = write_dicom_series(folder, np.zeros(fine.shape, np.int16), fine)
    kept = [0, 5, 10, 17, 20]
    for k in set(range(21)) - set(kept):
        files[k].unlink()
    return fine, [files[k] for k in kept]


def test_contours_on_uneven_planes_go_to_the_planes_nearest_to_theirs(tmp_path):
    fine, files = uneven_series(tmp_path / "raw")
    write_rt(tmp_path / "raw" / "rs.dcm", files[0], {f"r{k}": squares(fine, [k]) for k in (0, 5, 17)})
    case = imported(tmp_path / "raw", tmp_path / "b", on_gap="resample")
    [label] = case.labels.values()
    # The plane at 3.5 is empty: 3 and 4 are its.
    assert np.asarray(label)[:, 3, 3].tolist() == [1, 2, 2, 0, 0, 3, 3, 0]


@pytest.mark.parametrize("kind", ["rt", "seg"])
def test_structures_that_no_longer_fit_are_refused_with_the_reason(tmp_path, kind):
    fine, files = uneven_series(tmp_path / "raw")
    if kind == "rt":
        # Its plane lies halfway between two of the resampled volume.
        write_rt(tmp_path / "raw" / "s.dcm", files[0], {"Liver": squares(fine, [10])})
    else:
        mask = np.zeros((5, *GRID.shape[1:]), bool)
        mask[1, 2:5, 3:6] = True
        write_seg(tmp_path / "raw" / "s.dcm", files, mask)
    code, text = refusal(tmp_path / "raw", tmp_path / "b", on_gap="resample")
    assert code == {"rt": "contour-off-plane", "seg": "label-off-grid"}[kind]
    assert "the image was resampled, and these structures are no longer on its grid: import both as they are" in text


def refusal(root, bundle, **reading):
    """Why the structures were refused; their image goes on without them."""
    catalog = import_tree(root, bundle, options=ImportOptions(reading=ReadOptions(**reading)))
    [case] = catalog.values()
    assert (len(case.images), len(case.labels)) == (1, 0)
    [verdict] = [v for v in catalog.verdicts if v.status == "refused"]
    return verdict.code, verdict.message


def test_contours_of_a_tilted_series_are_drawn_on_the_straight_grid(tmp_path):
    grid = tilted(0.65)
    files = write_dicom_series(tmp_path / "raw", np.zeros(grid.shape, np.int16), grid)
    write_rt(tmp_path / "raw" / "rs.dcm", files[0], {"Liver": squares(grid, [1, 4])})
    [label] = imported(tmp_path / "raw", tmp_path / "b", deskew=True).labels.values()
    at = grid.index(label.grid.world(np.moveaxis(np.indices(label.shape), 0, -1)))
    (low_y, low_x), (high_y, high_x) = np.min(SQUARE, 0), np.max(SQUARE, 0)
    inside = (at[..., 1] > low_y) & (at[..., 1] < high_y) & (at[..., 2] > low_x) & (at[..., 2] < high_x)
    inside[[0, 2, 3, 5]] = False
    assert inside.sum() > 20
    np.testing.assert_array_equal(np.asarray(label) == 1, inside)


def test_a_segmentation_of_a_tilted_series_does_not_fit_the_straight_grid(tmp_path):
    grid = tilted()
    files = write_dicom_series(tmp_path / "raw", np.zeros(grid.shape, np.int16), grid)
    mask = np.zeros(grid.shape, bool)
    mask[1:4, 2:5, 3:6] = True
    write_seg(tmp_path / "raw" / "seg.dcm", files, mask)
    code, text = refusal(tmp_path / "raw", tmp_path / "b", deskew=True)
    assert code == "label-off-grid"
    assert "the image was resampled" in text
    [label] = imported(tmp_path / "raw", tmp_path / "c").labels.values()
    np.testing.assert_array_equal(np.asarray(label) == 1, mask)
