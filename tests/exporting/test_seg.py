"""DICOM SEG: out of a bundle come the voxels, on the planes of the series that it was imported from."""

from __future__ import annotations

import json
import shutil
import subprocess
import warnings
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from click.testing import CliRunner

from ndvol.cli import main
from ndvol.errors import GridError, OptionError, SourceError
from ndvol.exporting import export_nnunet, export_seg, save_seg
from ndvol.formats import ReadOptions
from ndvol.formats.writing import DicomOptions, write_dicom_series, write_enhanced_dicom, write_nifti
from ndvol.geometry import Grid, SlidingWindows
from ndvol.importing import ImportOptions, import_tree
from ndvol.stitching import Stitcher
from ndvol.store import open_case

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

TABLE = ({"name": "organ"}, {"name": "liver", "value": 1}, {"name": "Lungenherd ä 肺", "value": 7})
NAMES = ["liver", "Lungenherd ä 肺"]
SHAPE = (5, 9, 11)


def grid_of(kind):
    """Axial, coronal (planes along y), oblique, or with a tilted gantry."""
    grid = Grid.regular("zyx", SHAPE, spacing=(3, 0.5, 0.8), origin=(-10, 20, 30))
    turn = np.eye(4)
    if kind == "coronal":
        turn[:3, :3] = [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    if kind == "oblique":
        turn[:3, :3] = [[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]]
    affine = turn @ grid.affine
    if kind == "tilted":
        affine[:3, 0] += (0, 0.6, 0)
    return Grid("zyx", SHAPE, affine)


def labels_of(seed, values=(1, 7)):
    """Voxels on some planes only."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, *values], SHAPE, p=[0.6, *[0.4 / len(values)] * len(values)]).astype(np.uint8)
    labels[[0, 3]] = 0
    return labels


def raw(folder, grid, labels, seed="a"):
    """A DICOM series with a NIfTI label map, laid out so that they are paired; the folder of the series."""
    series = folder / "images" / seed
    voxels = np.random.default_rng(1).integers(-900, 900, SHAPE).astype(np.int16)
    write_dicom_series(series, voxels, grid, DicomOptions(seed=seed))
    write_nifti(folder / "labels" / f"{seed}.nii.gz", labels, grid)
    return series


def bundle_of(folder, **options):
    return import_tree(folder, folder.parent / "bundle", options=ImportOptions(categories=TABLE, **options))


def voxels_by_pydicom(file, series):
    """Label -> mask over the planes of `series`, found from each frame's own reference and position alone."""
    seg = pydicom.dcmread(file)
    images = sorted((pydicom.dcmread(f) for f in series.iterdir()), key=lambda d: d.InstanceNumber)
    planes = {d.SOPInstanceUID: k for k, d in enumerate(images)}
    shape = (len(images), seg.Rows, seg.Columns)
    found = {str(item.SegmentLabel): np.zeros(shape, bool) for item in seg.SegmentSequence}
    names = {item.SegmentNumber: str(item.SegmentLabel) for item in seg.SegmentSequence}
    frames = seg.pixel_array.reshape(-1, *shape[1:])
    shared = seg.SharedFunctionalGroupsSequence[0]
    for frame, group in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        [reference] = group.DerivationImageSequence[0].SourceImageSequence
        k = planes[reference.ReferencedSOPInstanceUID]
        assert group.PlanePositionSequence[0].ImagePositionPatient == images[k].ImagePositionPatient
        number = (group if "SegmentIdentificationSequence" in group else shared).SegmentIdentificationSequence[0]
        mask = found[names[number.ReferencedSegmentNumber]][k]
        assert not mask.any(), "one frame per segment and plane"
        mask |= frame.astype(bool)
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == images[0].ImageOrientationPatient
    assert shared.PixelMeasuresSequence[0].PixelSpacing == images[0].PixelSpacing
    return found


def voxels_by_highdicom(file, grid):
    """Label -> mask, each voxel placed through highdicom's affine."""
    seg = highdicom.seg.segread(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        volume = seg.get_volume(combine_segments=False)
    found = {}
    for k, item in enumerate(seg.SegmentSequence):
        indices = np.argwhere(volume.array[..., k])
        mask = found[str(item.SegmentLabel)] = np.zeros(grid.shape, bool)
        mask[tuple(np.rint(grid.index(volume.map_indices_to_reference(indices))).astype(int).T)] = True
    return found


@pytest.mark.parametrize(
    ("kind", "orientation"),
    [
        ("axial", "canonical"),
        ("coronal", "canonical"),
        ("coronal", "native"),
        ("oblique", "canonical"),
        ("tilted", "native"),
    ],
)
def test_voxels_and_places_are_those_of_the_source(tmp_path, kind, orientation):
    grid, labels = grid_of(kind), labels_of(0)
    series = raw(tmp_path / "raw", grid, labels)
    catalog = bundle_of(tmp_path / "raw", orientation=orientation)
    assert export_seg(catalog, tmp_path / "out", tmp_path / "raw" / "images") == {}
    [file] = (tmp_path / "out").rglob("*.dcm")
    found = voxels_by_pydicom(file, series)
    assert list(found) == NAMES
    for name, value in zip(NAMES, (1, 7), strict=True):
        np.testing.assert_array_equal(found[name], labels == value)
    if kind != "tilted":  # highdicom takes planes as a volume only if they are not sheared
        for name, mask in voxels_by_highdicom(file, grid).items():
            np.testing.assert_array_equal(mask, found[name])
    seg, image = pydicom.dcmread(file), pydicom.dcmread(next(series.iterdir()))
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate"):
        assert seg.get(keyword) == image.get(keyword), keyword
    assert seg.SeriesInstanceUID != image.SeriesInstanceUID
    assert {item.SegmentAlgorithmType for item in seg.SegmentSequence} == {"MANUAL"}
    assert seg.NumberOfFrames == len(NAMES) * 3, "planes without voxels have no frame"


def test_the_same_label_makes_the_same_bytes_and_another_one_other_uids(tmp_path):
    grid = grid_of("axial")
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        raw(tmp_path / name / "raw", grid, labels_of(seed))
        export_seg(bundle_of(tmp_path / name / "raw"), tmp_path / name / "out", tmp_path / name / "raw" / "images")
    [a], [b], [c] = (list((tmp_path / name / "out").rglob("*.dcm")) for name in "abc")
    assert a.read_bytes() == b.read_bytes()
    one, other = pydicom.dcmread(a), pydicom.dcmread(c)
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert one.get(keyword) != other.get(keyword)


def write_overlapping(file, images, seed):
    """A SEG with two overlapping segments and one without voxels; its masks by name."""
    rng = np.random.default_rng(seed)
    masks = {name: rng.random(SHAPE) < share for name, share in (("one", 0.4), ("two", 0.4), ("none", 0))}
    tissue = pydicom.sr.codedict.codes.SCT.Tissue
    described = [
        highdicom.seg.SegmentDescription(k, name, tissue, tissue, "MANUAL") for k, name in enumerate(masks, start=1)
    ]
    uid, names = pydicom.uid.generate_uid, ["m", "m", "1", "1"]
    pixels = np.stack(list(masks.values()), -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        highdicom.seg.Segmentation(images, pixels, "BINARY", described, uid(), 1, uid(), 1, *names).save_as(file)
    return masks


def masks_of(catalog):
    """Category -> mask, over all label volumes of the only case."""
    [case] = catalog.values()
    found = {}
    for label in case.labels.values():
        for value, name in label.categories.items():
            assert name not in found
            found[name] = label[...] == value
    return found


def test_a_seg_with_overlaps_comes_back(tmp_path):
    grid = grid_of("axial")
    files = write_dicom_series(tmp_path / "raw" / "ct", np.zeros(SHAPE, np.int16), grid)
    masks = write_overlapping(tmp_path / "raw" / "seg.dcm", [pydicom.dcmread(f) for f in files], 0)
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle")
    assert export_seg(catalog, tmp_path / "out", tmp_path / "raw") == {}
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 2, "structures that overlap lie in several label volumes"
    shutil.copytree(tmp_path / "raw" / "ct", tmp_path / "out" / "ct")
    again = import_tree(tmp_path / "out", tmp_path / "again")
    for found in (masks_of(catalog), masks_of(again)):
        assert found.keys() == masks.keys()
        for name, mask in masks.items():
            np.testing.assert_array_equal(found[name], mask)


def test_a_seg_of_a_coronal_series_has_the_order_of_its_image(tmp_path):
    series = raw(tmp_path / "raw", grid_of("coronal"), labels_of(0))
    export_seg(bundle_of(tmp_path / "raw"), tmp_path / "dicom", series)
    shutil.copytree(series, tmp_path / "dicom" / "ct")
    catalog = import_tree(tmp_path / "dicom", tmp_path / "again")
    assert export_nnunet(catalog, tmp_path / "out") == {}
    image, label = (nibabel.load(next((tmp_path / "out" / part).iterdir())) for part in ("imagesTr", "labelsTr"))
    assert np.array_equal(image.affine, label.affine)
    np.testing.assert_allclose(label.affine, grid_of("coronal").nifti_affine, atol=1e-5)
    numbers = {0: 0, 1: 1, 7: 2}
    assert np.array_equal(np.asanyarray(label.dataobj).T, np.vectorize(numbers.get)(labels_of(0)))


def test_a_label_without_voxels_is_written_as_such(tmp_path):
    raw(tmp_path / "raw", grid_of("axial"), np.zeros(SHAPE, np.uint8))
    assert export_seg(bundle_of(tmp_path / "raw"), tmp_path / "out", tmp_path / "raw" / "images") == {}
    seg = pydicom.dcmread(next((tmp_path / "out").rglob("*.dcm")))
    assert [str(item.SegmentLabel) for item in seg.SegmentSequence] == NAMES
    assert seg.NumberOfFrames == len(NAMES)
    assert not seg.pixel_array.any()


@pytest.mark.parametrize("times", [0, 3])
def test_frames_of_a_multi_frame_source_are_referred_to(tmp_path, times):
    # Stored back to front, so that frames and planes have different numbers.
    grid, labels = grid_of("oblique").flip(0), labels_of(0)
    shape = (times, *SHAPE) if times else SHAPE
    voxels = np.random.default_rng(0).integers(0, 99, shape).astype(np.int16)
    file = write_enhanced_dicom(tmp_path / "raw" / "images" / "a.dcm", voxels, grid, DicomOptions(modality="MR"))
    write_nifti(tmp_path / "raw" / "labels" / "a.nii.gz", labels, grid)
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle")
    assert export_seg(catalog, tmp_path / "out", file) == {}
    seg = pydicom.dcmread(next((tmp_path / "out").rglob("*.dcm")))
    source = pydicom.dcmread(file)
    found = np.zeros(SHAPE, bool)
    for frame, group in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        [reference] = group.DerivationImageSequence[0].SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
        number = int(reference.ReferencedFrameNumber) - 1
        own = source.PerFrameFunctionalGroupsSequence[number].PlanePositionSequence[0]
        assert group.PlanePositionSequence[0].ImagePositionPatient == own.ImagePositionPatient
        found[number] |= frame.astype(bool)
    np.testing.assert_array_equal(found, labels != 0)


def test_a_series_over_time_is_referred_to_by_its_first_time(tmp_path):
    grid, labels = grid_of("axial"), labels_of(0, (1,))
    voxels = np.random.default_rng(0).integers(0, 99, (2, *SHAPE)).astype(np.int16)
    for t, volume in enumerate(voxels):
        for k, file in enumerate(write_dicom_series(tmp_path / f"{t}", volume, grid, DicomOptions(modality="MR"))):
            image = pydicom.dcmread(file)
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{t}.{k + 1}"
            image.TemporalPositionIdentifier, image.AcquisitionNumber = t + 1, t + 1
            (tmp_path / "raw" / "images" / "a").mkdir(parents=True, exist_ok=True)
            image.save_as(tmp_path / "raw" / "images" / "a" / f"{t}-{k}.dcm")
    write_nifti(tmp_path / "raw" / "labels" / "a.nii.gz", labels, grid)
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle")
    assert next(iter(catalog.values())).images["MR"].shape == (2, *SHAPE)
    assert export_seg(catalog, tmp_path / "out", tmp_path / "raw") == {}
    seg = pydicom.dcmread(next((tmp_path / "out").rglob("*.dcm")))
    shown = [
        g.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        for g in seg.PerFrameFunctionalGroupsSequence
    ]
    assert sorted(shown) == [f"1.2.3.0.{k + 1}" for k in range(SHAPE[0]) if labels[k].any()]


def test_planes_that_a_series_lacks_have_no_frame(tmp_path):
    labels = labels_of(0)
    series = raw(tmp_path / "raw", grid_of("axial"), labels)
    (series / "IM0004.dcm").unlink()  # plane 3 holds no label
    catalog = bundle_of(tmp_path / "raw", reading=ReadOptions(on_gap="mask"))
    assert export_seg(catalog, tmp_path / "out", series) == {}
    found = voxels_by_pydicom(next((tmp_path / "out").rglob("*.dcm")), series)
    np.testing.assert_array_equal(found["liver"], np.delete(labels, 3, 0) == 1)


def test_labels_on_planes_that_a_series_lacks_are_refused(tmp_path):
    series = raw(tmp_path / "raw", grid_of("axial"), labels_of(0))
    (series / "IM0003.dcm").unlink()
    [error] = export_seg(
        bundle_of(tmp_path / "raw", reading=ReadOptions(on_gap="mask")), tmp_path / "out", series
    ).values()
    assert isinstance(error, GridError)
    assert "has voxels in planes that" in str(error)
    assert "planes [2]" in str(error)


def test_what_has_no_series_is_refused_and_the_others_written(tmp_path):
    grid = grid_of("axial")
    raw(tmp_path / "raw", grid, labels_of(0))
    changed = raw(tmp_path / "raw", grid, labels_of(1), seed="b")
    write_nifti(tmp_path / "raw/images/c.nii.gz", np.zeros(SHAPE, np.int16), grid)
    write_nifti(tmp_path / "raw/labels/c.nii.gz", labels_of(2), grid)
    catalog = bundle_of(tmp_path / "raw", modality="CT")
    assert len(catalog) == 3
    image = pydicom.dcmread(changed / "IM0001.dcm")
    image.PatientName = "Somebody^Else"
    image.save_as(changed / "IM0001.dcm")
    refused = export_seg(catalog, tmp_path / "out", tmp_path / "raw")
    assert len(refused) == 2
    for name, error in refused.items():
        assert isinstance(error, SourceError)
        assert f"is one that case {name!r} was imported from; got 2 series, none of the same files" in str(error)
    [file] = (tmp_path / "out").rglob("*.dcm")
    np.testing.assert_array_equal(
        voxels_by_pydicom(file, tmp_path / "raw" / "images" / "a")["liver"], labels_of(0) == 1
    )


def test_a_label_on_another_grid_than_its_source_is_refused(tmp_path):
    series = raw(tmp_path / "raw", grid_of("tilted"), labels_of(0))
    catalog = bundle_of(tmp_path / "raw", reading=ReadOptions(deskew=True))
    [error] = export_seg(catalog, tmp_path / "out", series).values()
    assert isinstance(error, GridError)
    assert "lies on the voxels of 0 series" in str(error)
    assert "resampled, deskewed or cropped exports as NIfTI" in str(error)


@pytest.mark.parametrize("name", ["x" * 65, "left\\right"])
def test_names_that_no_segment_can_have_are_refused(tmp_path, name):
    series = raw(tmp_path / "raw", grid_of("axial"), labels_of(0, (1,)))
    options = ImportOptions(categories=({"name": name, "value": 1},))
    [error] = export_seg(
        import_tree(tmp_path / "raw", tmp_path / "bundle", options=options), tmp_path / "out", series
    ).values()
    assert isinstance(error, OptionError)
    assert "up to 64 printable characters, no backslash" in str(error)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda image: delattr(image, "FrameOfReferenceUID"), "no FrameOfReferenceUID"),
        (lambda image: delattr(image, "StudyInstanceUID"), "no StudyInstanceUID"),
    ],
)
def test_images_that_nothing_can_refer_to_are_refused(tmp_path, change, text):
    series = raw(tmp_path / "raw", grid_of("axial"), labels_of(0))
    for file in series.iterdir():
        image = pydicom.dcmread(file)
        change(image)
        image.save_as(file)
    [error] = export_seg(bundle_of(tmp_path / "raw"), tmp_path / "out", series).values()
    assert error.code == "seg-source"
    assert text in str(error)


def test_names_in_other_alphabets_survive_and_empty_elements_may_be_missing(tmp_path):
    series = raw(tmp_path / "raw", grid_of("axial"), labels_of(0))
    for file in series.iterdir():
        image = pydicom.dcmread(file)
        image.SpecificCharacterSet, image.PatientName = "ISO_IR 100", "Müller^Änne"
        image.ImageOrientationPatient = [1, 1e-6 * image.InstanceNumber, 0, 0, 1, 0]
        image.Manufacturer, image.ManufacturerModelName = "Röntgen", "CT 1"
        for keyword in ("PatientBirthDate", "PatientSex", "AccessionNumber", "SliceThickness"):
            delattr(image, keyword)
        image.save_as(file)
    assert export_seg(bundle_of(tmp_path / "raw"), tmp_path / "out", series) == {}
    seg = pydicom.dcmread(next((tmp_path / "out").rglob("*.dcm")))
    assert str(seg.PatientName) == "Müller^Änne"
    assert [str(item.SegmentLabel) for item in seg.SegmentSequence] == NAMES


def test_a_prediction_goes_to_the_series_that_has_its_grid(tmp_path):
    grid, labels = grid_of("coronal"), labels_of(0, (1,))
    series = raw(tmp_path / "raw", grid, labels)
    raw(tmp_path / "raw", grid_of("axial"), labels, seed="b")
    catalog = bundle_of(tmp_path / "raw")
    [case] = [c for c in catalog.values() if c.images["CT"].shape != SHAPE]
    [truth], image = case.labels.values(), case.images["CT"]
    windows = SlidingWindows(image.shape, image.shape, 0)
    with Stitcher(image.grid, windows, tmp_path / "p.h5", categories={1: "tumour"}) as stitcher:
        stitcher.add(windows[0], np.stack([truth[...] != 1, truth[...] == 1]).astype(np.float32))
    prediction = open_case(tmp_path / "p.h5").labels["prediction"]
    save_seg(prediction, tmp_path / "p.dcm", tmp_path / "raw", algorithm="net 1.0")
    np.testing.assert_array_equal(voxels_by_pydicom(tmp_path / "p.dcm", series)["tumour"], labels == 1)
    [segment] = pydicom.dcmread(tmp_path / "p.dcm").SegmentSequence
    assert (segment.SegmentAlgorithmType, segment.SegmentAlgorithmName) == ("AUTOMATIC", "net 1.0")
    raw(tmp_path / "raw", grid, labels, seed="c")
    with pytest.raises(GridError, match="lies on the voxels of 2 series"):
        save_seg(prediction, tmp_path / "q.dcm", tmp_path / "raw")
    with pytest.raises(SourceError, match="there is no DICOM image series in"):
        save_seg(prediction, tmp_path / "q.dcm", tmp_path / "raw" / "labels")


def test_the_command_wants_the_source(tmp_path):
    series = raw(tmp_path / "raw", grid_of("axial"), labels_of(0))
    bundle_of(tmp_path / "raw")
    arguments = ["export", str(tmp_path / "bundle"), str(tmp_path / "out"), "--to"]
    missing = CliRunner().invoke(main, [*arguments, "seg"])
    assert missing.exit_code == 2
    assert "--to seg needs --source" in missing.output
    other = CliRunner().invoke(main, [*arguments, "nifti", "--source", str(series)])
    assert other.exit_code == 2
    assert "--source goes with --to seg only" in other.output
    done = CliRunner().invoke(main, [*arguments, "seg", "--source", str(series), "--algorithm", "x", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["refused"] == {}
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 1
    again = CliRunner().invoke(main, [*arguments, "seg", "--source", str(series)])
    assert again.exit_code == 1
    assert "is not empty" in again.stderr


def by_dcmqi(file, folder):
    """Label -> mask in the order that dcmqi gives the planes, with its origin; None where dcmqi is not installed."""
    program = shutil.which("segimage2itkimage")
    if not program:
        pytest.skip("dcmqi is not installed")
    folder.mkdir()
    subprocess.run(
        [program, "--inputDICOM", str(file), "--outputDirectory", str(folder), "-t", "nrrd"],
        check=True,
        capture_output=True,
    )
    return [SimpleITK.ReadImage(str(f)) for f in sorted(folder.glob("*.nrrd"))]


def test_dcmqi_reads_the_same_voxels(tmp_path):
    grid, labels = grid_of("oblique"), labels_of(0)
    series = raw(tmp_path / "raw", grid, labels)
    export_seg(bundle_of(tmp_path / "raw"), tmp_path / "out", series)
    images = by_dcmqi(next((tmp_path / "out").rglob("*.dcm")), tmp_path / "nrrd")
    for image, value in zip(images, (1, 7), strict=True):
        found = np.zeros(SHAPE, bool)
        for z, y, x in np.argwhere(SimpleITK.GetArrayViewFromImage(image)):
            place = image.TransformIndexToPhysicalPoint((int(x), int(y), int(z)))
            found[tuple(np.rint(grid.index(place)).astype(int))] = True
        np.testing.assert_array_equal(found, labels == value)


@pytest.mark.realdata
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real scans at {DATA}")
@pytest.mark.parametrize(
    ("folder", "drawn", "voxels"),
    [("ct_phantom/dicom", "mask", 125256), ("seg/23x38x3", "seg", 322), ("seg", "liver.dcm", 107098)],
    ids=["RTSTRUCT", "SEG", "liver"],
)
def test_real_structures_there_and_back(tmp_path, folder, drawn, voxels):
    images = {"seg": "ct-3slice"}.get(folder, "image")
    for name in (images, drawn):
        copy = shutil.copytree if (DATA / folder / name).is_dir() else shutil.copy
        (tmp_path / "raw").mkdir(exist_ok=True)
        copy(DATA / folder / name, tmp_path / "raw" / name)
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle")
    assert export_seg(catalog, tmp_path / "out", tmp_path / "raw") == {}
    [file] = (tmp_path / "out").rglob("*.dcm")
    assert int(pydicom.dcmread(file).pixel_array.sum()) == voxels
    shutil.copytree(DATA / folder / images, tmp_path / "again" / "image")
    shutil.copy(file, tmp_path / "again" / "seg.dcm")
    [one], [other] = (c.values() for c in (catalog, import_tree(tmp_path / "again", tmp_path / "second")))
    [one], [other] = one.labels.values(), other.labels.values()
    np.testing.assert_array_equal(one[...], other[...])
    assert (one.grid, one.categories) == (other.grid, other.categories)
