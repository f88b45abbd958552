"""Mosaics of Siemens and United Imaging: tiles as planes."""

import struct

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from ndvol.errors import NdvolError
from ndvol.formats.dicom import DicomReader
from ndvol.formats.dicom_csa import read_csa
from ndvol.formats.writing import DicomOptions, write_dicom_series
from ndvol.geometry import Grid

READER = DicomReader()
CREATOR = "SIEMENS CSA HEADER"


def csa(elements, *, second=True):
    """The bytes of a CSA header with one text item per value; CSA1 or CSA2."""
    out = (b"SV10\4\3\2\1" if second else b"") + struct.pack("<2I", len(elements), 77)
    base = 6
    for name, values in elements.items():
        items = [v.encode() + b"\0" for v in values] + [b""] * (base - len(values))
        out += struct.pack("<64si4s3i", name.encode(), len(values), b"FD\0\0", 4, len(items), 77)
        for item in items:
            lengths = (len(item),) * 4 if second else (len(item) + base, len(item), 77, len(item))
            out += struct.pack("<4i", *lengths) + item + b"\0" * (-len(item) % 4)
    return out


def pack(planes, side):
    """Planes as a mosaic of `side` tiles a side."""
    blank = [np.zeros_like(planes[0])] * (side * side - len(planes))
    tiles = [*planes, *blank]
    return np.block([tiles[r * side : (r + 1) * side] for r in range(side)])


@pytest.fixture
def mosaic(tmp_path, voxels, oblique):
    """Write the voxels as one mosaic of 3 x 3 tiles; returns the file."""

    def write(name="m", array=None, *, header=None, normal=1):
        planes = voxels if array is None else array
        rows, columns = planes[0].shape
        whole = pack(planes, 3)
        # What the scanner writes: the corner of a slice of the mosaic's size around the same centre.
        corner = oblique.world((0, (rows - 3 * rows) / 2, (columns - 3 * columns) / 2))
        affine = oblique.affine.copy()
        affine[:3, 3] = corner
        grid = Grid("zyx", (1, *whole.shape), affine)
        (file,) = write_dicom_series(tmp_path / name, whole[None], grid, DicomOptions(modality="MR"))
        dataset = pydicom.dcmread(file)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
        dataset.SpacingBetweenSlices = "2.5"
        axis = np.cross(oblique.direction[:, 2], oblique.direction[:, 1]) * normal
        facts = {"NumberOfImagesInMosaic": [str(len(planes))], "SliceNormalVector": [f"{v:.8f}" for v in axis]}
        block = dataset.private_block(0x29, CREATOR, create=True)
        block.add_new(0x10, "OB", csa(facts) if header is None else header)
        dataset.save_as(file)
        return file

    return write


@pytest.fixture
def right(oblique):
    """The oblique grid with its slices along the cross product of row and column."""
    affine = oblique.affine.copy()
    affine[:3, 0] = np.cross(oblique.direction[:, 2], oblique.direction[:, 1]) * 2.5
    return Grid("zyx", oblique.shape, affine)


@pytest.mark.parametrize("second", [True, False])
def test_csa_headers_of_both_kinds(second):
    elements = {"A": ["1", "2.5"], "Empty": [], "Name": ["text"]}
    assert read_csa(csa(elements, second=second)) == {"A": ("1", "2.5"), "Name": ("text",)}


@pytest.mark.parametrize("second", [True, False])
def test_any_bytes_end_in_a_dictionary_or_a_value_error(second):
    data = csa({"A": ["1", "2.5"], "B": ["text"]}, second=second)
    rng = np.random.default_rng(0)
    for k in range(400):
        damaged = bytearray(data[: rng.integers(len(data))] if k % 2 else data)
        for at in rng.integers(0, max(len(damaged), 1), 4):
            damaged[at : at + 1] = rng.bytes(1)
        try:
            assert isinstance(read_csa(bytes(damaged)), dict)
        except ValueError:
            continue


def test_tiles_become_slices_in_their_place(mosaic, tmp_path, voxels, right, read_one):
    mosaic()
    volume = read_one(READER, tmp_path)
    np.testing.assert_array_equal(volume.array, voxels)
    assert volume.grid.matches(right)


def test_the_csa_normal_gives_the_direction(mosaic, tmp_path, voxels, right, read_one):
    mosaic(normal=-1)
    volume = read_one(READER, tmp_path)
    # The first tile stays where it is and the others lie below it, so the planes come out in reverse.
    np.testing.assert_array_equal(volume.array, voxels[::-1])
    np.testing.assert_allclose(volume.grid.world((5, 0, 0)), right.world((0, 0, 0)), atol=1e-4)


def test_mosaics_over_time(mosaic, tmp_path, voxels, right, read_one, edit):
    for t in range(3):
        file = mosaic(str(t), voxels + t)
        edit(file, SOPInstanceUID=generate_uid(), AcquisitionTime=f"1200{t:02d}", InstanceNumber=t + 1)
    volume = read_one(READER, tmp_path)
    assert volume.grid.axes == "tzyx"
    np.testing.assert_array_equal(volume.array, [voxels + t for t in range(3)])
    np.testing.assert_allclose(volume.grid.affine, right.affine, atol=1e-4)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (csa({"NumberOfImagesInMosaic": []}), "number of tiles is missing"),
        (csa({"NumberOfImagesInMosaic": ["17"]}), "15 rows x 12 columns for 17 tiles"),
        (csa({"NumberOfImagesInMosaic": ["0"]}), "for 0 tiles"),
        (csa({"NumberOfImagesInMosaic": ["6"], "SliceNormalVector": ["1", "0", "0"]}), "SliceNormalVector"),
        (csa({"NumberOfImagesInMosaic": ["6"]})[:150], "the CSA header is cut"),
        (b"", "the CSA header is cut"),
    ],
)
def test_mosaics_without_proof_are_refused(mosaic, tmp_path, refusal, header, message):
    mosaic(header=header)
    code, text = refusal(READER, tmp_path)
    assert code == "mosaic"
    assert message in text


@pytest.mark.parametrize("value", [None, "0"])
def test_the_distance_of_slices_is_never_guessed(mosaic, tmp_path, refusal, edit, value):
    edit(mosaic(), SpacingBetweenSlices=value)
    code, text = refusal(READER, tmp_path)
    assert (code, "SpacingBetweenSlices" in text) == ("mosaic", True)


def test_a_private_block_of_another_owner_is_no_csa_header(mosaic, tmp_path, refusal):
    file = mosaic()
    dataset = pydicom.dcmread(file)
    dataset[0x00290010].value = "SOMEBODY ELSE"
    dataset.save_as(file)
    assert refusal(READER, tmp_path)[0] == "mosaic"


@pytest.fixture
def uih(tmp_path, voxels, oblique):
    """The voxels as a United Imaging grid of 2 x 3 tiles."""
    whole = np.block([list(voxels[:3]), list(voxels[3:])])
    grid = Grid("zyx", (1, *whole.shape), oblique.affine)
    (file,) = write_dicom_series(tmp_path, whole[None], grid, DicomOptions(modality="MR"))
    dataset = pydicom.dcmread(file)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "VFRAME"]
    items = []
    for k in range(len(voxels)):
        items.append(pydicom.Dataset())
        items[-1].ImagePositionPatient = [f"{v:.6f}" for v in oblique.world((k, 0, 0))]
    block = dataset.private_block(0x65, "Image Private Header", create=True)
    block.add_new(0x50, "DS", "6")
    block.add_new(0x51, "SQ", items)
    dataset.save_as(file)
    return file


def test_united_imaging_grids_are_placed_by_their_items(uih, tmp_path, voxels, oblique, read_one):
    volume = read_one(READER, tmp_path)
    np.testing.assert_array_equal(volume.array, voxels)
    assert volume.grid.matches(oblique)


def test_united_imaging_grids_need_one_position_per_tile(uih, tmp_path, refusal):
    dataset = pydicom.dcmread(uih)
    dataset[0x00651051].value.pop()
    dataset.save_as(uih)
    assert refusal(READER, tmp_path)[0] == "mosaic"


def test_damaged_files_end_in_verdicts_or_errors(mosaic, tmp_path, scan):
    file = mosaic()
    data = file.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(data)
        for at in rng.integers(132, len(data), 12):
            damaged[at] = rng.integers(256)
        file.write_bytes(damaged)
        for series in scan(READER, tmp_path).series:
            try:
                volume = READER.read(tmp_path, series)
            except NdvolError:
                continue
            assert volume.array.shape == volume.grid.shape
