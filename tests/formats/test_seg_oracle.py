"""DICOM SEG of every kind against what highdicom reads from the same file; frames that are doubled or lacking."""

import shutil

import highdicom
import numpy as np
import pydicom
import pytest
from structure_files import write_seg

from ndvol.errors import SourceError
from ndvol.formats.dicom_seg import DicomSegReader
from ndvol.formats.writing import write_dicom_series
from ndvol.geometry import Grid, Window

SHAPE = (5, 9, 7)  # 63 voxels a frame: binary frames do not begin on a byte
READER = DicomSegReader()
NAMES = ("Liver", "Left lung", "Tumour")


@pytest.fixture
def grid(oblique):
    return Grid("zyx", SHAPE, oblique.affine)


@pytest.fixture
def images(tmp_path, grid):
    found = [pydicom.dcmread(f) for f in write_dicom_series(tmp_path / "ct", np.zeros(SHAPE, np.int16), grid)]
    shutil.rmtree(tmp_path / "ct")
    return found


def read(root, grid):
    [series] = READER.scan(root, ["a.dcm"]).series
    return READER.read_structures(root, series, grid)


def masks(volumes):
    return {value: v.array == value for v in volumes for value in v.categories}


def masks_of_highdicom(file, grid):
    """Value -> mask on `grid`, placed by the affine that highdicom reads."""
    seg = highdicom.seg.segread(file)
    volume = seg.get_volume(combine_segments=False, rescale_fractional=True)
    found = {}
    for k, number in enumerate(seg.segment_numbers):
        indices = np.argwhere(volume.array[..., k] >= 0.5)
        found[number] = np.zeros(SHAPE, bool)
        if len(indices):
            places = np.rint(grid.index(volume.map_indices_to_reference(indices))).astype(int)
            found[number][tuple(places.T)] = True
    return found


def content(kind, overlapping, rng):
    if kind == "FRACTIONAL":
        pixels = rng.integers(0, 256, (*SHAPE, 3)).astype(np.float32) / 255
        return pixels * (rng.random(pixels.shape) < 0.3)
    if overlapping:
        return (rng.random((*SHAPE, 3)) < 0.4).astype(np.uint8)
    pixels = rng.integers(0, 4, SHAPE).astype(np.uint8)
    pixels[1:3] = 0
    return pixels


@pytest.mark.parametrize(
    ("kind", "overlapping"), [("BINARY", False), ("BINARY", True), ("FRACTIONAL", True), ("LABELMAP", False)]
)
@pytest.mark.parametrize("sparse", [False, True], ids=["all planes", "planes with segments"])
def test_voxels_are_those_that_highdicom_reads(tmp_path, images, grid, kind, overlapping, sparse):
    for seed in range(3):
        pixels = content(kind, overlapping, np.random.default_rng(seed))
        # `max_fractional_value` of 255 has no stored value at exactly one half, about which the two may differ.
        more = {"max_fractional_value": 255} if kind == "FRACTIONAL" else {}
        file = write_seg(tmp_path / "a.dcm", images, pixels, kind, NAMES, omit_empty_frames=sparse, **more)
        ours, theirs = masks(read(tmp_path, grid)), masks_of_highdicom(file, grid)
        assert ours.keys() == {1, 2, 3}
        assert any(mask.any() for mask in ours.values())
        for value, mask in ours.items():
            np.testing.assert_array_equal(mask, theirs[value])


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_a_segmentation_of_a_part_of_the_image_is_placed_by_geometry(tmp_path, grid, kind):
    part = Window((1, 2, 3), (3, 6, 4))
    truth = np.random.default_rng(0).integers(0, 4, part.shape).astype(np.uint8)
    files = write_dicom_series(tmp_path / "ct", np.zeros(part.shape, np.int16), grid.crop(part))
    write_seg(tmp_path / "a.dcm", [pydicom.dcmread(f) for f in files], truth, kind)
    [volume] = read(tmp_path, grid)
    np.testing.assert_array_equal(volume.array[part.slices], truth)
    assert np.count_nonzero(volume.array) == np.count_nonzero(truth)


def double(file, change=lambda frame: frame):
    """Store the first frame once more at the end."""
    seg = pydicom.dcmread(file)
    frames = seg.pixel_array
    frames = np.concatenate([frames, change(frames[:1].copy())])
    seg.PerFrameFunctionalGroupsSequence.append(seg.PerFrameFunctionalGroupsSequence[0])
    seg.NumberOfFrames = len(frames)
    data = np.packbits(frames.ravel(), bitorder="little") if seg.BitsAllocated == 1 else frames
    data = data.tobytes()
    seg.PixelData = data + b"\0" * (len(data) % 2)
    seg.save_as(file)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_a_frame_stored_twice_counts_once_unless_the_two_differ(tmp_path, images, grid, kind):
    truth = np.ones(SHAPE, np.uint8)
    truth[:, 4:] = 0
    file = write_seg(tmp_path / "a.dcm", images, truth, kind, ["Liver"])
    double(file)
    [volume] = read(tmp_path, grid)
    np.testing.assert_array_equal(volume.array, truth)
    double(file, lambda frame: frame[:, ::-1])
    with pytest.raises(SourceError) as caught:
        read(tmp_path, grid)
    assert caught.value.code == "doubled-frames"
    assert f"frames 0 and {len(SHAPE) + 3} at" in str(caught.value)
    assert "two frames of a.dcm show" in str(caught.value)


def test_segments_with_one_number_name_the_file(tmp_path, images, grid):
    file = write_seg(tmp_path / "a.dcm", images, np.ones(SHAPE, np.uint8), "BINARY", ["Liver"])
    seg = pydicom.dcmread(file)
    seg.SegmentSequence.append(seg.SegmentSequence[0])
    seg.save_as(file)
    with pytest.raises(SourceError, match=r"segments of a\.dcm are not numbered; got SegmentNumber 1 twice"):
        read(tmp_path, grid)


def test_original_names_are_kept_beside_the_cleaned_ones(tmp_path, images, grid):
    file = write_seg(tmp_path / "a.dcm", images, np.ones(SHAPE, np.uint8), "BINARY", ["Liver"])
    seg = pydicom.dcmread(file)
    seg.SegmentSequence[0].SegmentLabel = "Left\tlung"
    seg.save_as(file)
    [volume] = read(tmp_path, grid)
    assert (volume.categories, volume.originals) == ({1: "Left lung"}, {1: "Left\tlung"})
