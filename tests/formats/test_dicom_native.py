"""Uncompressed frames straight from their bytes: the same voxels as pydicom's, and only where nothing else is to do."""

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ndvol.errors import SourceError
from ndvol.formats import dicom_pixels
from ndvol.formats.dicom_elements import _plain, plain_element
from ndvol.formats.dicom_headers import read_header
from ndvol.formats.dicom_pixels import stored_planes
from ndvol.formats.writing import DicomOptions, write_dicom_series, write_enhanced_dicom


def both_ways(root, path):
    """The planes of a file from its bytes and through pydicom."""
    header = read_header(root, path)
    assert header.native
    frames = [replace(header, frame=k) for k in range(header.integer("NumberOfFrames", 1))]
    direct = [plane for _, plane in stored_planes(root, frames)]
    through = [plane for _, plane in stored_planes(root, [replace(f, native=None) for f in frames])]
    return direct, through


def paths_taken(monkeypatch):
    taken = []
    decode = dicom_pixels.pixel_array
    monkeypatch.setattr(dicom_pixels, "pixel_array", lambda *a, **k: taken.append("pydicom") or decode(*a, **k))
    return taken


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    ("allocated", "stored", "high"), [(8, 8, 7), (16, 16, 15), (16, 12, 11), (16, 12, 15), (32, 32, 31)]
)
def test_the_same_values_as_pydicom(tmp_path, oblique, edit, monkeypatch, syntax, signed, allocated, stored, high):
    words = np.random.default_rng(0).integers(0, 2**allocated, (6, 5, 4), np.uint64).astype(f"u{allocated // 8}")
    [file, *_] = write_dicom_series(tmp_path, np.zeros((6, 5, 4), np.int16), oblique)
    dataset = pydicom.dcmread(file)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = allocated, stored, high
    dataset.PixelRepresentation, dataset.PixelData = int(signed), words[0].tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(file, dataset, implicit_vr=syntax.is_implicit_VR, little_endian=True)
    taken = paths_taken(monkeypatch)
    [direct], [through] = both_ways(tmp_path, file.name)
    assert taken == ["pydicom"]
    assert direct.dtype == through.dtype == f"{'i' if signed else 'u'}{allocated // 8}"
    np.testing.assert_array_equal(direct, through)
    assert len(np.unique(direct)) > 10


def test_frames_of_one_file(tmp_path, voxels, oblique):
    write_enhanced_dicom(tmp_path / "a.dcm", voxels, oblique, DicomOptions(modality="MR"))
    direct, through = both_ways(tmp_path, "a.dcm")
    np.testing.assert_array_equal(direct, voxels)
    np.testing.assert_array_equal(through, voxels)


def test_other_files_go_through_pydicom(tmp_path, voxels, oblique, monkeypatch):
    [file, gray, *_] = write_dicom_series(tmp_path, voxels, oblique)
    dataset = pydicom.dcmread(file)
    dataset.PixelData = dataset.pixel_array.astype(">i2").tobytes()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    pydicom.dcmwrite(file, dataset, implicit_vr=False, little_endian=False)
    dataset = pydicom.dcmread(gray)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = bytes(range(60))
    dataset.save_as(gray)
    taken = paths_taken(monkeypatch)
    for name in (file.name, gray.name):
        list(stored_planes(tmp_path, [read_header(tmp_path, name)]))
    assert taken == ["pydicom"] * 2


@pytest.mark.parametrize("cut", [1, 39])
def test_cut_pixels_are_refused_never_read_short(tmp_path, voxels, oblique, cut):
    [file, *_] = write_dicom_series(tmp_path, voxels, oblique)
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(SourceError) as caught:
        list(stored_planes(tmp_path, [read_header(tmp_path, file.name)]))
    assert caught.value.code == "truncated"


@pytest.mark.parametrize(
    ("vr", "value"),
    [
        ("DS", b"1.5\\-2e3\\ 7 "),
        ("DS", b""),
        ("DS", b"1\\\\3"),
        ("DS", b"nonsense"),
        ("DS", b"1,5"),
        ("IS", b"12 "),
        ("IS", b"1.5"),
        ("IS", b"3.0"),
        ("CS", b"ORIGINAL\\PRIMARY\\ \\M "),
        ("LO", b"two words "),
        ("LO", "Größe".encode("latin-1")),
        ("UI", b"1.2.3\0"),
        ("UI", b"\0"),
        ("TM", b"101500.25"),
        ("US", b"\x01\x02"),
        ("US", b"\x01\x02\x03\x04"),
        ("SH", b"\\"),
    ],
)
@pytest.mark.parametrize("little", [True, False])
def test_elements_are_what_pydicom_makes_of_them(vr, value, little):
    """The conversion of plain elements is ours for speed: it may not differ from the library's."""

    def dataset():
        tag = pydicom.tag.Tag(0x0011_1010)
        raw = pydicom.dataelem.RawDataElement(tag, vr, len(value), value, 0, False, little)
        return pydicom.Dataset({tag: raw})

    with pydicom.config.disable_value_validation():
        try:
            expected = _plain(dataset()[0x0011_1010].value)
        except Exception as error:
            expected = error
        assert repr(plain_element(dataset(), pydicom.tag.Tag(0x0011_1010))) == repr(expected)
