"""Real scans with known answers; see the README beside them."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ndvol.formats.dicom import DicomReader
from ndvol.formats.dicom_headers import read_header
from ndvol.formats.dicom_pixels import stored_plane
from ndvol.formats.nifti import NiftiReader
from ndvol.geometry import Reorientation, closest_canonical

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no real scans at {DATA}"),
]

DICOM, NIFTI = DicomReader(), NiftiReader()

ANATOMICAL = [
    *("generic/anatomical/001", "generic/anatomical/001_implicit", "generic/anatomical/002_non_isotropic"),
    *("generic/compressed/001", "generic/compressed_j2k/001", "generic/compressed_jpeg/001"),
    *("generic/compressed_jpegls/001", "generic/compressed_rle/001"),
    *("ge/anatomical/001", "ge/anatomical/001_implicit"),
    *("hitachi/anatomical/001", "hitachi/anatomical/001_implicit"),
]


def canonical(volume):
    """Array and grid with z to superior, y to posterior, x to left."""
    turn: Reorientation = closest_canonical(volume.grid)
    return turn.array(volume.array, axes=volume.grid.axes), turn.grid(volume.grid)


def read_only(scan, reader, root):
    found = scan(reader, root)
    assert len(found.series) == 1, found.verdicts
    return reader.read(root, found.series[0])


def test_ct_phantom_equals_its_nifti(scan):
    dicom = read_only(scan, DICOM, DATA / "ct_phantom" / "dicom" / "image")
    nifti = read_only(scan, NIFTI, DATA / "ct_phantom" / "nifti" / "image")
    assert (dicom.array.shape, dicom.array.dtype, dicom.value_unit) == ((60, 201, 204), "int16", "HU")
    assert (dicom.array.min(), dicom.array.max()) == (-1000, 3065)
    (one, grid), (other, reference) = canonical(dicom), canonical(nifti)
    assert np.abs(one - other).max() == 0
    np.testing.assert_allclose(grid.affine, reference.affine, atol=1e-4)


def test_structure_set_beside_the_phantom_is_left_alone(scan):
    found = scan(DICOM, DATA / "ct_phantom" / "dicom")
    assert not found.verdicts
    assert (len(found.series), len(found.claimed)) == (1, 60)


def test_all_transfer_syntaxes_decode_to_the_same_pixels():
    root = DATA / "transfer_syntaxes" / "In"
    planes = [stored_plane(root, read_header(root, f"{k}.dcm")) for k in range(1, 10)]
    for plane in planes:
        np.testing.assert_array_equal(plane, planes[0])
    assert (int(planes[0].sum()), int(planes[0].max())) == (38036663, 2362)


@pytest.mark.parametrize("name", [f"{k}.dcm" for k in range(1, 10)])
def test_a_mosaic_is_unpacked(name):
    root = DATA / "transfer_syntaxes" / "In"
    volume = DICOM.read(root, DICOM.scan(root, [name]).series[0])
    assert (volume.array.shape, int(volume.array.max())) == ((35, 64, 64), 2362)
    # The 36th tile is empty, so no voxel is lost.
    assert int(volume.array.sum(dtype=np.int64)) == 38036663
    # As dcm2niix 1.0.20250505 -p n places it.
    np.testing.assert_allclose(volume.grid.spacing, (3.6, 3.25, 3.25), atol=1e-6)


def test_one_mosaic_nine_times_is_no_series(scan):
    found = scan(DICOM, DATA / "transfer_syntaxes")
    assert not found.series
    assert [v.code for v in found.verdicts] == ["duplicate-slices"]


def test_phase_series_equals_the_nifti_of_dcm2niix(scan):
    (one, grid) = canonical(read_only(scan, DICOM, DATA / "multi_echo" / "3_me_FieldMap_GRE"))
    nifti = scan(NIFTI, DATA / "multi_echo")
    (other, reference) = canonical(NIFTI.read(DATA / "multi_echo", nifti.series[0]))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(grid.affine, reference.affine, atol=1e-3)


@pytest.mark.parametrize("name", ANATOMICAL)
def test_vendor_series_equal_their_ground_truth(scan, name):
    (one, grid) = canonical(read_only(scan, DICOM, DATA / "vendors" / name))
    file = DATA / "vendors" / f"{name}_ground_truth.nii.gz"
    series = NIFTI.scan(file.parent, [file.name]).series[0]
    (other, reference) = canonical(NIFTI.read(file.parent, series))
    np.testing.assert_allclose(one, other, rtol=1e-6)
    np.testing.assert_allclose(grid.affine, reference.affine, atol=2e-3)


def test_single_slice_without_thickness_is_refused(scan):
    found = scan(DICOM, DATA / "vendors" / "ge" / "anatomical" / "001_single_slice")
    assert [(v.status, v.code) for v in found.verdicts] == [("refused", "single-slice")]


def test_colour_series_equals_its_ground_truth(scan):
    volume = read_only(scan, DICOM, DATA / "vendors" / "generic" / "rgb" / "001")
    assert volume.grid.axes == "czyx"
    image = nib.load(DATA / "vendors" / "generic" / "rgb" / "001_ground_truth.nii.gz")
    truth = np.asarray(image.dataobj)
    channels = np.stack([truth[c] for c in "RGB"])
    assert channels.shape[1:] == volume.array.shape[:0:-1]
    ras = volume.grid.nifti_affine
    signs = np.sign(np.sum(ras[:3, :3] * image.affine[:3, :3], axis=0)).astype(int)
    flipped = channels[:, :: signs[0], :: signs[1], :: signs[2]]
    np.testing.assert_array_equal(volume.array, flipped.transpose(0, 3, 2, 1))


@pytest.mark.parametrize(
    "name", ["ge/dti/001", "ge/dti/001_implicit", "ge/dti/002", "ge/fmri/001", "ge/fmri/001_implicit"]
)
def test_series_of_several_times_equal_their_ground_truth(scan, name):
    volume = read_only(scan, DICOM, DATA / "vendors" / name)
    image = nib.as_closest_canonical(nib.load(DATA / "vendors" / f"{name}_ground_truth.nii.gz"))
    mine = nib.as_closest_canonical(nib.Nifti1Image(volume.array.transpose(), volume.grid.nifti_affine))
    assert volume.grid.axes == "tzyx"
    np.testing.assert_array_equal(np.asarray(mine.dataobj), np.asarray(image.dataobj))
    np.testing.assert_allclose(mine.affine, image.affine, atol=1e-3)
    assert volume.attributes["t_axis"] == "InstanceNumber"  # these stubs have no other key, and no private creators


def test_two_orientations_are_split_not_stretched(scan):
    found = scan(DICOM, DATA / "refusals" / "sliceorientation")
    assert [v.status for v in found.verdicts] == ["split"]
    assert [s.shape for s in found.series] == [(2, 288, 288)] * 2
    for series in found.series:
        assert any("two slices" in w for w in series.warnings)


def test_two_slices_keep_their_stated_distance(scan):
    found = scan(DICOM, DATA / "refusals" / "slicecount")
    assert found.series[0].shape == (2, 256, 256)
    assert found.series[0].spacing == pytest.approx((1, 1, 1))
    assert any("two slices" in w for w in found.series[0].warnings)


def test_a_multi_frame_file_equals_its_single_frames(scan):
    found = scan(DICOM, DATA / "seg")
    assert not found.verdicts
    by_source = {s.source: DICOM.read(DATA / "seg", s) for s in found.series}
    assert sorted(by_source) == ["23x38x3/image", "23x38x3/multiframe", "ct-3slice"]
    one, other = by_source["23x38x3/image"], by_source["23x38x3/multiframe"]
    np.testing.assert_array_equal(one.array, other.array)
    assert one.grid.matches(other.grid)


def test_exports_of_one_series_in_several_codecs_are_one_volume(scan):
    root = DATA / "vendors" / "generic"
    files = sorted(p.relative_to(root).as_posix() for p in root.glob("compressed*/001/*"))
    found = DICOM.scan(root, files)
    assert [(s.key, s.warnings) for s in found.series] == [
        ("compressed/001", ("16 copies of slices (same UID, same pixels) were dropped",))
    ]
