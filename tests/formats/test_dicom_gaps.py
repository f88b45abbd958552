"""DICOM series with missing or unevenly spaced planes, interpolated where the user wants it."""

import json
import pickle

import numpy as np
import pydicom
import pytest

from ndvol.formats import ReadOptions
from ndvol.formats.dicom import DicomReader
from ndvol.formats.regridded import turned
from ndvol.formats.writing import DicomOptions, write_dicom_series, write_enhanced_dicom
from ndvol.geometry import Grid, Reorientation

READER = DicomReader()
RESAMPLE = ReadOptions(on_gap="resample")
KEPT = [0, 5, 10, 17, 20]
"""Planes of 21 that are there: 2.5, 2.5, 3.5 and 1.5 mm apart."""


@pytest.fixture
def fine(oblique):
    """21 planes 0.5 mm apart, tilted."""
    affine = oblique.affine.copy()
    affine[:3, 0] = affine[:3, 0] / 5 + affine[:3, 1] * 0.1
    return Grid("zyx", (21, 5, 4), affine)


def ramp(z, shape=(5, 4)):
    """Values that are linear in the index."""
    y, x = np.indices(shape)
    return 30.0 * np.asarray(z)[:, None, None] + 3 * y - 2 * x


@pytest.fixture
def uneven(tmp_path, fine):
    files = write_dicom_series(
        tmp_path, ramp(range(21)).astype(np.int16), fine, DicomOptions(intercept=-10, bits_stored=12)
    )
    for k in set(range(21)) - set(KEPT):
        files[k].unlink()
    return [files[k] for k in KEPT]


def read(root, scan, **options):
    found = scan(READER, root, RESAMPLE)
    assert len(found.series) == 1, found.verdicts
    return READER.read(root, found.series[0], **options)


@pytest.mark.parametrize("choice", ["refuse", "mask"])
def test_uneven_spacing_is_refused_unless_resampled(tmp_path, uneven, scan, choice):
    (verdict,) = scan(READER, tmp_path, ReadOptions(on_gap=choice)).verdicts
    assert verdict.code == "uneven-slices"
    assert "or have the series resampled to one spacing" in verdict.message


def test_a_ramp_across_uneven_planes_stays_one(tmp_path, uneven, fine, scan):
    volume = read(tmp_path, scan)
    # 10 mm in steps of at most 1.5 mm: 7 of them.
    at = np.arange(8) * 20 / 7
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array, ramp(at) - 10, rtol=1e-6)
    for k, z in enumerate(at):
        np.testing.assert_allclose(volume.grid.world((k, 2, 1)), fine.world((z, 2, 1)), atol=1e-6)
    assert volume.attributes["planes_axis"] == "z"
    assert json.loads(volume.attributes["interpolated_planes"]) == [1, 2, 3, 4, 5, 6]
    assert json.loads(volume.attributes["source_planes"]) == [0, 1.75, 3.5, 5.95, 7]


def test_the_user_is_told(tmp_path, uneven, scan):
    series = scan(READER, tmp_path, RESAMPLE).series[0]
    text = "the slices are not evenly spaced: resampled to 1.429 mm, 6 of 8 planes are interpolated"
    assert any(w.startswith(text) for w in series.warnings)
    assert any("1, 2, 3, 4, 5, 6 in the source's order" in w for w in series.warnings)
    again = pickle.loads(pickle.dumps(series))
    volume = READER.read(tmp_path, again)
    assert volume.warnings == series.warnings
    assert (volume.array.shape, str(volume.array.dtype)) == (series.shape, series.dtype) == ((8, 5, 4), "float32")


def test_only_missing_planes_are_interpolated(tmp_path, voxels, oblique, scan):
    files = write_dicom_series(tmp_path, voxels, oblique)
    for k in (1, 3):
        files[k].unlink()
    volume = read(tmp_path, scan)
    assert json.loads(volume.attributes["interpolated_planes"]) == [1, 3]
    assert json.loads(volume.attributes["source_planes"]) == [0, 2, 4, 5]
    assert "missing_planes" not in volume.attributes
    there = [0, 2, 4, 5]
    np.testing.assert_array_equal(volume.array[there], voxels[there])
    for k in (1, 3):
        np.testing.assert_array_equal(volume.array[k], (voxels[k - 1].astype(float) + voxels[k + 1]) / 2)
    assert volume.grid.matches(oblique)


def test_every_time_is_interpolated(tmp_path, fine, scan):
    voxels = np.stack([ramp(range(21)), 2 * ramp(range(21)) + 7]).astype(np.int16)
    file = write_enhanced_dicom(tmp_path / "a.dcm", voxels, fine, DicomOptions(modality="MR"))
    dataset = pydicom.dcmread(file)
    kept = [*KEPT, *(21 + k for k in KEPT)]
    dataset.PerFrameFunctionalGroupsSequence = [dataset.PerFrameFunctionalGroupsSequence[k] for k in kept]
    dataset.PixelData = voxels.reshape(42, 5, 4)[kept].tobytes()
    dataset.NumberOfFrames = len(kept)
    dataset.save_as(file)
    volume = read(tmp_path, scan)
    at = np.arange(8) * 20 / 7
    assert volume.grid.axes == "tzyx"
    np.testing.assert_allclose(volume.array, [ramp(at), 2 * ramp(at) + 7], rtol=1e-6)


def test_labels_take_the_nearest_plane(tmp_path, uneven, scan):
    for k, file in enumerate(uneven):
        dataset = pydicom.dcmread(file)
        dataset.PixelData = np.full((5, 4), 11 + k, np.int16).tobytes()
        dataset.save_as(file)
    volume = read(tmp_path, scan, as_label=True)
    # The planes lie at 0, 1.75, 3.5, 5.95 and 7.
    assert volume.array.dtype == np.uint8
    assert volume.array[:, 0, 0].tolist() == [1, 2, 2, 3, 3, 4, 4, 5]


def test_padding_is_not_mixed(tmp_path, voxels, oblique, scan):
    voxels[2, :2] = -2000
    files = write_dicom_series(tmp_path, voxels, oblique, DicomOptions(intercept=-10))
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.add_new("PixelPaddingValue", "SS", -2000)
        dataset.save_as(file)
    files[3].unlink()
    volume = read(tmp_path, scan)
    assert volume.attributes["PixelPaddingValueOutput"] == -2010
    assert (volume.array[3, :2] == -2010).all()
    np.testing.assert_array_equal(volume.array[3, 2:] + 10, (voxels[2, 2:].astype(float) + voxels[4, 2:]) / 2)


def test_a_range_of_padding_is_padding(tmp_path, voxels, oblique, scan):
    voxels[2, 0], voxels[4, 1] = -2000, -1500
    files = write_dicom_series(tmp_path, voxels, oblique)
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.add_new("PixelPaddingValue", "SS", -2000)
        dataset.add_new("PixelPaddingRangeLimit", "SS", -1400)
        dataset.save_as(file)
    files[3].unlink()
    volume = read(tmp_path, scan)
    assert (volume.array[3, :2] == -2000).all()
    assert (volume.array[3, 2:] > -1000).all()


def test_an_even_series_is_as_it_was(tmp_path, voxels, oblique, scan):
    write_dicom_series(tmp_path, voxels, oblique)
    assert scan(READER, tmp_path, RESAMPLE) == scan(READER, tmp_path)
    volume = read(tmp_path, scan)
    assert volume.array.dtype == np.int16
    assert not {"planes_axis", "interpolated_planes"} & set(volume.attributes)


def test_lists_of_planes_turn_with_the_volume(tmp_path, uneven, scan):
    volume = read(tmp_path, scan)
    turn = Reorientation((1, 0, 2), (False, True, True))
    found = turned(volume, turn)
    assert found.grid == turn.grid(volume.grid)
    assert found.attributes["planes_axis"] == "y"
    assert json.loads(found.attributes["source_planes"]) == [0, 1.05, 3.5, 5.25, 7]
    back = turned(found, turn.inverse())
    assert back.attributes == volume.attributes
    np.testing.assert_array_equal(back.array, volume.array)
