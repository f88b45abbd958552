"""What the user is told of DICOM series that are readable, several volumes, or not placed."""

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from ndvol.formats import ReadOptions
from ndvol.formats.dicom import DicomReader
from ndvol.formats.writing import DicomOptions, write_dicom_series, write_enhanced_dicom
from ndvol.geometry import Grid

READER = DicomReader()


@pytest.fixture
def ct(tmp_path, voxels, oblique):
    return write_dicom_series(tmp_path / "ct", voxels, oblique, DicomOptions(intercept=-10))


def warnings_of(scan, root):
    found = scan(READER, root)
    assert len(found.series) == 1, found.verdicts
    assert READER.read(root, found.series[0]).warnings == found.series[0].warnings
    return " / ".join(found.series[0].warnings)


class TestEverySecondSlice:
    @pytest.fixture
    def halved(self, ct):
        for file in ct[1::2]:
            file.unlink()
        return ct[::2]

    def test_a_whole_series_is_not_doubted(self, tmp_path, ct, edit, scan):
        assert warnings_of(scan, tmp_path) == ""
        for file in ct:
            edit(file, SpacingBetweenSlices="-2.5")
        assert warnings_of(scan, tmp_path) == ""

    def test_instance_numbers_and_thickness_show_it(self, tmp_path, halved, scan):
        text = "the slices lie 5.000 mm apart, 2 times the 2.500 mm of SliceThickness, and InstanceNumber steps by 2"
        assert f"{text}: every second slice may be missing" in warnings_of(scan, tmp_path)

    def test_spacing_between_slices_shows_it_alone(self, tmp_path, halved, edit, scan):
        for file in halved:
            edit(file, InstanceNumber=1, SpacingBetweenSlices="2.5")
        assert "2 times the 2.500 mm of SpacingBetweenSlices: every second" in warnings_of(scan, tmp_path)

    def test_thickness_alone_does_not(self, tmp_path, halved, edit, scan):
        for k, file in enumerate(halved):
            edit(file, InstanceNumber=k)
        assert warnings_of(scan, tmp_path) == ""

    def test_a_gap_between_the_faces_of_slices_does_not(self, tmp_path, ct, edit, scan):
        for file in ct:
            edit(file, SliceThickness="1.7", SpacingBetweenSlices="0.8")
        assert warnings_of(scan, tmp_path) == ""

    def test_frames_are_doubted_too(self, tmp_path, voxels, oblique, scan):
        file = write_enhanced_dicom(tmp_path / "a.dcm", voxels, oblique)
        dataset = pydicom.dcmread(file)
        dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = "1.25"
        dataset.save_as(file)
        assert "2 times the 1.250 mm of SpacingBetweenSlices" in warnings_of(scan, tmp_path)


@pytest.mark.parametrize(
    ("value", "attribute", "warned"), [("YES", "YES", True), ("NO", "NO", False), (None, None, False)]
)
def test_burned_in_annotation(tmp_path, ct, edit, scan, value, attribute, warned):
    if value:
        edit(ct[1], BurnedInAnnotation=value)
        for file in ct:
            edit(file, BurnedInAnnotation=value if file == ct[1] or value == "NO" else "NO")
    assert ("identify the patient" in warnings_of(scan, tmp_path)) == warned
    assert READER.read(tmp_path, scan(READER, tmp_path).series[0]).attributes.get("BurnedInAnnotation") == attribute


@pytest.mark.parametrize("changes", [{"Modality": "US"}, {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.2"}])
def test_pictures_of_screens_often_show_names(tmp_path, ct, edit, scan, changes):
    for file in ct:
        edit(file, **changes)
    assert "often show names" in warnings_of(scan, tmp_path)


def mapping(slope, intercept):
    item, unit = pydicom.Dataset(), pydicom.Dataset()
    item.RealWorldValueSlope, item.RealWorldValueIntercept, unit.CodeValue = slope, intercept, "um2/s"
    item.MeasurementUnitsCodeSequence = [unit]
    return item


@pytest.mark.parametrize("slope", [0.5, 1.0])
def test_a_real_world_mapping_is_not_passed_over(tmp_path, ct, edit, scan, slope):
    for file in ct:
        edit(file, RealWorldValueMappingSequence=[mapping(slope, -10.0)])
    text = "RealWorldValueMapping is not applied: 0.5 x stored value + -10, unit um2/s"
    assert warnings_of(scan, tmp_path) == ("" if slope == 1 else text)


def test_a_real_world_mapping_of_frames(tmp_path, voxels, oblique, scan):
    file = write_enhanced_dicom(tmp_path / "a.dcm", voxels, oblique)
    dataset = pydicom.dcmread(file)
    dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence = [mapping(2.0, 3.0)]
    dataset.save_as(file)
    assert "not applied: 2 x stored value + 3" in warnings_of(scan, tmp_path)


def test_a_split_says_what_differs(tmp_path, ct, edit, scan):
    for file in ct[4:]:
        edit(file, ImageType=["DERIVED", "SECONDARY", "MPR"], ImageOrientationPatient=["1", "0", "0", "0", "1", "0"])
    split = next(v for v in scan(READER, tmp_path).verdicts if v.status == "split")
    assert "holds 2 stacks of " in split.message
    assert "ImageType (" in split.message
    assert "DERIVED\\SECONDARY\\MPR" in split.message
    assert "1.000\\0.000\\0.000\\0.000\\1.000\\0.000" in split.message
    assert "Rows" not in split.message


def test_a_split_shows_no_uid(tmp_path, ct, edit, scan):
    uid = generate_uid()
    for file in ct[3:]:
        edit(file, FrameOfReferenceUID=uid)
    message = next(v.message for v in scan(READER, tmp_path).verdicts if v.status == "split")
    assert "FrameOfReferenceUID (2 of them)" in message
    assert uid not in message


@pytest.mark.parametrize(
    ("missing", "text"),
    [
        (("PixelSpacing",), "PixelSpacing is missing"),
        (
            ("ImagePositionPatient", "ImageOrientationPatient"),
            "ImagePositionPatient and ImageOrientationPatient are missing",
        ),
    ],
)
def test_what_is_missing_of_the_geometry_is_named(tmp_path, ct, edit, scan, missing, text):
    for file in ct:
        edit(file, **dict.fromkeys(missing))
    (verdict,) = scan(READER, tmp_path).verdicts
    assert verdict.code == "no-geometry"
    assert text in verdict.message
    assert "import those without geometry" in verdict.message


class TestPadding:
    @pytest.mark.parametrize(
        ("options", "stored", "stated", "output"),
        [
            (DicomOptions(intercept=-1024, bits_stored=16), -2000, -2000, -3024),
            (DicomOptions(slope=0.5, intercept=1), -2000, -2000, -999.0),
            (DicomOptions(), -2000, 65536 - 2000, -2000),  # written with the other signedness
        ],
    )
    def test_a_user_who_masks_it_masks_the_padding(
        self, tmp_path, voxels, oblique, read_one, options, stored, stated, output
    ):
        voxels[:, 0, :2] = stored
        for file in write_dicom_series(tmp_path, voxels, oblique, options):
            dataset = pydicom.dcmread(file)
            dataset.add_new("PixelPaddingValue", "US" if stated > 32767 else "SS", stated)
            dataset.save_as(file)
        volume = read_one(READER, tmp_path)
        assert volume.attributes["PixelPaddingValueOutput"] == output
        np.testing.assert_array_equal(volume.array == output, voxels == stored)

    def test_padding_beyond_the_stored_bits_is_doubted(self, tmp_path, voxels, oblique, read_one):
        for file in write_dicom_series(tmp_path, voxels, oblique, DicomOptions(bits_stored=12)):
            dataset = pydicom.dcmread(file)
            dataset.add_new("PixelPaddingValue", "SS", -30000)
            dataset.save_as(file)
        volume = read_one(READER, tmp_path)
        assert "PixelPaddingValueOutput" not in volume.attributes
        assert any("PixelPaddingValue -30000 is no value of 12 stored bits" in w for w in volume.warnings)

    def test_padding_that_each_slice_rescales_has_no_one_value(self, tmp_path, ct, edit, read_one):
        for k, file in enumerate(ct):
            dataset = pydicom.dcmread(file)
            dataset.add_new("PixelPaddingValue", "SS", -300)
            dataset.RescaleSlope = str(1 + k)
            dataset.save_as(file)
        volume = read_one(READER, tmp_path)
        assert "PixelPaddingValueOutput" not in volume.attributes
        assert any("6 different values" in w for w in volume.warnings)


class TestMaskedGaps:
    MASK = ReadOptions(on_gap="mask")

    def test_missing_planes_are_filled_and_named(self, tmp_path, voxels, oblique, scan):
        voxels = np.concatenate([voxels, voxels + 1])
        oblique = Grid("zyx", voxels.shape, oblique.affine)
        files = write_dicom_series(tmp_path, voxels, oblique, DicomOptions(intercept=-10))
        for k in (2, 5, 6):
            files[k].unlink()
        series = scan(READER, tmp_path, self.MASK).series[0]
        assert series.shape == voxels.shape
        assert any("3 of 12 planes are missing (2, 5, 6 in the source" in w for w in series.warnings)
        volume = READER.read(tmp_path, series)
        expected = voxels - 10
        expected[[2, 5, 6]] = expected.min()
        np.testing.assert_array_equal(volume.array, expected)
        assert volume.grid.matches(oblique)
        assert volume.attributes["missing_planes"] == "[2, 5, 6]"
        assert volume.attributes["missing_planes_fill"] == expected.min()

    def test_the_padding_fills_them_where_it_is_stated(self, tmp_path, ct, scan):
        for file in ct:
            dataset = pydicom.dcmread(file)
            dataset.add_new("PixelPaddingValue", "SS", -2000)
            dataset.save_as(file)
        ct[3].unlink()
        volume = READER.read(tmp_path, scan(READER, tmp_path, self.MASK).series[0])
        assert (volume.array[3] == -2010).all()

    def test_labels_are_filled_with_background(self, tmp_path, voxels, oblique, scan):
        files = write_dicom_series(tmp_path, voxels + 310, oblique)
        files[1].unlink()
        volume = READER.read(tmp_path, scan(READER, tmp_path, self.MASK).series[0], as_label=True)
        assert (volume.array[1] == 0).all()
        assert volume.array[0].min() == 10

    def test_a_whole_series_has_none(self, tmp_path, ct, scan):
        assert scan(READER, tmp_path, self.MASK) == scan(READER, tmp_path)

    def test_every_time_lacks_the_same_planes(self, tmp_path, voxels, oblique, scan):
        series = np.stack([voxels, voxels + 500])
        file = write_enhanced_dicom(tmp_path / "a.dcm", series, oblique, DicomOptions(modality="MR"))
        dataset = pydicom.dcmread(file)
        kept = [k for k in range(12) if k % 6 != 3]
        dataset.PerFrameFunctionalGroupsSequence = [dataset.PerFrameFunctionalGroupsSequence[k] for k in kept]
        dataset.PixelData = series.reshape(12, *voxels.shape[1:])[kept].tobytes()
        dataset.NumberOfFrames = 10
        dataset.save_as(file)
        volume = READER.read(tmp_path, scan(READER, tmp_path, self.MASK).series[0])
        series[:, 3] = series.min()
        np.testing.assert_array_equal(volume.array, series)

    def test_other_words_are_refused(self):
        with pytest.raises(ValueError, match="on_gap"):
            ReadOptions(on_gap="guess")


@pytest.mark.parametrize(("high", "dtype"), [(4095, "int16"), (32767, "int16"), (40000, "uint16")])
def test_hounsfield_units_without_negative_values_are_int16_where_they_fit(tmp_path, oblique, read_one, high, dtype):
    stored = np.linspace(0, high, 120).astype(np.uint16).reshape(oblique.shape)
    write_dicom_series(tmp_path, stored, oblique)
    volume = read_one(READER, tmp_path)
    assert (volume.array.dtype, volume.value_unit) == (dtype, "HU")
    np.testing.assert_array_equal(volume.array, stored)
