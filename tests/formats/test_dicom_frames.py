"""Enhanced multi-frame objects: frames as planes."""

import io
import json

import numpy as np
import pydicom
import pytest
import SimpleITK
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless, generate_uid

from ndvol.errors import SourceError
from ndvol.formats import dicom_pixels
from ndvol.formats.dicom import DicomReader
from ndvol.formats.writing import DicomOptions, write_enhanced_dicom

READER = DicomReader()


@pytest.fixture
def change(tmp_path):
    """Change the dataset of the file ``a.dcm`` by a function."""

    def run(function):
        dataset = pydicom.dcmread(tmp_path / "a.dcm")
        function(dataset)
        dataset.save_as(tmp_path / "a.dcm")

    return run


@pytest.fixture
def enhanced(tmp_path, voxels, oblique):
    return write_enhanced_dicom(tmp_path / "a.dcm", voxels, oblique)


@pytest.fixture
def dynamic(tmp_path, voxels, oblique):
    """The stored values of a file of three times."""
    truth = np.stack([voxels + t for t in range(3)])
    write_enhanced_dicom(tmp_path / "a.dcm", truth, oblique, DicomOptions(modality="MR"))
    return truth


def frames(dataset):
    return dataset.PerFrameFunctionalGroupsSequence


def test_voxels_and_world_agree_with_the_array_and_simpleitk(tmp_path, enhanced, voxels, oblique, read_one):
    volume = read_one(READER, tmp_path)
    np.testing.assert_array_equal(volume.array, voxels)
    assert volume.grid.matches(oblique)
    assert (volume.modality, volume.value_unit) == ("CT", "HU")
    itk = SimpleITK.ReadImage(str(enhanced))
    for index in ((0, 0, 0), (5, 4, 3), (2, 1, 3)):
        world = itk.TransformContinuousIndexToPhysicalPoint(tuple(map(float, index[::-1])))
        np.testing.assert_allclose(volume.grid.world(index), world, atol=1e-3)


def test_shuffled_frames_are_ordered_by_position(tmp_path, enhanced, voxels, read_one, change):
    order = np.random.default_rng(0).permutation(len(voxels))

    def shuffle(dataset):
        groups = list(frames(dataset))
        dataset.PerFrameFunctionalGroupsSequence = [groups[k] for k in order]
        dataset.PixelData = voxels[order].tobytes()

    change(shuffle)
    np.testing.assert_array_equal(read_one(READER, tmp_path).array, voxels)


def test_a_slope_of_its_own_goes_to_its_own_frame(tmp_path, enhanced, voxels, read_one, change):
    def scale(dataset):
        frames(dataset)[2].PixelValueTransformationSequence[0].RescaleSlope = "0.5"

    change(scale)
    expected = voxels.astype(np.float32)
    expected[2] *= 0.5
    volume = read_one(READER, tmp_path)
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, expected)


def test_times_become_a_t_axis(tmp_path, dynamic, read_one):
    volume = read_one(READER, tmp_path)
    assert volume.grid.axes == "tzyx"
    np.testing.assert_array_equal(volume.array, dynamic)
    assert volume.attributes["t_axis"] == "TemporalPositionIdentifier"


def test_diffusion_and_echo_come_from_the_functional_groups(tmp_path, dynamic, read_one, change):
    def weight(dataset):
        for k, group in enumerate(frames(dataset)):
            b, echo = pydicom.Dataset(), pydicom.Dataset()
            b.DiffusionBValue = (0.0, 1000.0, 500.0)[k // 6]
            echo.EffectiveEchoTime = 80.0
            group.MRDiffusionSequence, group.MREchoSequence = [b], [echo]
            del group.FrameContentSequence[0].TemporalPositionIndex

    change(weight)
    volume = read_one(READER, tmp_path)
    np.testing.assert_array_equal(volume.array, dynamic)
    assert (volume.attributes["t_axis"], json.loads(volume.attributes["t_values"])) == (
        "DiffusionBValue",
        [0, 1000, 500],
    )
    assert volume.attributes["EchoTime"] == 80


def test_magnitude_and_phase_in_one_file_are_two_volumes(tmp_path, dynamic, scan, change):
    def type_frames(dataset):
        for k, group in enumerate(frames(dataset)):
            kind = pydicom.Dataset()
            kind.FrameType = ["ORIGINAL", "PRIMARY", "MPR"[k // 6]]
            group.MRImageFrameTypeSequence = [kind]
            del group.FrameContentSequence[0].TemporalPositionIndex

    change(type_frames)
    found = scan(READER, tmp_path)
    assert [(v.status, v.files) for v in found.verdicts] == [("split", 1)]
    assert len({s.name for s in found.series}) == 3
    for series, voxels in zip(found.series, dynamic, strict=True):
        assert series.files == ("a.dcm",)
        np.testing.assert_array_equal(READER.read(tmp_path, series).array, voxels)


def test_stacks_of_one_file_are_volumes_of_their_own(tmp_path, enhanced, voxels, scan, change):
    def name_stacks(dataset):
        for k, group in enumerate(frames(dataset)):
            group.FrameContentSequence[0].StackID = str(k // 3)

    change(name_stacks)
    found = scan(READER, tmp_path)
    assert [s.shape for s in found.series] == [(3, 5, 4)] * 2
    for k, series in enumerate(found.series):
        np.testing.assert_array_equal(READER.read(tmp_path, series).array, voxels[3 * k : 3 * k + 3])


def test_one_file_per_time_is_one_volume(tmp_path, voxels, oblique, read_one, edit):
    for t in range(2):
        write_enhanced_dicom(tmp_path / f"{t}.dcm", voxels + t, oblique)
        edit(tmp_path / f"{t}.dcm", SOPInstanceUID=generate_uid(), InstanceNumber=t + 1)
        edit(tmp_path / f"{t}.dcm", AcquisitionTime=f"12000{t}", AcquisitionDate="20240101")
    volume = read_one(READER, tmp_path)
    assert (volume.grid.axes, volume.attributes["t_axis"]) == ("tzyx", "AcquisitionTime")
    np.testing.assert_array_equal(volume.array, [voxels, voxels + 1])


def test_a_copy_of_the_file_is_dropped(tmp_path, enhanced, voxels, read_one, scan):
    (tmp_path / "b.dcm").write_bytes(enhanced.read_bytes())
    assert scan(READER, tmp_path).series[0].warnings == ("6 copies of slices (same UID, same pixels) were dropped",)
    np.testing.assert_array_equal(read_one(READER, tmp_path).array, voxels)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_frames(tmp_path, enhanced, voxels, read_one, change, syntax):
    def compress(dataset):
        if syntax != JPEG2000Lossless:
            dataset.compress(syntax, generate_instance_uid=False)
            return
        streams = []
        for plane in voxels:
            streams.append(io.BytesIO())
            Image.fromarray(plane.view(np.uint16)).save(streams[-1], "JPEG2000", no_jp2=True, signed=True)
        dataset.PixelData = encapsulate([s.getvalue() for s in streams])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax

    def lose_a_frame(dataset):
        dataset.PixelData = encapsulate(list(generate_frames(dataset.PixelData, number_of_frames=6))[:5])

    change(compress)
    np.testing.assert_array_equal(read_one(READER, tmp_path).array, voxels)
    change(lose_a_frame)
    with pytest.raises(SourceError) as caught:
        read_one(READER, tmp_path)
    assert caught.value.code in ("truncated", "undecodable")


def test_truncated_frames_are_refused(tmp_path, enhanced, scan):
    enhanced.write_bytes(enhanced.read_bytes()[:-2])
    with pytest.raises(SourceError) as caught:
        READER.read(tmp_path, scan(READER, tmp_path).series[0])
    assert caught.value.code == "truncated"


def test_the_file_is_opened_once_and_frames_are_decoded_one_by_one(tmp_path, dynamic, read_one, change, monkeypatch):
    change(lambda d: d.compress(RLELossless, generate_instance_uid=False))
    opened, decoded = [], []
    dcmread, pixel_array = pydicom.dcmread, dicom_pixels.pixel_array

    def opens(source, **options):
        if "stop_before_pixels" not in options:
            opened.append(source)
        return dcmread(source, **options)

    def decodes(dataset, **options):
        decoded.append(options["index"])
        return pixel_array(dataset, **options)

    monkeypatch.setattr(pydicom, "dcmread", opens)
    monkeypatch.setattr(dicom_pixels, "pixel_array", decodes)
    read_one(READER, tmp_path)
    assert (len(opened), decoded) == (1, list(range(18)))


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (lambda d: frames(d).pop(), "multi-frame"),
        (lambda d: delattr(d, "PerFrameFunctionalGroupsSequence"), "multi-frame"),
        (lambda d: delattr(frames(d)[1], "PlanePositionSequence"), "no-geometry"),
        (lambda d: delattr(d, "SharedFunctionalGroupsSequence"), "no-geometry"),
        (lambda d: setattr(frames(d)[1].PlanePositionSequence[0], "ImagePositionPatient", [1, 2]), "bad-header"),
        (lambda d: setattr(frames(d)[1].PixelValueTransformationSequence[0], "RescaleSlope", 0), "bad-rescale"),
    ],
)
def test_frames_that_nothing_places_are_refused(tmp_path, enhanced, refusal, change, fault, code):
    change(fault)
    assert refusal(READER, tmp_path)[0] == code


def test_a_missing_frame_is_noticed(tmp_path, enhanced, refusal, change, voxels):
    def lose(dataset):
        frames(dataset).pop(2)
        dataset.NumberOfFrames = 5
        dataset.PixelData = voxels[:5].tobytes()

    change(lose)
    assert refusal(READER, tmp_path)[0] == "missing-slices"


def test_damaged_files_end_in_verdicts_or_errors(tmp_path, dynamic, scan):
    file = tmp_path / "a.dcm"
    data = file.read_bytes()
    rng = np.random.default_rng(0)
    for k in range(60):
        damaged = bytearray(data[: rng.integers(200, len(data))] if k % 3 == 0 else data)
        for at in rng.integers(132, len(damaged), 8):
            damaged[at] = rng.integers(256)
        file.write_bytes(damaged)
        for series in scan(READER, tmp_path).series:
            try:
                volume = READER.read(tmp_path, series)
            except SourceError:
                continue
            assert volume.array.shape == volume.grid.shape == series.shape


@pytest.mark.parametrize(("keyword", "dtype"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_floats_stay_floats(tmp_path, voxels, oblique, scan, read_one, keyword, dtype):
    truth = (voxels / 3).astype(dtype)
    truth[0, 0, 0] = np.nan
    file = write_enhanced_dicom(tmp_path / "a.dcm", voxels, oblique, DicomOptions(modality="MR"))
    dataset = pydicom.dcmread(file)
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.BitsAllocated = 8 * truth.dtype.itemsize
    setattr(dataset, keyword, truth.tobytes())
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.30"
    dataset.save_as(file)
    assert scan(READER, tmp_path).series[0].dtype == np.dtype(dtype).name
    volume = read_one(READER, tmp_path)
    assert volume.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(volume.array, truth)
    dataset[keyword].value = truth.tobytes()[:-8]
    dataset.save_as(file)
    with pytest.raises(SourceError) as caught:
        read_one(READER, tmp_path)
    assert caught.value.code == "truncated"
