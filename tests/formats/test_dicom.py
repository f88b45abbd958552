import io
import shutil
from hashlib import sha256

import gdcm
import numpy as np
import pydicom
import pytest
import SimpleITK
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from ndvol.errors import SourceError
from ndvol.formats import Scan, dicom_deflate
from ndvol.formats.dicom import DicomReader
from ndvol.formats.dicom_headers import uid_hash
from ndvol.formats.writing import DicomOptions, write_dicom_series
from ndvol.geometry import Grid

READER = DicomReader()


def compress(file, syntax):
    """Compress a file in place without loss; JPEG 2000 by Pillow, for pydicom needs one more package for it."""
    dataset = pydicom.dcmread(file)
    if syntax != JPEG2000Lossless:
        dataset.compress(syntax, generate_instance_uid=False)
    else:
        stream = io.BytesIO()
        pixels = dataset.pixel_array
        Image.fromarray(pixels.view(np.uint16)).save(stream, "JPEG2000", no_jp2=True, signed=pixels.dtype.kind == "i")
        dataset.PixelData = encapsulate([stream.getvalue()])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(file)


@pytest.fixture
def ct(tmp_path, voxels, oblique):
    """The files of a CT series of int16, intercept 0, in the order of its planes."""
    return write_dicom_series(tmp_path / "ct", voxels, oblique)


def test_voxels_and_world_agree_with_the_array_and_simpleitk(tmp_path, ct, voxels, oblique, read_one):
    volume = read_one(READER, tmp_path)
    np.testing.assert_array_equal(volume.array, voxels)
    assert volume.grid.matches(oblique)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
    itk = reader.Execute()
    for index in ((0, 0, 0), (5, 4, 3), (2, 1, 3)):
        world = itk.TransformContinuousIndexToPhysicalPoint(tuple(map(float, index[::-1])))
        np.testing.assert_allclose(volume.grid.world(index), world, atol=1e-3)
        assert itk.GetPixel(index[::-1]) == volume.array[index]


def test_every_plane_lies_where_its_header_puts_it(tmp_path, ct, scan):
    series = scan(READER, tmp_path).series[0]
    grid = READER.read(tmp_path, series).grid
    for k, path in enumerate(series.files):
        header = pydicom.dcmread(tmp_path / path)
        np.testing.assert_allclose(grid.world((k, 0, 0)), header.ImagePositionPatient, atol=1e-6)
        row, column = np.reshape(header.ImageOrientationPatient, (2, 3))
        np.testing.assert_allclose(grid.affine[:3, 2], row * header.PixelSpacing[1], atol=1e-6)
        np.testing.assert_allclose(grid.affine[:3, 1], column * header.PixelSpacing[0], atol=1e-6)


def test_series_record(tmp_path, ct, scan):
    series = scan(READER, tmp_path).series[0]
    assert (series.source, series.key, series.modality, series.axes) == ("ct", "ct", "CT", "zyx")
    assert series.name.startswith("ct-")
    assert len(series.name) == 11
    np.testing.assert_allclose(series.spacing, (2.5, 0.75, 0.5))
    header = pydicom.dcmread(ct[0])
    assert (
        series.uid == sha256(header.SeriesInstanceUID.encode()).hexdigest()[:16] == uid_hash(header.SeriesInstanceUID)
    )
    assert series.frame == uid_hash(header.FrameOfReferenceUID)


def test_writing_is_deterministic_and_the_seed_matters(tmp_path, voxels, oblique):
    files = [write_dicom_series(tmp_path / k, voxels, oblique, DicomOptions(seed=s))[0] for k, s in ("ax", "bx", "cy")]
    one, two, other = (f.read_bytes() for f in files)
    assert one == two != other


def test_order_comes_from_positions_alone(tmp_path, ct, voxels, read_one, edit):
    order = np.random.default_rng(3).permutation(len(ct))
    for k, file in zip(order, ct, strict=True):
        edit(file, InstanceNumber=1)
        file.rename(file.with_name(f"{k}"))
    np.testing.assert_array_equal(read_one(READER, tmp_path).array, voxels)


def test_gantry_tilt_is_kept_as_shear(tmp_path, voxels, read_one):
    affine = np.array([[0, 0, 1, 0], [0.6, 1, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])
    tilted = Grid("zyx", voxels.shape, affine)
    write_dicom_series(tmp_path, voxels, tilted)
    volume = read_one(READER, tmp_path)
    np.testing.assert_allclose(volume.grid.affine, affine, atol=1e-9)
    assert any("sheared by 16.7 degrees" in w for w in volume.warnings)


def test_files_without_preamble_or_suffix_are_read(tmp_path, ct, voxels, read_one):
    for k, file in enumerate(ct):
        if k % 2:
            dataset = pydicom.dcmread(file)
            del dataset.file_meta
            dataset.preamble = None
            dataset.save_as(file, implicit_vr=False, little_endian=True, enforce_file_format=False)
            assert file.read_bytes()[128:132] != b"DICM"
        else:
            file.rename(file.with_suffix(""))
    np.testing.assert_array_equal(read_one(READER, tmp_path).array, voxels)


# Geometry that is not one volume.


def test_dropped_slice(tmp_path, ct, refusal):
    ct[2].unlink()
    code, message = refusal(READER, tmp_path)
    assert code == "missing-slices"
    names = "(ct/IM0002.dcm, InstanceNumber 2) and the next (ct/IM0004.dcm, InstanceNumber 4)"
    assert f"a gap of 5.000 mm between slice 2 of 5 {names}" in message


def test_uneven_slices(tmp_path, ct, refusal, edit, oblique):
    edit(ct[3], ImagePositionPatient=[f"{v:.6f}" for v in oblique.world((3.4, 0, 0))])
    code, message = refusal(READER, tmp_path)
    assert code == "uneven-slices"
    assert "got 2 gaps of 2.500 mm, one of 3.500 mm, one of 1.500 mm, then one of 2.500 mm" in message


def test_copies_are_dropped_with_a_warning(tmp_path, ct, voxels, read_one, scan):
    for file in ct[:2]:
        shutil.copy(file, tmp_path / file.name)
    found = scan(READER, tmp_path).series
    assert found[0].warnings == ("2 copies of slices (same UID, same pixels) were dropped",)
    assert found[0].key == "ct"
    np.testing.assert_array_equal(read_one(READER, tmp_path).array, voxels)


def test_one_uid_with_two_contents_is_refused(tmp_path, ct, refusal, edit):
    shutil.copy(ct[0], tmp_path / "other")
    pixels = pydicom.dcmread(ct[0]).PixelData
    edit(tmp_path / "other", PixelData=pixels[:-2] + b"\x7f\x7f")
    assert refusal(READER, tmp_path)[0] == "duplicate-uid"


def test_two_orientations_in_one_series_are_split(tmp_path, voxels, scan):
    for name, affine in (
        ("a", np.diag([1.0, 1, 1, 1])[:, [2, 1, 0, 3]]),
        ("b", np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])),
    ):
        for k, file in enumerate(write_dicom_series(tmp_path / name, voxels, Grid("zyx", voxels.shape, affine))):
            dataset = pydicom.dcmread(file)
            dataset.SOPInstanceUID = generate_uid(entropy_srcs=[name, str(k)])
            dataset.save_as(tmp_path / f"{name}{k}")
        shutil.rmtree(tmp_path / name)
    found = scan(READER, tmp_path)
    assert [(v.status, v.files) for v in found.verdicts] == [("split", 12)]
    assert len({s.name for s in found.series}) == len({s.source for s in found.series}) == 2
    for series in found.series:
        np.testing.assert_array_equal(READER.read(tmp_path, series).array, voxels)


def test_single_slice_needs_its_thickness(tmp_path, ct, read_one, refusal, edit):
    for file in ct[1:]:
        file.unlink()
    volume = read_one(READER, tmp_path)
    assert volume.warnings == ("single slice: spacing along z is the slice's thickness",)
    np.testing.assert_allclose(volume.grid.spacing[0], 2.5)
    edit(ct[0], SliceThickness=None)
    code, message = refusal(READER, tmp_path)
    assert code == "single-slice"
    assert "give the file its true SliceThickness" in message


def test_two_slices_are_doubted(tmp_path, ct, read_one):
    for file in ct[2:]:
        file.unlink()
    assert read_one(READER, tmp_path).warnings[0].startswith("two slices")


def test_different_pixel_spacing_is_refused(tmp_path, ct, refusal, edit):
    edit(ct[1], PixelSpacing=["0.75", "0.52"])
    assert refusal(READER, tmp_path)[0] == "inconsistent-spacing"


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"NumberOfFrames": 2}, "refused", "multi-frame"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1"}, "refused", "multi-frame"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "refused", "mosaic"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "skipped", "localizer"),
        ({"ImagePositionPatient": None}, "refused", "no-geometry"),
        ({"ImagePositionPatient": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "skipped", "secondary-capture"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.2"}, "skipped", "dose"),
        ({"Rows": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"}, "skipped", "not-an-image"),
        ({"Rows": None}, "refused", "unreadable"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "refused", "palette-color"),
        ({"NumberOfFrames": 2**30}, "refused", "size"),
        ({"BitsStored": 17}, "refused", "bits"),
        ({"RescaleSlope": "0"}, "refused", "bad-rescale"),
    ],
)
def test_what_is_no_plane_is_named(tmp_path, ct, scan, edit, changes, status, code):
    for file in ct:
        edit(file, **changes)
    found = scan(READER, tmp_path)
    assert not found.series
    assert {(v.status, v.code) for v in found.verdicts} == {(status, code)}
    assert sum(v.files for v in found.verdicts) == len(ct)
    assert len(found.claimed) == len(ct)


@pytest.mark.parametrize("number", ["66.4", "66.7", "481.3"])
def test_structures_are_left_to_other_readers(tmp_path, ct, scan, edit, number):
    for file in ct:
        edit(file, SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{number}")
    assert scan(READER, tmp_path) == Scan()


def test_dicomdir_is_skipped(tmp_path, ct, scan):
    dataset = pydicom.dcmread(ct[0])
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    del dataset.SOPClassUID
    dataset.save_as(tmp_path / "DICOMDIR")
    assert [(v.source, v.code) for v in scan(READER, tmp_path).verdicts] == [("DICOMDIR", "dicomdir")]


def test_an_unreadable_neighbour_is_a_warning(tmp_path, ct, scan):
    (ct[0].parent / "bad").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\0\0\0UL\x04\0\xff\xff\xff\x7f" + b"\xff" * 50)
    found = scan(READER, tmp_path)
    assert [v.status for v in found.verdicts] == ["refused"]
    assert found.series[0].warnings == ("1 DICOM files in the same folder could not be read",)


# Values.


def test_hounsfield_units_are_int16(tmp_path, oblique, read_one):
    stored = np.arange(120, dtype=np.uint16).reshape(oblique.shape) * 34
    write_dicom_series(tmp_path, stored, oblique, DicomOptions(intercept=-1024, bits_stored=12))
    volume = read_one(READER, tmp_path)
    assert (volume.array.dtype, volume.value_unit) == ("int16", "HU")
    np.testing.assert_array_equal(volume.array, stored.astype(int) - 1024)
    assert volume.attributes["RescaleIntercept"] == -1024


def test_sixteen_bits_with_an_intercept_are_int16_when_they_fit(tmp_path, voxels, oblique, read_one, scan):
    write_dicom_series(tmp_path, voxels, oblique, DicomOptions(intercept=-1024))
    assert scan(READER, tmp_path).series[0].dtype == "int32"
    volume = read_one(READER, tmp_path)
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, voxels - 1024)


def test_full_range_with_an_intercept_is_promoted(tmp_path, oblique, read_one):
    stored = np.linspace(0, 65535, 120).astype(np.uint16).reshape(oblique.shape)
    write_dicom_series(tmp_path, stored, oblique, DicomOptions(intercept=-1024))
    np.testing.assert_array_equal(read_one(READER, tmp_path).array, stored.astype(int) - 1024)


def test_a_slope_of_its_own_goes_to_its_own_slice(tmp_path, ct, voxels, read_one, edit):
    edit(ct[2], RescaleSlope="0.5", RescaleIntercept="3")
    volume = read_one(READER, tmp_path)
    expected = voxels.astype(np.float32)
    expected[2] = voxels[2] * 0.5 + 3
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, expected)
    assert any("differ between slices" in w for w in volume.warnings)
    assert "RescaleSlope" not in volume.attributes


def test_mixed_signedness_is_promoted_never_wrapped(tmp_path, ct, voxels, read_one, edit):
    big = np.full(voxels[1].shape, 65535, np.uint16)
    edit(ct[1], PixelRepresentation=0, PixelData=big.tobytes())
    expected = voxels.astype(np.int32)
    expected[1] = 65535
    np.testing.assert_array_equal(read_one(READER, tmp_path).array, expected)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("high_bit", [11, 15])
def test_only_stored_bits_count(tmp_path, oblique, read_one, edit, signed, high_bit):
    dtype = np.int16 if signed else np.uint16
    low = -2048 if signed else 0
    truth = (np.arange(120).reshape(oblique.shape) * 34 + low).astype(dtype)
    shift = high_bit - 11
    words = (truth.view(np.uint16) & 0x0FFF) << shift
    overlay = 0xA000 if shift == 0 else 0x0005
    files = write_dicom_series(tmp_path, truth, oblique, DicomOptions(bits_stored=12))
    for file, plane in zip(files, words | overlay, strict=True):
        edit(file, PixelData=plane.astype("<u2").tobytes(), HighBit=high_bit)
    np.testing.assert_array_equal(read_one(READER, tmp_path).array, truth)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("signed", [False, True])
def test_compressed_files_decode_to_the_same(tmp_path, voxels, oblique, read_one, syntax, signed):
    truth = voxels if signed else (voxels + 300).astype(np.uint16)
    for file in write_dicom_series(tmp_path, truth, oblique, DicomOptions(bits_stored=12)):
        compress(file, syntax)
    np.testing.assert_array_equal(read_one(READER, tmp_path).array, truth)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_cut_compressed_pixels_are_refused(tmp_path, oblique, scan, syntax, share):
    noise = np.random.default_rng(0).integers(0, 4000, (3, 32, 32), dtype=np.uint16)
    for file in write_dicom_series(tmp_path, noise, Grid("zyx", noise.shape, oblique.affine)):
        compress(file, syntax)
        dataset = pydicom.dcmread(file)
        frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
        dataset.PixelData = encapsulate([frame[: int(share * len(frame))]])
        dataset.save_as(file)
    series = scan(READER, tmp_path).series[0]
    with pytest.raises(SourceError) as caught:
        READER.read(tmp_path, series)
    assert caught.value.code in ("truncated", "undecodable")
    assert "IM0001.dcm" in str(caught.value)


def test_a_codestream_of_another_size_is_refused_before_decoding(tmp_path, ct, scan):
    for file in ct:
        compress(file, JPEG2000Lossless)
    dataset = pydicom.dcmread(ct[0])
    at = dataset.PixelData.index(b"\xff\x4f\xff\x51") + 8
    dataset.PixelData = dataset.PixelData[: at + 4] + b"\x00\xa9\x00\x00" + dataset.PixelData[at + 8 :]
    dataset.save_as(ct[0])
    with pytest.raises(SourceError, match="11075584 rows and 4 columns"):
        READER.read(tmp_path, scan(READER, tmp_path).series[0])


def test_truncated_native_pixels_are_refused(tmp_path, ct, scan):
    ct[3].write_bytes(ct[3].read_bytes()[:-6])
    series = scan(READER, tmp_path).series[0]
    with pytest.raises(SourceError, match="IM0004") as caught:
        READER.read(tmp_path, series)
    assert caught.value.code == "truncated"


def to_jpeg(file, syntax):
    """Compress a file in place by GDCM."""
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(file))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(file))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_12_bit_jpeg_is_decoded_without_its_rescale(tmp_path, voxels, oblique, read_one, photometric):
    """The coding is lossy, by a few stored values."""
    stored = (voxels + 900).astype(np.uint16)
    options = DicomOptions(slope=0.25, intercept=-7, bits_stored=12)
    for file in write_dicom_series(tmp_path, stored, oblique, options):
        to_jpeg(file, gdcm.TransferSyntax.JPEGExtendedProcess2_4)
        dataset = pydicom.dcmread(file)
        assert dataset.file_meta.TransferSyntaxUID == JPEGExtended12Bit
        dataset.PhotometricInterpretation = photometric
        dataset.save_as(file)
    volume = read_one(READER, tmp_path)
    assert np.abs(volume.array - (stored * 0.25 - 7)).max() < 1
    assert volume.array.dtype == np.float32


@pytest.mark.parametrize("damage", ["extraneous", "size", "bits", "item", "cut"])
def test_jpeg_that_would_end_the_process_is_refused(tmp_path, voxels, oblique, scan, damage):
    """GDCM aborts on some of these, or makes room for what is not there."""
    files = write_dicom_series(tmp_path, (voxels + 900).astype(np.uint16), oblique, DicomOptions(bits_stored=12))
    to_jpeg(files[0], gdcm.TransferSyntax.JPEGLosslessProcess14_1)
    dataset = pydicom.dcmread(files[0])
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    sof = frame.index(b"\xff\xc3")
    changed = {
        "extraneous": frame[:sof] + b"junk" + frame[sof:],
        "size": frame[: sof + 5] + b"\xff\xf0" + frame[sof + 7 :],
        "bits": frame[: sof + 4] + b"\x20" + frame[sof + 5 :],
        "cut": frame[: sof + 9] + frame[-2:],
    }
    dataset.PixelData = encapsulate([changed.get(damage, frame)])
    if damage == "item":
        dataset.PixelData = dataset.PixelData[:16] + b"\xf0\xff\xff\x0f" + dataset.PixelData[20:]
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(files[0])
    with pytest.raises(SourceError, match=r"JPEG stream|an item of the pixel data") as caught:
        READER.read(tmp_path, scan(READER, tmp_path).series[0])
    assert caught.value.code == "undecodable"


def test_lossless_jpeg_is_lossless(tmp_path, voxels, oblique, read_one):
    for file in write_dicom_series(tmp_path, (voxels + 900).astype(np.uint16), oblique, DicomOptions(bits_stored=12)):
        to_jpeg(file, gdcm.TransferSyntax.JPEGLosslessProcess14_1)
    np.testing.assert_array_equal(read_one(READER, tmp_path).array, voxels + 900)


def test_an_undecodable_file_is_named_with_its_syntax(tmp_path, ct, scan):
    dataset = pydicom.dcmread(ct[0])
    dataset.PixelData = encapsulate([b"\xff\xd8 no jpeg \xff\xd9"])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGExtended12Bit
    dataset.save_as(ct[0])
    with pytest.raises(SourceError, match=r"IM0001.*JPEG Extended") as caught:
        READER.read(tmp_path, scan(READER, tmp_path).series[0])
    assert caught.value.code == "undecodable"


def test_monochrome1_keeps_its_values_and_says_so(tmp_path, ct, voxels, read_one, edit):
    for file in ct:
        edit(file, PhotometricInterpretation="MONOCHROME1")
    volume = read_one(READER, tmp_path)
    np.testing.assert_array_equal(volume.array, voxels)
    assert volume.attributes["PhotometricInterpretation"] == "MONOCHROME1"
    assert any("MONOCHROME1" in w for w in volume.warnings)


@pytest.mark.parametrize("planar", [0, 1])
def test_colours_lie_on_a_c_axis(tmp_path, ct, oblique, read_one, edit, planar):
    truth = np.random.default_rng(0).integers(0, 256, (3, *oblique.shape), dtype=np.uint8)
    for k, file in enumerate(ct):
        edit(
            file,
            **{"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": planar},
            **{"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0},
            PixelData=(truth[:, k] if planar else np.moveaxis(truth[:, k], 0, -1)).tobytes(),
        )
    volume = read_one(READER, tmp_path)
    assert volume.grid.axes == "czyx"
    assert volume.grid.matches(oblique)
    np.testing.assert_array_equal(volume.array, truth)


@pytest.mark.parametrize("bits", [8, 16])
def test_palette_colours_become_rgb(tmp_path, ct, oblique, read_one, edit, bits):
    rng = np.random.default_rng(0)
    palette = rng.integers(0, 2**bits, (3, 256), dtype=f"u{bits // 8}")
    indices = rng.integers(0, 256, oblique.shape, dtype=np.uint8)
    for file, plane in zip(ct, indices, strict=True):
        dataset = pydicom.dcmread(file)
        for name, table in zip(("Red", "Green", "Blue"), palette, strict=True):
            dataset.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [256, 0, bits])
            dataset.add_new(f"{name}PaletteColorLookupTableData", "OW", table.tobytes())
        dataset.save_as(file)
        edit(
            file,
            **{"PhotometricInterpretation": "PALETTE COLOR", "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7},
            **{"PixelRepresentation": 0, "PixelData": plane.tobytes()},
        )
    volume = read_one(READER, tmp_path)
    assert (volume.grid.axes, volume.array.dtype) == ("czyx", palette.dtype)
    np.testing.assert_array_equal(volume.array, palette[:, indices])


def test_a_modality_lut_is_applied(tmp_path, oblique, read_one, scan):
    table = np.random.default_rng(0).integers(0, 60000, 120, dtype=np.uint16)
    stored = np.arange(120, dtype=np.uint16).reshape(oblique.shape) + 5
    for file in write_dicom_series(tmp_path, stored, oblique):
        dataset = pydicom.dcmread(file)
        item = pydicom.Dataset()
        item.add_new("LUTDescriptor", "US", [120, 5, 16])
        item.ModalityLUTType = "US"
        item.add_new("LUTData", "OW", table.tobytes())
        dataset.ModalityLUTSequence = [item]
        del dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType
        dataset.save_as(file)
    assert scan(READER, tmp_path).series[0].dtype == "uint16"
    np.testing.assert_array_equal(read_one(READER, tmp_path).array, table.reshape(oblique.shape))


def deflate(file):
    """Deflate a file in place as PS3.5 A.5 says: everything after the meta information."""
    dataset = pydicom.dcmread(file)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(file)


def test_deflated_files_are_read(tmp_path, ct, voxels, read_one):
    for file in ct:
        deflate(file)
    np.testing.assert_array_equal(read_one(READER, tmp_path).array, voxels)


@pytest.mark.parametrize("fault", ["bomb", "cut", "damaged"])
def test_deflated_files_that_cannot_be_inflated_are_refused(tmp_path, ct, scan, monkeypatch, fault):
    deflate(ct[0])
    data = ct[0].read_bytes()
    if fault == "bomb":
        monkeypatch.setattr(dicom_deflate, "MAX_INFLATED", 500)
    elif fault == "cut":
        ct[0].write_bytes(data[:-40])
    else:
        ct[0].write_bytes(data[:-60] + bytes(60))
    found = scan(READER, tmp_path)
    assert [(v.source, v.code) for v in found.verdicts][:1] == [("ct/IM0001.dcm", "deflated")]


def test_pet_keeps_its_unit(tmp_path, voxels, oblique, read_one):
    write_dicom_series(tmp_path, voxels, oblique, DicomOptions(modality="PT", slope=0.5))
    volume = read_one(READER, tmp_path)
    assert (volume.modality, volume.value_unit, volume.array.dtype) == ("PT", "BQML", "float32")


def test_no_name_leaves_the_source(tmp_path, ct, edit, scan):
    for file in ct:
        edit(file, PatientName="Secret^Person", PatientID="MRN12345", InstitutionName="Secret Hospital")
    series = scan(READER, tmp_path).series[0]
    shown = repr(series) + repr(READER.read(tmp_path, series).attributes)
    uid = pydicom.dcmread(ct[0]).SeriesInstanceUID
    assert not any(word in shown for word in ("Secret", "MRN", uid, uid[-8:]))


@pytest.mark.parametrize("how", ["rewritten", "gone"])
def test_a_file_that_is_not_the_one_that_was_scanned(tmp_path, ct, scan, edit, how):
    """The header of the scan places the plane: it must not be put on the pixels of another file."""
    series = scan(READER, tmp_path).series[0]
    edit(ct[2], RescaleIntercept=5) if how == "rewritten" else ct[2].unlink()
    with pytest.raises(SourceError, match="since it was scanned") as caught:
        READER.read(tmp_path, series)
    assert caught.value.code == "changed"
