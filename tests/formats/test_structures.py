"""DICOM SEG and RTSTRUCT: structures end on the voxels that they were drawn on, or are refused with numbers."""

import pickle
import shutil

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import RLELossless
from skimage.draw import polygon2mask
from structure_files import CLOSED, write_rt, write_seg

from ndvol.errors import NdvolError, SourceError
from ndvol.formats import LabelData, StructureReader, readers
from ndvol.formats.dicom import DicomReader
from ndvol.formats.dicom_headers import uid_hash
from ndvol.formats.dicom_seg import DicomSegReader
from ndvol.formats.layers import MAX_LAYERS, Piece, Structure, label_volumes
from ndvol.formats.polygons import fill_polygons, polygon_mask
from ndvol.formats.rtstruct import RtstructReader
from ndvol.formats.writing import write_dicom_series
from ndvol.geometry import Grid, Reorientation, closest_canonical

SEG, RT = DicomSegReader(), RtstructReader()
SHAPE = (6, 9, 7)
TURNS = [Reorientation((2, 0, 1), (True, False, True)), Reorientation((0, 2, 1), (True, True, False))]


@pytest.fixture
def grid(oblique):
    return Grid("zyx", SHAPE, oblique.affine)


@pytest.fixture
def images(tmp_path, grid):
    """The data sets of a CT series on `grid`."""
    voxels = np.zeros(SHAPE, np.int16)
    files = write_dicom_series(tmp_path / "ct", voxels, grid)
    found = [pydicom.dcmread(f) for f in files]
    shutil.rmtree(tmp_path / "ct")
    return found


def read(reader, root, grid):
    scan = reader.scan(root, sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()))
    assert len(scan.series) == 1, scan.verdicts
    return reader.read_structures(root, scan.series[0], grid)


def refused(reader, root, grid):
    with pytest.raises(SourceError) as caught:
        read(reader, root, grid)
    return caught.value.code, str(caught.value)


def assert_turns(reader, root, grid, volumes, turns=TURNS):
    """The same voxels of the world however the image was turned since."""
    for turn in [*turns, closest_canonical(grid)]:
        for one, other in zip(volumes, read(reader, root, turn.grid(grid)), strict=True):
            np.testing.assert_array_equal(turn.array(one.array, axes="zyx"), other.array)
            assert (one.name, one.categories) == (other.name, other.categories)


# SEG, written by highdicom.


def segments(rng, n=3, share=0.4):
    """Overlapping masks (z, y, x, segment) with empty planes."""
    masks = rng.random((*SHAPE, n)) < share
    masks[2] = False
    masks[4, ..., 0] = False
    return masks


def by_value(volumes):
    """Value -> mask, from all label volumes."""
    return {value: v.array == value for v in volumes for value in v.categories}


def test_overlapping_binary_segments_survive(tmp_path, images, grid):
    # 63 voxels a frame: no frame but the first begins on a byte.
    masks = segments(np.random.default_rng(0))
    write_seg(tmp_path / "a.dcm", images, masks.astype(np.uint8), "BINARY")
    volumes = read(SEG, tmp_path, grid)
    assert [v.name for v in volumes] == ["segmentation", "segmentation-2", "segmentation-3"]
    assert [dict(v.categories) for v in volumes] == [{1: "Liver"}, {2: "Left lung"}, {3: "Tumour"}]
    for value, mask in by_value(volumes).items():
        np.testing.assert_array_equal(mask, masks[..., value - 1])
    assert volumes[0].warnings == ("structures overlap: they are kept in 3 label volumes",)
    assert volumes[0].array.dtype == np.uint8
    assert_turns(SEG, tmp_path, grid, volumes)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_segments_that_do_not_overlap_share_a_volume(tmp_path, images, grid, kind):
    truth = np.random.default_rng(1).integers(0, 4, SHAPE).astype(np.uint8)
    truth[1:3] = 0
    write_seg(tmp_path / "a.dcm", images, truth, kind)
    (volume,) = read(SEG, tmp_path, grid)
    np.testing.assert_array_equal(volume.array, truth)
    assert (volume.name, dict(volume.categories)) == ("segmentation", {1: "Liver", 2: "Left lung", 3: "Tumour"})
    assert volume.warnings == ()
    assert_turns(SEG, tmp_path, grid, [volume])


@pytest.mark.parametrize("packed", [False, True], ids=["native", "rle"])
def test_fractional_segments_are_cut_at_half(tmp_path, images, grid, packed):
    fractions = np.random.default_rng(2).integers(0, 201, (*SHAPE, 1)).astype(np.float32) / 200
    fractions[0, 0, 0] = 0.5
    write_seg(tmp_path / "a.dcm", images, fractions, "FRACTIONAL", ["Liver"], max_fractional_value=200)
    if packed:
        seg = pydicom.dcmread(tmp_path / "a.dcm")
        seg.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        seg.save_as(tmp_path / "a.dcm")
    (volume,) = read(SEG, tmp_path, grid)
    np.testing.assert_array_equal(volume.array, fractions[..., 0] >= 0.5)
    assert volume.warnings == ("fractional segments: a voxel belongs to one from a probability of 0.5 (stored 100) on",)


def test_series_says_what_it_belongs_to(tmp_path, images, grid):
    file = write_seg(tmp_path / "deep" / "a.dcm", images, np.ones(SHAPE, np.uint8), "BINARY", ["Liver"])
    (tmp_path / "notes.txt").write_text("1.2.840.10008.5.1.4.1.1.66.4")
    scan = SEG.scan(tmp_path, ["deep/a.dcm", "notes.txt"])
    (series,) = scan.series
    assert (series.source, series.files, series.key, series.modality) == ("deep/a.dcm", ("deep/a.dcm",), "deep", "SEG")
    assert (series.axes, series.shape, series.dtype, series.spacing) == ("", (), "", None)
    assert series.frame == uid_hash(images[0].FrameOfReferenceUID)
    assert series.refers_to == (uid_hash(images[0].SeriesInstanceUID),)
    assert series.uid == uid_hash(pydicom.dcmread(file).SeriesInstanceUID)
    assert scan.claimed == {"deep/a.dcm"}
    assert pickle.loads(pickle.dumps(series)) == series
    with pytest.raises(SourceError, match="not a volume of its own"):
        SEG.read(tmp_path, series)


def test_frames_in_any_order_and_without_dimension_indices(tmp_path, images, grid):
    truth = np.random.default_rng(3).integers(0, 4, SHAPE).astype(np.uint8)
    seg = pydicom.dcmread(write_seg(tmp_path / "a.dcm", images, truth, "BINARY"))
    frames = seg.pixel_array[::-1]
    seg.PerFrameFunctionalGroupsSequence = list(seg.PerFrameFunctionalGroupsSequence)[::-1]
    for item in seg.PerFrameFunctionalGroupsSequence:
        del item.FrameContentSequence
    del seg.DimensionIndexSequence
    bits = np.packbits(frames.astype(bool).ravel(), bitorder="little").tobytes()
    seg.PixelData = bits + b"\0" * (len(bits) % 2)
    seg.save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read(SEG, tmp_path, grid)[0].array, truth)


def edit_seg(tmp_path, images, change, pixels=None):
    file = write_seg(
        tmp_path / "a.dcm", images, np.ones(SHAPE, np.uint8) if pixels is None else pixels, "BINARY", ["A"]
    )
    seg = pydicom.dcmread(file)
    change(seg)
    seg.save_as(file)


def test_names_are_cleaned_and_empty_segments_listed(tmp_path, images, grid):
    def change(seg):
        seg.SegmentSequence[0].SegmentLabel = " Left\tlung "

    edit_seg(tmp_path, images, change)
    (volume,) = read(SEG, tmp_path, grid)
    assert volume.categories == {1: "Left lung"}
    assert volume.warnings == ("the structure 'Left\\tlung' is called 'Left lung'",)
    write_seg(tmp_path / "a.dcm", images, np.zeros(SHAPE, np.uint8), "BINARY", ["A"], omit_empty_frames=False)
    (volume,) = read(SEG, tmp_path, grid)
    assert not volume.array.any()
    assert volume.categories == {1: "A"}
    assert volume.warnings == ("segments without a voxel: A",)


@pytest.mark.parametrize("off", [0.005, 0.02, 0.5])
def test_only_a_hundredth_of_a_voxel_may_be_missing(tmp_path, images, grid, off):
    write_seg(tmp_path / "a.dcm", images, np.ones(SHAPE, np.uint8), "BINARY", ["A"])
    affine = grid.affine.copy()
    affine[:3, 3] += off * affine[:3, 2]
    moved = Grid("zyx", SHAPE, affine)
    if off <= 0.01:
        assert read(SEG, tmp_path, moved)[0].array.all()
        return
    code, message = refused(SEG, tmp_path, moved)
    assert code == "label-off-grid"
    assert f"up to [0.0, 0.0, {off}] off" in message


@pytest.mark.parametrize(("axis", "factor"), [(1, 2), (2, 0.5), (0, 2)])
def test_another_spacing_is_off_grid_or_outside(tmp_path, images, grid, axis, factor):
    write_seg(tmp_path / "a.dcm", images, np.ones(SHAPE, np.uint8), "BINARY", ["A"])
    affine = grid.affine.copy()
    affine[:3, axis] *= factor
    assert refused(SEG, tmp_path, Grid("zyx", SHAPE, affine))[0] == "label-off-grid"


def test_planes_jitter_as_those_of_the_image_may(tmp_path, images, grid):
    def change(seg):
        measures = seg.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0]
        measures.ImagePositionPatient = list(np.array(measures.ImagePositionPatient) + 0.04 * grid.direction[:, 0])

    edit_seg(tmp_path, images, change)
    assert read(SEG, tmp_path, grid)[0].array.all()


def test_voxels_outside_the_image_are_refused(tmp_path, images, grid):
    pixels = np.ones(SHAPE, np.uint8)
    write_seg(tmp_path / "a.dcm", images, pixels, "BINARY", ["A"])
    code, message = refused(SEG, tmp_path, Grid("zyx", (5, 9, 7), grid.affine))
    assert code == "label-outside"
    assert "voxels [5, 0, 0] to [5, 8, 6] of the image; expected [0, 0, 0] to [4, 8, 6]" in message
    pixels[5], pixels[:, 8] = 0, 0
    write_seg(tmp_path / "a.dcm", images, pixels, "BINARY", ["A"])
    assert read(SEG, tmp_path, Grid("zyx", (5, 8, 7), grid.affine))[0].array.all()


def test_an_image_without_position_takes_no_structures(tmp_path, images):
    write_seg(tmp_path / "a.dcm", images, np.ones(SHAPE, np.uint8), "BINARY", ["A"])
    assert refused(SEG, tmp_path, Grid.regular("zyx", SHAPE))[0] == "label-no-geometry"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda s: s.SegmentSequence[0].__setattr__("SegmentNumber", 7), "bad-segments"),
        (lambda s: s.SegmentSequence.append(s.SegmentSequence[0]), "bad-segments"),
        (lambda s: s.__delattr__("SegmentSequence"), "bad-segments"),
        (lambda s: s.PerFrameFunctionalGroupsSequence.pop(), "no-geometry"),
        (lambda s: s.PerFrameFunctionalGroupsSequence[1].__delattr__("PlanePositionSequence"), "bad-header"),
        (lambda s: s.__setattr__("Rows", 900), "truncated"),
        (lambda s: s.__setattr__("Rows", 0), "unsupported-seg"),
        (lambda s: s.__delattr__("PixelData"), "truncated"),
        (lambda s: s.__setattr__("SegmentationType", "OTHER"), "unsupported-seg"),
    ],
)
def test_contradictions_in_a_seg_are_refused(tmp_path, images, grid, change, code):
    edit_seg(tmp_path, images, change)
    assert refused(SEG, tmp_path, grid)[0] == code


# RTSTRUCT, written by hand.

SQUARE = [(1, 1), (1, 5), (7, 5), (7, 1)]
HOLE = [(2.5, 2.5), (2.5, 3.5), (5.5, 3.5), (5.5, 2.5)]


def filled(*polygons):
    """Even-odd by skimage, of one plane."""
    masks = [polygon2mask(SHAPE[1:], p) for p in polygons]
    return np.logical_xor.reduce(masks) if masks else np.zeros(SHAPE[1:], bool)


def drawn(tmp_path, grid, rois, numbers=None, turns=TURNS):
    write_rt(tmp_path / "rs.dcm", grid, rois, numbers)
    volumes = read(RT, tmp_path, grid)
    assert_turns(RT, tmp_path, grid, volumes, turns)
    return volumes


def test_a_square_with_a_hole_and_an_island(tmp_path, grid):
    island = [(3.2, 2.8), (3.2, 3.2), (4.5, 3.2), (4.5, 2.8)]
    rois = {"Body": [(CLOSED, 1, HOLE), (CLOSED, 1, SQUARE), (CLOSED, 3, SQUARE), (CLOSED, 1, island)]}
    (volume,) = drawn(tmp_path, grid, rois)
    assert (volume.name, dict(volume.categories), volume.warnings) == (
        "structures",
        {1: "Body"},
        ("ROIs with contours inside or across each other, and in how many planes (holes: auto): Body (1)",),
    )
    assert volume.array.dtype == np.uint8
    np.testing.assert_array_equal(volume.array[1], filled(SQUARE, HOLE, island))
    np.testing.assert_array_equal(volume.array[3], filled(SQUARE))
    assert not volume.array[[0, 2, 4, 5]].any()
    assert volume.array[1, 4, 3] == 1
    assert volume.array[1, 3, 3] == 0


def test_contours_beside_or_across_each_other_are_united(tmp_path, grid):
    other = [(5, 3), (5, 6.4), (8, 6.4), (8, 3)]
    both = {"A": [(CLOSED, 0, SQUARE), (CLOSED, 0, other), (CLOSED, 0, SQUARE)]}
    (volume,) = drawn(tmp_path, grid, both)
    np.testing.assert_array_equal(volume.array[0], filled(SQUARE) | filled(other))
    crossed = {"A": [("CLOSEDPLANAR_XOR", 0, SQUARE), ("CLOSEDPLANAR_XOR", 0, other)]}
    (volume,) = drawn(tmp_path, grid, crossed)
    np.testing.assert_array_equal(volume.array[0], filled(SQUARE) ^ filled(other))


def test_a_keyhole_is_a_square_with_a_hole(tmp_path, grid):
    keyhole = [*SQUARE, SQUARE[0], HOLE[0], *HOLE[:0:-1], HOLE[0], SQUARE[0]]
    (volume,) = drawn(tmp_path, grid, {"A": [(CLOSED, 2, keyhole)]})
    np.testing.assert_array_equal(volume.array[2], filled(SQUARE, HOLE))


def test_overlapping_rois_are_layered(tmp_path, grid):
    apart = [(0, 6), (0, 6.4), (8, 6.4), (8, 6)]
    rois = {"PTV": [(CLOSED, 1, SQUARE)], "GTV": [(CLOSED, 1, HOLE)], "Cord": [(CLOSED, 1, apart)]}
    first, second = drawn(tmp_path, grid, rois, numbers=[300, 5, 7])
    assert (first.name, second.name) == ("structures", "structures-2")
    assert (dict(first.categories), dict(second.categories)) == ({5: "GTV", 7: "Cord"}, {300: "PTV"})
    np.testing.assert_array_equal(second.array[1] == 300, filled(SQUARE))
    np.testing.assert_array_equal(first.array[1] == 5, filled(HOLE))
    assert first.warnings == ("structures overlap: they are kept in 2 label volumes",)


def test_what_has_no_area_is_listed(tmp_path, grid):
    tiny = [(1.2, 1.2), (1.2, 1.4), (1.4, 1.4)]
    rois = {
        "A": [(CLOSED, 1, SQUARE), ("POINT", 1, [(1, 1)]), ("OPEN_PLANAR", 1, SQUARE), ("POINT", 2, [(1, 1)])],
        "Nothing": [],
        "Line": [(CLOSED, 1, [(1, 1), (2, 2)])],
        "Tiny": [(CLOSED, 1, tiny)],
        "Iso\tcentre": [("POINT", 1, [(1, 1)])],
    }
    (volume,) = drawn(tmp_path, grid, rois)
    assert volume.categories == {1: "A"}
    assert volume.warnings == (
        "the structure 'Iso\\tcentre' is called 'Iso centre'",
        "contours of ROI 'A' that are no area are left out: POINT (2), OPEN_PLANAR (1)",
        "contours of ROI 'Line' that are no area are left out: DEGENERATE (1)",
        "contours of ROI 'Iso centre' that are no area are left out: POINT (1)",
        "ROIs without a closed contour are left out: Nothing, Line, Iso centre",
        "ROIs that hold no centre of a voxel are left out: Tiny",
    )
    write_rt(tmp_path / "rs.dcm", grid, {"Nothing": []})
    assert refused(RT, tmp_path, grid)[0] == "no-structures"


def test_numbers_that_cannot_be_labels_are_replaced(tmp_path, grid):
    rois = {"A": [(CLOSED, 1, HOLE)], "B": [(CLOSED, 2, HOLE)]}
    (volume,) = drawn(tmp_path, grid, rois, numbers=[0, 123456789])
    assert volume.categories == {1: "A", 2: "B"}
    assert volume.warnings == ("ROINumbers that cannot be labels: the ROIs are numbered from 1 to 2",)


def test_contours_within_half_a_spacing(tmp_path, grid):
    (volume,) = drawn(tmp_path, grid, {"A": [(CLOSED, 1.3, SQUARE)]})
    np.testing.assert_array_equal(volume.array[1], filled(SQUARE))
    assert volume.warnings == ("contours lie up to 0.30 spacings off the plane that they were filled on",)


@pytest.mark.parametrize(
    ("contours", "code", "fact"),
    [
        ([(CLOSED, -0.7, SQUARE)], "contour-off-plane", "plane -0.700"),
        ([(CLOSED, 6, SQUARE)], "contour-off-plane", "one of the planes 0 to 5"),
        ([(CLOSED, 1.5, SQUARE)], "contour-off-plane", "plane 1.500"),
        ([(CLOSED, 1.2, SQUARE), (CLOSED, 0.8, HOLE)], "contour-planes", "positions 0.800 to 1.200 on plane 1"),
        ([(CLOSED, [(0, 1, 1), (1, 1, 5), (0, 7, 5)])], "contour-not-planar", "1.000, 6.000, 4.000 voxels"),
        ([(CLOSED, 1, [(1, 21), (1, 25), (7, 25)])], "label-outside", "[1.0, 21.0] to [7.0, 25.0]"),
        ([(CLOSED, 1, [(1, 2e7), (1, 25), (7, 25)])], "bad-contour", "nowhere near"),
    ],
)
def test_contours_off_the_image_are_refused(tmp_path, grid, contours, code, fact):
    write_rt(tmp_path / "rs.dcm", grid, {"A": contours})
    found, message = refused(RT, tmp_path, grid)
    assert found == code
    assert fact in message
    assert "'A' of rs.dcm" in message


def test_a_contour_that_leaves_the_image_ends_at_its_border(tmp_path, grid):
    wide = [(-3, -2), (-3, 3.5), (20, 3.5), (20, -2)]
    (volume,) = drawn(tmp_path, grid, {"A": [(CLOSED, 1, wide)]})
    assert volume.array[1, :, :4].all()
    assert np.count_nonzero(volume.array) == 9 * 4
    assert volume.warnings == ("ROIs that reach beyond the image end at its border: A",)


def test_series_of_a_structure_set(tmp_path, grid):
    file = write_rt(tmp_path / "a" / "rs", grid, {"A": [(CLOSED, 1, SQUARE)]})
    (series,) = RT.scan(tmp_path, ["a/rs"]).series
    assert (series.frame, series.refers_to) == (uid_hash("1.2.3"), (uid_hash("1.2.4"),))
    assert (series.modality, series.key, series.name[:9]) == ("RTSTRUCT", "a", "rtstruct-")
    shutil.copy(file, tmp_path / "a" / "copy")
    scan = RT.scan(tmp_path, ["a/copy", "a/rs"])
    assert [s.source for s in scan.series] == ["a/copy"]
    assert [(v.source, v.status, v.code) for v in scan.verdicts] == [("a/rs", "skipped", "duplicate")]
    rt = pydicom.dcmread(file)
    rt.StructureSetROISequence[0].ROIName = "B"
    rt.save_as(file)
    scan = RT.scan(tmp_path, ["a/copy", "a/rs"])
    assert not scan.series
    assert [(v.source, v.code) for v in scan.verdicts] == [("a/copy", "duplicate-uid"), ("a/rs", "duplicate-uid")]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda r: r.StructureSetROISequence.append(r.StructureSetROISequence[0]), "bad-rois"),
        (lambda r: r.ROIContourSequence[0].__setattr__("ReferencedROINumber", 9), "bad-rois"),
        (lambda r: r.ROIContourSequence[0].ContourSequence[0].__setattr__("NumberOfContourPoints", 5), "bad-contour"),
        (lambda r: r.ROIContourSequence[0].ContourSequence[0].__setattr__("ContourData", ["1"] * 10), "bad-contour"),
        (lambda r: r.__delattr__("ROIContourSequence"), "no-structures"),
    ],
)
def test_contradictions_in_a_structure_set_are_refused(tmp_path, grid, change, code):
    file = write_rt(tmp_path / "rs.dcm", grid, {"A": [(CLOSED, 1, SQUARE)]})
    rt = pydicom.dcmread(file)
    change(rt)
    rt.save_as(file)
    assert refused(RT, tmp_path, grid)[0] == code


def test_several_frames_of_reference_are_refused(tmp_path, grid, refusal):
    file = write_rt(tmp_path / "rs.dcm", grid, {"A": [(CLOSED, 1, SQUARE)], "B": [(CLOSED, 1, SQUARE)]})
    rt = pydicom.dcmread(file)
    rt.StructureSetROISequence[1].ReferencedFrameOfReferenceUID = "1.2.5"
    rt.save_as(file)
    assert refusal(RT, tmp_path)[0] == "several-frames"


# Both.


@pytest.mark.parametrize("reader", [SEG, RT], ids=lambda r: r.name)
class TestContract:
    @pytest.fixture
    def file(self, reader, tmp_path, images, grid):
        if reader is SEG:
            return write_seg(tmp_path / "a.dcm", images, segments(np.random.default_rng(0)).astype(np.uint8), "BINARY")
        return write_rt(tmp_path / "a.dcm", grid, {"A": [(CLOSED, k, SQUARE) for k in range(6)], "B": []})

    def test_is_installed_as_a_reader_of_structures(self, reader, file):
        assert isinstance(readers()[reader.name], type(reader))
        assert isinstance(reader, StructureReader)
        assert not isinstance(DicomReader(), StructureReader)

    def test_any_bytes_end_in_structures_verdicts_or_errors(self, reader, file, tmp_path, grid):
        data, truth = file.read_bytes(), read(reader, tmp_path, grid)
        rng = np.random.default_rng(0)
        for share in np.linspace(0, 0.999, 25):
            file.write_bytes(data[: int(share * len(data))])
            for volumes in self._outcome(reader, tmp_path, grid):
                assert by_value(volumes).keys() == by_value(truth).keys()
                for value, mask in by_value(volumes).items():
                    np.testing.assert_array_equal(mask, by_value(truth)[value])
        for _ in range(60):
            damaged = bytearray(data)
            for at in rng.integers(0, len(data), 6):
                damaged[at] = rng.integers(256)
            file.write_bytes(damaged)
            list(self._outcome(reader, tmp_path, grid))
        file.write_bytes(data[:400] + rng.bytes(2000))
        list(self._outcome(reader, tmp_path, grid))

    def _outcome(self, reader, root, grid):
        for series in reader.scan(root, ["a.dcm"]).series:
            try:
                volumes = reader.read_structures(root, series, grid)
            except NdvolError:
                continue
            assert all(isinstance(v, LabelData) and v.array.shape == SHAPE for v in volumes)
            yield volumes

    def test_a_file_that_vanished_or_changed(self, reader, file, tmp_path, grid):
        (series,) = reader.scan(tmp_path, ["a.dcm"]).series
        file.write_bytes(b"text")
        with pytest.raises(NdvolError, match="changed since"):
            reader.read_structures(tmp_path, series, grid)
        file.unlink()
        with pytest.raises(NdvolError) as caught:
            reader.read_structures(tmp_path, series, grid)
        assert str(tmp_path) not in str(caught.value)
        assert reader.scan(tmp_path, []).claimed == frozenset()

    def test_time_and_channel_axes_of_the_image_do_not_matter(self, reader, file, tmp_path, grid):
        wide = Grid("tzyx", (3, *SHAPE), grid.affine)
        for one, other in zip(read(reader, tmp_path, grid), read(reader, tmp_path, wide), strict=True):
            np.testing.assert_array_equal(one.array, other.array)


def test_more_layers_than_anatomy_has_are_refused():
    pieces = [Piece((0, 0, 0), np.ones((1, 1, 1), bool))]
    names = [Structure(k, str(k), pieces) for k in range(1, MAX_LAYERS + 2)]
    assert len(label_volumes("a", (1, 1, 1), names[:-1], highest=99, source="s")) == MAX_LAYERS
    with pytest.raises(SourceError, match="more than 32 label volumes"):
        label_volumes("a", (1, 1, 1), names, highest=99, source="s")


# Polygons.

halves = st.integers(-4, 24).map(lambda n: n / 2)
vertices = st.lists(st.tuples(halves, halves), min_size=3, max_size=9).map(np.array)


def centres_on_edges(polygon, shape):
    """Whether each voxel's centre lies on an edge; exact for multiples of a half."""
    points = np.stack(np.indices(shape), -1)[..., None, :].astype(float)
    a, b = polygon, np.roll(polygon, -1, axis=0)
    cross = (b - a)[:, 0] * (points - a)[..., 1] - (b - a)[:, 1] * (points - a)[..., 0]
    return ((cross == 0) & (((points - a) * (points - b)).sum(-1) <= 0)).any(-1)


@given(vertices)
def test_polygons_agree_with_skimage_but_for_its_gaps_on_edges(polygon):
    shape = (10, 9)
    mask, oracle, edges = polygon_mask(polygon, shape), polygon2mask(shape, polygon), centres_on_edges(polygon, shape)
    np.testing.assert_array_equal(mask[~edges], oracle[~edges])
    assert mask[edges].all()


@given(vertices, st.integers(0, 10**6))
def test_polygons_turn_with_the_volume(polygon, seed):
    shape = (10, 9)
    mask = polygon_mask(polygon, shape)
    noise = np.random.default_rng(seed).uniform(-1e-9, 1e-9, polygon.shape)
    np.testing.assert_array_equal(polygon_mask(polygon + noise, shape), mask)
    np.testing.assert_array_equal(polygon_mask((9, 8) - polygon, shape), mask[::-1, ::-1])
    np.testing.assert_array_equal(polygon_mask(polygon[:, ::-1], shape[::-1]), mask.T)
    np.testing.assert_array_equal(polygon_mask(polygon[::-1], shape), mask)


def test_a_polygon_wholly_outside_fills_nothing():
    filled = fill_polygons([np.array([[-9.0, -9], [-9, -3], [-3, -3]])], (5, 5))
    assert (filled.start, filled.mask.any(), filled.overlap) == ((0, 0), False, False)


# Real scans.


def _image_grid(root):
    reader = DicomReader()
    scan = reader.scan(root, sorted(p.name for p in root.iterdir()))
    return reader.read(root, scan.series[0]).grid


@pytest.mark.realdata
def test_ibsi_phantom_equals_its_reference_mask(real_data, tmp_path):
    grid = _image_grid(real_data / "ct_phantom/dicom/image")
    shutil.copy(real_data / "ct_phantom/dicom/mask/DCM_RS_00060.dcm", tmp_path)
    (volume,) = read(RT, tmp_path, grid)
    truth = nibabel.load(real_data / "ct_phantom/nifti/mask/mask.nii.gz")
    assert grid.matches(Grid.from_nifti("zyx", truth.shape[::-1], truth.affine))
    np.testing.assert_array_equal(volume.array, np.asarray(truth.dataobj).T)
    assert np.count_nonzero(volume.array) == 125256
    assert (volume.categories, volume.warnings) == ({1: "GTV-1"}, ())
    assert_turns(RT, tmp_path, grid, [volume])


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("image", "label", "truth", "voxels"),
    [
        ("23x38x3/image", "23x38x3/seg/label.seg", "23x38x3/nrrd/label.nrrd", 322),
        ("ct-3slice", "liver.dcm", "liver_seg.nrrd", 107098),
    ],
)
def test_real_segmentations_equal_their_truth(real_data, tmp_path, image, label, truth, voxels):
    grid = _image_grid(real_data / "seg" / image)
    shutil.copy(real_data / "seg" / label, tmp_path)
    (volume,) = read(SEG, tmp_path, grid)
    itk = SimpleITK.ReadImage(str(real_data / "seg" / truth))
    expected = {tuple(i) for i in np.argwhere(SimpleITK.GetArrayFromImage(itk))}
    places = grid.world(np.argwhere(volume.array)).tolist()
    assert {itk.TransformPhysicalPointToIndex(p)[::-1] for p in places} == expected
    assert (len(places), dict(volume.categories), volume.warnings) == (voxels, {1: "Liver"}, ())
    assert_turns(SEG, tmp_path, grid, [volume])
